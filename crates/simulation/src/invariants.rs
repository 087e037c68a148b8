//! What must be true, whatever happens: one function per invariant. They judge by what really happened ([`crate::truth`]) and by what is in
//! the tables, not by what the product says.
//!
//! Effects that come after the lengthened lease of their sender has ended are "what is left" (docs/RELIABILITY.md): no invariant counts
//! them, but the report does.

use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

use aws_stub::sts::form;
use aws_stub::{SECRET_MARKER, Site, shapes};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aws::{running_image, site_of};
use crate::counts::Counts;
use crate::environment;
use crate::fault::{Fault, PASSING, is_read};
use crate::lambda::{self, Ended};
use crate::network::Call;
use crate::plan::Deviation;
use crate::random::Stream;
use crate::tables::Record;
use crate::truth::{Deployment, End, Intent, Mutation, Told, Truth, UnderWay};
use crate::world::{Purpose, World, clock, image};

/// Statuses of answers and kinds of records that say how a deployment ended.
const OUTCOMES: [&str; 6] =
    ["COMPLETED", "DEPLOYMENT_FAILED", "ROLLED_BACK", "ROLLBACK_FAILED", "STOPPED", "SUPERSEDED"];
/// Failures of changes that began. They are final unless they are retryable.
pub const FINAL: [&str; 3] = ["ServiceUpdateFailed", "TaskDefinitionRejected", "TagUpdateFailed"];
/// How long an invocation may hold a service before it begins to change it.
const IDLE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);
/// Within this time after its beginning no change has a reason to give up recording its result: an invocation may take
/// 900 s.
const LONG: chrono::TimeDelta = chrono::TimeDelta::seconds(600);

// ---- when a call is sent

/// A call is sent.
pub fn at_sending(world: &World, call: &Call, will_be_done: bool, is_late: bool) {
    nothing_is_asked_again_at_once(world, call);
    a_request_is_one_that_aws_takes(world, call);
    if call.service != "ecs" || is_read(&call.action) {
        return;
    }
    let Some(site) = site_of(world, call) else { return };
    no_call_is_sent_after_its_lease_has_ended(world, call, &site);
    nobody_holds_a_service_idly(world, call, &site);
    let mut truth = world.truth.borrow_mut();
    let held = truth.held.get_mut(&site.key()).filter(|held| held.by == call.invocation);
    let lease_until = held.map(|held| {
        held.is_used = true;
        held.until
    });
    if will_be_done {
        let (invocation, action) = (call.invocation.clone(), call.action.clone());
        let sent = world.now();
        truth.under_way.insert(call.number, UnderWay { invocation, site, action, is_late, sent, lease_until });
    }
}

/// By AWS's own models.
fn a_request_is_one_that_aws_takes(world: &World, call: &Call) {
    let faults = match call.service {
        "ecs" | "dynamodb" => shapes::faults_of_body(call.service, &call.action, call.body.as_bytes()),
        "sts" => shapes::faults_of_form("sts", &form(call.body.as_bytes())),
        _ => return,
    };
    for fault in faults {
        world.violated("a request is one that AWS takes", &fault);
    }
}

/// What DynamoDB had no room for, or what conflicted with another write, is sent again only after a pause. An environment that stood still
/// sees the answer, and that the time for it is over, at the same moment, long after the answer was sent.
fn nothing_is_asked_again_at_once(world: &World, call: &Call) {
    if stood_still(world, &call.invocation) {
        return;
    }
    let now = Instant::now();
    let refused = world.refused.borrow();
    for asked in Asked::of(call).0 {
        if refused.get(&asked) == Some(&now) {
            let (invocation, service) = asked;
            world.violated(
                "nothing is asked again at once",
                &format_args!("{invocation} sends {} about {service}", call.action),
            );
        }
    }
}

/// What a call requests from DynamoDB, as pairs of an invocation and a service.
pub struct Asked(Vec<(String, String)>);

impl Asked {
    /// The pairs of a call; none if it requests something else. A sweep, which queries several deployments of one service at the same time,
    /// has none either.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        if call.service != "dynamodb" || call.invocation.contains("sweep") {
            return Self(Vec::new());
        }
        let names = call.body.split("service#").skip(1).filter_map(|rest| rest.split('"').next());
        let mut asked: Vec<(String, String)> = names.map(|name| (call.invocation.clone(), name.to_owned())).collect();
        asked.dedup();
        Self(asked)
    }

    /// Notes an answer that says to try again.
    pub fn answered(self, status: u16, body: &str) {
        let is_refused = status == 400 && body.contains("TransactionCanceledException");
        let is_unprocessed = status == 200 && body.contains("\"UnprocessedKeys\":{\"");
        if is_refused || is_unprocessed {
            let now = Instant::now();
            crate::world::world().refused.borrow_mut().extend(self.0.into_iter().map(|asked| (asked, now)));
        }
    }
}

/// The end of the lease is judged by the clock of the sender.
fn no_call_is_sent_after_its_lease_has_ended(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    if let Some(held) = truth.held.get(&site.key()).filter(|held| held.by == call.invocation && held.until < clock()) {
        let over = (clock() - held.until).as_seconds_f64();
        let Call { action, invocation, .. } = call;
        world.violated(
            "no call is sent after its lease has ended",
            &format_args!("{invocation} sends {action} for {}, its lease has been over for {over:.3} s", site.service),
        );
    }
}

/// A lease is taken when the turn has come, and not before, since others wait for it.
fn nobody_holds_a_service_idly(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    let Some(held) = truth.held.get(&site.key()).filter(|held| held.by == call.invocation && !held.is_used) else {
        return;
    };
    let waited = world.now() - held.since;
    // The answer to the writing of its STARTED may have been lost.
    let is_hampered = world.purposes.borrow().get(&call.invocation).is_none_or(Purpose::is_hampered);
    if waited > IDLE && held.faults == 0 && !is_hampered && !stood_still(world, &call.invocation) {
        let waited = waited.as_seconds_f64();
        let Call { action, invocation, .. } = call;
        world.violated(
            "nobody holds a service idly",
            &format_args!("{invocation} has held {} for {waited:.3} s before {action}", site.service),
        );
    }
}

// ---- when a call is done

/// A mutating call is about to be done.
pub fn at_acting(world: &World, call: &Call, site: &Site, is_late: bool) {
    if is_left(world, call, is_late) {
        world.note(&call.invocation, &format_args!("{} is done later than its lease lasted", call.action));
        Counts::one(&mut world.counts.borrow_mut().troubles, "an effect beyond its lease (what is left)");
        return;
    }
    // A revision that is registered late changes no service: it is a spare one, which the next look finds.
    if is_late && call.action == "RegisterTaskDefinition" {
        return;
    }
    who_acts_holds_the_lease(world, call, site);
    if !is_late {
        started_stands_and_no_result(world, call, site);
    }
    two_changes_are_never_under_way_at_once(world, call, site);
    if call.action == "RegisterTaskDefinition" {
        return;
    }
    no_retry_undoes_a_later_change(world, call, site);
    if call.action == "UpdateService" {
        no_continuation_overwrites_what_somebody_else_deployed(world, call, site);
        nothing_that_was_rolled_back_is_deployed_again(world, call, site);
    }
}

/// Whether a call is done after the lease of its sender has ended: this is "what is left".
fn is_left(world: &World, call: &Call, is_late: bool) -> bool {
    let truth = world.truth.borrow();
    let until = truth.under_way.get(&call.number).and_then(|entry| entry.lease_until);
    is_late && until.is_none_or(|until| until < world.now())
}

fn who_acts_holds_the_lease(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    let held = truth.held.get(&site.key());
    if held.is_some_and(|held| held.by == call.invocation) {
        return;
    }
    let holder = held.map_or_else(|| "nobody".to_owned(), |held| format!("{} (change {})", held.by, held.change_id));
    let Call { action, invocation, .. } = call;
    world.violated(
        "who acts holds the lease",
        &format_args!("{action} of {invocation} is done at {}, which {holder} holds", site.service),
    );
}

fn started_stands_and_no_result(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    let Some(held) = truth.held.get(&site.key()).filter(|held| held.by == call.invocation) else { return };
    let started = world.tables.newest(&site.key(), &held.change_id, 0);
    let result = world.tables.newest(&site.key(), &held.change_id, 1);
    let Call { action, invocation, .. } = call;
    match (started, result) {
        (None, _) => world.violated(
            "STARTED stands before anything is done",
            &format_args!("{action} of {invocation} at {}, change {} has none", site.service, held.change_id),
        ),
        (Some(started), Some(result)) if result.key().attempt >= started.key().attempt => world.violated(
            "nothing is done behind a result",
            &format_args!("{action} of {invocation} at {}, behind {}", site.service, result.kind()),
        ),
        _ => {}
    }
}

fn two_changes_are_never_under_way_at_once(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    let is_left = |entry: &UnderWay| entry.is_late && entry.lease_until.is_none_or(|until| until < world.now());
    let counts = |entry: &UnderWay| !(is_left(entry) || entry.is_late && entry.action == "RegisterTaskDefinition");
    let other = truth
        .under_way
        .values()
        .find(|entry| entry.site == *site && entry.invocation != call.invocation && counts(entry));
    if let Some(other) = other {
        world.violated(
            "two changes are never under way at once",
            &format_args!(
                "{} of {} and {} of {} at {}",
                call.action, call.invocation, other.action, other.invocation, site.service
            ),
        );
    }
}

fn intent(world: &World, call: &Call, site: &Site) -> Option<Intent> {
    Some(world.purposes.borrow().get(&call.invocation)?.intent(site))
}

/// A change counts as later if it began after this one's event was first seen. A change whose event had come before does not count as
/// later: it had the next turn.
fn no_retry_undoes_a_later_change(world: &World, call: &Call, site: &Site) {
    let Some(own) = intent(world, call, site) else { return };
    let truth = world.truth.borrow();
    let Some(seen) = truth.first_seen.get(&own) else { return };
    let is_later = |mutation: &&Mutation| {
        let Some(other) = mutation.intent.as_ref().filter(|other| **other != own) else { return false };
        let began = truth.began.iter().find(|began| began.intent.as_ref() == Some(other));
        let went_first = truth.came.get(other).is_some_and(|came| came < seen);
        began.is_some_and(|began| began.at > *seen) && !went_first
    };
    let mut done = truth
        .mutations
        .iter()
        .filter(|mutation| mutation.site == *site && mutation.is_done && mutation.action != "RegisterTaskDefinition");
    if let Some(later) = done.rfind(is_later) {
        world.violated(
            "no retry undoes a later change",
            &format_args!(
                "{} of {} at {}, behind {} of {}",
                call.action, call.invocation, site.service, later.action, later.invocation
            ),
        );
    }
}

/// When the invocation had last read the service before it sent the call; none if it has read it since. In that case the call acts late,
/// and nobody can take it back.
fn looked_before(world: &World, call: &Call, site: &Site) -> Option<DateTime<Utc>> {
    let looked = world.purposes.borrow().get(&call.invocation).and_then(|purpose| purpose.looked.get(site).copied())?;
    let sent = world.truth.borrow().under_way.get(&call.number).map_or_else(|| world.now(), |entry| entry.sent);
    Some(looked).filter(|looked| *looked <= sent)
}

/// This holds if the continuation could see the other deployment before: nothing helps between the last look and the call. What ECS took
/// back is not there any more ([`is_gone`]). A call that sets neither a revision nor a deployment, such as one that sets a count, leaves the
/// deployment as it is.
fn no_continuation_overwrites_what_somebody_else_deployed(world: &World, call: &Call, site: &Site) {
    let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
    if input["taskDefinition"].is_null() && input["forceNewDeployment"] != true {
        return;
    }
    let Some(own) = intent(world, call, site) else { return };
    let looked = looked_before(world, call, site);
    let truth = world.truth.borrow();
    let mut began = truth.began.iter().filter(|change| change.intent.as_ref() == Some(&own));
    let (Some(first), Some(_)) = (began.next(), began.next()) else { return };
    let foreign = truth.mutations.iter().find(|mutation| {
        let could_be_seen = looked.is_some_and(|looked| mutation.at < looked);
        mutation.intent.is_none()
            && mutation.site == *site
            && mutation.action == "UpdateService"
            && mutation.is_done
            && mutation.at > first.at
            && could_be_seen
            && !mutation
                .started
                .as_ref()
                .and_then(|id| truth.deployments.get(id))
                .is_some_and(|deployment| is_gone(&truth, deployment, looked))
    });
    if let Some(foreign) = foreign {
        let image = foreign.image.clone().unwrap_or_default();
        world.violated(
            "no continuation overwrites what somebody else deployed",
            &format_args!("{} of {} at {}, over {image}", call.action, call.invocation, site.service),
        );
    }
}

/// Whether nothing of a deployment is left in its service: ECS took it back, or a later one that had taken its place before it completed. A
/// rollback goes back to the last deployment that completed.
fn is_gone(truth: &Truth, deployment: &Deployment, looked: Option<DateTime<Utc>>) -> bool {
    let was_overtaken = matches!(deployment.end, End::Superseded | End::SupersededRollingBack);
    let is_later = |other: &Deployment| {
        other.site == deployment.site && other.began > deployment.began && looked.is_some_and(|at| other.began < at)
    };
    let mut others = truth.deployments.values();
    deployment.end.is_taken_back()
        || (was_overtaken && others.any(|other| is_later(other) && other.end.is_taken_back()))
}

fn nothing_that_was_rolled_back_is_deployed_again(world: &World, call: &Call, site: &Site) {
    let Some(own) = intent(world, call, site) else { return };
    let looked = looked_before(world, call, site);
    let truth = world.truth.borrow();
    let ended = truth.deployments.iter().find(|(_, deployment)| {
        let could_be_seen = deployment.ended.zip(looked).is_some_and(|(ended, looked)| ended < looked);
        let ended_ill = matches!(
            deployment.end,
            End::Failed | End::RollingBack | End::RolledBack | End::RollbackFailed | End::Stopped
        );
        deployment.by.as_ref() == Some(&own) && ended_ill && could_be_seen && !deployment.is_late
    });
    if let Some((id, ended)) = ended {
        world.violated(
            "nothing that was rolled back is deployed again",
            &format_args!("{} of {} at {}: {id} is {:?}", call.action, call.invocation, site.service, ended.end),
        );
    }
}

/// A mutating call was done.
pub fn after_acting(world: &World, done: &Mutation) {
    if done.is_done && !done.is_late {
        one_key_starts_one_deployment(world, done);
        one_key_sets_one_version(world, done);
        one_key_registers_a_revision_once(world, done);
    }
}

/// What the same key did before by the same action, in time.
fn earlier<'a>(truth: &'a Truth, done: &'a Mutation) -> impl Iterator<Item = &'a Mutation> {
    let same = move |mutation: &&Mutation| {
        mutation.intent == done.intent && mutation.intent.is_some() && mutation.action == done.action
    };
    truth.mutations.iter().filter(same).filter(|mutation| mutation.is_done && !mutation.is_late)
}

fn one_key_starts_one_deployment(world: &World, done: &Mutation) {
    let truth = world.truth.borrow();
    let Some(started) = &done.started else { return };
    if let Some(first) = earlier(&truth, done).find_map(|mutation| mutation.started.as_ref()) {
        world.violated(
            "one key starts one deployment",
            &format_args!("{} starts {started} at {}, after {first}", done.invocation, done.site.service),
        );
    }
}

fn one_key_sets_one_version(world: &World, done: &Mutation) {
    let truth = world.truth.borrow();
    if done.action != "UpdateService" || done.started.is_none() {
        return;
    }
    if let Some(first) =
        earlier(&truth, done).find(|mutation| mutation.started.is_some() && mutation.image != done.image)
    {
        let shown = |image: &Option<String>| image.clone().unwrap_or_default();
        world.violated(
            "one key sets one version",
            &format_args!(
                "{} sets {} at {}, after {}",
                done.invocation,
                shown(&done.image),
                done.site.service,
                shown(&first.image)
            ),
        );
    }
}

fn one_key_registers_a_revision_once(world: &World, done: &Mutation) {
    let truth = world.truth.borrow();
    if done.action != "RegisterTaskDefinition" {
        return;
    }
    // A revision that is not the newest of its family any more is not found again: it is a spare one.
    let is_newest = |first: &Mutation| {
        let mut between =
            truth.mutations.iter().filter(|mutation| mutation.site == done.site && mutation.at > first.at);
        !between.any(|mutation| mutation.intent != done.intent)
    };
    if earlier(&truth, done).any(|mutation| mutation.image == done.image && is_newest(mutation)) {
        world.violated(
            "one key registers a revision once",
            &format_args!("{} registers {} again", done.invocation, done.image.clone().unwrap_or_default()),
        );
    }
}

// ---- when the updater answers

/// The updater answered.
pub fn at_answering(world: &World, all: &[Told]) {
    for told in all {
        what_is_told_of_a_deployment_is_what_became_of_it(world, told);
        after_is_what_was_done(world, told);
        nobody_is_refused_for_his_own_work(world, told);
        nobody_gives_up_before_his_own_lease(world, told);
        nobody_leaves_his_lease_behind(world, told);
        nobody_fails_for_want_of_room_once(world, told);
        what_passes_is_told_so(world, told);
        what_failed_for_good_is_kept_under_its_key(world, told);
        a_result_is_tried_as_long_as_there_is_time(world, told);
    }
}

/// An invocation is refused neither because of the task definition that it expects, nor because of what it set itself. What it could not
/// see yet is not counted.
fn nobody_is_refused_for_his_own_work(world: &World, told: &Told) {
    if told.code.as_deref() != Some("TaskDefinitionChanged") {
        return;
    }
    let looked = world
        .purposes
        .borrow()
        .get(&told.invocation)
        .and_then(|purpose| purpose.looked.get(&told.intent.site).copied());
    let truth = world.truth.borrow();
    let mut deployed =
        truth.mutations.iter().filter(|mutation| mutation.site == told.intent.site && mutation.started.is_some());
    let Some(last) = deployed.next_back() else { return };
    let end = last.started.as_ref().and_then(|id| truth.deployments.get(id)).map(|deployment| &deployment.end);
    let lasts = matches!(end, Some(End::Open | End::Completed));
    let could_be_seen = looked.is_some_and(|looked| last.at < looked);
    let is_there = lasts && !truth.is_gone(&told.intent.site, last.at);
    if last.intent.as_ref() == Some(&told.intent) && !last.is_late && is_there && could_be_seen {
        world.violated(
            "nobody is refused for his own work",
            &format_args!("{} at {}, which {} deployed", told.invocation, told.intent.site.service, last.invocation),
        );
    }
}

/// The lease that keeps an invocation out is not its own.
fn nobody_gives_up_before_his_own_lease(world: &World, told: &Told) {
    let truth = world.truth.borrow();
    let held = truth.held.get(&told.intent.site.key()).filter(|held| held.by == told.invocation);
    if let Some(held) = held.filter(|_| told.code.as_deref() == Some("ChangeInProgress")) {
        world.violated(
            "nobody gives up before his own lease",
            &format_args!("{} at {}, of change {}", told.invocation, told.intent.site.service, held.change_id),
        );
    }
}

/// If none of an invocation's calls met a fault, none of them can take effect any more.
fn nobody_leaves_his_lease_behind(world: &World, told: &Told) {
    let is_hampered = world.purposes.borrow().get(&told.invocation).is_none_or(Purpose::is_hampered);
    let truth = world.truth.borrow();
    let held = truth.held.get(&told.intent.site.key()).filter(|held| held.by == told.invocation);
    if held.is_some_and(|held| held.faults == 0) && !is_hampered {
        world.violated(
            "nobody leaves his lease behind",
            &format_args!("{} has answered, and holds {}", told.invocation, told.intent.site.service),
        );
    }
}

/// A single refusal that says to try again is no reason to fail.
fn nobody_fails_for_want_of_room_once(world: &World, told: &Told) {
    const PASSING: [Fault; 5] =
        [Fault::Conflict, Fault::CancelledThrottling, Fault::CancelledThroughput, Fault::Throttled, Fault::Unprocessed];
    let purposes = world.purposes.borrow();
    let met = purposes.get(&told.invocation).map_or(&[][..], |purpose| &purpose.hampered_by);
    let stood_still = stood_still(world, &told.invocation);
    if let ([fault], Some("HistoryUnavailable"), false) = (met, told.code.as_deref(), stood_still)
        && PASSING.contains(fault)
    {
        world.violated(
            "nobody fails for want of room once",
            &format_args!("{} at {}, of {}", told.invocation, told.intent.site.service, fault.name()),
        );
    }
}

fn stood_still(world: &World, invocation: &str) -> bool {
    matches!(world.met.borrow().get(&format!("invocation {invocation}")), Some(Deviation::Freeze(..)))
}

/// A few seconds of the fifteen minutes are not enough: the service was changed, and nobody would know.
fn a_result_is_tried_as_long_as_there_is_time(world: &World, told: &Told) {
    let purposes = world.purposes.borrow();
    let met = purposes.get(&told.invocation).map_or(&[][..], |purpose| &purpose.hampered_by);
    if told.code.as_deref() != Some("HistoryUnavailable") || met.contains(&Fault::Denied) {
        return;
    }
    let truth = world.truth.borrow();
    let held = truth.held.get(&told.intent.site.key()).filter(|held| held.by == told.invocation && held.is_used);
    let Some(held) = held.filter(|_| !stood_still(world, &told.invocation)) else { return };
    let tried = world.now() - held.since;
    if tried < LONG {
        let (invocation, service) = (&told.invocation, &told.intent.site.service);
        world.violated(
            "a result is tried as long as there is time",
            &format_args!("{invocation} gives up at {service}, {:.1} s after it began", tried.as_seconds_f64()),
        );
    }
}

/// A temporary refusal by ECS is worth another attempt, and the caller is told so.
fn what_passes_is_told_so(world: &World, told: &Told) {
    let message = told.body.pointer("/error/message").or(told.body.get("message")).and_then(Value::as_str);
    if told.code.is_some() && !told.is_retryable && message.is_some_and(|text| text.contains(PASSING)) {
        world.violated(
            "what passes is told so",
            &format_args!("{} at {} fails for good", told.invocation, told.intent.site.service),
        );
    }
}

/// This holds if the failure's record is in the place of its attempt, and no later attempt began.
fn what_failed_for_good_is_kept_under_its_key(world: &World, told: &Told) {
    let is_final = told.code.as_deref().is_some_and(|code| FINAL.contains(&code)) && !told.is_retryable;
    let site = &told.intent.site;
    let truth = world.truth.borrow();
    let own = truth.began.iter().rfind(|change| change.site == *site && change.invocation == told.invocation);
    let Some(own) = own.filter(|_| is_final) else { return };
    if truth
        .began
        .iter()
        .rfind(|change| change.change_id == own.change_id)
        .is_none_or(|change| change.invocation != own.invocation)
    {
        return;
    }
    let request_id = world.sent.borrow().get(&told.invocation).map(|(id, _)| id.clone()).unwrap_or_default();
    let result = world.tables.newest(&site.key(), &own.change_id, 1);
    let is_its = |record: &Record| record.kind() == "FAILED" && record.text("request_id") == request_id;
    if result.is_some_and(|record| is_its(&record)) && !world.tables.is_answered(&own.change_id) {
        world.violated(
            "what failed for good is kept under its key",
            &format_args!("{} at {}, change {}", told.invocation, site.service, own.change_id),
        );
    }
}

fn what_is_told_of_a_deployment_is_what_became_of_it(world: &World, told: &Told) {
    let status = told.body["status"].as_str().unwrap_or_default();
    if !OUTCOMES.contains(&status) {
        return;
    }
    let id = told.body["deployment_id"].as_str().unwrap_or_default();
    let truth = world.truth.borrow();
    let is_true = truth.deployments.get(id).is_some_and(|deployment| deployment.end.outcomes().contains(&status));
    if !is_true {
        let end = truth.deployments.get(id).map(|deployment| &deployment.end);
        world.violated(
            "what is told of a deployment is what became of it",
            &format_args!("{} is told {status} of {id}, which is {end:?}", told.invocation),
        );
    }
}

fn after_is_what_was_done(world: &World, told: &Told) {
    if told.body["status"] != "APPLIED" || told.body["replayed"] == true {
        return;
    }
    let truth = world.truth.borrow();
    let own = |mutation: &&Mutation| mutation.invocation == told.invocation && mutation.site == told.intent.site;
    let mut done =
        truth.mutations.iter().filter(own).filter(|mutation| mutation.is_done && mutation.action == "UpdateService");
    let Some(done) = done.next_back() else { return };
    let image = told.body["AFTER"]["serviceImage"].as_str();
    if image != done.image.as_deref() && image.is_some() {
        world.violated(
            "AFTER is what was done",
            &format_args!("{} is told {image:?}, and {:?} was set", told.invocation, done.image),
        );
    }
}

// ---- when nothing goes wrong any more

/// Judges the state before anybody changes anything again.
pub fn at_rest(world: &World) {
    for site in world.sites() {
        let records = world.tables.records(&site.key());
        the_service_runs_what_the_ledger_says(world, &site, &records);
    }
}

/// This holds if the updater was the last to deploy, and ECS did not go back.
fn the_service_runs_what_the_ledger_says(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let Some(last) = truth
        .mutations
        .iter()
        .rev()
        .find(|mutation| mutation.site == *site && mutation.is_done && mutation.action == "UpdateService")
    else {
        return;
    };
    let is_gone = truth.is_gone(site, last.at);
    let went_back = |id: &String| {
        let end = truth.deployments.get(id).map(|deployment| &deployment.end);
        !matches!(end, Some(End::Completed | End::Open | End::Superseded))
    };
    if last.intent.is_none() || last.is_late || is_gone {
        return;
    }
    // This also applies if the last update started no deployment: ECS goes back from the last one that was started.
    let mut started = truth
        .mutations
        .iter()
        .rev()
        .filter(|mutation| mutation.site == *site)
        .filter_map(|mutation| mutation.started.as_ref());
    if started.next().is_some_and(went_back) {
        return;
    }
    let results = ["APPLIED", "FAILED", "ABANDONED", "UNCHANGED"];
    // The last attempt that began says what the state is. A result that was written late, after a later beginning, says what the state was,
    // and an attempt that died has no result until somebody closes it.
    let Some(last) = records.iter().rev().find(|record| ["STARTED", "UNCHANGED"].contains(&record.kind())) else {
        return;
    };
    let own = |record: &&Record| record.change_id() == last.change_id() && record.key().attempt == last.key().attempt;
    let mut own = records.iter().rev().filter(own);
    let Some(newest) = own.find(|record| results.contains(&record.kind()) && !record.text("after").is_empty()) else {
        return;
    };
    let Some(runs) = running_image(world, site) else { return };
    if !newest.text("after").contains(&format!("\"{runs}\"")) {
        world.violated(
            "the service runs what the ledger says",
            &format_args!(
                "{} runs {runs}; {} of {} says otherwise",
                site.service,
                newest.kind(),
                newest.text("record")
            ),
        );
    }
}

/// A key that was given a final answer is given the same answer again. An environment that stood still after it had read the answer may
/// tell one to which a late success has been added since.
pub fn the_same_key_gets_the_same_answer(world: &World, first: &Told, again: &Told) {
    if stood_still(world, &first.invocation) {
        return;
    }
    let is_same = match &first.code {
        None => again.code.is_none() && again.body["change_id"] == first.body["change_id"],
        Some(code) => again.code.as_ref() == Some(code),
    };
    if !is_same {
        let shown = |told: &Told| told.code.clone().unwrap_or_else(|| told.body["status"].to_string());
        let why = again.body["message"].as_str().unwrap_or_default().chars().take(200).collect::<String>();
        world.violated(
            "the same key gets the same answer",
            &format_args!(
                "{} was told {}, {} is told {} {why}",
                first.invocation,
                shown(first),
                again.invocation,
                shown(again)
            ),
        );
    }
}

/// A plain change of a service was tried until it succeeded.
pub fn a_plain_change_succeeds(world: &World, site: &Site, last: &Ended) {
    match last {
        Ended::Answered(answer) if answer["body"]["status"] == "APPLIED" => {}
        other => {
            let shown: String = format!("{other:?}").chars().take(400).collect();
            world.violated("a plain change succeeds", &format_args!("{} is locked: {shown}", site.service));
        }
    }
}

// ---- at the end

/// Everything has come to its end.
pub async fn at_the_end(world: &World) {
    let mut fullest: Option<(Site, usize)> = None;
    for site in world.touched_sites() {
        let records = world.tables.records(&site.key());
        if fullest.as_ref().is_none_or(|(_, most)| *most < records.len()) {
            fullest = Some((site.clone(), records.len()));
        }
        every_outcome_is_of_its_own_change(world, &site, &records);
        nothing_of_the_door_is_external(world, &site, &records);
        no_outcome_stands_twice(world, &site, &records);
        every_deployment_has_its_outcome(world, &site, &records);
        one_key_is_applied_once(world, &site, &records);
        what_was_told_stands_in_the_ledger(world, &site, &records);
        nothing_is_locked(world, &site);
        every_chain_verifies(world, &site, records.is_empty()).await;
        every_query_is_complete(world, &site, &records).await;
    }
    // Each of the two costs a call for each part of its index.
    match fullest.filter(|_| Stream::new(world.plan.seed, "last query").chance(0.5)) {
        Some((site, _)) => an_image_tells_what_its_service_tells(world, &site).await,
        None => every_page_of_the_organization_is_complete(world).await,
    }
    what_no_ecs_sends_is_refused(world).await;
    nothing_secret_is_said(world);
}

/// Whether a call that was done after its lease had ended ("what is left") started a deployment after this one: nobody reports that one,
/// and its rollback looks like this one's.
fn is_followed_by_a_late_one(truth: &Truth, deployment: &Deployment) -> bool {
    truth
        .deployments
        .values()
        .any(|other| other.site == deployment.site && other.is_late && other.began > deployment.began)
}

fn every_outcome_is_of_its_own_change(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for record in records.iter().filter(|record| OUTCOMES.contains(&record.kind())) {
        let id = record.text("deployment_id");
        let Some(deployment) = truth.deployments.get(id) else {
            world.violated("an outcome is of a deployment that is", &format_args!("{} {id}", record.text("record")));
            continue;
        };
        let of = truth.intent_of(record.change_id());
        if deployment.by.as_ref() != of && !deployment.is_late {
            let by = deployment.by.as_ref().map_or("somebody else", |intent| intent.key.as_str());
            let of = of.map_or("nobody", |intent| intent.key.as_str());
            world.violated(
                "an outcome is of its own change",
                &format_args!(
                    "{} {} of {id} at {}: started by {by}, recorded for {of}",
                    record.text("record"),
                    record.kind(),
                    site.service
                ),
            );
        } else if !deployment.end.outcomes().contains(&record.kind()) && !is_followed_by_a_late_one(&truth, deployment)
        {
            world.violated(
                "an outcome is what became of the deployment",
                &format_args!("{} of {id} at {}, which is {:?}", record.kind(), site.service, deployment.end),
            );
        }
    }
}

fn nothing_of_the_door_is_external(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for record in records.iter().filter(|record| record.kind() == "EXTERNAL") {
        let id = record.text("deployment_id");
        let Some(deployment) = truth.deployments.get(id) else { continue };
        if let Some(by) = deployment.by.as_ref().filter(|_| !deployment.is_late) {
            world.violated(
                "nothing of the door is EXTERNAL",
                &format_args!("{id} at {}, which {} started", site.service, by.key),
            );
        }
    }
}

fn no_outcome_stands_twice(world: &World, site: &Site, records: &[Record]) {
    let mut seen = BTreeSet::new();
    let outcomes = records.iter().filter(|record| OUTCOMES.contains(&record.kind()) || record.kind() == "EXTERNAL");
    for record in outcomes.filter(|record| !record.text("deployment_id").is_empty()) {
        if !seen.insert((record.text("deployment_id"), record.kind())) {
            let (kind, id) = (record.kind(), record.text("deployment_id"));
            world.violated("no outcome stands twice", &format_args!("{kind} of {id} at {}", site.service));
        }
    }
}

/// This holds if the result of its change says which deployment it started, or if an event about the deployment was
/// accepted.
fn every_deployment_has_its_outcome(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let ours = truth
        .deployments
        .iter()
        .filter(|(_, deployment)| deployment.site == *site && deployment.by.is_some() && !deployment.is_late);
    for (id, deployment) in ours.filter(|(_, deployment)| deployment.end != End::Open) {
        let of_it: Vec<&Record> = records.iter().filter(|record| record.text("deployment_id") == id).collect();
        let is_known = deployment.is_heard || of_it.iter().any(|record| ["APPLIED", "FAILED"].contains(&record.kind()));
        let has_outcome = of_it.iter().any(|record| OUTCOMES.contains(&record.kind()) || record.kind() == "EXTERNAL");
        if is_known && !has_outcome {
            world.violated(
                "every deployment has its outcome",
                &format_args!("{id} at {}, which is {:?}", site.service, deployment.end),
            );
        }
    }
}

/// A key is applied by one change. Each attempt of that change may have a result, even a late one.
fn one_key_is_applied_once(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let mut applied: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind() == "APPLIED") {
        let Some(intent) = truth.intent_of(record.change_id()) else { continue };
        applied.entry(intent).or_default().insert(record.change_id());
    }
    for (intent, changes) in applied.into_iter().filter(|(_, changes)| changes.len() > 1) {
        world.violated("one key is APPLIED once", &format_args!("{} at {}: {changes:?}", intent.key, site.service));
    }
}

fn what_was_told_stands_in_the_ledger(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for told in truth.told.iter().filter(|told| told.intent.site == *site && told.code.is_none()) {
        let Some(id) = told.body["change_id"].as_str() else { continue };
        let status = told.body["status"].as_str().unwrap_or_default();
        let wanted = if status == "UNCHANGED" { "UNCHANGED" } else { "APPLIED" };
        if ["PLANNED", "PROPOSED"].contains(&status) {
            continue;
        }
        let deployment = told.body["deployment_id"].as_str().unwrap_or_default();
        let is_told_so = told.body["notes"].to_string().contains("could not be recorded yet");
        let is_end = |record: &Record| record.text("deployment_id") == deployment && record.kind() == status;
        let stands = !OUTCOMES.contains(&status) || is_told_so || records.iter().any(is_end);
        if !stands || !records.iter().any(|record| record.change_id() == id && record.kind() == wanted) {
            world.violated(
                "what was told stands in the ledger",
                &format_args!("{} was told {status} of {id} at {}", told.invocation, site.service),
            );
        }
    }
}

fn nothing_is_locked(world: &World, site: &Site) {
    if let Some(lease) = world.tables.lease(&site.key()) {
        world.violated("nothing is locked", &format_args!("change {} holds {}", lease.change_id, site.service));
    }
}

async fn every_chain_verifies(world: &World, site: &Site, is_empty: bool) {
    let query = service_query(site, json!({"verify": true}));
    let ended = lambda::history(world, &format!("verify-{}", site.service), &query).await;
    match &ended {
        // If there are no records, nothing is proved.
        Ended::Answered(answer)
            if answer["body"]["ok"] == !is_empty && (answer["body"]["verified"] == 0) == is_empty => {}
        other => world.violated("every chain verifies", &format_args!("{}: {other:?}", site.service)),
    }
}

fn service_query(site: &Site, more: Value) -> Value {
    site.event(more)
}

/// The changes on all pages of a query with their statuses, in order; none if a page failed.
async fn pages(world: &World, name: &str, query: &Value) -> Option<Vec<(String, String)>> {
    let mut query = query.clone();
    let mut found = Vec::new();
    for page in 0..500 {
        match lambda::history(world, &format!("{name}.{page}"), &query).await {
            Ended::Answered(answer) => {
                let changes = answer["body"]["changes"].as_array().cloned().unwrap_or_default();
                found.extend(changes.iter().filter_map(id_and_status));
                let token = answer["body"]["next_token"].clone();
                if token.is_null() {
                    return Some(found);
                }
                query["next_token"] = token;
            }
            other => {
                world.violated("every query is answered", &format_args!("{query}: {other:?}"));
                return None;
            }
        }
    }
    world.violated("every query comes to its end", &query);
    None
}

fn id_and_status(change: &Value) -> Option<(String, String)> {
    Some((change["change_id"].as_str()?.to_owned(), change["status"].to_string()))
}

async fn every_query_is_complete(world: &World, site: &Site, records: &[Record]) {
    let mut draw = Stream::new(world.plan.seed, &format!("query {}", site.service));
    let all: BTreeSet<&str> = records.iter().map(Record::change_id).collect();
    let (order, wanted): (_, Vec<&str>) = if draw.chance(0.5) {
        ("oldest_first", all.into_iter().collect())
    } else {
        ("newest_first", all.into_iter().rev().collect())
    };
    let query = service_query(site, json!({"limit": 3 + draw.below(6), "order": order}));
    let Some(found) = pages(world, &format!("{order}-{}", site.service), &query).await else { return };
    if !found.iter().map(|(id, _)| id.as_str()).eq(wanted.iter().copied()) {
        world.violated(
            "every query is complete, in order and without doubles",
            &format_args!("{order} of {}: {found:?} instead of {wanted:?}", site.service),
        );
    }
}

/// A query by image reports the same about a change as a query by service.
async fn an_image_tells_what_its_service_tells(world: &World, site: &Site) {
    let image = image(site, 0);
    let repository = image.rsplit_once(':').map_or(image.as_str(), |(repository, _)| repository);
    let Some(by_image) = pages(world, "by-image", &json!({"image": repository, "limit": 50})).await else { return };
    let query = service_query(site, json!({"limit": 50}));
    let Some(by_service) = pages(world, "by-service", &query).await else { return };
    let by_service: BTreeMap<String, String> = by_service.into_iter().collect();
    for (id, status) in by_image {
        let by_service = by_service.get(&id);
        if by_service != Some(&status) {
            world.violated(
                "an image tells what its service tells",
                &format_args!("{id} at {}: {status} instead of {by_service:?}", site.service),
            );
        }
    }
}

/// The refusal comes at once and is final: no key of a table could have such an id.
async fn what_no_ecs_sends_is_refused(world: &World) {
    let site = world.site(0);
    let event = json!({
        "version": "0", "id": "ddca6449-b258-46c0-8653-e0e3a6d0ad3a", "detail-type": "ECS Deployment State Change",
        "source": "aws.ecs", "account": site.account, "time": world.now().to_rfc3339(), "region": site.region,
        "resources": [site.service_arn()],
        "detail": {"eventType": "INFO", "eventName": "SERVICE_DEPLOYMENT_COMPLETED",
                   "deploymentId": format!("ecs-svc/{}", "1".repeat(3_000)), "updatedAt": world.now().to_rfc3339(),
                   "reason": "ECS deployment completed."},
    });
    let ended = lambda::recorder(world, "strange.1", "strange", &event).await;
    if !matches!(&ended, Ended::Failed { code, .. } if code == "EventNotUnderstood") {
        let shown: String = format!("{ended:?}").chars().take(200).collect();
        world.violated("what no ECS sends is refused", &shown);
    }
}

/// EXTERNAL changes may be missing there.
async fn every_page_of_the_organization_is_complete(world: &World) {
    let mut wanted = BTreeSet::new();
    let mut known = BTreeSet::new();
    for site in world.touched_sites() {
        let records = world.tables.records(&site.key());
        known.extend(records.iter().map(|record| record.change_id().to_owned()));
        wanted.extend(
            records.iter().filter(|record| record.kind() != "EXTERNAL").map(|record| record.change_id().to_owned()),
        );
    }
    let query = json!({"limit": 50, "from": world.start().to_rfc3339()});
    let Some(found) = pages(world, "organization", &query).await else { return };
    let distinct: BTreeSet<String> = found.iter().map(|(id, _)| id.clone()).collect();
    if distinct.len() != found.len() || !wanted.is_subset(&distinct) || !distinct.is_subset(&known) {
        let missing: Vec<&String> = wanted.difference(&distinct).collect();
        world.violated(
            "every query is complete, in order and without doubles",
            &format_args!("the organization: {} of {}, missing {missing:?}", found.len(), wanted.len()),
        );
    }
}

fn nothing_secret_is_said(world: &World) {
    let tables = world.tables.text();
    for (place, text) in [("logs and answers", world.said.borrow().as_str()), ("the tables", tables.as_str())] {
        if let Some(at) = text.find(SECRET_MARKER) {
            let from = text.floor_char_boundary(at.saturating_sub(100));
            let until = text.floor_char_boundary(at + 40);
            world.violated("nothing secret is said", &format_args!("in {place}: {}", &text[from..until]));
        }
    }
}

/// Somebody queries the history while things go wrong: it answers, or says that the failure may be temporary.
pub async fn ask(world: &World, name: &str, site: &Site) {
    if Stream::new(world.plan.seed, &format!("ask {name}")).chance(0.5) {
        return what_stands_is_shown(world, name).await;
    }
    let asked = service_query(site, json!({"limit": 5}));
    if let Ended::Failed { code, message, is_retryable: false } = lambda::history(world, name, &asked).await
        && !message.contains("AccessDenied")
    {
        world.violated("every query is answered", &format_args!("{code}: {message}"));
    }
    debug_assert!(environment::current().is_none());
}

/// The organization until now: the answer has what was recorded when the history was queried, by the clock of who
/// answers, if that clock is right.
async fn what_stands_is_shown(world: &World, name: &str) {
    let all = world.touched_sites().into_iter().flat_map(|site| world.tables.records(&site.key()));
    let all: BTreeSet<String> =
        all.filter(|record| record.kind() != "EXTERNAL").map(|record| record.change_id().to_owned()).collect();
    let query = json!({"limit": 100, "from": world.start().to_rfc3339()});
    let (ended, skew) = lambda::history_by_its_clock(world, &format!("{name}.all"), &query).await;
    let Ended::Answered(answer) = ended else { return };
    let changes = answer["body"]["changes"].as_array().cloned().unwrap_or_default();
    let shown: BTreeSet<String> = changes.iter().filter_map(id_and_status).map(|(id, _)| id).collect();
    let is_right = skew.num_seconds().abs() <= 2;
    if is_right && answer["body"]["next_token"].is_null() && !all.is_subset(&shown) {
        let missing: Vec<&String> = all.difference(&shown).collect();
        world.violated("what stands is shown", &format_args!("the organization until now lacks {missing:?}"));
    }
}
