//! The OpenAPI document, and whether what happens is what it says.

use std::{collections::BTreeSet, sync::LazyLock};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Agent, endpoints, openapi, run};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&endpoints()));

/// Fails unless the document has this answer, with this body.
pub(super) fn check_answer(method: &str, path: &str, status: StatusCode, body: &Value) {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let Some((_, calls)) = paths.iter().find(|(template, _)| fits(template, path)) else {
        assert_eq!(status, StatusCode::NOT_FOUND, "{path} is not in the document");
        return;
    };
    let Some(call) = calls.get(method.to_lowercase()) else {
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is not in the document");
        return;
    };
    let answer = &call["responses"][status.as_str()];
    assert!(answer.is_object(), "{method} {path} answers {status}, which the document does not have: {body}");
    match answer["content"]["application/json"].get("schema") {
        Some(schema) => assert_valid(&format!("{method} {path} {status}"), schema, body),
        None => assert_eq!(*body, Value::Null, "{method} {path} {status}"),
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(part, of)| part.starts_with('{') || *part == of)
}

fn assert_valid(what: &str, schema: &Value, value: &Value) {
    let mut schema = json!({"allOf": [schema]});
    schema["components"] = DOCUMENT["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{what}: {error}"));
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:?}\n{value:#}");
}

/// Requirements: G5.
#[test]
fn every_example_is_valid() {
    let mut examples = 0;
    for (path, calls) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let contents = call["responses"].as_object().unwrap().values().chain(call.get("requestBody"));
            for media in contents.filter_map(|of| of["content"].get("application/json")) {
                assert_valid(&format!("{method} {path}"), &media["schema"], &media["example"]);
                examples += 1;
            }
            for parameter in call["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                assert_valid(&format!("{method} {path}: {name}"), &parameter["schema"], &parameter["example"]);
                let is_in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", is_in_path, "{method} {path}: {name}");
                examples += 1;
            }
            assert!(call["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(call["responses"].as_object().is_some_and(|answers| !answers.is_empty()), "{method} {path}");
        }
    }
    assert!(examples > 60);
}

/// What is answered has named fields, all the way down; only the document itself is any JSON.
///
/// Requirements: G5.
#[test]
fn every_answer_says_what_its_fields_are() {
    for (path, calls) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            for (status, answer) in call["responses"].as_object().unwrap() {
                let Some(media) = answer["content"].get("application/json") else { continue };
                let is_any =
                    media["schema"] == json!(true) || media["schema"].as_object().is_some_and(|of| of.is_empty());
                assert!(!is_any || path == "/v1/openapi.json", "{method} {path} {status}: {}", media["schema"]);
            }
        }
    }
    assert!(!DOCUMENT.to_string().contains("\"additionalProperties\":true"), "a record without fields");
    let properties = |name: &str| {
        let schema = DOCUMENT["components"]["schemas"][name]["properties"].as_object();
        schema.unwrap_or_else(|| panic!("{name}")).keys().cloned().collect::<Vec<_>>()
    };
    for (name, property) in
        [("Health", "load"), ("PlantHealth", "latency_ms"), ("Route", "conflicts"), ("Offer", "mtu")]
    {
        assert!(properties(name).contains(&property.to_owned()), "{name}: {:?}", properties(name));
    }
}

/// Nothing in the document leads nowhere, and no two calls have one name.
#[test]
fn the_document_hangs_together() {
    let mut ids = BTreeSet::new();
    for (_, calls) in DOCUMENT["paths"].as_object().unwrap() {
        for call in calls.as_object().unwrap().values() {
            assert!(ids.insert(call["operationId"].as_str().unwrap()), "{}", call["operationId"]);
        }
    }
    assert_eq!(ids.len(), endpoints().len());
    let text = DOCUMENT.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(DOCUMENT.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    assert_eq!(DOCUMENT["openapi"], json!("3.1.0"));
}

#[test]
fn the_document_can_be_asked_for() {
    run(async {
        let agent = Agent::start().await;
        let answer = agent.get("/v1/openapi.json").await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &*DOCUMENT));
        let nowhere = agent.get("/v1/nowhere").await;
        assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
        assert!(nowhere.body["error"].as_str().unwrap().contains("openapi.json"));
        assert_eq!(agent.put("/v1/status", &json!({})).await.status, StatusCode::METHOD_NOT_ALLOWED);
    });
}
