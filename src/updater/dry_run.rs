//! A dry run: determines what a change would do, and writes nothing.

use domain::ecs::service::Snapshot;
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::plan::Plan;
use domain::plan::difference::Difference;
use domain::response::{Response, Status};
use domain::text::rfc3339;

use super::Updater;
use super::image_lookup::Images;
use super::restoring::Restoring;
use super::snapshot::Described;
use super::target::AccountClients;

impl Updater {
    /// The answer to a dry run.
    pub(super) async fn dry_run(
        &self,
        request: &UpdateRequest,
        target: &AccountClients,
        images: &Images<'_>,
        seen: Option<Described>,
    ) -> Result<Response, Failure> {
        let request = &images.of(request).await?;
        let mut snapshot = self.look(target, request, seen).await?.snapshot;
        if let Some(action) = &request.action {
            return self.planned_action(target, request, &snapshot, action).await;
        }
        let restoring = self.restoring(target, request, &mut snapshot, None).await?;
        let mut planned = self.planned(request, &snapshot, &restoring)?;
        let body = &mut planned.body;
        if let Some(changes) = body.changes.as_mut().filter(|changes| !changes.is_empty()) {
            let only_images = changes.iter().all(|change| change.get("what").is_some_and(|what| what == "image"));
            if let Some(note) = self.keeps_restores(request, only_images).await? {
                changes.clear();
                body.after = body.before.clone();
                body.notes.push(note);
            }
        }
        Ok(planned)
    }

    pub(super) fn planned(
        &self,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        restoring: &Restoring,
    ) -> Result<Response, Failure> {
        let (container, changes, notes, not_restored, update) = match restoring.plan(request, snapshot) {
            Plan::Refused(failure) => return Err(failure),
            Plan::Unchanged { targets, notes, not_restored } => {
                (targets.into_keys().next(), Vec::new(), notes, not_restored, None)
            }
            Plan::Update(update) => {
                let (changes, notes) = (update.changes.clone(), update.notes.clone());
                (update.container.clone(), changes, notes, update.not_restored.clone(), Some(update))
            }
        };
        let before = snapshot.state(container.as_deref());
        let mut after = before.clone();
        if let Some(update) = &update {
            update.apply_to(&mut after);
        }
        let mut response =
            Response::new(&request.service_key, None, Status::Planned, rfc3339((self.clock)()), before, after);
        response.body.changes = Some(Difference::all_told(&changes));
        response.body.notes = notes;
        response.body.not_restored = not_restored;
        response.body.restores = restoring.change_id().map(ToString::to_string);
        response.body.resolved_images = request.pins.some().cloned();
        Ok(response)
    }
}
