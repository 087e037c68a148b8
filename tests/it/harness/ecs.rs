//! Amazon ECS on loopback: the model of `aws-stub` behind HTTP, with signatures and the journal.

use std::time::Instant;

pub(crate) use aws_stub::ecs::{Cloud, RESPONSE_MEMBERS, tag_list};
use aws_stub::shapes;
use serde_json::{Value, json};

use super::dynamodb::Tables;
use super::http::{Answer, Reply, Request, Server, handler};
use super::journal::{Call, Journal, Service, request_id};
use super::ledger;
use super::sts::Sessions;
use super::{SESSION_SECRET, SESSION_TOKEN, sigv4, wall_clock};

pub(crate) struct Ecs {
    pub server: Server,
    pub cloud: Cloud,
}

impl Ecs {
    pub(crate) async fn start(journal: Journal, sessions: Sessions, tables: Tables) -> Self {
        let cloud = Cloud::new(wall_clock());
        let shared = cloud.clone();
        let server = Server::start(handler(move |request| {
            let (journal, sessions, cloud, tables) =
                (journal.clone(), sessions.clone(), shared.clone(), tables.clone());
            async move { answer(&journal, &sessions, &cloud, &tables, request).await }
        }))
        .await;
        Self { server, cloud }
    }
}

async fn answer(journal: &Journal, sessions: &Sessions, cloud: &Cloud, tables: &Tables, request: Request) -> Reply {
    let (key, region) = sigv4::signer(&request).unwrap_or_default();
    let session = sessions.of(&key);
    if session.is_some() && !journal.trusts() {
        let fault = sigv4::fault(&request, SESSION_SECRET).or_else(|| {
            let token = request.header("x-amz-security-token");
            (token != Some(SESSION_TOKEN)).then(|| "the session token is missing".into())
        });
        if let Some(fault) = fault {
            journal.violation(format!("ECS: {fault}"));
        }
    }
    let id = request_id();
    let target = request.header("x-amz-target").unwrap_or_default();
    let action = target.strip_prefix("AmazonEC2ContainerServiceV20141113.").unwrap_or("").to_owned();
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let call = Call {
        at: Instant::now(),
        answered: None,
        service: Service::Ecs,
        action: action.clone(),
        account: session.as_ref().map_or_else(|| format!("unknown key {key}"), |s| s.account.clone()),
        region: region.clone(),
        session: session.as_ref().map(|s| s.name.clone()).unwrap_or_default(),
        body: body.clone(),
        request_id: id.clone(),
    };
    journal.check_request(|| shapes::faults_of_body("ecs", &action, &request.body));
    if call.mutates_ecs() && !journal.trusts() {
        check_started_first(journal, tables, &call);
    }
    let refuse = |status: u16, code: &str, message: &str| {
        let body = json!({"__type": code, "message": message}).to_string();
        Answer::new(status, "application/x-amz-json-1.1", body).header("x-amzn-requestid", id.clone())
    };
    journal
        .serve(
            call,
            || async {
                match cloud.act(session.as_deref(), &region, &action, &body) {
                    Ok(text) => {
                        Answer::new(200, "application/x-amz-json-1.1", text).header("x-amzn-requestid", id.clone())
                    }
                    Err((code, message)) => refuse(400, code, &message),
                }
            },
            refuse,
        )
        .await
}

/// Nothing is changed in a target account before STARTED is in the table: looked up at the moment a mutating call
/// arrives, in every test. A call about a service needs that service's lease; a registration that of one in its account.
fn check_started_first(journal: &Journal, tables: &Tables, call: &Call) {
    let place = format!("{}/{}/", call.account, call.region);
    let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let service = match (input["service"].as_str(), input["resourceArn"].as_str()) {
        (Some(service), _) => Some(format!("{place}{}/{service}", input["cluster"].as_str().unwrap_or_default())),
        (_, Some(arn)) => arn.split_once(":service/").map(|(_, service)| format!("{place}{service}")),
        _ => None,
    };
    let mut open = match service {
        Some(service) => {
            let head = ledger::head(tables, &service);
            Vec::from_iter(head.and_then(|head| Some((service, ledger::attempt_of(&head)?))))
        }
        None => tables.leased(),
    };
    open.retain(|(service, _)| service.starts_with(&place));
    let is_open = |(service, (change, attempt)): (String, (String, String))| {
        let record = |n: u8| {
            let key = json!({"service": {"S": service}, "record": {"S": format!("{change}#{n}{attempt}")}});
            tables.get(super::dynamodb::HISTORY_TABLE, &key)
        };
        record(0).is_some() && record(1).is_none()
    };
    if !open.into_iter().any(is_open) {
        journal.violation(format!(
            "{} was sent while no STARTED record was open with its lease: {}",
            call.action, call.body
        ));
    }
}
