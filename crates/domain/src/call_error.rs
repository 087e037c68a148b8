//! A call to AWS that failed: what it may have done, and whether it may succeed later.

use std::error::Error;
use std::fmt;

use crate::mask::Mask;
use crate::text::one_line;

/// What a failed call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// AWS refused it: nothing was done, and the same call would be refused again.
    Refused,
    /// AWS throttled it: nothing was done.
    Throttled,
    /// It never reached AWS: nothing was done.
    NotSent,
    /// The answer is lost, cannot be read, or is a 5xx: the call may have been carried out.
    Unknown,
}

/// Temporary refusals of ECS: the error codes that they come with (an empty list matches any code), and a part of the message that no final
/// refusal contains.
const PASSING: [(&[&str], &str); 6] = [
    // Concurrent registrations of one family: lasts seconds. <https://github.com/hashicorp/terraform-provider-aws/issues/9777>
    (&[], "Too many concurrent attempts to create a new revision"),
    // Lasts until the tasks of an older deployment have stopped: minutes, or up to 48 hours if they are protected.
    // <https://github.com/aws/containers-roadmap/issues/2836> (one source, which does not name the code)
    (&[], "active deployments exist"),
    // Lasts until a listener refers to the target group: Terraform retries for minutes.
    // <https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/1868>
    (&["InvalidParameterException"], "does not have an associated load balancer"),
    // A role that is new: IAM is eventually consistent. <https://github.com/hashicorp/terraform/pull/14708>
    (&["InvalidParameterException"], "Unable to assume role and validate"),
    // The first use of ECS in an account: ECS creates the role. <https://github.com/awslabs/fargatecli/issues/35>
    (&["InvalidParameterException"], "Unable to assume the service linked role"),
    // A role or a policy that is new. <https://github.com/terraform-aws-modules/terraform-aws-ecs/issues/414>
    (&["AccessDeniedException"], "iam:PassRole"),
];

/// What AWS says of credentials that have expired. Source:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>.
pub const EXPIRED: [&str; 2] = ["ExpiredTokenException", "ExpiredToken"];

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The IAM action, such as `ecs:UpdateService`.
    pub operation: &'static str,
    /// What the call may have done.
    pub effect: Effect,
    /// AWS error code, where AWS answered with one.
    pub code: Option<String>,
    /// AWS's message, or what happened to the connection.
    pub message: String,
    /// AWS request id, where AWS answered.
    pub request_id: Option<String>,
}

impl CallError {
    /// An answer that does not have the form that the API documents.
    #[must_use]
    pub fn unreadable(operation: &'static str, what: impl fmt::Display) -> Self {
        Self {
            operation,
            effect: Effect::Unknown,
            code: None,
            message: format!("the answer cannot be read: {what}"),
            request_id: None,
        }
    }

    /// The same error with the values of the mask hidden in its message, because AWS may have repeated them.
    #[must_use]
    pub fn without(mut self, mask: &Mask) -> Self {
        self.message = mask.hide(&self.message).unwrap_or_else(|| {
            "its message may repeat a value that is not shown: look for its request id in CloudTrail".to_owned()
        });
        self
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.effect != Effect::Refused || self.has_code(&EXPIRED) || self.passes()
    }

    /// Whether whoever sent it has no right to.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.effect == Effect::Refused && self.code.as_deref().is_some_and(|code| code.contains("AccessDenied"))
    }

    /// Whether ECS refused the call for a temporary reason: nothing was done, and ECS may accept the same call later. Refusals with unknown
    /// texts are final.
    #[must_use]
    pub fn passes(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        let is_of = |codes: &[&str]| codes.is_empty() || codes.contains(&code);
        self.effect == Effect::Refused
            && PASSING.iter().any(|(codes, text)| is_of(codes) && self.message.contains(text))
    }

    /// The same error, for a call that named a revision that was registered a moment ago: if ECS does not know the revision yet, it will
    /// within seconds. Source: <https://github.com/remind101/empire/issues/353>.
    #[must_use]
    pub fn of_a_new_revision(mut self) -> Self {
        if self.effect == Effect::Refused && self.message.contains("TaskDefinition not found") {
            self.effect = Effect::Throttled;
        }
        self
    }

    /// Whether AWS answered with one of these codes.
    #[must_use]
    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

impl Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if let Some(code) = &self.code {
            write!(f, "{}: ", one_line(code))?;
        }
        // Text of a caller that AWS repeats must not look like lines of our own.
        f.write_str(&one_line(&self.message))?;
        if let Some(request_id) = &self.request_id {
            write!(f, " (request id {request_id})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_code_text_and_request_id() {
        let error = CallError {
            operation: "ecs:UpdateService",
            effect: Effect::Refused,
            code: Some("AccessDeniedException".to_owned()),
            message: "no\n[ERROR] forged".to_owned(),
            request_id: Some("r-1".to_owned()),
        };
        let text = "ecs:UpdateService: AccessDeniedException: no [ERROR] forged (request id r-1)";
        assert_eq!(error.to_string(), text);
        assert!(!error.retryable());
    }
}
