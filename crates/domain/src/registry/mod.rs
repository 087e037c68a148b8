//! Where an image is stored, which hosts a registry may make us contact, and what its answers say. Pure, except for
//! `src/aws/registry_client.rs`.
//!
//! The protocol is <https://github.com/opencontainers/distribution-spec/blob/main/spec.md> with the tokens of
//! <https://distribution.github.io/distribution/spec/auth/token/>.

pub mod address;
pub mod auth;
pub mod ecr;
pub mod error;
pub mod manifest;
pub mod settings;

use chrono::{DateTime, Utc};

use crate::image::ImageReference;

/// The host that has the manifests of Docker Hub, and the host that issues its tokens.
const DOCKER_HUB: &str = "registry-1.docker.io";
const DOCKER_HUB_TOKENS: &str = "auth.docker.io";

/// Where an image is stored.
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
    /// Where `image` is stored, with short names of Docker Hub completed.
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

/// The host that is contacted if a reference, or the configuration, names `registry`.
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
        || ["dkr-ecr.", "dkr-ecr-fips."].iter().find_map(|prefix| rest.strip_prefix(prefix)?.strip_suffix(".on.aws"));
    region
        .or_else(dual_stack)
        .filter(|region| !region.is_empty() && !region.contains('.'))
        .map(|region| (account_id, region))
}

/// Tag or digest that a registry is asked for.
#[must_use]
pub fn wanted(image: &ImageReference) -> &str {
    image.digest().or(image.tag()).unwrap_or("latest")
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

#[cfg(test)]
mod tests {
    use super::address::{Reach, reach};
    use super::*;
    use crate::error::Code;
    use crate::registry::address::AllowedUrl;
    use crate::registry::address::excerpt;
    use crate::registry::auth::Challenge;
    use crate::registry::auth::Credentials;
    use crate::registry::error::RegistryError;
    use crate::registry::manifest::Manifest;
    use crate::registry::manifest::NoImage;
    use crate::registry::manifest::is_tag_of_artifact;
    use crate::registry::manifest::platforms;
    use crate::registry::settings::Settings;
    use crate::text::{hex, is_unseen};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};
    use std::net::IpAddr;

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
            // An image with additional layers of another kind is still an image.
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
            prop_assert!(excerpt(&text).chars().count() <= 101);
            let marked = excerpt(&format!("\u{202e}\n{text}"));
            prop_assert!(!marked.contains(is_unseen), "{:?}", marked);
        }
    }
}
