//! The two tables: history is written by `INSERT` in transactions only, so that IAM can keep it append-only.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::execute_transaction::ExecuteTransactionError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, KeysAndAttributes, ParameterizedStatement};
use aws_sdk_dynamodb::{Client, Config};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use chrono::{DateTime, NaiveDate, Utc};
use domain::call_error::{CallError, Effect};
use domain::config::Tables;
use domain::ids::{AccountId, ChangeId, ServiceKey};
use domain::image::ImageReference;
use domain::ledger::admission::LedgerState;
use domain::ledger::budget::{Beyond, ExternalBudget, Last};
use domain::ledger::clock::{Reading, RoundTrip};
use domain::ledger::deployment::{DeploymentItem, Undoes};
use domain::ledger::head::{Beginner, Head, Lease};
use domain::ledger::hidden::HiddenKey;
use domain::ledger::hold::{self, Hold};
use domain::ledger::idempotency::{KeyItem, Progress, Stage};
use domain::ledger::key::{Attempt, RecordKey};
use domain::ledger::kind::Kind;
use domain::ledger::previous::{self, Previous};
use domain::ledger::queue::{Queue, Waiting};
use domain::ledger::rate::Rate;
use domain::ledger::record::{RawRecord, Record, hash, number, shard};
use domain::ledger::turn::Standing;
use domain::ledger::write::{LedgerError, Write};
use domain::text::rfc3339;
use sdk_error::call_error;
use serde::Serialize;
use serde_json::{Value, json};

use crate::backoff::Backoff;

/// What was read, and what the answers said of this environment's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured<T> {
    /// What was read.
    pub value: T,
    /// What the answers said of the clock.
    pub clock: Reading,
}

/// History and state tables.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    client: Client,
    history: String,
    state: String,
    random: fn() -> [u8; 10],
}

pub(super) type Item = HashMap<String, AttributeValue>;

const BATCH_GET_ITEM: &str = "dynamodb:BatchGetItem";
const QUERY: &str = "dynamodb:Query";

/// The index of the state table that holds only deployments whose end is not known yet.
const BY_CHECK: &str = "by-check";
/// Their part of that index: counts of what no change started, which are to be told.
const COUNTS: &str = "external";
/// Behind every time that is written.
const LAST_TIME: &str = "9999-12-31T23:59:59.999Z";

/// Which open deployments are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Open<'a> {
    /// Those of one service.
    Of(&'a ServiceKey),
    /// Those that are to be asked about.
    Due {
        /// The part of the index, from 0 to [`domain::ledger::record::SHARDS`].
        shard: u8,
        /// By when.
        by: DateTime<Utc>,
        /// About how many.
        limit: usize,
    },
}

/// How many records are read at first to find the last change: nearly always these few have it.
const CHANGES_PAGE: i32 = 10;
/// How many are read at a time behind them.
const MORE_CHANGES_PAGE: i32 = 100;

/// How many keys of what records hide there may be: they are read in one call.
const MAX_SECRETS: u32 = 8;

/// How many services' items are read in one call: three of each, and at most 100 in all. Source:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>: "If you request more than 100 items,
/// `BatchGetItem` returns a `ValidationException`".
const SERVICES_PER_READ: usize = 33;

/// How often keys are asked for that DynamoDB left unprocessed. Source:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>: "we strongly recommend that you use
/// an exponential backoff algorithm".
const UNPROCESSED_ATTEMPTS: u32 = 8;
/// The pause before they are asked for again.
const UNPROCESSED_PAUSE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };

fn position(items: &HashMap<String, Item>, service: &ServiceKey, key_id: &str) -> Result<LedgerState, LedgerError> {
    let broken = |name| LedgerError::broken(format_args!("attribute {name} of an item of {service}"));
    Ok(LedgerState {
        head: items.get(&Head::id(service)).map(head).transpose().map_err(broken)?,
        key: items.get(key_id).map(key).transpose().map_err(broken)?,
    })
}

fn standing(items: &HashMap<String, Item>, service: &ServiceKey, key_id: &str) -> Result<Standing, LedgerError> {
    let queue = items.get(&Queue::id(service)).map(queue).unwrap_or_default();
    Ok(Standing { position: position(items, service, key_id)?, queue })
}

/// What is read of a service for an event.
fn ids(service: &ServiceKey, key_id: &str) -> impl Iterator<Item = String> + use<> {
    [Head::id(service), key_id.to_owned(), Queue::id(service)].into_iter()
}

/// Measures each attempt at a request: when it was sent, when its answer came, and which time the answer names.
#[derive(Debug, Clone, Default)]
struct Stopwatch(Arc<Mutex<Measurement>>);

#[derive(Debug, Default)]
struct Measurement {
    sent: Option<DateTime<Utc>>,
    trip: Option<RoundTrip>,
}

impl Stopwatch {
    fn with(&self, f: impl FnOnce(&mut Measurement)) {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The round trip of the last attempt.
    fn trip(&self) -> Result<RoundTrip, CallError> {
        let mut trip = None;
        self.with(|measurement| trip = measurement.trip);
        trip.ok_or_else(|| {
            CallError::unreadable(BATCH_GET_ITEM, "it has no Date to compare this environment's clock with")
        })
    }
}

fn now(components: &RuntimeComponents) -> DateTime<Utc> {
    components.time_source().unwrap_or_default().now().into()
}

impl Intercept for Stopwatch {
    fn name(&self) -> &'static str {
        "Stopwatch"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.with(|measurement| *measurement = Measurement { sent: Some(now(components)), trip: None });
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let received = now(components);
        self.with(|measurement| {
            let trip = |sent| Some(RoundTrip { sent, received, date: date?.with_timezone(&Utc) });
            measurement.trip = measurement.sent.and_then(trip);
        });
        Ok(())
    }
}

impl LedgerStore {
    /// The tables that the configuration names. `random` spreads what is tried again.
    #[must_use]
    pub fn new(shared: &SdkConfig, tables: &Tables, random: fn() -> [u8; 10]) -> Self {
        let (history, state) = (tables.history.clone(), tables.state.clone());
        Self { client: Client::new(shared), history, state, random }
    }

    /// Reads a service's head, a key and who waits together, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read(&self, service: &ServiceKey, key_id: &str) -> Result<Measured<Standing>, LedgerError> {
        let Measured { value: items, clock } = self.items(ids(service, key_id)).await?;
        Ok(Measured { value: standing(&items, service, key_id)?, clock })
    }

    /// Reads the heads of services, each with a key and who waits: in the same order, each on its own.
    pub async fn read_many(&self, wanted: &[(&ServiceKey, &str)]) -> Vec<Result<Measured<Standing>, LedgerError>> {
        let parts = wanted.chunks(SERVICES_PER_READ).map(async |part| {
            let items = self.items(part.iter().flat_map(|(service, key_id)| ids(service, key_id))).await;
            let read = |(service, key_id): &(&ServiceKey, &str)| match &items {
                Ok(Measured { value, clock }) => {
                    Ok(Measured { value: standing(value, service, key_id)?, clock: *clock })
                }
                Err(error) => Err(error.clone()),
            };
            part.iter().map(read).collect::<Vec<_>>()
        });
        futures_util::future::join_all(parts).await.into_iter().flatten().collect()
    }

    /// Reads a service's head, one of its deployments and a key together, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read_deployment(
        &self,
        service: &ServiceKey,
        deployment_id: Option<&str>,
        key_id: Option<&str>,
    ) -> Result<(LedgerState, Option<DeploymentItem>), LedgerError> {
        let id = deployment_id.map(|id| DeploymentItem::id(service, id));
        let ids = [Some(Head::id(service)), id.clone(), key_id.map(str::to_owned)];
        let items = self.items(ids.into_iter().flatten()).await?.value;
        let found = id.and_then(|id| items.get(&id)).map(deployment).transpose();
        let broken =
            |name| LedgerError::broken(format_args!("attribute {name} of an item of a deployment of {service}"));
        Ok((position(&items, service, key_id.unwrap_or_default())?, found.map_err(broken)?))
    }

    /// Reads how many events of a caller came in the minute of the last one, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or the item is not what this project writes.
    pub async fn read_rate(&self, id: &str) -> Result<Option<Rate>, LedgerError> {
        let items = self.items(std::iter::once(id.to_owned())).await?.value;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of a caller's count"));
        items.get(id).map(rate).transpose().map_err(broken)
    }

    /// Reads a service's head, one of its deployments, and what its account has used of a day's budget, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read_heard(
        &self,
        service: &ServiceKey,
        deployment_id: &str,
        day: NaiveDate,
    ) -> Result<(LedgerState, Option<DeploymentItem>, Option<ExternalBudget>), LedgerError> {
        let (id, budget_id) =
            (DeploymentItem::id(service, deployment_id), ExternalBudget::id(service.account_id(), day));
        let items = self.items([Head::id(service), id.clone(), budget_id.clone()].into_iter()).await?.value;
        let broken =
            |name| LedgerError::broken(format_args!("attribute {name} of an item of a deployment of {service}"));
        let found = items.get(&id).map(deployment).transpose().map_err(broken)?;
        Ok((position(&items, service, "")?, found, items.get(&budget_id).map(budget).transpose().map_err(broken)?))
    }

    /// Reads a service's head and what its account has used of a day's budget, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read_budget(
        &self,
        service: &ServiceKey,
        day: NaiveDate,
    ) -> Result<(LedgerState, Option<ExternalBudget>), LedgerError> {
        let id = ExternalBudget::id(service.account_id(), day);
        let items = self.items([Head::id(service), id.clone()].into_iter()).await?.value;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of item {id}"));
        Ok((position(&items, service, "")?, items.get(&id).map(budget).transpose().map_err(broken)?))
    }

    /// The budgets of which a count is to be told by then, about so many at the most. The index is a little behind.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn budgets_to_tell(&self, by: DateTime<Utc>, about: i32) -> Result<Vec<ExternalBudget>, LedgerError> {
        let answer =
            self.to_check(COUNTS, &rfc3339(by)).limit(about).send().await.map_err(|error| call_error(QUERY, &error))?;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of an item of a day's budget"));
        answer.items.unwrap_or_default().iter().map(|item| budget(item).map_err(broken)).collect()
    }

    /// The key of what records hide: the newest there is, made where there is none.
    ///
    /// # Errors
    ///
    /// Where a call failed, or the kernel gives no random bytes.
    pub async fn hidden_key(&self) -> Result<HiddenKey, LedgerError> {
        loop {
            let names = (1..=MAX_SECRETS).map(|number| number.to_string());
            let items = self.items(names.clone().map(|name| HiddenKey::id(&name))).await?.value;
            if let Some(name) = names.rev().find(|name| items.contains_key(&HiddenKey::id(name))) {
                let secret = items.get(&HiddenKey::id(&name)).and_then(|item| item.get("secret")?.as_b().ok());
                let secret = secret.and_then(|secret| secret.as_ref().try_into().ok());
                let broken = || LedgerError::broken(format_args!("attribute secret of the item of hidden key {name}"));
                return Ok(HiddenKey { secret: secret.ok_or_else(broken)?, name });
            }
            let mut secret = [0; 32];
            for chunk in secret.chunks_mut(8) {
                chunk.copy_from_slice(&(self.random)()[..8]);
            }
            if secret == [0; 32] {
                return Err(LedgerError::Encoding("no key could be made: the kernel gives no random bytes".to_owned()));
            }
            match self.write(&[Write::Secret(HiddenKey { name: "1".to_owned(), secret })]).await {
                // Whoever was first made it: it is read.
                Ok(()) | Err(LedgerError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The records of one change, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed.
    pub async fn records_of(&self, service: &ServiceKey, change_id: &ChangeId) -> Result<Vec<RawRecord>, LedgerError> {
        let mut records = Vec::new();
        let mut from = None;
        loop {
            let request = self
                .client
                .query()
                .table_name(&self.history)
                .key_condition_expression("service = :service AND begins_with(#record, :change)")
                .expression_attribute_names("#record", "record")
                .expression_attribute_values(":service", AttributeValue::S(service.to_string()))
                .expression_attribute_values(":change", AttributeValue::S(format!("{change_id}#")))
                .consistent_read(true)
                .set_exclusive_start_key(from);
            let answer = request.send().await.map_err(|error| call_error(QUERY, &error))?;
            // Pointer items stand beside the chain.
            records.extend(answer.items.unwrap_or_default().iter().filter(|item| item.contains_key("seq")).map(json));
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(records);
            }
        }
    }

    /// The newest records of a service, about so many, strongly consistent: pointer items beside the chain count, too.
    ///
    /// # Errors
    ///
    /// Where the call failed.
    pub async fn newest_records(&self, service: &ServiceKey, about: i32) -> Result<Vec<RawRecord>, LedgerError> {
        let answer = self.newest_first(service, about).send().await.map_err(|error| call_error(QUERY, &error))?;
        Ok(answer.items.unwrap_or_default().iter().filter(|item| item.contains_key("seq")).map(json).collect())
    }

    /// Asks for a page of a service's records, from the newest on.
    fn newest_first(&self, service: &ServiceKey, page: i32) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.history)
            .key_condition_expression("service = :service")
            .expression_attribute_values(":service", AttributeValue::S(service.to_string()))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(page)
    }

    /// What of a part of the index is due by then.
    fn to_check(&self, shard: &str, due: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.state)
            .index_name(BY_CHECK)
            .key_condition_expression("check_shard = :shard AND check_at <= :due")
            .expression_attribute_values(":shard", AttributeValue::S(shard.to_owned()))
            .expression_attribute_values(":due", AttributeValue::S(due.to_owned()))
    }

    /// The open deployments of one part of their index, those that are to be asked about first: of one service, or all
    /// that are due by then. The index is a little behind.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn open_deployments(&self, wanted: Open<'_>) -> Result<Vec<DeploymentItem>, LedgerError> {
        let (shard, due, service, limit) = match wanted {
            Open::Of(service) => (shard(service), LAST_TIME.to_owned(), Some(service), usize::MAX),
            Open::Due { shard, by, limit } => (shard, rfc3339(by), None, limit),
        };
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let request = self.to_check(&shard.to_string(), &due).set_exclusive_start_key(from);
            let answer = request.send().await.map_err(|error| call_error(QUERY, &error))?;
            for item in answer.items.unwrap_or_default() {
                let item = deployment(&item).map_err(|name| {
                    LedgerError::broken(format_args!("attribute {name} of an item of an open deployment"))
                })?;
                if service.is_none_or(|service| item.service == *service) {
                    found.push(item);
                }
            }
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Items of the state table by their ids.
    async fn items(&self, ids: impl Iterator<Item = String>) -> Result<Measured<HashMap<String, Item>>, LedgerError> {
        let keys = ids.map(|id| Item::from([("id".to_owned(), AttributeValue::S(id))])).collect();
        let mut wanted = KeysAndAttributes::builder().consistent_read(true).set_keys(Some(keys)).build().ok();
        let mut items = HashMap::new();
        let mut clock = Reading::Unknown;
        // DynamoDB may answer a part and name the rest.
        for tries in 1..=UNPROCESSED_ATTEMPTS {
            let Some(request) = wanted.take() else { break };
            let stopwatch = Stopwatch::default();
            let sent = self.client.batch_get_item().request_items(&self.state, request);
            let sent = sent.customize().interceptor(stopwatch.clone()).send().await;
            let answer = sent.map_err(|error| call_error(BATCH_GET_ITEM, &error))?;
            let reading = stopwatch.trip()?.reading();
            if reading != Reading::Unknown {
                clock = reading;
            }
            // No item is an empty list: without any list nothing was answered.
            let unreadable = || CallError::unreadable(BATCH_GET_ITEM, "it has no Responses");
            let mut responses = answer.responses.ok_or_else(unreadable)?;
            for item in responses.remove(&self.state).unwrap_or_default() {
                let id =
                    text(&item, "id").map_err(|_| LedgerError::broken("attribute id of an item of the state table"))?;
                items.insert(id, item);
            }
            wanted = answer.unprocessed_keys.unwrap_or_default().remove(&self.state);
            if wanted.is_some() && tries < UNPROCESSED_ATTEMPTS {
                tokio::time::sleep(UNPROCESSED_PAUSE.pause(tries, self.random)).await;
            }
        }
        if wanted.is_some() {
            let mut error = CallError::unreadable(BATCH_GET_ITEM, "keys stay unprocessed");
            error.effect = Effect::Throttled;
            return Err(error.into());
        }
        Ok(Measured { value: items, clock })
    }

    /// Reads one record, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or the item is no record of this project's.
    pub async fn record(&self, service: &ServiceKey, key: &RecordKey) -> Result<Option<Record>, LedgerError> {
        let json = self.record_json(service, key).await?;
        let record = json.map(serde_json::from_value).transpose();
        record.map_err(|error| LedgerError::broken(format_args!("record {key} of {service} ({error})")))
    }

    /// Reads one record of whatever version as the JSON that its hash is over, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or the record does not fit its hash.
    pub async fn record_json(&self, service: &ServiceKey, key: &RecordKey) -> Result<Option<Value>, LedgerError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.history)
            .key("service", AttributeValue::S(service.to_string()))
            .key("record", AttributeValue::S(key.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| call_error("dynamodb:GetItem", &error))?;
        answer.item.map(|item| intact(&item).map(Value::Object)).transpose()
    }

    /// Which change `previous` means: reads the service's records from the newest on until it is known.
    ///
    /// # Errors
    ///
    /// Where the call failed, or a record does not fit its hash.
    pub async fn previous(&self, service: &ServiceKey) -> Result<Option<Previous>, LedgerError> {
        let mut search = previous::Search::default();
        Ok(self.newest_changes(service, |records| search.look(records)).await?.or_else(|| search.end()))
    }

    /// Whether a push of this image under this tag, of which `by` tells, would undo what somebody wanted.
    ///
    /// # Errors
    ///
    /// As [`LedgerStore::previous`].
    pub async fn hold(
        &self,
        service: &ServiceKey,
        image: &ImageReference,
        tag: &str,
        by: Option<&str>,
    ) -> Result<Hold, LedgerError> {
        let mut search = hold::Search::new(image, tag, by);
        Ok(self.newest_changes(service, |records| search.look(records)).await?.unwrap_or(Hold::No))
    }

    /// Reads a service's records from the newest on, change by change, until `look` knows the answer.
    async fn newest_changes<T>(
        &self,
        service: &ServiceKey,
        mut look: impl FnMut(&[RawRecord]) -> Option<T>,
    ) -> Result<Option<T>, LedgerError> {
        let mut change: Vec<RawRecord> = Vec::new();
        let mut from = None;
        loop {
            let page = if from.is_none() { CHANGES_PAGE } else { MORE_CHANGES_PAGE };
            let answer = self
                .newest_first(service, page)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| call_error(QUERY, &error))?;
            // Pointer items stand beside the chain, without a hash.
            for item in answer.items.unwrap_or_default().iter().filter(|item| item.contains_key("seq")) {
                let record = intact(item)?;
                if change.first().is_some_and(|first| first.get("change_id") != record.get("change_id"))
                    && let Some(found) = look(&std::mem::take(&mut change))
                {
                    return Ok(Some(found));
                }
                change.push(record);
            }
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(look(&change));
            }
        }
    }

    /// Does all writes or none.
    ///
    /// # Errors
    ///
    /// A conflict where something is no longer as it was read; after any other error the writes may have been done.
    pub async fn write(&self, writes: &[Write]) -> Result<(), LedgerError> {
        const OPERATION: &str = "dynamodb:ExecuteTransaction";
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            let (text, parameters) = self.statement(write);
            let statement = ParameterizedStatement::builder().statement(text).set_parameters(Some(parameters)).build();
            statements.push(statement.map_err(|error| LedgerError::Encoding(error.to_string()))?);
        }
        // One attempt: whether an earlier one acted could not be told by what becomes of a later one, which may be refused. Whoever tries
        // again reads before.
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let call = self.client.execute_transaction().set_transact_statements(Some(statements));
        let sent = call.customize().config_override(once).send().await;
        let Err(error) = sent else { return Ok(()) };
        if let Some(ExecuteTransactionError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            let reasons = cancelled.cancellation_reasons();
            let failed: Vec<String> = reasons.iter().filter_map(reason).collect();
            let conflict = reasons.iter().any(|reason| reason.code().is_some_and(is_conflict));
            // A local DynamoDB names its reasons in the message only.
            let conflict = conflict || (reasons.is_empty() && cancelled.message().is_some_and(is_conflict));
            if conflict {
                return Err(LedgerError::Conflict(failed.join(", ")));
            }
            let mut call = call_error(OPERATION, &error);
            call.message = format!("{} ({})", call.message, failed.join(", "));
            if reasons.iter().any(|reason| reason.code().is_some_and(is_throttled)) {
                call.effect = Effect::Throttled;
            }
            return Err(call.into());
        }
        let mut call = call_error(OPERATION, &error);
        // The same transaction, sent before: it may still go through.
        if call.has_code(&["TransactionInProgressException"]) {
            call.effect = Effect::Unknown;
        }
        if call.has_code(&["TransactionConflictException", "DuplicateItemException", "ConditionalCheckFailedException"])
        {
            return Err(LedgerError::Conflict(call.to_string()));
        }
        Err(call.into())
    }

    fn statement(&self, write: &Write) -> (String, Vec<AttributeValue>) {
        match write {
            Write::Record(record) => insert(&self.history, attributes(record)),
            Write::Pointer(pointer) => insert(&self.history, attributes(pointer)),
            Write::Head { service, from: None, to } => {
                insert(&self.state, with_id(&Head::id(service), head_attributes(to)))
            }
            Write::Head { service, from: Some(from), to } => {
                let mut unless_moved = vec![("seq", AttributeValue::N(from.seq.to_string()))];
                // Every attempt that takes the lease moves `seq`, too; only a lengthening does not.
                unless_moved
                    .extend(lease_attributes(from).into_iter().filter(|(name, _)| LEASE_CONDITION.contains(name)));
                update(&self.state, &Head::id(service), head_attributes(to), unless_moved)
            }
            Write::Queue { service, to } => {
                let id = Queue::id(service);
                match &to.stored {
                    None => insert(&self.state, with_id(&id, queue_attributes(to))),
                    Some(stored) => {
                        let unless_moved = vec![(WAITING, AttributeValue::S(stored.clone()))];
                        update(&self.state, &id, queue_attributes(to), unless_moved)
                    }
                }
            }
            Write::Secret(key) => {
                let secret = vec![("secret", AttributeValue::B(key.secret.to_vec().into()))];
                insert(&self.state, with_id(&HiddenKey::id(&key.name), secret))
            }
            Write::Key { from: None, to } => insert(&self.state, with_id(&to.id, key_attributes(to))),
            Write::Key { from: Some(from), to } => {
                let change_id = from.progress().map(|progress| progress.change_id.to_string()).unwrap_or_default();
                let mut unless_moved = vec![
                    ("change_id", AttributeValue::S(change_id)),
                    ("expires_at", AttributeValue::N(from.expires_at.to_string())),
                ];
                if from.progress().is_none_or(|progress| progress.answer.is_none()) {
                    unless_moved.push(("answer", AttributeValue::S(String::new())));
                }
                update(&self.state, &to.id, key_attributes(to), unless_moved)
            }
            Write::Waiter { key, until } => {
                let progress = key.progress();
                let mut unless_moved = vec![("change_id", optional(progress.map(|progress| &progress.change_id)))];
                let before = progress.and_then(|progress| progress.waiter_until);
                unless_moved.extend(before.map(|until| (WAITER, AttributeValue::S(rfc3339(until)))));
                let set = vec![(WAITER, AttributeValue::S(rfc3339(*until)))];
                let (mut text, values) = update(&self.state, &key.id, set, unless_moved);
                if before.is_none() {
                    // <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-functions.missing.html>
                    let _ = write!(text, " AND \"{WAITER}\" IS MISSING");
                }
                (text, values)
            }
            Write::Deployment { from: None, to } => {
                insert(&self.state, with_id(&to.id, [deployment_attributes(to), check_attributes(to)].concat()))
            }
            Write::Deployment { from: Some(from), to } => {
                let unless_moved = deployment_attributes(from);
                let unless_moved =
                    unless_moved.into_iter().filter(|(name, _)| DEPLOYMENT_CONDITION.contains(name)).collect();
                let check = check_attributes(to);
                // An index key is there or not: it cannot be empty.
                let gone: &[&str] = if check.is_empty() { &["check_shard", "check_at"] } else { &[] };
                update_and_remove(&self.state, &to.id, [deployment_attributes(to), check].concat(), gone, unless_moved)
            }
            Write::Undone { item, by } => {
                update(&self.state, item, vec![(UNDONE_BY, AttributeValue::S(by.clone()))], Vec::new())
            }
            Write::Rate { from: None, to } => insert(&self.state, with_id(&to.id, rate_attributes(to))),
            Write::Rate { from: Some(from), to } => {
                let unless_moved = rate_attributes(from).into_iter().filter(|(name, _)| RATE_CONDITION.contains(name));
                update(&self.state, &to.id, rate_attributes(to), unless_moved.collect())
            }
            Write::Budget { from: None, to } => {
                let id = ExternalBudget::id(&to.account, to.day);
                insert(&self.state, with_id(&id, [budget_attributes(to), budget_check_attributes(to)].concat()))
            }
            Write::Budget { from: Some(from), to } => {
                let unless_moved = budget_attributes(from);
                let unless_moved =
                    unless_moved.into_iter().filter(|(name, _)| BUDGET_CONDITION.contains(name)).collect();
                let check = budget_check_attributes(to);
                let gone: &[&str] = if check.is_empty() { &["check_shard", "check_at"] } else { &[] };
                let id = ExternalBudget::id(&to.account, to.day);
                update_and_remove(&self.state, &id, [budget_attributes(to), check].concat(), gone, unless_moved)
            }
        }
    }
}

/// The attribute of a key that says until when somebody follows its change's deployment. Keys of which nobody did have none.
const WAITER: &str = "waiter_until";
/// The attribute of a deployment that names its rollback. Only deployments of which one was heard have it, and nothing takes it away.
const UNDONE_BY: &str = "undone_by";
/// The attribute that says who waits for a service.
const WAITING: &str = "waiting";
/// What of a lease tells that it is still the one that was read.
const LEASE_CONDITION: [&str; 2] = ["lease_change", "lease_until"];
/// What of a deployment tells that nobody else noted something about it.
const DEPLOYMENT_CONDITION: [&str; 3] = ["change_id", "outcomes", "undoes"];

/// What of a caller's count tells that no other event was counted.
const RATE_CONDITION: [&str; 2] = ["minute", "count"];
/// What of a budget tells that nobody else has used it.
const BUDGET_CONDITION: [&str; 2] = ["recorded", "beyond"];

type Attributes = Vec<(&'static str, AttributeValue)>;

fn insert(
    table: &str,
    attributes: impl IntoIterator<Item = (impl AsRef<str>, AttributeValue)>,
) -> (String, Vec<AttributeValue>) {
    let (names, values): (Vec<String>, Vec<AttributeValue>) =
        attributes.into_iter().map(|(name, value)| (format!("'{}': ?", name.as_ref()), value)).unzip();
    (format!("INSERT INTO \"{table}\" VALUE {{{}}}", names.join(", ")), values)
}

fn update(table: &str, id: &str, set: Attributes, conditions: Attributes) -> (String, Vec<AttributeValue>) {
    update_and_remove(table, id, set, &[], conditions)
}

/// Names are quoted: `hash` and others are reserved words.
fn update_and_remove(
    table: &str,
    id: &str,
    set: Attributes,
    remove: &[&str],
    conditions: Attributes,
) -> (String, Vec<AttributeValue>) {
    let mut text = format!("UPDATE \"{table}\"");
    let mut values = Vec::with_capacity(set.len() + conditions.len() + 1);
    for (name, value) in set {
        let _ = write!(text, " SET \"{name}\" = ?");
        values.push(value);
    }
    for name in remove {
        let _ = write!(text, " REMOVE \"{name}\"");
    }
    text.push_str(" WHERE \"id\" = ?");
    values.push(AttributeValue::S(id.to_owned()));
    for (name, value) in conditions {
        let _ = write!(text, " AND \"{name}\" = ?");
        values.push(value);
    }
    (text, values)
}

fn with_id(id: &str, mut attributes: Attributes) -> Attributes {
    attributes.insert(0, ("id", AttributeValue::S(id.to_owned())));
    attributes
}

/// An item of strings and one integer, as all of the history table are.
fn attributes(item: &impl Serialize) -> Vec<(String, AttributeValue)> {
    let Ok(Value::Object(members)) = serde_json::to_value(item) else { return Vec::new() };
    members
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => AttributeValue::S(text),
                other => AttributeValue::N(other.to_string()),
            };
            (name, value)
        })
        .collect()
}

/// The JSON that an item of strings and integers stands for. An attribute of another type becomes what no record holds.
pub(super) fn json(item: &Item) -> RawRecord {
    let members = item.iter().map(|(name, value)| {
        let value = match value {
            AttributeValue::S(text) => Value::from(text.as_str()),
            AttributeValue::N(text) => number(text),
            other => json!({"attribute": format!("{other:?}")}),
        };
        (name.clone(), value)
    });
    members.collect()
}

/// A record that fits its hash.
fn intact(item: &Item) -> Result<RawRecord, LedgerError> {
    let record = Value::Object(json(item));
    let claimed = record.get("hash").and_then(Value::as_str);
    let fits = hash(&record).ok().as_deref() == claimed;
    match record {
        Value::Object(record) if fits => Ok(record),
        record => {
            let part = |name| record.get(name).and_then(Value::as_str).unwrap_or_default();
            let what =
                format_args!("record {} of {} does not fit its hash: it", part("record"), part("service")).to_string();
            Err(LedgerError::broken(what))
        }
    }
}

/// A text that may be missing: no DynamoDB attribute, or an empty one.
fn optional(text: Option<impl ToString>) -> AttributeValue {
    AttributeValue::S(text.map(|text| text.to_string()).unwrap_or_default())
}

/// No lease is written as empty strings, so that taking and giving it back are the same statement.
fn lease_attributes(head: &Head) -> Attributes {
    let lease = head.lease.as_ref();
    vec![
        ("lease_change", optional(lease.map(|lease| &lease.change_id))),
        ("lease_attempt", optional(lease.map(|lease| lease.attempt))),
        ("lease_until", optional(lease.map(|lease| rfc3339(lease.until)))),
        ("lease_key", optional(lease.map(|lease| &lease.key))),
    ]
}

fn head_attributes(head: &Head) -> Attributes {
    let mut attributes = vec![
        ("seq", AttributeValue::N(head.seq.to_string())),
        ("hash", AttributeValue::S(head.hash.clone())),
        ("record", AttributeValue::S(head.record.to_string())),
        ("highest", AttributeValue::S(head.highest.to_string())),
        ("begun", optional(head.begun.as_ref())),
        ("begun_by", optional(begun_by(head))),
        ("running", optional(head.running.as_ref())),
    ];
    attributes.extend(lease_attributes(head));
    attributes
}

/// With the change that it is of: the version before it moves a head and leaves this as it was.
fn begun_by(head: &Head) -> Option<Value> {
    let Beginner { caller, key, behind } = head.begun_by.as_deref()?;
    let behind = behind.as_ref().map(ToString::to_string);
    Some(json!({"change_id": head.begun.as_ref()?.to_string(), "caller": caller, "key": key, "behind": behind}))
}

/// Who began the change `begun`, where the text says so.
fn beginner(text: &str, begun: Option<&ChangeId>) -> Option<Beginner> {
    let text: Value = serde_json::from_str(text).ok()?;
    let part = |name| text.get(name).and_then(Value::as_str);
    if part("change_id") != Some(begun?.to_string().as_str()) {
        return None;
    }
    let behind = part("behind").map(ChangeId::parse).transpose().ok()?;
    Some(Beginner { caller: part("caller")?.to_owned(), key: part("key")?.to_owned(), behind })
}

fn queue_attributes(queue: &Queue) -> Attributes {
    let waiting = queue.waiting.iter().map(|waiting| {
        let Waiting { caller, key, after, until } = waiting;
        json!({"caller": caller, "key": key, "after": after.to_string(), "until": rfc3339(*until)})
    });
    vec![
        (WAITING, AttributeValue::S(Value::from(waiting.collect::<Vec<_>>()).to_string())),
        ("expires_at", AttributeValue::N(queue.expires_at().to_string())),
    ]
}

fn rate_attributes(rate: &Rate) -> Attributes {
    vec![
        ("minute", AttributeValue::S(rfc3339(rate.minute))),
        ("count", AttributeValue::N(rate.count.to_string())),
        ("expires_at", AttributeValue::N(rate.expires_at().to_string())),
    ]
}

fn rate(item: &Item) -> Result<Rate, &'static str> {
    Ok(Rate {
        id: text(item, "id")?,
        minute: time(&text(item, "minute")?).ok_or("minute")?,
        count: parsed(item, "count")?,
    })
}

/// Who waits, as far as the item says so: what cannot be read keeps nobody out.
fn queue(item: &Item) -> Queue {
    let stored = text(item, WAITING).ok();
    let known: Vec<Value> = stored.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let waiting = known.iter().filter_map(|known| {
        let part = |name| known.get(name).and_then(Value::as_str);
        Some(Waiting {
            caller: part("caller")?.to_owned(),
            key: part("key")?.to_owned(),
            after: ChangeId::parse(part("after")?).ok()?,
            until: time(part("until")?)?,
        })
    });
    Queue { waiting: waiting.collect(), stored }
}

fn key_attributes(key: &KeyItem) -> Attributes {
    let (progress, mark, first) = match &key.stage {
        Stage::Begun(progress) => (Some(progress), None, None),
        Stage::Seen { mark, first } => (None, mark.as_ref(), first.as_ref()),
    };
    let mut attributes = vec![
        ("event_hash", AttributeValue::S(key.event_hash.clone())),
        ("mark", optional(mark)),
        ("first", optional(first)),
        ("change_id", optional(progress.map(|progress| &progress.change_id))),
        ("attempt", optional(progress.map(|progress| progress.attempt))),
        ("acted", optional(progress.map(|progress| progress.acted))),
        ("answer", optional(progress.and_then(|progress| progress.answer.as_ref()))),
        ("expires_at", AttributeValue::N(key.expires_at.to_string())),
    ];
    let waiter = progress.and_then(|progress| progress.waiter_until);
    attributes.extend(waiter.map(|until| (WAITER, AttributeValue::S(rfc3339(until)))));
    attributes
}

/// Lists are JSON in strings; what is not there is an empty string.
fn deployment_attributes(item: &DeploymentItem) -> Attributes {
    let undoes = item
        .undoes
        .as_ref()
        .map(|undoes| json!({"deployment_id": undoes.deployment_id, "since": rfc3339(undoes.since)}));
    let mut attributes = vec![
        ("service", AttributeValue::S(item.service.to_string())),
        ("service_arn", AttributeValue::S(item.service_arn.clone())),
        ("change_id", AttributeValue::S(item.change_id.to_string())),
        ("repositories", AttributeValue::S(Value::from(item.repositories.clone()).to_string())),
        ("before", optional(item.before.as_ref())),
        ("started_at", AttributeValue::S(rfc3339(item.started_at))),
        ("service_deployment", optional(item.service_deployment.as_ref())),
        ("by_events", AttributeValue::S(item.by_events.to_string())),
        ("undoes", optional(undoes)),
        ("outcomes", AttributeValue::S(outcomes_text(item))),
        ("expires_at", AttributeValue::N(item.expires_at.to_string())),
    ];
    attributes.extend(item.undone_by.as_ref().map(|by| (UNDONE_BY, AttributeValue::S(by.clone()))));
    attributes
}

/// What puts a deployment into the index of open ones.
fn check_attributes(item: &DeploymentItem) -> Attributes {
    let Some(check_at) = item.check_at else { return Vec::new() };
    let shard = shard(&item.service).to_string();
    vec![("check_shard", AttributeValue::S(shard)), ("check_at", AttributeValue::S(rfc3339(check_at)))]
}

fn budget_attributes(budget: &ExternalBudget) -> Attributes {
    let last = budget.beyond.as_ref().map(|beyond| &beyond.last);
    let count = budget.beyond.as_ref().map_or(0, |beyond| beyond.count);
    vec![
        ("account", AttributeValue::S(budget.account.to_string())),
        ("day", AttributeValue::S(budget.day.to_string())),
        ("recorded", AttributeValue::N(budget.recorded.to_string())),
        ("beyond", AttributeValue::N(count.to_string())),
        ("service", optional(last.map(|last| &last.service))),
        ("service_arn", optional(last.map(|last| &last.service_arn))),
        ("deployment", optional(last.map(|last| &last.deployment_id))),
        ("heard_at", optional(last.map(|last| rfc3339(last.at)))),
        ("expires_at", AttributeValue::N(budget.expires_at().to_string())),
    ]
}

/// What puts a budget into the index, where it has a count to tell.
fn budget_check_attributes(budget: &ExternalBudget) -> Attributes {
    let Some(tell_at) = budget.tell_at() else { return Vec::new() };
    vec![("check_shard", AttributeValue::S(COUNTS.to_owned())), ("check_at", AttributeValue::S(rfc3339(tell_at)))]
}

/// The budget that an item is, or the attribute that is not what this project writes.
fn budget(item: &Item) -> Result<ExternalBudget, &'static str> {
    let count: u32 = parsed(item, "beyond")?;
    let last = || -> Result<Last, &'static str> {
        Ok(Last {
            service: ServiceKey::parse(&text(item, "service")?).map_err(|_| "service")?,
            service_arn: text(item, "service_arn")?,
            deployment_id: text(item, "deployment")?,
            at: time(&text(item, "heard_at")?).ok_or("heard_at")?,
        })
    };
    Ok(ExternalBudget {
        account: AccountId::parse(&text(item, "account")?).map_err(|_| "account")?,
        day: text(item, "day")?.parse().map_err(|_| "day")?,
        recorded: parsed(item, "recorded")?,
        beyond: if count == 0 { None } else { Some(Beyond { count, last: last()? }) },
    })
}

fn outcomes_text(item: &DeploymentItem) -> String {
    let known = item.outcomes.iter().map(|kind| kind.as_str());
    known.chain(item.unread.as_deref()).collect::<Vec<_>>().join(",")
}

/// Outcomes, as far as this version knows them, and what stands behind these.
fn outcomes(text: &str) -> (Vec<Kind>, Option<String>) {
    let mut known = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (first, behind) = rest.split_once(',').unwrap_or((rest, ""));
        let Ok(kind) = serde_json::from_value(first.into()) else { return (known, Some(rest.to_owned())) };
        known.push(kind);
        rest = behind;
    }
    (known, None)
}

/// The deployment that an item is, or the attribute that is not what this project writes.
fn deployment(item: &Item) -> Result<DeploymentItem, &'static str> {
    let (outcomes, unread) = outcomes(&text(item, "outcomes")?);
    let undoes = filled(item, "undoes").map(|undoes| {
        let undoes: Value = serde_json::from_str(&undoes).ok()?;
        let deployment_id = undoes.get("deployment_id")?.as_str().map(str::to_owned);
        Some(Undoes { deployment_id, since: time(undoes.get("since")?.as_str()?)? })
    });
    Ok(DeploymentItem {
        id: text(item, "id")?,
        service: ServiceKey::parse(&text(item, "service")?).map_err(|_| "service")?,
        service_arn: text(item, "service_arn")?,
        change_id: ChangeId::parse(&text(item, "change_id")?).map_err(|_| "change_id")?,
        repositories: serde_json::from_str(&text(item, "repositories")?).map_err(|_| "repositories")?,
        before: filled(item, "before"),
        started_at: time(&text(item, "started_at")?).ok_or("started_at")?,
        service_deployment: filled(item, "service_deployment"),
        by_events: text(item, "by_events")? != "false",
        undoes: undoes.map(|undoes| undoes.ok_or("undoes")).transpose()?,
        undone_by: filled(item, UNDONE_BY),
        outcomes,
        unread,
        check_at: filled(item, "check_at").map(|at| time(&at).ok_or("check_at")).transpose()?,
        expires_at: parsed(item, "expires_at")?,
    })
}

fn text(item: &Item, name: &'static str) -> Result<String, &'static str> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().ok_or(name)
}

/// A text that may be missing or empty.
fn filled(item: &Item, name: &'static str) -> Option<String> {
    text(item, name).ok().filter(|text| !text.is_empty())
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

fn parsed<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, &'static str> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|number| number.parse().ok()).ok_or(name)
}

fn change_id(item: &Item, name: &'static str) -> Result<Option<ChangeId>, &'static str> {
    filled(item, name).map(|id| ChangeId::parse(&id).map_err(|_| name)).transpose()
}

/// The attempt that an item names; the first where it names none, as items of the time before attempts.
fn attempt(item: &Item, name: &'static str) -> Result<Attempt, &'static str> {
    let number = filled(item, name).map_or(Ok(1), |number| number.parse().map_err(|_| name))?;
    Attempt::new(number).ok_or(name)
}

/// The head that an item is, or the attribute that is not what this project writes. Before the first release, a head had one
/// `change_id`, that of the last change whatever it was.
pub(super) fn head(item: &Item) -> Result<Head, &'static str> {
    let lease = match change_id(item, "lease_change")? {
        None => None,
        Some(change_id) => Some(Lease {
            change_id,
            attempt: attempt(item, "lease_attempt")?,
            until: time(&text(item, "lease_until")?).ok_or("lease_until")?,
            key: text(item, "lease_key")?,
        }),
    };
    let last = change_id(item, "change_id")?;
    let begun = if item.contains_key("begun") { change_id(item, "begun")? } else { last.clone() };
    Ok(Head {
        seq: parsed(item, "seq")?,
        hash: text(item, "hash")?,
        record: RecordKey::parse(&text(item, "record")?).map_err(|_| "record")?,
        highest: change_id(item, "highest")?.or(last).ok_or("highest")?,
        begun_by: filled(item, "begun_by").and_then(|text| beginner(&text, begun.as_ref())).map(Box::new),
        begun,
        running: filled(item, "running"),
        lease,
    })
}

/// The change that began under an idempotency key, if one did; or the attribute that is not what this project writes.
pub(super) fn begun_under(item: &Item) -> Result<Option<ChangeId>, &'static str> {
    change_id(item, "change_id")
}

fn key(item: &Item) -> Result<KeyItem, &'static str> {
    let stage = match begun_under(item)? {
        None => Stage::Seen { mark: change_id(item, "mark")?, first: filled(item, "first") },
        Some(change_id) => Stage::Begun(Progress {
            change_id,
            attempt: attempt(item, "attempt")?,
            acted: filled(item, "acted").as_deref() != Some("false"),
            answer: filled(item, "answer"),
            waiter_until: filled(item, WAITER).and_then(|until| time(&until)),
        }),
    };
    let (id, event_hash) = (text(item, "id")?, text(item, "event_hash")?);
    Ok(KeyItem { id, event_hash, stage, expires_at: parsed(item, "expires_at")? })
}

/// AWS's documentation writes these codes without `Exception`, and local ones with it: both are taken.
fn is_conflict(code: &str) -> bool {
    ["ConditionalCheckFailed", "DuplicateItem", "TransactionConflict"].iter().any(|known| code.contains(known))
}

/// A cancellation that says nothing of the items: there was no room.
fn is_throttled(code: &str) -> bool {
    ["ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"]
        .iter()
        .any(|known| code.contains(known))
}

fn reason(reason: &CancellationReason) -> Option<String> {
    let code = reason.code().filter(|code| *code != "None")?;
    Some(reason.message().map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_their_attributes_and_hold_no_values() {
        let (text, values) = insert("state", vec![("id", AttributeValue::S("'; DROP".to_owned()))]);
        assert_eq!(text, r#"INSERT INTO "state" VALUE {'id': ?}"#);
        assert_eq!(values.len(), 1);
        let set = vec![("seq", AttributeValue::N("2".to_owned()))];
        let (text, values) = update("state", "i", set, vec![("hash", AttributeValue::S("h".to_owned()))]);
        assert_eq!(text, r#"UPDATE "state" SET "seq" = ? WHERE "id" = ? AND "hash" = ?"#);
        assert_eq!(values.len(), 3);
    }

    fn change() -> ChangeId {
        ChangeId::new(at(0), [7; 10])
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_000_000_123 + second * 1000).unwrap()
    }

    fn item(attributes: Attributes) -> Item {
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn heads_are_read_as_they_were_written() {
        let attempt = Attempt::new(3).unwrap();
        let lease = Lease { change_id: change(), attempt, until: at(9), key: "key#1".to_owned() };
        for (lease, begun) in [(None, None), (Some(lease), Some(change()))] {
            let record = RecordKey::new(change(), domain::ledger::key::RecordPlace::Started(attempt));
            let running = begun.as_ref().map(|_| "arn:td".to_owned());
            let by = |behind| Box::new(Beginner { caller: "by#1".to_owned(), key: "key#1".to_owned(), behind });
            for begun_by in [None, Some(by(None)), Some(by(Some(ChangeId::new(at(-5), [6; 10]))))] {
                let (record, begun, running, lease) = (record.clone(), begun.clone(), running.clone(), lease.clone());
                let begun_by = begun_by.filter(|_| begun.is_some());
                let written =
                    Head { seq: 7, hash: "h".to_owned(), record, highest: change(), begun, begun_by, running, lease };
                assert_eq!(head(&item(head_attributes(&written))), Ok(written));
            }
        }
        assert_eq!(head(&Item::new()), Err("seq"));
    }

    #[test]
    fn who_began_another_change_is_not_who_began_this_one() {
        let behind = Some(ChangeId::new(at(-5), [6; 10]));
        let by = Beginner { caller: "by#1".to_owned(), key: "key#1".to_owned(), behind };
        let written = Head {
            seq: 7,
            hash: "h".to_owned(),
            record: RecordKey::new(change(), domain::ledger::key::RecordPlace::STARTED),
            highest: change(),
            begun: Some(change()),
            begun_by: Some(Box::new(by)),
            running: None,
            lease: None,
        };
        let mut moved = item(head_attributes(&written));
        // As the version before it moves a head.
        moved.insert("begun".to_owned(), AttributeValue::S(ChangeId::new(at(1), [7; 10]).to_string()));
        assert_eq!(head(&moved).unwrap().begun_by, None);
        for unread in ["", "{}", "no JSON", "[1]"] {
            moved.insert("begun_by".to_owned(), AttributeValue::S(unread.to_owned()));
            assert_eq!(head(&moved).unwrap().begun_by, None, "{unread}");
        }
    }

    #[test]
    fn who_waits_is_read_as_it_was_written_and_what_cannot_be_read_is_nobody() {
        let waiting = |caller: &str| Waiting {
            caller: caller.to_owned(),
            key: "key#1".to_owned(),
            after: change(),
            until: at(9),
        };
        let written = Queue { waiting: vec![waiting("by#1"), waiting("key#1")], stored: None };
        let stored = item(queue_attributes(&written));
        let read = queue(&stored);
        assert_eq!(read.waiting, written.waiting);
        assert_eq!(read.stored, text(&stored, WAITING).ok());
        for unread in ["", "no JSON", r#"[{"caller": "by#1"}, 7]"#] {
            let read = queue(&item(vec![(WAITING, AttributeValue::S(unread.to_owned()))]));
            assert_eq!((read.waiting, read.stored.as_deref()), (Vec::new(), Some(unread)));
        }
        assert_eq!(queue(&Item::new()), Queue::default());
    }

    #[test]
    fn a_head_of_the_time_before_attempts_is_read() {
        let id = change().to_string();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut old = item(vec![
            ("seq", AttributeValue::N("2".to_owned())),
            ("hash", text("h")),
            ("record", text(&format!("{id}#1"))),
            ("change_id", text(&id)),
            ("lease_change", text(&id)),
            ("lease_until", text("2026-11-28T10:00:00.123Z")),
            ("lease_key", text("key#1")),
        ]);
        let read = head(&old).unwrap();
        assert_eq!((read.highest, read.begun), (change(), Some(change())));
        assert!(read.lease.unwrap().is_of(&change(), Attempt::FIRST));
        for name in ["lease_change", "lease_until", "lease_key"] {
            old.insert(name.to_owned(), text(""));
        }
        assert_eq!(head(&old).unwrap().lease, None);
    }

    #[test]
    fn keys_and_deployments_are_read_as_they_were_written() {
        let begun = KeyItem::begun("key#1", "e", change(), Attempt::LAST, at(0));
        let waited_for = begun.clone().waited_for(Some(at(9)));
        for written in [
            begun.failed(false, at(1)),
            begun,
            waited_for,
            KeyItem::seen("key#1", "e", Some(change()), at(0)),
            KeyItem::seen("key#1", "e", Some(change()), at(0)).letting_go_first(Some("key#2")),
        ] {
            let attributes = with_id(&written.id, key_attributes(&written));
            assert_eq!(key(&item(attributes)), Ok(written));
        }
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let plain = DeploymentItem::new(&service, "arn:s", "ecs-svc/1", change(), at(0), at(1));
        let undoes = |deployment_id| Some(Undoes { deployment_id, since: at(5) });
        for undoes in [None, undoes(None), undoes(Some("ecs-svc/2".to_owned()))] {
            let outcomes = vec![Kind::DeploymentFailed, Kind::RolledBack];
            let undone_by = undoes.is_none().then(|| "ecs-svc/3".to_owned());
            let before = Some("ecs-svc/0".to_owned());
            let written = DeploymentItem { before, undoes, undone_by, outcomes, ..plain.clone() };
            let attributes =
                with_id(&written.id, [deployment_attributes(&written), check_attributes(&written)].concat());
            assert_eq!(deployment(&item(attributes)), Ok(written));
        }
    }

    #[test]
    fn an_outcome_that_only_a_later_version_knows_is_an_end_and_stays_as_it_was_written() {
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let plain = DeploymentItem::new(&service, "arn:s", "ecs-svc/1", change(), at(0), at(1));
        let mut attributes = item(with_id(&plain.id, deployment_attributes(&plain)));
        let text = "DEPLOYMENT_FAILED,PAUSED_FOR_GOOD,ROLLED_BACK";
        attributes.insert("outcomes".to_owned(), AttributeValue::S(text.to_owned()));
        let read = deployment(&attributes).unwrap();
        assert_eq!(read.outcomes, [Kind::DeploymentFailed]);
        assert!(!read.accepts(Kind::RolledBack) && !read.accepts(Kind::Completed));
        assert_eq!(outcomes_text(&read), text, "whoever writes the item again demands what stands there");
    }

    #[test]
    fn conflicts_are_known_with_and_without_exception() {
        for code in ["ConditionalCheckFailed", "ConditionalCheckFailedException", "DuplicateItemException"] {
            assert!(is_conflict(code));
        }
        assert!(!is_conflict("ThrottlingError"));
    }
}
