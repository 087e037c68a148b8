//! What a call is about, in the few words that a trace shows.

use std::fmt::Write as _;

use serde_json::Value;

use crate::network::Call;
use crate::tables::kinds_of;

/// A few words with a space before them; nothing if the action says it all.
#[must_use]
pub fn gist(call: &Call) -> String {
    let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let mut gist = String::new();
    let _ = match call.action.as_str() {
        "ExecuteTransaction" => write!(gist, " {}", kinds_of(&body).join("+")),
        "UpdateService" => {
            let force = if body["forceNewDeployment"] == true { " forced" } else { "" };
            write!(gist, " {} {}{force}", text("service"), text("taskDefinition"))
        }
        "RegisterTaskDefinition" => {
            let image = body["containerDefinitions"][0]["image"].as_str().unwrap_or_default();
            write!(gist, " {}", image.rsplit('/').next().unwrap_or_default())
        }
        "DescribeTaskDefinition" => write!(gist, " {}", text("taskDefinition")),
        "TagResource" | "UntagResource" => write!(gist, " {}", text("resourceArn")),
        "DescribeServices" => {
            let services = body["services"].as_array().into_iter().flatten().filter_map(Value::as_str);
            write!(gist, " {}", services.collect::<Vec<_>>().join(" "))
        }
        _ => Ok(()),
    };
    gist
}
