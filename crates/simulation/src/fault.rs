//! What can go wrong with one call, and which faults are impossible.

use serde::{Deserialize, Serialize};

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The answer is a 500, and nothing was done.
    Refused,
    /// The answer is a 500, and the call was done.
    DoneAndRefused,
    /// The connection breaks before the request arrives.
    CutBefore,
    /// The connection breaks after the call has been done.
    CutAfter,
    /// The request never arrives, and nothing says so.
    LostBefore,
    /// The answer never arrives, and nothing says so.
    LostAfter,
    /// The answer is that the rate was exceeded.
    Throttled,
    /// The call is done a good while later, mostly after its caller gave up.
    Late,
    /// The call takes ten times as long as it should.
    Slow,
    /// The end of the answer is missing.
    Truncated,
    /// A transaction conflicted with another one on the same item.
    Conflict,
    /// A transaction was cancelled for lack of room.
    CancelledThrottling,
    /// The same, in the words that provisioned tables use.
    CancelledThroughput,
    /// A read of several items leaves some of them out for now.
    Unprocessed,
    /// The role is not allowed to make the call, for a while.
    Denied,
    /// ECS refuses the call for a temporary reason: there are five deployments of the service already.
    Passing,
}

/// What ECS says about [`Fault::Passing`]. The code that comes with it is not documented.
/// Source: <https://github.com/aws/containers-roadmap/issues/2836>
pub const PASSING: &str = "5 active deployments exist, unable to create new deployment";

impl Fault {
    /// All faults.
    pub const ALL: [Self; 16] = [
        Self::Refused,
        Self::DoneAndRefused,
        Self::CutBefore,
        Self::CutAfter,
        Self::LostBefore,
        Self::LostAfter,
        Self::Throttled,
        Self::Late,
        Self::Slow,
        Self::Truncated,
        Self::Conflict,
        Self::CancelledThrottling,
        Self::CancelledThroughput,
        Self::Unprocessed,
        Self::Denied,
        Self::Passing,
    ];

    /// Its name in plans and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::DoneAndRefused => "done_and_refused",
            Self::CutBefore => "cut_before",
            Self::CutAfter => "cut_after",
            Self::LostBefore => "lost_before",
            Self::LostAfter => "lost_after",
            Self::Throttled => "throttled",
            Self::Late => "late",
            Self::Slow => "slow",
            Self::Truncated => "truncated",
            Self::Conflict => "conflict",
            Self::CancelledThrottling => "cancelled_throttling",
            Self::CancelledThroughput => "cancelled_throughput",
            Self::Unprocessed => "unprocessed",
            Self::Denied => "denied",
            Self::Passing => "passing",
        }
    }

    /// Whether the call takes effect.
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(
            self,
            Self::DoneAndRefused | Self::CutAfter | Self::LostAfter | Self::Late | Self::Slow | Self::Truncated
        )
    }

    /// Why this cannot happen to a call; none if it can.
    #[must_use]
    pub fn impossible(self, action: &str) -> Option<&'static str> {
        let is_transaction = action == "ExecuteTransaction";
        match self {
            Self::Conflict | Self::CancelledThrottling | Self::CancelledThroughput if !is_transaction => {
                Some("only transactions are cancelled")
            }
            Self::Unprocessed if action != "BatchGetItem" => Some("only BatchGetItem leaves keys out"),
            Self::Late if is_read(action) => Some("when a read is done makes no difference: it is slow, or lost"),
            Self::Passing if action != "UpdateService" => Some("only UpdateService starts deployments"),
            Self::Throttled if is_transaction => Some("a transaction is cancelled with the reason instead"),
            _ => None,
        }
    }
}

/// Whether a call changes nothing.
#[must_use]
pub fn is_read(action: &str) -> bool {
    ["Describe", "List", "Get", "BatchGet", "Query", "Assume"].iter().any(|start| action.starts_with(start))
}

/// The calls that the product makes.
pub const CALLS: [&str; 14] = [
    "AssumeRole",
    "BatchGetItem",
    "DescribeServiceDeployments",
    "DescribeServiceRevisions",
    "DescribeServices",
    "DescribeTaskDefinition",
    "ExecuteTransaction",
    "GetItem",
    "ListServiceDeployments",
    "Query",
    "RegisterTaskDefinition",
    "TagResource",
    "UntagResource",
    "UpdateService",
];
