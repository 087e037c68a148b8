//! AssumeRole, and the sessions that it has opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::{Clock, SESSION_SECRET, SESSION_TOKEN, sync};

/// What one AssumeRole call requested and received.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The account of the role.
    pub account: String,
    /// ARN of the role.
    pub role_arn: String,
    /// `RoleSessionName`.
    pub name: String,
    /// The inline session policy.
    pub policy: Option<Value>,
    /// The same policy as the text that was sent.
    pub policy_text: Option<String>,
    /// `SourceIdentity`.
    pub source_identity: Option<String>,
    /// `ExternalId`.
    pub external_id: Option<String>,
    /// `DurationSeconds`.
    pub duration_seconds: Option<u64>,
    /// Session tags, `name=value`.
    pub tags: Vec<String>,
}

/// Sessions by their access key. ECS looks up here whose call it receives.
#[derive(Clone)]
pub struct Sessions {
    opened: Arc<Mutex<BTreeMap<String, Arc<Session>>>>,
    lifetime: Arc<Mutex<Option<Duration>>>,
    clock: Clock,
}

impl Sessions {
    /// No sessions yet, with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { opened: Arc::default(), lifetime: Arc::default(), clock }
    }

    /// The session with this access key.
    #[must_use]
    pub fn of(&self, access_key: &str) -> Option<Arc<Session>> {
        sync(&self.opened).get(access_key).cloned()
    }

    /// The sessions, by account and in the order in which they were requested.
    #[must_use]
    pub fn all(&self) -> Vec<Session> {
        sync(&self.opened).values().map(|session| Session::clone(session)).collect()
    }

    /// From now on a session ends after `lifetime`, whatever duration was requested.
    pub fn live_for(&self, lifetime: Duration) {
        *sync(&self.lifetime) = Some(lifetime);
    }

    fn open(&self, session: Session) -> String {
        let mut sessions = sync(&self.opened);
        let key = format!("ASIA{}{:04}", session.account, sessions.len());
        sessions.insert(key.clone(), Arc::new(session));
        key
    }
}

/// Answers a call with XML in which `{request_id}` is a placeholder for the request's id.
///
/// # Errors
///
/// The reason for which STS would refuse it.
pub fn assume_role(form: &[(String, String)], sessions: &Sessions) -> Result<String, String> {
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    if field("Action").as_deref() != Some("AssumeRole") || field("Version").as_deref() != Some("2011-06-15") {
        return Err("this stub knows AssumeRole only".into());
    }
    let role_arn = field("RoleArn").ok_or("RoleArn is missing")?;
    let parts: Vec<&str> = role_arn.splitn(6, ':').collect();
    let ["arn", _, "iam", "", account, role] = parts.as_slice() else {
        return Err(format!("{role_arn} is no role's ARN"));
    };
    if account.len() != 12 || !role.starts_with("role/") {
        return Err(format!("{role_arn} is no role's ARN"));
    }
    let session_name =
        named(field("RoleSessionName").as_deref(), "RoleSessionName")?.ok_or("RoleSessionName is missing")?;
    let source_identity = named(field("SourceIdentity").as_deref(), "SourceIdentity")?;
    let duration_seconds = field("DurationSeconds").map(|d| d.parse::<u64>().map_err(|e| e.to_string())).transpose()?;
    // An hour is the maximum: the function's own credentials already are a role session (role chaining).
    if duration_seconds.is_some_and(|d| !(900..=3600).contains(&d)) {
        return Err(format!("DurationSeconds {duration_seconds:?} is not between 900 and 3600"));
    }
    let policy_text = field("Policy");
    if policy_text.as_ref().is_some_and(|p| p.chars().count() > 2048) {
        return Err("the policy is longer than 2048 characters".into());
    }
    let policy = policy_text
        .as_deref()
        .map(|p| serde_json::from_str::<Value>(p).map_err(|e| format!("MalformedPolicyDocument: {e}")))
        .transpose()?;
    let external_id = field("ExternalId");
    let tags = form.iter().filter(|(n, _)| n.starts_with("Tags.")).map(|(n, v)| format!("{n}={v}")).collect();
    let session = Session {
        account: (*account).to_owned(),
        role_arn: role_arn.clone(),
        name: session_name.clone(),
        policy,
        policy_text,
        source_identity: source_identity.clone(),
        external_id,
        duration_seconds,
        tags,
    };
    let account = session.account.clone();
    let key = sessions.open(session);
    let asked = Duration::from_secs(duration_seconds.unwrap_or(3600));
    let expires = (sessions.clock)() + sync(&sessions.lifetime).unwrap_or(asked);
    let expires = expires.format("%Y-%m-%dT%H:%M:%SZ");
    let role_name = role_arn.rsplit('/').next().unwrap_or_default();
    let source = source_identity.map(|s| format!("<SourceIdentity>{s}</SourceIdentity>")).unwrap_or_default();
    Ok(format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>{source}\
         <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{session_name}</AssumedRoleId>\
         <Arn>arn:aws:sts::{account}:assumed-role/{role_name}/{session_name}</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{SESSION_SECRET}</SecretAccessKey>\
         <SessionToken>{SESSION_TOKEN}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         <PackedPolicySize>6</PackedPolicySize></AssumeRoleResult>\
         <ResponseMetadata><RequestId>{{request_id}}</RequestId></ResponseMetadata></AssumeRoleResponse>"
    ))
}

/// The XML of an error.
#[must_use]
pub fn error(request_id: &str, code: &str, message: &str) -> String {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
}

/// A name of 2 to 64 characters, all of which STS accepts.
fn named(value: Option<&str>, what: &str) -> Result<Option<String>, String> {
    let Some(value) = value else { return Ok(None) };
    let fits =
        (2..=64).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
    if fits { Ok(Some(value.into())) } else { Err(format!("{what} {value:?} does not satisfy [\\w+=,.@-]{{2,64}}")) }
}

/// The fields of an `application/x-www-form-urlencoded` body.
#[must_use]
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
