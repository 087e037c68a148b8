//! The accounts of organizational units, according to AWS Organizations: only the management account, or a delegated administrator, may
//! ask.
//! Source: <https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccountsForParent.html>.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::text::one_line;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::documents::{DocumentCall, Reader};

/// The longest time for all units together: callers that arrive meanwhile wait, and the start of a function may take ten seconds.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The longest time for one call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many parents are asked about at a time: all callers of the organization share one rate.
const AT_A_TIME: usize = 4;
/// How often a call is tried.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; the next pause is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// An answer; each of the two calls returns its own list, and not the other one. A page may be empty although more pages follow.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountPage {
    #[serde(default)]
    accounts: Vec<Child>,
    #[serde(default)]
    organizational_units: Vec<Child>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    id: String,
}

impl Reader {
    /// The accounts in these roots and units, and in the units below them.
    pub(super) async fn accounts_of(&self, units: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
        let late = || Err(format!("the accounts of its units were not told within {} s", TIMEOUT.as_secs()));
        timeout(TIMEOUT, self.walk(units)).await.unwrap_or_else(|_| late())
    }

    async fn walk(&self, units: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
        let (mut known, mut left) = (units.clone(), units.iter().cloned().collect::<Vec<_>>());
        let (mut accounts, mut asked) = (BTreeSet::new(), FuturesUnordered::new());
        loop {
            while asked.len() < AT_A_TIME
                && let Some(parent) = left.pop()
            {
                asked.push(self.children(parent));
            }
            let Some(found) = asked.next().await else { return Ok(accounts) };
            let (found, below) = found?;
            accounts.extend(found);
            left.extend(below.into_iter().filter(|unit| known.insert(unit.clone())));
        }
    }

    /// The accounts and the units that are directly in `parent`.
    async fn children(&self, parent: String) -> Result<(Vec<String>, Vec<String>), String> {
        let (mut accounts, mut units) = (Vec::new(), Vec::new());
        for target in ["ListAccountsForParent", "ListOrganizationalUnitsForParent"] {
            let mut token = None;
            loop {
                let page = self.page(target, &parent, token.as_deref()).await?;
                accounts.extend(page.accounts.into_iter().map(|child| child.id));
                units.extend(page.organizational_units.into_iter().map(|child| child.id));
                token = page.next_token;
                if token.is_none() {
                    break;
                }
            }
        }
        Ok((accounts, units))
    }

    async fn page(&self, target: &str, parent: &str, token: Option<&str>) -> Result<AccountPage, String> {
        let region = region_of(self.region());
        let target: &'static str = match target {
            "ListAccountsForParent" => "AWSOrganizationsV20161128.ListAccountsForParent",
            _ => "AWSOrganizationsV20161128.ListOrganizationalUnitsForParent",
        };
        let mut body = serde_json::json!({"ParentId": parent});
        if let Some(token) = token {
            body["NextToken"] = token.into();
        }
        let call = DocumentCall {
            service: "organizations",
            method: "POST",
            url: format!("{}/", self.endpoint("Organizations", "organizations", region)),
            region: region.to_owned(),
            headers: vec![("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)],
            body: body.to_string(),
        };
        let mut tries = 1;
        loop {
            let sent = timeout(ATTEMPT_TIMEOUT, self.send(&call)).await;
            let sent =
                sent.unwrap_or_else(|_| Err((format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()), true)));
            let (why, again) = match sent {
                Ok((200, text)) => {
                    let page = serde_json::from_str(&text);
                    return page.map_err(|error| format!("{parent}: its answer cannot be read: {error}"));
                }
                Ok((status, text)) => refusal(status, &text),
                Err(failed) => failed,
            };
            if !again || tries == ATTEMPTS {
                return Err(format!("{parent}: {why}"));
            }
            sleep(PAUSE * tries).await;
            tries += 1;
        }
    }
}

/// The region of the only endpoint that a partition has.
/// Sources: <https://docs.aws.amazon.com/general/latest/gr/ao.html>, and the endpoint rules of `aws-sdk-organizations`.
fn region_of(own: &str) -> &str {
    match own.split('-').next() {
        Some("cn") => "cn-northwest-1",
        Some("eusc") => "eusc-de-east-1",
        _ if own.starts_with("us-gov-") => "us-gov-west-1",
        _ if own.starts_with("us-iso-") => "us-iso-east-1",
        _ if own.starts_with("us-isob-") => "us-isob-east-1",
        _ if own.starts_with("us-isof-") => "us-isof-south-1",
        _ if own.starts_with("eu-isoe-") => "eu-isoe-west-1",
        _ => "us-east-1",
    }
}

/// Why the call was refused, what to do, and whether the call may be sent again.
fn refusal(status: u16, text: &str) -> (String, bool) {
    let answer: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let member = |name: &str| answer.get(name).and_then(serde_json::Value::as_str);
    let code = member("__type").map_or("no code", |code| code.rsplit('#').next().unwrap_or(code));
    let told = format!("{code}: {}", member("message").or_else(|| member("Message")).unwrap_or("no message"));
    let told: String = one_line(&told).chars().take(500).collect();
    let what_to_do = match code {
        "AccessDeniedException" => {
            " (the functions' account has to be the organization's management account or a delegated administrator, and ResolveUnits YES)"
        }
        "ParentNotFoundException" => " (the organization has no such unit)",
        _ => "",
    };
    // Source: <https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccountsForParent.html>, "Errors".
    let again = status >= 500 || ["TooManyRequestsException", "ThrottlingException"].contains(&code);
    (format!("AWS Organizations refused: {status} {told}{what_to_do}"), again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_one_endpoint() {
        for (own, its) in [
            ("eu-west-1", "us-east-1"),
            ("cn-north-1", "cn-northwest-1"),
            ("us-gov-east-1", "us-gov-west-1"),
            ("us-isob-west-1", "us-isob-east-1"),
        ] {
            assert_eq!(region_of(own), its);
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_a_throttled_call_is_sent_again() {
        let (why, again) = refusal(400, r#"{"__type": "AccessDeniedException", "Message": "You\ndon't"}"#);
        assert!(why.contains("400 AccessDeniedException: You") && why.contains("delegated administrator"), "{why}");
        assert!(!again && refusal(400, r#"{"__type": "x#TooManyRequestsException"}"#).1 && refusal(503, "").1);
    }
}
