//! Who is let in: one browser of the person who started it.
//!
//! Other users of the machine can reach the port, and so can every page that the person's browser shows. The address has a token that works
//! once and is exchanged for a cookie that no page and no script can read or send. Requests must also name this machine in `Host`, since
//! otherwise a foreign name that resolves to 127.0.0.1 (DNS rebinding) would make a foreign page ours.
//!
//! Cookies do not distinguish ports (RFC 6265, section 8.5): one for all of 127.0.0.1 would also be sent to whatever somebody else serves
//! on another port, who could then send it here. So the page is under a path that nobody can guess, and its cookie is for that path only.
//! (A random name below `localhost` would do the same, but not every browser and resolver knows such names.)

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::{HEADERS, plain};

/// Decides whether requests are let in.
pub(super) struct Guard {
    port: u16,
    path: String,
    token: String,
    used: AtomicBool,
    session: String,
}

impl Guard {
    /// A guard with a token and a session that nobody can guess.
    pub(super) fn new(port: u16) -> Result<Self, getrandom::Error> {
        let path = format!("/{}/", secret()?);
        Ok(Self { port, path, token: secret()?, used: AtomicBool::new(false), session: secret()? })
    }

    /// The path of the page, from slash to slash.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The address that lets a browser in, once.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}?token={}", self.port, self.path, self.token)
    }

    /// Whether the address has let somebody in.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::SeqCst)
    }

    fn is_here(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        ["127.0.0.1", "localhost"].iter().any(|name| host == format!("{name}:{}", self.port))
    }

    /// The name of the cookie.
    fn cookie_name(&self) -> String {
        format!("ecs-updater-{}", self.port)
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(key, value)| key == name && is_same(value, &self.session))
    }

    /// Whether this token lets a browser in now. It does so once.
    fn takes(&self, token: &str) -> bool {
        is_same(token, &self.token) && !self.used.swap(true, Ordering::SeqCst)
    }
}

/// Lets a request through, exchanges a token for a cookie, or refuses; then adds the headers to whatever the answer is.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = decide(&guard, request, next).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn decide(guard: &Guard, request: Request, next: Next) -> Response {
    if !guard.is_here(request.headers()) {
        return plain(StatusCode::MISDIRECTED_REQUEST, "This is a page of one machine, and the request names another.");
    }
    let token = request.uri().query().and_then(|query| query.split('&').find_map(|part| part.strip_prefix("token=")));
    // A request that does not name the path has not been let in, whatever cookie it has.
    let is_below = request.uri().path().starts_with(&guard.path);
    match token.filter(|_| is_below) {
        // The redirect removes the token from the address bar, the browser's history and what is sent along with links.
        Some(_) if guard.is_known(request.headers()) => {
            (StatusCode::SEE_OTHER, [(header::LOCATION, guard.path.clone())]).into_response()
        }
        Some(token) if guard.takes(token) => {
            let cookie =
                format!("{}={}; HttpOnly; SameSite=Strict; Path={}", guard.cookie_name(), guard.session, guard.path);
            // This is no redirect: the browser may come from the doorway's file, and a strict cookie is not sent with a
            // request that a foreign page began. This page is ours.
            ([(header::SET_COOKIE, cookie)], Html(super::doorway::page(&guard.path))).into_response()
        }
        None if is_below && guard.is_known(request.headers()) => next.run(request).await,
        _ => plain(
            StatusCode::FORBIDDEN,
            "This page opens once, from the address that `ecs-updater history --web` printed. \
             Run it again for another browser.",
        ),
    }
}

/// 128 random bits.
fn secret() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(random.iter().fold(String::with_capacity(32), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Compares hashes, so that the time it takes says nothing about the secret.
fn is_same(given: &str, secret: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_this_machine_is_here() {
        let guard = Guard::new(4711).unwrap();
        for (host, here) in [
            ("127.0.0.1:4711", true),
            ("localhost:4711", true),
            ("127.0.0.1", false),
            ("127.0.0.1:4712", false),
            ("evil.example:4711", false),
            ("127.0.0.1.evil.example:4711", false),
        ] {
            assert_eq!(guard.is_here(&headers(header::HOST, host)), here, "{host}");
        }
        assert!(!guard.is_here(&HeaderMap::new()));
    }

    #[test]
    fn a_token_lets_in_once_and_a_cookie_as_long_as_it_runs() {
        let guard = Guard::new(4711).unwrap();
        assert!(!guard.takes(&guard.session) && !guard.takes(""));
        assert!(guard.takes(&guard.token.clone()));
        assert!(!guard.takes(&guard.token.clone()));
        let cookie = |value: &str| headers(header::COOKIE, &format!("other=1; ecs-updater-4711={value}"));
        assert!(guard.is_known(&cookie(&guard.session)));
        assert!(!guard.is_known(&cookie(&guard.token)));
        assert!(!guard.is_known(&HeaderMap::new()));
        assert_ne!(guard.session, Guard::new(4711).unwrap().session);
    }
}
