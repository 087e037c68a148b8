//! The two tables. The history is written only by `INSERT` in transactions, so that IAM can keep it append-only.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::execute_transaction::ExecuteTransactionError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, KeysAndAttributes, ParameterizedStatement};
use aws_sdk_dynamodb::{Client, Config};
use chrono::{DateTime, NaiveDate, Utc};
use domain::call_error::{CallError, Effect};
use domain::config::Tables;
use domain::ecs::service::Snapshot;
use domain::ids::{ChangeId, ServiceKey};
use domain::image::ImageReference;
use domain::ledger::admission::LedgerState;
use domain::ledger::budget::ExternalBudget;
use domain::ledger::clock::Reading;
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::head::Head;
use domain::ledger::hidden::HiddenKey;
use domain::ledger::hold::{self, Hold};
use domain::ledger::key::RecordKey;
use domain::ledger::past::PastChange;
use domain::ledger::previous::{self, Previous};
use domain::ledger::queue::Queue;
use domain::ledger::rate::Rate;
use domain::ledger::record::{RawRecord, Record, shard};
use domain::ledger::turn::Standing;
use domain::ledger::write::{LedgerError, Write};
use domain::text::rfc3339;
use sdk_error::call_error;
use serde_json::Value;

use crate::aws::ledger_items::{
    COUNTS, Item, PAUSES, UNDONE_BY, WAITER, WAITING, attributes, budget, budget_attributes, budget_check_attributes,
    check_attributes, deployment, deployment_attributes, head, head_attributes, intact, json, key, key_attributes,
    lease_attributes, optional, queue, queue_attributes, rate, rate_attributes, text,
};
use crate::aws::retry_partition;
use crate::aws::statements::{insert, update, update_and_remove, with_id};
use crate::aws::stopwatch::{BATCH_GET_ITEM, Stopwatch};
use crate::backoff::Backoff;

/// A value that was read, and what the answers show about this environment's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured<T> {
    /// The value that was read.
    pub value: T,
    /// What the answers show about the clock.
    pub clock: Reading,
}

/// The history table and the state table.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    client: Client,
    history: String,
    state: String,
    random: fn() -> [u8; 10],
}

const QUERY: &str = "dynamodb:Query";

/// The sparse index of the state table: deployments whose end is not known yet, and counts that have to be reported.
const BY_CHECK: &str = "by-check";

/// Later than every time that is written.
const LAST_TIME: &str = "9999-12-31T23:59:59.999Z";

/// Which open deployments are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Open<'a> {
    /// The open deployments of one service.
    Of(&'a ServiceKey),
    /// The open deployments that ECS has to be asked about.
    Due {
        /// The part of the index, below [`domain::ledger::record::SHARDS`].
        shard: u8,
        /// The time by which they are due.
        by: DateTime<Utc>,
        /// The approximate maximum number.
        limit: usize,
    },
}

/// How many records are read at first to find the last change: these few nearly always contain it.
const CHANGES_PAGE: i32 = 10;

/// How many are read at a time after that.
const MORE_CHANGES_PAGE: i32 = 100;

/// How many records are read to learn who changed a service since a change that is undone.
const MAX_LATER: usize = 500;

/// How many keys for hidden values there may be: they are read in one call.
const MAX_SECRETS: u32 = 8;

/// How many services' items are read in one call: three of each, and at most 100 in all. Source:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>: "If you request more than 100 items,
/// `BatchGetItem` returns a `ValidationException`".
const SERVICES_PER_READ: usize = 33;

/// How often keys that DynamoDB left unprocessed are requested. Source:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>: "we strongly recommend that you use
/// an exponential backoff algorithm".
const UNPROCESSED_ATTEMPTS: u32 = 8;

/// The pause before they are requested again.
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

/// The ids of the items of a service that are read for an event.
fn ids(service: &ServiceKey, key_id: &str) -> impl Iterator<Item = String> + use<> {
    [Head::id(service), key_id.to_owned(), Queue::id(service)].into_iter()
}

impl LedgerStore {
    /// The tables that the configuration names. `random` spreads retries.
    #[must_use]
    pub fn new(shared: &SdkConfig, tables: &Tables, random: fn() -> [u8; 10]) -> Self {
        let (history, state) = (tables.history.clone(), tables.state.clone());
        let config = aws_sdk_dynamodb::config::Builder::from(shared).retry_partition(retry_partition("dynamodb"));
        Self { client: Client::from_conf(config.build()), history, state, random }
    }

    /// Reads a service's head, a key and the waiting callers together, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or an item is not what this project writes.
    pub async fn read(&self, service: &ServiceKey, key_id: &str) -> Result<Measured<Standing>, LedgerError> {
        let Measured { value: items, clock } = self.items(ids(service, key_id)).await?;
        Ok(Measured { value: standing(&items, service, key_id)?, clock })
    }

    /// Reads the heads of services, each with a key and the waiting callers. The results are in the same order, one for each service.
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
    /// Returns an error if the call failed, or an item is not what this project writes.
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

    /// Reads the item of a deployment whose service is not known, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or the item is not what this project writes.
    pub async fn read_deployment_item(&self, id: &str) -> Result<Option<DeploymentItem>, LedgerError> {
        let items = self.items(std::iter::once(id.to_owned())).await?.value;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of item {id}"));
        items.get(id).map(deployment).transpose().map_err(broken)
    }

    /// Reads how many events of a caller were received in the minute of the last one, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or the item is not what this project writes.
    pub async fn read_rate(&self, id: &str) -> Result<Option<Rate>, LedgerError> {
        let items = self.items(std::iter::once(id.to_owned())).await?.value;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of a caller's count"));
        items.get(id).map(rate).transpose().map_err(broken)
    }

    /// Reads a service's head, one of its deployments, and what its account has used of a day's budget, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or an item is not what this project writes.
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
    /// Returns an error if the call failed, or an item is not what this project writes.
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

    /// The budgets with a count that is due to be reported by this time, at most about this number. The index lags a little behind.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or an item is not what this project writes.
    pub async fn budgets_to_tell(&self, by: DateTime<Utc>, about: i32) -> Result<Vec<ExternalBudget>, LedgerError> {
        let answer =
            self.to_check(COUNTS, &rfc3339(by)).limit(about).send().await.map_err(|error| call_error(QUERY, &error))?;
        let broken = |name| LedgerError::broken(format_args!("attribute {name} of an item of a day's budget"));
        answer.items.unwrap_or_default().iter().map(|item| budget(item).map_err(broken)).collect()
    }

    /// The key for hidden values in records: the newest one, or a new one if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed, or the kernel gives no random bytes.
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
                // Now the key exists, whoever created it: it is read.
                Ok(()) | Err(LedgerError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The records of one change, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn records_of(&self, service: &ServiceKey, change_id: &ChangeId) -> Result<Vec<RawRecord>, LedgerError> {
        Ok(self.items_of(service, change_id).await?.iter().map(json).collect())
    }

    /// What the records of one change say of it, strongly consistent; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or a record does not match its hash.
    pub async fn past(&self, service: &ServiceKey, change_id: &ChangeId) -> Result<Option<PastChange>, LedgerError> {
        let records = self.items_of(service, change_id).await?.iter().map(intact).collect::<Result<Vec<_>, _>>()?;
        Ok(PastChange::read(&records))
    }

    /// The changes of a service after one of them, the newest first. Of a ledger that has more than some hundred records after it, only the
    /// newest changes.
    ///
    /// # Errors
    ///
    /// The same errors as [`LedgerStore::past`].
    pub async fn later_than(&self, service: &ServiceKey, change_id: &ChangeId) -> Result<Vec<PastChange>, LedgerError> {
        let (mut later, mut records) = (Vec::new(), 0);
        let look = |change: &[RawRecord]| {
            records += change.len();
            let past = PastChange::read(change).filter(|past| past.change_id > *change_id);
            let is_over = past.is_none() || records >= MAX_LATER;
            later.extend(past);
            is_over.then_some(())
        };
        self.newest_changes(service, look).await?;
        Ok(later)
    }

    /// The items of the records of one change.
    async fn items_of(&self, service: &ServiceKey, change_id: &ChangeId) -> Result<Vec<Item>, LedgerError> {
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
            // Pointer items exist in addition to the chain.
            records.extend(answer.items.unwrap_or_default().into_iter().filter(|item| item.contains_key("seq")));
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(records);
            }
        }
    }

    /// The newest records of a service, about this number, strongly consistent: pointer items, which exist in addition to the chain, are
    /// counted, too.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn newest_records(&self, service: &ServiceKey, about: i32) -> Result<Vec<RawRecord>, LedgerError> {
        let answer = self.newest_first(service, about).send().await.map_err(|error| call_error(QUERY, &error))?;
        Ok(answer.items.unwrap_or_default().iter().filter(|item| item.contains_key("seq")).map(json).collect())
    }

    /// Requests a page of a service's records, beginning with the newest.
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

    /// The items of one part of the index that are due by this time.
    fn to_check(&self, shard: &str, due: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.state)
            .index_name(BY_CHECK)
            .key_condition_expression("check_shard = :shard AND check_at <= :due")
            .expression_attribute_values(":shard", AttributeValue::S(shard.to_owned()))
            .expression_attribute_values(":due", AttributeValue::S(due.to_owned()))
    }

    /// The open deployments of one part of their index, with those that have to be asked about first: of one service, or all that are due
    /// by the given time. The index lags a little behind.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or an item is not what this project writes.
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

    /// Reads items of the state table by their ids.
    async fn items(&self, ids: impl Iterator<Item = String>) -> Result<Measured<HashMap<String, Item>>, LedgerError> {
        let keys = ids.map(|id| Item::from([("id".to_owned(), AttributeValue::S(id))])).collect();
        let mut wanted = KeysAndAttributes::builder().consistent_read(true).set_keys(Some(keys)).build().ok();
        let mut items = HashMap::new();
        let mut clock = Reading::Unknown;
        // DynamoDB may answer only a part of the request, and name the rest.
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
            // If no item was found, the list is empty; if there is no list at all, nothing was answered.
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
    /// Returns an error if the call failed, or the item is not a record of this project.
    pub async fn record(&self, service: &ServiceKey, key: &RecordKey) -> Result<Option<Record>, LedgerError> {
        let json = self.record_json(service, key).await?;
        let record = json.map(serde_json::from_value).transpose();
        record.map_err(|error| LedgerError::broken(format_args!("record {key} of {service} ({error})")))
    }

    /// Reads one record of any version as the JSON that its hash covers, strongly consistent.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or the record does not match its hash.
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

    /// The change that `previous` refers to, for a service that is `now`: reads the service's records from the newest on until it is known.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed, or a record does not match its hash.
    pub async fn previous(&self, service: &ServiceKey, now: &Snapshot) -> Result<Option<Previous>, LedgerError> {
        let mut search = previous::Search::new(now);
        Ok(self.newest_changes(service, |records| search.look(records)).await?.or_else(|| search.end()))
    }

    /// Whether a push of this image under this tag, which `by` reports, would undo what somebody wanted.
    ///
    /// # Errors
    ///
    /// The same errors as [`LedgerStore::previous`].
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
            // Pointer items exist in addition to the chain, without a hash.
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

    /// Does all writes, or none.
    ///
    /// # Errors
    ///
    /// A conflict if something is no longer as it was read; after any other error, the writes may have been done.
    pub async fn write(&self, writes: &[Write]) -> Result<(), LedgerError> {
        const OPERATION: &str = "dynamodb:ExecuteTransaction";
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            let (text, parameters) = self.statement(write);
            let statement = ParameterizedStatement::builder().statement(text).set_parameters(Some(parameters)).build();
            statements.push(statement.map_err(|error| LedgerError::Encoding(error.to_string()))?);
        }
        // Only one attempt: the result of a retry, which may be refused, would not tell whether the first attempt acted. A caller that
        // retries reads first.
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let call = self.client.execute_transaction().set_transact_statements(Some(statements));
        let sent = call.customize().config_override(once).send().await;
        let Err(error) = sent else { return Ok(()) };
        if let Some(ExecuteTransactionError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            let reasons = cancelled.cancellation_reasons();
            let failed: Vec<String> = reasons.iter().filter_map(reason).collect();
            let conflict = reasons.iter().any(|reason| reason.code().is_some_and(is_conflict));
            // A local DynamoDB names its reasons only in the message.
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
        // The same transaction was sent before: it may still succeed.
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
                // Every attempt that takes the lease changes `seq`, too; only a lengthening does not.
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
                // An index key either exists or not: it cannot be empty.
                let gone: &[&str] = if check.is_empty() { &["check_shard", "check_at"] } else { &[] };
                let set = [deployment_attributes(to), check].concat();
                let (mut text, values) = update_and_remove(&self.state, &to.id, set, gone, unless_moved);
                if from.pauses.is_empty() {
                    let _ = write!(text, " AND \"{PAUSES}\" IS MISSING");
                }
                (text, values)
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

/// The attributes of a lease that show that it still is the one that was read.
const LEASE_CONDITION: [&str; 2] = ["lease_change", "lease_until"];

/// The attributes of a deployment that show that nobody else noted something about it.
const DEPLOYMENT_CONDITION: [&str; 4] = ["change_id", "outcomes", "undoes", PAUSES];

/// The attributes of a caller's count that show that no other event was counted.
const RATE_CONDITION: [&str; 2] = ["minute", "count"];

/// The attributes of a budget that show that nobody else has used it.
const BUDGET_CONDITION: [&str; 2] = ["recorded", "beyond"];

/// AWS's documentation writes these codes without `Exception`, and local implementations with it: both are accepted.
fn is_conflict(code: &str) -> bool {
    ["ConditionalCheckFailed", "DuplicateItem", "TransactionConflict"].iter().any(|known| code.contains(known))
}

/// A cancellation that says nothing about the items: there was not enough capacity.
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
    fn conflicts_are_known_with_and_without_exception() {
        for code in ["ConditionalCheckFailed", "ConditionalCheckFailedException", "DuplicateItemException"] {
            assert!(is_conflict(code));
        }
        assert!(!is_conflict("ThrottlingError"));
    }
}
