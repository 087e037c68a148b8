//! `history`: who changed what, once or continuously.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::ids::ChangeId;
use domain::ledger::history_query::{HistoryQuery, Order};
use serde_json::{Value, json};

use super::{ask_history, query_of};
use crate::answers::{HistoryChange, HistoryPage, ServiceAnswer, Tone, read, tone};
use crate::arguments::History;
use crate::failure::{CommandFailure, Exit};
use crate::lambda::Functions;
use crate::screen::{Screen, time_of};

/// How long `--follow` waits for news of a change that has not ended.
const OPEN_FOR: TimeDelta = TimeDelta::hours(1);
/// The most pages that `--follow` reads each time it looks.
const PAGES_PER_LOOK: usize = 20;
/// The age from which every index has a change.
const YOUNG: TimeDelta = TimeDelta::seconds(30);

/// Shows changes.
pub(super) async fn run(functions: &Functions, screen: &mut Screen, asked: &History) -> Result<Exit, CommandFailure> {
    let query = query(asked, functions)?;
    match (&asked.change, asked.follow) {
        (Some(_), true) => {
            let mut shown = None;
            let followed = follow_one(functions, screen, query, asked, &mut shown);
            // The time limit holds however long one answer takes.
            match tokio::time::timeout(Duration::from_secs(asked.timeout), followed).await {
                Ok(ended) => ended,
                Err(_) => Err(not_ended(asked.timeout, shown.as_deref())),
            }
        }
        (None, true) => follow(functions, screen, query, asked).await,
        (change, false) => {
            let found = list(functions, screen, query, asked).await?;
            if found == 0 && change.is_some() {
                return Err(not_found());
            }
            Ok(Exit::Done)
        }
    }
}

fn not_found() -> CommandFailure {
    CommandFailure::new(Exit::Failed, "the history has no such change")
        .advise("Find its id with `ecs-updater history`, by service or by day.")
}

fn not_ended(seconds: u64, status: Option<&str>) -> CommandFailure {
    let stands = status.map(|status| format!(": it stands at {status}")).unwrap_or_default();
    CommandFailure::new(Exit::Later, format!("no end of the change was recorded in {seconds} s{stands}")).advise(
        "What sends no event is recorded by the recorder's next sweep, or no recorder is deployed: look at the service \
         in ECS, or follow it for longer (--timeout SECONDS).",
    )
}

/// Requests changes. A change that began a moment ago may not be found yet: it is then requested a second time.
async fn ask(functions: &Functions, query: &HistoryQuery, asked: &History) -> Result<Value, CommandFailure> {
    let body = ask_history(functions, query).await?;
    let began = asked.change.as_deref().and_then(|id| ChangeId::parse(id).ok()).map(|id| id.time());
    if began.is_some_and(|at| Utc::now() - at < YOUNG) && changes_of(&body).is_empty() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        return ask_history(functions, query).await;
    }
    Ok(body)
}

/// The query that the arguments describe.
fn query(asked: &History, functions: &Functions) -> Result<HistoryQuery, CommandFailure> {
    let query = match &asked.service {
        Some(service) => query_of(service, functions)?,
        None => HistoryQuery::default(),
    };
    let is_list = asked.change.is_none();
    Ok(HistoryQuery {
        account_id: asked.account.as_ref().map(ToString::to_string).or(query.account_id),
        image: asked.image.clone(),
        change_id: asked.change.clone(),
        from: asked.day.clone().or_else(|| asked.from.clone()),
        to: asked.day.clone().or_else(|| asked.to.clone()),
        status: asked.status.clone(),
        requested_by: asked.requested_by.clone(),
        identity: asked.identity.clone(),
        next_token: asked.next_token.clone(),
        external: asked.external.then_some(true),
        limit: is_list.then(|| asked.limit.into()),
        order: is_list.then(|| asked.order.order()),
        ..query
    })
}

/// Prints one page, or all pages, and returns how many changes there were.
async fn list(
    functions: &Functions,
    screen: &mut Screen,
    mut query: HistoryQuery,
    asked: &History,
) -> Result<usize, CommandFailure> {
    let (mut changes, mut found) = (Vec::new(), 0);
    loop {
        let mut body = ask(functions, &query, asked).await?;
        let page: HistoryPage = read(&body);
        found += page.changes.len();
        if screen.is_json() {
            match body.get_mut("changes").map(Value::take) {
                Some(Value::Array(of_page)) if asked.all => changes.extend(of_page),
                of_page => {
                    body["changes"] = of_page.unwrap_or_default();
                    Screen::json(&body, true)?;
                }
            }
        } else {
            for change in &page.changes {
                show(screen, change, asked.change.is_some())?;
            }
        }
        // A page may be short, or even empty, and still be followed by another one.
        match page.next_token {
            Some(token) if asked.all => query.next_token = Some(token),
            Some(_) if !screen.is_json() => {
                screen.say("\nThere may be more: --all shows all, or narrow it down (--from, --to, --status).")?;
                break;
            }
            _ => break,
        }
    }
    if screen.is_json() {
        if asked.all {
            Screen::json(&json!({"changes": changes, "next_token": null}), true)?;
        }
    } else if found == 0 && asked.change.is_none() {
        screen.say("No changes.")?;
    }
    Ok(found)
}

fn show(screen: &mut Screen, change: &HistoryChange, in_full: bool) -> Result<(), CommandFailure> {
    if in_full { details(screen, change) } else { screen.entry(change) }
}

/// One change in full.
fn details(screen: &Screen, change: &HistoryChange) -> Result<(), CommandFailure> {
    screen.headline(change.status.as_deref().unwrap_or("?"), &change.service())?;
    Screen::space()?;
    let differences = change.differences();
    if !differences.is_empty() {
        screen.differences(&differences)?;
        Screen::space()?;
    }
    let time = |at: &Option<String>| at.as_deref().map(|at| format!("{} UTC", time_of(Some(at))));
    let state = change.after.as_ref().or(change.before.as_ref());
    let runs = state.filter(|_| differences.is_empty()).map(|state| {
        let images: Vec<_> = state.all_images().iter().map(|(name, image)| format!("{name}: {image}")).collect();
        images.join(", ")
    });
    let mut facts = vec![
        ("change", change.change_id.clone()),
        ("restores", change.restores.clone()),
        (
            "of",
            change.of.as_ref().map(|of| match &change.action {
                Some(action) => format!("{action} change {of}"),
                None => format!("change {of}"),
            }),
        ),
    ];
    facts.extend(change.not_restored.iter().map(|left| ("not restored", Some(left.line()))));
    facts.extend([
        ("asked for", change.asked_for()),
        ("runs", runs.filter(|runs| !runs.is_empty())),
        ("requested by", change.requester(256)),
        ("reason", change.reason.clone()),
        ("started", time(&change.started_at)),
        ("applied", time(&change.applied_at)),
        ("ended", time(&change.ended_at)),
        ("deployment", change.deployment_id.clone()),
    ]);
    facts.extend(change.outcome.iter().flat_map(ServiceAnswer::facts).map(|(name, value)| (name, Some(value))));
    facts.extend([
        ("session", change.session.clone()),
        ("request", change.request_id.clone()),
        ("error", change.error.as_ref().and_then(|error| error.code.clone())),
        ("", change.error.as_ref().and_then(|error| error.message.clone())),
    ]);
    screen.facts(&facts)
}

/// Waits until a change has ended. `shown` is the status that was shown last.
async fn follow_one(
    functions: &Functions,
    screen: &Screen,
    query: HistoryQuery,
    asked: &History,
    shown: &mut Option<String>,
) -> Result<Exit, CommandFailure> {
    loop {
        let body = match ask(functions, &query, asked).await {
            Ok(body) => body,
            Err(failure) => {
                passing(screen, failure)?;
                tokio::time::sleep(Duration::from_secs(asked.interval)).await;
                continue;
            }
        };
        let raw = body.get("changes").and_then(|changes| changes.get(0)).cloned().ok_or_else(not_found)?;
        let change: HistoryChange = read(&raw);
        if *shown != change.status {
            if screen.is_json() {
                Screen::json(&raw, false)?;
            } else {
                details(screen, &change)?;
            }
            shown.clone_from(&change.status);
        }
        if change.status.as_deref() == Some("UNRESOLVED") {
            return Err(CommandFailure::new(Exit::Failed, "the change began, and its function ended before it did")
                .at(change.service())
                .advise("Send the same event with the same key (--idempotency-key) again, which completes it."));
        }
        if change.has_ended() {
            let bad = change.status.as_deref().is_some_and(|status| tone(status) == Tone::Bad);
            return Ok(if bad { Exit::Failed } else { Exit::Done });
        }
        tokio::time::sleep(Duration::from_secs(asked.interval)).await;
    }
}

/// Shows the latest changes, then new ones and how they proceed.
async fn follow(
    functions: &Functions,
    screen: &mut Screen,
    mut query: HistoryQuery,
    asked: &History,
) -> Result<Exit, CommandFailure> {
    let mut known = Known::new(Utc::now());
    // A change goes from one status to the next. The filter is applied here, since otherwise changes that proceed would
    // be lost.
    query.status = None;
    let body = ask_history(functions, &query).await?;
    let mut changes = changes_of(&body);
    changes.reverse();
    let wanted = |change: &HistoryChange| asked.status.is_none() || change.status == asked.status;
    let mut complete = None;
    query.order = Some(Order::OldestFirst);
    query.limit = Some(100.into());
    loop {
        for raw in &changes {
            let change: HistoryChange = read(raw);
            if known.is_news(&change) && wanted(&change) {
                if screen.is_json() { Screen::json(raw, false)? } else { screen.entry(&change)? }
            }
        }
        if let Some(at) = complete.take() {
            known.has_seen_all(at);
        }
        tokio::time::sleep(Duration::from_secs(asked.interval)).await;
        let now = Utc::now();
        let since = known.since(now);
        query.from = Some(since.to_rfc3339_opts(SecondsFormat::Millis, true));
        changes = match look(functions, query.clone()).await {
            Ok((changes, all)) => {
                complete = all.then_some(now);
                changes
            }
            Err(failure) => {
                passing(screen, failure)?;
                Vec::new()
            }
        };
    }
}

/// All changes that match the query, page by page, and whether these were all.
async fn look(functions: &Functions, mut query: HistoryQuery) -> Result<(Vec<Value>, bool), CommandFailure> {
    let mut changes = Vec::new();
    for _ in 0..PAGES_PER_LOOK {
        let body = ask_history(functions, &query).await?;
        changes.extend(changes_of(&body));
        match read::<HistoryPage>(&body).next_token {
            Some(token) => query.next_token = Some(token),
            None => return Ok((changes, true)),
        }
    }
    Ok((changes, false))
}

fn changes_of(body: &Value) -> Vec<Value> {
    body.get("changes").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// `--follow` outlasts a temporary failure. A permanent one ends it.
fn passing(screen: &Screen, failure: CommandFailure) -> Result<(), CommandFailure> {
    if failure.exit != Exit::Later {
        return Err(failure);
    }
    screen.failure(&failure);
    Ok(())
}

/// What `--follow` has shown.
struct Known {
    began: DateTime<Utc>,
    /// Status by change id.
    shown: BTreeMap<String, String>,
    /// When each change that may still proceed began, by change id.
    open: BTreeMap<String, DateTime<Utc>>,
    newest: Option<DateTime<Utc>>,
}

impl Known {
    fn new(began: DateTime<Utc>) -> Self {
        Self { began, shown: BTreeMap::new(), open: BTreeMap::new(), newest: None }
    }

    /// Whether the change has not been shown with its present status yet.
    fn is_news(&mut self, change: &HistoryChange) -> bool {
        let (Some(id), Some(status)) = (&change.change_id, &change.status) else { return false };
        // The history is queried by the time in the id. The times in the records are later than that.
        let at = ChangeId::parse(id).map_or(self.began, |id| id.time());
        self.newest = self.newest.max(Some(at));
        if change.has_ended() {
            self.open.remove(id);
        } else {
            self.open.insert(id.clone(), at);
        }
        self.shown.insert(id.clone(), status.clone()).as_ref() != Some(status)
    }

    /// Every change until `at` was seen: one that began long before `at` and was not among them will not appear any
    /// more.
    fn has_seen_all(&mut self, at: DateTime<Utc>) {
        self.newest = Some(self.newest.unwrap_or(self.began).max(at - OPEN_FOR));
    }

    /// The time from which the history is queried: that of the oldest change that may still proceed, for a while.
    fn since(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.open.retain(|_, at| now - *at < OPEN_FOR);
        let newest = self.newest.unwrap_or(self.began);
        // Ids are made in many functions, whose clocks differ a little: an id may sort before one that was already
        // seen.
        let since = self.open.values().min().map_or(newest, |open| newest.min(*open)) - TimeDelta::minutes(1);
        let earlier = ChangeId::new(since, [0; 10]).to_string();
        self.shown.retain(|id, _| *id >= earlier);
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: DateTime<Utc>, status: &str) -> HistoryChange {
        HistoryChange {
            change_id: Some(ChangeId::new(at, [1; 10]).to_string()),
            status: Some(status.to_owned()),
            deployment_id: Some("ecs-svc/1".to_owned()),
            ..HistoryChange::default()
        }
    }

    #[test]
    fn a_change_is_news_once_per_status() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut known = Known::new(now);
        assert!(known.is_news(&change(now, "STARTED")));
        assert!(!known.is_news(&change(now, "STARTED")));
        assert!(known.is_news(&change(now, "COMPLETED")));
        assert!(!known.is_news(&HistoryChange::default()));
    }

    #[test]
    fn a_change_that_goes_on_is_asked_for_until_it_is_forgotten() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut known = Known::new(now);
        assert_eq!(known.since(now), now - TimeDelta::minutes(1));
        let open = now - TimeDelta::minutes(30);
        known.is_news(&change(open, "APPLIED"));
        known.is_news(&change(now, "COMPLETED"));
        assert_eq!(known.since(now), open - TimeDelta::minutes(1));
        // A complete look moves the time forward, but not past a change that still proceeds.
        known.has_seen_all(now);
        assert_eq!(known.since(now), open - TimeDelta::minutes(1));
        // A change that was shown and is returned again is no news.
        assert!(!known.is_news(&change(now, "COMPLETED")));
        assert_eq!(known.since(now + TimeDelta::hours(2)), now - TimeDelta::minutes(1));
        known.has_seen_all(now + TimeDelta::hours(3));
        assert_eq!(known.since(now + TimeDelta::hours(3)), now + TimeDelta::hours(2) - TimeDelta::minutes(1));
    }
}
