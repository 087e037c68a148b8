//! Settings from the environment.

use std::collections::{BTreeMap, BTreeSet};

use crate::registry;
use crate::setting_source::{DocumentLocation, Named, SettingSource};

/// The role assumed in a target account where `TARGET_ROLE_NAME` is not set.
const DEFAULT_TARGET_ROLE_NAME: &str = "ecs-updater/ecs-updater-target";
/// The role that reads in a target account where `READER_ROLE_NAME` is not set.
const DEFAULT_READER_ROLE_NAME: &str = "ecs-updater/ecs-updater-reader";
/// How many services are changed at a time where `MAX_CONCURRENCY` is not set.
const DEFAULT_MAX_CONCURRENCY: usize = 64;
/// How many events one caller of the API door may send in a minute where `CALLER_EVENTS_PER_MINUTE` is not set.
const DEFAULT_CALLER_EVENTS: u32 = 120;
/// The metrics namespace where `METRICS_NAMESPACE` is not set.
const DEFAULT_METRICS_NAMESPACE: &str = "EcsUpdater";

/// The updater's settings. AWS settings (region, endpoints, credentials) are the SDK's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `HISTORY_TABLE` and `STATE_TABLE`.
    pub tables: Tables,
    /// `TARGET_ROLE_NAME`: path and name of the role assumed in every target account.
    pub target_role_name: String,
    /// `EXTERNAL_ID`: sent with `AssumeRole` where it is set.
    pub external_id: Option<String>,
    /// `ALLOWED_ACCOUNTS`: the only accounts that are changed, or the place where they are listed; with `None`, the trust of the accounts'
    /// roles alone decides.
    pub allowed_accounts: Option<SettingSource<AllowedAccounts>>,
    /// `MAX_CONCURRENCY`: how many services one invocation changes at a time.
    pub max_concurrency: usize,
    /// `CALLER_EVENTS_PER_MINUTE`: how many events one caller of the API door may send in a minute; `None`, which is set by 0, means no
    /// limit.
    pub caller_events: Option<u32>,
    /// `METRICS_NAMESPACE`: CloudWatch namespace of the embedded metrics.
    pub metrics_namespace: String,
    /// `REGISTRY_CREDENTIALS`, `REGISTRY_ALLOW_HTTP`, `REGISTRY_ALLOW_PRIVATE`.
    pub registries: crate::registry::settings::Settings,
}

impl Config {
    /// Reads the settings through `get`, which returns the value of a variable.
    ///
    /// # Errors
    ///
    /// A sentence naming the variable that is missing or wrong. An empty variable counts as not set.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let tables = Tables::from_variables(&get)?;
        let get = |name: &str| set(&get, name);
        Ok(Self {
            tables,
            target_role_name: role_name("TARGET_ROLE_NAME", get("TARGET_ROLE_NAME"), DEFAULT_TARGET_ROLE_NAME)?,
            external_id: get("EXTERNAL_ID"),
            allowed_accounts: get("ALLOWED_ACCOUNTS").map(|text| allowed_accounts(&text)).transpose()?,
            max_concurrency: get("MAX_CONCURRENCY")
                .map_or(Ok(DEFAULT_MAX_CONCURRENCY), |number| concurrency(&number))?,
            caller_events: get("CALLER_EVENTS_PER_MINUTE")
                .map_or(Ok(DEFAULT_CALLER_EVENTS), |number| caller_events(&number))
                .map(|number| Some(number).filter(|number| *number > 0))?,
            metrics_namespace: metrics_namespace(get),
            registries: registries(get)?,
        })
    }
}

/// `METRICS_NAMESPACE`: CloudWatch namespace of the embedded metrics.
pub fn metrics_namespace(get: impl Fn(&str) -> Option<String>) -> String {
    set(get, "METRICS_NAMESPACE").unwrap_or_else(|| DEFAULT_METRICS_NAMESPACE.to_owned())
}

/// The names of the two tables: the append-only one of records, and the one of heads, leases, idempotency keys and deployments. They are
/// the only settings that the history function needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// `HISTORY_TABLE`: the append-only table of records.
    pub history: String,
    /// `STATE_TABLE`: the table of heads.
    pub state: String,
}

impl Tables {
    /// Reads the names through `get`, which returns the value of a variable.
    ///
    /// # Errors
    ///
    /// A sentence naming the variable that is missing or wrong. An empty variable counts as not set.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let required = |name: &str| {
            set(&get, name)
                .ok_or_else(|| format!("environment variable {name} is not set: it names the DynamoDB table"))
                .and_then(|value| table_name(name, value))
        };
        Ok(Self { history: required("HISTORY_TABLE")?, state: required("STATE_TABLE")? })
    }
}

/// The recorder's settings. AWS settings are the SDK's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderConfig {
    /// `HISTORY_TABLE` and `STATE_TABLE`.
    pub tables: Tables,
    /// `READER_ROLE_NAME`: path and name of the role that reads in every target account.
    pub reader_role_name: String,
    /// `EXTERNAL_ID`: sent with `AssumeRole` where it is set.
    pub external_id: Option<String>,
    /// `ALLOWED_ACCOUNTS`, as for the updater: what happens in other accounts is recorded within a budget.
    pub allowed_accounts: Option<SettingSource<AllowedAccounts>>,
    /// `METRICS_NAMESPACE`: CloudWatch namespace of the embedded metrics.
    pub metrics_namespace: String,
}

impl RecorderConfig {
    /// Reads the settings through `get`, which returns the value of a variable.
    ///
    /// # Errors
    ///
    /// A sentence naming the variable that is missing or wrong. An empty variable counts as not set.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let tables = Tables::from_variables(&get)?;
        let get = |name: &str| set(&get, name);
        Ok(Self {
            tables,
            reader_role_name: role_name("READER_ROLE_NAME", get("READER_ROLE_NAME"), DEFAULT_READER_ROLE_NAME)?,
            external_id: get("EXTERNAL_ID"),
            allowed_accounts: get("ALLOWED_ACCOUNTS").map(|text| allowed_accounts(&text)).transpose()?,
            metrics_namespace: metrics_namespace(get),
        })
    }
}

fn set(get: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Table names are part of the text of `PartiQL` statements, so they must not contain a character that ends a quoted name. The characters
/// are those that DynamoDB allows: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>.
fn table_name(variable: &str, name: String) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (3..=255).contains(&name.len()) && name.chars().all(allowed) {
        Ok(name)
    } else {
        Err(format!("environment variable {variable} holds no DynamoDB table name: {name:?}"))
    }
}

fn role_name(variable: &str, name: Option<String>, default: &str) -> Result<String, String> {
    let Some(name) = name else { return Ok(default.to_owned()) };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=,.@-".contains(c);
    if name.chars().all(allowed) && !name.starts_with('/') && !name.ends_with('/') {
        Ok(name)
    } else {
        Err(format!("environment variable {variable} holds no role name with its path, such as {default}: {name:?}"))
    }
}

fn registries(get: impl Fn(&str) -> Option<String>) -> Result<crate::registry::settings::Settings, String> {
    const CREDENTIALS: &str = "REGISTRY_CREDENTIALS";
    let credentials: BTreeMap<String, String> = match get(CREDENTIALS) {
        Some(text) => serde_json::from_str(&text).map_err(|_| {
            format!("environment variable {CREDENTIALS} holds no JSON object of registry hosts to ARNs of secrets")
        })?,
        None => BTreeMap::new(),
    };
    if let Some((host, _)) = credentials.iter().find(|(_, arn)| !is_secret_arn(arn)) {
        return Err(format!("environment variable {CREDENTIALS} holds no ARN of a secret for {host:?}"));
    }
    let hosts = |name: &str| -> BTreeSet<String> {
        let list = get(name).unwrap_or_default();
        list.split(',').map(|host| host.trim().to_ascii_lowercase()).filter(|host| !host.is_empty()).collect()
    };
    Ok(crate::registry::settings::Settings {
        // Docker Hub may be given by the name that people know.
        credentials: credentials.into_iter().map(|(host, arn)| (registry::host(&host), arn)).collect(),
        allow_http: hosts("REGISTRY_ALLOW_HTTP"),
        allow_private: hosts("REGISTRY_ALLOW_PRIVATE"),
    })
}

fn is_secret_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.as_slice(), ["arn", _, "secretsmanager", region, _, "secret", _] if !region.is_empty())
}

fn concurrency(number: &str) -> Result<usize, String> {
    match number.parse() {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err(format!("environment variable MAX_CONCURRENCY holds no number from 1 to 1000: {number:?}")),
    }
}

fn caller_events(number: &str) -> Result<u32, String> {
    match number.parse() {
        Ok(number @ 0..=10_000) => Ok(number),
        _ => Err(format!("environment variable CALLER_EVENTS_PER_MINUTE holds no number from 0 to 10000: {number:?}")),
    }
}

/// The accounts that may be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedAccounts {
    /// Ids of 12 digits.
    accounts: BTreeSet<String>,
    /// Roots and organizational units whose accounts are meant as well, including the accounts of the units in them.
    units: BTreeSet<String>,
}

impl AllowedAccounts {
    /// Whether this account may be changed, judging by the account ids alone.
    #[must_use]
    pub fn contains(&self, account: &str) -> bool {
        self.accounts.contains(account)
    }
}

impl Named for AllowedAccounts {
    fn units(&self) -> &BTreeSet<String> {
        &self.units
    }

    fn with_accounts(mut self, accounts: BTreeSet<String>) -> Result<Self, String> {
        self.accounts.extend(accounts);
        if self.accounts.is_empty() { Err(NO_ACCOUNT.to_owned()) } else { Ok(self) }
    }
}

const NO_ACCOUNT: &str = "there is no account in it";

fn allowed_accounts(text: &str) -> Result<SettingSource<AllowedAccounts>, String> {
    const NAME: &str = "ALLOWED_ACCOUNTS";
    let given = match DocumentLocation::parse(text) {
        Some(place) => place.map(SettingSource::There),
        None => accounts(text).map(SettingSource::Here),
    };
    given.map_err(|fault| format!("environment variable {NAME}: {fault}"))
}

/// The accounts, organizational units and roots of a list that is separated by commas or white space. A `#` starts a comment that ends with
/// its line.
///
/// # Errors
///
/// A sentence that names an entry that is none of these, or says that the list is empty: nobody wants a list by which no service can ever
/// be changed.
pub fn accounts(list: &str) -> Result<AllowedAccounts, String> {
    let entries = list.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
    });
    let mut allowed = AllowedAccounts::default();
    for entry in entries {
        if entry.len() == 12 && entry.bytes().all(|byte| byte.is_ascii_digit()) {
            allowed.accounts.insert(entry.to_owned());
        } else if is_unit(entry) {
            allowed.units.insert(entry.to_owned());
        } else {
            return Err(format!(
                "{entry:?} is no account id of 12 digits, no organizational unit (ou-…) and no root (r-…)"
            ));
        }
    }
    if allowed.accounts.is_empty() && allowed.units.is_empty() { Err(NO_ACCOUNT.to_owned()) } else { Ok(allowed) }
}

/// Whether it is the id of a root or of an organizational unit. Source:
/// <https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccountsForParent.html>.
fn is_unit(text: &str) -> bool {
    let is_part = |part: &str, least: usize| {
        (least..=32).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    match text.split('-').collect::<Vec<_>>().as_slice() {
        ["r", root] => is_part(root, 4),
        ["ou", root, unit] => is_part(root, 4) && is_part(unit, 8),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn tables_are_required_and_the_rest_has_defaults() {
        let config = read(&[("HISTORY_TABLE", "history"), ("STATE_TABLE", "state"), ("EXTERNAL_ID", " ")]).unwrap();
        assert_eq!(config.target_role_name, "ecs-updater/ecs-updater-target");
        assert_eq!(config.metrics_namespace, "EcsUpdater");
        assert_eq!(config.external_id, None);
        assert_eq!(config.allowed_accounts, None);
    }

    #[test]
    fn a_missing_or_wrong_setting_is_named() {
        let tables = [("HISTORY_TABLE", "history"), ("STATE_TABLE", "state")];
        for (variables, named) in [
            (vec![tables[0]], "STATE_TABLE"),
            (vec![tables[1]], "HISTORY_TABLE"),
            (vec![("HISTORY_TABLE", "a\"; drop"), tables[1]], "HISTORY_TABLE"),
            (vec![tables[0], tables[1], ("ALLOWED_ACCOUNTS", "222222222222,3")], "ALLOWED_ACCOUNTS"),
            (vec![tables[0], tables[1], ("TARGET_ROLE_NAME", "/x")], "TARGET_ROLE_NAME"),
            (vec![tables[0], tables[1], ("MAX_CONCURRENCY", "0")], "MAX_CONCURRENCY"),
            (vec![tables[0], tables[1], ("MAX_CONCURRENCY", "many")], "MAX_CONCURRENCY"),
        ] {
            let error = read(&variables).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_recorder_has_a_role_of_its_own() {
        let read = |role: Option<&str>| {
            RecorderConfig::from_variables(|name| match name {
                "HISTORY_TABLE" | "STATE_TABLE" => Some(name.to_lowercase()),
                "READER_ROLE_NAME" => role.map(str::to_owned),
                _ => None,
            })
        };
        assert_eq!(read(None).unwrap().reader_role_name, "ecs-updater/ecs-updater-reader");
        assert_eq!(read(Some("reader")).unwrap().reader_role_name, "reader");
        assert!(read(Some("/reader")).unwrap_err().contains("READER_ROLE_NAME"));
    }

    #[test]
    fn the_history_function_needs_the_tables_only() {
        let get = |name: &str| Some(format!(" {} ", name.to_lowercase()));
        let tables = Tables::from_variables(get).unwrap();
        assert_eq!((tables.history.as_str(), tables.state.as_str()), ("history_table", "state_table"));
        assert!(Tables::from_variables(|name| (name == "HISTORY_TABLE").then(|| "abc".to_owned())).is_err());
    }

    #[test]
    fn allowed_accounts_are_a_comma_list() {
        let config = read(&[
            ("HISTORY_TABLE", "history"),
            ("STATE_TABLE", "state"),
            ("ALLOWED_ACCOUNTS", "222222222222, 333333333333,"),
        ])
        .unwrap();
        assert!(matches!(config.allowed_accounts, Some(SettingSource::Here(allowed)) if allowed.accounts.len() == 2));
    }

    #[test]
    fn allowed_accounts_may_be_kept_elsewhere() {
        let tables = [("HISTORY_TABLE", "history"), ("STATE_TABLE", "state")];
        for kept in ["s3://bucket/allowed.txt", "ssm:/allowed"] {
            let config = read(&[tables[0], tables[1], ("ALLOWED_ACCOUNTS", kept)]).unwrap();
            assert!(matches!(config.allowed_accounts, Some(SettingSource::There(place)) if place.to_string() == kept));
        }
        let fault = read(&[tables[0], tables[1], ("ALLOWED_ACCOUNTS", "s3://bucket")]).unwrap_err();
        assert!(fault.contains("ALLOWED_ACCOUNTS") && fault.contains("s3://bucket/key"), "{fault}");
    }

    #[test]
    fn a_document_of_accounts_has_lines_comments_units_and_roots() {
        let found = accounts(
            "# all of payments, 2026-11-29\n222222222222\r\n333333333333, 444444444444 # three\nou-a1b2-c3d4e5f6\nr-a1b2",
        );
        let found = found.unwrap();
        assert_eq!((found.accounts.len(), found.units.len()), (3, 2));
        assert!(found.contains("222222222222") && !found.contains("ou-a1b2-c3d4e5f6"));
        for wrong in
            ["ou-a1b2", "ou-a1b2-short", "ou-A1B2-c3d4e5f6", "r-a1", "r-a1b2-c3d4e5f6", "o-a1b2c3d4e5", "22222222222"]
        {
            assert!(accounts(&format!("222222222222\n{wrong}")).unwrap_err().contains(wrong), "{wrong}");
        }
        for nothing in ["", "# 222222222222\n", ",\n"] {
            assert!(accounts(nothing).unwrap_err().contains("no account"), "{nothing:?}");
        }
        // A unit without accounts is refused, as an empty list is.
        let unit = || accounts("ou-a1b2-c3d4e5f6").unwrap();
        assert!(unit().with_accounts(BTreeSet::new()).unwrap_err().contains("no account"));
        assert!(unit().with_accounts(["222222222222".to_owned()].into()).unwrap().contains("222222222222"));
    }
}
