//! The two tables, and the server through which the reader sees them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_stub::shapes;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use domain::config::Tables;
use domain::ledger::query;
use domain::ledger::query::{HistoryRequest, Page, Query};
use domain::ledger::record::RawRecord;
use dynoxide::{Database, DynoxideError, ImportOptions};
use ecs_updater::aws;
use ecs_updater::aws::history_reader::{Cost, HistoryReader};
use serde_json::{Value, json};

pub(crate) const HISTORY: &str = "history";
pub(crate) const STATE: &str = "state";

/// What happens before a call is answered.
type Meanwhile = Box<dyn FnMut(&Database) + Send>;

#[derive(Default)]
struct Watch {
    calls: u32,
    items: usize,
    /// Answers instead of the table's.
    failures: Vec<(u16, &'static str)>,
    meanwhile: Option<Meanwhile>,
    /// How long each call takes, by its number.
    slow: Option<fn(u32) -> Duration>,
}

pub(crate) struct World {
    pub database: Arc<Database>,
    watch: Arc<Mutex<Watch>>,
    pub endpoint: String,
    pub reader: HistoryReader,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Database::memory().unwrap()).await
    }

    pub(crate) async fn over(database: Database) -> Self {
        let database = Arc::new(database);
        create_tables(&database);
        let watch = Arc::new(Mutex::new(Watch::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state((Arc::clone(&database), Arc::clone(&watch)));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let reader =
            HistoryReader::new(&config(&endpoint), Tables { history: HISTORY.to_owned(), state: STATE.to_owned() });
        Self { database, watch, endpoint, reader }
    }

    pub(crate) fn put(&self, table: &str, items: &[RawRecord]) {
        put(&self.database, table, items);
    }

    /// Before each call from now on.
    pub(crate) fn meanwhile(&self, act: impl FnMut(&Database) + Send + 'static) {
        self.watch.lock().unwrap().meanwhile = Some(Box::new(act));
    }

    /// From now on each call takes so long, by its number.
    pub(crate) fn slow(&self, slow: fn(u32) -> Duration) {
        self.watch.lock().unwrap().slow = Some(slow);
    }

    /// The next calls fail so.
    pub(crate) fn fail(&self, failures: &[(u16, &'static str)]) {
        self.watch.lock().unwrap().failures = failures.to_vec();
    }

    /// One page; what it says it cost has to be what was counted.
    pub(crate) async fn page(&self, query: &Value, now: DateTime<Utc>) -> (Page, Cost) {
        let query = parsed(query, now);
        let before = self.counted();
        let (page, cost) = self.reader.page(&query, now).await.unwrap();
        let after = self.counted();
        assert_eq!(cost, Cost { calls: after.calls - before.calls, items: after.items - before.items });
        assert!(cost.calls <= 64, "{} calls for one page", cost.calls);
        (page, cost)
    }

    /// All pages: each change as its id and status, and the number of pages.
    pub(crate) async fn pages(
        &self,
        query: &Value,
        limit: usize,
        now: DateTime<Utc>,
    ) -> (Vec<(String, String)>, usize) {
        let mut query = query.clone();
        query["limit"] = limit.into();
        let mut found = Vec::new();
        // Pages that never end are a fault too.
        for pages in 1..500 {
            let (page, _) = self.page(&query, now).await;
            assert!(page.changes.len() <= limit);
            found.extend(page.changes.into_iter().map(|change| (change.change_id, change.status)));
            match page.next_token {
                Some(token) => query["next_token"] = token.into(),
                None => return (found, pages),
            }
        }
        panic!("{query}: its pages do not end")
    }

    fn counted(&self) -> Cost {
        let watch = self.watch.lock().unwrap();
        Cost { calls: watch.calls, items: watch.items }
    }
}

pub(crate) fn parsed(query: &Value, now: DateTime<Utc>) -> Query {
    match query::parse(query.to_string().as_bytes(), now) {
        Ok(HistoryRequest::Changes(query)) => *query,
        other => panic!("{query}: {other:?}"),
    }
}

fn config(endpoint: &str) -> SdkConfig {
    let endpoint = endpoint.to_owned();
    let get = move |name: &str| match name {
        "AWS_REGION" => Some("eu-west-1".to_owned()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        _ => None,
    };
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let builder = aws::config(get).into_builder();
    builder.credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

async fn answer(
    State((database, watch)): State<(Arc<Database>, Arc<Mutex<Watch>>)>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let slow = {
        let mut watch = watch.lock().unwrap();
        watch.calls += 1;
        watch.slow.map(|slow| slow(watch.calls))
    };
    tokio::time::sleep(slow.unwrap_or_default()).await;
    let mut watch = watch.lock().unwrap();
    if let Some(act) = &mut watch.meanwhile {
        act(&database);
    }
    if !watch.failures.is_empty() {
        let (status, code) = watch.failures.remove(0);
        return (StatusCode::from_u16(status).unwrap(), json!({"__type": code, "message": "so it goes"}).to_string());
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let action = target.rsplit('.').next().unwrap_or_default();
    assert_eq!(shapes::faults("dynamodb", action, &request), Vec::<String>::new(), "by AWS's own models");
    let answered: Result<Value, DynoxideError> = match target {
        "DynamoDB_20120810.Query" => {
            assert_eq!(request["TableName"], HISTORY, "only the history table is queried");
            database.query(serde_json::from_value(request).unwrap()).map(|answer| serde_json::to_value(answer).unwrap())
        }
        "DynamoDB_20120810.GetItem" => {
            assert_eq!(request["TableName"], STATE, "only heads, and the changes of keys, are got");
            let id = request["Key"]["id"]["S"].as_str().unwrap();
            let asks_for_a_change = id.starts_with("key#") && request["ProjectionExpression"] == "change_id";
            assert!(id.starts_with("service#") || asks_for_a_change, "{request}");
            database
                .get_item(serde_json::from_value(request).unwrap())
                .map(|answer| serde_json::to_value(answer).unwrap())
        }
        other => panic!("the history function may not call {other}"),
    };
    match answered {
        Ok(answer) => {
            let scanned = answer["ScannedCount"].as_u64().unwrap_or(u64::from(answer.get("Item").is_some()));
            watch.items += usize::try_from(scanned).unwrap();
            (StatusCode::OK, answer.to_string())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_json()),
    }
}

fn create_tables(database: &Database) {
    let string = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
    let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
    let index = |name: &str, hash: &str| {
        json!({"IndexName": name, "KeySchema": [key(hash, "HASH"), key("record", "RANGE")],
               "Projection": {"ProjectionType": "ALL"}})
    };
    let keys = ["service", "record", "account_id", "day", "image"].map(string);
    for table in [
        json!({
            "TableName": HISTORY,
            "AttributeDefinitions": keys,
            "KeySchema": [key("service", "HASH"), key("record", "RANGE")],
            "GlobalSecondaryIndexes": [
                index("by-account", "account_id"), index("by-day", "day"), index("by-image", "image"),
            ],
            "BillingMode": "PAY_PER_REQUEST",
        }),
        json!({
            "TableName": STATE,
            "AttributeDefinitions": [string("id")],
            "KeySchema": [key("id", "HASH")],
            "BillingMode": "PAY_PER_REQUEST",
        }),
    ] {
        database.create_table(serde_json::from_value(table).unwrap()).unwrap();
    }
}

/// Puts items in, as no role of the product may.
pub(crate) fn put(database: &Database, table: &str, items: &[RawRecord]) {
    let items = items.iter().map(|item| serde_json::from_value(tagged(item)).unwrap()).collect();
    database.import_items(table, items, ImportOptions { record_streams: false, set_cached_at: false }).unwrap();
}

pub(crate) fn delete(database: &Database, item: &RawRecord) {
    let key = json!({"service": {"S": item["service"]}, "record": {"S": item["record"]}});
    let request = json!({"TableName": HISTORY, "Key": key});
    database.delete_item(serde_json::from_value(request).unwrap()).unwrap();
}

/// An item in DynamoDB's JSON.
pub(crate) fn tagged(item: &RawRecord) -> Value {
    let attributes = item.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| json!({"N": value.to_string()}), |text| json!({"S": text}));
        (name.clone(), value)
    });
    Value::Object(attributes.collect())
}
