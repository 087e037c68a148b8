//! Pure: what is shown of a reason that ECS gives for the end of a deployment.
//!
//! ECS may repeat in it what a container was given: a command line, or an error with a value in it. What a reason may contain is not
//! documented, and the ledger keeps it for ever. So words that ECS is known to use are shown as they are, and anything else is shown only
//! if the values of the deployment are known and hidden.

use crate::mask::{HIDDEN, Mask};
use crate::text::one_line;

/// Words of ECS's own sentences about deployments, and of the errors that engineers know from tasks that do not start. None of them reveals
/// a value: they occur in ECS's sentences whatever the values are.
///
/// Sources: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>.
const WORDS: &str = "\
a after alarm alarm(s) alarms amazon an and are as at back bake balancer be because been before breaker by can candidate
cannot
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
/// The characters that may precede and follow a word.
const BEFORE: [char; 3] = ['(', '"', '\''];
const BEHIND: [char; 8] = ['.', ',', ':', ';', '!', ')', '"', '\''];
/// The maximum length of a deployment's number.
const MAX_NUMBER: usize = 20;

/// A reason with [`HIDDEN`] in place of everything that is neither a word of ECS's nor the id of a deployment: nothing that could contain a
/// value is left.
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

/// A reason with the values hidden that it may repeat, if these are known. If they are not known, or the reason may contain a value of a
/// few bytes, the result of [`known`].
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
    // The word "alarm(s)" itself ends with one of these characters.
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
        // Nobody can tell whether it is the value.
        assert_eq!(told("exec: tasks failed, token=q7Z"), "*** tasks failed, ***");
    }
}
