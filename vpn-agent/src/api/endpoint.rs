//! A call together with its description. Routes and document are made from the same list, so that no call can be
//! without a description.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

use super::App;

/// A call.
pub(super) struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub parameters: Vec<Parameter>,
    pub body: Option<Content>,
    pub answers: Vec<Answer>,
    handler: MethodRouter<App>,
}

/// What is done with the thing at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

/// What can be said in the path, the query or a header.
pub(super) struct Parameter {
    pub is_required: bool,
    pub name: &'static str,
    pub place: &'static str,
    pub description: &'static str,
    pub schema: Value,
    pub example: &'static str,
}

/// JSON that is sent or answered.
pub(super) struct Content {
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    pub example: Value,
}

/// What can be answered.
pub(super) struct Answer {
    pub status: u16,
    pub description: &'static str,
    pub content: Option<Content>,
    /// Whether it says in `ETag` what is in force.
    pub has_tag: bool,
}

impl Method {
    /// As in the document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Put => MethodFilter::PUT,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

impl Content {
    fn of<T: JsonSchema>(example: Value) -> Self {
        Self { schema: SchemaGenerator::subschema_for::<T>, example }
    }
}

impl Endpoint {
    /// A call that is served by `handler`.
    pub fn new<H: Handler<T, App>, T: 'static>(
        method: Method,
        path: &'static str,
        handler: H,
        summary: &'static str,
        description: &'static str,
    ) -> Self {
        let handler = on(method.filter(), handler);
        let (parameters, answers) = (Vec::new(), Vec::new());
        Self { method, path, summary, description, parameters, body: None, answers, handler }
            .fails(503, "The agent is stopping; ask again when it is back.")
    }

    /// Can be told in the query.
    pub fn query(self, name: &'static str, description: &'static str, schema: Value, example: &'static str) -> Self {
        self.parameter(Parameter { is_required: false, name, place: "query", description, schema, example })
    }

    /// Must be told in the query.
    pub fn required_query(
        self,
        name: &'static str,
        description: &'static str,
        schema: Value,
        example: &'static str,
    ) -> Self {
        self.parameter(Parameter { is_required: true, name, place: "query", description, schema, example })
    }

    /// Is part of the path.
    pub fn part(self, name: &'static str, description: &'static str, schema: Value, example: &'static str) -> Self {
        self.parameter(Parameter { is_required: true, name, place: "path", description, schema, example })
    }

    /// Can be told in a header.
    pub fn header(self, name: &'static str, description: &'static str, example: &'static str) -> Self {
        self.parameter(Parameter {
            is_required: false,
            name,
            place: "header",
            description,
            schema: json!({"type": "string"}),
            example,
        })
    }

    fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// What every call that changes something can be told.
    pub fn changes(self) -> Self {
        self.query(
            "dry_run",
            "Answer with the difference that the call would make, and change nothing.",
            json!({"type": "boolean", "default": false}),
            "true",
        )
        .header(
            "If-Match",
            "The `ETag` of the state that the caller knows, or `*` for any. If another one is in force, the call is \
             refused with 412.",
            "\"7-e3b0c44298fc1c149afbf4c8996fb924\"",
        )
        .fails(400, "The query or the JSON is not as it must be.")
        .fails(408, "The body came too slowly.")
        .fails(409, "Not possible in this state of affairs; the message says why.")
        .fails(412, "Another state is in force than `If-Match` says.")
        .fails(413, "The body is larger than `api.body_max_bytes`.")
        .fails(415, "The body is not sent as `application/json`.")
        .fails(422, "Not valid; every field that is wrong is listed.")
        .fails(500, "It cannot be kept on disk.")
        .fails(507, "The disk is full.")
    }

    /// What has to be sent.
    pub fn takes<T: JsonSchema>(mut self, example: Value) -> Self {
        self.body = Some(Content::of::<T>(example));
        self
    }

    /// A success.
    pub fn answers<T: JsonSchema>(mut self, status: u16, description: &'static str, example: &impl Serialize) -> Self {
        let example = serde_json::to_value(example).unwrap_or_default();
        self.answers.retain(|answer| answer.status != status);
        self.answers.push(Answer { status, description, content: Some(Content::of::<T>(example)), has_tag: false });
        self
    }

    /// A change: `done` once the kernel follows as well. `pending` is the example of an answer while it does not yet.
    pub fn accepts<T: JsonSchema>(
        self,
        done: &'static str,
        example: &impl Serialize,
        pending: &impl Serialize,
    ) -> Self {
        const PENDING: &str = "In force. The kernel does not follow entirely yet, which is tried again.";
        self.answers::<T>(200, done, example).with_tag().answers::<T>(202, PENDING, pending).with_tag()
    }

    /// A success without a body.
    pub fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None, has_tag: false });
        self
    }

    /// The answer that was described last says in `ETag` what is in force.
    pub fn with_tag(mut self) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.has_tag = true;
        }
        self
    }

    /// A failure.
    pub fn fails(mut self, status: u16, description: &'static str) -> Self {
        let example = json!({"error": description, "problems": []});
        let content = Some(Content::of::<super::failure::Body>(example));
        self.answers.push(Answer { status, description, content, has_tag: matches!(status, 409 | 412) });
        self
    }
}

/// The routes of these calls.
pub(super) fn router(endpoints: Vec<Endpoint>) -> Router<App> {
    endpoints.into_iter().fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.handler))
}
