//! Changes that lead back to where they began.

use serde_json::{Value, json};

use crate::{example, run::scene};

/// A change of the round.
pub enum Change {
    /// Of one record, which the quick path makes.
    Single(Value),
    /// To another whole state.
    Whole(Value),
}

/// The changes, each from where the one before has led. The last one leads back to [`before`].
pub fn round() -> [(&'static str, Change); 7] {
    let certificate =
        json!({"change": "issue-certificate", "id": "certificate-c", "user": "user-c", "public_key": example::key(3)});
    let priority = json!({"change": "set-priority", "user": "user-b", "plants": ["south", "north"]});
    let rotate = json!({"change": "rotate-certificate", "id": "certificate-b", "public_key": example::key(4)});
    let role = json!({"change": "remove-role", "user": "user-b", "role": "operator", "on": {"plant": "south"}});
    let revoke = json!({"change": "revoke-certificate", "id": "certificate-c"});
    [
        ("issue", Change::Single(certificate)),
        ("set a priority", Change::Single(priority)),
        ("rotate", Change::Single(rotate)),
        ("remove a role", Change::Single(role)),
        ("revoke", Change::Single(revoke)),
        ("a whole state", Change::Whole(after())),
        ("the state before", Change::Whole(before())),
    ]
}

pub fn before() -> Value {
    let mut document = scene::two_plants("eth1.10", "eth2");
    push(&mut document, "plants", plant("old", "alpha", "eth5", &["192.168.1.0/24"]));
    push(&mut document, "roles", role("user-a", "old"));
    push(&mut document, "users", json!({"id": "user-c"}));
    push(
        &mut document,
        "memberships",
        json!({"user": "user-c", "organisation": "alpha", "kind": "member", "access": "all"}),
    );
    push(&mut document, "roles", role("user-c", "north"));
    document
}

/// Something is new, something other, and something gone, of everything that there is.
fn after() -> Value {
    let mut document = before();
    document["plants"] = scene::two_plants("eth1.10", "eth3")["plants"].clone();
    document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "10.7.0.0/16", "2001:db8:1::/64"]);
    push(&mut document, "plants", plant("new", "alpha", "eth4", &["192.168.1.0/24"]));
    // user-b loses south, which moves to another interface.
    document["roles"] = json!([role("user-a", "north"), role("user-b", "north"), role("user-c", "new")]);
    push(
        &mut document,
        "certificates",
        json!({"id": "certificate-c", "user": "user-c", "public_key": example::key(3)}),
    );
    document
}

fn push(document: &mut Value, list: &str, record: Value) {
    document[list].as_array_mut().unwrap().push(record);
}

fn plant(id: &str, organisation: &str, interface: &str, subnets: &[&str]) -> Value {
    let uplink = json!({"kind": "interface", "interface": interface});
    json!({"id": id, "organisation": organisation, "subnets": subnets, "uplink": uplink})
}

fn role(user: &str, plant: &str) -> Value {
    json!({"user": user, "role": "operator", "on": {"plant": plant}})
}
