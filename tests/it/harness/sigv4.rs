//! Signature Version 4, checked as AWS checks it: a body that was changed after it was signed is refused there.

use sha2::{Digest, Sha256};

use super::http::Request;
use super::ledger::{hex, sha256_hex};

/// Access key and region of a request's credential scope.
pub(crate) fn signer(request: &Request) -> Option<(String, String)> {
    let scope = request.header("authorization")?.split_once("Credential=")?.1.split(',').next()?;
    let mut parts = scope.split('/');
    let key = parts.next()?.to_owned();
    let region = parts.nth(1)?.to_owned();
    Some((key, region))
}

/// What is wrong with the signature, if anything.
pub(crate) fn fault(request: &Request, secret: &str) -> Option<String> {
    let parsed = || {
        let header = request.header("authorization")?;
        let part = |name: &str| Some(header.split_once(name)?.1.split(',').next()?.trim().to_owned());
        let scope = part("Credential=")?.split_once('/')?.1.to_owned();
        Some((scope, part("SignedHeaders=")?, part("Signature=")?, request.header("x-amz-date")?.to_owned()))
    };
    let Some((scope, signed_headers, signature, date)) = parsed() else {
        return Some("it is not signed".into());
    };
    let names: Vec<&str> = signed_headers.split(';').collect();
    for must in ["host", "x-amz-date"] {
        if !names.contains(&must) {
            return Some(format!("{must} is not signed"));
        }
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let headers: String =
        names.iter().map(|name| format!("{name}:{}\n", request.header(name).unwrap_or_default())).collect();
    let canonical =
        format!("{}\n{path}\n{query}\n{headers}\n{signed_headers}\n{}", request.method, sha256_hex(&request.body));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let expected = hex(&hmac(&key, to_sign.as_bytes()));
    (expected != signature).then(|| format!("the signature does not fit the request:\n{canonical}"))
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
