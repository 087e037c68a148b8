//! Asks a registry for a manifest, within limits of time, size and allowed addresses, over the HTTP and TLS libraries that the SDK links.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::registry::address::{AllowedUrl, excerpt, not_allowed};
use domain::registry::auth::{Challenge, Credentials};
use domain::registry::error::RegistryError;
use domain::registry::manifest::{MEDIA_TYPES, Manifest};
use domain::registry::settings::Settings;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The longest time until the head of an answer is received, including the connection, and between two parts of its body.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for an image, including tokens and redirects.
const OVERALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest number of redirects of one request.
const MAX_REDIRECTS: usize = 3;
/// The largest size of a manifest in bytes. Source: the distribution specification, "Pushing manifests", demands that registries accept 4
/// MiB.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// An answer of up to this number of bytes is read at once, and a longer one when its turn has come: manifests have some thousand bytes.
const SMALL_BODY_BYTES: usize = 64 * 1024;
/// How many longer answers are in memory at a time. The updater has 256 MB (`MemorySize` of its template) for all the changes of an event.
const MAX_LARGE_BODIES: usize = 2;
/// The largest size of an answer with a token, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// How many manifests are remembered. Each takes some hundred bytes, an index of a thousand platforms some tens of thousands.
const MAX_KNOWN: usize = 256;
const HEAD: &str = "HEAD";
const GET: &str = "GET";
/// The header with the digest of a manifest. Source: "Pulling manifests" in
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A client for registries.
#[derive(Debug)]
pub struct RegistryClient {
    settings: Settings,
    /// Created when it is first needed, because it reads the system's certificates.
    connector: OnceLock<SharedHttpConnector>,
    /// The permits for long answers.
    large_bodies: Semaphore,
    /// The manifests that were read, by registry, repository and digest: what a digest stands for does not change.
    known: Mutex<HashMap<String, Manifest>>,
}

/// An answer, and the URL that it came from.
struct RegistryAnswer {
    from: AllowedUrl,
    response: HttpResponse,
}

impl RegistryClient {
    /// A client with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            connector: OnceLock::new(),
            large_bodies: Semaphore::new(MAX_LARGE_BODIES),
            known: Mutex::default(),
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The turn of an answer that may be long, for callers that send their request by other means.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.large_bodies.acquire().await.ok()
    }

    /// The manifest of `repository` on `host` under `wanted`, which is a tag or a digest. `credentials` is called if the registry demands
    /// credentials.
    ///
    /// # Errors
    ///
    /// Returns an error if the registry does not have it, does not answer as it should, or refers to an address that is not allowed.
    pub async fn manifest(
        &self,
        host: &str,
        repository: &str,
        wanted: &str,
        credentials: impl AsyncFnOnce() -> Result<Option<Credentials>, RegistryError>,
    ) -> Result<Manifest, RegistryError> {
        let asking = self.find(host, repository, wanted, credentials);
        timeout(OVERALL_TIMEOUT, asking).await.unwrap_or_else(|_| Err(too_slow(host, OVERALL_TIMEOUT)))
    }

    async fn find(
        &self,
        host: &str,
        repository: &str,
        wanted: &str,
        credentials: impl AsyncFnOnce() -> Result<Option<Credentials>, RegistryError>,
    ) -> Result<Manifest, RegistryError> {
        let scheme = self.settings.scheme(host);
        let url = AllowedUrl::new(&format!("{scheme}://{host}/v2/{repository}/manifests/{wanted}"), &self.settings)
            .map_err(RegistryError::refused)?;
        let accept = MEDIA_TYPES.join(", ");
        let (mut credentials, mut authorization) = (Some(credentials), None);
        // Docker Hub counts a GET of a manifest as a pull, and a HEAD as none. The digest that a HEAD returns spares the GET where the manifest
        // with this digest was read before. Source: <https://docs.docker.com/docker-hub/usage/pulls/>.
        for method in [HEAD, GET] {
            let mut answer = self.ask(method, &url, &accept, authorization.as_deref()).await?;
            if answer.response.status().as_u16() == 401
                && answer.from.is_of(&url)
                && let Some(credentials) = credentials.take()
            {
                let given = self.authorization(host, repository, &answer.response, credentials).await?;
                answer = self.ask(method, &url, &accept, Some(&given)).await?;
                authorization = Some(given);
            }
            if method == GET {
                return self.manifest_in(answer, (host, repository, wanted)).await;
            }
            let from = &answer.from.host;
            match answer.response.status().as_u16() {
                200 => {
                    if let Some(known) = self.read_before((host, repository), &answer.response) {
                        return Ok(known);
                    }
                }
                401 | 403 => return Err(denied(from, repository)),
                429 | 500.. => return Err(unexpected(from, &answer.response)),
                // A registry that does not know HEAD says what it has by GET.
                _ => {}
            }
        }
        Err(RegistryError::refused(format!("{} was not asked", excerpt(host))))
    }

    /// The manifest that was read before from this repository with the digest that an answer to HEAD has.
    fn read_before(&self, (host, repository): (&str, &str), head: &HttpResponse) -> Option<Manifest> {
        let digest = head.headers().get(CONTENT_DIGEST)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&format!("{host}/{repository}@{digest}")).cloned()
    }

    /// The manifest that an answer to GET has.
    async fn manifest_in(
        &self,
        answer: RegistryAnswer,
        (host, repository, wanted): (&str, &str, &str),
    ) -> Result<Manifest, RegistryError> {
        let from = answer.from.host.clone();
        match answer.response.status().as_u16() {
            200 => {}
            404 => {
                return Err(RegistryError::missing(format!(
                    "{from} has no {wanted} of {repository}, or no such repository"
                )));
            }
            401 | 403 => return Err(denied(&from, repository)),
            _ => return Err(unexpected(&from, &answer.response)),
        }
        let said = answer.response.headers().get(CONTENT_DIGEST).map(str::to_owned);
        let body = self.body(&from, answer.response, MAX_MANIFEST_BYTES).await?;
        let digests = said.iter().map(String::as_str).chain(wanted.starts_with("sha256:").then_some(wanted));
        let manifest = Manifest::read(&body.bytes, digests).map_err(|why| RegistryError::no_image(&from, why))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(format!("{host}/{repository}@{}", manifest.digest), manifest.clone());
        Ok(manifest)
    }

    /// The `Authorization` header that the registry's challenge demands.
    async fn authorization(
        &self,
        host: &str,
        repository: &str,
        refused: &HttpResponse,
        credentials: impl AsyncFnOnce() -> Result<Option<Credentials>, RegistryError>,
    ) -> Result<String, RegistryError> {
        let challenges = refused.headers().get_all("www-authenticate").filter_map(Challenge::read);
        let Some(challenge) = challenges.into_iter().next() else {
            return Err(RegistryError::refused(format!("{host} asks for credentials in a way that is not known here")));
        };
        let credentials = credentials().await?;
        let (realm, service) = match challenge {
            Challenge::Basic => {
                let credentials = credentials.ok_or_else(|| denied(host, repository))?;
                return Ok(basic(&credentials));
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let separator = if realm.contains('?') { '&' } else { '?' };
        let service = service.map(|service| format!("service={}&", escaped(&service))).unwrap_or_default();
        let url = format!("{realm}{separator}{service}scope={}", escaped(&format!("repository:{repository}:pull")));
        let url = AllowedUrl::new(&url, &self.settings).map_err(|why| {
            RegistryError::refused(format!("{host} sends for a token to where it is not asked: {why}"))
        })?;
        if credentials.as_ref().is_some_and(|credentials| !credentials.are_for(host, &url.host)) {
            return Err(RegistryError::refused(format!(
                "{host} sends for a token to {}, and its credentials are not sent there unless token_host in their secret names it",
                excerpt(&url.host)
            )));
        }
        let answer = self.ask(GET, &url, "application/json", credentials.as_ref().map(basic).as_deref()).await?;
        let from = answer.from.host.clone();
        match answer.response.status().as_u16() {
            200 => {}
            400 | 401 | 403 | 404 => return Err(denied(&from, repository)),
            _ => return Err(unexpected(&from, &answer.response)),
        }
        let body = self.body(&from, answer.response, MAX_TOKEN_BYTES).await?;
        let token =
            serde_json::from_slice::<Token>(&body.bytes).ok().and_then(|token| token.token.or(token.access_token));
        let token = token.ok_or_else(|| RegistryError::refused(format!("{from} sent no token")))?;
        Ok(format!("Bearer {token}"))
    }

    /// Asks for `url`, and follows its redirects. `authorization` is sent only to the scheme, host and port of `url`.
    async fn ask(
        &self,
        method: &str,
        url: &AllowedUrl,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<RegistryAnswer, RegistryError> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let authorization = authorization.filter(|_| at.is_of(url));
            let response = self.send(method, &at, accept, authorization).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(RegistryAnswer { from: at, response });
            }
            let location = response.headers().get("location").unwrap_or_default();
            at = at.redirected(location, &self.settings).map_err(|why| {
                RegistryError::refused(format!("{} redirects to where it is not asked: {why}", excerpt(&at.host)))
            })?;
        }
        Err(RegistryError::refused(format!("{} redirects more than {MAX_REDIRECTS} times", excerpt(&url.host))))
    }

    /// The body, if it is not longer than `limit`.
    async fn body(&self, host: &str, response: HttpResponse, limit: usize) -> Result<Body<'_>, RegistryError> {
        let mut stream = ByteStream::new(response.into_body());
        let mut body = Body { bytes: Vec::new(), turn: None };
        loop {
            match timeout(ANSWER_TIMEOUT, stream.next()).await {
                Err(_) => return Err(too_slow(host, ANSWER_TIMEOUT)),
                Ok(None) => return Ok(body),
                Ok(Some(Err(error))) => {
                    return Err(RegistryError::busy(format!("{} ended within its answer: {error}", excerpt(host))));
                }
                Ok(Some(Ok(more))) => {
                    let length = body.bytes.len() + more.len();
                    if length > limit {
                        return Err(RegistryError::refused(format!("{} sent more than {limit} bytes", excerpt(host))));
                    }
                    if length > SMALL_BODY_BYTES && body.turn.is_none() {
                        body.turn = self.turn().await;
                        // Reserved at once, because a growing buffer would leave its smaller predecessors behind.
                        body.bytes.reserve_exact(limit - body.bytes.len());
                    }
                    body.bytes.extend_from_slice(&more);
                }
            }
        }
    }

    async fn send(
        &self,
        method: &str,
        to: &AllowedUrl,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<HttpResponse, RegistryError> {
        let host = excerpt(&to.host);
        let mut request = HttpRequest::new(SdkBody::empty());
        let unusable =
            || RegistryError::refused(format!("{host} cannot be asked so: its answer held what no header can"));
        request.set_method(method).map_err(|_| unusable())?;
        request.set_uri(to.uri.clone()).map_err(|_| unusable())?;
        let headers = [("accept", Some(accept)), ("user-agent", Some(USER_AGENT)), ("authorization", authorization)];
        for (name, value) in headers {
            if let Some(value) = value {
                request.headers_mut().try_insert(name, value.to_owned()).map_err(|_| unusable())?;
            }
        }
        let connector = self.connector.get_or_init(|| connector(&self.settings));
        match timeout(ANSWER_TIMEOUT, connector.call(request)).await {
            Err(_) => Err(too_slow(&host, ANSWER_TIMEOUT)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                if let Some(refused) = refused_address(error) {
                    return Err(RegistryError::refused(refused.0.clone()));
                }
                Err(RegistryError::busy(format!("{host} could not be reached: {}", sdk_error::chain(error))))
            }
        }
    }
}

/// The bytes of an answer. While a long one is in memory, others wait.
struct Body<'a> {
    bytes: Vec<u8>,
    /// Released together with the bytes.
    turn: Option<SemaphorePermit<'a>>,
}

const USER_AGENT: &str = concat!("ecs-updater/", env!("CARGO_PKG_VERSION"));

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(credentials: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", credentials.username, credentials.password)))
}

/// Percent-encodes everything except what RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

fn denied(host: &str, repository: &str) -> RegistryError {
    RegistryError::missing(format!(
        "{} does not show {repository}: it is not there, or needs other credentials than it got (REGISTRY_CREDENTIALS)",
        excerpt(host)
    ))
}

fn too_slow(host: &str, limit: Duration) -> RegistryError {
    RegistryError::busy(format!("{} did not answer within {} s", excerpt(host), limit.as_secs()))
}

fn unexpected(host: &str, response: &HttpResponse) -> RegistryError {
    let host = excerpt(host);
    match response.status().as_u16() {
        429 => {
            let wait = response.headers().get("retry-after").map(excerpt);
            let wait = wait.map_or_else(
                || "a while".to_owned(),
                |wait| match wait.parse::<u64>() {
                    Ok(seconds) => format!("{seconds} s"),
                    Err(_) => format!("until {wait}"),
                },
            );
            RegistryError::busy(format!("{host} has no room for more requests (429): it asks to wait {wait}"))
        }
        status @ 500.. => RegistryError::busy(format!("{host} answered {status}")),
        status => RegistryError::refused(format!("{host} answered {status}")),
    }
}

/// Uses no proxy, because a proxy would resolve names itself.
fn connector(settings: &Settings) -> SharedHttpConnector {
    let resolver = CheckedResolver { settings: settings.clone() };
    SharedHttpConnector::new(
        Connector::builder()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build_with_resolver(resolver),
    )
}

/// Resolves names to addresses that are allowed. The connection uses the address that this returns, so that a name that resolves to another
/// address a moment later gains nothing.
#[derive(Debug, Clone)]
struct CheckedResolver {
    settings: Settings,
}

impl ResolveDns for CheckedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            // One address that is not allowed makes the whole name invalid: a server that answers in this way wants requests to be sent
            // elsewhere.
            match found.iter().find(|address| !self.settings.allows(&name.to_ascii_lowercase(), **address)) {
                Some(address) => Err(ResolveDnsError::new(RefusedAddress(not_allowed(name, *address)))),
                None => Ok(found),
            }
        })
    }
}

#[derive(Debug)]
struct RefusedAddress(String);

impl std::fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RefusedAddress {}

fn refused_address<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a RefusedAddress> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        next = error.source();
    }
    None
}
