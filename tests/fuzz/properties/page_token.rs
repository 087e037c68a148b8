//! Tokens between pages: nobody's but our own, unedited, for the query they were given for.
//!
//! The first byte chooses what the rest is: a token as somebody made it up; the edits of a real one; or the inside of a
//! token whose check is right, since whoever reads the source can compute it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ledger::query;
use domain::ledger::query::{HistoryRequest, Query};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ID: &str = "01a1edfd-de3b-7b80-a5ca-ef14395e83a8";
/// Bytes of a token: version and kind, position, window, the query's binding, a check over all of it.
const BINDING: usize = 2 + 16 + 16;
const CHECK: usize = BINDING + 8;

fn events() -> [Value; 7] {
    let service =
        json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "c", "ecs_service_name": "s"});
    [
        json!({}),
        json!({"order": "oldest_first"}),
        json!({"from": "2026-11-01", "to": "2026-11-07"}),
        json!({"account_id": "222222222222", "status": "FAILED"}),
        json!({"image": "nginx", "order": "oldest_first", "from": "2026-11-01"}),
        json!({"change_id": ID}),
        service,
    ]
}

fn parse(mut event: Value, token: Option<&str>) -> Result<Query, String> {
    if let Some(token) = token {
        event["next_token"] = token.into();
    }
    match query::parse(event.to_string().as_bytes(), super::query::now()) {
        Ok(HistoryRequest::Changes(query)) => Ok(*query),
        Ok(HistoryRequest::Verify(service) | HistoryRequest::Key(service, _)) => panic!("{service}"),
        Err(failure) => Err(failure.message),
    }
}

pub(crate) fn check(data: &[u8]) {
    let [how, which, rest @ ..] = data else { return };
    let events = events();
    let event = &events[usize::from(*which) % events.len()];
    let real = parse(event.clone(), None).unwrap();
    let real = real.token(&real.position);
    let token = match how % 3 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => edited(&real, rest),
        _ => forged(&real, rest),
    };
    let asked = parse(event.clone(), Some(&token));
    match asked {
        Err(message) => {
            super::check_message(&message, 2, 30_000);
            assert_ne!(token, real, "a real one is refused");
        }
        Ok(query) => {
            assert_eq!(query.token(&query.position), token, "what is taken is not as it would be given");
            super::query::bounded(&query);
            // A real one that was edited has a wrong check. One that was forged may be right.
            assert!(how % 3 == 2 || token == real, "an edited token is taken: {token}, of {real}");
            for other in events.iter().filter(|other| *other != event) {
                assert!(parse(other.clone(), Some(&token)).is_err(), "{token} of {event} is taken for {other}");
            }
        }
    }
}

/// The token with some of its characters replaced, and cut off or made longer.
fn edited(token: &str, edits: &[u8]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for edit in edits.chunks(2) {
        match edit {
            [at, byte] if usize::from(*at) < bytes.len() => bytes[usize::from(*at)] = byte & 0x7f,
            [at, _] => bytes.truncate(usize::from(*at) - bytes.len()),
            [byte] => bytes.push(byte & 0x7f),
            _ => {}
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A token whose inside up to the binding is `inside`, with the right check.
fn forged(token: &str, inside: &[u8]) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    bytes.truncate(CHECK);
    let length = inside.len().min(BINDING);
    bytes[..length].copy_from_slice(&inside[..length]);
    bytes.extend_from_slice(&inside[length..]);
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..8]);
    URL_SAFE_NO_PAD.encode(bytes)
}
