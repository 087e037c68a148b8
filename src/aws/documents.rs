//! Settings that are kept in an object of Amazon S3 or in a parameter of Systems Manager, or that name units of the organization
//! (`organization.rs`).
//!
//! The SDK of each of these services would be a tenth of the updater's package, which is too much for a single request. For this reason,
//! the request is made here, signed with the SDK's own signer, and sent with the HTTP and TLS libraries that the SDK links.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::service_config::ServiceConfigKey;
use chrono::{DateTime, Utc};
use domain::setting_source::{DocumentLocation, Kept, Named, SettingSource};
use domain::text::one_line;
use sdk_error::chain;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The longest time for one attempt. The invocation that happens to read the setting waits for it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// The number of attempts.
const ATTEMPTS: u32 = 2;
/// The largest size of a document in bytes: some 80,000 accounts.
const MAX_BYTES: usize = 1 << 20;

/// A setting that may be kept outside of its environment variable.
pub enum Setting<T> {
    /// The value is in its environment variable.
    Here(Arc<T>),
    /// The value is kept elsewhere.
    There(Box<Watched<T>>),
}

impl<T> From<T> for Setting<T> {
    fn from(value: T) -> Self {
        Self::Here(Arc::new(value))
    }
}

impl<T: Named> Setting<T> {
    /// The setting from the environment variable `name`; `parse` reads a value that is kept elsewhere. If the value names units, they are
    /// looked up as often as a value that is kept elsewhere.
    pub fn naming(
        given: SettingSource<T>,
        shared: &SdkConfig,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        let source = match given {
            SettingSource::Here(value) if value.units().is_empty() => return value.into(),
            SettingSource::Here(value) => Source::Variable(name, value),
            SettingSource::There(place) => Source::Place(place, Box::new(parse)),
        };
        Self::watched(source, shared, Some(Resolve { units: T::units, with_accounts: T::with_accounts }))
    }
}

impl<T: Clone> Setting<T> {
    /// A setting from its environment variable; `parse` reads a value that is kept elsewhere.
    pub fn new(
        given: SettingSource<T>,
        shared: &SdkConfig,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        match given {
            SettingSource::Here(value) => value.into(),
            SettingSource::There(place) => Self::watched(Source::Place(place, Box::new(parse)), shared, None),
        }
    }

    fn watched(source: Source<T>, shared: &SdkConfig, resolve: Option<Resolve<T>>) -> Self {
        let reader = Reader { shared: shared.clone(), connector: OnceLock::new() };
        Self::There(Box::new(Watched { source, resolve, reader, kept: Mutex::default() }))
    }

    /// The value that is valid at `now`.
    ///
    /// # Errors
    ///
    /// Where the value is kept, and why it could not be read.
    pub async fn at(&self, now: DateTime<Utc>) -> Result<Arc<T>, String> {
        match self {
            Self::Here(value) => Ok(Arc::clone(value)),
            Self::There(watched) => watched.at(now).await,
        }
    }
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

/// A setting that is read from where it is kept, and read again later.
pub struct Watched<T> {
    source: Source<T>,
    /// How to add the accounts of the units that the value names.
    resolve: Option<Resolve<T>>,
    reader: Reader,
    /// Locked while the value is read: a caller that arrives meanwhile waits for the same answer.
    kept: Mutex<Kept<T>>,
}

/// Where a setting comes from.
enum Source<T> {
    /// It is kept in this place.
    Place(DocumentLocation, Parse<T>),
    /// It is in this environment variable.
    Variable(&'static str, T),
}

/// The methods of [`Named`], for a value that a setting may have.
struct Resolve<T> {
    units: fn(&T) -> &BTreeSet<String>,
    with_accounts: fn(T, BTreeSet<String>) -> Result<T, String>,
}

impl<T: Clone> Watched<T> {
    async fn at(&self, now: DateTime<Utc>) -> Result<Arc<T>, String> {
        let mut kept = self.kept.lock().await;
        if let Some(known) = kept.known(now) {
            return known;
        }
        let found = match &self.source {
            Source::Place(place, parse) => self.reader.read(place).await.and_then(|text| parse(&text)),
            Source::Variable(_, value) => Ok(value.clone()),
        };
        let found = match (found, &self.resolve) {
            (Ok(value), Some(resolve)) if !(resolve.units)(&value).is_empty() => {
                let accounts = self.reader.accounts_of((resolve.units)(&value)).await;
                accounts.and_then(|accounts| (resolve.with_accounts)(value, accounts))
            }
            (found, _) => found,
        };
        let found = found.map_err(|why| match &self.source {
            Source::Place(place, _) => format!("{place}: {why}"),
            Source::Variable(name, _) => format!("{name}: {why}"),
        });
        if let Err(why) = &found {
            tracing::warn!("a setting could not be read: {why}");
        }
        kept.looked(found, now)
    }
}

pub(super) struct Reader {
    shared: SdkConfig,
    /// Created when it is first needed, because it reads the system's certificates.
    connector: OnceLock<SharedHttpConnector>,
}

/// A request to send.
pub(super) struct DocumentCall {
    pub service: &'static str,
    /// The region of its signature.
    pub region: String,
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
}

impl Reader {
    /// The text that is kept at `place`.
    async fn read(&self, place: &DocumentLocation) -> Result<String, String> {
        let mut tries = 1;
        loop {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(place)).await;
            match attempt.unwrap_or_else(|_| Err((format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()), true))) {
                Err((_, true)) if tries < ATTEMPTS => tries += 1,
                ended => return ended.map_err(|(why, _)| why),
            }
        }
    }

    /// Sends one request; the error includes whether the same request may succeed later.
    async fn attempt(&self, place: &DocumentLocation) -> Result<String, (String, bool)> {
        let (status, text) = self.send(&self.call(place)).await?;
        if status != 200 {
            return Err((refusal(place, status, &text), status >= 500 || status == 429));
        }
        match place {
            DocumentLocation::Object { .. } => Ok(text),
            DocumentLocation::Parameter(_) => parameter(&text).map_err(|why| (why, false)),
        }
    }

    /// Status and text of the answer to one request; or why there is no answer, and whether the same request may succeed later.
    pub(super) async fn send(&self, call: &DocumentCall) -> Result<(u16, String), (String, bool)> {
        let request = self.signed(call).await.map_err(|why| (why, false))?;
        let connector = self.connector.get_or_init(|| {
            let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
            SharedHttpConnector::new(Connector::builder().tls_provider(tls).build())
        });
        let response = connector.call(request).await;
        let response = response.map_err(|error| (format!("it could not be asked: {}", chain(&error)), true))?;
        let status = response.status().as_u16();
        let mut stream = ByteStream::new(response.into_body());
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            bytes.extend_from_slice(&part.map_err(|error| (format!("its answer was cut: {error}"), true))?);
            if bytes.len() > MAX_BYTES {
                return Err((format!("it has more than {MAX_BYTES} bytes"), false));
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| ("it is no UTF-8 text".to_owned(), false))?;
        Ok((status, text))
    }

    fn call(&self, place: &DocumentLocation) -> DocumentCall {
        let region = self.region().to_owned();
        match place {
            DocumentLocation::Object { bucket, key } => {
                // The bucket is in the path: as part of the host name, a bucket name with a dot would not match the certificate.
                let url = format!("{}/{bucket}/{key}", self.endpoint("S3", "s3", &region));
                DocumentCall { service: "s3", region, method: "GET", url, headers: Vec::new(), body: String::new() }
            }
            DocumentLocation::Parameter(name) => DocumentCall {
                service: "ssm",
                method: "POST",
                url: format!("{}/", self.endpoint("SSM", "ssm", &region)),
                region,
                headers: vec![
                    ("content-type", "application/x-amz-json-1.1"),
                    ("x-amz-target", "AmazonSSM.GetParameter"),
                ],
                body: serde_json::json!({"Name": name, "WithDecryption": false}).to_string(),
            },
        }
    }

    /// The endpoint of the service: the one that the SDK would find in the environment, or else AWS's own.
    pub(super) fn endpoint(&self, id: &str, host: &str, region: &str) -> String {
        let key = ServiceConfigKey::builder().service_id(id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
        let own = key.ok().and_then(|key| self.shared.service_config()?.load_config(key));
        let given = own.or_else(|| self.shared.endpoint_url().map(str::to_owned));
        given.map_or_else(
            || {
                let fips = if self.shared.use_fips() == Some(true) { "-fips" } else { "" };
                format!("https://{host}{fips}.{region}.{}", suffix(region))
            },
            |endpoint| endpoint.trim_end_matches('/').to_owned(),
        )
    }

    /// The function's own region.
    pub(super) fn region(&self) -> &str {
        self.shared.region().map_or("", |region| region.as_ref())
    }

    async fn signed(&self, call: &DocumentCall) -> Result<HttpRequest, String> {
        let provider = self.shared.credentials_provider().ok_or("the function has no credentials")?;
        let credentials = provider.provide_credentials().await.map_err(|error| chain(&error))?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        if call.service == "s3" {
            // Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let unsigned =
            |error: &(dyn std::error::Error + 'static)| format!("the request could not be signed: {}", chain(error));
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&call.region)
            .name(call.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = call.headers.iter().copied();
        let body = SignableBody::Bytes(call.body.as_bytes());
        let request = SignableRequest::new(call.method, &call.url, headers, body).map_err(|error| unsigned(&error))?;
        let (instructions, _) = sign(request, &parameters).map_err(|error| unsigned(&error))?.into_parts();
        let (signature, _) = instructions.into_parts();

        let mut request = HttpRequest::new(SdkBody::from(call.body.as_str()));
        request.set_method(call.method).map_err(|error| unsigned(&error))?;
        request.set_uri(call.url.as_str()).map_err(|error| unsigned(&error))?;
        let mut all = Headers::new();
        let signature = signature.iter().map(|header| (header.name(), header.value().to_owned()));
        for (name, value) in call.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(signature) {
            all.try_insert(name, value).map_err(|error| unsigned(&error))?;
        }
        *request.headers_mut() = all;
        Ok(request)
    }
}

/// The suffix of host names in the region's partition.
/// Source: <https://docs.aws.amazon.com/general/latest/gr/rande.html>; for the isolated partitions, the SDK's `partitions.json`.
fn suffix(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ => "amazonaws.com",
    }
}

#[derive(Deserialize)]
struct DocumentAnswer {
    #[serde(rename = "Parameter")]
    parameter: Parameter,
}

#[derive(Deserialize)]
struct Parameter {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Value")]
    value: String,
}

fn parameter(answer: &str) -> Result<String, String> {
    let answer: DocumentAnswer =
        serde_json::from_str(answer).map_err(|error| format!("its answer cannot be read: {error}"))?;
    // An encrypted parameter would be received as cipher text.
    if answer.parameter.kind == "SecureString" {
        return Err("it is a SecureString, and nothing in it is secret: store it as a String".to_owned());
    }
    Ok(answer.parameter.value)
}

/// Why the service refused, and what to do.
fn refusal(place: &DocumentLocation, status: u16, text: &str) -> String {
    let told = match place {
        DocumentLocation::Object { .. } => {
            let within = |name: &str| {
                text.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>")).map(|parts| parts.0)
            };
            format!("{}: {}", within("Code").unwrap_or("no code"), within("Message").unwrap_or("no message"))
        }
        DocumentLocation::Parameter(_) => {
            let answer: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let member = |name: &str| answer.get(name).and_then(serde_json::Value::as_str);
            let code = member("__type").map_or("no code", |code| code.rsplit('#').next().unwrap_or(code));
            format!("{code}: {}", member("message").or_else(|| member("Message")).unwrap_or("no message"))
        }
    };
    let told: String = one_line(&told).chars().take(500).collect();
    let what_to_do = match status {
        301 | 307 => " (it is in another region than the function)",
        403 => {
            " (it is not there, or another account's, or the function's role may not read it: deploy with the parameter that names it)"
        }
        _ => "",
    };
    format!("{status} {told}{what_to_do}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_the_partition() {
        for (region, ends) in [
            ("eu-west-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
            ("eusc-de-east-1", "amazonaws.eu"),
        ] {
            assert_eq!(suffix(region), ends);
        }
    }

    #[test]
    fn a_parameter_is_its_value_and_no_cipher_text() {
        let answer =
            |kind: &str| format!(r#"{{"Parameter": {{"Name": "/a", "Type": "{kind}", "Value": "222222222222"}}}}"#);
        assert_eq!(parameter(&answer("StringList")).unwrap(), "222222222222");
        assert!(parameter(&answer("SecureString")).unwrap_err().contains("String"));
        assert!(parameter("{}").is_err());
    }

    #[test]
    fn a_refusal_says_what_the_service_said() {
        let object = DocumentLocation::Object { bucket: "b".to_owned(), key: "k".to_owned() };
        let said = refusal(&object, 403, "<Error><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error>");
        assert!(
            said.starts_with("403 AccessDenied: Access")
                && said.contains("role may not read it")
                && !said.contains('\n'),
            "{said}"
        );
        let parameter = DocumentLocation::Parameter("/a".to_owned());
        let said = refusal(&parameter, 400, r#"{"__type": "com.amazonaws.ssm#ParameterNotFound", "message": "gone"}"#);
        assert_eq!(said, "400 ParameterNotFound: gone");
    }
}
