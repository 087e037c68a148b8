//! Log lines and metrics, on standard output as Lambda wants them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// JSON lines from now on, for panics too. `level` is that of our own lines, such as `info` or `debug`: the SDK's lines
/// stay at warnings, since at `trace` they hold whole requests with session tokens and environment values. The
/// runtime's own report of a failure stays out, since each failure is logged once, by us.
pub fn start(level: Option<&str>) {
    let filter = EnvFilter::builder()
        .parse_lossy(format!("warn,ecs_updater={},lambda_runtime=off,aws_smithy_http_client=error", own_level(level)));
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
fn own_level(level: Option<&str>) -> &str {
    let is_level = |level: &&str| ["trace", "debug", "info", "warn", "error"].contains(&level.to_lowercase().as_str());
    level.filter(is_level).unwrap_or("info")
}

/// How a change ended, as its metric is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// AWS took it.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// It failed with this code.
    Failed(crate::error::Code),
}

/// One line in CloudWatch's embedded metric format: a count of one.
/// Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
#[must_use]
pub fn metric_line(namespace: &str, ended: Ended, at: DateTime<Utc>) -> Value {
    let (name, code) = match ended {
        Ended::Applied => ("Applied", None),
        Ended::Unchanged => ("Unchanged", None),
        Ended::Failed(code) => ("Failed", Some(code)),
    };
    let dimensions = if code.is_some() { json!([["code"], []]) } else { json!([[]]) };
    let mut line = json!({
        "_aws": {
            "Timestamp": at.timestamp_millis(),
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": dimensions,
                "Metrics": [{"Name": name, "Unit": "Count"}],
            }],
        },
        name: 1,
    });
    if let Some(code) = code {
        line["code"] = code.as_str().into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_failure_is_counted_in_all_and_by_code() {
        let line = metric_line("EcsUpdater", Ended::Failed(Code::TagUpdateFailed), DateTime::UNIX_EPOCH);
        assert_eq!(line["Failed"], 1);
        assert_eq!(line["code"], "TagUpdateFailed");
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["code"], []]));
        let line = metric_line("EcsUpdater", Ended::Applied, DateTime::UNIX_EPOCH);
        assert_eq!(line["Applied"], 1);
        assert_eq!(line.get("code"), None);
    }
}
