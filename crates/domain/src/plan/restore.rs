//! What puts a service back: only what one change set (`undo`), or the whole state from before it (`exact`).

use chrono::{DateTime, Duration, Utc};

use crate::ecs::service::Snapshot;
use crate::error::{Code, Failure};
use crate::event::request::{RestoreMode, UpdateRequest};
use crate::plan::controller::check_deployment_controller;
use crate::plan::desired::Desired;
use crate::plan::exact::exact;
use crate::plan::parameters::differing_parameters;
use crate::plan::restoration::Restoration;
use crate::plan::undo::{undone, why_nothing};

/// How much later than a change a service may seem to have been created and still be the one that was changed: the two times are by clocks
/// that may differ by this much.
const SKEW: Duration = Duration::seconds(4);

/// A service that was created after the change is another one, whatever its name.
fn check_same_service(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Result<(), Failure> {
    let (created, changed): (Option<DateTime<Utc>>, _) = (snapshot.service.created_at(), restore.change_id().time());
    let Some(created) = created.filter(|created| *created > changed + SKEW) else { return Ok(()) };
    Err(Failure::new(
        Code::RestoreConflict,
        format!(
            "service {}: it was created at {}, after change {}, which was of another service with this name. Nothing was changed. Set what is \
             wanted with an update",
            request.service_key,
            crate::text::rfc3339(created),
            restore.change_id()
        ),
    ))
}

/// What is wanted in order to restore.
pub(super) fn restored(
    request: &UpdateRequest,
    snapshot: &Snapshot,
    restore: &Restoration,
) -> Result<Desired, Failure> {
    check_same_service(request, snapshot, restore)?;
    let mut wanted = match restore.mode {
        RestoreMode::Undo => undone(request, snapshot, restore)?,
        RestoreMode::Exact => exact(request, snapshot, restore)?,
    };
    if wanted.is_nothing() {
        let why = why_nothing(restore);
        match wanted.notes.first_mut() {
            Some(first) => *first = why,
            None => wanted.notes.push(why),
        }
    }
    let (asked, notes) = differing_parameters(&request.parameters, snapshot);
    // What goes back is what the controller takes; what the event asks for besides that is judged.
    check_deployment_controller(request, snapshot, false, &asked)?;
    wanted.parameters.extend(asked);
    wanted.notes.extend(notes);
    Ok(wanted)
}
