//! Image references, held to the grammar that registries have.

use std::sync::OnceLock;

use domain::image::{ImageReference, repository_of};
use domain::registry;
use domain::registry::Location;
use domain::registry::address::AllowedUrl;
use domain::registry::settings::Settings;
use jsonschema::{PatternOptions, Validator};
use serde_json::json;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let parsed = ImageReference::parse(text);
    assert_eq!(parsed.is_ok(), is_reference(text), "{text:?}: {parsed:?}");
    assert!(text.starts_with(repository_of(text)));
    match parsed {
        Err(why) => super::check_message(&why, 1, 600),
        Ok(image) => taken_apart(&image, text),
    }
}

fn taken_apart(image: &ImageReference, text: &str) {
    assert_eq!((image.as_str(), image.to_string().as_str()), (text, text));
    let part = |sign: &str, part: Option<&str>| part.map(|part| format!("{sign}{part}")).unwrap_or_default();
    let whole = format!("{}{}{}", image.repository(), part(":", image.tag()), part("@", image.digest()));
    assert_eq!(whole, text);
    assert_eq!(repository_of(text), image.repository());
    match Location::of(image) {
        Location::Ecr { account_id, region, repository } => {
            assert!(account_id.len() == 12 && !region.is_empty() && !repository.is_empty());
            assert!(text.contains(&account_id) && text.contains(&region) && text.contains(&repository));
        }
        Location::Registry { host, repository } => {
            assert!(!host.is_empty() && !host.contains(['/', '@']) && !repository.is_empty(), "{host} {repository}");
            assert_eq!(host, host.to_ascii_lowercase());
            let url = format!("https://{host}/v2/{repository}/manifests/{}", registry::wanted(image));
            // Where it is: an address that is never asked, or a URL on that host and no other.
            match AllowedUrl::new(&url, &Settings::default()) {
                Ok(target) => {
                    assert_eq!((target.host.as_str(), target.uri.path()), (host.as_str(), &url[8 + host.len()..]));
                }
                // A port beyond 65535 is one by the grammar, and none in a URL.
                Err(why) => assert!(why.contains("private network") || why.contains("no URL"), "{url}: {why}"),
            }
        }
    }
}

/// The grammar of <https://github.com/distribution/reference>, by another engine.
fn is_reference(text: &str) -> bool {
    static GRAMMARS: OnceLock<[Validator; 2]> = OnceLock::new();
    let first = text.split(['@']).next().and_then(|named| named.split_once('/')).map(|(first, _)| first);
    let has_registry = first
        .is_some_and(|first| first == "localhost" || first.contains(['.', ':']) || first.contains(char::is_uppercase));
    let before_digest = text.split('@').next().unwrap_or_default();
    let [plain, with_registry] = GRAMMARS.get_or_init(|| [grammar(false), grammar(true)]);
    // What the grammar leaves to code: whether an IPv6 address is one.
    let address =
        first.and_then(|first| first.strip_prefix('[')).and_then(|rest| rest.split_once(']')).map(|(ip, _)| ip);
    let is_address = address.is_none_or(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let grammar = if has_registry { with_registry } else { plain };
    before_digest.chars().count() <= 255 && is_address && grammar.is_valid(&json!(text))
}

fn grammar(with_registry: bool) -> Validator {
    const PART: &str = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
    const LABEL: &str = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
    const REST: &str = "(?::[0-9A-Za-z_][0-9A-Za-z_.-]{0,127})?\
                        (?:@(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?";
    let host = format!(r"(?:{LABEL}(?:\.{LABEL})*|\[[a-fA-F0-9:]+\])");
    let registry = if with_registry { format!("{host}(?::[0-9]+)?/") } else { String::new() };
    let pattern = format!("^{registry}{PART}(?:/{PART})*{REST}$");
    let options = jsonschema::draft202012::options().with_pattern_options(PatternOptions::regex());
    options.build(&json!({"type": "string", "pattern": pattern})).unwrap()
}
