//! Changes that lead back to where they began.

use serde_json::{Value, json};

/// How many there are.
pub const ROUND: usize = 4;

/// The change of this number. `north` is the plant as it is in the state.
pub fn change(number: usize, north: &Value) -> Value {
    let put = |mut plant: Value, subnets: Value| {
        plant["subnets"] = subnets;
        plant["change"] = json!("put-plant");
        plant
    };
    match number {
        // What the quick path makes: certificates and what they reach.
        0 => json!([
            { "change": "issue-certificate", "id": "certificate-b", "user": "user-b", "public_key": key("AgIC") },
            { "change": "rotate-certificate", "id": "certificate-c", "public_key": key("BAQE") },
            { "change": "revoke-certificate", "id": "certificate-d" },
            { "change": "set-priority", "user": "user-a", "plants": ["south", "north"] },
        ]),
        1 => json!([
            { "change": "revoke-certificate", "id": "certificate-b" },
            { "change": "rotate-certificate", "id": "certificate-c", "public_key": key("AwMD") },
            { "change": "issue-certificate", "id": "certificate-d", "user": "user-d", "public_key": key("BQUF") },
            { "change": "set-priority", "user": "user-a", "plants": [] },
        ]),
        // And what it does not.
        2 => json!([
            put(north.clone(), json!([north["subnets"][0], "10.7.0.0/16"])),
            {
                "change": "put-plant", "id": "west", "organisation": "alpha", "subnets": ["10.9.0.0/16"],
                "uplink": { "kind": "host", "public_key": key("AQEB") },
            },
            { "change": "add-role", "user": "user-a", "role": "operator", "on": { "plant": "west" } },
        ]),
        _ => json!([
            put(north.clone(), north["subnets"].clone()),
            { "change": "remove-plant", "id": "west" },
        ]),
    }
}

/// A public key of nobody.
pub fn key(begin: &str) -> String {
    format!("{}{}=", begin.repeat(10), &begin[..3])
}
