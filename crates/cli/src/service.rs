//! How people name a service: in the form of the history, shorter, or as the ARN that the console shows.

use std::fmt;
use std::str::FromStr;

use domain::event::update_event::UpdateEvent;
use domain::ids::{AccountId, EcsName, Region};

/// A service as it was named. For what was left out, the function uses its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// The account that it is in.
    pub account_id: Option<AccountId>,
    /// The region that it is in.
    pub region: Option<Region>,
    /// Its cluster.
    pub cluster: EcsName,
    /// Its name.
    pub name: EcsName,
}

impl Service {
    /// The event, with this service as its target.
    pub(crate) fn event(&self, change: UpdateEvent) -> UpdateEvent {
        UpdateEvent {
            account_id: self.account_id.as_ref().map(AccountId::to_string),
            region: self.region.as_ref().map(Region::to_string),
            ecs_cluster_name: Some(self.cluster.to_string()),
            ecs_service_name: Some(self.name.to_string()),
            ..change
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (account_id, region) =
            (self.account_id.as_ref().map(AccountId::as_str), self.region.as_ref().map(Region::as_str));
        for part in account_id.into_iter().chain(region) {
            write!(f, "{part}/")?;
        }
        write!(f, "{}/{}", self.cluster, self.name)
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected [ACCOUNT/][REGION/]CLUSTER/SERVICE, such as 222222222222/eu-west-1/prod/web, or the service's ARN";
        let (account_id, region, cluster, name) = if text.starts_with("arn:") {
            arn(text).ok_or("it is not the ARN of a service (arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/SERVICE)")?
        } else {
            match text.split('/').collect::<Vec<_>>()[..] {
                [cluster, name] => (None, None, cluster, name),
                [account_id, cluster, name] if AccountId::parse(account_id).is_ok() => {
                    (Some(account_id), None, cluster, name)
                }
                [region, cluster, name] => (None, Some(region), cluster, name),
                [account_id, region, cluster, name] => (Some(account_id), Some(region), cluster, name),
                _ => return Err(EXPECTED.to_owned()),
            }
        };
        let why = |fault: String| format!("{fault}; {EXPECTED}");
        Ok(Self {
            account_id: account_id.map(AccountId::parse).transpose().map_err(why)?,
            region: region.map(Region::parse).transpose().map_err(why)?,
            cluster: EcsName::parse(cluster).map_err(why)?,
            name: EcsName::parse(name).map_err(why)?,
        })
    }
}

/// Account, region, cluster and service.
type Parts<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str);

fn arn(text: &str) -> Option<Parts<'_>> {
    let ["arn", _, "ecs", region, account_id, resource] = text.splitn(6, ':').collect::<Vec<_>>()[..] else {
        return None;
    };
    let (cluster, name) = resource.strip_prefix("service/")?.split_once('/')?;
    Some((Some(account_id), Some(region), cluster, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_in_full_in_part_or_by_arn() {
        for (text, shown) in [
            ("prod/web", "prod/web"),
            ("222222222222/prod/web", "222222222222/prod/web"),
            ("eu-west-1/prod/web", "eu-west-1/prod/web"),
            ("222222222222/eu-west-1/prod/web", "222222222222/eu-west-1/prod/web"),
            ("arn:aws:ecs:eu-west-1:222222222222:service/prod/web", "222222222222/eu-west-1/prod/web"),
        ] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for text in [
            "",
            "web",
            "a/b/c/d/e",
            "/web",
            "prod/web/",
            "22/eu-west-1/prod/web",
            "222222222222/eu/prod/web",
            "prod/we b",
            "arn:aws:ecs:eu-west-1:222222222222:cluster/prod",
            "arn:aws:ecs:eu-west-1:222222222222:service/web",
        ] {
            let fault = text.parse::<Service>().unwrap_err();
            assert!(fault.contains("CLUSTER/SERVICE"), "{text}: {fault}");
        }
    }
}
