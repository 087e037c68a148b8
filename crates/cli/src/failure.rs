//! What went wrong, in sentences, and the exit code that says it to a script.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::function::Function;

/// How the command ended. `arguments::EXIT_CODES` describes the codes for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or there was nothing to do.
    Done = 0,
    /// The change, or the request, failed.
    Failed = 1,
    /// The command or the event is wrong. (clap uses this code, too.)
    Usage = 2,
    /// The function could not be invoked.
    NotAsked = 3,
    /// A ledger is broken.
    Broken = 4,
    /// It failed, and the same command may succeed later.
    Later = 5,
    /// `plan --exit-code` found differences.
    Differs = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure, as it is shown to a person.
#[derive(Debug, Clone)]
pub(crate) struct CommandFailure {
    /// The exit code of the process.
    pub exit: Exit,
    /// The code: that of the function (`ServiceNotFound`) or of AWS (`AccessDeniedException`).
    pub code: Option<String>,
    /// Where it happened, such as the service or the account.
    pub place: Option<String>,
    /// What happened.
    pub message: String,
    /// What to do, in one or two sentences each.
    pub advice: Vec<String>,
}

impl CommandFailure {
    /// A failure without a code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, place: None, message: message.into(), advice: Vec::new() }
    }

    /// Sets its code.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Sets the place where it happened.
    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Adds advice.
    pub(crate) fn advise(mut self, sentence: impl Into<String>) -> Self {
        self.advice.push(sentence.into());
        self
    }

    /// Whether a change may have begun nevertheless: the updater broke, or its answer is not known.
    pub(crate) fn may_have_begun(&self) -> bool {
        match self.exit {
            Exit::Later => true,
            Exit::Failed => self.code.as_deref().is_none_or(|code| !TOLD.contains(&code)),
            _ => false,
        }
    }

    /// The failure as JSON, for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "code": self.code, "place": self.place, "message": self.message, "advice": self.advice,
            "retryable": self.exit == Exit::Later, "exit_code": self.exit as u8,
        }})
    }
}

/// Failures of a change that say themselves what was done and what was not.
const TOLD: [&str; 16] = [
    "ClusterNotFound",
    "ServiceNotFound",
    "ServiceNotActive",
    "ServiceReadFailed",
    "ContainerNotFound",
    "AmbiguousContainer",
    "ImageNotFound",
    "TaskDefinitionRejected",
    "ServiceUpdateFailed",
    "TagUpdateFailed",
    "AssumeRoleFailed",
    "UnsupportedDeploymentController",
    "RegionNotEnabled",
    "TaskDefinitionChanged",
    "RestoreConflict",
    "IdempotencyKeyReused",
];

/// Errors of AWS that persist however often the call is sent again.
const PERMANENT: [&str; 3] = ["AccessDenied", "ResourceNotFound", "ValidationException"];

/// A failure that a function reported: `errorType` and `errorMessage`.
pub(crate) fn of_function(function: Function, code: &str, message: &str) -> CommandFailure {
    let (exit, advice) = match function {
        Function::Updater => of_updater(code),
        Function::History => of_history(code, message),
    };
    let failure = CommandFailure::new(exit, message).code(code);
    if advice.is_empty() { failure } else { failure.advise(advice) }
}

fn of_history(code: &str, message: &str) -> (Exit, &'static str) {
    match code {
        "JsonValidation" => (Exit::Usage, "Fix the query; the faults are named above."),
        "HistoryUnavailable" if PERMANENT.iter().any(|code| message.contains(code)) => (
            Exit::Failed,
            "Asking again does not help: look at the history function's role, its tables and its log group in the hub account.",
        ),
        "HistoryUnavailable" => (
            Exit::Later,
            "Ask again in a moment; where that does not help, look at the history function's role and its log group.",
        ),
        "Sandbox.Timedout" => (
            Exit::Later,
            "Ask for less: one service, fewer days (--from, --to), a lower --limit. Its log group is in the hub account.",
        ),
        _ => (Exit::Failed, "The history function itself broke: look at its log group in the hub account."),
    }
}

fn of_updater(code: &str) -> (Exit, &'static str) {
    match code {
        "JsonValidation" => (Exit::Usage, "Fix the command or the event; the faults are named above."),
        "InvalidImage" => (Exit::Usage, "Fix the image: registry/repository:tag, or …@sha256:…"),
        "ClusterNotFound" | "ServiceNotFound" => {
            (Exit::Failed, "Check account, region and names: ACCOUNT/REGION/CLUSTER/SERVICE.")
        }
        "ServiceReadFailed" => {
            (Exit::Failed, "Look for the missing permission in the message; where ECS was away, try again.")
        }
        "ContainerNotFound" | "AmbiguousContainer" => {
            (Exit::Failed, "Say which container gets the image: --image CONTAINER=IMAGE.")
        }
        "ImageNotFound" => (Exit::Failed, "Push the image first, or mend its name."),
        "RegistryUnavailable" => {
            (Exit::Failed, "Where the registry was only busy or away, run the command again; else see docs/IMAGES.md.")
        }
        "TaskDefinitionRejected" | "ServiceUpdateFailed" => (Exit::Failed, "ECS's reason stands in the message."),
        "TagUpdateFailed" => (Exit::Failed, "Once that is mended, send the same change again."),
        "AssumeRoleFailed" => (
            Exit::Failed,
            "Deploy the target role in that account; compare its trust policy, organization and external id with the hub's.",
        ),
        "UnsupportedDeploymentController" => (Exit::Failed, "Deploy that through CodeDeploy, or as a new task set."),
        "ServiceNotActive" => (Exit::Failed, "Create the service anew, or name another one."),
        "RegionNotEnabled" => (Exit::Failed, "Enable the region in that account."),
        "TaskDefinitionChanged" => {
            (Exit::Failed, "Someone else changed it first: look at `ecs-updater history` first.")
        }
        "RestoreConflict" => (
            Exit::Failed,
            "Look at `ecs-updater history`: restore the later change first, or everything with --exact (with --dry-run first).",
        ),
        "IdempotencyKeyReused" => (Exit::Failed, "Use another --idempotency-key for another change."),
        "ChangeOvertaken" => (
            Exit::Failed,
            "Look at that change with `ecs-updater history`; to change the service all the same, run the command again.",
        ),
        "CallerThrottled" => (Exit::Later, "Run the command again in a minute."),
        "ClockSkewed" => (Exit::Later, "Run the command again: another environment of the function may answer."),
        "ChangeInProgress" => {
            (Exit::Later, "Run the command again when the message says: the other change ends by itself.")
        }
        "HistoryUnavailable" => (
            Exit::Later,
            "Run the command again with the same --idempotency-key; look at the updater's role and tables.",
        ),
        "Sandbox.Timedout" => (
            Exit::Later,
            "Nobody knows how far it got: the history tells. Run the command again with the same --idempotency-key, which completes it.",
        ),
        _ if code.starts_with("Runtime.") || code.starts_with("Sandbox.") || code == "Unhandled" => {
            (Exit::Failed, "The function itself broke: look at its log group in the hub account.")
        }
        _ => (Exit::Failed, ""),
    }
}
