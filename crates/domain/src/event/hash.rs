//! What an event asks for, as a hash, so that a key that is used again with another event is noticed.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::canonical_json;
use crate::ids::ServiceKey;
use crate::text::hex;

pub(super) fn event_hash(event: Value, service_key: &ServiceKey) -> Result<String, String> {
    let Value::Object(mut event) = event else { return Err("it is no object".to_owned()) };
    event.insert("account_id".to_owned(), service_key.account_id().as_str().into());
    event.insert("region".to_owned(), service_key.region().as_str().into());
    event.remove("idempotency_key");
    // How long somebody waits for it does not change what is asked for.
    event.remove("wait_seconds");
    // When it was first sent is not part of what it asks for.
    event.remove("sent_at");
    for (name, default) in
        [("tag_mode", "replace".into()), ("force_new_deployment", false.into()), ("dry_run", false.into())]
    {
        event.entry(name).or_insert(default);
    }
    // Fields that were added later are part of the hash only if they ask for something, so that a key from before they existed still
    // matches.
    for name in ["resolve_digest", "check_image"] {
        if event.get(name) == Some(&false.into()) {
            event.remove(name);
        }
    }
    if event.get("restore_mode") == Some(&"undo".into()) {
        event.remove("restore_mode");
    }
    let canonical = canonical_json::object(event.iter()).map_err(|error| error.to_string())?;
    Ok(hex(&Sha256::digest(canonical)))
}
