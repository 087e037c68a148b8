//! Where an image lives, whom a registry may make us ask, and what its answers say. Pure, but for [`client`].
//!
//! The protocol is <https://github.com/opencontainers/distribution-spec/blob/main/spec.md> with the tokens of
//! <https://distribution.github.io/distribution/spec/auth/token/>.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, Utc};
use http::Uri;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::error::{Code, Failure, Fault};
use crate::image::ImageReference;
use crate::text::{hex, is_unseen};

/// Docker Hub under the name that has its manifests, and where its tokens come from.
const DOCKER_HUB: &str = "registry-1.docker.io";
const DOCKER_HUB_TOKENS: &str = "auth.docker.io";

/// What a manifest, or an index of manifests for several platforms, may be.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What a configuration in a manifest may be for the Docker engine to take the manifest for an image's; the last ones are what old
/// versions pushed. Source: `defaultImageTypes` in <https://github.com/moby/moby/blob/v25.0.0/distribution/registry.go>.
const IMAGE_CONFIGS: [&str; 6] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
];

/// How the types of layers begin that hold files. A cosign signature has the configuration of an image, and none of them. Source:
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>, and `MediaTypeLayer` in
/// <https://github.com/distribution/distribution/blob/main/manifest/schema2/manifest.go>.
const IMAGE_LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// Types of what lies in registries beside images, by their beginning, in words.
const ARTIFACTS: [(&str, &str); 10] = [
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.dev.cosign.", "a cosign signature"),
    ("application/vnd.dev.sigstore.", "a Sigstore bundle"),
    ("application/vnd.cncf.notary.", "a Notary signature"),
    ("application/vnd.dsse.", "an attestation"),
    ("application/vnd.in-toto", "an attestation"),
    ("application/vnd.cyclonedx", "a software bill of materials"),
    ("application/spdx", "a software bill of materials"),
    ("text/spdx", "a software bill of materials"),
    ("application/vnd.amazon.soci.", "an index for lazy loading"),
];

/// The most entries of an index that is read. An image has some tens, with its attestations.
const MAX_INDEX_ENTRIES: usize = 1_000;

/// What is configured about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `REGISTRY_CREDENTIALS`: host, with its port where it has one, to the ARN of a secret.
    pub credentials: BTreeMap<String, String>,
    /// `REGISTRY_ALLOW_HTTP`: hosts, with their port where they have one, that are asked over http.
    pub allow_http: BTreeSet<String>,
    /// `REGISTRY_ALLOW_PRIVATE`: host names or addresses, without port, that may be in a private network.
    pub allow_private: BTreeSet<String>,
}

/// Where an image lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A private repository of Amazon ECR.
    Ecr {
        /// The account that holds the repository.
        account_id: String,
        /// Its region.
        region: String,
        /// The repository, without the registry.
        repository: String,
    },
    /// Any other registry.
    Registry {
        /// Host, with its port where the reference has one.
        host: String,
        /// The repository, without the registry.
        repository: String,
    },
}

impl Location {
    /// Where `image` lives, short names of Docker Hub filled in.
    #[must_use]
    pub fn of(image: &ImageReference) -> Self {
        let (host, repository) = match image.repository().split_once('/') {
            Some((host, rest)) if host == "localhost" || crate::image::is_registry(host) => (host, rest.to_owned()),
            Some(_) => ("docker.io", image.repository().to_owned()),
            None => ("docker.io", format!("library/{}", image.repository())),
        };
        if let Some((account_id, region)) = ecr(host) {
            return Self::Ecr { account_id: account_id.to_owned(), region: region.to_owned(), repository };
        }
        let host = self::host(host);
        let repository =
            if host == DOCKER_HUB && !repository.contains('/') { format!("library/{repository}") } else { repository };
        Self::Registry { host, repository }
    }
}

/// The host that is asked where a reference, or the configuration, names `registry`.
#[must_use]
pub fn host(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" => DOCKER_HUB.to_owned(),
        host => host.to_ascii_lowercase(),
    }
}

/// Account and region of an ECR registry's host. Source: "Private registry" in the Amazon ECR user guide.
fn ecr(host: &str) -> Option<(&str, &str)> {
    let (account_id, rest) = host.split_once('.')?;
    if account_id.len() != 12 || !account_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let region = ["dkr.ecr.", "dkr.ecr-fips."].iter().find_map(|prefix| {
        let rest = rest.strip_prefix(prefix)?;
        ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"]
            .iter()
            .find_map(|suffix| rest.strip_suffix(suffix)?.strip_suffix('.'))
    });
    let dual_stack =
        || ["dkr-ecr.", "dkr-ecr-fips."].iter().find_map(|it| rest.strip_prefix(it)?.strip_suffix(".on.aws"));
    region.or_else(dual_stack).filter(|region| !region.is_empty() && !region.contains('.')).map(|it| (account_id, it))
}

/// Tag or digest that a registry is asked for.
#[must_use]
pub fn wanted(image: &ImageReference) -> &str {
    image.digest().or(image.tag()).unwrap_or("latest")
}

/// What a registry has under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `sha256:…` of its bytes.
    pub digest: String,
    /// `os/architecture` of each image of an index; empty for a manifest of one image, which does not name its own.
    pub platforms: Vec<String>,
}

impl Manifest {
    /// Reads a manifest. `digests` are what the registry, the header and the reference say its digest is.
    ///
    /// # Errors
    ///
    /// Where it is no manifest of an image, or its bytes have another digest.
    pub fn read<'a>(body: &[u8], digests: impl IntoIterator<Item = &'a str>) -> Result<Self, NoImage> {
        let digest = format!("sha256:{}", hex(&Sha256::digest(body)));
        // Digests by another algorithm cannot be compared; the bytes are pinned by sha256 all the same.
        if let Some(other) = digests.into_iter().find(|other| other.starts_with("sha256:") && *other != digest) {
            let what = format!("what it sent has the digest {digest}, and should have {}", shown(other));
            return Err(NoImage::Unusable(what));
        }
        Ok(Self { digest, platforms: platforms(body)? })
    }
}

/// Why what a registry sent is no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoImage {
    /// It cannot be used: a sentence.
    Unusable(String),
    /// It is something else, which nobody can run: what, in a sentence.
    Artifact(String),
}

/// The platforms of an index, each once; empty for a manifest of one image. Attestations stand in an index as `unknown/unknown`. It is
/// read entry by entry, since a tree of four megabytes of small members takes a hundred times their memory.
///
/// # Errors
///
/// Where it is no manifest, an index that no image has, or the manifest of something else than an image.
pub fn platforms(manifest: &[u8]) -> Result<Vec<String>, NoImage> {
    let unusable = || NoImage::Unusable("what it sent is no image manifest".to_owned());
    let manifest: Document = serde_json::from_slice(manifest).map_err(|_| unusable())?;
    let of_all = manifest.artifact_type.as_deref().filter(|kind| !kind.is_empty());
    if let Some(Platforms { platforms, artifact }) = manifest.manifests {
        // An image's index names no type; a list of what refers to an image has one with each entry. Source: "Referrers Tag Schema" in
        // <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>.
        return match of_all.map(str::to_owned).or(artifact.filter(|_| platforms.is_empty())) {
            Some(kind) => Err(NoImage::Artifact(artifact_in_words("type", &kind))),
            None => Ok(platforms.into_iter().collect()),
        };
    }
    let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else { return Err(unusable()) };
    match config.media_type.as_deref() {
        Some(config) if !IMAGE_CONFIGS.contains(&config) => {
            let (what, kind) = of_all.map_or(("configuration", config), |kind| ("type", kind));
            Err(NoImage::Artifact(artifact_in_words(what, kind)))
        }
        _ => match layers.artifact {
            Some(kind) => Err(NoImage::Artifact(artifact_in_words("content", &kind))),
            None => Ok(Vec::new()),
        },
    }
}

fn artifact_in_words(what: &str, media_type: &str) -> String {
    let known = ARTIFACTS.iter().find(|(begins, _)| media_type.starts_with(begins));
    let it_is = known.map_or("something else", |(_, words)| words);
    format!("it is {it_is}, and no container image: its {what} is {}", shown(media_type))
}

/// Whether a type that Amazon ECR gives an artifact can be an image's: that of its configuration, or of its index.
#[must_use]
pub fn is_image_type(media_type: &str) -> bool {
    IMAGE_CONFIGS.contains(&media_type) || MEDIA_TYPES.contains(&media_type)
}

/// Whether a tag is one under which tools keep what belongs to an image, and never an image: `sha256-…`, as referrers' lists have it,
/// and with `.sig`, `.att` or `.sbom` behind it, as cosign has it. Source: "Tag-based discovery" in
/// <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>.
#[must_use]
pub fn is_tag_of_artifact(tag: &str) -> bool {
    let Some(digest) = tag.strip_prefix("sha256-") else { return false };
    let digest = [".sig", ".att", ".sbom"].iter().find_map(|end| digest.strip_suffix(end)).unwrap_or(digest);
    digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What is read of a manifest or index; whatever else is in it is passed over.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(rename = "artifactType", borrow)]
    artifact_type: Option<Cow<'a, str>>,
    manifests: Option<Platforms>,
    #[serde(borrow)]
    config: Option<Content<'a>>,
    layers: Option<Layers>,
}

/// A configuration or a layer.
#[derive(Deserialize)]
struct Content<'a> {
    #[serde(rename = "mediaType", borrow)]
    media_type: Option<Cow<'a, str>>,
}

/// The layers of a manifest, read one after the other.
struct Layers {
    /// The type of the first one, where none can hold files of an image.
    artifact: Option<String>,
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EachLayer)
    }
}

struct EachLayer;

impl<'de> Visitor<'de> for EachLayer {
    type Value = Layers;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("layers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut layers: A) -> Result<Self::Value, A::Error> {
        let (mut artifact, mut holds_files) = (None, false);
        while let Some(layer) = layers.next_element::<Content<'de>>()? {
            match layer.media_type.as_deref() {
                Some(kind) if !IMAGE_LAYERS.iter().any(|begins| kind.starts_with(begins)) => {
                    artifact.get_or_insert_with(|| shown(kind));
                }
                // One without a type may hold anything.
                _ => holds_files = true,
            }
        }
        Ok(Layers { artifact: artifact.filter(|_| !holds_files) })
    }
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "artifactType", borrow)]
    artifact_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    platform: Option<Platform<'a>>,
}

#[derive(Deserialize)]
struct Platform<'a> {
    #[serde(borrow)]
    os: Option<Cow<'a, str>>,
    #[serde(borrow)]
    architecture: Option<Cow<'a, str>>,
}

/// The platforms of a list of entries, read one after the other.
struct Platforms {
    platforms: BTreeSet<String>,
    /// The type of the first entry, where each has one.
    artifact: Option<String>,
}

impl<'de> Deserialize<'de> for Platforms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Platforms;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {MAX_INDEX_ENTRIES} manifests")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut platforms = BTreeSet::new();
        let (mut artifact, mut has_images) = (None, false);
        let mut count = 0;
        while let Some(entry) = entries.next_element::<Entry<'de>>()? {
            count += 1;
            if count > MAX_INDEX_ENTRIES {
                return Err(A::Error::invalid_length(count, &self));
            }
            match entry.artifact_type.as_deref() {
                Some(kind) if !kind.is_empty() => _ = artifact.get_or_insert_with(|| shown(kind)),
                _ => has_images = true,
            }
            let Some(Platform { os: Some(os), architecture: Some(architecture) }) = entry.platform else { continue };
            if os != "unknown" {
                platforms.insert(shown(&format!("{os}/{architecture}")));
            }
        }
        Ok(Platforms { platforms, artifact: artifact.filter(|_| !has_images) })
    }
}

/// An image of a repository that has tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// `sha256:…`.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When its digest was first pushed: another tag for it later does not change that. Source:
    /// <https://github.com/aws/containers-roadmap/issues/214>.
    pub pushed_at: DateTime<Utc>,
}

/// Name and password for a registry, as the secrets hold them that ECS takes for private registries.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// A further host that may be sent them, because the registry's tokens come from there.
    pub token_host: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Whether `host` may be sent the credentials for `registry`.
    #[must_use]
    pub fn are_for(&self, registry: &str, host: &str) -> bool {
        host == registry
            || self.token_host.as_deref() == Some(host)
            || (registry == DOCKER_HUB && host == DOCKER_HUB_TOKENS)
    }
}

/// How a registry wants to be asked. Source: RFC 9110, section 11.6.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// With name and password.
    Basic,
    /// With a token from `realm`.
    Bearer {
        /// URL that gives tokens.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; none where it asks for what we cannot do.
    #[must_use]
    pub fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let mut parameters = scheme.eq_ignore_ascii_case("bearer").then(|| parameters(rest))?;
        Some(Self::Bearer { realm: parameters.remove("realm")?, service: parameters.remove("service") })
    }
}

/// `name=value` and `name="value"`, joined by commas.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let value;
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some((inside, after)) = quoted.split_once('"') else { break };
            (value, text) = (inside, after);
        } else {
            (value, text) = rest.split_once(',').unwrap_or((rest, ""));
        }
        parameters.entry(name).or_insert_with(|| value.trim().to_owned());
    }
    parameters
}

/// A URL that may be asked: https, or http where that is allowed; no user in it; no address that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedUrl {
    /// The whole URL.
    pub uri: Uri,
    /// Host, with its port where the URL has one.
    pub host: String,
}

impl AllowedUrl {
    /// Checks a URL.
    ///
    /// # Errors
    ///
    /// A sentence that shows no more of the URL than its host: the rest may be signed.
    pub fn new(url: &str, settings: &Settings) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
        if authority.is_empty() || authority.contains('@') {
            return Err("it names no host, or a user".to_owned());
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let name = shown(&authority);
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if settings.allow_http.contains(&authority) => {}
            _ => return Err(format!("{name} is not asked over https, and REGISTRY_ALLOW_HTTP does not name it")),
        }
        // A name is checked when it is resolved; an address is not resolved.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = address.parse()
            && !settings.allows(&host, address)
        {
            return Err(not_allowed(&host, address));
        }
        Ok(Self { uri, host: authority })
    }

    /// The URL that a redirect of this one leads to: a whole URL, or a path on the same host.
    ///
    /// # Errors
    ///
    /// A sentence, where it may not be asked.
    pub fn redirected(&self, location: &str, settings: &Settings) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let scheme = self.uri.scheme_str().unwrap_or("https");
            return Self::new(&format!("{scheme}://{}{location}", self.host), settings);
        }
        Self::new(location, settings)
    }

    /// Whether both are the same scheme, host and port.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.uri.scheme() == other.uri.scheme() && self.host == other.host
    }
}

/// Why an address is not asked.
#[must_use]
pub fn not_allowed(host: &str, address: IpAddr) -> String {
    format!(
        "{} is {address}, and an address of a private network is asked only where REGISTRY_ALLOW_PRIVATE names the host",
        shown(host)
    )
}

impl Settings {
    /// Whether `host` may be asked at `address`.
    #[must_use]
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private.contains(host),
            Reach::Never => false,
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self, host: &str) -> &'static str {
        if self.allow_http.contains(host) { "http" } else { "https" }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Public,
    /// Where a registry may stand, if whoever configured the function says so.
    Private,
    /// Where metadata services and no registries are, or nothing is.
    Never,
}

/// Source: the IANA special-purpose address registries.
fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    if address.is_link_local() || address.is_multicast() || a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) {
        Reach::Never
    } else if address.is_loopback()
        || address.is_private()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    if let Some(inner) = inner_v4(address) {
        return reach_v4(inner);
    }
    // The metadata services of EC2 and ECS have unique local addresses under fd00:ec2::/32.
    if address.is_unicast_link_local()
        || address.is_multicast()
        || address.is_unspecified()
        || segments[..2] == [0xfd00, 0x0ec2]
    {
        Reach::Never
    } else if address.is_loopback()
        || address.is_unique_local()
        || segments[..2] == [0x2001, 0x0db8]
        || segments[0] & 0xffc0 == 0xfec0
    {
        Reach::Private
    } else if segments[0] & 0xe000 == 0x2000 {
        Reach::Public
    } else {
        Reach::Never
    }
}

/// The IPv4 address that a mapped, translated (NAT64) or tunnelled (6to4) one leads to.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => address.to_ipv4_mapped(),
    }
}

/// At most 100 characters of what a registry sent, without those that would forge lines of a log.
#[must_use]
pub fn shown(text: &str) -> String {
    let text: String = text.chars().map(|c| if is_unseen(c) { '?' } else { c }).take(101).collect();
    if text.chars().count() > 100 { text.chars().take(100).chain(['…']).collect() } else { text }
}

/// Why an image could not be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// What happened, in a sentence that holds no secret.
    pub what: String,
    /// Whether the registry said that it has no such image, or none for us.
    pub is_missing: bool,
    /// Whether what it has is something else than an image.
    pub is_artifact: bool,
    /// Whether the same event may succeed later.
    pub retryable: bool,
    /// Who has to do something about it.
    pub fault: Fault,
}

impl RegistryError {
    /// The registry has no such image.
    #[must_use]
    pub fn missing(what: impl Into<String>) -> Self {
        Self { is_missing: true, retryable: false, ..Self::busy(what) }
    }

    /// What it has is no image.
    #[must_use]
    pub fn artifact(what: impl Into<String>) -> Self {
        Self { is_artifact: true, retryable: false, ..Self::busy(what) }
    }

    /// What `from` sent is no image.
    #[must_use]
    pub fn no_image(from: &str, why: NoImage) -> Self {
        match why {
            NoImage::Unusable(what) => Self::refused(format!("{from}: {what}")),
            NoImage::Artifact(what) => Self::artifact(format!("{from}: {what}")),
        }
    }

    /// It did not answer, or has no room for us now.
    #[must_use]
    pub fn busy(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_missing: false, is_artifact: false, retryable: true, fault: Fault::Caller }
    }

    /// What it answered cannot be used, or leads where we do not go.
    #[must_use]
    pub fn refused(what: impl Into<String>) -> Self {
        Self { retryable: false, fault: Fault::Operator, ..Self::busy(what) }
    }

    /// The failure of a change that asked for `image`.
    #[must_use]
    pub fn into_failure(self, image: &ImageReference) -> Failure {
        let (code, verb) = if self.is_missing {
            (Code::ImageNotFound, "was not found")
        } else if self.is_artifact {
            (Code::InvalidImage, "cannot be run")
        } else {
            (Code::RegistryUnavailable, "could not be looked up")
        };
        Failure::new(code, format!("with image {image}: it {verb}: {}", self.what))
            .retryable(self.retryable)
            .by(self.fault)
            .and("Nothing was changed in the target account.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn location(image: &str) -> Location {
        Location::of(&ImageReference::parse(image).unwrap())
    }

    #[test]
    fn images_live_where_registries_say() {
        for (image, host, repository) in [
            ("nginx", DOCKER_HUB, "library/nginx"),
            ("team/app:1", DOCKER_HUB, "team/app"),
            ("docker.io/nginx:1", DOCKER_HUB, "library/nginx"),
            ("index.docker.io/team/app", DOCKER_HUB, "team/app"),
            ("localhost/app", "localhost", "app"),
            ("localhost:5000/team/app:1", "localhost:5000", "team/app"),
            ("public.ecr.aws/docker/library/busybox:1", "public.ecr.aws", "docker/library/busybox"),
            ("Registry/app", "registry", "app"),
            ("22222222222.dkr.ecr.eu-west-1.amazonaws.com/app", "22222222222.dkr.ecr.eu-west-1.amazonaws.com", "app"),
            ("222222222222.dkr.ecr.evil.example/app", "222222222222.dkr.ecr.evil.example", "app"),
            ("222222222222.dkr.ecr.a.b.amazonaws.com/app", "222222222222.dkr.ecr.a.b.amazonaws.com", "app"),
        ] {
            let expected = Location::Registry { host: host.to_owned(), repository: repository.to_owned() };
            assert_eq!(location(image), expected, "{image}");
        }
        for (host, region) in [
            ("222222222222.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1"),
            ("222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("222222222222.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("222222222222.dkr-ecr.eu-west-1.on.aws", "eu-west-1"),
        ] {
            let expected = Location::Ecr {
                account_id: "222222222222".to_owned(),
                region: region.to_owned(),
                repository: "team/app".to_owned(),
            };
            assert_eq!(location(&format!("{host}/team/app:7")), expected);
        }
    }

    #[test]
    fn private_addresses_are_asked_where_allowed_and_link_local_ones_never() {
        let settings =
            Settings { allow_private: ["registry.lan".to_owned(), "[::1]".to_owned()].into(), ..Settings::default() };
        for (address, expected) in [
            ("8.8.8.8", Reach::Public),
            ("100.63.0.1", Reach::Public),
            ("100.64.0.1", Reach::Private),
            ("127.0.0.1", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("169.254.169.254", Reach::Never),
            ("169.254.170.2", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("2600:1f18::1", Reach::Public),
            ("::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fd00:ec2::254", Reach::Never),
            ("fe80::1", Reach::Never),
            ("::", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("2002:7f00:1::", Reach::Private),
            ("ff02::1", Reach::Never),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(reach(parsed), expected, "{address}");
            assert_eq!(settings.allows("other.example", parsed), expected == Reach::Public, "{address}");
            assert_eq!(settings.allows("registry.lan", parsed), expected != Reach::Never, "{address}");
        }
    }

    #[test]
    fn urls_are_asked_over_https_at_public_addresses_only() {
        let settings = Settings {
            allow_http: ["127.0.0.1:5000".to_owned()].into(),
            allow_private: ["127.0.0.1".to_owned()].into(),
            ..Settings::default()
        };
        let target = |url: &str| AllowedUrl::new(url, &settings);
        let registry = target("http://127.0.0.1:5000/v2/").unwrap();
        assert_eq!(registry.host, "127.0.0.1:5000");
        assert_eq!(target("https://Registry.Example/x").unwrap().host, "registry.example");
        for (url, why) in [
            ("http://registry.example/x", "not asked over https"),
            ("http://127.0.0.1:5001/x", "not asked over https"),
            ("ftp://registry.example/x", "not asked over https"),
            ("https://10.0.0.1/x", "REGISTRY_ALLOW_PRIVATE"),
            ("https://169.254.169.254/latest", "REGISTRY_ALLOW_PRIVATE"),
            ("https://[::1]/x", "REGISTRY_ALLOW_PRIVATE"),
            ("https://me@registry.example/x", "or a user"),
            ("/x", "no host"),
            ("", "no URL"),
            ("https://a b/", "no URL"),
        ] {
            let fault = target(url).unwrap_err();
            assert!(fault.contains(why), "{url}: {fault}");
        }
        let to = |location: &str| registry.redirected(location, &settings);
        assert!(to("/other?x=1").unwrap().is_of(&registry));
        assert!(!to("https://cdn.example/blob").unwrap().is_of(&registry));
        assert!(to("//cdn.example/blob").is_err() && to("relative").is_err());
        assert!(!to("http://cdn.example/?signature=do-not-show").unwrap_err().contains("signature"));
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, challenge) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"a:b:pull,push\"",
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            ("bearer service=x, realm=https://a/t", bearer("https://a/t", Some("x"))),
            ("Bearer realm=\"https://a/t\"", bearer("https://a/t", None)),
            ("Bearer", None),
            ("Bearer realm=\"open", None),
            ("Digest realm=\"x\"", None),
            ("", None),
        ] {
            assert_eq!(Challenge::read(header), challenge, "{header}");
        }
    }

    #[test]
    fn credentials_go_to_their_registry_and_where_its_tokens_come_from() {
        let credentials = |token_host: Option<&str>| Credentials {
            username: "u".to_owned(),
            password: "p".to_owned(),
            token_host: token_host.map(str::to_owned),
        };
        assert!(credentials(None).are_for("registry.example", "registry.example"));
        assert!(!credentials(None).are_for("registry.example", "auth.example"));
        assert!(credentials(Some("auth.example")).are_for("registry.example", "auth.example"));
        assert!(credentials(None).are_for(DOCKER_HUB, DOCKER_HUB_TOKENS));
        assert!(!credentials(None).are_for("registry.example", DOCKER_HUB_TOKENS));
        assert_eq!(format!("{:?}", credentials(None)), "Credentials");
    }

    #[test]
    fn a_manifest_is_what_its_digest_says() {
        let manifest = json!({"schemaVersion": 2, "config": {}, "layers": []}).to_string();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&manifest)));
        let read = Manifest::read(manifest.as_bytes(), [digest.as_str()]).unwrap();
        assert_eq!(read, Manifest { digest, platforms: Vec::new() });
        let wrong = format!("sha256:{}", "0".repeat(64));
        let why = Manifest::read(manifest.as_bytes(), [wrong.as_str()]).unwrap_err();
        assert!(matches!(&why, NoImage::Unusable(why) if why.contains("should have sha256:00")), "{why:?}");
        for other in ["", "<html>", "{}", "{\"schemaVersion\": 1, \"fsLayers\": []}"] {
            assert!(matches!(Manifest::read(other.as_bytes(), []), Err(NoImage::Unusable(_))), "{other}");
        }
        let platform = |os: &str, architecture: &str| json!({"platform": {"os": os, "architecture": architecture}});
        let index = json!({"manifests": [platform("linux", "arm64"), platform("linux", "amd64"), platform("unknown", "unknown")]});
        let read = Manifest::read(index.to_string().as_bytes(), []).unwrap();
        assert_eq!(read.platforms, ["linux/amd64", "linux/arm64"]);
    }

    #[test]
    fn what_is_no_image_is_told_by_what_it_is() {
        let manifest = |config: Value, layers: &[&str]| {
            let layers: Vec<Value> = layers.iter().map(|kind| json!({"mediaType": kind, "size": 1})).collect();
            json!({"schemaVersion": 2, "config": config, "layers": layers})
        };
        let typed = |kind: &str| json!({"mediaType": kind, "size": 1});
        let image = "application/vnd.oci.image.config.v1+json";
        let empty = "application/vnd.oci.empty.v1+json";
        let of_type = |mut manifest: Value, kind: &str| {
            manifest["artifactType"] = kind.into();
            manifest
        };
        for (what, manifest) in [
            (
                "a Helm chart",
                manifest(
                    typed("application/vnd.cncf.helm.config.v1+json"),
                    &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
                ),
            ),
            ("a cosign signature", manifest(typed(image), &["application/vnd.dev.cosign.simplesigning.v1+json"])),
            ("an attestation", manifest(typed(image), &["application/vnd.dsse.envelope.v1+json"; 2])),
            ("a software bill of materials", manifest(typed(image), &["text/spdx+json"])),
            (
                "a Sigstore bundle",
                of_type(manifest(typed(empty), &[]), "application/vnd.dev.sigstore.bundle.v0.3+json"),
            ),
            (
                "something else",
                manifest(typed("application/vnd.example+json"), &["application/vnd.oci.image.layer.v1.tar+gzip"]),
            ),
            ("a Notary signature", json!({"manifests": [{"artifactType": "application/vnd.cncf.notary.signature"}]})),
            ("something else", of_type(json!({"manifests": []}), "application/vnd.example+json")),
        ] {
            let read = platforms(manifest.to_string().as_bytes());
            let Err(NoImage::Artifact(why)) = read else { panic!("{manifest}: {read:?}") };
            assert!(why.starts_with(&format!("it is {what}, and no container image: its ")), "{why}");
            let failure = RegistryError::no_image("r", NoImage::Artifact(why.clone()))
                .into_failure(&ImageReference::parse("r/app:1").unwrap());
            assert_eq!((failure.code, failure.retryable), (Code::InvalidImage, false));
            assert!(failure.message.contains(&why), "{}", failure.message);
        }
        for manifest in [
            manifest(typed(image), &["application/vnd.oci.image.layer.v1.tar+zstd"]),
            manifest(
                typed("application/vnd.docker.container.image.v1+json"),
                &["application/vnd.docker.image.rootfs.diff.tar.gzip"],
            ),
            manifest(typed("application/octet-stream"), &["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"]),
            // What an image adds to its layers does not make it another thing.
            manifest(typed(image), &["application/vnd.example", "application/vnd.oci.image.layer.v1.tar"]),
            of_type(manifest(typed(image), &["application/vnd.oci.image.layer.v1.tar"]), "application/vnd.example"),
            manifest(json!({}), &[]),
            json!({"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}, {"artifactType": "application/vnd.example"}]}),
            json!({"manifests": []}),
        ] {
            assert!(platforms(manifest.to_string().as_bytes()).is_ok(), "{manifest}");
        }
    }

    #[test]
    fn tags_of_signatures_are_no_tags_of_images() {
        let digest = "0123456789abcdef".repeat(4);
        for end in ["", ".sig", ".att", ".sbom"] {
            assert!(is_tag_of_artifact(&format!("sha256-{digest}{end}")), "{end}");
        }
        for tag in ["release-7", "sha256-0123", &format!("sha256-{digest}.tar"), &format!("sha-{digest}.sig"), &digest]
        {
            assert!(!is_tag_of_artifact(tag), "{tag}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_registry_sends_panics(text: String, bytes: Vec<u8>) {
            let _ = Challenge::read(&text);
            let _ = Challenge::read(&format!("Bearer {text}"));
            let _ = Manifest::read(&bytes, [text.as_str()]);
            let settings = Settings::default();
            let registry = AllowedUrl::new("https://registry.example/", &settings).unwrap();
            let _ = registry.redirected(&text, &settings);
            prop_assert!(shown(&text).chars().count() <= 101);
            let marked = shown(&format!("\u{202e}\n{text}"));
            prop_assert!(!marked.contains(is_unseen), "{:?}", marked);
        }
    }
}
