//! Which accounts exist, and which services are in them: reads AWS Organizations, and ECS through each account's reader
//! role. Every list is read to its end.

use std::collections::BTreeSet;

use aws_config::{Region as SdkRegion, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_ecs::types::{Service, ServiceField};
use aws_sdk_organizations::types::{Account, AccountState, AccountStatus};
use domain::ids::{AccountId, EcsName, Region};
use wildmatch::WildMatch;

use super::{ATTEMPTS, READ_TIMEOUT, config, failed, timeouts};
use crate::arguments::SharedArgs;
use crate::failure::{CommandFailure, Exit};
use crate::waves::RolloutTarget;

/// The session name that the reader role's trust policy requires: `ecsu-*`.
const SESSION_NAME: &str = "ecsu-targets";
/// How many services `DescribeServices` accepts at once ("services" in the ECS API reference).
const DESCRIBED_AT_ONCE: usize = 10;
/// The most results that `ListClusters` and `ListServices` return at once.
const LISTED_AT_ONCE: i32 = 100;

/// Which services are looked for.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Patterns for names of clusters, one of which matches.
    pub clusters: Vec<WildMatch>,
    /// Patterns for names of services, one of which matches.
    pub services: Vec<WildMatch>,
    /// Tags of the service, all of which match.
    pub tagged: Vec<(String, WildMatch)>,
}

impl Filter {
    fn takes(&self, service: &Service) -> bool {
        let has = |(key, value): &(String, WildMatch)| {
            let tags = service.tags().iter();
            tags.filter(|tag| tag.key() == Some(key)).any(|tag| value.matches(tag.value().unwrap_or_default()))
        };
        // INACTIVE and DRAINING services are deleted, or are being deleted.
        service.status() == Some("ACTIVE") && self.tagged.iter().all(has)
    }
}

/// The role that reads services in each account.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Its path and name.
    pub role: String,
    /// The external id that its trust policy requires.
    pub external_id: Option<String>,
}

/// What was found in one account, and what could not be read. Each failure names its place.
#[derive(Debug, Default)]
pub(crate) struct DiscoveredService {
    /// The services, sorted by region in the requested order, then by cluster and name.
    pub targets: Vec<RolloutTarget>,
    /// What could not be read.
    pub unread: Vec<CommandFailure>,
}

/// Finds accounts and services.
#[derive(Debug)]
pub(crate) struct Discovery {
    config: SdkConfig,
    region: Region,
}

impl Discovery {
    /// Reads the region, credentials and endpoints. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If no region is set.
    pub(crate) async fn new(shared: &SharedArgs) -> Result<Self, CommandFailure> {
        let (config, region) = config(shared, ATTEMPTS, timeouts(READ_TIMEOUT), "where to look").await?;
        let region =
            Region::parse(&region).map_err(|fault| CommandFailure::new(Exit::Usage, format!("--region: {fault}")))?;
        Ok(Self { config, region })
    }

    /// The region that the command was given.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The active accounts of the organization.
    ///
    /// # Errors
    ///
    /// If they could not be listed.
    pub(crate) async fn organization(&self) -> Result<BTreeSet<AccountId>, CommandFailure> {
        let client = aws_sdk_organizations::Client::new(&self.config);
        let pages = client.list_accounts().into_paginator().send();
        let pages: Vec<_> = pages
            .collect::<Result<_, _>>()
            .await
            .map_err(|error| of_organization("organizations:ListAccounts", &error))?;
        Ok(pages.iter().flat_map(|page| active(page.accounts())).collect())
    }

    /// The active accounts of an organizational unit or root, and of every unit in it.
    ///
    /// # Errors
    ///
    /// If they could not be listed.
    pub(crate) async fn unit(&self, id: &str) -> Result<BTreeSet<AccountId>, CommandFailure> {
        let client = aws_sdk_organizations::Client::new(&self.config);
        let mut found = BTreeSet::new();
        let mut units = vec![id.to_owned()];
        while let Some(unit) = units.pop() {
            let pages = client.list_accounts_for_parent().parent_id(&unit).into_paginator().send();
            let pages: Vec<_> = pages
                .collect::<Result<_, _>>()
                .await
                .map_err(|error| of_organization("organizations:ListAccountsForParent", &error).at(&unit))?;
            found.extend(pages.iter().flat_map(|page| active(page.accounts())));
            let pages = client.list_organizational_units_for_parent().parent_id(&unit).into_paginator().send();
            let pages: Vec<_> = pages
                .collect::<Result<_, _>>()
                .await
                .map_err(|error| of_organization("organizations:ListOrganizationalUnitsForParent", &error).at(&unit))?;
            let inner = pages.into_iter().flat_map(|page| page.organizational_units.unwrap_or_default());
            units.extend(inner.filter_map(|unit| unit.id));
        }
        Ok(found)
    }

    /// The services of one account. What cannot be read does not keep the rest from being read.
    pub(crate) async fn services(
        &self,
        account: &AccountId,
        reader: &Reader,
        regions: &[Region],
        filter: &Filter,
    ) -> DiscoveredService {
        let mut found = DiscoveredService::default();
        let credentials = match self.enter(account, reader).await {
            Ok(credentials) => credentials,
            Err(failure) => {
                found.unread.push(failure.at(account.as_str()));
                return found;
            }
        };
        for region in regions {
            let client = aws_sdk_ecs::config::Builder::from(&self.config)
                .region(SdkRegion::new(region.as_str().to_owned()))
                .credentials_provider(credentials.clone());
            let client = aws_sdk_ecs::Client::from_conf(client.build());
            match services(&client, account, region, filter).await {
                Ok(targets) => found.targets.extend(targets),
                Err(failure) => found.unread.push(failure.at(format!("{account}/{region}"))),
            }
        }
        found
    }

    /// Assumes the reader role and returns its credentials.
    async fn enter(&self, account: &AccountId, reader: &Reader) -> Result<Credentials, CommandFailure> {
        const OPERATION: &str = "sts:AssumeRole";
        let role = format!("arn:{}:iam::{account}:role/{}", partition_of(self.region.as_str()), reader.role);
        let answer = aws_sdk_sts::Client::new(&self.config)
            .assume_role()
            .role_arn(&role)
            .role_session_name(SESSION_NAME)
            .set_external_id(reader.external_id.clone())
            .send()
            .await
            .map_err(|error| {
                let mut failure = failed(OPERATION, &error);
                if failure.code.as_deref().is_some_and(|code| code.starts_with("AccessDenied")) {
                    failure.exit = Exit::Failed;
                    failure.advice = vec![format!(
                        "Is {role} there, and does its ReaderPrincipalArns name you? Compare organization and external id \
                         (--external-id), and your own right to {OPERATION}."
                    )];
                }
                failure
            })?;
        let given = answer
            .credentials()
            .ok_or_else(|| CommandFailure::new(Exit::Later, format!("{OPERATION} answered without credentials")))?;
        let token = Some(given.session_token().to_owned());
        Ok(Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "reader role"))
    }
}

/// The services of one account and region, sorted by cluster and name.
async fn services(
    client: &aws_sdk_ecs::Client,
    account: &AccountId,
    region: &Region,
    filter: &Filter,
) -> Result<Vec<RolloutTarget>, CommandFailure> {
    let clusters = client.list_clusters().max_results(LISTED_AT_ONCE).into_paginator().items().send();
    let clusters: Vec<String> =
        clusters.collect::<Result<_, _>>().await.map_err(|error| of_region("ecs:ListClusters", &error))?;
    let mut targets = Vec::new();
    for cluster in clusters.iter().filter(|arn| fits(&filter.clusters, name_in(arn))) {
        let listed =
            client.list_services().cluster(cluster).max_results(LISTED_AT_ONCE).into_paginator().items().send();
        let mut listed: Vec<String> =
            listed.collect::<Result<_, _>>().await.map_err(|error| of_region("ecs:ListServices", &error))?;
        listed.retain(|arn| fits(&filter.services, name_in(arn)));
        for some in listed.chunks(DESCRIBED_AT_ONCE) {
            let answer = client
                .describe_services()
                .cluster(cluster)
                .set_services(Some(some.to_vec()))
                .include(ServiceField::Tags)
                .send()
                .await
                .map_err(|error| of_region("ecs:DescribeServices", &error))?;
            for service in answer.services().iter().filter(|service| filter.takes(service)) {
                let name = |text: &str| EcsName::parse(text).map_err(|fault| CommandFailure::new(Exit::Failed, fault));
                targets.push(RolloutTarget {
                    account_id: account.clone(),
                    region: region.clone(),
                    cluster: name(name_in(cluster))?,
                    service: name(service.service_name().unwrap_or_default())?,
                });
            }
        }
    }
    targets.sort_by(|one, other| {
        (one.cluster.as_str(), one.service.as_str()).cmp(&(other.cluster.as_str(), other.service.as_str()))
    });
    Ok(targets)
}

fn fits(patterns: &[WildMatch], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// The name at an ARN's end.
fn name_in(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The accounts that are active.
fn active(accounts: &[Account]) -> BTreeSet<AccountId> {
    let active = accounts.iter().filter(|account| match (account.state(), account.status()) {
        // `Status` is retired since September 2026, and older answers have no `State` ("Account" in the Organizations API).
        (Some(state), _) => *state == AccountState::Active,
        (None, status) => status == Some(&AccountStatus::Active),
    });
    active.filter_map(|account| AccountId::parse(account.id()?).ok()).collect()
}

fn of_organization<E>(
    operation: &'static str,
    error: &aws_smithy_runtime_api::client::result::SdkError<E, aws_smithy_runtime_api::http::Response>,
) -> CommandFailure
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    let failure = failed(operation, error);
    match failure.code.as_deref() {
        Some("AWSOrganizationsNotInUseException") => failure.advise("This account is in no organization: name accounts (--account)."),
        Some(code) if code.starts_with("AccessDenied") => failure.advise(
            "Organizations answers its management account and delegated administrators only: name accounts (--account) elsewhere.",
        ),
        Some("ParentNotFoundException") => failure.advise("Look at the id: ou-… of an organizational unit, r-… of the root."),
        _ => failure,
    }
}

fn of_region<E>(
    operation: &'static str,
    error: &aws_smithy_runtime_api::client::result::SdkError<E, aws_smithy_runtime_api::http::Response>,
) -> CommandFailure
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut failure = failed(operation, error);
    // A region answers this if the account has not opted in to it: it does not know the session.
    if failure.code.as_deref() == Some("UnrecognizedClientException") {
        failure.exit = Exit::Failed;
        failure.advice = vec!["Is that region enabled in that account?".to_owned()];
    }
    failure
}

/// The partition of a region, which is part of the ARNs of its roles ("Amazon Resource Names" in the AWS General
/// Reference).
fn partition_of(region: &str) -> &'static str {
    const KNOWN: [(&str, &str); 6] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
    ];
    KNOWN.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_in_the_partition_of_the_region() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(partition_of(region), partition);
        }
    }

    #[test]
    fn an_account_is_active_by_its_state_or_where_it_has_none_by_its_status() {
        let account = |state: Option<AccountState>, status: Option<AccountStatus>| {
            active(&[Account::builder().id("222222222222").set_state(state).set_status(status).build()]).len()
        };
        assert_eq!(account(Some(AccountState::Active), None), 1);
        assert_eq!(account(None, Some(AccountStatus::Active)), 1);
        assert_eq!(account(Some(AccountState::Closed), Some(AccountStatus::Active)), 0);
        assert_eq!(account(Some(AccountState::PendingActivation), None), 0);
        assert_eq!(account(None, Some(AccountStatus::Suspended)), 0);
        assert_eq!(account(None, None), 0);
    }
}
