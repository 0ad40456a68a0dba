//! `/v1/health`: whether packets pass as they should, and what the choice of a gateway needs.

use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Map, Value, json};

use super::{
    App,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::health::{self, FORMAT, Known, probe};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let example = json!({
        "format": FORMAT, "gateway": "gateway-1", "region": "eu-central", "at": "2027-01-01T00:00:00Z",
        "endpoint": null, "place": null, "healthy": true, "problems": [], "revision": 8,
        "load": {"processors": 0.1, "flows": 12, "flows_max": 131_072, "connected": 3},
        "plants": {"north": {"up": true, "latency_ms": 12.5}},
    });
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/health",
            get,
            "Whether packets pass as they should",
            "And what the choice of a gateway needs: load, and the plants that it reaches. The same as `vpn-agent health` \
             prints.",
        )
        .answers::<Map<String, Value>>(200, "Healthy.", &example)
        .answers::<Map<String, Value>>(503, "Not healthy; `problems` says why.", &example),
    ]
}

async fn get(Shared(app): Shared<App>) -> Result<Response, Failure> {
    let seen = app.control.look(|view| {
        let known = view.state.map(|state| Known::new(state, view.allocations, &view.config.region));
        (known.unwrap_or_default(), view.config.clone())
    });
    let (known, config) = seen.await?;
    // One at a time, since it takes some work.
    let _permit = app.health.acquire().await.map_err(|_| crate::control::Refusal::Stopping)?;
    let latency_ms = probe::measure(&config.health.probes).await;
    let health = health::collect(&config, &known, &latency_ms).await;
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)).into_response())
}
