//! What earlier looks at a deployment saw, and later ones no longer show.

use crate::ecs::deployment::outcome::{Outcome, Superseder};
use crate::ecs::deployment::service_deployment::ServiceDeployment;
use crate::ecs::deployment::tracked::TrackedDeployment;
use crate::ecs::service::Service;

/// What earlier looks at a deployment saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What took over: it may be gone itself by the next look.
    superseder: Option<Superseder>,
    /// Id of the deployment that rolls it back: once that one has completed, it no longer says so.
    undone_by: Option<String>,
}

impl Seen {
    /// Nothing was seen yet but what is known of the deployment.
    #[must_use]
    pub fn of(followed: TrackedDeployment<'_>) -> Self {
        Self { superseder: None, undone_by: followed.undone_by.map(str::to_owned) }
    }

    /// Id of the deployment that rolls it back, if one was seen.
    #[must_use]
    pub fn undone_by(&self) -> Option<&str> {
        self.undone_by.as_deref()
    }

    /// Keeps what a look shows.
    pub fn keep(&mut self, followed: TrackedDeployment<'_>, service: &Service, known: Option<&ServiceDeployment>) {
        if let Some(id) = followed.rollback_in(service, known)
            && self.superseder.as_ref().is_none_or(|by| by.deployment_id == id)
        {
            self.superseder = None;
            self.undone_by = Some(id);
        }
        if self.superseder.is_none() {
            self.superseder = self.about(followed).superseded_by(service);
        }
    }

    /// The deployment, with the rollback that was seen.
    #[must_use]
    pub fn about<'a>(&'a self, followed: TrackedDeployment<'a>) -> TrackedDeployment<'a> {
        TrackedDeployment { undone_by: self.undone_by(), ..followed }
    }

    /// An end, with what took over where it was seen.
    #[must_use]
    pub fn ended(&self, ending: Outcome) -> Outcome {
        self.superseder.iter().fold(ending, Outcome::superseded)
    }
}
