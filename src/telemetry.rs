//! Log lines and metrics, on standard output as Lambda wants them.

use chrono::{DateTime, Utc};
use domain::error::{Code, Failure, Fault};
use domain::ledger::kind::Kind;
use serde_json::{Value, json};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// JSON lines from now on, for panics too. `level` is that of our own lines, such as `info` or `debug`: the SDK's lines
/// stay at warnings, since at `trace` they hold whole requests with session tokens and environment values. The
/// runtime's own report of a failure stays out, since each failure is logged once, by us.
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
    // Already started: the first one stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panicked: {message}");
    }));
}

/// The level that is asked for, where it is one.
fn own_level(level: Option<&str>) -> LevelFilter {
    let is_level = |level: &&str| ["trace", "debug", "info", "warn", "error"].contains(&level.to_lowercase().as_str());
    level.filter(is_level).and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO)
}

/// How a change ended, as its metric is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasuredEnd {
    /// AWS took it.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// It failed with this code, and that is whose fault it is.
    Failed(Code, Fault),
    /// Its deployment ended so, or no change started it.
    Deployment(Kind),
    /// No change started it, and it is counted only: its account has used the day's budget.
    NotRecorded,
    /// A deployment that is open for long could not be asked about.
    NotAsked,
    /// A sweep came to its end: where none does any more, an alarm hears that it is silent.
    Swept,
}

/// Where lines of metrics go. It comes from outside: only a process of its own has a standard output of its own.
pub type Metrics = fn(&Value);

/// Writes a line of metrics to standard output, where Lambda takes it up.
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
        // One set of dimensions: each further one is another metric that is paid for, and sums need none.
        MeasuredEnd::Failed(code, fault) => {
            let mut line = count(namespace, "Failed", &json!([["code", "fault"]]), at);
            line["code"] = code.as_str().into();
            line["fault"] = fault.as_str().into();
            line
        }
    }
}

/// A question to the history that was answered with this failure. Counted by whose fault it is; the code is for readers.
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
        // The others are no ends of deployments: nobody counts them so.
        Kind::DeploymentFailed | Kind::Started | Kind::Applied | Kind::Unchanged | Kind::Failed | Kind::Abandoned => {
            "DeploymentsFailed"
        }
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
