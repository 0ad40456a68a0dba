//! What the task that owns the state can be asked, and how it refuses.

use tokio::sync::{mpsc, oneshot};

use super::View;
use crate::{
    actor::Actor, change::Change, difference::Difference, id::PlantId, problem::Problems, state::State,
    version::Version,
};

/// Who asks for a change, and on which terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who asks.
    pub actor: Actor,
    /// What must be in force, or the change is refused; `None` if that does not matter.
    pub expected: Option<Condition>,
    /// Whether to say only what would change.
    pub dry_run: bool,
}

/// What must be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Any state at all.
    Any,
    /// One of these.
    OneOf(Vec<Version>),
}

impl Condition {
    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, in_force: Option<&Version>) -> bool {
        match (self, in_force) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(versions), Some(version)) => versions.contains(version),
        }
    }
}

/// A whole state that is valid, with its canonical document.
#[derive(Debug)]
pub struct Given {
    /// What the document says.
    pub state: State,
    /// Equal states have equal documents.
    pub document: Vec<u8>,
    /// Which one it is.
    pub version: Version,
}

impl Given {
    /// Reads a desired state from JSON. That of a large one takes seconds, so it is not done by the task that owns the
    /// state in force.
    ///
    /// # Errors
    /// All problems found, each with the path of its field.
    pub fn parse(text: &[u8]) -> Result<Self, Problems> {
        State::parse(text).and_then(Self::try_from)
    }
}

/// A change that was accepted, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is in force now.
    pub version: Version,
    /// Whether anything was changed.
    pub changed: bool,
    /// What the change means, or would mean.
    pub difference: Option<Difference>,
    /// Why the kernel does not follow yet; that is tried again.
    pub pending: Option<String>,
    /// Plants that nothing leads to, and why; that is tried again, too.
    pub failed: Vec<(PlantId, String)>,
}

/// Why a change is not accepted. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It was too late.
    #[error("the agent is stopping; ask again when it is back")]
    Stopping,
    /// Changes come from elsewhere.
    #[error("this gateway takes its desired state from {from}; change it there")]
    Elsewhere {
        /// From where.
        from: String,
    },
    /// There is nothing to change.
    #[error("there is no desired state yet; begin with a whole one: PUT /v1/state")]
    NoState,
    /// Something else is in force than the caller expected.
    #[error("not what was expected is in force, but {}; read it again and decide anew", in_force.as_ref().map_or("nothing".to_owned(), ToString::to_string))]
    Unexpected {
        /// What is in force.
        in_force: Option<Version>,
    },
    /// The revision does not count up.
    #[error("revision {revision} is not newer than {}, which is in force with another content; give a greater revision", in_force.revision)]
    NotNewer {
        /// What was asked for.
        revision: u64,
        /// What is in force.
        in_force: Version,
    },
    /// It is not valid.
    #[error("not valid; nothing is changed")]
    Problems(#[from] Problems),
    /// It cannot be kept.
    #[error("nothing is changed, since it cannot be kept: {0}")]
    Store(#[from] crate::store::Error),
}

/// How many wait for the owner of the state.
pub(super) fn channel(size: usize) -> (Handle, mpsc::Receiver<Request>) {
    let (requests, receiver) = mpsc::channel(size);
    (Handle { requests }, receiver)
}

type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// One question.
pub(super) enum Request {
    /// A whole state in the place of what there is.
    Replace(Call, Box<Given>, Answer<Outcome>),
    /// Single changes.
    Change(Call, Vec<Change>, Answer<Outcome>),
    /// A whole state from where the agent has looked by itself.
    Pulled(Actor, Box<Given>, Answer<Outcome>),
    /// What is wrong there, or that nothing is any more.
    PullFailed(Option<String>),
    /// Somebody wants to see something.
    Look(Box<dyn FnOnce(&View<'_>) + Send>),
    /// Look at everything in the kernel again.
    Forget,
}

/// The way to the task that owns the state.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

impl Handle {
    /// Puts a whole state in the place of what there is.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn replace(&self, call: Call, given: Box<Given>) -> Result<Outcome, Refusal> {
        self.ask(|answer| Request::Replace(call, given, answer)).await
    }

    /// Makes single changes, all or none.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn change(&self, call: Call, changes: Vec<Change>) -> Result<Outcome, Refusal> {
        self.ask(|answer| Request::Change(call, changes, answer)).await
    }

    /// Puts a state in force that `actor` serves, if it is newer.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn pulled(&self, actor: Actor, given: Box<Given>) -> Result<Outcome, Refusal> {
        self.ask(|answer| Request::Pulled(actor, given, answer)).await
    }

    /// Has it shown in the status that the state cannot be had from where it comes from, or that it can again.
    pub async fn pull_failed(&self, why: Option<String>) {
        // Nobody shows anything any more once the receiver is gone.
        let _ = self.requests.send(Request::PullFailed(why)).await;
    }

    /// What `look` sees.
    ///
    /// # Errors
    /// [`Refusal::Stopping`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask(|answer| {
            Request::Look(Box::new(move |view| {
                // Who has asked may have gone.
                let _ = answer.send(Ok(look(view)));
            }))
        })
        .await
    }

    /// Has the kernel looked at as if nothing were known of it.
    pub async fn forget(&self) {
        let _ = self.requests.send(Request::Forget).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Refusal::Stopping)?;
        answered.await.unwrap_or(Err(Refusal::Stopping))
    }
}
