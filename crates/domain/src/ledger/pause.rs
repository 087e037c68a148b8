//! Pure: the pauses of a change's deployment, as the ledger has them.
//!
//! A pause is an entry of its own in the history of the service, with an id of its own and the change it belongs to (`of`): the places of a
//! change's own records are few, and a deployment may pause before each step of its traffic.

use crate::ecs::deployment::pause::Pause;
use crate::ids::ChangeId;
use crate::ledger::deployment::{DeploymentItem, NotedPause};
use crate::ledger::kind::Kind;

/// How many pauses of a deployment are remembered: a service has at most 10 pause hooks
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>), and an event comes again within minutes.
const REMEMBERED: usize = 20;

/// What follows from what is heard of a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseStep {
    /// It begins: it is recorded under an id of its own.
    Begins,
    /// The pause that is recorded under this id is over, with everything that is known of it.
    Ends(ChangeId, Pause),
    /// Its end was heard before its beginning, which is then not recorded any more.
    EndsUnheard,
    /// Nothing, because of this.
    Nothing(&'static str),
}

/// What follows for a deployment from what is heard of one of its pauses.
#[must_use]
pub fn step(item: &DeploymentItem, heard: &Pause) -> PauseStep {
    if item.is_external() {
        return PauseStep::Nothing("no change started the deployment that waits");
    }
    let noted = item.pauses.iter().find(|noted| noted.pause.hook_id == heard.hook_id);
    match (noted, heard.ended.is_some()) {
        (None, false) if item.outcomes.iter().any(|kind| *kind != Kind::DeploymentFailed) => {
            PauseStep::Nothing("how the deployment ended is recorded")
        }
        (None, false) => PauseStep::Begins,
        (None, true) => PauseStep::EndsUnheard,
        (Some(NotedPause { pause, record: Some(record) }), true) if pause.ended.is_none() => {
            PauseStep::Ends(record.clone(), heard.clone().and(Some(pause)))
        }
        (Some(_), _) => PauseStep::Nothing("that is noted already"),
    }
}

/// The item with what was heard of a pause.
#[must_use]
pub fn noted(item: &DeploymentItem, pause: Pause, record: Option<ChangeId>) -> DeploymentItem {
    let mut to = item.clone();
    to.pauses.retain(|noted| noted.pause.hook_id != pause.hook_id);
    to.pauses.push(NotedPause { pause, record });
    let forgotten = to.pauses.len().saturating_sub(REMEMBERED);
    to.pauses.drain(..forgotten);
    to
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ids::ServiceKey;

    fn heard(hook: &str, ended: Option<&str>) -> Pause {
        let stage = ended.is_none().then(|| "POST_SCALE_UP".to_owned());
        Pause { hook_id: hook.to_owned(), stage, ended: ended.map(str::to_owned), ..Pause::default() }
    }

    fn item() -> DeploymentItem {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        DeploymentItem::new(&service, "arn:s", "ecs-svc/2", ChangeId::new(at, [1; 10]), at, at)
    }

    #[test]
    fn a_pause_begins_and_ends_once() {
        let (item, record) = (item(), ChangeId::new(DateTime::UNIX_EPOCH, [2; 10]));
        let begins = heard("h", None);
        assert_eq!(step(&item, &begins), PauseStep::Begins);
        let waiting = noted(&item, begins.clone(), Some(record.clone()));
        assert!(matches!(step(&waiting, &begins), PauseStep::Nothing(_)), "the same event again");
        let ends = heard("h", Some("HOOK_SUCCEEDED"));
        let PauseStep::Ends(of, whole) = step(&waiting, &ends) else { panic!("it ends") };
        assert_eq!((&of, whole.stage.as_deref()), (&record, Some("POST_SCALE_UP")));
        let over = noted(&waiting, whole, Some(of));
        assert!(matches!(step(&over, &ends), PauseStep::Nothing(_)));
        assert_eq!(step(&over, &heard("another", None)), PauseStep::Begins, "the next step of its traffic");
    }

    #[test]
    fn events_in_the_wrong_order_leave_nobody_waiting() {
        let ends = heard("h", Some("HOOK_TIMED_OUT"));
        assert_eq!(step(&item(), &ends), PauseStep::EndsUnheard);
        let over = noted(&item(), ends, None);
        assert!(matches!(step(&over, &heard("h", None)), PauseStep::Nothing(_)));
        let done = DeploymentItem { outcomes: vec![Kind::RolledBack], ..item() };
        assert!(matches!(step(&done, &heard("h", None)), PauseStep::Nothing(_)));
        let external = DeploymentItem { outcomes: vec![Kind::External], ..item() };
        assert!(matches!(step(&external, &heard("h", Some("HOOK_FAILED"))), PauseStep::Nothing(_)));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let many = (0..50).fold(item(), |item, n| noted(&item, heard(&format!("h{n}"), None), None));
        assert_eq!((many.pauses.len(), many.pauses[0].pause.hook_id.as_str()), (REMEMBERED, "h30"));
    }
}
