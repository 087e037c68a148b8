//! `targets`: lists the services that a rollout could change, cut into waves.

use std::collections::BTreeSet;
use std::path::Path;

use domain::event::update_event::UpdateEvent;
use domain::ids::{AccountId, Region};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use wildmatch::WildMatch;

use super::change::change_of;
use crate::arguments::{CutBy, RolloutPace, SharedArgs, Targets};
use crate::aws::discovery::{DiscoveredService, Discovery, Filter, Reader};
use crate::failure::{CommandFailure, Exit};
use crate::json::to_json;
use crate::screen::Screen;
use crate::text::clean;
use crate::waves::{Cut, Hub, Input, RolloutTarget, WaveTargets, WavesInput, cut, put_first, units};

/// How many accounts are read at a time.
const AT_ONCE: usize = 8;
/// The most waves of a rollout. A test compares it with the schema.
const MAX_WAVES: usize = 50;
/// The most services of a wave that is an object.
const MAX_IN_OBJECT: usize = 10_000;
/// The most places that a message names as unreadable.
const MAX_UNREAD: usize = 50;

/// Lists services, cut into waves.
pub(super) async fn run(shared: &SharedArgs, screen: &Screen, asked: Targets) -> Result<Exit, CommandFailure> {
    let change = change_of(&asked.what)?;
    let discovery = Discovery::new(shared).await?;
    let accounts = accounts(&discovery, &asked).await?;
    if accounts.is_empty() {
        return Err(CommandFailure::new(Exit::Failed, "there is no active account there"));
    }
    let mut found = read(&discovery, screen, &asked, &accounts).await;
    put_first(&mut found.targets, &asked.first);
    let services = found.targets.len();
    let how = match (asked.wave_size, asked.waves.is_empty()) {
        (Some(size), _) => Cut::Size(size),
        (None, true) => Cut::Whole,
        (None, false) => Cut::Steps(asked.waves),
    };
    let waves = cut(units(found.targets, asked.by == CutBy::Account), &how);
    if waves.len() > MAX_WAVES {
        return Err(CommandFailure::new(
            Exit::Usage,
            format!("that would be {} waves, and a rollout has at most {MAX_WAVES}", waves.len()),
        )
        .advise("Make them larger (--wave-size), or grow from wave to wave (--waves 1,10%,100%)."));
    }
    let incomplete = incomplete(&found.unread, accounts.len());
    if waves.is_empty() {
        return Err(incomplete.unwrap_or_else(|| {
            CommandFailure::new(Exit::Failed, format!("no active service fits in {} accounts", accounts.len()))
                .advise("Look at --regions, --cluster, --service and --tagged.")
        }));
    }
    if !screen.is_json() {
        show(screen, &waves, services)?;
    }
    let waves = match &asked.objects {
        Some(folder) => objects(screen, &waves, folder)?,
        None => waves.iter().map(|wave| WaveTargets::Listed(wave.iter().map(RolloutTarget::event).collect())).collect(),
    };
    if screen.is_json() {
        Screen::json(&input(waves, change, &asked.pace, discovery.region())?, true)?;
    }
    incomplete.map_or(Ok(Exit::Done), Err)
}

/// The accounts in the order in which they are processed: first those that were named, in their order, then the others
/// by id.
async fn accounts(discovery: &Discovery, asked: &Targets) -> Result<Vec<AccountId>, CommandFailure> {
    let mut listed = BTreeSet::new();
    if asked.organization {
        listed.extend(discovery.organization().await?);
    }
    for unit in &asked.unit {
        listed.extend(discovery.unit(unit).await?);
    }
    let mut seen = BTreeSet::new();
    let all = asked.account.iter().cloned().chain(listed);
    Ok(all.filter(|account| !asked.exclude_account.contains(account) && seen.insert(account.clone())).collect())
}

/// Reads several accounts at a time. The results are in the order of the accounts.
async fn read(discovery: &Discovery, screen: &Screen, asked: &Targets, accounts: &[AccountId]) -> DiscoveredService {
    let reader = Reader { role: asked.reader_role.clone(), external_id: asked.external_id.clone() };
    let patterns = |texts: &[String]| texts.iter().map(|text| WildMatch::new(text)).collect();
    let filter = Filter {
        clusters: patterns(&asked.cluster),
        services: patterns(&asked.service),
        tagged: asked.tagged.iter().map(|(key, value)| (key.clone(), WildMatch::new(value))).collect(),
    };
    let own = [discovery.region().clone()];
    let regions: &[Region] = if asked.regions.is_empty() { &own } else { &asked.regions };
    // This is shown on a terminal only: a log does not get a line for every account.
    let target = if screen.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("reading accounts [{bar:30}] {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar =
        ProgressBar::with_draw_target(Some(accounts.len() as u64), target).with_style(style.progress_chars("=> "));
    let mut reading =
        stream::iter(accounts).map(|account| discovery.services(account, &reader, regions, &filter)).buffered(AT_ONCE);
    let mut all = DiscoveredService::default();
    while let Some(found) = reading.next().await {
        all.targets.extend(found.targets);
        all.unread.extend(found.unread);
        bar.inc(1);
    }
    bar.finish_and_clear();
    all
}

/// The failure that names what could not be read, if there is anything.
fn incomplete(unread: &[CommandFailure], accounts: usize) -> Option<CommandFailure> {
    if unread.is_empty() {
        return None;
    }
    let place = |failure: &CommandFailure| failure.place.clone().unwrap_or_default();
    let affected: BTreeSet<_> =
        unread.iter().map(|failure| place(failure).chars().take(12).collect::<String>()).collect();
    let mut lines = vec![format!("{} of {accounts} accounts could not be read in full:", affected.len())];
    for failure in unread.iter().take(MAX_UNREAD) {
        let code = failure.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
        lines.push(format!("{}: {code}{}", place(failure), failure.message));
    }
    if let Some(more) = unread.len().checked_sub(MAX_UNREAD).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    let mut failure = CommandFailure::new(Exit::Failed, lines.join("\n")).code("Incomplete");
    // The advice appears once for each kind of failure, with the first place as the example.
    let mut advised = BTreeSet::new();
    for first in unread.iter().take(MAX_UNREAD).filter(|failure| advised.insert(failure.code.clone())) {
        failure.advice.extend(first.advice.iter().cloned());
    }
    Some(failure.advise("What is listed is not everything. --exclude-account leaves an account out."))
}

/// The input of a rollout.
fn input(
    waves: Vec<WaveTargets>,
    change: UpdateEvent,
    pace: &RolloutPace,
    region: &Region,
) -> Result<Value, CommandFailure> {
    let changes = change != UpdateEvent::default();
    let input = to_json(&WavesInput { change: Some(change), waves: Some(waves), ..pace_of(pace) })?;
    // Without a change the input is not complete yet: `rollout` adds the change, and checks the input then.
    let hub = Hub { account_id: None, region: region.clone() };
    if changes { Input::check(input, &hub).map(|checked| checked.document) } else { Ok(input) }
}

/// Writes each wave into a file, one service per line, and names the object that it will become.
fn objects(screen: &Screen, waves: &[Vec<RolloutTarget>], folder: &Path) -> Result<Vec<WaveTargets>, CommandFailure> {
    let failed = |path: &Path, fault: std::io::Error| {
        CommandFailure::new(Exit::Failed, format!("{} cannot be written: {fault}", path.display()))
    };
    let name = folder.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        CommandFailure::new(
            Exit::Usage,
            "--objects needs a folder with a name, which becomes part of the objects' keys",
        )
    })?;
    std::fs::create_dir_all(folder).map_err(|fault| failed(folder, fault))?;
    let mut keys = Vec::new();
    for (index, wave) in waves.iter().enumerate() {
        if wave.len() > MAX_IN_OBJECT {
            return Err(CommandFailure::new(
                Exit::Usage,
                format!("wave {} has {} services, and an object at most {MAX_IN_OBJECT}", index + 1, wave.len()),
            )
            .advise("Cut it into smaller waves."));
        }
        let file = format!("wave-{}.jsonl", index + 1);
        let path = folder.join(&file);
        let lines: Vec<String> = wave
            .iter()
            .map(|target| Ok(to_json(&target.event())?.to_string()))
            .collect::<Result<_, CommandFailure>>()?;
        std::fs::write(&path, lines.join("\n") + "\n").map_err(|fault| failed(&path, fault))?;
        keys.push(WaveTargets::Object { key: format!("inputs/{name}/{file}") });
    }
    if !screen.is_json() {
        screen.say("\nWith the bucket of the stack's output WavesBucketName:")?;
        Screen::print(&format!(
            "  aws s3 cp {0} s3://BUCKET/inputs/{1} --recursive\n",
            clean(&folder.display().to_string()),
            clean(name)
        ))?;
    }
    Ok(keys)
}

/// How a rollout proceeds from wave to wave, as far as the options say.
pub(super) fn pace_of(pace: &RolloutPace) -> WavesInput {
    WavesInput {
        bake_seconds: pace.bake_seconds,
        tolerated_failure_percentage: pace.tolerated_failure_percentage,
        ..WavesInput::default()
    }
}

fn show(screen: &Screen, waves: &[Vec<RolloutTarget>], services: usize) -> Result<(), CommandFailure> {
    for (index, wave) in waves.iter().enumerate() {
        screen.headline(&format!("wave {}", index + 1), &format!("{} of {services} services", wave.len()))?;
        Screen::list(wave.iter().map(RolloutTarget::to_string))?;
    }
    screen.say("\nAs input for `ecs-updater rollout`: --output json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_waves_as_the_schema_takes() {
        let schema: Value = serde_json::from_str(include_str!("../../../../schema/waves-input.schema.json")).unwrap();
        assert_eq!(schema["properties"]["waves"]["maxItems"], MAX_WAVES);
    }
}
