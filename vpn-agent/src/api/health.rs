//! `/v1/health`: whether packets pass as they should, and what the choice of a gateway needs.

use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    App,
    endpoint::{Endpoint, Method},
    failure::Body,
};
use crate::{
    control::Refusal,
    health::{self, FORMAT, Health, Known, probe},
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let example = json!({
        "format": FORMAT, "gateway": "gateway-1", "region": "eu-central", "at": "2027-01-01T00:00:00Z",
        "endpoint": null, "place": null, "healthy": true, "problems": [], "revision": 8,
        "load": {"processors": 0.1, "flows": 12, "flows_max": 131_072, "connected": 3},
        "plants": {"north": {"up": true, "latency_ms": 12.5}},
    });
    let mut unhealthy = example.clone();
    unhealthy["healthy"] = false.into();
    unhealthy["problems"] = json!(["wg-users is down"]);
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/health",
            get,
            "Whether packets pass as they should",
            "And what the choice of a gateway needs: load, and the plants that it reaches, with the time to each. The \
             same as `vpn-agent health` prints.",
        )
        .answers::<Health>(200, "Healthy.", &example)
        .answers::<Unavailable>(
            503,
            "Not healthy, and `problems` says why; or the agent is stopping.",
            &unhealthy,
        ),
    ]
}

/// Why the gateway cannot be used.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Unavailable {
    /// It does not do its work.
    Unhealthy(Health),
    /// Its agent is stopping, and looks at nothing any more.
    Stopping(Body),
}

async fn get(Shared(app): Shared<App>) -> Response {
    let unavailable = match look(&app).await {
        Ok(health) if health.healthy => return Json(health).into_response(),
        Ok(health) => Unavailable::Unhealthy(health),
        Err(refusal) => Unavailable::Stopping(Body { error: refusal.to_string(), problems: Vec::new() }),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(unavailable)).into_response()
}

async fn look(app: &App) -> Result<Health, Refusal> {
    let seen = app.control.look(|view| {
        let known = view.state.map(|state| Known::new(state, view.allocations, &view.config.region));
        (known.unwrap_or_default(), view.config.clone())
    });
    let (known, config) = seen.await?;
    // One at a time, since it takes some work.
    let _permit = app.health.acquire().await.map_err(|_| Refusal::Stopping)?;
    let latency_ms = probe::measure(&config.health.probes).await;
    Ok(health::collect(&config, &known, &latency_ms).await)
}
