//! Results, as they come.

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: String,
    /// What it is compared with, in the same unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    /// The value divided by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Figure {
    /// A figure that stands alone.
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value: rounded(value), unit: unit.to_owned(), baseline: None, ratio: None }
    }

    /// Compares it.
    pub fn against(mut self, baseline: f64) -> Self {
        self.ratio = Some(rounded(self.value / baseline));
        self.baseline = Some(rounded(baseline));
        self
    }
}

/// Prints figures: a table for people, or a JSON object a line.
pub struct Report {
    json: bool,
}

impl Report {
    /// Begins with the machine.
    pub fn new(json: bool, machine: &str) -> Self {
        if json {
            println!("{}", serde_json::json!({ "name": "machine", "value": machine, "unit": "" }));
        } else {
            println!("{machine}\n");
            println!("{:<34} {:>12} {:<7} {:>12} {:>7}", "NAME", "VALUE", "UNIT", "BASELINE", "RATIO");
        }
        Self { json }
    }

    /// Prints a figure.
    pub fn add(&self, figure: &Figure) {
        if self.json {
            println!("{}", serde_json::to_string(figure).expect("a figure is plain data"));
            return;
        }
        let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let line = format!(
            "{:<34} {:>12} {:<7} {:>12} {:>7}",
            figure.name,
            figure.value,
            figure.unit,
            cell(figure.baseline),
            cell(figure.ratio)
        );
        println!("{}", line.trim_end());
    }
}

/// Three digits are more than any of it is repeatable to.
fn rounded(value: f64) -> f64 {
    let scale = if value.abs() < 10.0 { 100.0 } else { 10.0 };
    (value * scale).round() / scale
}
