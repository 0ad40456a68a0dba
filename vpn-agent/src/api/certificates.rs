//! `/v1/certificates`: what is done most with single changes. And `/v1/offer`: what a profile needs besides the private
//! key.

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    App,
    answer::{self, Answer},
    asked,
    changes::{self, malformed},
    endpoint::{Endpoint, Method},
    failure::Failure,
    state::{KEY, OTHER_KEY},
};
use crate::{
    actor::Actor,
    change::Change,
    control::{Refusal, View},
    document::{Certificate, Id, Key},
    id::CertificateId,
    key::PrivateKey,
    offer::{self, Offer},
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let id = || json!({"type": "string", "pattern": crate::id::PATTERN});
    vec![
        Endpoint::new(
            Method::Post,
            "/v1/certificates",
            issue,
            "Issue a certificate",
            "For a user, who may have one, or for an organisation. The key pair is made on the user's device, and only the \
             public key is told. The answer has the offer that `vpn-agent profile` makes a profile from.",
        )
        .changes()
        .takes::<Certificate>(json!({"id": "certificate-a", "user": "user-a", "public_key": OTHER_KEY}))
        .accepts::<Issued>("It is issued and works.", &Issued::example(), &Issued::pending_example()),
        Endpoint::new(
            Method::Post,
            "/v1/certificates/{id}/rotate",
            rotate,
            "Give a certificate a new key",
            "The old key stops working at once. The tunnel IP stays.",
        )
        .part("id", "The certificate.", id(), "certificate-a")
        .changes()
        .takes::<Rotation>(json!({"public_key": KEY}))
        .accepts::<Answer>(
            "The new key works, and the old one does not.",
            &Answer::example(),
            &Answer::pending_example(),
        ),
        Endpoint::new(
            Method::Delete,
            "/v1/certificates/{id}",
            revoke,
            "Revoke a certificate",
            "It stops working at once, and its connections end. What it did stays in the audit. Its id cannot be given \
             to somebody else.",
        )
        .part("id", "The certificate.", id(), "certificate-a")
        .changes()
        .accepts::<Answer>("It is revoked.", &Answer::example(), &Answer::pending_example()),
        Endpoint::new(
            Method::Get,
            "/v1/offer",
            offer,
            "The offer for a certificate",
            "What a profile needs besides the private key: tunnel addresses, the gateways' public key and endpoint, what \
             goes into the tunnel, and the MTU. Not a secret. The same as `vpn-agent offer` prints.",
        )
        .required_query("certificate", "The certificate.", id(), "certificate-a")
        .answers::<Offer>(200, "The offer.", &offer_example())
        .fails(400, "The query is not as it must be.")
        .fails(404, "There is no such certificate.")
        .fails(409, "There is no offer yet; the message says what is missing."),
    ]
}

/// A certificate that was issued, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Issued {
    /// The change.
    accepted: Answer,
    /// The offer; none after a dry run, or where something is missing for it.
    offer: Option<Offer>,
    /// What is missing for an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_offer: Option<String>,
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// The new public key, made on the user's device like the first one.
    public_key: Key,
}

/// Whose offer is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    certificate: CertificateId,
}

impl Issued {
    fn example() -> Self {
        let offer = serde_json::from_value(offer_example()).ok();
        Self { accepted: Answer::example(), offer, no_offer: None }
    }

    fn pending_example() -> Self {
        Self { accepted: Answer::pending_example(), ..Self::example() }
    }
}

fn offer_example() -> Value {
    json!({
        "format": offer::FORMAT,
        "certificate": "certificate-a",
        "public_key": OTHER_KEY,
        "addresses": ["100.64.0.2/32", "fd76:706e:6777::2/128"],
        "server_public_key": KEY,
        "endpoint": "gateway.example:51820",
        "allowed_ips": ["10.128.0.0/9", "fd76:7600::/24", "100.64.0.1/32", "fd76:706e:6777::1/128"],
        "mtu": 1420,
    })
}

async fn issue(
    Shared(app): Shared<App>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let call = asked::call(actor, &uri, &headers)?;
    let text = asked::body(&headers, body, app.body_max).await?;
    let certificate: Certificate = asked::record("", &text).map_err(malformed)?;
    let id = certificate.id.0.parse::<CertificateId>().ok();
    let dry_run = call.dry_run;
    let outcome = app.control.change(call, vec![Change::IssueCertificate(certificate)]).await?;
    let offer = match id.filter(|_| !dry_run) {
        None => None,
        Some(id) => Some(app.control.look(move |view| offer_of(view, &id)).await?),
    };
    Ok(answer::response(outcome, dry_run, |accepted| match offer {
        None => Issued { accepted, offer: None, no_offer: None },
        Some(Ok(offer)) => Issued { accepted, offer: Some(offer), no_offer: None },
        Some(Err(failure)) => Issued { accepted, offer: None, no_offer: Some(failure.error()) },
    }))
}

async fn rotate(
    Shared(app): Shared<App>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let call = asked::call(actor, &uri, &headers)?;
    let text = asked::body(&headers, body, app.body_max).await?;
    let Rotation { public_key } = asked::record("", &text).map_err(malformed)?;
    changes::make(&app, call, vec![Change::RotateCertificate { id: Id(id), public_key }]).await
}

async fn revoke(
    Shared(app): Shared<App>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let call = asked::call(actor, &uri, &headers)?;
    changes::make(&app, call, vec![Change::RevokeCertificate { id: Id(id) }]).await
}

async fn offer(Shared(app): Shared<App>, uri: Uri) -> Result<Json<Offer>, Failure> {
    let Whose { certificate } = asked::query(&uri)?;
    let offer = app.control.look(move |view| offer_of(view, &certificate)).await?;
    Ok(Json(offer?))
}

fn offer_of(view: &View<'_>, certificate: &CertificateId) -> Result<Offer, Failure> {
    let conflict = |error: String| Failure::new(StatusCode::CONFLICT, error);
    let state = view.state.ok_or_else(|| conflict(Refusal::NoState.to_string()))?;
    let server = PrivateKey::read(&view.config.users.private_key_file).map_err(|error| conflict(error.to_string()))?;
    let offer = Offer::new(view.config, state, view.allocations, server.public(), certificate, []);
    offer.map_err(|error| {
        let status =
            if matches!(error, offer::Error::Unknown(_)) { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
        Failure::new(status, error)
    })
}
