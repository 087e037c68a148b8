//! Where a registry may direct our requests: schemes, hosts and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::registry::settings::Settings;
use crate::text::is_unseen;

/// A URL that may be requested: https, or http if that is allowed; without a user; and without an address that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedUrl {
    /// The whole URL.
    pub uri: Uri,
    /// Host, with its port where the URL has one.
    pub host: String,
}

impl AllowedUrl {
    /// Checks a URL.
    ///
    /// # Errors
    ///
    /// A sentence that shows no more of the URL than its host: the rest may be signed.
    pub fn new(url: &str, settings: &Settings) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
        if authority.is_empty() || authority.contains('@') {
            return Err("it names no host, or a user".to_owned());
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let name = excerpt(&authority);
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if settings.allow_http.contains(&authority) => {}
            _ => return Err(format!("{name} is not asked over https, and REGISTRY_ALLOW_HTTP does not name it")),
        }
        // A name is checked when it is resolved; an address is not resolved, and so is checked here.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = address.parse()
            && !settings.allows(&host, address)
        {
            return Err(not_allowed(&host, address));
        }
        Ok(Self { uri, host: authority })
    }

    /// The URL that a redirect of this one leads to: a whole URL, or a path on the same host.
    ///
    /// # Errors
    ///
    /// A sentence, if it may not be requested.
    pub fn redirected(&self, location: &str, settings: &Settings) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let scheme = self.uri.scheme_str().unwrap_or("https");
            return Self::new(&format!("{scheme}://{}{location}", self.host), settings);
        }
        Self::new(location, settings)
    }

    /// Whether both have the same scheme, host and port.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.uri.scheme() == other.uri.scheme() && self.host == other.host
    }
}

/// The message that says why an address is not contacted.
#[must_use]
pub fn not_allowed(host: &str, address: IpAddr) -> String {
    format!(
        "{} is {address}, and an address of a private network is asked only where REGISTRY_ALLOW_PRIVATE names the host",
        excerpt(host)
    )
}

impl Settings {
    /// Whether `host` may be contacted at `address`.
    #[must_use]
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private.contains(host),
            Reach::Never => false,
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self, host: &str) -> &'static str {
        if self.allow_http.contains(host) { "http" } else { "https" }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// Addresses at which a registry may be, if the configuration of the function says so.
    Private,
    /// Addresses of metadata services, at which no registry is, and addresses at which nothing is.
    Never,
}

/// Source: the IANA special-purpose address registries.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    if address.is_link_local() || address.is_multicast() || a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) {
        Reach::Never
    } else if address.is_loopback()
        || address.is_private()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    if let Some(inner) = inner_v4(address) {
        return reach_v4(inner);
    }
    // The metadata services of EC2 and ECS have unique local addresses under fd00:ec2::/32.
    if address.is_unicast_link_local()
        || address.is_multicast()
        || address.is_unspecified()
        || segments[..2] == [0xfd00, 0x0ec2]
    {
        Reach::Never
    } else if address.is_loopback()
        || address.is_unique_local()
        || segments[..2] == [0x2001, 0x0db8]
        || segments[0] & 0xffc0 == 0xfec0
    {
        Reach::Private
    } else if segments[0] & 0xe000 == 0x2000 {
        Reach::Public
    } else {
        Reach::Never
    }
}

/// The IPv4 address that a mapped, translated (NAT64) or tunnelled (6to4) IPv6 address leads to.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => address.to_ipv4_mapped(),
    }
}

/// At most 100 characters of what a registry sent, without those that could forge lines of a log.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let text: String = text.chars().map(|c| if is_unseen(c) { '?' } else { c }).take(101).collect();
    if text.chars().count() > 100 { text.chars().take(100).chain(['…']).collect() } else { text }
}
