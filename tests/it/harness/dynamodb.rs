//! dynoxide, a strict DynamoDB, behind a proxy that enters each call into the journal and can spoil it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use aws_stub::shapes;
use dynoxide::Database;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::http::{Answer, Reply, Request, Server, Upstream, handler};
use super::journal::{Call, Date, Journal, Service, request_id};
use super::{check_own_signature, sigv4};

pub(crate) const HISTORY_TABLE: &str = "ecs-updater-history";
pub(crate) const STATE_TABLE: &str = "ecs-updater-state";

/// The tables themselves, without the proxy: what tests read and prepare.
#[derive(Clone)]
pub(crate) struct Tables {
    database: Database,
}

impl Tables {
    fn new() -> Self {
        let tables = Self { database: Database::memory().expect("a database in memory") };
        let string = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let index = |name: &str, hash: &str| {
            json!({"IndexName": name, "KeySchema": [key(hash, "HASH"), key("record", "RANGE")],
                   "Projection": {"ProjectionType": "ALL"}})
        };
        let keys = ["service", "record", "account_id", "day", "image"].map(string);
        tables.create(&json!({
            "TableName": HISTORY_TABLE,
            "AttributeDefinitions": keys,
            "KeySchema": [key("service", "HASH"), key("record", "RANGE")],
            "GlobalSecondaryIndexes": [index("by-account", "account_id"), index("by-day", "day"), index("by-image", "image")],
            "BillingMode": "PAY_PER_REQUEST",
        }));
        let keys = ["id", "check_shard", "check_at"].map(string);
        tables.create(&json!({
            "TableName": STATE_TABLE,
            "AttributeDefinitions": keys,
            "KeySchema": [key("id", "HASH")],
            "GlobalSecondaryIndexes": [{"IndexName": "by-check", "KeySchema": [key("check_shard", "HASH"), key("check_at", "RANGE")],
                                        "Projection": {"ProjectionType": "ALL"}}],
            "BillingMode": "PAY_PER_REQUEST",
        }));
        tables
    }

    fn create(&self, request: &Value) {
        let request = serde_json::from_value(request.clone()).expect("a CreateTable request");
        self.database.create_table(request).expect("the table is created");
    }

    /// All items of a table, in DynamoDB's JSON.
    pub(crate) fn scan(&self, table: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = json!({"TableName": table, "ConsistentRead": true});
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let request = serde_json::from_value(request).expect("a Scan request");
            let answer = serde_json::to_value(self.database.scan(request).expect("a scan")).expect("JSON");
            items.extend(answer["Items"].as_array().cloned().unwrap_or_default());
            start = answer["LastEvaluatedKey"].clone();
            if start.is_null() {
                return items;
            }
        }
    }

    /// One item, where it is there.
    pub(crate) fn get(&self, table: &str, key: &Value) -> Option<Value> {
        let request = serde_json::from_value(json!({"TableName": table, "Key": key})).expect("a GetItem request");
        let answer = serde_json::to_value(self.database.get_item(request).expect("an item")).expect("JSON");
        answer.get("Item").filter(|item| !item.is_null()).cloned()
    }

    /// All items of the history table under one partition key, in the order of their sort keys.
    pub(crate) fn of_service(&self, service: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = json!({"TableName": HISTORY_TABLE, "KeyConditionExpression": "service = :service",
                "ExpressionAttributeValues": {":service": {"S": service}}, "ConsistentRead": true});
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let request = serde_json::from_value(request).expect("a Query request");
            let answer = serde_json::to_value(self.database.query(request).expect("a query")).expect("JSON");
            items.extend(answer["Items"].as_array().cloned().unwrap_or_default());
            start = answer["LastEvaluatedKey"].clone();
            if start.is_null() {
                return items;
            }
        }
    }

    /// Service key of every head that is leased, with the change and attempt that hold it.
    pub(crate) fn leased(&self) -> Vec<(String, (String, String))> {
        let mut leased = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = json!({"TableName": STATE_TABLE, "FilterExpression": "lease_change > :nobody",
                "ExpressionAttributeValues": {":nobody": {"S": ""}}, "ProjectionExpression": "id, lease_change, lease_attempt"});
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let request = serde_json::from_value(request).expect("a Scan request");
            let answer = serde_json::to_value(self.database.scan(request).expect("a scan")).expect("JSON");
            let heads = answer["Items"].as_array().cloned().unwrap_or_default();
            leased.extend(heads.iter().filter_map(|head| {
                let service = head["id"]["S"].as_str()?.strip_prefix("service#")?;
                Some((service.to_owned(), super::ledger::attempt_of(&super::ledger::plain(head))?))
            }));
            start = answer["LastEvaluatedKey"].clone();
            if start.is_null() {
                return leased;
            }
        }
    }

    /// Overwrites one item, which no role of the product may do.
    pub(crate) fn put(&self, table: &str, item: &Value) {
        let request = serde_json::from_value(json!({"TableName": table, "Item": item})).expect("a PutItem request");
        self.database.put_item(request).expect("the item is put");
    }

    /// Deletes one item, which no role of the product may do.
    pub(crate) fn delete(&self, table: &str, key: &Value) {
        let request = serde_json::from_value(json!({"TableName": table, "Key": key})).expect("a DeleteItem request");
        self.database.delete_item(request).expect("the item is deleted");
    }
}

pub(crate) struct DynamoDb {
    pub server: Server,
    pub tables: Tables,
    /// Dropped, it ends the engine.
    _engine: oneshot::Sender<()>,
}

impl DynamoDb {
    pub(crate) async fn start(journal: Journal) -> Self {
        let tables = Tables::new();
        let (engine, address) = run(tables.database.clone());
        let upstream = Arc::new(Upstream::new(address));
        let server = Server::start(handler(move |request| {
            let (journal, upstream) = (journal.clone(), upstream.clone());
            async move { proxy(&journal, &upstream, request).await }
        }))
        .await;
        Self { server, tables, _engine: engine }
    }
}

/// Runs the engine on a thread of its own, where it keeps nobody else waiting: each call of it blocks.
fn run(database: Database) -> (oneshot::Sender<()>, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.set_nonblocking(true).expect("a socket that does not block");
    let address = listener.local_addr().expect("the port's number");
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is of use");
            tokio::select! {
                () = dynoxide::server::serve_on(listener, database) => {}
                _ = ended => {}
            }
        });
    });
    (end, address)
}

fn set_date(answer: &mut Answer, date: Date) {
    let ahead = match date {
        Date::Right => return,
        Date::Ahead(seconds) => Some(chrono::Duration::seconds(seconds)),
        Date::Missing => None,
    };
    answer.headers.retain(|(name, _)| name != "date");
    let date = ahead.map(|ahead| (chrono::Utc::now() + ahead).format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    answer.headers.extend(date.map(|date| ("date".into(), date)));
}

async fn proxy(journal: &Journal, engine: &Upstream, request: Request) -> Reply {
    check_own_signature(journal, &request);
    let (_, region) = sigv4::signer(&request).unwrap_or_default();
    let id = request_id();
    let action = request.header("x-amz-target").and_then(|t| t.rsplit('.').next()).unwrap_or_default().to_owned();
    journal.check_request(|| shapes::faults_of_body("dynamodb", &action, &request.body));
    if !["BatchGetItem", "GetItem", "Query", "ExecuteTransaction"].contains(&action.as_str()) {
        journal.violation(format!("the updater's role may not call dynamodb {action}"));
    }
    let call = Call {
        at: Instant::now(),
        answered: None,
        service: Service::DynamoDb,
        action,
        account: "hub".into(),
        region,
        session: String::new(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
        request_id: id.clone(),
    };
    journal
        .serve(
            call,
            || async {
                let mut answer =
                    engine.forward(&request).await.unwrap_or_else(|e| Answer::new(599, "text/plain", e.to_string()));
                answer.headers.retain(|(name, _)| name != "x-amzn-requestid");
                set_date(&mut answer, journal.date());
                answer.header("x-amzn-requestid", id.clone())
            },
            |status, code, message| {
                let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message});
                Answer::new(status, "application/x-amz-json-1.0", body.to_string())
                    .header("x-amzn-requestid", id.clone())
            },
        )
        .await
}
