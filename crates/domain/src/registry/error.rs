//! Why a registry could not say what an image is.

use crate::error::{Code, Failure, Fault};
use crate::image::ImageReference;
use crate::registry::manifest::NoImage;

/// Why an image could not be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// What happened, in a sentence that holds no secret.
    pub what: String,
    /// Whether the registry said that it has no such image, or none that we may read.
    pub is_missing: bool,
    /// Whether what the registry has is something other than an image.
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

    /// What the registry has is not an image.
    #[must_use]
    pub fn artifact(what: impl Into<String>) -> Self {
        Self { is_artifact: true, retryable: false, ..Self::busy(what) }
    }

    /// What `from` sent is not an image.
    #[must_use]
    pub fn no_image(from: &str, why: NoImage) -> Self {
        match why {
            NoImage::Unusable(what) => Self::refused(format!("{from}: {what}")),
            NoImage::Artifact(what) => Self::artifact(format!("{from}: {what}")),
        }
    }

    /// The registry did not answer, or is too busy now.
    #[must_use]
    pub fn busy(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_missing: false, is_artifact: false, retryable: true, fault: Fault::Caller }
    }

    /// The registry's answer cannot be used, or leads to a place that must not be contacted.
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
