//! What a manifest says: whether it is an image, and for which platforms.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::registry::address::excerpt;
use crate::text::hex;

/// The types that a manifest, or an index of manifests for several platforms, may have.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The types that a configuration in a manifest may have for the Docker engine to accept the manifest as that of an image; the last ones
/// are types that old versions pushed. Source: `defaultImageTypes` in <https://github.com/moby/moby/blob/v25.0.0/distribution/registry.go>.
const IMAGE_CONFIGS: [&str; 6] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
];

/// The prefixes of the types of layers that hold files. A cosign signature has the configuration of an image, but no such layer. Source:
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>, and `MediaTypeLayer` in
/// <https://github.com/distribution/distribution/blob/main/manifest/schema2/manifest.go>.
const IMAGE_LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// Artifacts other than images that are stored in registries: the prefixes of their types, and what they are in words.
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

/// The maximum number of entries of an index that are read. An image has a few tens, including its attestations.
const MAX_INDEX_ENTRIES: usize = 1_000;

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
    /// If it is not the manifest of an image, or its bytes have another digest.
    pub fn read<'a>(body: &[u8], digests: impl IntoIterator<Item = &'a str>) -> Result<Self, NoImage> {
        let digest = format!("sha256:{}", hex(&Sha256::digest(body)));
        // Digests by another algorithm cannot be compared; the bytes are pinned by sha256 all the same.
        if let Some(other) = digests.into_iter().find(|other| other.starts_with("sha256:") && *other != digest) {
            let what = format!("what it sent has the digest {digest}, and should have {}", excerpt(other));
            return Err(NoImage::Unusable(what));
        }
        Ok(Self { digest, platforms: platforms(body)? })
    }
}

/// Why what a registry sent is not an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoImage {
    /// It cannot be used, for the reason in this sentence.
    Unusable(String),
    /// It is something else, which nobody can run; the sentence says what.
    Artifact(String),
}

/// The platforms of an index, each once; empty for a manifest of one image. Attestations are listed in an index as `unknown/unknown`. The
/// index is read entry by entry, because a tree of four megabytes of small members takes a hundred times as much memory.
///
/// # Errors
///
/// If it is not a manifest, or is an index that no image has, or is the manifest of something other than an image.
pub fn platforms(manifest: &[u8]) -> Result<Vec<String>, NoImage> {
    let unusable = || NoImage::Unusable("what it sent is no image manifest".to_owned());
    let manifest: Document = serde_json::from_slice(manifest).map_err(|_| unusable())?;
    let of_all = manifest.artifact_type.as_deref().filter(|kind| !kind.is_empty());
    if let Some(Platforms { platforms, artifact }) = manifest.manifests {
        // The index of an image names no artifact type; a list of what refers to an image names one in each entry. Source: "Referrers Tag
        // Schema" in <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>.
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
    format!("it is {it_is}, and no container image: its {what} is {}", excerpt(media_type))
}

/// Whether a type that Amazon ECR reports for an artifact can be that of an image: the type of its configuration, or of its index.
#[must_use]
pub fn is_image_type(media_type: &str) -> bool {
    IMAGE_CONFIGS.contains(&media_type) || MEDIA_TYPES.contains(&media_type)
}

/// Whether a tag is one under which tools store what belongs to an image, and never an image: `sha256-…`, which is used for lists of
/// referrers, or the same followed by `.sig`, `.att` or `.sbom`, which cosign uses. Source: "Tag-based discovery" in
/// <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>.
#[must_use]
pub fn is_tag_of_artifact(tag: &str) -> bool {
    let Some(digest) = tag.strip_prefix("sha256-") else { return false };
    let digest = [".sig", ".att", ".sbom"].iter().find_map(|end| digest.strip_suffix(end)).unwrap_or(digest);
    digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The parts of a manifest or index that are read; everything else in it is ignored.
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
    /// The type of the first layer, if no layer can hold files of an image.
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
                    artifact.get_or_insert_with(|| excerpt(kind));
                }
                // A layer without a type may hold anything.
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
    /// The type of the first entry, if each entry has one.
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
                Some(kind) if !kind.is_empty() => _ = artifact.get_or_insert_with(|| excerpt(kind)),
                _ => has_images = true,
            }
            let Some(Platform { os: Some(os), architecture: Some(architecture) }) = entry.platform else { continue };
            if os != "unknown" {
                platforms.insert(excerpt(&format!("{os}/{architecture}")));
            }
        }
        Ok(Platforms { platforms, artifact: artifact.filter(|_| !has_images) })
    }
}
