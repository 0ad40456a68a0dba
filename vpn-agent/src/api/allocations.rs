//! `/v1/allocations`: the numbers and addresses that were given.

use axum::{Json, extract::State as Shared};
use serde_json::json;

use super::{
    App,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::document::Ledger;

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let example = json!({
        "peers": [{"certificate": "certificate-a", "id": 1, "address": "100.64.0.2", "user": "user-a"}],
        "plants": [{
            "plant": "north", "id": 1, "operator": "alpha",
            "subnets": [{"real": "192.168.1.0/24", "id": 1, "virtual": "10.128.0.0/24"}],
        }],
        "next": {"peer": 2, "plant": 2, "route": 2},
    });
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/allocations",
            get,
            "The numbers and addresses that were given",
            "To certificates and plants, those that are gone included. In the form of `allocations` of a desired state, \
             so that other gateways can take them over.",
        )
        .answers::<Ledger>(200, "What was given.", &example),
    ]
}

async fn get(Shared(app): Shared<App>) -> Result<Json<Ledger>, Failure> {
    Ok(Json(app.control.look(|view| view.allocations.to_ledger()).await?.to_record()))
}
