//! The OpenAPI document.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::endpoint::{Content, Endpoint, Parameter};

/// The document of these calls.
pub(super) fn document(endpoints: &[Endpoint]) -> Value {
    // JSON Schema as it is in OpenAPI 3.1, but for where definitions lie.
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let operation = operation(endpoint, &mut generator);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(endpoint.method.name().to_owned(), operation);
        }
    }
    let schemas: Map<String, Value> = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "VPN gateway",
            "description": "Control of one VPN gateway host: its desired state, and what it makes of it.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate of an authority in `api.tls.client_ca_file`. By the Unix socket, \
                                    who may write it may call.",
                },
            },
        },
        "security": [{"certificate": []}, {}],
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let answers: Map<String, Value> = endpoint
        .answers
        .iter()
        .map(|answer| {
            let mut described = json!({"description": answer.description});
            if let Some(content) = &answer.content {
                described["content"] = media(content, generator);
            }
            if answer.has_tag {
                described["headers"] = json!({"ETag": {
                    "description": "What is in force: its revision and a fingerprint.",
                    "schema": {"type": "string"},
                }});
            }
            (answer.status.to_string(), described)
        })
        .collect();
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "description": endpoint.description,
        "responses": answers,
    });
    if !endpoint.parameters.is_empty() {
        operation["parameters"] = endpoint.parameters.iter().map(parameter).collect();
    }
    if let Some(body) = &endpoint.body {
        operation["requestBody"] = json!({"required": true, "content": media(body, generator)});
    }
    operation
}

fn parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.description,
        "schema": parameter.schema,
        "example": example(parameter),
    })
}

/// As a value of the type that the schema asks for.
fn example(parameter: &Parameter) -> Value {
    match parameter.schema["type"].as_str() {
        Some("string") => parameter.example.into(),
        _ => serde_json::from_str(parameter.example).unwrap_or_else(|_| parameter.example.into()),
    }
}

fn media(content: &Content, generator: &mut SchemaGenerator) -> Value {
    let schema: Schema = (content.schema)(generator);
    json!({"application/json": {"schema": schema, "example": content.example}})
}

/// `put-v1-state` for `PUT /v1/state`.
fn operation_id(endpoint: &Endpoint) -> String {
    let path: String = endpoint.path.chars().filter(|c| !"{}".contains(*c)).collect();
    format!("{}{}", endpoint.method.name(), path.replace(['/', '.'], "-"))
}
