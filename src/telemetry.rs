//! Log lines and metrics, on standard output in the formats that Lambda expects.

use chrono::{DateTime, Utc};
use domain::error::{Code, Failure, Fault};
use domain::ledger::kind::Kind;
use serde_json::{Value, json};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging in JSON lines, also for panics. `level` is the level of our own lines, such as `info` or `debug`. The SDK's lines stay at
/// warnings, because at `trace` they contain whole requests with session tokens and environment values. The runtime's own report of a
/// failure is omitted, because we log each failure once.
pub fn start(level: Option<&str>) {
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("ecs_updater", own_level(level))
        .with_target("lambda_runtime", LevelFilter::OFF)
        .with_target("aws_smithy_http_client", LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(std::io::stdout);
    // If logging was already started, the first configuration stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panicked: {message}");
    }));
}

/// The level that is asked for, if it is a valid one.
fn own_level(level: Option<&str>) -> LevelFilter {
    let is_level = |level: &&str| ["trace", "debug", "info", "warn", "error"].contains(&level.to_lowercase().as_str());
    level.filter(is_level).and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO)
}

/// What came to an end, and how: a change, a deployment, a sweep or a report; each variant has its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasuredEnd {
    /// AWS accepted the change.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// The change failed with this code, through the fault of this party.
    Failed(Code, Fault),
    /// The deployment of the change ended with this kind of record, or it is a deployment that no change started.
    Deployment(Kind),
    /// A deployment that no change started. It is only counted, because its account has used the budget of the day.
    NotRecorded,
    /// ECS could not be asked about a deployment that has been open for long.
    NotAsked,
    /// A sweep was completed. An alarm reports it if there are no completed sweeps any more.
    Swept,
}

/// Where lines of metrics are written. It is passed in, because only a separate process has a standard output of its own.
pub type Metrics = fn(&Value);

/// Writes a line of metrics to standard output, where Lambda reads it.
pub fn print(line: &Value) {
    println!("{line}");
}

/// One line in CloudWatch's embedded metric format: a count of one.
/// Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
#[must_use]
pub fn metric_line(namespace: &str, ended: MeasuredEnd, at: DateTime<Utc>) -> Value {
    match ended {
        MeasuredEnd::Applied => count(namespace, "Applied", &json!([[]]), at),
        MeasuredEnd::Unchanged => count(namespace, "Unchanged", &json!([[]]), at),
        MeasuredEnd::Deployment(kind) => count(namespace, deployment_metric(kind), &json!([[]]), at),
        MeasuredEnd::NotRecorded => count(namespace, "DeploymentsNotRecorded", &json!([[]]), at),
        MeasuredEnd::NotAsked => count(namespace, "DeploymentsNotAsked", &json!([[]]), at),
        MeasuredEnd::Swept => count(namespace, "SweepsDone", &json!([[]]), at),
        // One set of dimensions: each additional set is one more metric that costs money, and sums need none.
        MeasuredEnd::Failed(code, fault) => {
            let mut line = count(namespace, "Failed", &json!([["code", "fault"]]), at);
            line["code"] = code.as_str().into();
            line["fault"] = fault.as_str().into();
            line
        }
    }
}

/// A query to the history function that was answered with this failure. It is counted by the party at fault; the code is there for readers.
#[must_use]
pub fn question_failed_line(namespace: &str, failure: &Failure, at: DateTime<Utc>) -> Value {
    let mut line = count(namespace, "QuestionFailed", &json!([["fault"]]), at);
    line["code"] = failure.code.as_str().into();
    line["fault"] = failure.fault.as_str().into();
    line
}

fn count(namespace: &str, name: &str, dimensions: &Value, at: DateTime<Utc>) -> Value {
    json!({
        "_aws": {
            "Timestamp": at.timestamp_millis(),
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": dimensions,
                "Metrics": [{"Name": name, "Unit": "Count"}],
            }],
        },
        name: 1,
    })
}

fn deployment_metric(kind: Kind) -> &'static str {
    match kind {
        Kind::Completed => "DeploymentsCompleted",
        Kind::RolledBack => "DeploymentsRolledBack",
        Kind::RollbackFailed => "RollbacksFailed",
        Kind::Stopped => "DeploymentsStopped",
        Kind::Superseded => "DeploymentsSuperseded",
        Kind::External => "DeploymentsExternal",
        Kind::AwaitingAction => "DeploymentsAwaitingAction",
        // The others are not ends of deployments, and are not counted as such.
        Kind::DeploymentFailed
        | Kind::PauseEnded
        | Kind::Started
        | Kind::Applied
        | Kind::Unchanged
        | Kind::Failed
        | Kind::Abandoned => "DeploymentsFailed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_once_by_code_and_fault() {
        let ended = MeasuredEnd::Failed(Code::TagUpdateFailed, Fault::Operator);
        let line = metric_line("EcsUpdater", ended, DateTime::UNIX_EPOCH);
        assert_eq!(line["Failed"], 1);
        assert_eq!(line["code"], "TagUpdateFailed");
        assert_eq!(line["fault"], "operator");
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["code", "fault"]]));
        let line = metric_line("EcsUpdater", MeasuredEnd::Applied, DateTime::UNIX_EPOCH);
        assert_eq!(line["Applied"], 1);
        assert_eq!(line.get("code"), None);
    }

    #[test]
    fn a_question_that_failed_is_counted_once_by_fault() {
        let failure = Failure::new(Code::HistoryUnavailable, "no");
        let line = question_failed_line("EcsUpdater", &failure, DateTime::UNIX_EPOCH);
        assert_eq!(line["QuestionFailed"], 1);
        assert_eq!((&line["code"], &line["fault"]), (&json!("HistoryUnavailable"), &json!("operator")));
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["fault"]]));
    }

    #[test]
    fn a_sweep_is_counted_without_dimensions() {
        let line = metric_line("EcsUpdater", MeasuredEnd::Swept, DateTime::UNIX_EPOCH);
        assert_eq!(line["SweepsDone"], 1);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
    }
}
