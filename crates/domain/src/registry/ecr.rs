//! Pure: what it means where Amazon ECR does not give an image.

use crate::call_error::CallError;
use crate::registry::error::RegistryError;

/// What an image of a pull through cache needs beside `ecr:BatchGetImage`, the first of a repository `ecr:CreateRepository` too. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html>.
const IMPORT: &str = "ecr:BatchImportUpstreamImage";

/// Why ECR's answer does not have the image: its `failureCode`, and its `failureReason`. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageFailure.html>.
#[must_use]
pub fn image_failure(operation: &str, code: &str, reason: &str) -> RegistryError {
    let what = format!("{operation}: {code}: {reason}");
    match code {
        "ImageNotFound" | "InvalidImageTag" | "InvalidImageDigest" => RegistryError::missing(format!(
            "{what}. A pull through cache has an image once it was pulled by its tag by somebody who may {IMPORT}"
        )),
        // "Archived images cannot be pulled. Requests to pull the archived image will fail with a 404 error."
        // <https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive-image.html>
        "ImageInaccessible" => RegistryError::missing(format!(
            "{what}. An image that is archived cannot be pulled: restore it (ecr:UpdateImageStorageClass), or push it again"
        )),
        "UpstreamTooManyRequests" | "UpstreamUnavailable" => RegistryError::busy(what),
        "UpstreamAccessDenied" => RegistryError::refused(format!("{what}. {CREDENTIALS}")),
        _ => RegistryError::refused(what),
    }
}

/// "Usually caused because of an issue with the Secrets Manager secret containing the credentials for the upstream registry":
/// `UnableToGetUpstreamImageException` in <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>.
const CREDENTIALS: &str = "Check the credentials that the pull through cache rule has for its upstream registry";

/// Why ECR refused the call, or did not answer it. `if_denied` says what allows the call itself.
#[must_use]
pub fn call_failure(call: &CallError, if_denied: &str) -> RegistryError {
    let what = if call.denied() && call.message.contains(IMPORT) {
        format!(
            "{call}: the repository is one of a pull through cache, for which the role needs {IMPORT} too, and ecr:CreateRepository for the first \
             image of a repository. Allow them in the policy of the registry that has the cache"
        )
    } else if call.denied() {
        format!("{call}: {if_denied}")
    } else if call.has_code(&["UnableToGetUpstreamImageException"]) {
        format!("{call}. {CREDENTIALS}")
    } else {
        call.to_string()
    };
    if call.retryable() { RegistryError::busy(what) } else { RegistryError::refused(what) }
}

/// ECR has no such repository.
#[must_use]
pub fn repository_missing(call: &CallError) -> RegistryError {
    RegistryError::missing(format!(
        "{call}. A pull through cache has a repository once an image of it was pulled by somebody who may {IMPORT} and ecr:CreateRepository"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call_error::Effect;

    #[test]
    fn an_upstream_registry_that_is_busy_may_answer_later() {
        for code in ["UpstreamTooManyRequests", "UpstreamUnavailable"] {
            let error = image_failure("ecr:BatchGetImage", code, "no");
            assert!(error.retryable && !error.is_missing && error.what.contains(code), "{error:?}");
        }
        for (code, said) in [("UpstreamAccessDenied", "credentials"), ("KmsError", "KmsError"), ("Later", "Later")] {
            let error = image_failure("ecr:BatchGetImage", code, "no");
            assert!(!error.retryable && !error.is_missing && error.what.contains(said), "{error:?}");
        }
    }

    #[test]
    fn what_cannot_be_pulled_is_told() {
        for (code, said) in [("ImageInaccessible", "archived"), ("ImageNotFound", IMPORT)] {
            let error = image_failure("ecr:BatchGetImage", code, "no");
            assert!(error.is_missing && !error.retryable && error.what.contains(said), "{error:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_allows_it() {
        let refused = |code: &str, message: &str| {
            let call = CallError {
                operation: "ecr:BatchGetImage",
                effect: Effect::Refused,
                code: Some(code.to_owned()),
                message: message.to_owned(),
                request_id: None,
            };
            call_failure(&call, "the updater's policy does not allow it")
        };
        let import =
            refused("AccessDeniedException", "User: x is not authorized to perform: ecr:BatchImportUpstreamImage");
        assert!(
            import.what.contains("pull through cache") && import.what.contains("ecr:CreateRepository"),
            "{import:?}"
        );
        let own = refused("AccessDeniedException", "User: x is not authorized to perform: ecr:BatchGetImage");
        assert!(own.what.ends_with("the updater's policy does not allow it"), "{own:?}");
        assert!(refused("UnableToGetUpstreamImageException", "no").what.contains("upstream registry"));
    }
}
