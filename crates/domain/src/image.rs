//! Image references: `registry/repository:tag@digest`, parsed as registries parse them.
//!
//! The grammar is that of <https://github.com/distribution/reference>, with the rule of its normalization for what is a registry: the first
//! of several parts, if it has a `.`, a `:` or capital letters. (`localhost` is a registry, too, but is well-formed either way.) An ECS
//! task definition accepts at most 255 characters, not counting a digest (`image` of `ContainerDefinition` in the Amazon ECS API
//! reference).

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::text::shown_text;

/// The maximum number of characters of an image reference before its digest.
const MAX_CHARACTERS: usize = 255;

/// A well-formed image reference, kept exactly as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference(String);

impl ImageReference {
    /// Checks an image reference.
    ///
    /// ```
    /// use domain::image::ImageReference;
    ///
    /// let image = ImageReference::parse("registry.example:5000/team/web:1.27")?;
    /// assert_eq!((image.repository(), image.tag(), image.digest()), ("registry.example:5000/team/web", Some("1.27"), None));
    /// // Nothing is filled in: this is another repository than docker.io/library/nginx.
    /// assert_eq!(ImageReference::parse("nginx")?.repository(), "nginx");
    /// assert!(ImageReference::parse("Nginx").is_err());
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A sentence that names the text (shortened) and says why it is not an image reference.
    pub fn parse(image: &str) -> Result<Self, String> {
        match check(image) {
            Ok(()) => Ok(Self(image.to_owned())),
            Err(why) => Err(format!("{} is not an image reference: {why}", shown_text(image))),
        }
    }

    /// The whole reference, as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Registry and repository, as written: without tag and digest. Nothing is filled in, so that `nginx` and
    /// `docker.io/library/nginx` are two repositories.
    #[must_use]
    pub fn repository(&self) -> &str {
        split(&self.0).0
    }

    /// The tag, where there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        split(&self.0).1
    }

    /// The digest with its algorithm, such as `sha256:…`, where there is one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        split(&self.0).2
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The repository of any text that a task definition may hold as an image: for a well-formed reference, what [`ImageReference::repository`]
/// returns; for anything else, the best guess by the same separators.
#[must_use]
pub fn repository_of(image: &str) -> &str {
    split(image).0
}

/// Repository, tag and digest. Only a ":" after the last "/" starts a tag: an earlier one starts a registry's port.
fn split(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let (named, digest) = match image.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image, None),
    };
    let last_part = named.rfind('/').map_or(0, |slash| slash + 1);
    match named[last_part..].find(':') {
        Some(colon) => (&named[..last_part + colon], Some(&named[last_part + colon + 1..]), digest),
        None => (named, None, digest),
    }
}

/// Says why the text is not an image reference, if it is not one.
fn check(image: &str) -> Result<(), String> {
    let (repository, tag, digest) = split(image);
    if image.chars().take_while(|character| *character != '@').nth(MAX_CHARACTERS).is_some() {
        return Err(format!("it has more than {MAX_CHARACTERS} characters before the digest"));
    }
    if repository.contains("://") {
        return Err("it is a URL; write registry/repository:tag".to_owned());
    }
    // Source: "Grammar" in <https://pkg.go.dev/github.com/distribution/reference>: an anchored identifier is not a name.
    if image.len() == 64 && image.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("it is the id of an image, which nobody can pull: write registry/repository:tag".to_owned());
    }
    check_repository(repository)?;
    tag.map_or(Ok(()), check_tag)?;
    digest.map_or(Ok(()), check_digest)
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing".to_owned());
    }
    let path = match repository.split_once('/') {
        Some((registry, path)) if is_registry(registry) => {
            check_registry(registry)?;
            path
        }
        _ => repository,
    };
    path.split('/').try_for_each(check_path_part)
}

/// Whether the first of several parts names a registry rather than a part of a path on the default registry.
pub(crate) fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.contains(char::is_uppercase)
}

fn check_registry(registry: &str) -> Result<(), String> {
    // The colons inside the brackets of an IPv6 address do not start a port.
    let end_of_address = registry.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match registry[end_of_address..].find(':') {
        Some(colon) => (&registry[..end_of_address + colon], Some(&registry[end_of_address + colon + 1..])),
        None => (registry, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("the port of the registry {} is no number", shown_text(registry)));
    }
    let is_address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        // The grammar does not include IPv4 addresses inside IPv6 addresses, nor zones.
        .is_some_and(|address| !address.contains('.') && address.parse::<Ipv6Addr>().is_ok());
    if is_address || host.split('.').all(is_host_label) {
        Ok(())
    } else if host.is_empty() {
        Err("the registry before the port is missing".to_owned())
    } else {
        Err(format!("the registry {} is no host name or address", shown_text(host)))
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn check_path_part(part: &str) -> Result<(), String> {
    let is_alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    if part.is_empty() {
        Err("a part of the repository is empty: a \"/\" too many".to_owned())
    } else if part.contains(char::is_uppercase) {
        Err(format!("the repository must be in lowercase, and {} is not", shown_text(part)))
    } else if part.starts_with(is_alphanumeric)
        && part.ends_with(is_alphanumeric)
        // Between two adjacent letters or digits, the separator is empty.
        && part.split(is_alphanumeric).all(is_separator)
    {
        Ok(())
    } else {
        Err(format!(
            "{} in the repository: expected lowercase letters and digits, joined by \".\", \"_\", \"__\" or \"-\"",
            shown_text(part)
        ))
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        Err("the tag after \":\" is empty".to_owned())
    } else if tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    {
        Ok(())
    } else {
        Err(format!(
            "the tag {}: expected 1 to 128 letters, digits, \"_\", \".\" and \"-\", no \".\" or \"-\" first",
            shown_text(tag)
        ))
    }
}

/// The algorithms are those that <https://github.com/opencontainers/go-digest> knows.
fn check_digest(digest: &str) -> Result<(), String> {
    let (algorithm, encoded) = digest.split_once(':').unwrap_or((digest, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(format!("the digest {}: expected \"sha256:\" and 64 digits", shown_text(digest))),
    };
    if encoded.len() == length && encoded.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        Err(format!(
            "the digest has {} characters after \"{algorithm}:\": expected {length} digits 0 to 9 and a to f",
            encoded.chars().count()
        ))
    }
}

/// An image as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// `repository@sha256:…`.
    pub pinned: ImageReference,
    /// Platforms of an index.
    pub platforms: Vec<String>,
}

/// What was asked for and what it was pinned to, for records and answers: `{"nginx:1.27": "nginx@sha256:…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResolvedImages(pub BTreeMap<String, String>);

impl ResolvedImages {
    /// `None` if nothing was pinned.
    #[must_use]
    pub fn some(&self) -> Option<&Self> {
        (!self.0.is_empty()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SHA256: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[test]
    fn references_are_taken_apart() {
        let long_path = format!("{}a", "a/".repeat(127));
        let long_tag = "T".repeat(128);
        let sha512 = format!("sha512:{}", "0".repeat(128));
        // Repository, tag, digest; the reference is made of them.
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("nginx", None, None),
            ("nginx", Some("1.27"), None),
            ("nginx", Some("Alpine_3.20-slim"), None),
            ("nginx", None, Some(SHA256)),
            ("nginx", Some("1.27"), Some(SHA256)),
            ("test.com", Some("5000"), None),
            ("localhost/app", None, None),
            ("localhost:5000/team/app", Some("1.2"), Some(SHA256)),
            ("registry.example:5000/app", None, None),
            ("registry.example:5000/app", Some("5050"), None),
            ("222222222222.dkr.ecr.eu-west-1.amazonaws.com/team/app", Some("7"), None),
            ("public.ecr.aws/docker/library/busybox", Some("latest"), None),
            ("xn--n3h.com/myimage", Some("xn--n3h.com"), Some(&sha512)),
            ("192.168.1.1:5000/repo", Some("x"), None),
            ("[2001:db8::1]/repo", None, None),
            ("[2001:db8:1:2:3:4:5:6]/repo", Some("tag"), None),
            ("[::1]:5000/repo", Some("tag"), Some(SHA256)),
            ("Registry/app", None, None),
            ("f/a.b_c__d---e", None, None),
            (&long_path, None, Some(SHA256)),
            ("a", Some(&long_tag), None),
        ];
        for (repository, tag, digest) in cases {
            let mut image = (*repository).to_owned();
            if let Some(tag) = tag {
                image = format!("{image}:{tag}");
            }
            if let Some(digest) = digest {
                image = format!("{image}@{digest}");
            }
            let reference = ImageReference::parse(&image).unwrap();
            assert_eq!(reference.as_str(), image);
            assert_eq!(reference.to_string(), image);
            assert_eq!((reference.repository(), reference.tag(), reference.digest()), (*repository, *tag, *digest));
            assert_eq!(repository_of(&image), *repository);
        }
    }

    #[test]
    fn wrong_references_say_why() {
        let cases: &[(&str, &str)] = &[
            ("", "the repository is missing"),
            ("@#®as_..p````", "the repository is missing"),
            (":5000/x", "the registry before the port is missing"),
            (":justtag", "the repository is missing"),
            (&format!("@{SHA256}"), "the repository is missing"),
            ("nginx:", "the tag after \":\" is empty"),
            (&format!("nginx:@{SHA256}"), "the tag after \":\" is empty"),
            ("nginx:.x", "the tag \".x\""),
            ("nginx:-x", "the tag \"-x\""),
            ("nginx:a:b", "the tag \"a:b\""),
            ("nginx:a b", "the tag \"a b\""),
            ("nginx:ä", "the tag \"ä\""),
            (&format!("nginx:{}", "t".repeat(129)), "the tag"),
            ("NGINX", "must be in lowercase, and \"NGINX\""),
            ("Nginx:1", "must be in lowercase"),
            ("team/App", "must be in lowercase, and \"App\""),
            ("test:5000/Uppercase/lowercase:tag", "must be in lowercase, and \"Uppercase\""),
            ("a//b", "a \"/\" too many"),
            ("/a", "a \"/\" too many"),
            ("a/", "a \"/\" too many"),
            ("localhost:5000/", "a \"/\" too many"),
            (" nginx", "\" nginx\" in the repository"),
            ("nginx ", "\"nginx \" in the repository"),
            ("nginx\n", r#""nginx\n" in the repository"#),
            ("a..b", "\"a..b\" in the repository"),
            ("a___b", "\"a___b\" in the repository"),
            ("a._b", "in the repository"),
            ("-a", "in the repository"),
            ("a-", "in the repository"),
            ("aa/asdf$$^/aa", "\"asdf$$^\" in the repository"),
            ("ñginx", "in the repository"),
            ("registry.example:/x", "is no number"),
            ("registry.example:5a/x", "is no number"),
            ("https://registry.example/x", "it is a URL"),
            (&"0".repeat(64), "it is the id of an image"),
            ("my_registry.example/x", "the registry \"my_registry.example\" is no host name"),
            ("-a.example/x", "is no host name"),
            ("a-.example/x", "is no host name"),
            ("a..example/x", "is no host name"),
            ("[2001:db8::1]", "in the repository"),
            ("[fe80::1%eth0]:5000/repo", "is no host name or address"),
            ("[::ffff:1.2.3.4]/repo", "is no host name or address"),
            ("[::1/repo", "is no"),
            ("[::1]5000/repo", "is no host name or address"),
            ("nginx@", "expected \"sha256:\""),
            ("nginx@sha256", "0 characters after \"sha256:\": expected 64"),
            ("nginx@sha256:", "0 characters after \"sha256:\": expected 64"),
            ("nginx@sha256:ffff", "4 characters after \"sha256:\": expected 64"),
            (&format!("nginx@{SHA256}f"), "65 characters after \"sha256:\": expected 64"),
            (&format!("nginx@{}", SHA256.replace('f', "F")), "digits 0 to 9 and a to f"),
            (&format!("nginx@sha512:{}", "0".repeat(64)), "expected 128"),
            (&format!("nginx@md5:{}", "0".repeat(32)), "expected \"sha256:\""),
            (&format!("nginx@{SHA256}@{SHA256}"), "expected 64"),
            (&format!("{}:t", "a".repeat(254)), "more than 255 characters"),
        ];
        for (image, why) in cases {
            let message = ImageReference::parse(image).unwrap_err();
            assert!(message.contains(why), "{image:?}: {message}");
            assert!(message.starts_with(&shown_text(image)), "{image:?}: {message}");
        }
    }

    #[test]
    fn length_counts_characters_before_the_digest() {
        assert!(ImageReference::parse(&"a".repeat(255)).is_ok());
        assert!(ImageReference::parse(&format!("{}@{SHA256}", "a".repeat(255))).is_ok());
        assert!(ImageReference::parse(&format!("{}@{SHA256}", "a".repeat(256))).is_err());
        assert!(ImageReference::parse(&"a".repeat(8_000_000)).unwrap_err().len() < 500);
        assert!(ImageReference::parse(&format!("a@sha256:{}", "0".repeat(8_000_000))).unwrap_err().len() < 500);
    }

    #[test]
    fn repositories_of_odd_images_are_guessed() {
        for (image, repository) in [
            ("", ""),
            ("${IMAGE}:${TAG}", "${IMAGE}"),
            ("NGINX:1", "NGINX"),
            ("host:5000/App:1@sha256:short", "host:5000/App"),
            ("a:b:c", "a"),
            ("ünïcode/ö:ä", "ünïcode/ö"),
        ] {
            assert_eq!(repository_of(image), repository, "{image:?}");
        }
    }

    /// The grammar as distribution/reference writes it, for one side of a comparison.
    fn grammar(with_registry: bool) -> jsonschema::Validator {
        const LABEL: &str = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
        const PART: &str = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
        const REST: &str = "(?::[0-9A-Za-z_][0-9A-Za-z_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?";
        let registry = if with_registry { format!(r"{LABEL}(?:\.{LABEL})*(?::[0-9]+)?/") } else { String::new() };
        let pattern = format!("^{registry}{PART}(?:/{PART})*{REST}$");
        jsonschema::validator_for(&json!({"pattern": pattern})).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// For well-formed and nearly well-formed references, every decision agrees with the grammar.
        #[test]
        fn agrees_with_the_grammar(
            name in "([aA1.:-]{1,4}/)?[a1/._-]{1,6}|(localhost|a\\.b|Ab|a:1)/[a-b]{1,2}([/._-]{1,2}[a-b0/]{1,2}){0,2}",
            tag in "|(:[aA1_.:-]{0,3})",
            digest in "|@|@sha256:[a-f0-9]{63,65}",
        ) {
            thread_local! {
                static GRAMMARS: [jsonschema::Validator; 2] = [grammar(false), grammar(true)];
            }
            let image = format!("{name}{tag}{digest}");
            let first = image.split_once('/').map(|(first, _)| first);
            let with_registry = first.is_some_and(|first| first == "localhost" || is_registry(first));
            let expected = GRAMMARS.with(|grammars| grammars[usize::from(with_registry)].is_valid(&json!(image)));
            prop_assert_eq!(ImageReference::parse(&image).is_ok(), expected, "{:?}", image);
        }

        #[test]
        fn parts_make_the_whole(image in r"[a-zA-Zä/:@.]{0,20}") {
            let (repository, tag, digest) = split(&image);
            let tag = tag.map_or(String::new(), |tag| format!(":{tag}"));
            let digest = digest.map_or(String::new(), |digest| format!("@{digest}"));
            prop_assert_eq!(format!("{repository}{tag}{digest}"), image);
        }

        #[test]
        fn nothing_panics(image: String) {
            let _ = ImageReference::parse(&image);
            let _ = repository_of(&image);
        }
    }
}
