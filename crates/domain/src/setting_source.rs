//! Settings that may be longer than a function's environment, which has 4 KB
//! (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>): such a setting is either given in its variable, or the
//! variable names the object or parameter that holds it.
//!
//! This module decides; `src/aws/documents.rs` reads.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

/// How long a value that was read counts as current.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);
/// How long a value stays in use if it can no longer be read. After that, nobody knows what was removed from it.
const GOES_ON: TimeDelta = TimeDelta::hours(1);
/// How long a failure to read is reported without a new attempt, so that not every entry of a large event tries again.
const FAILURE_STANDS: TimeDelta = TimeDelta::seconds(5);

/// Where a setting is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentLocation {
    /// `s3://bucket/key`: an object in the function's own region.
    Object {
        /// The bucket's name.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// `ssm:/name`: a parameter of Systems Manager in the function's own account and region.
    Parameter(String),
}

impl DocumentLocation {
    /// The place that `text` names; `None` if it is not a place but the setting itself.
    ///
    /// # Errors
    ///
    /// A sentence, if the text begins like a place and is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        // A name of an object or parameter is plain if it is written in the same way in a URL or an ARN.
        let is_plain = |name: &str| {
            name.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte))
        };
        if let Some(object) = text.strip_prefix("s3://") {
            let place = object.split_once('/').filter(|(bucket, key)| {
                (3..=63).contains(&bucket.len())
                    && bucket
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
                    && key.len() <= 1024
                    && is_plain(key)
            });
            return Some(match place {
                Some((bucket, key)) => Ok(Self::Object { bucket: bucket.to_owned(), key: key.to_owned() }),
                None => Err(format!(
                    "{text:?} is no object: expected s3://bucket/key, of letters, digits and / _ . - in the key"
                )),
            });
        }
        let name = text.strip_prefix("ssm:")?;
        Some(if name.len() <= 1011 && name.strip_prefix('/').is_some_and(is_plain) {
            Ok(Self::Parameter(name.to_owned()))
        } else {
            Err(format!("{text:?} is no parameter: expected ssm:/name, of letters, digits and / _ . -"))
        })
    }
}

impl fmt::Display for DocumentLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Parameter(name) => write!(f, "ssm:{name}"),
        }
    }
}

/// A setting as its variable gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource<T> {
    /// The setting itself.
    Here(T),
    /// Where it is kept.
    There(DocumentLocation),
}

/// A setting that may name roots and organizational units: AWS Organizations says which accounts are in them.
pub trait Named: Clone + Sized {
    /// The roots and units that it names.
    fn units(&self) -> &BTreeSet<String>;

    /// The same setting with the accounts that are in them.
    ///
    /// # Errors
    ///
    /// If it says nothing even with these accounts.
    fn with_accounts(self, accounts: BTreeSet<String>) -> Result<Self, String>;
}

/// What is known of a setting that is kept in an object or a parameter.
#[derive(Debug)]
pub struct Kept<T> {
    /// What was read last, and when.
    value: Option<(Arc<T>, DateTime<Utc>)>,
    /// When the last attempt to read it was, and why it failed, if it did.
    looked: Option<(DateTime<Utc>, Option<String>)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, looked: None }
    }
}

impl<T> Kept<T> {
    /// The result that is valid at `now` without reading again; `None` if the setting has to be read.
    pub fn known(&self, now: DateTime<Utc>) -> Option<Result<Arc<T>, String>> {
        let (at, failed) = self.looked.as_ref()?;
        let held = self.held(now);
        let stands = if held.is_some() { LOOK_AGAIN } else { FAILURE_STANDS };
        // If the clock was set back, it is unknown how long ago the attempt was.
        if *at > now || now - *at >= stands {
            return None;
        }
        match (held, failed) {
            (Some(value), _) => Some(Ok(value)),
            (None, failed) => failed.clone().map(Err),
        }
    }

    /// Records the result of a read at `now`, and returns the value that is valid then.
    ///
    /// # Errors
    ///
    /// Why it could not be read, if no value that was read before may stay in use.
    pub fn looked(&mut self, found: Result<T, String>, now: DateTime<Utc>) -> Result<Arc<T>, String> {
        match found {
            Ok(value) => {
                let value = Arc::new(value);
                self.value = Some((Arc::clone(&value), now));
                self.looked = Some((now, None));
                Ok(value)
            }
            Err(why) => {
                self.looked = Some((now, Some(why.clone())));
                self.held(now).ok_or(why)
            }
        }
    }

    fn held(&self, now: DateTime<Utc>) -> Option<Arc<T>> {
        let (value, read) = self.value.as_ref()?;
        (now - *read < GOES_ON).then(|| Arc::clone(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_place_is_told_from_a_setting() {
        assert_eq!(DocumentLocation::parse("222222222222,333333333333"), None);
        assert_eq!(DocumentLocation::parse("[{}]"), None);
        for good in ["s3://bucket/allowed.txt", "s3://a.b-c/x/y_z.1", "ssm:/ecs-updater/allowed"] {
            assert_eq!(DocumentLocation::parse(good).unwrap().unwrap().to_string(), good);
        }
        for bad in [
            "s3://bucket",
            "s3://bucket/",
            "s3://Bucket/x",
            "s3://bucket/../x",
            "s3://bucket/a?b",
            "ssm:name",
            "ssm:/",
            "ssm:/a//b",
        ] {
            let fault = DocumentLocation::parse(bad).unwrap().unwrap_err();
            assert!(fault.contains(bad), "{fault}");
        }
    }

    #[test]
    fn what_was_read_holds_for_a_minute_and_is_then_looked_at_again() {
        let mut kept = Kept::default();
        assert!(kept.known(at(0)).is_none());
        assert_eq!(*kept.looked(Ok(1), at(0)).unwrap(), 1);
        assert_eq!(*kept.known(at(59)).unwrap().unwrap(), 1);
        assert!(kept.known(at(60)).is_none());
        assert!(kept.known(at(-1)).is_none(), "the clock was set back");
        assert_eq!(*kept.looked(Ok(2), at(60)).unwrap(), 2);
        assert_eq!(*kept.known(at(61)).unwrap().unwrap(), 2);
    }

    #[test]
    fn what_cannot_be_read_any_more_goes_on_for_an_hour_and_is_then_refused() {
        let mut kept = Kept::default();
        kept.looked(Ok(1), at(0)).unwrap();
        assert_eq!(*kept.looked(Err("away".to_owned()), at(60)).unwrap(), 1);
        assert_eq!(*kept.known(at(119)).unwrap().unwrap(), 1);
        assert!(kept.known(at(120)).is_none(), "it is looked for again all the same");
        assert_eq!(*kept.looked(Err("away".to_owned()), at(3599)).unwrap(), 1);
        assert!(
            kept.known(at(3600)).is_none_or(|known| known.is_err()),
            "not a second longer, though it was looked for just now"
        );
        assert_eq!(kept.looked(Err("gone".to_owned()), at(3600)).unwrap_err(), "gone");
        assert_eq!(*kept.looked(Ok(2), at(3700)).unwrap(), 2);
    }

    #[test]
    fn what_could_not_be_read_at_first_is_refused_and_not_asked_for_by_each_entry() {
        let mut kept = Kept::<u8>::default();
        assert_eq!(kept.looked(Err("denied".to_owned()), at(0)).unwrap_err(), "denied");
        assert_eq!(kept.known(at(4)).unwrap().unwrap_err(), "denied");
        assert!(kept.known(at(5)).is_none());
    }
}
