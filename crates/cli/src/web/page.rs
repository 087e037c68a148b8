//! What the page shows: answers of the history function, prepared for the template.

use std::collections::BTreeMap;

use askama::Template;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta};
use domain::image::repository_of;
use domain::ledger::change::statuses;
use domain::ledger::history_query::{HistoryQuery, Order};
use serde::{Deserialize, Deserializer};

use crate::answers::{
    self, HistoryChange, HistoryPage, IDENTITIES, ServiceAnswer, Tone, Verdict, read, service_key, tone,
};
use crate::arguments::{History, SortOrder};
use crate::commands::{ask_history, query_of};
use crate::difference::{Difference, shortened};
use crate::failure::{CommandFailure, Exit};
use crate::lambda::Functions;
use crate::screen::time_of;
use crate::service::Service;
use crate::text::{self, clean, clean_lines};

/// How many changes one page of the history has.
const LIMIT: u8 = 20;

/// What the reader asked for. An empty field is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    #[serde(deserialize_with = "trimmed")]
    pub service: String,
    #[serde(deserialize_with = "trimmed")]
    pub account: String,
    #[serde(deserialize_with = "trimmed")]
    pub image: String,
    #[serde(deserialize_with = "trimmed")]
    pub change: String,
    #[serde(deserialize_with = "trimmed")]
    pub from: String,
    #[serde(deserialize_with = "trimmed")]
    pub to: String,
    #[serde(deserialize_with = "trimmed")]
    pub status: String,
    #[serde(deserialize_with = "trimmed")]
    pub requested_by: String,
    /// Whether deployments of the whole organization that were started outside the updater are shown, too.
    #[serde(deserialize_with = "trimmed")]
    pub external: String,
    #[serde(deserialize_with = "trimmed")]
    pub identity: String,
    #[serde(deserialize_with = "trimmed")]
    pub order: String,
    /// Where the page of changes begins.
    #[serde(deserialize_with = "trimmed")]
    pub next: String,
    /// Whether the form or a link was used. Without it the page is being opened.
    #[serde(deserialize_with = "trimmed")]
    pub show: String,
}

fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(String::deserialize(deserializer)?.trim().to_owned())
}

impl Filters {
    /// What the command line asked for.
    pub(super) fn of_arguments(asked: &History) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            service: asked.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            account: text(&asked.account),
            image: text(&asked.image),
            change: text(&asked.change),
            from: asked.day.clone().unwrap_or_else(|| text(&asked.from)),
            to: asked.day.clone().unwrap_or_else(|| text(&asked.to)),
            status: text(&asked.status),
            requested_by: text(&asked.requested_by),
            identity: text(&asked.identity),
            external: if asked.external { "true".to_owned() } else { String::new() },
            order: if asked.order == SortOrder::OldestFirst { asked.order.as_str().to_owned() } else { String::new() },
            next: String::new(),
            show: String::new(),
        }
    }

    /// Whether nothing has been asked for yet.
    pub(super) fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// The first day, in the form that a date field takes.
    fn day_from(&self) -> String {
        day(&self.from, TimeDelta::zero())
    }

    /// The last day, in the form that a date field takes. The end is exclusive: if it is midnight, the day before is
    /// the last one.
    fn day_to(&self) -> String {
        day(&self.to, TimeDelta::milliseconds(1))
    }

    fn is_oldest_first(&self) -> bool {
        self.order == SortOrder::OldestFirst.as_str()
    }

    fn is_external(&self) -> bool {
        self.external == "true"
    }

    fn has_status(&self, status: &&str) -> bool {
        self.status == *status
    }

    fn has_identity(&self, identity: &&str) -> bool {
        self.identity == *identity
    }

    /// The address of a page with these filters, relative to the page.
    fn link(&self) -> String {
        let mut link = "?show=1".to_owned();
        let members = [
            ("service", &self.service),
            ("account", &self.account),
            ("image", &self.image),
            ("change", &self.change),
            ("from", &self.from),
            ("to", &self.to),
            ("status", &self.status),
            ("requested_by", &self.requested_by),
            ("identity", &self.identity),
            ("external", &self.external),
            ("order", &self.order),
            ("next", &self.next),
        ];
        for (name, value) in members {
            if !value.is_empty() {
                link.push('&');
                link.push_str(name);
                link.push('=');
                encode(value, &mut link);
            }
        }
        link
    }

    /// The query for the history function. It searches one index; the remaining filters are left to `keeps`.
    fn query(&self, functions: &Functions) -> Result<HistoryQuery, CommandFailure> {
        let given = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        if !self.change.is_empty() {
            return Ok(HistoryQuery { change_id: given(&self.change), ..HistoryQuery::default() });
        }
        let index = if !self.service.is_empty() {
            service_query(&self.service, functions)?
        } else if !self.image.is_empty() {
            HistoryQuery { image: given(repository_of(&self.image)), ..HistoryQuery::default() }
        } else {
            HistoryQuery { account_id: given(&self.account), ..HistoryQuery::default() }
        };
        Ok(HistoryQuery {
            from: given(&self.from),
            to: given(&self.to),
            status: given(&self.status),
            requested_by: given(&self.requested_by),
            identity: given(&self.identity),
            next_token: given(&self.next),
            order: Some(if self.is_oldest_first() { Order::OldestFirst } else { Order::NewestFirst }),
            external: self.is_external().then_some(true),
            limit: Some(LIMIT.into()),
            ..index
        })
    }

    /// Whether a change also matches the filters that the index does not cover.
    fn keeps(&self, change: &HistoryChange) -> bool {
        let of_account = self.account.is_empty() || change.account_id.as_ref() == Some(&self.account);
        let mut images = change.after.iter().chain(&change.before).flat_map(answers::StateView::all_images);
        let wanted = repository_of(&self.image);
        let of_image = self.image.is_empty() || images.any(|(_, image)| repository_of(image) == wanted);
        of_account && of_image
    }

    /// What the page is about.
    fn title(&self) -> String {
        if !self.change.is_empty() {
            return format!("Change {}", clean(&self.change));
        }
        let of = |what: &str, text: &str| (!text.is_empty()).then(|| format!("{what} {}", clean(text)));
        let parts: Vec<_> = [of("service", &self.service), of("image", &self.image), of("account", &self.account)]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() { "Changes everywhere".to_owned() } else { format!("Changes of {}", parts.join(", ")) }
    }
}

/// The day (UTC) of a time, after subtracting `less`. A text that is not a time is returned as it is.
fn day(at: &str, less: TimeDelta) -> String {
    DateTime::parse_from_rfc3339(at).map_or_else(|_| at.to_owned(), |at| (at.to_utc() - less).date_naive().to_string())
}

/// Percent-encodes all characters except those that are plain everywhere.
fn encode(value: &str, into: &mut String) {
    use std::fmt::Write;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            into.push(char::from(byte));
        } else {
            _ = write!(into, "%{byte:02X}");
        }
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "history.html")]
struct View {
    title: String,
    filters: Filters,
    statuses: Vec<&'static str>,
    identities: [&'static str; 2],
    problem: Option<Problem>,
    services: Vec<ServiceView>,
    /// Changes on this page.
    count: usize,
    next: Option<String>,
    first: Option<String>,
    /// Whether some of the page's changes were filtered out here.
    thinned: bool,
}

/// What went wrong.
struct Problem {
    code: String,
    message: String,
    advice: Vec<String>,
}

/// The changes of one service.
struct ServiceView {
    key: String,
    account: String,
    name: String,
    link: String,
    chain: Option<Chain>,
    changes: Vec<ChangeView>,
}

/// The result of `verify`.
#[derive(Clone)]
struct Chain {
    /// `whole`, `broken` or `unknown`.
    kind: &'static str,
    text: String,
    record: String,
}

/// One change.
struct ChangeView {
    id: String,
    link: String,
    status: String,
    tone: &'static str,
    at: String,
    shown_at: String,
    differences: Vec<Difference>,
    /// How many more differences came with the revision.
    more: usize,
    runs: Vec<String>,
    requested_by: String,
    /// Whether somebody vouches for the requester; empty if nobody is named.
    identity: String,
    reason: String,
    error_code: String,
    error: String,
    /// The images as they were requested, if they were pinned to digests.
    asked_for: String,
    /// How its deployment ended: names and values.
    ended: Vec<(&'static str, String)>,
    restores: Option<(String, String)>,
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    /// Whether before and after are unfolded from the start.
    open: bool,
}

/// One line of the comparison of before and after.
struct Row {
    name: String,
    /// `None` if there was no such value.
    before: Option<String>,
    after: Option<String>,
    changed: bool,
}

impl Row {
    fn sides(&self) -> [Option<&str>; 2] {
        [self.before.as_deref(), self.after.as_deref()]
    }
}

/// The page for these filters, and its HTTP status.
pub(super) async fn build(functions: &Functions, filters: Filters) -> (StatusCode, askama::Result<String>) {
    let mut status = StatusCode::OK;
    let mut view = View {
        title: filters.title(),
        statuses: statuses(),
        identities: IDENTITIES,
        problem: None,
        services: Vec::new(),
        count: 0,
        next: None,
        first: (!filters.next.is_empty()).then(|| Filters { next: String::new(), ..filters.clone() }.link()),
        thinned: false,
        filters,
    };
    if let Err(failure) = fill(functions, &mut view).await {
        status = match failure.exit {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::Later => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        };
        view.problem = Some(Problem {
            code: failure.code.as_deref().map(clean).unwrap_or_default(),
            message: clean_lines(&failure.message),
            advice: failure.advice.iter().map(|line| clean(line)).collect(),
        });
    }
    (status, view.render())
}

async fn fill(functions: &Functions, view: &mut View) -> Result<(), CommandFailure> {
    let page: HistoryPage = read(&ask_history(functions, &view.filters.query(functions)?).await?);
    let found = page.changes.len();
    let changes: Vec<HistoryChange> = page.changes.into_iter().filter(|change| view.filters.keeps(change)).collect();
    view.count = changes.len();
    view.thinned = view.count < found;
    view.next = page.next_token.map(|next| Filters { next, ..view.filters.clone() }.link());
    let in_full = !view.filters.change.is_empty();
    for change in &changes {
        let key = clean(&change.service());
        let shown = ChangeView::new(change, in_full);
        if let Some(service) = view.services.iter_mut().find(|service| service.key == key) {
            service.changes.push(shown);
        } else {
            let mut service = ServiceView::new(change, key);
            service.changes.push(shown);
            view.services.push(service);
        }
    }
    // A single ledger is checked when it is shown; a page with many of them would have to read them all. A ledger is
    // also checked if it shows nothing, since it may have been emptied.
    let asked_for = if view.filters.service.is_empty() {
        changes.first().filter(|_| in_full).map(query_of_change)
    } else {
        Some(service_query(&view.filters.service, functions)?)
    };
    if let Some(query) = asked_for {
        if view.services.is_empty() {
            let change = HistoryChange {
                account_id: query.account_id.clone(),
                region: query.region.clone(),
                ecs_cluster_name: query.ecs_cluster_name.clone(),
                ecs_service_name: query.ecs_service_name.clone(),
                ..HistoryChange::default()
            };
            view.services.push(ServiceView::new(&change, clean(&change.service())));
        }
        let chain = verify(functions, query).await;
        view.services.iter_mut().for_each(|service| service.chain = Some(chain.clone()));
    }
    Ok(())
}

/// The query for a service, as the reader wrote it.
fn service_query(service: &str, functions: &Functions) -> Result<HistoryQuery, CommandFailure> {
    let service: Service = service
        .parse()
        .map_err(|fault| CommandFailure::new(Exit::Usage, format!("“{}” is no service: {fault}", clean(service))))?;
    query_of(&service, functions)
}

/// The query for the service of a change.
fn query_of_change(change: &HistoryChange) -> HistoryQuery {
    HistoryQuery {
        account_id: change.account_id.clone(),
        region: change.region.clone(),
        ecs_cluster_name: change.ecs_cluster_name.clone(),
        ecs_service_name: change.ecs_service_name.clone(),
        ..HistoryQuery::default()
    }
}

async fn verify(functions: &Functions, query: HistoryQuery) -> Chain {
    let query = HistoryQuery { verify: Some(true), ..query };
    let chain = |kind, text: String, record: &str| Chain { kind, text, record: clean(record) };
    let verdict = match ask_history(functions, &query).await {
        Ok(body) => read::<Verdict>(&body),
        Err(failure) => return chain("unknown", format!("could not be checked: {}", clean(&failure.message)), ""),
    };
    let is_empty = verdict.is_empty();
    let fault = verdict.fault.unwrap_or_default();
    match verdict.ok {
        _ if is_empty => chain("unknown", answers::NO_RECORDS.to_owned(), ""),
        Some(true) => chain("whole", format!("whole: {} records verified", verdict.verified), ""),
        Some(false) => {
            let what = fault.what.as_deref().unwrap_or("the function did not say how");
            chain("broken", format!("broken: {}", clean(what)), fault.record.as_deref().unwrap_or_default())
        }
        None => chain("unknown", "could not be checked".to_owned(), ""),
    }
}

impl ServiceView {
    fn new(change: &HistoryChange, key: String) -> Self {
        let text = |value: &Option<String>| clean(value.as_deref().unwrap_or("?"));
        let service =
            service_key([&change.account_id, &change.region, &change.ecs_cluster_name, &change.ecs_service_name]);
        Self {
            key,
            account: format!(
                "account {} · {} · cluster {}",
                text(&change.account_id),
                text(&change.region),
                text(&change.ecs_cluster_name)
            ),
            name: text(&change.ecs_service_name),
            link: Filters { service, ..Filters::default() }.link(),
            chain: None,
            changes: Vec::new(),
        }
    }
}

impl ChangeView {
    fn new(change: &HistoryChange, open: bool) -> Self {
        let text = |value: &Option<String>| clean(value.as_deref().unwrap_or_default());
        let status = clean(change.status.as_deref().unwrap_or("?"));
        let all = change.differences();
        let (differences, more) = if open { (all, 0) } else { shortened(all) };
        let state = change.after.as_ref().or(change.before.as_ref());
        let runs = state.filter(|_| differences.is_empty()).map(|state| {
            state.all_images().iter().map(|(name, image)| clean(&format!("image {name}: {image}"))).collect()
        });
        let link = |id: &str| Filters { change: id.to_owned(), ..Filters::default() }.link();
        let id = change.change_id.as_deref().unwrap_or_default();
        let identity = change.requested_by.as_ref().map(|_| clean(change.identity())).unwrap_or_default();
        let error = change.error.clone().unwrap_or_default();
        let facts = [
            ("Started", time(change.started_at.as_deref())),
            ("Applied", time(change.applied_at.as_deref())),
            ("Ended", time(change.ended_at.as_deref())),
            ("Change", clean(id)),
            ("Identity", identity.clone()),
            ("Deployment", text(&change.deployment_id)),
            ("Session in CloudTrail", text(&change.session)),
            ("Lambda request", text(&change.request_id)),
        ];
        Self {
            id: clean(id),
            link: link(id),
            tone: match tone(&status) {
                Tone::Good => "good",
                Tone::Open => "open",
                Tone::Bad => "bad",
                Tone::Quiet => "quiet",
            },
            status,
            at: clean(change.when().unwrap_or_default()),
            shown_at: time_of(change.when()),
            rows: rows(change.before.as_ref(), change.after.as_ref()),
            differences,
            more,
            runs: runs.unwrap_or_default(),
            requested_by: text(&change.requested_by),
            identity,
            reason: text(&change.reason),
            error_code: text(&error.code),
            error: error.message.as_deref().map(clean_lines).unwrap_or_default(),
            asked_for: text(&change.asked_for()),
            ended: change
                .outcome
                .iter()
                .flat_map(ServiceAnswer::facts)
                .map(|(name, value)| (name, clean(&value)))
                .collect(),
            restores: change.restores.as_ref().map(|restored| (clean(restored), link(restored))),
            facts: facts.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            open,
        }
    }
}

fn time(at: Option<&str>) -> String {
    at.map(|at| format!("{} UTC", time_of(Some(at)))).unwrap_or_default()
}

/// Everything that is known of the service before and after, side by side.
fn rows(before: Option<&answers::StateView>, after: Option<&answers::StateView>) -> Vec<Row> {
    let (of_before, of_after) = (before.map(told).unwrap_or_default(), after.map(told).unwrap_or_default());
    let mut names: Vec<&(u8, String)> = of_before.keys().chain(of_after.keys()).collect();
    names.sort();
    names.dedup();
    let both = before.is_some() && after.is_some();
    let rows = names.into_iter().map(|name| {
        let (before, after) = (of_before.get(name), of_after.get(name));
        let clean = |value: Option<&String>| value.map(|value| clean(value));
        Row { name: text::clean(&name.1), changed: both && before != after, before: clean(before), after: clean(after) }
    });
    rows.collect()
}

/// The facts about a state, in the order in which they are shown.
fn told(state: &answers::StateView) -> BTreeMap<(u8, String), String> {
    let mut told = BTreeMap::new();
    for (container, image) in state.all_images() {
        told.insert((0, format!("image {container}")), image.to_owned());
    }
    if let Some(revision) = state.revision() {
        told.insert((1, "task definition".to_owned()), revision.to_owned());
    }
    if let Some(memory) = state.service_memory {
        told.insert((2, "memory".to_owned()), format!("{memory} MiB"));
    }
    for tag in &state.tags {
        told.insert((3, format!("tag {}", tag.key)), tag.value.clone());
    }
    for (name, value) in &state.service {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        told.insert((4, name.clone()), value);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn links_carry_any_text() {
        let filters = Filters { requested_by: "a&b=c\"<é".to_owned(), ..Filters::default() };
        assert_eq!(filters.link(), "?show=1&requested_by=a%26b%3Dc%22%3C%C3%A9");
    }

    #[test]
    fn what_one_index_cannot_say_is_looked_at_here() {
        let change: HistoryChange =
            read(&json!({"account_id": "222222222222", "after": {"images": {"web": "r/edge:7"}}}));
        let keeps = |account: &str, image: &str| {
            Filters { account: account.to_owned(), image: image.to_owned(), ..Filters::default() }.keeps(&change)
        };
        assert!(keeps("", "") && keeps("222222222222", "r/edge") && keeps("", "r/edge:6"));
        assert!(!keeps("333333333333", "") && !keeps("", "edge"));
    }

    #[test]
    fn before_and_after_stand_side_by_side() {
        let state = |value: Value| read::<answers::StateView>(&value);
        let before = state(
            json!({"images": {"web": "a:1"}, "tags": [{"key": "gone", "value": "1"}], "service": {"desiredCount": 2}}),
        );
        let after = state(json!({"images": {"web": "a:2"}, "service": {"desiredCount": 2}}));
        let shown: Vec<_> = rows(Some(&before), Some(&after))
            .into_iter()
            .map(|row| (row.name, row.before, row.after, row.changed))
            .collect();
        let side = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let row = |name: &str, before, after, changed| (name.to_owned(), side(before), side(after), changed);
        assert_eq!(
            shown,
            [
                row("image web", "a:1", "a:2", true),
                row("tag gone", "1", "", true),
                row("desiredCount", "2", "2", false)
            ]
        );
        assert!(!rows(None, Some(&after)).iter().any(|row| row.changed));
    }
}
