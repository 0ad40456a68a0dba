//! This host as what has to follow the desired state.

use super::{Error, Host, idle::Idle};
use crate::{
    addressing::{self, Allocations},
    change::Touched,
    control::Kernel,
    id::PlantId,
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
            Touched::Certificates(certificates) => self.allocations.check_of(state, &self.config, certificates),
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

    async fn look(&mut self) -> bool {
        Self::look(self).await
    }

    fn forget(&mut self) -> Result<(), Error> {
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
