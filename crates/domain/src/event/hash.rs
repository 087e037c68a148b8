//! What an event asks for, as a hash: so a key that comes again with another event is noticed.

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
    // How long somebody waits for it changes nothing of what is asked for.
    event.remove("wait_seconds");
    // When it was sent first is not what it asks for.
    event.remove("sent_at");
    for (name, default) in
        [("tag_mode", "replace".into()), ("force_new_deployment", false.into()), ("dry_run", false.into())]
    {
        event.entry(name).or_insert(default);
    }
    // Fields that came later stand in the hash only where they ask for something: a key from before them still fits.
    for name in ["resolve_digest", "check_image"] {
        if event.get(name) == Some(&false.into()) {
            event.remove(name);
        }
    }
    let canonical = canonical_json::object(event.iter()).map_err(|error| error.to_string())?;
    Ok(hex(&Sha256::digest(canonical)))
}
