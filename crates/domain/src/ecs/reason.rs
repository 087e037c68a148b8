//! Pure: what is told of a reason that ECS gives for the end of a deployment.
//!
//! ECS may repeat in it what a container was told: a command line, an error with a value in it. Nobody documents what stands there, and
//! the ledger keeps it for ever. So words that ECS is known to say are told as they are, and anything else only where the values of the
//! deployment are known and hidden.

use crate::mask::{HIDDEN, Mask};
use crate::text::one_line;

/// Words of ECS's own sentences about deployments, and of those that engineers know from tasks that do not start. None of them tells a
/// value: they stand in ECS's sentences whatever a value is.
///
/// Sources: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>.
const WORDS: &str = "\
a after alarm alarm(s) alarms amazon an and are as at back bake balancer be because been before breaker by can cannot
cannotpullcontainererror cannotstartcontainererror check checks circuit cloudwatch completed container containers
could deleted deployed deployment deploymentid deployments desired detected did due ecs elb ended error essential
exceeded executable exit exited failed failing failure failures file for found from go had has have health healthy
hook hooks image in in_progress invalid is it its last launch lifecycle limit listener load manually more new newer no
not of on one or out outofmemoryerror pending progress pull reach reached received replaced request requested resource
resourceinitializationerror resources response returned revision rollback rollback_failed rollback_in_progress
rollback_requested rollback_successful rolled rolling run running scale scaled service shift stage start started
starting state status steady still stop stop_requested stopped succeeded successful successfully superseded target
task taskfailedtostart tasks terminated than that the there threshold time timed timeout to too traffic triggered
unable unhealthy until update updated waiting was were which while will with within without";
/// What may stand before a word and behind it.
const BEFORE: [char; 3] = ['(', '"', '\''];
const BEHIND: [char; 8] = ['.', ',', ':', ';', '!', ')', '"', '\''];
/// The longest number of a deployment.
const MAX_NUMBER: usize = 20;

/// A reason with [`HIDDEN`] for whatever is no word of ECS's and no id of a deployment: nothing that a value can stand in is left.
#[must_use]
pub fn known(reason: &str) -> String {
    let mut told: Vec<&str> = Vec::new();
    for word in reason.split_whitespace() {
        let word = if is_known(word) { word } else { HIDDEN };
        if word != HIDDEN || told.last() != Some(&HIDDEN) {
            told.push(word);
        }
    }
    told.join(" ")
}

/// Whether a reason holds nothing but what [`known`] leaves.
#[must_use]
pub fn is_all_known(reason: &str) -> bool {
    reason.split_whitespace().all(is_known)
}

/// A reason where the values are known that it may repeat, and none stands in it any more. Where they are not known, or one of a few bytes may
/// stand there, what is [`known`] of it.
#[must_use]
pub fn told(reason: &str, mask: Option<&Mask>) -> String {
    if is_all_known(reason) {
        return known(reason);
    }
    let hidden = mask.and_then(|mask| mask.hide(reason));
    hidden.map_or_else(|| known(reason), |hidden| one_line(&hidden))
}

fn is_known(word: &str) -> bool {
    let bare = word.trim_start_matches(BEFORE).trim_end_matches(BEHIND);
    let is_word = |word: &str| WORDS.split_whitespace().any(|known| known.eq_ignore_ascii_case(word));
    let number = bare.strip_prefix("ecs-svc/").unwrap_or_default();
    let is_id = (1..=MAX_NUMBER).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    // "alarm(s)" ends with a mark of its own.
    is_word(bare) || is_word(word.trim_end_matches([':', '.', ','])) || is_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sentences_of_ecs_are_told_as_they_are() {
        for reason in [
            "ECS deployment circuit breaker: tasks failed to start.",
            "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/123456789012345678.",
            "ECS deployment ecs-svc/123 in progress.",
            "ECS deployment ecs-svc/123 completed.",
            "A newer deployment was started.",
            "Service deployment was stopped.",
            "Service deployment rolled back because of Amazon CloudWatch alarm(s).",
            "ROLLBACK_FAILED",
            crate::ecs::deployment::outcome::DELETED,
        ] {
            assert!(is_all_known(reason), "{reason}");
            assert_eq!(known(reason), reason);
            let mask = ["tasks", "to", "rolling"].iter().fold(Mask::default(), |mask, value| mask.and(value));
            assert_eq!(told(reason, Some(&mask)), reason, "a value that is a word of ECS's cuts no sentence");
        }
    }

    #[test]
    fn no_value_stands_in_what_is_known() {
        for (reason, expected) in [
            (
                "CannotStartContainerError: exec: \"server --password=hunter2\": executable file not found",
                "CannotStartContainerError: *** executable file not found",
            ),
            ("tasks failed with q7Z", "tasks failed with ***"),
            ("exit 137\n[ERROR] forged", "exit ***"),
            ("ecs-svc/12345678901234567890123", "***"),
            ("ecs-svc/secret ecs-svc/", "***"),
            ("standard tasks:standard", "***"),
            ("tasks (hunter2) failed", "tasks *** failed"),
            ("", ""),
        ] {
            assert_eq!(known(reason), expected);
            assert_eq!(told(reason, None), expected);
        }
    }

    #[test]
    fn where_the_values_are_known_the_rest_is_told() {
        let definition = json!({"containerDefinitions": [{"command": ["server", "--password=hunter2"],
            "environment": [{"name": "SHORT", "value": "q7Z"}]}]});
        let mask = Mask::default().and_of(&definition);
        let told = |reason: &str| told(reason, Some(&mask));
        assert_eq!(told("exec: \"server\" --password=hunter2:\nno 'q7Z'"), "exec: \"***\" ***: no '***'");
        // Whether it is the value nobody can tell.
        assert_eq!(told("exec: tasks failed, token=q7Z"), "*** tasks failed, ***");
    }
}
