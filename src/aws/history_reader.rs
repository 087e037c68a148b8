//! Reads the history and does nothing else: `Query` on the history table and its indexes, `GetItem` on heads and idempotency keys.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use domain::call_error::CallError;
use domain::config::Tables;
use domain::ids::{ChangeId, LIVE_ALIAS, ServiceKey, UNQUALIFIED, VERIFIED_ALIAS};
use domain::ledger::change::{Change, fold, may_be_partial};
use domain::ledger::head::Head;
use domain::ledger::history_query::Order;
use domain::ledger::idempotency::{self, KeyItem};
use domain::ledger::key::RecordKey;
use domain::ledger::merge::{KeyedItem, Merge, MergeStep};
use domain::ledger::query::{Index, KeyRange, Page, PageCursor, Query, Scope, keys_of};
use domain::ledger::record::RawRecord;
use domain::ledger::verify::chain::{Chain, ChainEnd, Verification};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sdk_error::call_error;
use serde_json::Value;

use super::ledger_items::{Item, begun_under, head, json};
use super::retry_partition;

const QUERY: &str = "dynamodb:Query";
/// The only attribute that is read of an idempotency key: the answers that it holds do not concern this function.
const CHANGE_ID: &str = "change_id";
/// The most calls for one page.
const MAX_CALLS: u32 = 64;
/// The largest number of items that one call reads if a filter omits many of them.
const MAX_ITEMS: usize = 200;
/// More items than a change has records.
const ITEMS_OF_A_CHANGE: usize = 12;
/// The longest page in bytes: Lambda transports answers of six megabytes.
const MAX_PAGE: usize = 5 * 1024 * 1024;
/// How often a ledger is read that is being written at the same time.
const VERIFY_ATTEMPTS: u32 = 5;
/// The pause before a fault is checked again.
const VERIFY_PAUSE: Duration = Duration::from_millis(200);

/// The aliases by which the updater is invoked: each idempotency key belongs to one of them.
const CALLERS: [&str; 3] = [VERIFIED_ALIAS, LIVE_ALIAS, UNQUALIFIED];

/// The cost of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls of DynamoDB, not counting their retries.
    pub calls: u32,
    /// Items read.
    pub items: usize,
}

/// Read access to the history table, and to the heads and idempotency keys of the state table.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    client: Client,
    tables: Tables,
}

/// What one `Query` call reads.
struct RangeReader<'a> {
    index: Index,
    partition: &'a str,
    /// Sort keys below and above all records that are wanted.
    between: Option<(&'a str, &'a str)>,
    newest_first: bool,
    limit: Option<usize>,
    from: Option<Item>,
}

/// The answer of one `Query` call.
struct QueryAnswer {
    items: Vec<RawRecord>,
    /// The number of items that DynamoDB read for it.
    read: usize,
    /// Where the rest begins; none if there is no rest.
    rest: Option<Item>,
}

impl HistoryReader {
    /// A reader of these tables.
    #[must_use]
    pub fn new(shared: &SdkConfig, tables: Tables) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(shared).retry_partition(retry_partition("dynamodb"));
        Self { client: Client::from_conf(config.build()), tables }
    }

    /// A page of changes, and its cost.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed.
    pub async fn page(&self, query: &Query, now: DateTime<Utc>) -> Result<(Page, Cost), CallError> {
        let (changes, cost) = (Vec::new(), Cost::default());
        let mut paging = PageBuilder { reader: self, query, now, changes, bytes: 0, cost, has_left_out: false };
        let mut position = Some(query.position.clone());
        while let Some(section) = position.as_ref().and_then(|position| query.section(position)) {
            let Some(begin) = position.take() else { break };
            match paging.read(&section, begin).await? {
                Progress::Through => position = section.end,
                Progress::Full(at) => {
                    position = at;
                    break;
                }
            }
        }
        let next_token = position.filter(|position| query.section(position).is_some());
        let next_token = next_token.map(|position| query.token(&position));
        Ok((Page { changes: paging.changes, next_token }, paging.cost))
    }

    /// The changes of a service that began under an idempotency key, whichever of the updater's callers sent it, and the cost of the
    /// answer.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed.
    pub async fn of_key(
        &self,
        service: &ServiceKey,
        idempotency_key: &str,
        now: DateTime<Utc>,
    ) -> Result<(Page, Cost), CallError> {
        let (mut changes, mut cost) = (Vec::new(), Cost::default());
        for alias in CALLERS {
            let id = KeyItem::id(&idempotency::caller(alias), idempotency_key, service);
            let Some(item) = self.state_item(id, Some(CHANGE_ID), &mut cost).await? else { continue };
            let change_id = match begun_under(&item) {
                Ok(Some(change_id)) => change_id,
                Ok(None) => continue,
                Err(attribute) => {
                    tracing::warn!(%service, attribute, "an idempotency key is not what this project writes");
                    continue;
                }
            };
            let items = self.records(&service.to_string(), &change_id, &mut cost).await?;
            changes.extend(fold(items.iter().filter(|item| item.contains_key("kind")).collect(), now));
        }
        Ok((Page { changes, next_token: None }, cost))
    }

    /// Whether the ledger of a service still is as it was written, and the cost of the answer. None if the ledger was written repeatedly
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed, or the head is not what this project writes.
    pub async fn verify(&self, service: &ServiceKey) -> Result<(Option<Verification>, Cost), CallError> {
        let mut cost = Cost::default();
        // Everything that the head counts was written before the head is read, and has to be present.
        let mut head = self.head(service, &mut cost).await?;
        let mut seen = None;
        for _ in 0..VERIFY_ATTEMPTS {
            let end = match &head {
                Some(Err(attribute)) => ChainEnd::UnreadableHead(attribute),
                Some(Ok(head)) => ChainEnd::Head(Some(head)),
                None => ChainEnd::Head(None),
            };
            let found = self.chain(service, &mut cost).await?.verify(end);
            if found.ok || seen.as_ref() == Some(&found) {
                return Ok((Some(found), cost));
            }
            // A writer may be the cause: then the head has changed, or is about to, because a record of a transaction can be visible before
            // the head of the same transaction. A real fault is found twice.
            let now = self.head(service, &mut cost).await?;
            if now == head {
                tokio::time::sleep(VERIFY_PAUSE).await;
                seen = Some(found);
            }
            head = now;
        }
        Ok((None, cost))
    }

    async fn chain(&self, service: &ServiceKey, cost: &mut Cost) -> Result<Chain, CallError> {
        let mut chain = Chain::default();
        let mut from = None;
        loop {
            let partition = &service.to_string();
            let read =
                RangeReader { index: Index::Table, partition, between: None, newest_first: false, limit: None, from };
            let answer = self.query(read).await?;
            cost.calls += 1;
            cost.items += answer.read;
            answer.items.into_iter().for_each(|item| chain.add(item));
            from = answer.rest;
            if from.is_none() {
                return Ok(chain);
            }
        }
    }

    /// The head, or the name of an attribute that is not what this project writes.
    async fn head(
        &self,
        service: &ServiceKey,
        cost: &mut Cost,
    ) -> Result<Option<Result<Head, &'static str>>, CallError> {
        Ok(self.state_item(Head::id(service), None, cost).await?.map(|item| head(&item)))
    }

    /// An item of the state table, with only the attributes that are asked for.
    async fn state_item(
        &self,
        id: String,
        attributes: Option<&str>,
        cost: &mut Cost,
    ) -> Result<Option<Item>, CallError> {
        const OPERATION: &str = "dynamodb:GetItem";
        cost.calls += 1;
        let answer = self
            .client
            .get_item()
            .table_name(&self.tables.state)
            .key("id", AttributeValue::S(id))
            .set_projection_expression(attributes.map(str::to_owned))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| call_error(OPERATION, &error))?;
        cost.items += usize::from(answer.item.is_some());
        Ok(answer.item)
    }

    /// All records of a change, from the table itself and not from an index.
    async fn records(&self, service: &str, change_id: &ChangeId, cost: &mut Cost) -> Result<Vec<RawRecord>, CallError> {
        let (low, high) = keys_of(change_id);
        let between = Some((low.as_str(), high.as_str()));
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let read = RangeReader {
                index: Index::Table,
                partition: service,
                between,
                newest_first: false,
                limit: None,
                from,
            };
            let answer = self.query(read).await?;
            cost.calls += 1;
            cost.items += answer.read;
            items.extend(answer.items);
            from = answer.rest;
            if from.is_none() {
                return Ok(items);
            }
        }
    }

    async fn query(&self, read: RangeReader<'_>) -> Result<QueryAnswer, CallError> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut request = self
            .client
            .query()
            .table_name(&self.tables.history)
            .set_index_name(read.index.name().map(str::to_owned))
            .expression_attribute_names("#partition", read.index.partition_key())
            .expression_attribute_values(":partition", text(read.partition))
            // Indexes always lag a little behind, and do not support consistent reads.
            .consistent_read(read.index == Index::Table)
            .scan_index_forward(!read.newest_first)
            .set_limit(read.limit.and_then(|limit| i32::try_from(limit).ok()))
            .set_exclusive_start_key(read.from);
        request = match read.between {
            None => request.key_condition_expression("#partition = :partition"),
            Some((low, high)) => request
                .key_condition_expression("#partition = :partition AND #record BETWEEN :low AND :high")
                .expression_attribute_names("#record", "record")
                .expression_attribute_values(":low", text(low))
                .expression_attribute_values(":high", text(high)),
        };
        let answer = request.send().await.map_err(|error| call_error(QUERY, &error))?;
        let rest = answer.last_evaluated_key.filter(|key| !key.is_empty());
        let read = usize::try_from(answer.scanned_count).unwrap_or_default();
        Ok(QueryAnswer { items: answer.items.unwrap_or_default().iter().map(json).collect(), read, rest })
    }
}

/// A page that is being read.
struct PageBuilder<'a> {
    reader: &'a HistoryReader,
    query: &'a Query,
    now: DateTime<Utc>,
    changes: Vec<Change>,
    bytes: usize,
    cost: Cost,
    /// Whether a change was read for this page and then omitted.
    has_left_out: bool,
}

/// How far a section was read.
enum Progress {
    /// To its end.
    Through,
    /// The page is full, or has cost enough; the rest begins after this position. None if there is no rest.
    Full(Option<PageCursor>),
}

/// How far a partition was read.
#[derive(Clone, Default)]
struct RangeCursor {
    rest: Option<Item>,
    limit: usize,
}

impl PageBuilder<'_> {
    async fn read(&mut self, section: &KeyRange, mut position: PageCursor) -> Result<Progress, CallError> {
        let mut merge = Merge::new(section.partitions.len(), self.query.order);
        let mut cursors = vec![RangeCursor::default(); section.partitions.len()];
        loop {
            let (change_id, items) = match merge.step() {
                MergeStep::End => return Ok(Progress::Through),
                MergeStep::Read(which) if !self.may_call(which.len()) => return Ok(Progress::Full(Some(position))),
                MergeStep::Read(which) => {
                    self.fill(section, &mut cursors, &mut merge, which).await?;
                    continue;
                }
                MergeStep::Group { change_id, items } => (change_id, items),
            };
            match self.take(&change_id, items).await? {
                AddResult::NoRoom => return Ok(Progress::Full(Some(position))),
                AddResult::Yes => position = PageCursor::Change(change_id),
            }
            if self.changes.len() >= self.query.limit {
                return Ok(Progress::Full(if merge.has_ended() { section.end.clone() } else { Some(position) }));
            }
        }
    }

    fn may_call(&self, calls: usize) -> bool {
        u32::try_from(calls).is_ok_and(|calls| self.cost.calls + calls <= MAX_CALLS)
    }

    /// Continues to read some partitions, all at the same time.
    async fn fill(
        &mut self,
        section: &KeyRange,
        cursors: &mut [RangeCursor],
        merge: &mut Merge,
        which: Vec<usize>,
    ) -> Result<(), CallError> {
        let count = section.partitions.len();
        let newest_first = self.query.order == Order::NewestFirst;
        let mut reads = FuturesUnordered::new();
        for index in which {
            let (Some(cursor), Some(partition)) = (cursors.get_mut(index), section.partitions.get(index)) else {
                continue;
            };
            cursor.limit = self.limit(count, cursor.limit);
            let between = Some((section.low.as_str(), section.high.as_str()));
            let (limit, from) = (Some(cursor.limit), cursor.rest.clone());
            let read = RangeReader { index: section.index, partition, between, newest_first, limit, from };
            let reader = self.reader;
            reads.push(async move { (index, reader.query(read).await) });
        }
        self.cost.calls += u32::try_from(reads.len()).unwrap_or(u32::MAX);
        while let Some((index, answer)) = reads.next().await {
            let answer = answer?;
            self.cost.items += answer.read;
            merge.add(index, answer.items.into_iter().filter_map(keyed).collect(), answer.rest.is_none());
            if let Some(cursor) = cursors.get_mut(index) {
                cursor.rest = answer.rest;
            }
        }
        Ok(())
    }

    /// How many items to read from one partition of `count`: its share of what is wanted, assuming that a change mostly has two records,
    /// and one more to see that the last change is complete. With a filter, or after a change was omitted, the share is not known: the
    /// number doubles each time.
    fn limit(&self, count: usize, before: usize) -> usize {
        if matches!(self.query.scope, Scope::Change(_)) {
            return ITEMS_OF_A_CHANGE;
        }
        let wanted = self.query.limit.saturating_sub(self.changes.len());
        let share = wanted.div_ceil(count.max(1)) * 2 + 1;
        if self.query.has_filter() || self.has_left_out { share.max(before * 2).min(MAX_ITEMS) } else { share }
    }

    /// Folds the items of one change id into the page.
    async fn take(&mut self, change_id: &ChangeId, items: Vec<KeyedItem>) -> Result<AddResult, CallError> {
        let mut services: BTreeMap<String, Vec<RawRecord>> = BTreeMap::new();
        for KeyedItem { item, .. } in items {
            let service = item.get("service").and_then(Value::as_str).unwrap_or_default().to_owned();
            services.entry(service).or_default().push(item);
        }
        let mut changes = Vec::new();
        for (service, mut items) in services {
            if matches!(self.query.scope, Scope::Image(_)) && may_be_partial(&items.iter().collect::<Vec<_>>()) {
                if !self.may_call(1) {
                    return Ok(AddResult::NoRoom);
                }
                items = self.reader.records(&service, change_id, &mut self.cost).await?;
            }
            let records = items.iter().filter(|item| item.contains_key("kind")).collect();
            let change = fold(records, self.now);
            let accepted = change.as_ref().is_some_and(|change| self.query.accepts(change));
            self.has_left_out |= change.is_some() && !accepted;
            changes.extend(change.filter(|_| accepted));
        }
        let bytes: usize = changes.iter().map(|change| serde_json::to_vec(change).map_or(0, |json| json.len())).sum();
        if self.bytes + bytes > MAX_PAGE && !self.changes.is_empty() {
            return Ok(AddResult::NoRoom);
        }
        self.bytes += bytes;
        self.changes.extend(changes);
        Ok(AddResult::Yes)
    }
}

/// Whether a change was added to the page.
enum AddResult {
    Yes,
    NoRoom,
}

/// An item with its key. An item with a key that this project did not write is omitted: the verification reports it.
fn keyed(item: RawRecord) -> Option<KeyedItem> {
    let record = item.get("record").and_then(Value::as_str).unwrap_or_default();
    let Ok(key) = RecordKey::parse(record) else {
        let service = item.get("service").and_then(Value::as_str).unwrap_or_default();
        tracing::warn!(service, record, "an item of the history table has a key that is no record's");
        return None;
    };
    Some(KeyedItem { key, item })
}
