//! The sentences of errors: what failed, where, why, what was and was not changed, and what to do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::call_error::{CallError, Effect};
use domain::ecs::deployment::listed::RolledBack;
use domain::ecs::service::{RecordedState, Service, Snapshot};
use domain::error::{Code, Failure, Fault};
use domain::event::request::UpdateRequest;
use domain::ids::{ChangeId, ServiceKey};
use domain::image::ImageReference;
use domain::ledger::admission::{Admission, LedgerState};
use domain::ledger::head::{Head, LEASE_GRACE, Lease};
use domain::ledger::idempotency::{KeyItem, StoredAnswer};
use domain::ledger::key::Attempt;
use domain::ledger::queue::Waiting;
use domain::ledger::record::Record;
use domain::ledger::write::LedgerError;
use domain::plan::difference::{Difference, DifferenceKind};
use domain::response::Response;
use domain::text::{one_line, rfc3339, shown_text};

use super::change::ChangeError;
use crate::aws::ecs::DescribeError;

const NOTHING_CHANGED: &str = "Nothing was changed in the target account.";

/// The answer, if the head and the key alone decide it.
pub(super) fn without_touching(
    admission: &Admission,
    request: &UpdateRequest,
    position: &LedgerState,
    now: DateTime<Utc>,
) -> Option<Result<Response, ChangeError>> {
    match admission {
        Admission::Begin { .. } | Admission::Continue(_) | Admission::Overtaken { .. } => None,
        Admission::Answered(answer) => Some(replayed(answer, request, position).map_err(ChangeError::Failed)),
        Admission::KeyReused { change_id } => {
            let of = change_id.as_ref().map(|change_id| format!(", for change {change_id}")).unwrap_or_default();
            Some(Err(ChangeError::Failed(Failure::new(
                Code::IdempotencyKeyReused,
                format!(
                    "the idempotency key was already used with a different event{of} of service {}. {NOTHING_CHANGED} \
                     Send this event with a key of its own",
                    request.service_key
                ),
            ))))
        }
        Admission::Busy(lease) => Some(Err(in_progress(request, lease, now).into())),
        Admission::TurnOf(first) => Some(Err(turn_of(request, first, now).into())),
    }
}

pub(super) fn replayed(answer: &str, request: &UpdateRequest, position: &LedgerState) -> Result<Response, Failure> {
    let progress = position.key.as_ref().and_then(KeyItem::progress);
    let change_id = progress.map(|progress| progress.change_id.to_string()).unwrap_or_default();
    match serde_json::from_str(answer) {
        Ok(StoredAnswer::Response(mut response)) => {
            response.body.replayed = true;
            Ok(*response)
        }
        Ok(StoredAnswer::Failure(mut failure)) => {
            failure.change_id = Some(change_id);
            Err(failure)
        }
        // The answer was too long to keep, or is in a form that only a later version knows.
        Ok(StoredAnswer::TooLong) | Err(_) => Err(Failure::new(
            Code::HistoryUnavailable,
            format!(
                "change {change_id} of service {} has ended, and its answer is not kept in a form that can be given again. \
                 {NOTHING_CHANGED} Its record is in the history",
                request.service_key
            ),
        )),
    }
}

/// How long after a refusal a change is best retried: most leases are released within some seconds.
pub(super) const COME_AGAIN: chrono::Duration = chrono::Duration::seconds(5);

fn in_progress(request: &UpdateRequest, lease: &Lease, now: DateTime<Utc>) -> Failure {
    let free = lease.until + LEASE_GRACE;
    let failure = Failure::new(
        Code::ChangeInProgress,
        format!(
            "{} is being changed by change {}, which holds it until {} at the latest. {NOTHING_CHANGED} \
             Come again at {}: most changes have ended by then",
            request.service_key,
            lease.change_id,
            rfc3339(free),
            rfc3339(free.min(now + COME_AGAIN))
        ),
    )
    .retryable(true);
    if lease.outlasts(now) {
        failure.by(Fault::Operator).and(
            "No change holds a service that long: look at the service's head in the state table, and at its records",
        )
    } else {
        failure
    }
}

/// Nobody holds the service, but another caller was refused before.
fn turn_of(request: &UpdateRequest, first: &Waiting, now: DateTime<Utc>) -> Failure {
    Failure::new(
        Code::ChangeInProgress,
        format!(
            "{} is free, and another caller, who was refused while change {} held it, has the next turn: until {} at the latest. \
             {NOTHING_CHANGED} Come again at {}",
            request.service_key,
            first.after,
            rfc3339(first.until),
            rfc3339(first.until.min(now + COME_AGAIN))
        ),
    )
    .retryable(true)
}

/// The ledger could not be written on any attempt. If nobody else wrote to it meanwhile, a retry meets the same problem.
pub(super) fn never_written(request: &UpdateRequest, why: &str) -> Failure {
    Failure::new(
        Code::ChangeInProgress,
        format!(
            "{}: its ledger could not be written on any of several attempts, though nobody else wrote to it ({why}). \
             {NOTHING_CHANGED} Try again; where it stays so, look at the tables",
            request.service_key
        ),
    )
    .retryable(true)
    .by(Fault::Operator)
}

pub(super) fn always_moved(request: &UpdateRequest, head: Option<&Head>, why: &str) -> Failure {
    let by = head.map_or_else(String::new, |head| format!(" is being changed by change {}", head.record.change_id));
    Failure::new(
        Code::ChangeInProgress,
        format!(
            "{}{by}: another writer changed this service's ledger on each of several attempts ({why}). \
             {NOTHING_CHANGED} Come again in {} seconds",
            request.service_key,
            COME_AGAIN.num_seconds()
        ),
    )
    .retryable(true)
}

/// Each time, what was read had grown old while the change waited for its turn.
pub(super) fn always_old(request: &UpdateRequest) -> Failure {
    Failure::new(
        Code::ServiceUpdateFailed,
        format!(
            "{}: each time that the change's turn at ECS had come, what was read of the service before was too old to change it by. \
             {NOTHING_CHANGED} Come again in {} seconds",
            request.service_key,
            COME_AGAIN.num_seconds()
        ),
    )
    .retryable(true)
}

/// Another change began after the event was sent: according to the ledger, or else according to the time `sent_at` in the event. `record`
/// is what is known of that change.
pub(super) fn overtaken(
    request: &UpdateRequest,
    own: Option<&ChangeId>,
    by: &ChangeId,
    record: Option<&Record>,
    sent_at: Option<DateTime<Utc>>,
) -> Failure {
    let who = requested_by(record);
    let at = record.map_or_else(|| rfc3339(by.time()), |record| record.at.clone());
    let own = own.map(|own| format!(" of change {own}")).unwrap_or_default();
    let sent = sent_at.map(|at| format!(", which says that it was sent at {}", rfc3339(at))).unwrap_or_default();
    Failure::new(
        Code::ChangeOvertaken,
        format!(
            "{}: change {by}{who}, began at {at}, after this event{own}{sent}: doing it now would undo that one. This invocation changed \
             nothing in the target account. Send the event under a new key if it is still wanted",
            request.service_key
        ),
    )
}

/// A push would undo a restore. `record` is what is known of the restore.
pub(super) fn held(
    key: &ServiceKey,
    image: &ImageReference,
    tag: &str,
    by: &ChangeId,
    record: Option<&Record>,
) -> Failure {
    Failure::new(
        Code::ChangeOvertaken,
        format!(
            "{key}: what was pushed to {} under {tag} or with this digest was taken back by restore {by}{}, and a push does not undo a \
             restore. {NOTHING_CHANGED} Push a newer image under another tag of the mapping; or lift the hold with an update that names the image, \
             without pushed_tag",
            image.repository(),
            requested_by(record)
        ),
    )
}

/// The last push is repeated, and something else was deployed since.
pub(super) fn pushed_again(image: &ImageReference, tag: &str, by: &ChangeId) -> String {
    format!(
        "the last push of {} was this image under {tag}, too (change {by}), and something else was deployed since: pushed again, it undoes \
         nothing. Push it under another tag of the mapping, or name the image in an update without pushed_tag, to have it back",
        image.repository()
    )
}

/// Who asked for a change, as far as its record says, after the word that tells whether the name is verified. The word comes first, so that
/// no name can pretend to be verified. The lists of the command line do the same.
fn requested_by(record: Option<&Record>) -> String {
    let who = record.and_then(|record| Some((record.requested_by.as_deref()?, record.identity.as_str())));
    who.map(|(who, identity)| format!(", requested by [{identity}] {}", shown_text(who))).unwrap_or_default()
}

/// It could not be noted that the event was received.
pub(super) fn not_noted(error: &LedgerError) -> String {
    format!(
        "That this event came could not be noted ({error}): sent again, it counts as new, whatever began meanwhile."
    )
}

/// `next` is the time at which there is room for another event of the caller.
pub(super) fn caller_throttled(caller: &str, limit: u32, next: DateTime<Utc>) -> Failure {
    Failure::new(
        Code::CallerThrottled,
        format!(
            "{} sent more events than the {limit} in a minute that one caller may. Nothing was looked at, and nothing was changed. Come again at {}; \
             many services are changed by one event with updates",
            shown_text(caller),
            rfc3339(next)
        ),
    )
    .retryable(true)
}

pub(super) fn clock_skewed(request: &UpdateRequest, by: chrono::Duration) -> Failure {
    let (seconds, way) = (
        by.num_milliseconds().unsigned_abs() / 1000,
        if by < chrono::Duration::zero() { "behind" } else { "ahead of" },
    );
    Failure::new(
        Code::ClockSkewed,
        format!(
            "{}: this environment's clock is about {seconds} s {way} that of DynamoDB, and more than 2 s are not safe. \
             {NOTHING_CHANGED} Try again: another environment may answer. Where it stays so, publish the function anew",
            request.service_key
        ),
    )
    .retryable(true)
}

pub(super) fn clock_unknown(request: &UpdateRequest) -> Failure {
    Failure::new(
        Code::HistoryUnavailable,
        format!(
            "each answer of dynamodb:BatchGetItem took more than a second, so that this environment's clock could not be compared with \
             DynamoDB's, for service {}. {NOTHING_CHANGED} Try again",
            request.service_key
        ),
    )
    .retryable(true)
}

/// It is not known whether an attempt began.
pub(super) fn start_unknown(key: &ServiceKey, lease: &Lease, error: &LedgerError) -> Failure {
    let failure = history_unavailable(key, error);
    if error.retryable() {
        failure.and(format!(
            "Whether change {} holds the service is not known: at the latest at {} it does not any more.",
            lease.change_id,
            rfc3339(lease.until + LEASE_GRACE)
        ))
    } else {
        failure
    }
}

/// It is not known whether the account may be changed: in that case, its role is not assumed.
pub(super) fn allowed_accounts_unknown(role_arn: &str, account: &str, why: &str) -> Failure {
    Failure::new(
        Code::AssumeRoleFailed,
        format!(
            "{role_arn} in account {account} was not assumed: which accounts ALLOWED_ACCOUNTS of the updater names could not be read from \
             {why}. {NOTHING_CHANGED} Try again; where it stays so, mend the document or the updater's right to read it"
        ),
    )
    .retryable(true)
}

pub(super) fn account_not_allowed(role_arn: &str, account: &str) -> Failure {
    Failure::new(
        Code::AssumeRoleFailed,
        format!(
            "{role_arn} in account {account} could not be assumed: ALLOWED_ACCOUNTS of the updater does not name the \
             account. {NOTHING_CHANGED} Add it there, or send the event to the updater of that account's organization"
        ),
    )
    .by(Fault::Caller)
}

pub(super) fn assume_role_failed(role_arn: &str, account: &str, error: &CallError) -> Failure {
    let cause = match error.code.as_deref() {
        Some("RegionDisabledException") => {
            "STS is not active in this region for that account: activate it there, or opt in to the region."
        }
        Some("PackedPolicyTooLarge" | "PackedPolicyTooLargeException") => {
            "Session policy and tags together are too large: use shorter cluster and service names."
        }
        Some(_) if error.effect == Effect::Refused => {
            "Likely causes: the role does not exist in that account; its trust policy does not name the updater's role, \
             its organization or its external id; or the updater's own policy does not allow it. \
             Deploy the target role there, or compare its trust policy with the updater's role."
        }
        _ => "STS did not answer: try again.",
    };
    Failure::new(Code::AssumeRoleFailed, format!("{role_arn} in account {account} could not be assumed: {error}"))
        .retryable(error.retryable())
        .and(cause)
        .and(NOTHING_CHANGED)
}

pub(super) fn describe_failed(key: &ServiceKey, error: &DescribeError) -> Failure {
    let place = format!("in account {}, region {}", key.account_id(), key.region());
    let failure = match error {
        DescribeError::ClusterNotFound => {
            Failure::new(Code::ClusterNotFound, format!("{} not found {place}", key.cluster()))
        }
        DescribeError::ServiceNotFound => Failure::new(
            Code::ServiceNotFound,
            format!("{} not found in cluster {} {place}", key.service(), key.cluster()),
        ),
        DescribeError::Call(call) if call.has_code(&["UnrecognizedClientException", "InvalidClientTokenId"]) => {
            Failure::new(
                Code::RegionNotEnabled,
                format!(
                    "ECS in region {} does not know the session of account {}: {call}. Likely the account has not opted \
                     in to the region: enable it there",
                    key.region(),
                    key.account_id()
                ),
            )
        }
        DescribeError::Call(call) => {
            Failure::new(Code::ServiceReadFailed, format!("{call}, for service {key}")).retryable(call.retryable())
        }
    };
    failure.and(NOTHING_CHANGED)
}

/// The ledger could not be read or written, and nothing was changed.
pub(super) fn history_unavailable(key: &ServiceKey, error: &LedgerError) -> Failure {
    let what = format!("the history could not be read or written: {error}, for service {key}");
    Failure::new(Code::HistoryUnavailable, what)
        .retryable(error.retryable())
        .and(NOTHING_CHANGED)
        .and(if error.retryable() { "Try again." } else { "Look at the updater's role and at its tables." })
}

pub(super) fn cannot_resume(change_id: &ChangeId, what: &str) -> Failure {
    Failure::new(
        Code::HistoryUnavailable,
        format!(
            "change {change_id} began and did not end, and cannot be resumed or closed: {what}. This invocation changed \
             nothing. Look at the service's records in the history table"
        ),
    )
}

pub(super) fn too_many_attempts(change_id: &ChangeId) -> Failure {
    Failure::new(
        Code::ServiceUpdateFailed,
        format!(
            "change {change_id} was tried {} times. This invocation changed nothing. Look at what its failures say, then send the \
             event under a new key",
            Attempt::LAST
        ),
    )
}

/// The failure of the last attempt that a change may have: it is final.
pub(super) fn last_attempt(failure: Failure) -> Failure {
    failure
        .retryable(false)
        .and(format!("It was attempt {}, the last one: send the event under a new key.", Attempt::LAST))
}

/// What a change set out to set was meanwhile set by somebody else.
pub(super) fn changed_meanwhile(key: &ServiceKey, members: &[String]) -> Failure {
    Failure::new(
        Code::TaskDefinitionChanged,
        format!(
            "service {key}: since this change began, somebody else set what it sets: {}. It is left as it is. Look at what changed \
             it, then send the event under a new key if it is still wanted",
            members.join("; ")
        ),
    )
}

/// What the change set out to set was too long to record.
pub(super) fn not_recorded(key: &ServiceKey) -> Failure {
    Failure::new(
        Code::TaskDefinitionChanged,
        format!(
            "service {key}: what this change set out to set was too long to record, so that nobody can tell what somebody else set since it \
             began. It is not gone on with. Look at the service, then send the event under a new key if it is still wanted"
        ),
    )
}

/// What the change deployed was ended by ECS or by a person: it is not deployed again.
pub(super) fn rolled_back_before(key: &ServiceKey, ended: &RolledBack) -> Failure {
    let RolledBack { deployment, reason, task_definition } = ended;
    let reason = one_line(reason.as_deref().unwrap_or("ECS gives no reason"));
    let task_definition = task_definition.as_deref().unwrap_or("it");
    Failure::new(
        Code::ServiceUpdateFailed,
        format!(
            "{task_definition} for service {key}: an earlier attempt at this change deployed it, and deployment {deployment} did not last: \
             {reason}. It is not deployed again"
        ),
    )
    .by(Fault::Caller)
}

/// Until when a call whose answer was lost may still act.
pub(super) fn kept_until(until: DateTime<Utc>) -> String {
    format!(
        "the answer of a call was lost, and it may still act: no other change of this service begins before {}",
        rfc3339(until + LEASE_GRACE)
    )
}

/// What `restore: previous` refers to was already undone.
pub(super) fn undone_already(change_id: &ChangeId, by: &ChangeId, before: Option<&ChangeId>) -> String {
    let next = before.map_or_else(
        || "no other change is there to be undone".to_owned(),
        |before| format!("to undo the change before it, name it: {before}"),
    );
    format!("change {change_id}, the last one, was undone already by restore {by}; {next}")
}

/// What `restore` names does not exist.
pub(super) fn nothing_to_restore(key: &ServiceKey, change_id: Option<&ChangeId>) -> Failure {
    cannot_restore(
        key,
        &change_id.map_or_else(
            || "its history has no change that changed something".to_owned(),
            |change_id| format!("its history has no change {change_id}"),
        ),
    )
}

/// What `restore` names cannot be put back.
pub(super) fn cannot_restore(key: &ServiceKey, why: &str) -> Failure {
    Failure::new(
        Code::JsonValidation,
        format!(
            "/restore: for service {key}: {why}. {NOTHING_CHANGED} Ask the history function for the service's changes"
        ),
    )
}

/// What `continue` or `stop` names does not exist.
pub(super) fn no_such_change(key: &ServiceKey, verb: &str, of: &ChangeId) -> Failure {
    Failure::new(
        Code::JsonValidation,
        format!(
            "/{verb}: for service {key}: its history has no change {of}. {NOTHING_CHANGED} Ask the history function for the service's changes"
        ),
    )
}

/// Neither the ledger nor the service names the service deployment of a change's deployment.
pub(super) fn deployment_not_named(key: &ServiceKey, verb: &str, of: &ChangeId, deployment_id: &str) -> Failure {
    Failure::new(
        Code::ServiceReadFailed,
        format!(
            "which service deployment of service {key} is deployment {deployment_id} of change {of} cannot be told: ECS names none for it. \
             {NOTHING_CHANGED} Send the event again, since ECS is eventually consistent; if that stays so, {verb} it in the console of ECS"
        ),
    )
    .retryable(true)
}

/// What was done to a deployment.
pub(super) fn acted(change: &Difference, arn: &str) -> String {
    match change.what {
        DifferenceKind::Hook => format!("{arn} was continued at pause hook {}", change.path),
        _ => format!("{arn} was stopped: ECS rolls it back"),
    }
}

/// The answer of a change whose function ended before it did, once another change has closed it.
pub(super) fn abandoned(request: &UpdateRequest, lease: &Lease, after: &RecordedState) -> Failure {
    Failure::new(
        Code::ServiceUpdateFailed,
        format!(
            "for service {}: change {} began, its function ended before it did, and another change came after it. \
             When that one began, the service ran {}. This change is not done again: send its event with a new key if \
             it is still wanted",
            request.service_key,
            lease.change_id,
            after.state.task_definition_arn.as_deref().unwrap_or("no task definition of its own")
        ),
    )
    .by(Fault::Caller)
}

pub(super) fn rejected(code: Code, what: &str, error: &CallError) -> Failure {
    Failure::new(code, format!("{what}: {error}")).retryable(error.retryable()).by(fault(error))
}

/// ECS validates the values of an event: a refusal is the caller's fault, unless a permission or a quota is missing.
fn fault(error: &CallError) -> Fault {
    let code = error.code.as_deref().unwrap_or_default();
    let lacks =
        ["AccessDenied", "LimitExceeded", "ExpiredToken", "UnrecognizedClient"].iter().any(|c| code.contains(c))
            || error.message.contains("not authorized");
    if error.effect == Effect::Refused && !lacks { Fault::Caller } else { Fault::Operator }
}

pub(super) fn unknown_effect(failure: Failure, reading: &CallError) -> Failure {
    failure
        .retryable(true)
        .and(format!("Whether it was done is not known, since reading it back failed too: {reading}."))
        .and("Look at the service before trying again.")
}

pub(super) fn no_time(code: Code, left: Duration) -> Failure {
    Failure::new(
        code,
        format!(
            "since only {:.1} s were left before the invocation or its lease ended: give the function more time",
            left.as_secs_f64()
        ),
    )
    .retryable(true)
}

pub(super) fn tags_failed(key: &ServiceKey, error: &CallError) -> Failure {
    match error.effect {
        Effect::Refused | Effect::Throttled => rejected(Code::TagUpdateFailed, &format!("of service {key}"), error),
        Effect::NotSent | Effect::Unknown => Failure::tags_not_reached(format!("of service {key}: {error}")),
    }
}

/// What a change had already done when it failed.
pub(super) fn done_so_far(done: &[String], is_known: bool) -> String {
    if done.is_empty() {
        return if is_known { NOTHING_CHANGED } else { "The steps before it changed nothing." }.to_owned();
    }
    format!("Already done, and still so: {}.", done.join("; "))
}

/// What an earlier invocation of the same change did, judged by what the service was before the change and is now.
pub(super) fn done_earlier(before: &RecordedState, now: &RecordedState) -> Vec<String> {
    let mut done = Vec::new();
    if before.state.task_definition_arn != now.state.task_definition_arn {
        let arn = now.state.task_definition_arn.as_deref().unwrap_or("no task definition of its own");
        done.push(format!("since this change began, the service was updated and runs {arn}"));
    } else if before.deployment_id != now.deployment_id || before.service != now.service {
        done.push("since this change began, the service was updated".to_owned());
    }
    if before.state.tags != now.state.tags {
        done.push("since this change began, its tags were changed".to_owned());
    }
    done
}

/// A failure that occurred before a change that had begun in an earlier invocation could continue.
pub(super) fn of_begun(mut failure: Failure, admission: &Admission) -> Failure {
    if let Admission::Continue(progress) = admission {
        let instead = format!(
            "This invocation changed nothing; change {} of this key had begun before it and is still open.",
            progress.change_id
        );
        failure.message = failure.message.replace(NOTHING_CHANGED, &instead);
        failure.change_id = Some(progress.change_id.to_string());
    }
    failure
}

pub(super) fn service_updated(after: &Snapshot, before: &Service) -> String {
    let now = &after.service;
    let deployment = match now.deployment_id() {
        Some(id) if before.deployment_id() != Some(id) => format!(", deployment {id}"),
        _ => String::new(),
    };
    format!("the service was updated and runs {}{deployment}", now.task_definition_arn().unwrap_or("as asked"))
}

/// AWS accepted the change, but the ledger does not say so yet.
pub(super) fn result_not_recorded(error: &LedgerError, after: &RecordedState) -> Failure {
    Failure::new(
        Code::HistoryUnavailable,
        format!(
            "the service WAS changed and runs {}, but its result could not be recorded: {error}",
            after.state.task_definition_arn.as_deref().unwrap_or("as asked")
        ),
    )
    .retryable(true)
    .and("Its STARTED record stands. Send the same event with the same idempotency key: it completes the record.")
}

pub(super) fn failure_not_recorded(error: &LedgerError) -> String {
    format!(
        "This failure could not be recorded ({error}): the history shows the change as begun and not ended. The same event with the same key \
         goes on with it"
    )
}

/// Lists at most ten names.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    match names.get(..10) {
        Some(first) if names.len() > 10 => format!("{} and {} more", first.join(", "), names.len() - 10),
        _ => names.join(", "),
    }
}
