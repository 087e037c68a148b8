//! What registries answer. The first byte says what the rest is: a manifest, a challenge, a URL, a redirect.

use std::net::IpAddr;

use domain::registry::address::AllowedUrl;
use domain::registry::auth::Challenge;
use domain::registry::manifest::Manifest;
use domain::registry::manifest::NoImage;
use domain::registry::manifest::platforms;
use domain::registry::settings::Settings;

pub(crate) fn check(data: &[u8]) {
    let Some((what, rest)) = data.split_first() else { return };
    if what % 4 == 0 {
        return manifest(rest);
    }
    let Ok(text) = str::from_utf8(rest) else { return };
    match what % 4 {
        1 => challenge(text),
        2 => url(text),
        _ => redirect(text),
    }
}

fn manifest(body: &[u8]) {
    let manifest = match Manifest::read(body, []) {
        Ok(manifest) => manifest,
        Err(why) => {
            assert_eq!(platforms(body).as_ref(), Err(&why));
            let (NoImage::Unusable(why) | NoImage::Artifact(why)) = why;
            return super::check_message(&why, 1, 400);
        }
    };
    let digest = manifest.digest.strip_prefix("sha256:").unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    assert_eq!(Manifest::read(body, [manifest.digest.as_str()]).as_ref(), Ok(&manifest));
    let zeros = format!("sha256:{}", "0".repeat(64));
    let Err(NoImage::Unusable(why)) = Manifest::read(body, [zeros.as_str()]) else { panic!("another digest") };
    super::check_message(&why, 1, 400);
    assert!(manifest.platforms.is_sorted_by(|a, b| a < b), "{:?}", manifest.platforms);
    for platform in &manifest.platforms {
        super::check_message(platform, 1, 1_000);
    }
}

fn challenge(header: &str) {
    let again = |challenge: &Challenge| match challenge {
        Challenge::Basic => "Basic".to_owned(),
        Challenge::Bearer { realm, service: None } => format!("Bearer realm=\"{realm}\""),
        Challenge::Bearer { realm, service: Some(service) } => {
            format!("bEARER service=\"{service}\",realm=\"{realm}\"")
        }
    };
    let Some(challenge) = Challenge::read(header) else { return };
    if let Challenge::Bearer { realm, service } = &challenge {
        assert!(header.contains(realm) && service.iter().all(|service| header.contains(service)));
        if realm.contains('"') || service.iter().any(|service| service.contains('"')) {
            return;
        }
    }
    assert_eq!(Challenge::read(&again(&challenge)), Some(challenge));
}

fn settings() -> Settings {
    Settings {
        allow_http: ["plain.example:5000".to_owned()].into(),
        allow_private: ["10.0.0.1".to_owned()].into(),
        ..Settings::default()
    }
}

fn url(url: &str) {
    match AllowedUrl::new(url, &settings()) {
        Err(why) => discreet(&why, url),
        Ok(target) => permitted(&target, url),
    }
}

/// Whatever is asked may be asked, by a look of its own at the text.
fn permitted(target: &AllowedUrl, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?', '#']).next().unwrap().to_ascii_lowercase();
    assert_eq!(target.host, authority, "{url}");
    assert!(!authority.is_empty() && !authority.contains(['@', ' ', '\\']), "{url}");
    let is_plain = authority == "plain.example:5000";
    assert!(scheme.eq_ignore_ascii_case("https") || (scheme.eq_ignore_ascii_case("http") && is_plain), "{url}");
    // The only private address that is configured, and no name that resolves to one: that is seen when it is resolved.
    let host =
        authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(authority.as_str(), |(host, _)| host);
    let address =
        host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|address| address.to_canonical());
    let never = match address {
        Ok(IpAddr::V4(v4)) => {
            let is_private = v4.is_private() && host != "10.0.0.1";
            is_private
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.is_unique_local()
        }
        Err(_) => false,
    };
    assert!(!never, "{url}");
}

fn redirect(location: &str) {
    let settings = settings();
    let from = AllowedUrl::new("https://registry.example:5000/v2/app/manifests/1", &settings).unwrap();
    match from.redirected(location, &settings) {
        Err(why) => discreet(&why, location),
        Ok(to) if location.starts_with('/') => {
            assert!(!location.starts_with("//") && to.is_of(&from), "{location}");
            assert_eq!(to.host, "registry.example:5000");
        }
        Ok(to) => permitted(&to, location),
    }
}

/// What may be signed is not shown.
fn discreet(why: &str, url: &str) {
    super::check_message(why, 1, 400);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    assert!(query.chars().count() < 12 || !why.contains(query), "{why}");
}
