//! The third way for a desired state to come: the agent asks for it, again and again.
//!
//! What cannot be had or used leaves the state that is in force as it is, also over a restart, since it is kept in the
//! store. Each new kind of trouble is logged once.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::rustls::{ClientConfig, crypto};
use tracing::{error, info};

use crate::{
    actor::Actor,
    api,
    config::Pull,
    control::{Given, Handle, Refusal},
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The largest answer, bytes.
const ANSWER_MAX: usize = 1 << 30;

/// Why the state cannot be asked for at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("pull.url: {0}")]
    Url(hyper::http::uri::InvalidUri),
    /// A file cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] api::Error),
}

/// Asks until it is dropped.
pub struct Puller {
    _task: JoinSet<()>,
}

impl Puller {
    /// Starts to ask.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(config: &Pull, control: Handle) -> Result<Self, Error> {
        let source = Source {
            url: config.url.parse().map_err(Error::Url)?,
            actor: Actor::of_url(&config.url),
            client: client(config)?,
            control,
            tag: None,
            refused: None,
            trouble: None,
        };
        let mut task = JoinSet::new();
        task.spawn(source.follow(Duration::from_secs(config.interval_seconds.into())));
        Ok(Self { _task: task })
    }
}

/// Where the state comes from.
struct Source {
    url: Uri,
    actor: Actor,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    control: Handle,
    /// Of what was looked at last.
    tag: Option<HeaderValue>,
    /// Why that cannot be used.
    refused: Option<String>,
    /// What was wrong the last time.
    trouble: Option<String>,
}

/// What the source says.
enum Answer {
    Unchanged,
    State { text: Bytes, tag: Option<HeaderValue> },
}

impl Source {
    async fn follow(mut self, every: Duration) {
        let mut next = interval(every);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            let trouble = match self.take().await {
                Ok(()) => None,
                Err(Trouble::Stopping) => return,
                Err(Trouble::Of(what)) => Some(what),
            };
            if trouble == self.trouble {
                continue;
            }
            match &trouble {
                Some(what) => error!("{}: {what}; the state in force stays", self.url),
                None => info!("{}: can be used again", self.url),
            }
            self.control.pull_failed(trouble.clone()).await;
            self.trouble = trouble;
        }
    }

    /// Asks once.
    async fn take(&mut self) -> Result<(), Trouble> {
        let answer = timeout(PATIENCE, self.ask()).await;
        let answer = answer.map_err(|_| Trouble::of(format_args!("no answer in {} s", PATIENCE.as_secs())))?;
        if let Answer::State { text, tag } = answer? {
            self.refused = self.put(text).await?;
            self.tag = tag;
        }
        self.refused.clone().map_or(Ok(()), |why| Err(Trouble::Of(why)))
    }

    /// Puts a state in force, or says why it cannot be used, however often it is asked for.
    async fn put(&self, text: Bytes) -> Result<Option<String>, Trouble> {
        let given = match spawn_blocking(move || Given::parse(&text)).await.map_err(Trouble::of)? {
            Ok(given) => given,
            Err(problems) => return Ok(Some(format!("not valid: {problems}"))),
        };
        match self.control.pulled(self.actor.clone(), Box::new(given)).await {
            Ok(_) => Ok(None),
            Err(Refusal::Problems(problems)) => Ok(Some(format!("not valid on this gateway: {problems}"))),
            Err(refusal @ Refusal::NotNewer { .. }) => Ok(Some(refusal.to_string())),
            Err(Refusal::Stopping) => Err(Trouble::Stopping),
            Err(refusal) => Err(Trouble::of(refusal)),
        }
    }

    async fn ask(&self) -> Result<Answer, Trouble> {
        let mut request = Request::get(self.url.clone()).header(ACCEPT, "application/json");
        if let Some(tag) = &self.tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::new()).map_err(Trouble::of)?;
        let response = self.client.request(request).await.map_err(|error| Trouble::of(whole(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
            status => return Err(Trouble::of(format_args!("answers {status}"))),
        }
        let tag = response.headers().get(ETAG).cloned();
        let text = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Trouble::of(format_args!("the answer is larger than {ANSWER_MAX} bytes"))
            } else {
                Trouble::of(format_args!("the answer ended early: {}", whole(&*error)))
            }
        })?;
        Ok(Answer::State { text: text.to_bytes(), tag })
    }
}

/// Why the state could not be taken up.
enum Trouble {
    Of(String),
    Stopping,
}

impl Trouble {
    fn of(what: impl std::fmt::Display) -> Self {
        Self::Of(what.to_string())
    }
}

/// An error with all that led to it: that of the client alone says no more than that there was one.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

fn client(config: &Pull) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, Error> {
    let ca = |error| api::Error::tls(&config.ca_file, error);
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ca)?
        .with_root_certificates(api::roots(&config.ca_file)?);
    let tls = match config.identity() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(api::certificates(certificate)?, api::private_key(key)?)
            .map_err(|error| api::Error::tls(certificate, error))?,
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests;
