//! Pure: a query of the history, the parts of the table that answer it, and the tokens between pages.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};
use sha2::{Digest, Sha256};

use super::change::{Change, EXTERNAL};
use super::history_query::{HistoryQuery, Order};
use super::record::SHARDS;
use crate::error::Failure;
use crate::event::EventFormat;
use crate::ids::{AccountId, ChangeId, EcsName, Identity, Region, ServiceKey};
use crate::image::repository_of;
use crate::text::shown_text;

/// How many changes a page has where the query does not say.
const DEFAULT_LIMIT: usize = 20;
/// The most days that one query of the whole organization may span: each day costs eight reads, even an empty one.
const MAX_SPAN: Duration = Duration::days(31);
/// How far clocks may be apart: "until now" includes what another clock dates a little later.
const CLOCK_SKEW: Duration = Duration::minutes(1);
/// A change id has 48 bits for its time.
const LAST_MILLISECOND: i64 = (1 << 48) - 1;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// What a query needs, for the second line of the message.
const NEEDED: &str = "one of {\"account_id\", \"region\", \"ecs_cluster_name\", \"ecs_service_name\"}, {\"account_id\"}, \
                      {\"image\"}, {\"change_id\"}, or none of these (the whole organization); for \"verify\": true and \
                      \"idempotency_key\" the first";

/// What a text has to look like, in words, by the definition of the schema that has the pattern. A test checks that the
/// two agree.
const EXPECTATIONS: &[(&str, &str)] = &[
    ("account_id", AccountId::EXPECTED),
    ("region", Region::EXPECTED),
    ("name", EcsName::EXPECTED),
    ("change_id", "a change id (UUID of version 7)"),
    ("time", "a date such as \"2026-11-22\", or a time with its offset such as \"2026-11-22T09:30:00Z\""),
];

/// Events of the history function.
pub static FORMAT: EventFormat = EventFormat {
    schema: include_str!("../../../../schema/history-query.schema.json"),
    needed: NEEDED,
    expectations: EXPECTATIONS,
    words: |_| None,
    hint: |_, _| "",
    validator: OnceLock::new(),
};

/// A request to the history function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryRequest {
    /// A page of changes.
    Changes(Box<Query>),
    /// The change of a service that an event with this idempotency key began.
    Key(ServiceKey, String),
    /// Whether the ledger of a service is as it was written.
    Verify(ServiceKey),
}

/// Whose changes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of one service.
    Service(ServiceKey),
    /// Those of one account.
    Account(AccountId),
    /// Those that set an image of this repository.
    Image(String),
    /// One change.
    Change(ChangeId),
    /// All.
    Organization,
}

/// The times that change ids may have, in milliseconds since 1970: `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: i64,
    to: i64,
}

/// Up to where changes were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageCursor {
    /// This change is the last one that was read.
    Change(ChangeId),
    /// Everything up to a time (in milliseconds since 1970), in the order of the query, was read.
    Time(i64),
}

/// A query for changes that has been validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Whose changes are asked for.
    pub scope: Scope,
    /// The times of the changes.
    pub window: Window,
    /// Only those with this status.
    pub status: Option<String>,
    /// Only those that this requester asked for.
    pub requested_by: Option<String>,
    /// Only those for whose requester somebody vouches, or only those for whom nobody does.
    pub identity: Option<Identity>,
    /// Whether deployments that no change started are included.
    pub external: bool,
    /// The most changes in a page.
    pub limit: usize,
    /// In which order.
    pub order: Order,
    /// Where the page begins.
    pub position: PageCursor,
    /// What a token is bound to: all of the query but `limit`, as it was given.
    binding: [u8; 8],
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The changes, in the order asked for.
    pub changes: Vec<Change>,
    /// The token for the next page; null if nothing is left. A page may be short or empty, and still have one.
    pub next_token: Option<String>,
}

/// The keys by which the history table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The table's own: `service`, `record`.
    Table,
    /// `by-account`.
    Account,
    /// `by-day`.
    Day,
    /// `by-image`.
    Image,
}

impl Index {
    /// The name of the index; the table's own keys have none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Table => None,
            Self::Account => Some("by-account"),
            Self::Day => Some("by-day"),
            Self::Image => Some("by-image"),
        }
    }

    /// The attribute that is its partition key.
    #[must_use]
    pub fn partition_key(self) -> &'static str {
        match self {
            Self::Table => "service",
            Self::Account => "account_id",
            Self::Day => "day",
            Self::Image => "image",
        }
    }
}

/// Parts of the table that are read together. No sort key equals a bound, so it makes no difference whether the bounds
/// are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The keys by which they are read.
    pub index: Index,
    /// The partitions.
    pub partitions: Vec<String>,
    /// A text below every sort key that is wanted.
    pub low: String,
    /// A text above every sort key that is wanted.
    pub high: String,
    /// Where the next section begins; none after the last one.
    pub end: Option<PageCursor>,
}

/// Reads a query as Lambda hands it over.
///
/// ```
/// use chrono::DateTime;
/// use domain::ledger::query::{HistoryRequest, Scope, parse};
///
/// let HistoryRequest::Changes(query) = parse(br#"{"image": "nginx", "limit": 5}"#, DateTime::UNIX_EPOCH)? else {
///     panic!("it asks for changes")
/// };
/// assert_eq!((query.scope, query.limit), (Scope::Image("nginx".to_owned()), 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`crate::error::Code::JsonValidation`] with every fault of the query and its place.
pub fn parse(event: &[u8], now: DateTime<Utc>) -> Result<HistoryRequest, Failure> {
    let event = FORMAT.check(event)?;
    // The schema has checked all of this. Should the schema and the types ever differ, these are the resulting errors.
    let fields = HistoryQuery::deserialize(&event).map_err(|error| FORMAT.refuse(&[format!("(event): {error}")]))?;
    let scope = scope(&fields).map_err(|fault| FORMAT.refuse(&[fault]))?;
    match (scope, &fields.idempotency_key) {
        (Scope::Service(service), _) if fields.verify == Some(true) => Ok(HistoryRequest::Verify(service)),
        (Scope::Service(service), Some(key)) => Ok(HistoryRequest::Key(service, key.clone())),
        (scope, _) => query(fields, scope, now)
            .map(|query| HistoryRequest::Changes(Box::new(query)))
            .map_err(|f| FORMAT.refuse(&f)),
    }
}

fn scope(fields: &HistoryQuery) -> Result<Scope, String> {
    let HistoryQuery { account_id, region, ecs_cluster_name, ecs_service_name, image, change_id, .. } = fields;
    match (account_id, region, ecs_cluster_name, ecs_service_name, image, change_id) {
        (Some(account), Some(region), Some(cluster), Some(service), None, None) => Ok(Scope::Service(ServiceKey::new(
            AccountId::parse(account)?,
            Region::parse(region)?,
            EcsName::parse(cluster)?,
            EcsName::parse(service)?,
        ))),
        (Some(account), None, None, None, None, None) => AccountId::parse(account).map(Scope::Account),
        (None, None, None, None, Some(image), None) => repository(image).map(Scope::Image),
        (None, None, None, None, None, Some(change_id)) => ChangeId::parse(change_id).map(Scope::Change),
        (None, None, None, None, None, None) => Ok(Scope::Organization),
        _ => Err("(event): it asks for several things at once".to_owned()),
    }
}

fn repository(image: &str) -> Result<String, String> {
    let repository = repository_of(image);
    if repository == image {
        return Ok(image.to_owned());
    }
    let (image, repository) = (shown_text(image), shown_text(repository));
    Err(format!("/image: {image} has a tag or digest: use the repository, {repository}"))
}

fn query(fields: HistoryQuery, scope: Scope, now: DateTime<Utc>) -> Result<Query, Vec<String>> {
    let mut faults = Vec::new();
    let mut time = |name: &str, text: &Option<String>, days_after: i64| {
        let time = text.as_deref().map(|text| milliseconds(text, days_after).ok_or(text)).transpose();
        time.unwrap_or_else(|text| {
            faults.push(format!("/{name}: {} is not a valid date or time", shown_text(text)));
            None
        })
    };
    let given = (time("from", &fields.from, 0), time("to", &fields.to, 1));
    if !faults.is_empty() {
        return Err(faults);
    }
    let binding = binding(&fields, &scope, given).map_err(|error| vec![format!("(event): {error}")])?;
    let (window, position) = if let Some(token) = &fields.next_token {
        // The token contains the window of the first page: "now" stays what it was then.
        decode(token, binding, &scope).map_err(|fault| vec![format!("/next_token: {fault}")])?
    } else {
        let window = window(given, &scope, now).map_err(|fault| vec![fault])?;
        (
            window,
            PageCursor::Time(if fields.order.unwrap_or_default() == Order::NewestFirst {
                window.to
            } else {
                window.from
            }),
        )
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an integer from 1 to 100 by the schema"
    )]
    let limit = fields.limit.as_ref().and_then(Number::as_f64).map_or(DEFAULT_LIMIT, |limit| limit as usize);
    let HistoryQuery { status, requested_by, identity, external, order, .. } = fields;
    let (identity, order) = (identity.as_deref().map(Identity::of), order.unwrap_or_default());
    // For the whole organization, callers mostly ask for the changes that came through the updater, and anybody who deploys creates the
    // others.
    let is_asked_for = scope != Scope::Organization || status.as_deref() == Some(EXTERNAL);
    let external = external.unwrap_or(is_asked_for);
    Ok(Query { scope, window, status, requested_by, identity, external, limit, order, position, binding })
}

/// A date or time as milliseconds since 1970, rounded up: ids hold whole milliseconds, and a bound between two of them
/// means the later one, whichever side it bounds.
fn milliseconds(text: &str, days_after_a_date: i64) -> Option<i64> {
    let time = if let Ok(date) = text.parse::<NaiveDate>() {
        (date.and_hms_opt(0, 0, 0)?.and_utc()).checked_add_signed(Duration::days(days_after_a_date))?
    } else {
        DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc)
    };
    let is_between = time.timestamp_subsec_nanos() % 1_000_000 != 0;
    Some((time.timestamp_millis() + i64::from(is_between)).clamp(0, LAST_MILLISECOND))
}

fn window(given: (Option<i64>, Option<i64>), scope: &Scope, now: DateTime<Utc>) -> Result<Window, String> {
    let span = MAX_SPAN.num_milliseconds();
    let now = now.timestamp_millis();
    if let (Some(from), Some(to)) = given
        && to < from
    {
        return Err("/to: it is before \"from\"".to_owned());
    }
    if *scope != Scope::Organization {
        return Ok(Window { from: given.0.unwrap_or(0), to: given.1.unwrap_or(LAST_MILLISECOND) });
    }
    let end = given.1.unwrap_or(now);
    if given.0.is_some_and(|from| end - from > span) {
        let so_far = if given.1.is_none() { " (\"to\" is now where it is left out)" } else { "" };
        return Err(format!("/from: the whole organization is asked for at most 31 days at once{so_far}"));
    }
    let from = given.0.unwrap_or((end - span).max(0));
    Ok(Window { from, to: given.1.unwrap_or(now + CLOCK_SKEW.num_milliseconds()).max(from) })
}

impl Query {
    /// Whether a change passes the filters.
    #[must_use]
    pub fn accepts(&self, change: &Change) -> bool {
        self.status.as_ref().is_none_or(|status| *status == change.status)
            && self.requested_by.as_ref().is_none_or(|by| change.requested_by.as_ref() == Some(by))
            && self.identity.is_none_or(|identity| identity == Identity::of(&change.identity))
            && (self.external || change.status != EXTERNAL)
    }

    /// Whether it asks for some of the changes only, so that many may have to be read to find a few.
    #[must_use]
    pub fn has_filter(&self) -> bool {
        self.status.is_some() || self.requested_by.is_some() || self.identity.is_some()
    }

    /// What is to be read from `position` on; `None` if nothing is left.
    #[must_use]
    pub fn section(&self, position: &PageCursor) -> Option<KeyRange> {
        let (low, high) = self.bounds(position);
        if low >= high {
            return None;
        }
        let whole =
            |index, partitions| Some(KeyRange { index, partitions, low: low.clone(), high: high.clone(), end: None });
        match &self.scope {
            Scope::Service(service) => whole(Index::Table, vec![service.to_string()]),
            Scope::Account(account) => whole(Index::Account, vec![account.to_string()]),
            Scope::Image(image) => whole(Index::Image, sharded(image)),
            Scope::Change(id) => {
                let (low, high) = (low.max(id.to_string()), high.min(after(id)));
                let partitions = sharded(&day_text(id.time().timestamp_millis()));
                (low < high).then_some(KeyRange { index: Index::Day, partitions, low, high, end: None })
            }
            Scope::Organization => {
                let day = self.day(position);
                let Window { from, to } = self.window;
                let end = match self.order {
                    Order::NewestFirst => Some(day).filter(|start| *start > from),
                    Order::OldestFirst => Some(day + DAY).filter(|start| *start < to),
                };
                let partitions = sharded(&day_text(day));
                Some(KeyRange { index: Index::Day, partitions, low, high, end: end.map(PageCursor::Time) })
            }
        }
    }

    /// The sort keys that are wanted from `position` on.
    fn bounds(&self, position: &PageCursor) -> (String, String) {
        let (from, to) = (at(self.window.from), at(self.window.to));
        match (self.order, position) {
            (Order::NewestFirst, PageCursor::Change(id)) => (from, to.min(id.to_string())),
            (Order::NewestFirst, PageCursor::Time(time)) => (from, to.min(at(*time))),
            (Order::OldestFirst, PageCursor::Change(id)) => (from.max(after(id)), to),
            (Order::OldestFirst, PageCursor::Time(time)) => (from.max(at(*time)), to),
        }
    }

    /// The start of the day that comes next.
    fn day(&self, position: &PageCursor) -> i64 {
        let time = match (position, self.order) {
            (PageCursor::Change(id), _) => id.time().timestamp_millis(),
            (PageCursor::Time(time), Order::NewestFirst) => time - 1,
            (PageCursor::Time(time), Order::OldestFirst) => *time,
        };
        time.div_euclid(DAY) * DAY
    }

    /// The token of the page that begins at `position`.
    #[must_use]
    pub fn token(&self, position: &PageCursor) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        match position {
            PageCursor::Time(time) => {
                bytes.push(0);
                bytes.extend(time.to_be_bytes());
                bytes.extend([0; 8]);
            }
            PageCursor::Change(id) => {
                bytes.push(1);
                bytes.extend(id.to_bytes());
            }
        }
        bytes.extend(self.window.from.to_be_bytes());
        bytes.extend(self.window.to.to_be_bytes());
        bytes.extend(self.binding);
        bytes.extend(short_hash(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

const TOKEN_VERSION: u8 = 1;

/// The window and position of a token of the query that has this binding. A token is not secret: its check catches
/// accidents, and whoever computes a token gets only a page that a query could have asked for.
fn decode(token: &str, binding: [u8; 8], scope: &Scope) -> Result<(Window, PageCursor), &'static str> {
    const MADE_UP: &str = "it is no token of an answer: made up, or cut off";
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| MADE_UP)?;
    let (bytes, check) = bytes.split_last_chunk::<8>().ok_or(MADE_UP)?;
    if short_hash(bytes) != *check {
        return Err(MADE_UP);
    }
    let ([TOKEN_VERSION, kind], rest) = bytes.split_first_chunk().ok_or(MADE_UP)? else { return Err(MADE_UP) };
    let (id, rest) = rest.split_first_chunk::<16>().ok_or(MADE_UP)?;
    let (from, rest) = rest.split_first_chunk().ok_or(MADE_UP)?;
    let (to, bound) = rest.split_first_chunk().ok_or(MADE_UP)?;
    if *bound != binding {
        return Err("it belongs to another query: ask with the same fields as for the page before");
    }
    let (position, time) = match (kind, id.split_first_chunk()) {
        (0, Some((time, [0, 0, 0, 0, 0, 0, 0, 0]))) => {
            let time = i64::from_be_bytes(*time);
            (PageCursor::Time(time), time)
        }
        (1, _) => {
            let id = ChangeId::from_bytes(*id).map_err(|_| MADE_UP)?;
            let time = id.time().timestamp_millis();
            (PageCursor::Change(id), time)
        }
        _ => return Err(MADE_UP),
    };
    let window = Window { from: i64::from_be_bytes(*from), to: i64::from_be_bytes(*to) };
    let is_possible = 0 <= window.from && window.from <= window.to && window.to <= LAST_MILLISECOND;
    let longest = if *scope == Scope::Organization { MAX_SPAN + CLOCK_SKEW } else { Duration::MAX };
    let is_short = is_possible && window.to - window.from <= longest.num_milliseconds();
    if is_short && (window.from..=window.to).contains(&time) { Ok((window, position)) } else { Err(MADE_UP) }
}

fn binding(
    fields: &HistoryQuery,
    scope: &Scope,
    (from, to): (Option<i64>, Option<i64>),
) -> serde_json::Result<[u8; 8]> {
    let scope: Value = match scope {
        Scope::Service(service) => json!(["service", service.to_string()]),
        Scope::Account(account) => json!(["account", account.as_str()]),
        Scope::Image(image) => json!(["image", image]),
        Scope::Change(id) => json!(["change", id.as_str()]),
        Scope::Organization => json!([]),
    };
    let mut query = vec![
        json!(scope),
        json!(from),
        json!(to),
        json!(fields.status),
        json!(fields.requested_by),
        json!(fields.order.unwrap_or_default()),
    ];
    // A filter that was added later is part of the binding only if it is used, so that a token from before it still
    // fits.
    query.extend(fields.identity.as_ref().map(|identity| json!({"identity": identity})));
    query.extend(fields.external.map(|external| json!({"external": external})));
    Ok(short_hash(&serde_json::to_vec(&query)?))
}

fn short_hash(bytes: &[u8]) -> [u8; 8] {
    Sha256::digest(bytes).first_chunk().copied().unwrap_or_default()
}

/// A text that sorts before every sort key of a time or later, and after every earlier one.
fn at(milliseconds: i64) -> String {
    format!("{:08x}-{:04x}", milliseconds >> 16, milliseconds & 0xffff)
}

/// A text that sorts after every sort key of a change, and before those of the next one: `$` follows `#`.
fn after(id: &ChangeId) -> String {
    format!("{id}$")
}

fn sharded(name: &str) -> Vec<String> {
    (0..SHARDS).map(|shard| format!("{name}#{shard}")).collect()
}

fn day_text(milliseconds: i64) -> String {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default().format("%Y-%m-%d").to_string()
}

/// Texts below and above every sort key of one change.
#[must_use]
pub fn keys_of(id: &ChangeId) -> (String, String) {
    (id.to_string(), after(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::change::statuses;

    const SCHEMA: &str = include_str!("../../../../schema/history-query.schema.json");

    fn now() -> DateTime<Utc> {
        "2026-11-22T09:30:00.500Z".parse().unwrap()
    }

    fn ms(time: &str) -> i64 {
        time.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
    }

    fn asked(query: &Value) -> Query {
        match parse(query.to_string().as_bytes(), now()) {
            Ok(HistoryRequest::Changes(query)) => *query,
            other => panic!("{query}: {other:?}"),
        }
    }

    fn with(fields: Value) -> Value {
        let service = json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod",
                             "ecs_service_name": "edge"});
        let (Value::Object(mut query), Value::Object(fields)) = (service, fields) else { panic!("objects") };
        query.extend(fields);
        query.retain(|_, value| !value.is_null());
        query.into()
    }

    /// The faults, without the words around them.
    fn refused(query: &Value) -> String {
        let failure = parse(query.to_string().as_bytes(), now()).map(|ask| panic!("{query}: {ask:?}")).unwrap_err();
        let (start, needed) = failure.message.split_once("\n[ERROR][json_validation] Needed: ").unwrap();
        assert_eq!(needed, NEEDED);
        start.strip_prefix("[ERROR][json_validation] wrong input event format: ").unwrap().to_owned()
    }

    #[test]
    fn the_kinds_of_query() {
        let query = asked(&with(json!({})));
        assert_eq!((query.limit, query.order), (20, Order::NewestFirst));
        let section = query.section(&query.position).unwrap();
        assert_eq!((section.index, section.end), (Index::Table, None));
        assert_eq!(section.partitions, ["222222222222/eu-west-1/prod/edge"]);
        let account = asked(&json!({"account_id": "222222222222", "limit": 100.0, "status": "FAILED"}));
        assert_eq!(
            (account.scope.clone(), account.limit),
            (Scope::Account(AccountId::parse("222222222222").unwrap()), 100)
        );
        assert!(account.has_filter() && !query.has_filter());
        let image = asked(&json!({"image": "r.example:5000/edge", "order": "oldest_first"}));
        let section = image.section(&image.position).unwrap();
        assert_eq!((section.index, section.partitions.len()), (Index::Image, 8));
        assert_eq!(section.partitions[7], "r.example:5000/edge#7");
        assert_eq!(asked(&json!({})).scope, Scope::Organization);
        assert_eq!(asked(&json!({"verify": false})).scope, Scope::Organization);
        let Ok(HistoryRequest::Verify(service)) = parse(with(json!({"verify": true})).to_string().as_bytes(), now())
        else {
            panic!("not verify")
        };
        assert_eq!(service.to_string(), "222222222222/eu-west-1/prod/edge");
    }

    #[test]
    fn a_change_is_looked_for_on_its_day() {
        let id = ChangeId::new("2026-11-21T23:59:59.999Z".parse().unwrap(), [9; 10]);
        let query = asked(&json!({"change_id": id.as_str().to_uppercase()}));
        let section = query.section(&query.position).unwrap();
        assert_eq!((section.index, section.partitions.len()), (Index::Day, 8));
        assert_eq!(section.partitions[0], "2026-11-21#0");
        assert!(section.low < format!("{id}#0") && format!("{id}#9") < section.high);
        assert_eq!(query.section(&PageCursor::Change(id.clone())), None);
        let elsewhere = asked(&json!({"change_id": id.as_str(), "from": "2026-11-22"}));
        assert_eq!(elsewhere.section(&elsewhere.position), None);
    }

    #[test]
    fn bounds_lie_between_the_right_ids() {
        let query = asked(&with(json!({"from": "2026-11-20T10:00:00.0001+02:00", "to": "2026-11-21"})));
        assert_eq!(query.window, Window { from: ms("2026-11-20T08:00:00.001Z"), to: ms("2026-11-22T00:00:00Z") });
        let section = query.section(&query.position).unwrap();
        let holds = |time: &str, random| {
            let key = format!("{}#0", ChangeId::new(time.parse().unwrap(), random));
            section.low < key && key < section.high
        };
        for random in [[0; 10], [0xff; 10]] {
            assert!(holds("2026-11-20T08:00:00.001Z", random) && holds("2026-11-21T23:59:59.999Z", random));
            assert!(!holds("2026-11-20T08:00:00.000Z", random) && !holds("2026-11-22T00:00:00.000Z", random));
        }
    }

    #[test]
    fn the_organization_is_read_day_by_day() {
        let days = |query: &Value| {
            let query = asked(query);
            let mut position = Some(query.position.clone());
            let mut days = Vec::new();
            while let Some(section) = position.as_ref().and_then(|position| query.section(position)) {
                assert_eq!(section.partitions.len(), 8);
                days.push(section.partitions[0].trim_end_matches("#0").to_owned());
                position = section.end;
            }
            days
        };
        let all = days(&json!({}));
        // 31 days before half past nine.
        assert_eq!((all.len(), all[0].as_str(), all[31].as_str()), (32, "2026-11-22", "2026-10-22"));
        assert_eq!(days(&json!({"from": "2026-11-20", "to": "2026-11-21"})), ["2026-11-21", "2026-11-20"]);
        let oldest = json!({"from": "2026-11-20", "to": "2026-11-21", "order": "oldest_first"});
        assert_eq!(days(&oldest), ["2026-11-20", "2026-11-21"]);
        assert_eq!(days(&json!({"from": "2026-10-01", "to": "2026-10-31"})).len(), 31);
        assert_eq!(days(&json!({"to": "2026-10-31"})).len(), 31);
        assert_eq!(days(&json!({"from": "2026-11-22T00:00:00Z", "to": "2026-11-22T00:00:00Z"})), [""; 0]);
    }

    #[test]
    fn every_fault_has_its_place() {
        let cases = [
            (json!({"limit": 0}), "/limit: 0 is less than the minimum of 1"),
            (json!({"limit": 101}), "/limit: 101 is greater than the maximum of 100"),
            (json!({"limit": "5"}), "/limit: \"5\" is not of type \"integer\""),
            (json!({"since": "2026"}), "(event): unknown field \"since\""),
            (json!({"from": "2026-11-22", "to": "2026-11-20"}), "/to: it is before \"from\""),
            (json!({"from": "2026-11-22T10:00:00+02:00", "to": "2026-11-22T07:59:59Z"}), "/to: it is before \"from\""),
            (
                json!({"from": "2026-10-01", "to": "2026-11-01"}),
                "/from: the whole organization is asked for at most 31 days at once",
            ),
            (
                json!({"from": "2026-10-22"}),
                "/from: the whole organization is asked for at most 31 days at once (\"to\" is now where it is left out)",
            ),
            (json!({"from": "2026-02-30"}), "/from: \"2026-02-30\" is not a valid date or time"),
            (json!({"to": "2026-11-22T25:00:00Z"}), "/to: \"2026-11-22T25:00:00Z\" is not a valid date or time"),
            (
                json!({"to": "2026-11-22T10:00:00"}),
                "/to: \"2026-11-22T10:00:00\" is not accepted: expected a date such as \"2026-11-22\", or a time with \
                 its offset such as \"2026-11-22T09:30:00Z\"",
            ),
            (
                with(json!({"ecs_service_name": "a#b"})),
                "/ecs_service_name: \"a#b\" is not accepted: expected a name of \
                 1 to 255 letters, digits, \"_\" and \"-\"",
            ),
            (
                with(json!({"ecs_cluster_name": "a/b"})),
                "/ecs_cluster_name: \"a/b\" is not accepted: expected a name of \
                 1 to 255 letters, digits, \"_\" and \"-\"",
            ),
            (
                with(json!({"region": null})),
                "/ecs_cluster_name: only together with \"region\"; /ecs_service_name: only \
                 together with \"region\"",
            ),
            (json!({"image": "nginx", "account_id": "222222222222"}), "/account_id: not together with \"image\""),
            (json!({"image": "nginx:1"}), "/image: \"nginx:1\" has a tag or digest: use the repository, \"nginx\""),
            (
                json!({"change_id": "previous"}),
                "/change_id: \"previous\" is not accepted: expected a change id (UUID of version 7)",
            ),
            (with(json!({"verify": true, "limit": 5})), "/limit: not together with \"verify\""),
            (with(json!({"idempotency_key": "k", "limit": 5})), "/limit: not together with \"idempotency_key\""),
            (with(json!({"idempotency_key": "k", "verify": false})), "/verify: not together with \"idempotency_key\""),
            (with(json!({"verify": true, "external": true})), "/external: not together with \"verify\""),
            (with(json!({"idempotency_key": ""})), "/idempotency_key: \"\" is shorter than 1 character"),
            (json!({"requested_by": "a\0"}), "/requested_by: \"a\\0\" holds a NUL character"),
            (json!({"next_token": "made up!"}), "/next_token: it is no token of an answer: made up, or cut off"),
        ];
        for (query, expected) in cases {
            assert_eq!(refused(&query), expected, "{query}");
        }
        let verify_nothing = refused(&json!({"verify": true}));
        assert!(verify_nothing.contains("/verify: only together with \"ecs_service_name\""), "{verify_nothing}");
        assert!(refused(&json!({"status": "APLIED"})).starts_with("/status: \"APLIED\" is not one of"));
    }

    #[test]
    fn only_the_whole_organization_leaves_out_what_is_external_unless_it_is_asked_for() {
        let told = |query: Value| asked(&query).external;
        assert!(!told(json!({})) && !told(json!({"from": "2026-11-20", "status": "APPLIED"})));
        assert!(told(json!({"external": true})) && told(json!({"status": "EXTERNAL"})));
        for scope in [with(json!({})), json!({"account_id": "222222222222"}), json!({"image": "nginx"})] {
            assert!(told(scope.clone()), "{scope}");
            let mut without = scope.clone();
            without["external"] = false.into();
            assert!(!told(without), "{scope}");
        }
        assert!(told(json!({"change_id": "019aab3e-7f60-7000-8000-000000000000"})));
    }

    #[test]
    fn a_token_belongs_to_its_query() {
        let query = json!({"account_id": "222222222222", "from": "2026-11-20", "status": "FAILED"});
        let position = PageCursor::Change(ChangeId::new(now(), [3; 10]));
        let token = asked(&query).token(&position);
        let again = |fields: Value| {
            let mut query = query.clone();
            query["next_token"] = token.as_str().into();
            query.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            query
        };
        let next = asked(&again(json!({"limit": 7, "order": "newest_first", "from": "2026-11-20T00:00:00Z"})));
        assert_eq!((next.position, next.window), (position, asked(&query).window));
        for other in [
            json!({"account_id": "333333333333"}),
            json!({"order": "oldest_first"}),
            json!({"status": "APPLIED"}),
            json!({"from": "2026-11-19"}),
            json!({"to": "2026-11-22"}),
            json!({"requested_by": "ann"}),
            json!({"identity": "claimed"}),
            json!({"external": false}),
            json!({"external": true}),
        ] {
            assert!(refused(&again(other)).starts_with("/next_token: it belongs to another query"));
        }
        for end in 1..token.len() {
            let cut = again(json!({"next_token": token[..end]}));
            assert_eq!(refused(&cut), "/next_token: it is no token of an answer: made up, or cut off");
        }
    }

    #[test]
    fn a_token_from_before_there_was_a_filter_by_identity_still_fits() {
        let before = br#"[["account","222222222222"],null,null,"FAILED",null,"newest_first"]"#;
        assert_eq!(asked(&json!({"account_id": "222222222222", "status": "FAILED"})).binding, short_hash(before));
    }

    #[test]
    fn what_is_not_known_to_be_verified_is_claimed() {
        let change = |identity: &str| {
            let record =
                json!({"change_id": "c", "seq": 1, "kind": "STARTED", "requested_by": "ann", "identity": identity});
            let record = record.as_object().unwrap().clone();
            crate::ledger::change::fold(vec![&record], now()).unwrap()
        };
        for (word, is_verified) in [("verified", true), ("claimed", false), ("proved", false), ("", false)] {
            for (asked_for, expected) in [("verified", is_verified), ("claimed", !is_verified)] {
                let query = asked(&json!({"identity": asked_for}));
                assert_eq!((query.accepts(&change(word)), query.has_filter()), (expected, true), "{word} {asked_for}");
            }
        }
        assert!(refused(&json!({"identity": "proved"})).starts_with("/identity: \"proved\" is not one of"));
    }

    #[test]
    fn a_window_up_to_now_stays_the_same_over_pages() {
        let first = asked(&json!({}));
        let token = first.token(&PageCursor::Time(ms("2026-11-20T00:00:00Z")));
        let later = now() + Duration::hours(5);
        let Ok(HistoryRequest::Changes(next)) = parse(json!({"next_token": token}).to_string().as_bytes(), later)
        else {
            panic!("refused")
        };
        assert_eq!(next.window, first.window);
    }

    #[test]
    fn schema_and_words_agree() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        assert!(jsonschema::meta::is_valid(&schema));
        let patterns: BTreeSet<_> = schema["$defs"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(patterns, EXPECTATIONS.iter().map(|(name, _)| *name).collect());
        let in_schema: Vec<_> = schema["properties"]["status"]["enum"].as_array().unwrap().iter().collect();
        assert_eq!(in_schema, statuses());
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["title"].is_string() && property["description"].is_string(), "{name}");
        }
        for example in schema["examples"].as_array().unwrap() {
            parse(example.to_string().as_bytes(), now()).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_token_panics_and_none_that_is_made_up_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let token = URL_SAFE_NO_PAD.encode(&bytes);
            prop_assume!(!token.is_empty());
            let query = json!({"next_token": token}).to_string();
            prop_assert!(parse(query.as_bytes(), now()).is_err());
        }

        #[test]
        fn tokens_come_back(time in 0..LAST_MILLISECOND, random: [u8; 10], is_change: bool) {
            for query in [asked(&json!({})), asked(&json!({"account_id": "222222222222"}))] {
                let Window { from, to } = query.window;
                let time = from + time % (to - from);
                let id = ChangeId::new(DateTime::from_timestamp_millis(time).unwrap(), random);
                let position = if is_change { PageCursor::Change(id) } else { PageCursor::Time(time) };
                let decoded = decode(&query.token(&position), query.binding, &query.scope);
                prop_assert_eq!(decoded, Ok((query.window, position)));
            }
        }

        #[test]
        fn no_query_panics(
            from in "\\PC*|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,12}(Z|[+-][0-9]{2}:[0-9]{2}))?",
            text: String,
        ) {
            let _ = parse(json!({"from": from, "requested_by": text, "image": text}).to_string().as_bytes(), now());
            let _ = parse(text.as_bytes(), now());
        }
    }
}
