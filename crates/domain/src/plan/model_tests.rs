//! What this module knows of the parameters of `UpdateService`, for [`crate::model_tests`].

use crate::plan::defaults::defaults;
use crate::plan::deployment_configuration::off_form;

/// Where a parameter, or a member of `deploymentConfiguration`, has a default that AWS documents; `path` is where it stands itself.
pub(crate) fn defaulted(name: &str, path: &str) -> Vec<String> {
    let inside = |(inside, _): (&str, _)| if inside.is_empty() { path.to_owned() } else { format!("{path}.{inside}") };
    defaults(name).into_iter().map(inside).collect()
}

/// Whether it is known how a member of `deploymentConfiguration` is switched off.
pub(crate) fn has_off_form(member: &str) -> bool {
    off_form(member).is_some()
}
