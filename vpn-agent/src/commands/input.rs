//! JSON from files and from standard input, with errors that name the field.

use std::{fs::File, io::BufReader, io::Read, path::Path};

use anyhow::anyhow;
use serde::de::DeserializeOwned;

/// The content of a file.
pub fn file<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| anyhow!("{name}: {error}"))?;
    read(BufReader::new(file), &name)
}

/// The first value of an input, which is read no further: a terminal has no end.
pub fn read<T: DeserializeOwned>(input: impl Read, name: &str) -> anyhow::Result<T> {
    let mut input = serde_json::Deserializer::from_reader(input);
    serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner();
        match path.as_str() {
            "." => anyhow!("{name}: {message}"),
            path => anyhow!("{name}: {path}: {message}"),
        }
    })
}
