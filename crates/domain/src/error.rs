//! Failures: their codes, their texts, and whether a retry may help.
//!
//! The texts up to their placeholder are those of the first version, letter for letter: callers match on them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use crate::ids::ChangeId;
use crate::text::{is_unseen, one_line};
use crate::tolerant::tolerant_words;

/// What kind of failure it is; the `errorType` of the Lambda function error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
pub enum Code {
    /// The event does not fit `schema/update-event.schema.json`.
    JsonValidation,
    /// ECS knows no such cluster in the target account and region.
    ClusterNotFound,
    /// The cluster has no such service, or it is `INACTIVE`.
    ServiceNotFound,
    /// The service is draining: it was deleted, and ECS accepts no update of it.
    ServiceNotActive,
    /// The service or its task definition could not be read.
    ServiceReadFailed,
    /// ECS did not accept the new task definition.
    TaskDefinitionRejected,
    /// ECS did not accept the update of the service.
    ServiceUpdateFailed,
    /// ECS did not accept the change of the service's tags.
    TagUpdateFailed,
    /// The role in the target account could not be assumed.
    AssumeRoleFailed,
    /// The service's deployment controller does not accept this change through `UpdateService`.
    UnsupportedDeploymentController,
    /// The target account has not opted in to the region.
    RegionNotEnabled,
    /// The event names a container that the task definition does not have.
    ContainerNotFound,
    /// The event names no container and more than one could be meant.
    AmbiguousContainer,
    /// The text is not an image reference.
    InvalidImage,
    /// The registry does not have the image.
    ImageNotFound,
    /// The registry could not be asked about the image, or not in the way that it requires.
    RegistryUnavailable,
    /// The service runs another task definition than `expected_task_definition`.
    TaskDefinitionChanged,
    /// What the change set that a restore is to undo is no longer there, or cannot be put back.
    RestoreConflict,
    /// The idempotency key was used before with another event.
    IdempotencyKeyReused,
    /// Another change holds the lease of the service.
    ChangeInProgress,
    /// Another change of the service began after this event.
    ChangeOvertaken,
    /// The caller sent more events through the API door than one caller may send in a minute.
    CallerThrottled,
    /// The clock of this environment differs from that of DynamoDB.
    ClockSkewed,
    /// The ledger could not be read or written.
    HistoryUnavailable,
    /// A code that only a later version knows, from an answer that it stored.
    Later(&'static str),
}

tolerant_words!(Code);

impl Code {
    /// Whose fault it is, if nothing more is known than the code.
    fn fault(self) -> Fault {
        match self {
            Self::JsonValidation
            | Self::ClusterNotFound
            | Self::ServiceNotFound
            | Self::ServiceNotActive
            | Self::UnsupportedDeploymentController
            | Self::RegionNotEnabled
            | Self::ContainerNotFound
            | Self::AmbiguousContainer
            | Self::InvalidImage
            | Self::ImageNotFound
            | Self::TaskDefinitionChanged
            | Self::RestoreConflict
            | Self::IdempotencyKeyReused
            | Self::ChangeInProgress
            | Self::ChangeOvertaken
            | Self::CallerThrottled => Fault::Caller,
            Self::ServiceReadFailed
            | Self::TaskDefinitionRejected
            | Self::ServiceUpdateFailed
            | Self::TagUpdateFailed
            | Self::AssumeRoleFailed
            | Self::RegistryUnavailable
            | Self::ClockSkewed
            | Self::HistoryUnavailable
            | Self::Later(_) => Fault::Operator,
        }
    }

    /// The text that a message of this code starts with, up to its first placeholder.
    fn text(self) -> &'static str {
        match self {
            Self::JsonValidation => "[ERROR][json_validation] wrong input event format: ",
            Self::ClusterNotFound => "[ERROR][ecs_service_read] ecs_cluster_name ",
            Self::ServiceNotFound => "[ERROR][ecs_service_read] ecs_service_name ",
            Self::ServiceReadFailed => "[ERROR][ecs_service_read] reading ecs service unexpected error: ",
            Self::RegionNotEnabled | Self::ServiceNotActive => "[ERROR][ecs_service_read] ",
            Self::TaskDefinitionRejected
            | Self::ContainerNotFound
            | Self::AmbiguousContainer
            | Self::InvalidImage
            | Self::ImageNotFound
            | Self::RegistryUnavailable => "[ERROR][ecs_service_update] new task_definition could not be created ",
            Self::ServiceUpdateFailed => {
                "[ERROR][ecs_service_update] service could not be update with new task_definition "
            }
            Self::TagUpdateFailed => "[ERROR][ecs_service_update] service tags could not be updated ",
            Self::UnsupportedDeploymentController | Self::TaskDefinitionChanged | Self::RestoreConflict => {
                "[ERROR][ecs_service_update] "
            }
            Self::AssumeRoleFailed => "[ERROR][assume_role] role ",
            Self::IdempotencyKeyReused => "[ERROR][idempotency] ",
            Self::ChangeInProgress | Self::ChangeOvertaken | Self::ClockSkewed => "[ERROR][service_lease] service ",
            Self::CallerThrottled => "[ERROR][caller_rate] caller ",
            Self::HistoryUnavailable => "[ERROR][history_write] ",
            Self::Later(_) => "[ERROR] ",
        }
    }
}

/// Who has to do something about a failure: alarms notify the hub's operators of the failures that are theirs, and leave the others to the
/// callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// The sender of the event: it asks for something that does not exist, is not allowed, or is not possible now.
    Caller,
    /// The operator of the hub and the accounts: the cause is a role, a table, a permission or an outage.
    #[default]
    Operator,
}

impl Fault {
    /// The word as it appears in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change that failed, as it is reported to its caller, the log and the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: Code,
    /// The whole text: what failed, where, why, what was changed, and what to do. Holds no secret.
    pub message: String,
    /// Whether the same event may succeed when it is sent again.
    pub retryable: bool,
    /// The change that failed, where one began; for the log.
    #[serde(skip)]
    pub change_id: Option<String>,
    /// Who has to do something about it; for the metrics.
    #[serde(skip)]
    pub fault: Fault,
}

impl Failure {
    /// A failure that the same event would cause again; `detail` follows the code's fixed text.
    #[must_use]
    pub fn new(code: Code, detail: impl AsRef<str>) -> Self {
        Self {
            code,
            message: format!("{}{}", code.text(), in_lines_of(code, detail.as_ref())),
            retryable: false,
            change_id: None,
            fault: code.fault(),
        }
    }

    /// Says whether the same event may succeed when it is sent again.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// `TagUpdateFailed` for the case that ECS could not be reached at all: the first version had a text of its own for it.
    #[must_use]
    pub fn tags_not_reached(detail: impl AsRef<str>) -> Self {
        Self {
            code: Code::TagUpdateFailed,
            message: format!(
                "[ERROR][ecs_service_update] updating service tag unexpected error: {}",
                one_line(detail.as_ref())
            ),
            retryable: true,
            change_id: None,
            fault: Fault::Operator,
        }
    }

    /// Sets whose fault it is, if that differs from the default of the code.
    #[must_use]
    pub fn by(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// Says which change failed.
    #[must_use]
    pub fn of_change(mut self, change_id: &ChangeId) -> Self {
        self.change_id = Some(change_id.to_string());
        self
    }

    /// Adds a sentence about what was or was not changed, or what to do.
    #[must_use]
    pub fn and(mut self, sentence: impl AsRef<str>) -> Self {
        let separator = if self.message.ends_with(['.', '!', '?', '\n']) { " " } else { ". " };
        self.message.push_str(separator);
        self.message.push_str(&in_lines_of(self.code, sentence.as_ref()));
        self
    }
}

/// A part of a message. Text that it repeats from an event, from AWS or from a registry must not begin a new line: only the faults of an
/// event are listed in lines, and these repeat text only through [`crate::text::shown`].
fn in_lines_of(code: Code, text: &str) -> Cow<'_, str> {
    if code == Code::JsonValidation || !text.contains(is_unseen) { text.into() } else { one_line(text).into() }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_the_same_in_json_and_in_error_type() {
        for code in [Code::JsonValidation, Code::TagUpdateFailed, Code::HistoryUnavailable] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_typo_is_the_callers_and_a_missing_role_the_operators() {
        assert_eq!(Failure::new(Code::JsonValidation, "").fault, Fault::Caller);
        assert_eq!(Failure::new(Code::AssumeRoleFailed, "").fault, Fault::Operator);
        assert_eq!(Failure::new(Code::AssumeRoleFailed, "").by(Fault::Caller).fault, Fault::Caller);
    }

    #[test]
    fn a_foreign_text_begins_no_line() {
        let foreign = "x\n[ERROR][forged]\r\u{202e}";
        let told = "x [ERROR][forged] \u{fffd}";
        let failure = Failure::new(Code::ServiceReadFailed, foreign).and(foreign);
        assert_eq!(failure.message.matches(told).count(), 2, "{failure:?}");
        assert!(Failure::tags_not_reached(foreign).message.ends_with(told));
        assert_eq!(Failure::new(Code::JsonValidation, "one\ntwo").message.lines().count(), 2);
    }

    #[test]
    fn sentences_are_added_as_sentences() {
        let failure = Failure::new(Code::ServiceReadFailed, "why").and("Nothing was changed.").and("Try again.");
        assert!(failure.message.ends_with("error: why. Nothing was changed. Try again."), "{failure}");
    }
}
