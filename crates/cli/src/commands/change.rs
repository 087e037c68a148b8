//! `update`, `plan` and `restore`: the commands that go through the updater.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::ecs::deployment::verb::DeploymentVerb;
use domain::ecs::tags::TagMode;
use domain::event::request::RestoreMode;
use domain::event::update_event::UpdateEvent;
use domain::ids::{ChangeId, looks_verified};
use domain::ledger::history_query::HistoryQuery;
use domain::text::rfc3339;
use serde_json::{Map, Number, Value};

use super::ask_history;
use crate::answers::{HistoryPage, ServiceAnswer, Tone, Updated, read, tone};
use crate::arguments::{ActionArgs, ChangeArgs, RequestArgs, RequesterArgs, RestoreArgs, UpdateArgs};
use crate::difference::{of_change, of_plan};
use crate::failure::{CommandFailure, Exit};
use crate::function::Function;
use crate::lambda::Functions;
use crate::screen::{Screen, time_of};
use crate::text::clean;

/// Changes a service, or shows what would change.
pub(super) async fn update(
    functions: &Functions,
    screen: &Screen,
    wanted: UpdateArgs,
    dry_run: bool,
) -> Result<Exit, CommandFailure> {
    let place = wanted.service.to_string();
    let (event, asked) = event_of(wanted)?;
    send(functions, screen, &place, event, &asked, dry_run).await.map(|(exit, _)| exit)
}

/// Shows what would change.
pub(super) async fn plan(
    functions: &Functions,
    screen: &Screen,
    wanted: UpdateArgs,
    tell: bool,
) -> Result<Exit, CommandFailure> {
    let place = wanted.service.to_string();
    let (event, asked) = event_of(wanted)?;
    let (exit, answer) = send(functions, screen, &place, event, &asked, true).await?;
    let differs = answer.changes.is_some_and(|changes| !changes.is_empty());
    Ok(if tell && differs { Exit::Differs } else { exit })
}

/// Undoes a change.
pub(super) async fn restore(
    functions: &Functions,
    screen: &Screen,
    restore: RestoreArgs,
) -> Result<Exit, CommandFailure> {
    let change = restore.change.unwrap_or_else(|| "previous".to_owned());
    let restore_mode = restore.exact.then_some(RestoreMode::Exact);
    let event = UpdateEvent { restore: Some(change.clone()), restore_mode, ..UpdateEvent::default() };
    let event = match &restore.service {
        Some(service) => service.event(event),
        None => to_service_of(event, functions, &change).await?,
    };
    let place =
        restore.service.map_or_else(|| format!("the service of change {change}"), |service| service.to_string());
    send(functions, screen, &place, event, &restore.asked, restore.dry_run).await.map(|(exit, _)| exit)
}

/// Continues or stops the deployment of a change.
pub(super) async fn act(
    functions: &Functions,
    screen: &Screen,
    verb: DeploymentVerb,
    acting: ActionArgs,
) -> Result<Exit, CommandFailure> {
    let ActionArgs { change, dry_run, who, idempotency_key, sent_at } = acting;
    let event = match verb {
        DeploymentVerb::Continue => UpdateEvent { continue_change: Some(change.clone()), ..UpdateEvent::default() },
        DeploymentVerb::Stop => UpdateEvent { stop_change: Some(change.clone()), ..UpdateEvent::default() },
    };
    let event = to_service_of(event, functions, &change).await?;
    let place = format!("the service of change {change}");
    let asked = RequestArgs { who, wait: None, idempotency_key, sent_at };
    send(functions, screen, &place, event, &asked, dry_run).await.map(|(exit, _)| exit)
}

/// The event, completed with the service that the change was about.
async fn to_service_of(event: UpdateEvent, functions: &Functions, change: &str) -> Result<UpdateEvent, CommandFailure> {
    let query = HistoryQuery { change_id: Some(change.to_owned()), ..HistoryQuery::default() };
    let page: HistoryPage = read(&ask_history(functions, &query).await?);
    let found = page.changes.into_iter().next().ok_or_else(|| {
        CommandFailure::new(Exit::Failed, format!("the history has no change {change}"))
            .advise("Find its id with `ecs-updater history`.")
    })?;
    Ok(UpdateEvent {
        account_id: found.account_id,
        region: found.region,
        ecs_cluster_name: found.ecs_cluster_name,
        ecs_service_name: found.ecs_service_name,
        ..event
    })
}

/// The update event that the arguments describe.
fn event_of(wanted: UpdateArgs) -> Result<(UpdateEvent, RequestArgs), CommandFailure> {
    let event = UpdateEvent { expected_task_definition: wanted.expect, ..change_of(&wanted.what)? };
    Ok((wanted.service.event(event), wanted.asked))
}

/// The fields of an event that say what should change.
pub(super) fn change_of(what: &ChangeArgs) -> Result<UpdateEvent, CommandFailure> {
    let usage = |message: String| Err(CommandFailure::new(Exit::Usage, message));
    let mut only_image = None;
    let mut images = BTreeMap::new();
    for image in &what.image {
        match image.split_once('=') {
            Some((container, image)) => {
                if images.insert(container.to_owned(), image.to_owned()).is_some() {
                    return usage(format!("--image names the container {container} twice"));
                }
            }
            None if what.image.len() > 1 => {
                return usage(format!("of several images each needs its container: --image CONTAINER={image}"));
            }
            None => only_image = Some(image.clone()),
        }
    }
    let mut tags = BTreeMap::new();
    for (key, value) in &what.tag {
        if tags.insert(key.clone(), value.clone()).is_some() {
            return usage(format!("--tag names the key {key} twice"));
        }
    }
    let has_tags = what.replace_tags || !tags.is_empty();
    let flag = |is_set: bool| is_set.then_some(true);
    Ok(UpdateEvent {
        ecs_image_name: only_image,
        images: Some(images).filter(|images| !images.is_empty()),
        resolve_digest: flag(what.resolve_digest),
        check_image: flag(what.check_image),
        ecs_tag: has_tags.then_some(tags),
        tag_mode: has_tags.then_some(if what.replace_tags { TagMode::Replace } else { TagMode::Merge }),
        service: Some(what.set.iter().cloned().collect()).filter(|set: &Map<_, _>| !set.is_empty()),
        force_new_deployment: flag(what.force_new_deployment),
        ..UpdateEvent::default()
    })
}

/// Who sends the request and why: the fields `requested_by` and `reason` of an event.
pub(super) fn requester_of(who: &RequesterArgs) -> Result<(Option<String>, Option<String>), CommandFailure> {
    Ok((requester(who, |name| std::env::var(name).ok())?, who.reason.clone()))
}

/// The user of this machine.
fn user(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(variable).filter(|name| !name.is_empty())
}

/// The name of who sends the request, for events that the updater does not read: any name is allowed.
pub(super) fn named(who: &RequesterArgs) -> Option<String> {
    let named = who.requested_by.clone().filter(|name| !name.is_empty());
    named.or_else(|| user(|name| std::env::var(name).ok()))
}

/// The name of who sends the request: the one that was given, or else the user of this machine. No name is sent that looks as if somebody
/// vouched for it, since the updater refuses it: such a name is refused here if it was given, and is left out if it is the user's.
fn requester(who: &RequesterArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, CommandFailure> {
    let Some(named) = who.requested_by.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(user(variable).filter(|name| looks_verified(name).is_none()));
    };
    match looks_verified(named) {
        None => Ok(Some(named.to_owned())),
        Some(beginning) => Err(CommandFailure::new(
            Exit::Usage,
            format!("--requested-by (or ECS_UPDATER_REQUESTED_BY): names that begin with \"{beginning}\" are for callers that the API door vouches for"),
        )
        .advise("Nothing was sent. Give a plain name, such as that of a person or of a pipeline's run.")),
    }
}

/// Sends the event with the requester and the reason, and shows the answer.
async fn send(
    functions: &Functions,
    screen: &Screen,
    place: &str,
    mut event: UpdateEvent,
    asked: &RequestArgs,
    dry_run: bool,
) -> Result<(Exit, Updated), CommandFailure> {
    (event.requested_by, event.reason) = requester_of(&asked.who)?;
    // There is always a key, so that the event can be sent again after a lost answer and nothing is done twice.
    let key = match &asked.idempotency_key {
        Some(key) => key.clone(),
        None => new_key()?,
    };
    if dry_run {
        event.dry_run = Some(true);
    } else {
        event.wait_seconds = asked.wait.map(Number::from);
        let sent_at = asked.sent_at.or_else(|| made_at(&key)).unwrap_or_else(Utc::now);
        event.sent_at = Some(rfc3339(sent_at));
        event.idempotency_key = Some(key.clone());
    }
    let answer = functions.ask(Function::Updater, &event, true).await.map_err(|mut failure| {
        failure.place.get_or_insert_with(|| place.to_owned());
        if failure.may_have_begun() && !dry_run {
            failure.advice.push(run_again(&key));
        }
        failure
    })?;
    let body = answer.get("body").unwrap_or(&Value::Null);
    let updated: Updated = read(body);
    if screen.is_json() {
        Screen::json(body, true)?;
    } else {
        show(screen, &updated)?;
    }
    let exit = match updated.status.as_deref() {
        Some("TIMED_OUT" | "AWAITING_ACTION") => Exit::Later,
        // The caller waited for a deployment and did not get it.
        Some("SUPERSEDED") => Exit::Failed,
        // Something of what was to be undone is still there.
        Some("APPLIED" | "COMPLETED" | "UNCHANGED" | "PLANNED") if !updated.not_restored.is_empty() => Exit::Failed,
        Some(status) if tone(status) == Tone::Bad => Exit::Failed,
        Some(_) => Exit::Done,
        None => {
            let failure = CommandFailure::new(Exit::Failed, "the answer has no status").at(place).advise(
                "Is that the right function? See --updater-function; `ecs-updater invoke` shows the whole answer.",
            );
            return Err(if dry_run { failure } else { failure.advise(run_again(&key)) });
        }
    };
    if exit == Exit::Later && !dry_run && !screen.is_json() {
        screen.say(&format!("\n{}", run_again(&key)))?;
    }
    Ok((exit, updated))
}

fn run_again(key: &str) -> String {
    format!("Run it again with --idempotency-key {key}: then nothing is done twice.")
}

/// The prefix of keys that this command makes.
const MADE_HERE: &str = "cli-";

/// A key that nobody has used before. It may also name an execution.
pub(super) fn new_key() -> Result<String, CommandFailure> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|fault| CommandFailure::new(Exit::NotAsked, format!("this machine has no random numbers: {fault}")))?;
    Ok(format!("{MADE_HERE}{}", ChangeId::new(Utc::now(), random)))
}

/// When this command made the key, if it made it. That is when the event was first sent, however often it is sent
/// again.
fn made_at(key: &str) -> Option<DateTime<Utc>> {
    ChangeId::parse(key.strip_prefix(MADE_HERE)?).ok().map(|id| id.time())
}

fn show(screen: &Screen, answer: &Updated) -> Result<(), CommandFailure> {
    let status = answer.status.as_deref().unwrap_or("?");
    let service = answer.service();
    screen.headline(status, &service)?;
    let differences = match &answer.changes {
        Some(changes) if status == "PLANNED" => of_plan(changes),
        changes => of_change(changes.as_deref(), answer.before.as_ref(), answer.after.as_ref(), true),
    };
    Screen::space()?;
    if differences.is_empty() {
        screen.say(match status {
            "PLANNED" | "UNCHANGED" if answer.of.is_some() => "  There is nothing to do.",
            "PLANNED" => "  Nothing differs: an update would change nothing.",
            "UNCHANGED" => "  Nothing differed: no revision was registered, no deployment started.",
            _ => "  No difference is visible in image, tags and parameters.",
        })?;
    } else {
        screen.differences(&differences)?;
    }
    Screen::space()?;
    let notes = answer.notes.iter().map(|note| ("note", Some(note.clone())));
    let left = answer.not_restored.iter().map(|left| ("not restored", Some(left.line())));
    let revision = answer.before.as_ref().and_then(|before| before.revision()).map(str::to_owned);
    let planned = status == "PLANNED";
    let mut facts: Vec<(&str, Option<String>)> = left.chain(notes).collect();
    facts.extend([
        ("now", revision.filter(|_| planned)),
        ("change", answer.change_id.clone()),
        ("of", answer.of.clone()),
        ("deployment", answer.deployment_id.clone()),
    ]);
    facts.extend(answer.outcome.iter().flat_map(ServiceAnswer::facts).map(|(name, value)| (name, Some(value))));
    facts.extend([
        ("at", answer.timestamp.as_deref().filter(|_| !planned).map(|at| format!("{} UTC", time_of(Some(at))))),
        (
            "replayed",
            answer.replayed.then(|| "yes: this is the first answer to that key; nothing was done now".to_owned()),
        ),
    ]);
    screen.facts(&facts)?;
    if planned {
        return screen.say("\nNothing was touched.");
    }
    if let (Some(id), "APPLIED" | "COMPLETED" | "TIMED_OUT" | "AWAITING_ACTION") =
        (answer.change_id.as_ref().filter(|_| answer.of.is_none()), status)
    {
        screen.say(&format!("\nTo undo this:\n  ecs-updater restore --change {}", clean(id)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use serde_json::json;

    fn event(arguments: &[&str]) -> Result<Value, CommandFailure> {
        let arguments = ["ecs-updater", "update", "222222222222/prod/web"].iter().chain(arguments);
        let Command::Update(update) = Arguments::parse_from(arguments).command else { panic!("update") };
        event_of(update.wanted).map(|(event, _)| serde_json::to_value(event).unwrap())
    }

    #[test]
    fn arguments_become_an_event() {
        let service = json!({"account_id": "222222222222", "ecs_cluster_name": "prod", "ecs_service_name": "web"});
        for (arguments, expected) in [
            (&["--image", "nginx:1.27"][..], json!({"ecs_image_name": "nginx:1.27"})),
            (&["--image", "web=r:5000/web:7@sha256:0"], json!({"images": {"web": "r:5000/web:7@sha256:0"}})),
            (
                &["--image", "nginx", "--resolve-digest", "--check-image"],
                json!({"ecs_image_name": "nginx", "resolve_digest": true, "check_image": true}),
            ),
            (&["--tag", "a=1", "--tag", "b=x=y"], json!({"ecs_tag": {"a": "1", "b": "x=y"}, "tag_mode": "merge"})),
            (&["--replace-tags"], json!({"ecs_tag": {}, "tag_mode": "replace"})),
            (&["--set", "desiredCount=3"], json!({"service": {"desiredCount": 3}})),
            (
                &["--force-new-deployment", "--expect", "web:7"],
                json!({"force_new_deployment": true, "expected_task_definition": "web:7"}),
            ),
        ] {
            let mut whole = service.as_object().unwrap().clone();
            whole.extend(expected.as_object().unwrap().clone());
            assert_eq!(event(arguments).unwrap(), Value::Object(whole), "{arguments:?}");
        }
    }

    #[test]
    fn a_user_is_who_asks_unless_called_like_somebody_who_is_vouched_for() {
        let who = |named: Option<&str>| RequesterArgs { reason: None, requested_by: named.map(str::to_owned) };
        let user = |name: &'static str| move |variable: &str| (variable == "USER").then(|| name.to_owned());
        assert_eq!(requester(&who(None), user("ann")).unwrap().as_deref(), Some("ann"));
        assert_eq!(requester(&who(Some("job 7")), user("ann")).unwrap().as_deref(), Some("job 7"));
        assert_eq!(requester(&who(None), user("alias:ann")).unwrap(), None);
        assert_eq!(requester(&who(None), |_| None).unwrap(), None);
        assert_eq!(requester(&who(Some("arn:x")), user("ann")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for arguments in [
            &["--image", "a", "--image", "b"][..],
            &["--image", "web=a", "--image", "web=b"],
            &["--tag", "a=1", "--tag", "a=2"],
        ] {
            assert_eq!(event(arguments).unwrap_err().exit, Exit::Usage, "{arguments:?}");
        }
    }
}
