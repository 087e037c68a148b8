//! The entry point of the history function: one invocation, from the event text to the answer. Each failure is logged here, once.

use chrono::{DateTime, Utc};
use domain::call_error::CallError;
use domain::config::{self, Tables};
use domain::error::{Code, Failure};
use domain::ids::ServiceKey;
use domain::ledger::query::{self, HistoryRequest, Page, Query, Scope};
use domain::ledger::verify::chain::Verification;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};

use crate::aws::history_reader::{Cost, HistoryReader};
use crate::runtime::{self, DOOR_WAITS, EventText};
use crate::{aws, telemetry};

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryResponse {
    /// Always 200: a failure is returned as a function error.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// What was asked for.
    pub body: HistoryBody,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HistoryBody {
    /// Changes.
    Page(Page),
    /// Whether a ledger still is as it was written.
    Verification(Verification),
}

/// Reads the settings, and answers invocations until Lambda ends the process.
///
/// # Errors
///
/// Returns a sentence if a setting is missing or wrong, or the runtime API cannot be reached.
pub async fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    telemetry::start(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let tables = Tables::from_variables(variable)?;
    let shared = aws::config(variable);
    aws::own_region(&shared)?;
    let reader = &HistoryReader::new(&shared, tables);
    let namespace = config::metrics_namespace(variable);
    let namespace = namespace.as_str();
    query::FORMAT.prepare();
    runtime::serve(service_fn(async |event: LambdaEvent<EventText>| {
        let request_id = event.context.request_id.as_str();
        let answer = answer(reader, event.payload.bytes(), request_id, Utc::now()).await;
        answer.map_err(|failure| {
            telemetry::print(&telemetry::question_failed_line(namespace, &failure, Utc::now()));
            runtime::diagnostic(failure)
        })
    }))
    .await
}

/// Answers one event that was received at `now`.
///
/// # Errors
///
/// [`Code::JsonValidation`] if the event is not a query, [`Code::HistoryUnavailable`] if a table could not be read.
pub async fn answer(
    reader: &HistoryReader,
    event: &[u8],
    request_id: &str,
    now: DateTime<Utc>,
) -> Result<HistoryResponse, Failure> {
    let answered = match query::parse(event, now) {
        Err(failure) => Err((String::new(), failure)),
        Ok(HistoryRequest::Changes(query)) => {
            let page = in_time(Box::pin(reader.page(&query, now))).await;
            page.map(|(page, cost)| (asked(&query), HistoryBody::Page(page), cost))
                .map_err(|failure| (asked(&query), failure))
        }
        Ok(HistoryRequest::Key(service, key)) => {
            let asked = format!("key of {service}");
            match in_time(Box::pin(reader.of_key(&service, &key, now))).await {
                Ok((page, cost)) => Ok((asked, HistoryBody::Page(page), cost)),
                Err(failure) => Err((asked, failure)),
            }
        }
        Ok(HistoryRequest::Verify(service)) => {
            let asked = format!("verify {service}");
            match Box::pin(verified(reader, &service)).await {
                Ok((verification, cost)) => Ok((asked, HistoryBody::Verification(verification), cost)),
                Err(failure) => Err((asked, failure)),
            }
        }
    };
    match answered {
        Ok((asked, body, cost)) => {
            log(&asked, &body, cost, request_id);
            Ok(HistoryResponse { status_code: 200, body })
        }
        Err((asked, failure)) => {
            let Failure { code, message, retryable, .. } = &failure;
            tracing::error!(request_id, asked, code = code.as_str(), retryable, "{message}");
            Err(failure)
        }
    }
}

async fn verified(reader: &HistoryReader, service: &ServiceKey) -> Result<(Verification, Cost), Failure> {
    let (verification, cost) = reader.verify(service).await.map_err(|error| unavailable(&error))?;
    let verification = verification.ok_or_else(|| {
        let why = format!("the ledger of service {service} was written again and again while it was read. Ask again.");
        Failure::new(Code::HistoryUnavailable, why).retryable(true)
    })?;
    Ok((verification, cost))
}

/// The result of `read`, within the time that the API waits for it.
async fn in_time<T>(read: impl Future<Output = Result<T, CallError>>) -> Result<T, Failure> {
    if let Ok(read) = tokio::time::timeout(DOOR_WAITS, read).await {
        return read.map_err(|error| unavailable(&error));
    }
    let why = format!("the history could not be read within {} seconds", DOOR_WAITS.as_secs());
    Err(Failure::new(Code::HistoryUnavailable, why).retryable(true))
}

fn unavailable(error: &CallError) -> Failure {
    let retryable = error.retryable();
    Failure::new(Code::HistoryUnavailable, format!("the history could not be read: {error}")).retryable(retryable)
}

/// What a query asks for, as text for the log.
fn asked(query: &Query) -> String {
    match &query.scope {
        Scope::Service(service) => format!("service {service}"),
        Scope::Account(account) => format!("account {account}"),
        Scope::Image(image) => format!("image {image}"),
        Scope::Change(id) => format!("change {id}"),
        Scope::Organization => "organization".to_owned(),
    }
}

fn log(asked: &str, body: &HistoryBody, Cost { calls, items }: Cost, request_id: &str) {
    match body {
        HistoryBody::Page(page) => {
            let (changes, more) = (page.changes.len(), page.next_token.is_some());
            tracing::info!(request_id, asked, changes, more, calls, items, "query answered");
        }
        HistoryBody::Verification(Verification { ok, verified, fault }) => match fault {
            None => tracing::info!(request_id, asked, ok, verified, calls, items, "ledger verified"),
            // The ledger is not as it was written: whoever monitors the log has to see it.
            Some(fault) => {
                let (record, what) = (fault.record.as_str(), fault.what.as_str());
                tracing::error!(request_id, asked, ok, verified, calls, items, record, what, "the ledger has a fault");
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_before_the_door_gives_up() {
        let begun = tokio::time::Instant::now();
        let failure = in_time(std::future::pending::<Result<(), CallError>>()).await.unwrap_err();
        assert_eq!(begun.elapsed(), DOOR_WAITS);
        assert!(failure.code == Code::HistoryUnavailable && failure.retryable, "{failure}");
        assert!(failure.message.ends_with("the history could not be read within 27 seconds"), "{failure}");
        assert!(in_time(std::future::ready(Ok(()))).await.is_ok());
    }
}
