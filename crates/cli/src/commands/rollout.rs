//! `rollout`: starts, watches or stops an execution of the state machine that runs waves.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use domain::event::update_event::UpdateEvent;
use domain::ids::{AccountId, Region};
use serde_json::{Map, Value};

use super::change::{change_of, named, new_key, requester_of};
use super::pins;
use super::targets::pace_of;
use crate::answers::{Rollout as Summary, RolloutTarget, read};
use crate::arguments::{RequesterArgs, Rollout, SharedArgs};
use crate::aws::executions::{Execution, Executions, ended_without_summary};
use crate::bars::Bars;
use crate::failure::{CommandFailure, Exit};
use crate::json::overlay;
use crate::lambda::Functions;
use crate::progress::{Progress, RolloutStep, counts, services};
use crate::screen::Screen;
use crate::text::clean;
use crate::waves::{Hub, Input, Wave};

/// How many looks in a row may fail before this command stops watching.
const FAILED_LOOKS: u32 = 12;
/// The most services that a list names.
const NAMED: usize = 20;

/// Starts an execution, follows one, or stops one.
pub(super) async fn run(shared: &SharedArgs, screen: &Screen, asked: Rollout) -> Result<Exit, CommandFailure> {
    let looks = Duration::from_secs(asked.interval);
    if let Some(arn) = &asked.follow {
        return watch(&Executions::new(shared, arn).await?, screen, arn, looks).await;
    }
    if let Some(arn) = &asked.stop {
        return stop(&Executions::new(shared, arn).await?, screen, arn, &asked.who).await;
    }
    let state_machine = asked.state_machine.as_deref();
    let own = hub(shared, state_machine)?;
    let mut input = input(&asked, &own)?;
    let mut text = input.text()?;
    if asked.dry_run {
        return show_plan(screen, &input).map(|()| Exit::Done);
    }
    let state_machine = state_machine.ok_or_else(|| {
        CommandFailure::new(Exit::Usage, "no state machine is named")
            .advise("Give --state-machine, or set ECS_UPDATER_STATE_MACHINE: output WavesArn of hub.yaml.")
    })?;
    let executions = Executions::new(shared, state_machine).await?;
    let lookups = pins::lookups(&input.document);
    if !lookups.is_empty() {
        let functions = Functions::beside(shared, state_machine).await?;
        let digests = pins::looked_up(&functions, &lookups).await?;
        pins::pin(&mut input.document, &digests);
        input = Input::check(input.document, &own)?;
        text = input.text()?;
        if !screen.is_json() {
            let told: Vec<_> = digests.iter().map(|(tag, digest)| (tag.as_str(), Some(digest.clone()))).collect();
            screen.facts(&told)?;
        }
    }
    let name = asked.name.map_or_else(new_key, Ok)?;
    let arn = executions.start(state_machine, &name, text).await?;
    if screen.is_json() && asked.detach {
        Screen::json(&serde_json::json!({"execution": arn, "status": "RUNNING"}), true)?;
    } else if !screen.is_json() {
        screen.headline("STARTED", &name)?;
        Screen::print(&format!("\n{}\n\n", way_back(&arn)))?;
    }
    if asked.detach {
        return Ok(Exit::Done);
    }
    watch(&executions, screen, &arn, looks).await
}

/// The account and region of services that name none: those of the hub's functions, where the state machine is, too.
fn hub(shared: &SharedArgs, state_machine: Option<&str>) -> Result<Hub, CommandFailure> {
    let part = |number| state_machine.and_then(|arn| arn.split(':').nth(number));
    let of_machine = part(3).map(str::to_owned);
    let set = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok());
    // It only serves to tell one service from another: if it is unknown, any region will do.
    let region = of_machine.or_else(|| shared.region.clone()).or_else(set).unwrap_or_else(|| "us-east-1".to_owned());
    let account_id = part(4).and_then(|account| AccountId::parse(account).ok());
    Region::parse(&region)
        .map(|region| Hub { account_id, region })
        .map_err(|fault| CommandFailure::new(Exit::Usage, format!("the state machine's region: {fault}")))
}

/// The checked input, with the change that the options describe.
fn input(asked: &Rollout, hub: &Hub) -> Result<Input, CommandFailure> {
    let file = asked.file.as_deref().unwrap_or_else(|| Path::new("-"));
    let usage = |message: String| CommandFailure::new(Exit::Usage, format!("{}: {message}", file.display()));
    let mut text = String::new();
    let took = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    took.map_err(|fault| usage(format!("cannot be read: {fault}")))?;
    let mut document = domain::event::read(&text).map_err(|fault| {
        usage(format!("is no JSON: {fault}")).advise("`ecs-updater targets --output json` writes such a file.")
    })?;
    let mut change = match document.get_mut("change").map(Value::take) {
        Some(Value::Object(change)) => change,
        None => Map::new(),
        Some(_) => return Err(usage("\"change\" is no object".to_owned())),
    };
    // Another image replaces those in the file, in whichever way either of them is written.
    let wanted = change_of(&asked.what)?;
    if wanted.ecs_image_name.is_some() || wanted.images.is_some() {
        for name in ["ecs_image_name", "images", "container_name"] {
            change.remove(name);
        }
    }
    let (requested_by, reason) = requester_of(&asked.who)?;
    // A name in the file takes precedence over the mere name of the user.
    let is_named = asked.who.requested_by.is_none() && change.contains_key("requested_by");
    overlay(&mut change, &UpdateEvent { requested_by: requested_by.filter(|_| !is_named), reason, ..wanted })?;
    if let Some(members) = document.as_object_mut() {
        members.insert("change".to_owned(), change.into());
        overlay(members, &pace_of(&asked.pace))?;
    }
    Input::check(document, hub)
}

/// What each wave would do.
fn show_plan(screen: &Screen, input: &Input) -> Result<(), CommandFailure> {
    if screen.is_json() {
        return Screen::json(&input.document, true);
    }
    let member = |name: &str| input.document.get(name);
    let change = member("change").and_then(Value::as_object).cloned().unwrap_or_default();
    let count = input.waves.len();
    screen.headline("PLANNED", &format!("{count} wave{}", if count == 1 { "" } else { "s" }))?;
    Screen::space()?;
    let facts: Vec<(&str, Option<String>)> = change
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))))
        .collect();
    screen.facts(&facts)?;
    for (index, wave) in input.waves.iter().enumerate() {
        Screen::space()?;
        match wave {
            Wave::Services(names) => {
                screen.say(&format!("wave {}: {}", index + 1, services(names.len() as u64)))?;
                Screen::list(names)?;
            }
            Wave::Object(key) => screen.say(&format!("wave {}: the services in {}", index + 1, clean(key)))?,
        }
    }
    let bake = member("bake_seconds").and_then(Value::as_u64);
    let bake = bake.map_or_else(|| "its usual time".to_owned(), |seconds| format!("{seconds} s"));
    let tolerated = member("tolerated_failure_percentage").and_then(Value::as_f64).unwrap_or_default();
    screen.say(&format!(
        "\nAfter each wave it waits {bake}, and stops where more than {tolerated} % of it failed. Nothing was started."
    ))
}

/// Shows the progress of an execution until it ends, or until Ctrl-C.
async fn watch(executions: &Executions, screen: &Screen, arn: &str, looks: Duration) -> Result<Exit, CommandFailure> {
    let mut bars = Bars::new(screen);
    let watched = tokio::select! {
        ended = follow(executions, &mut bars, arn, looks) => Some(ended),
        interrupted = tokio::signal::ctrl_c() => {
            // If waiting for the signal fails, the command ends as if it had been sent.
            drop(interrupted);
            None
        }
    };
    bars.rest();
    match watched {
        Some(Ok(execution)) => told(screen, arn, &execution),
        Some(Err(failure)) => Err(failure.advise(format!("The execution may go on. {}", way_back(arn)))),
        None if screen.is_json() => Err(CommandFailure::new(Exit::Later, "interrupted: the execution goes on")
            .code("Interrupted")
            .at(arn)
            .advise(way_back(arn))),
        None => {
            // This is not wrapped, since commands are for copying.
            Screen::print(&format!("\nThe execution goes on.\n{}\n", way_back(arn)))?;
            Ok(Exit::Later)
        }
    }
}

fn way_back(arn: &str) -> String {
    let arn = clean(arn);
    format!("Come back to it:\n  ecs-updater rollout --follow {arn}\nStop it:\n  ecs-updater rollout --stop {arn}")
}

/// Looks at an execution again and again until it has ended.
async fn follow(
    executions: &Executions,
    bars: &mut Bars,
    arn: &str,
    looks: Duration,
) -> Result<Execution, CommandFailure> {
    let mut execution = executions.describe(arn).await?;
    let mut progress = Progress::new(execution.input.as_ref());
    let mut newest = 0;
    let mut failed_looks = 0;
    loop {
        let before = progress.clone();
        let ended = is_over(&execution.status);
        // This is also done after the end: the last steps have not been read yet.
        match look(executions, arn, &mut progress, &mut newest).await {
            Ok(()) => failed_looks = 0,
            // The end of the execution is known, and says more than its steps.
            Err(_) if ended => {}
            Err(failure) => again(failure, &mut failed_looks)?,
        }
        if ended {
            for wave in waves_of(&execution) {
                progress.judged(wave);
            }
        }
        bars.show(&before, &progress, Utc::now());
        if ended {
            return Ok(execution);
        }
        tokio::time::sleep(looks).await;
        match executions.describe(arn).await {
            Ok(now) => execution = now,
            Err(failure) => again(failure, &mut failed_looks)?,
        }
    }
}

/// Whether watching continues after a failed look: the network may be away for a while.
fn again(failure: CommandFailure, failed_looks: &mut u32) -> Result<(), CommandFailure> {
    *failed_looks += 1;
    let may_pass = failure.exit == Exit::Later || failure.exit == Exit::NotAsked && failure.code.is_none();
    if may_pass && *failed_looks < FAILED_LOOKS { Ok(()) } else { Err(failure) }
}

/// Brings `progress` up to the present.
async fn look(
    executions: &Executions,
    arn: &str,
    progress: &mut Progress,
    newest: &mut i64,
) -> Result<(), CommandFailure> {
    let (steps, seen): (Vec<RolloutStep>, i64) = executions.steps(arn, *newest).await?;
    *newest = seen;
    for step in &steps {
        progress.step(step);
    }
    let runs = executions.map_runs(arn).await?;
    for (index, run) in runs.iter().filter(|run| run.is_wave()).enumerate() {
        // A Map Run that ended is complete in `progress` once its counts were read.
        if progress.waves.get(index).is_some_and(|wave| wave.total.is_none_or(|total| wave.done < total)) {
            progress.counted(index, executions.counts(&run.arn).await?);
        }
    }
    Ok(())
}

fn is_over(status: &str) -> bool {
    !matches!(status, "RUNNING" | "PENDING_REDRIVE")
}

fn waves_of(execution: &Execution) -> &[Value] {
    let waves = execution.summary.as_ref().and_then(|summary| summary.get("waves")).and_then(Value::as_array);
    waves.map(Vec::as_slice).unwrap_or_default()
}

/// Shows how an execution ended.
fn told(screen: &Screen, arn: &str, execution: &Execution) -> Result<Exit, CommandFailure> {
    let Some(document) = execution.summary.as_ref().filter(|summary| summary.get("waves").is_some()) else {
        if execution.error.as_deref() == Some("InputRefused") {
            let cause = execution.cause.clone().unwrap_or_default();
            return Err(CommandFailure::new(Exit::Usage, cause).code("InputRefused").at(arn).advise("Fix the input."));
        }
        return Err(match execution.status.as_str() {
            "SUCCEEDED" => CommandFailure::new(Exit::Failed, "the execution ended well, and left no summary")
                .at(arn)
                .advise("Is that an execution of the hub's state machine?"),
            _ => ended_without_summary(arn, execution),
        });
    };
    let summary: Summary = read(document);
    if screen.is_json() {
        Screen::json(document, true)?;
    } else {
        show(screen, &summary, waves_of(execution))?;
    }
    Ok(if execution.status == "SUCCEEDED" { Exit::Done } else { Exit::Failed })
}

fn show(screen: &Screen, summary: &Summary, waves: &[Value]) -> Result<(), CommandFailure> {
    Screen::space()?;
    screen.headline(summary.status.as_deref().unwrap_or("?"), summary.rollout_id.as_deref().unwrap_or_default())?;
    if let Some(reason) = &summary.reason {
        screen.say(&clean(reason))?;
    }
    Screen::space()?;
    for (wave, numbers) in summary.waves.iter().zip(waves) {
        let number = wave.wave.unwrap_or_default();
        screen.headline(wave.status.as_deref().unwrap_or("?"), &format!("wave {number}  {}", counts(numbers)))?;
        for failure in wave.failures.iter().take(NAMED) {
            let why = [&failure.status, &failure.code].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
            Screen::list([failure.service(), format!("  {}", why.join(" "))])?;
        }
    }
    Screen::space()?;
    let place = |key: &String| format!("s3://{}/{key}", summary.bucket.as_deref().unwrap_or_default());
    screen.facts(&[
        ("changed", summary.changed.map(services)),
        ("failed", summary.failed.map(services)),
        ("more", summary.key.as_ref().map(place)),
        ("left out", summary.shortened.clone()),
    ])?;
    if summary.restore_keys.is_empty() {
        return match (summary.changed, &summary.key) {
            (Some(1..), Some(key)) => {
                screen.say(&format!("\nTo roll back this rollout: \"restore_keys\" of {}", clean(&place(key))))
            }
            _ => Ok(()),
        };
    }
    screen.say("\nTo roll back this rollout, in this order:")?;
    Screen::list(summary.restore_keys.iter().map(|key| {
        // A quote would end the shell's word.
        format!("aws s3 cp '{}' - | ecs-updater invoke -", place(key).replace('\'', ""))
    }))?;
    let back = summary.restore.as_ref().map(|restore| restore.updates.as_slice()).unwrap_or_default();
    if !back.is_empty() {
        screen.say("These services go back:")?;
        Screen::list(back.iter().take(NAMED).map(RolloutTarget::service))?;
        if let Some(more) = back.len().checked_sub(NAMED).filter(|more| *more > 0) {
            Screen::list([format!("and {more} more")])?;
        }
    }
    Ok(())
}

/// Stops an execution.
async fn stop(
    executions: &Executions,
    screen: &Screen,
    arn: &str,
    who: &RequesterArgs,
) -> Result<Exit, CommandFailure> {
    let execution = executions.describe(arn).await?;
    if is_over(&execution.status) {
        if screen.is_json() {
            return Screen::json(&serde_json::json!({"execution": arn, "status": execution.status}), true)
                .map(|()| Exit::Done);
        }
        screen.headline(&execution.status, "already finished")?;
        Screen::print(&format!("\nDetails:\n  ecs-updater rollout --follow {}\n", clean(arn)))?;
        return Ok(Exit::Done);
    }
    let why = who.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let who = named(who).unwrap_or_else(|| "somebody".to_owned());
    executions.stop(arn, &format!("stopped by {who}{why}")).await?;
    if screen.is_json() {
        Screen::json(&serde_json::json!({"execution": arn, "status": "ABORTED"}), true)?;
        return Ok(Exit::Done);
    }
    screen.headline("ABORTED", arn)?;
    let since = execution.started.map(|at| format!(" --from {}", at.format("%Y-%m-%dT%H:%M:%SZ"))).unwrap_or_default();
    screen.say(
        "\nNo further batch begins. Changes that are under way end by themselves, and what was changed stays changed:",
    )?;
    Screen::print(&format!("  ecs-updater history{since} --all\n"))?;
    Ok(Exit::Done)
}
