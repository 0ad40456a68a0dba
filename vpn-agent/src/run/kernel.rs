//! This host as what has to follow the desired state.

use std::collections::BTreeSet;

use super::{Error, Host, idle::Idle};
use crate::{
    addressing::{self, Allocations},
    change::Touched,
    control::Kernel,
    id::{CertificateId, PlantId},
    problem::{Problem, Problems},
    state::State,
};

impl Kernel for Host {
    type Error = Error;
    type Observed = Idle;

    fn check(&self, state: &State, touched: &Touched) -> Result<(), Problems> {
        let checked = match touched {
            Touched::All => {
                self.config.check_state(state)?;
                self.allocations.check(state, &self.config)
            }
            Touched::Certificates(certificates) => self.allocations.check_some(state, &self.config, certificates),
        };
        checked.map_err(|error: addressing::Error| {
            let message = error.to_string();
            // These begin with the list that they are about.
            let (path, message) = message.split_once(": ").unwrap_or(("", &message));
            Problems::from(Problem { path: path.to_owned(), message: message.to_owned() })
        })
    }

    async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, Error)>, Error> {
        Self::apply(self, state).await
    }

    async fn hurry(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) -> Result<(), Error> {
        Self::hurry(self, state, certificates).await.map(|_| ())
    }

    async fn look(&mut self) -> bool {
        Self::look(self).await
    }

    async fn forget(&mut self) -> Result<(), Error> {
        // What something else has changed is told as ever; what comes then looks at the rest, and tells nothing.
        self.reconcile_at_once().await;
        self.forget_kernel()
    }

    fn is_detached(&self) -> bool {
        Self::is_detached(self)
    }

    async fn idle(&mut self) -> Option<Idle> {
        Some(Self::idle(self).await)
    }

    async fn reconcile(&mut self, observed: Idle) -> bool {
        self.attend(observed).await
    }

    fn allocations(&self) -> &Allocations {
        &self.allocations
    }
}
