//! What must be true, whatever happens: one function an invariant. They judge by what really happened ([`crate::truth`])
//! and by what stands in the tables, not by what the product says.
//!
//! Effects that come later than the lengthened lease of who sent them are what is left (DESIGN section 6): no invariant
//! counts them, the report does.

use std::collections::{BTreeMap, BTreeSet};

use aws_stub::{SECRET_MARKER, Site};
use serde_json::{Value, json};

use crate::aws::{running_image, site_of};
use crate::counts::Counts;
use crate::environment;
use crate::fault::is_read;
use crate::lambda::{self, Ended};
use crate::network::Call;
use crate::plan::Deviation;
use crate::tables::Record;
use crate::truth::{End, Intent, Mutation, Told, Truth, UnderWay};
use crate::world::{World, clock};

/// Statuses of answers and kinds of records that say how a deployment ended.
const OUTCOMES: [&str; 6] =
    ["COMPLETED", "DEPLOYMENT_FAILED", "ROLLED_BACK", "ROLLBACK_FAILED", "STOPPED", "SUPERSEDED"];
/// How long somebody may hold a service before he begins to change it.
const IDLE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

// ---- when a call is sent

/// A mutating call is sent.
pub fn at_sending(world: &World, call: &Call, will_be_done: bool, is_late: bool) {
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

/// By the clock of who sends it.
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

/// A lease is taken when the turn has come, and not before: others wait for it.
fn nobody_holds_a_service_idly(world: &World, call: &Call, site: &Site) {
    let truth = world.truth.borrow();
    let Some(held) = truth.held.get(&site.key()).filter(|held| held.by == call.invocation && !held.is_used) else {
        return;
    };
    let stood_still = world.met.borrow().get(&format!("invocation {}", call.invocation)).cloned();
    let waited = world.now() - held.since;
    // The answer of its STARTED may have been lost.
    let is_hampered = world.purposes.borrow().get(&call.invocation).is_none_or(|it| it.is_hampered);
    if waited > IDLE && held.faults == 0 && !is_hampered && !matches!(stood_still, Some(Deviation::Freeze(..))) {
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
    // A revision that comes late changes no service: a spare one, which the next look finds.
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

/// Whether a call is done later than the lease of who sent it lasted: what is left.
fn is_left(world: &World, call: &Call, is_late: bool) -> bool {
    let truth = world.truth.borrow();
    let until = truth.under_way.get(&call.number).and_then(|it| it.lease_until);
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
    let is_left = |it: &UnderWay| it.is_late && it.lease_until.is_none_or(|until| until < world.now());
    let counts = |it: &UnderWay| !(is_left(it) || it.is_late && it.action == "RegisterTaskDefinition");
    let other = truth.under_way.values().find(|it| it.site == *site && it.invocation != call.invocation && counts(it));
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

/// A change is later where it began after this one's event was first seen.
fn no_retry_undoes_a_later_change(world: &World, call: &Call, site: &Site) {
    let Some(own) = intent(world, call, site) else { return };
    let truth = world.truth.borrow();
    let Some(seen) = truth.first_seen.get(&own) else { return };
    let is_later = |it: &&Mutation| {
        let Some(other) = it.intent.as_ref().filter(|other| **other != own) else { return false };
        let began = truth.began.iter().find(|began| began.intent.as_ref() == Some(other));
        began.is_some_and(|began| began.at > *seen)
    };
    let mut done =
        truth.mutations.iter().filter(|it| it.site == *site && it.is_done && it.action != "RegisterTaskDefinition");
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

/// Where it could see that before: between the last look and the call nothing helps.
fn no_continuation_overwrites_what_somebody_else_deployed(world: &World, call: &Call, site: &Site) {
    let Some(own) = intent(world, call, site) else { return };
    let looked = world.purposes.borrow().get(&call.invocation).and_then(|it| it.looked.get(site).copied());
    let truth = world.truth.borrow();
    let mut began = truth.began.iter().filter(|it| it.intent.as_ref() == Some(&own));
    let (Some(first), Some(_)) = (began.next(), began.next()) else { return };
    let foreign = truth.mutations.iter().find(|it| {
        let could_be_seen = looked.is_some_and(|looked| it.at < looked);
        it.intent.is_none()
            && it.site == *site
            && it.action == "UpdateService"
            && it.is_done
            && it.at > first.at
            && could_be_seen
    });
    if let Some(foreign) = foreign {
        let image = foreign.image.clone().unwrap_or_default();
        world.violated(
            "no continuation overwrites what somebody else deployed",
            &format_args!("{} of {} at {}, over {image}", call.action, call.invocation, site.service),
        );
    }
}

fn nothing_that_was_rolled_back_is_deployed_again(world: &World, call: &Call, site: &Site) {
    let Some(own) = intent(world, call, site) else { return };
    let looked = world.purposes.borrow().get(&call.invocation).and_then(|it| it.looked.get(site).copied());
    let truth = world.truth.borrow();
    let ended = truth.deployments.iter().find(|(_, it)| {
        let could_be_seen = it.ended.zip(looked).is_some_and(|(ended, looked)| ended < looked);
        let ended_ill =
            matches!(it.end, End::Failed | End::RollingBack | End::RolledBack | End::RollbackFailed | End::Stopped);
        it.by.as_ref() == Some(&own) && ended_ill && could_be_seen && !it.is_late
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

/// What the same key did before, in time.
fn earlier<'a>(truth: &'a Truth, done: &'a Mutation) -> impl Iterator<Item = &'a Mutation> {
    let same = move |it: &&Mutation| it.intent == done.intent && it.intent.is_some() && it.action == done.action;
    truth.mutations.iter().filter(same).filter(|it| it.is_done && !it.is_late)
}

fn one_key_starts_one_deployment(world: &World, done: &Mutation) {
    let truth = world.truth.borrow();
    let Some(started) = &done.started else { return };
    if let Some(first) = earlier(&truth, done).find_map(|it| it.started.as_ref()) {
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
    if let Some(first) = earlier(&truth, done).find(|it| it.started.is_some() && it.image != done.image) {
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
    if earlier(&truth, done).any(|it| it.image == done.image) {
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
    }
}

fn what_is_told_of_a_deployment_is_what_became_of_it(world: &World, told: &Told) {
    let status = told.body["status"].as_str().unwrap_or_default();
    if !OUTCOMES.contains(&status) {
        return;
    }
    let id = told.body["deployment_id"].as_str().unwrap_or_default();
    let truth = world.truth.borrow();
    let is_true = truth.deployments.get(id).is_some_and(|it| it.end.outcomes().contains(&status));
    if !is_true {
        let end = truth.deployments.get(id).map(|it| &it.end);
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
    let own = |it: &&Mutation| it.invocation == told.invocation && it.site == told.intent.site;
    let mut done = truth.mutations.iter().filter(own).filter(|it| it.is_done && it.action == "UpdateService");
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

/// Before anybody changes anything again.
pub fn at_rest(world: &World) {
    for site in world.sites() {
        let records = world.tables.records(&site.key());
        the_service_runs_what_the_ledger_says(world, &site, &records);
    }
}

/// Where the door was the last to deploy, and ECS did not go back.
fn the_service_runs_what_the_ledger_says(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let Some(last) =
        truth.mutations.iter().rev().find(|it| it.site == *site && it.is_done && it.action == "UpdateService")
    else {
        return;
    };
    let is_gone = truth.deleted.get(site).is_some_and(|times| times.iter().any(|at| *at > last.at));
    let went_back = |id: &String| {
        let end = truth.deployments.get(id).map(|it| &it.end);
        !matches!(end, Some(End::Completed | End::Open | End::Superseded))
    };
    if last.intent.is_none() || last.is_late || is_gone {
        return;
    }
    // Also where the last update started none: ECS goes back from the last one that was started.
    let mut started = truth.mutations.iter().rev().filter(|it| it.site == *site).filter_map(|it| it.started.as_ref());
    if started.next().is_some_and(went_back) {
        return;
    }
    let results = ["APPLIED", "FAILED", "ABANDONED", "UNCHANGED"];
    // The last attempt that began tells what is: a result that was written late, behind a later beginning, tells what was; and one that
    // died has none before somebody closes it.
    let Some(last) = records.iter().rev().find(|it| ["STARTED", "UNCHANGED"].contains(&it.kind())) else { return };
    let own = |it: &&Record| it.change_id() == last.change_id() && it.key().attempt == last.key().attempt;
    let mut own = records.iter().rev().filter(own);
    let Some(newest) = own.find(|it| results.contains(&it.kind()) && !it.text("after").is_empty()) else { return };
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

/// What a key was told for good is told again.
pub fn the_same_key_gets_the_same_answer(world: &World, first: &Told, again: &Told) {
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
    for site in world.sites() {
        let records = world.tables.records(&site.key());
        every_outcome_is_of_its_own_change(world, &site, &records);
        nothing_of_the_door_is_external(world, &site, &records);
        no_outcome_stands_twice(world, &site, &records);
        every_deployment_has_its_outcome(world, &site, &records);
        one_key_is_applied_once(world, &site, &records);
        what_was_told_stands_in_the_ledger(world, &site, &records);
        nothing_is_locked(world, &site);
        every_chain_verifies(world, &site).await;
        every_query_is_complete(world, &site, &records).await;
    }
    every_page_of_the_organization_is_complete(world).await;
    nothing_secret_is_said(world);
}

fn every_outcome_is_of_its_own_change(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for record in records.iter().filter(|it| OUTCOMES.contains(&it.kind())) {
        let id = record.text("deployment_id");
        let Some(deployment) = truth.deployments.get(id) else {
            world.violated("an outcome is of a deployment that is", &format_args!("{} {id}", record.text("record")));
            continue;
        };
        let of = truth.intent_of(record.change_id());
        if deployment.by.as_ref() != of && !deployment.is_late {
            let by = deployment.by.as_ref().map_or("somebody else", |it| it.key.as_str());
            let of = of.map_or("nobody", |it| it.key.as_str());
            world.violated(
                "an outcome is of its own change",
                &format_args!(
                    "{} {} of {id} at {}: started by {by}, recorded for {of}",
                    record.text("record"),
                    record.kind(),
                    site.service
                ),
            );
        } else if !deployment.end.outcomes().contains(&record.kind()) {
            world.violated(
                "an outcome is what became of the deployment",
                &format_args!("{} of {id} at {}, which is {:?}", record.kind(), site.service, deployment.end),
            );
        }
    }
}

fn nothing_of_the_door_is_external(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for record in records.iter().filter(|it| it.kind() == "EXTERNAL") {
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
    let outcomes = records.iter().filter(|it| OUTCOMES.contains(&it.kind()) || it.kind() == "EXTERNAL");
    for record in outcomes.filter(|it| !it.text("deployment_id").is_empty()) {
        if !seen.insert((record.text("deployment_id"), record.kind())) {
            let (kind, id) = (record.kind(), record.text("deployment_id"));
            world.violated("no outcome stands twice", &format_args!("{kind} of {id} at {}", site.service));
        }
    }
}

/// Where its change's result says which one it started, or an event about it was heard.
fn every_deployment_has_its_outcome(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let ours = truth.deployments.iter().filter(|(_, it)| it.site == *site && it.by.is_some() && !it.is_late);
    for (id, deployment) in ours.filter(|(_, it)| it.end != End::Open) {
        let of_it: Vec<&Record> = records.iter().filter(|it| it.text("deployment_id") == id).collect();
        let is_known = deployment.is_heard || of_it.iter().any(|it| ["APPLIED", "FAILED"].contains(&it.kind()));
        let has_outcome = of_it.iter().any(|it| OUTCOMES.contains(&it.kind()) || it.kind() == "EXTERNAL");
        if is_known && !has_outcome {
            world.violated(
                "every deployment has its outcome",
                &format_args!("{id} at {}, which is {:?}", site.service, deployment.end),
            );
        }
    }
}

/// By one change: each of its attempts may have a result, also one that comes late.
fn one_key_is_applied_once(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    let mut applied: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for record in records.iter().filter(|it| it.kind() == "APPLIED") {
        let Some(intent) = truth.intent_of(record.change_id()) else { continue };
        applied.entry(intent).or_default().insert(record.change_id());
    }
    for (intent, changes) in applied.into_iter().filter(|(_, changes)| changes.len() > 1) {
        world.violated("one key is APPLIED once", &format_args!("{} at {}: {changes:?}", intent.key, site.service));
    }
}

fn what_was_told_stands_in_the_ledger(world: &World, site: &Site, records: &[Record]) {
    let truth = world.truth.borrow();
    for told in truth.told.iter().filter(|it| it.intent.site == *site && it.code.is_none()) {
        let Some(id) = told.body["change_id"].as_str() else { continue };
        let status = told.body["status"].as_str().unwrap_or_default();
        let wanted = if status == "UNCHANGED" { "UNCHANGED" } else { "APPLIED" };
        if ["PLANNED", "PROPOSED"].contains(&status) {
            continue;
        }
        if !records.iter().any(|it| it.change_id() == id && it.kind() == wanted) {
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

async fn every_chain_verifies(world: &World, site: &Site) {
    let query = service_query(site, json!({"verify": true}));
    let ended = lambda::history(world, &format!("verify-{}", site.service), &query).await;
    match &ended {
        Ended::Answered(answer) if answer["body"]["ok"] == true => {}
        other => world.violated("every chain verifies", &format_args!("{}: {other:?}", site.service)),
    }
}

fn service_query(site: &Site, more: Value) -> Value {
    site.event(more)
}

/// The changes of all pages of a query, in order; none where a page failed.
async fn pages(world: &World, name: &str, query: &Value) -> Option<Vec<String>> {
    let mut query = query.clone();
    let mut found = Vec::new();
    for page in 0..500 {
        match lambda::history(world, &format!("{name}.{page}"), &query).await {
            Ended::Answered(answer) => {
                let changes = answer["body"]["changes"].as_array().cloned().unwrap_or_default();
                found.extend(changes.iter().filter_map(|it| it["change_id"].as_str().map(str::to_owned)));
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

async fn every_query_is_complete(world: &World, site: &Site, records: &[Record]) {
    let all: BTreeSet<&str> = records.iter().map(Record::change_id).collect();
    let oldest_first: Vec<&str> = all.iter().copied().collect();
    let newest_first: Vec<&str> = all.iter().rev().copied().collect();
    for (order, wanted) in [("oldest_first", oldest_first), ("newest_first", newest_first)] {
        let query = service_query(site, json!({"limit": 4, "order": order}));
        let Some(found) = pages(world, &format!("{order}-{}", site.service), &query).await else { continue };
        if found != wanted {
            world.violated(
                "every query is complete, in order and without doubles",
                &format_args!("{order} of {}: {found:?} instead of {wanted:?}", site.service),
            );
        }
    }
}

/// EXTERNAL changes may be left out there.
async fn every_page_of_the_organization_is_complete(world: &World) {
    let mut wanted = BTreeSet::new();
    let mut known = BTreeSet::new();
    for site in world.sites() {
        let records = world.tables.records(&site.key());
        known.extend(records.iter().map(|it| it.change_id().to_owned()));
        wanted.extend(records.iter().filter(|it| it.kind() != "EXTERNAL").map(|it| it.change_id().to_owned()));
    }
    let query = json!({"limit": 50, "from": world.start().to_rfc3339()});
    let Some(found) = pages(world, "organization", &query).await else { return };
    let distinct: BTreeSet<String> = found.iter().cloned().collect();
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

/// Somebody asks the history while things go wrong: it answers, or says that it may pass.
pub async fn ask(world: &World, name: &str, site: &Site) {
    let asked = service_query(site, json!({"limit": 5}));
    if let Ended::Failed { code, message, is_retryable: false } = lambda::history(world, name, &asked).await
        && !message.contains("AccessDenied")
    {
        world.violated("every query is answered", &format_args!("{code}: {message}"));
    }
    debug_assert!(environment::current().is_none());
}
