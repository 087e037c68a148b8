//! Names: accounts, regions, services, changes and the function's own ARN, as types that cannot hold a wrong value.
//!
//! The rules are those of `schema/update-event.schema.json`; a test in `event/update_format.rs` checks that the two agree.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::{Builder, Uuid};

use crate::text::{is_unseen, shown_text};

/// Declares a validated text type: `parse`, `as_str`, `Display`, and `EXPECTED`, the rule in words.
macro_rules! validated_text {
    ($(#[$documentation:meta])* $name:ident, $is_valid:expr, $expected:literal) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The rule in words, for messages.
            pub const EXPECTED: &'static str = $expected;

            /// Checks the text.
            ///
            /// # Errors
            ///
            /// A sentence that names the text (shortened) and the rule, where the text breaks it.
            pub fn parse(text: &str) -> Result<Self, String> {
                if $is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(format!("{} is not accepted: expected {}", shown_text(text), Self::EXPECTED))
                }
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

validated_text!(
    /// An AWS account id: 12 digits, leading zeros included.
    AccountId,
    is_account_id,
    "12 digits, as a string in quotes"
);

validated_text!(
    /// An AWS region, such as `eu-west-1`, `us-gov-east-1` or `eusc-de-east-1`. Only AWS knows whether it exists.
    Region,
    is_region,
    "a region such as \"eu-west-1\""
);

validated_text!(
    /// An AWS partition, such as `aws`, `aws-cn` or `aws-us-gov`.
    Partition,
    is_partition,
    "a partition such as \"aws\""
);

validated_text!(
    /// The name of an ECS cluster, service or container: 1 to 255 letters, digits, `_` and `-`.
    ///
    /// The rule is that of `clusterName` of CreateCluster, `serviceName` of CreateService and `name` of
    /// `ContainerDefinition` in the Amazon ECS API reference.
    EcsName,
    is_ecs_name,
    "a name of 1 to 255 letters, digits, \"_\" and \"-\""
);

/// Which service: account, region, cluster and service, by their names.
///
/// Displays as `{account_id}/{region}/{cluster}/{service}`, the partition key of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    account_id: AccountId,
    region: Region,
    cluster: EcsName,
    service: EcsName,
}

impl ServiceKey {
    /// The key of this service.
    #[must_use]
    pub fn new(account_id: AccountId, region: Region, cluster: EcsName, service: EcsName) -> Self {
        Self { account_id, region, cluster, service }
    }

    /// The account the service lives in.
    #[must_use]
    pub fn account_id(&self) -> &AccountId {
        &self.account_id
    }

    /// The region the service lives in.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.cluster.as_str()
    }

    /// The name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        self.service.as_str()
    }
}

impl ServiceKey {
    /// Reads a service key in the form in which it is displayed.
    ///
    /// # Errors
    ///
    /// A sentence that names the text and the rule, if it is not a service key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [account_id, region, cluster, service] = parts.as_slice() else {
            return Err(format!("{} is no service key", shown_text(text)));
        };
        let (cluster, service) = (EcsName::parse(cluster)?, EcsName::parse(service)?);
        Ok(Self::new(AccountId::parse(account_id)?, Region::parse(region)?, cluster, service))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No part can hold a "/", so that no two services share a key.
        let Self { account_id, region, cluster, service } = self;
        write!(formatter, "{account_id}/{region}/{cluster}/{service}")
    }
}

/// The id of a change: a UUID of version 7 (RFC 9562), in lowercase with hyphens.
///
/// Ids sort by their time, as text and as values; within one millisecond by their random part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(String);

impl ChangeId {
    /// The id for a change at this time (whole milliseconds count) with these random bytes.
    ///
    /// Six of the 80 random bits give way to version and variant. A time before 1970 counts as 1970.
    ///
    /// ```
    /// use chrono::{DateTime, TimeDelta};
    /// use domain::ids::ChangeId;
    ///
    /// let at = DateTime::from_timestamp_millis(1_795_000_000_123).ok_or("no time")?;
    /// let (first, second) = (ChangeId::new(at, [9; 10]), ChangeId::new(at + TimeDelta::milliseconds(1), [0; 10]));
    /// // Ids compare by their times first, as texts too.
    /// assert!(first < second && first.as_str() < second.as_str());
    /// assert_eq!(ChangeId::parse(first.as_str())?.time(), at);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(at: DateTime<Utc>, random: [u8; 10]) -> Self {
        /// The id has 48 bits for the time, which end in the year 10889.
        const LAST_MILLISECOND: u64 = (1 << 48) - 1;
        let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0).min(LAST_MILLISECOND);
        Self(Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid().hyphenated().to_string())
    }

    /// Reads an id in its usual form of 36 characters; capital letters become lowercase.
    ///
    /// # Errors
    ///
    /// A sentence that names the text (shortened), if it is not a UUID of version 7.
    pub fn parse(text: &str) -> Result<Self, String> {
        Uuid::try_parse(text)
            .ok()
            .filter(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122)
            .map(|id| id.hyphenated().to_string())
            // The parser also accepts ids in braces, without hyphens and as URN.
            .filter(|id| id.eq_ignore_ascii_case(text))
            .map(Self)
            .ok_or_else(|| format!("{} is no change id: expected a UUID of version 7", shown_text(text)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id's 16 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 16] {
        // The text is a UUID: the default cannot occur.
        Uuid::try_parse(&self.0).unwrap_or_default().into_bytes()
    }

    /// The id of these bytes.
    ///
    /// # Errors
    ///
    /// As [`ChangeId::parse`].
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, String> {
        Self::parse(&Uuid::from_bytes(bytes).hyphenated().to_string())
    }

    /// The time in the id, in whole milliseconds.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        // 48 bits: 8 hexadecimal digits, a hyphen, 4 digits. Neither default can occur: the text is a UUID, and chrono can represent every
        // time of 48 bits.
        let milliseconds = self
            .0
            .bytes()
            .take(13)
            .filter_map(|digit| char::from(digit).to_digit(16))
            .fold(0, |time, digit| time * 16 + i64::from(digit));
        DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
    }
}

/// Writes a type as its text, and reads it only from a text that its `parse` accepts.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(ChangeId);
serde_as_text!(ServiceKey);

impl fmt::Display for ChangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The updater's alias whose only caller is the API door.
pub const VERIFIED_ALIAS: &str = "api";
/// Each function's alias for the version that is in use.
pub const LIVE_ALIAS: &str = "live";
/// Lambda's name for a function that was invoked by neither version nor alias.
pub const UNQUALIFIED: &str = "$LATEST";

/// The ARN of a Lambda function, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionArn {
    /// The partition, which the ARNs of roles in other accounts share.
    pub partition: Partition,
    /// The region the function runs in.
    pub region: Region,
    /// The account the function runs in.
    pub account_id: AccountId,
    /// The function's name, without version or alias.
    pub name: String,
    /// The version or alias it was invoked by.
    pub qualifier: Option<String>,
}

impl FunctionArn {
    /// Reads `arn:{partition}:lambda:{region}:{account}:function:{name}`, with or without `:{version or alias}`,
    /// as Lambda's `Lambda-Runtime-Invoked-Function-Arn` gives it. `None` where the text is anything else.
    #[must_use]
    pub fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let (partition, region, account_id, name, qualifier) = match parts[..] {
            ["arn", partition, "lambda", region, account_id, "function", name] => {
                (partition, region, account_id, name, None)
            }
            ["arn", partition, "lambda", region, account_id, "function", name, qualifier] if !qualifier.is_empty() => {
                (partition, region, account_id, name, Some(qualifier.to_owned()))
            }
            _ => return None,
        };
        is_word(name, 64).then_some(())?;
        Some(Self {
            partition: Partition::parse(partition).ok()?,
            region: Region::parse(region).ok()?,
            account_id: AccountId::parse(account_id).ok()?,
            name: name.to_owned(),
            qualifier,
        })
    }
}

fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Two or more words and a number, joined by "-". The first word has two letters or more: `eusc-de-east-1` is one.
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    let is_lowercase = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.len() <= 32
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && words.split_once('-').is_some_and(|(first, _)| first.len() >= 2)
        && words.split('-').all(is_lowercase)
}

fn is_partition(text: &str) -> bool {
    text.len() <= 32
        && text.split('-').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn is_ecs_name(text: &str) -> bool {
    is_word(text, 255)
}

/// 1 to `most` ASCII letters, digits, `_` and `-`.
fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The prefixes of the names of verified callers: that of an ARN, and the kinds of callers of the API door.
const VOUCHED: [&str; 5] = ["arn:", "cognito:", "iam:", "alias:", "oidc:"];

/// The prefix of a name, if it is one of the prefixes of verified names. Case is ignored, and so are characters that a reader does not see:
/// a claimed name with such a prefix would look like a verified one.
#[must_use]
pub fn looks_verified(name: &str) -> Option<&'static str> {
    let seen = || name.chars().filter(|character| !character.is_whitespace() && !is_unseen(*character));
    VOUCHED.into_iter().find(|beginning| {
        let mut seen = seen().map(|character| character.to_ascii_lowercase());
        beginning.chars().all(|expected| seen.next() == Some(expected))
    })
}

/// Whether the name of the requester is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// The API door has verified it.
    Verified,
    /// Nobody has verified it: it is what the event says.
    #[default]
    Claimed,
}

impl Identity {
    /// The word as it appears in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Claimed => "claimed",
        }
    }

    /// What a record's word means. Any word other than that of verified counts as claimed, because later versions may know more words.
    #[must_use]
    pub fn of(word: &str) -> Self {
        if word == Self::Verified.as_str() { Self::Verified } else { Self::Claimed }
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|word| Self::of(&word))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_look_vouched_for_are_known_however_they_are_written() {
        for (name, beginning) in [
            ("arn:aws:iam::111111111111:user/ann", Some("arn:")),
            ("ARN:aws:iam::111111111111:user/ann", Some("arn:")),
            (" \t\u{200b}a\u{200d}rn:aws-cn:", Some("arn:")),
            ("cognito:1-2:ann", Some("cognito:")),
            ("iam:arn:aws:iam::1:role/r", Some("iam:")),
            ("alias:team", Some("alias:")),
            ("Oidc:https://issuer.example:sub", Some("oidc:")),
            ("arn", None),
            ("arnold: release", None),
            ("ann (arn:aws:iam::1:user/ann)", None),
            ("release pipeline", None),
            ("user:ann", None),
            ("", None),
        ] {
            assert_eq!(looks_verified(name), beginning, "{name:?}");
        }
    }

    #[test]
    fn accounts_regions_partitions_and_names() {
        type Check = fn(&str) -> bool;
        let account: Check = |text| AccountId::parse(text).is_ok();
        let region: Check = |text| Region::parse(text).is_ok();
        let partition: Check = |text| Partition::parse(text).is_ok();
        let name: Check = |text| EcsName::parse(text).is_ok();
        let longest = "x".repeat(255);
        let cases: &[(Check, &[&str], &[&str])] = &[
            (
                account,
                &["222222222222", "000000000000"],
                &["", "22222222222", "2222222222222", "22222222222a", "٢٢٢٢٢٢٢٢٢٢٢٢", " 22222222222", "222222222222\n"],
            ),
            (
                region,
                &["eu-west-1", "us-gov-east-1", "us-isob-east-1", "ap-southeast-12", "eusc-de-east-1"],
                &[
                    "",
                    "eu-west",
                    "eu-1",
                    "-west-1",
                    "e-west-1",
                    "eu--west-1",
                    "EU-west-1",
                    "eu-west-1a",
                    "eu-west-1 ",
                    "eu-west-",
                    "eu_west_1",
                    "eu.west-1",
                    "eu-west-٣",
                ],
            ),
            (partition, &["aws", "aws-cn", "aws-us-gov", "aws-iso-b"], &["", "AWS", "aws-", "-aws", "aws/x", "aws1"]),
            (
                name,
                &["a", "ECSCluster", "ecs-dummy-service", "a_b-1", &longest],
                &["", "a b", "a/b", "a:b", "ä", "a\n", "a\0"],
            ),
        ];
        for (check, good, bad) in cases {
            for text in *good {
                assert!(check(text), "{text:?} must be accepted");
            }
            for text in *bad {
                assert!(!check(text), "{text:?} must be refused");
            }
        }
        assert!(!name(&"x".repeat(256)));
        assert!(!region(&format!("eu-{}-1", "x".repeat(28))));
        assert_eq!(
            AccountId::parse("123").unwrap_err(),
            "\"123\" is not accepted: expected 12 digits, as a string in quotes"
        );
    }

    #[test]
    fn service_key_displays_as_partition_key() {
        let key = ServiceKey::new(
            AccountId::parse("222222222222").unwrap(),
            Region::parse("eu-west-1").unwrap(),
            EcsName::parse("prod").unwrap(),
            EcsName::parse("edge").unwrap(),
        );
        assert_eq!(key.to_string(), "222222222222/eu-west-1/prod/edge");
        assert_eq!(
            (key.account_id().as_str(), key.region().as_str(), key.cluster(), key.service()),
            ("222222222222", "eu-west-1", "prod", "edge")
        );
    }

    #[test]
    fn change_ids_are_read_in_one_form_only() {
        let id = "01935321-1234-7abc-89ef-0123456789ab";
        assert_eq!(ChangeId::parse(id).unwrap().to_string(), id);
        assert_eq!(ChangeId::parse(&id.to_uppercase()).unwrap().as_str(), id);
        for wrong in [
            "",
            "previous",
            "01935321-1234-4abc-89ef-0123456789ab",   // version 4
            "01935321-1234-7abc-09ef-0123456789ab",   // another variant
            "0193532112347abc89ef0123456789ab",       // without hyphens
            "{01935321-1234-7abc-89ef-0123456789ab}", // in braces
            "urn:uuid:01935321-1234-7abc-89ef-0123456789ab",
            "01935321-1234-7abc-89ef-0123456789ab ",
        ] {
            assert!(ChangeId::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn change_id_holds_whole_milliseconds() {
        let at = Utc.timestamp_nanos(1_795_339_800_123_999_999);
        let id = ChangeId::new(at, [0xff; 10]);
        assert_eq!(id.time(), Utc.timestamp_millis_opt(1_795_339_800_123).unwrap());
        assert_eq!(ChangeId::new(Utc.timestamp_millis_opt(-1).unwrap(), [0; 10]).time(), DateTime::UNIX_EPOCH);
        let latest = ChangeId::new(DateTime::<Utc>::MAX_UTC, [0; 10]);
        assert!(latest.as_str().starts_with("ffffffff-ffff-7"), "{latest}");
        assert_eq!(latest.time().timestamp_millis(), (1 << 48) - 1);
    }

    #[test]
    fn function_arns() {
        let arn = FunctionArn::parse("arn:aws-us-gov:lambda:us-gov-east-1:111111111111:function:ecs-updater").unwrap();
        assert_eq!(arn.partition.as_str(), "aws-us-gov");
        assert_eq!(arn.region.as_str(), "us-gov-east-1");
        assert_eq!(arn.account_id.as_str(), "111111111111");
        assert_eq!(arn.name, "ecs-updater");
        for qualifier in ["$LATEST", "live", "7"] {
            let qualified = format!("arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater:{qualifier}");
            assert_eq!(FunctionArn::parse(&qualified).unwrap().name, "ecs-updater");
        }
        for wrong in [
            "",
            "ecs-updater",
            "arn:aws:lambda:eu-west-1:111111111111:function",
            "arn:aws:lambda:eu-west-1:111111111111:function:",
            "arn:aws:lambda:eu-west-1:111111111111:function:f:",
            "arn:aws:lambda:eu-west-1:111111111111:function:f:1:2",
            "arn:aws:lambda:eu-west-1:111:function:f",
            "arn:aws:lambda::111111111111:function:f",
            "arn::lambda:eu-west-1:111111111111:function:f",
            "arn:aws:lambda:eu-west-1:111111111111:layer:f",
            "arn:aws:ecs:eu-west-1:111111111111:function:f",
            "arn:aws:lambda:eu-west-1:111111111111:function:a b",
        ] {
            assert_eq!(FunctionArn::parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn change_ids_come_back_and_sort_by_time(
            first in 0_i64..1 << 48,
            second in 0_i64..1 << 48,
            random: [[u8; 10]; 2],
        ) {
            let at = |time| Utc.timestamp_millis_opt(time).unwrap();
            let one = ChangeId::new(at(first), random[0]);
            let two = ChangeId::new(at(second), random[1]);
            prop_assert_eq!(ChangeId::parse(one.as_str()), Ok(one.clone()));
            prop_assert_eq!(ChangeId::from_bytes(one.to_bytes()), Ok(one.clone()));
            prop_assert_eq!(one.time(), at(first));
            if first != second {
                prop_assert_eq!(one.as_str().cmp(two.as_str()), first.cmp(&second));
            } else if random[0] == random[1] {
                prop_assert_eq!(one, two);
            }
        }

        #[test]
        fn nothing_shown_is_long_or_breaks_the_line(text: String) {
            let line = shown_text(&text);
            prop_assert!(!line.contains(char::is_control));
            let longest = 100 * "\\u{10ffff}".len() + 1;
            prop_assert!(line.chars().count() <= longest);
        }
    }
}
