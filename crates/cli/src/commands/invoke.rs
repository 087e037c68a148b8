//! `invoke`: sends an event as it is.

use std::io::Read;

use serde_json::Value;

use crate::arguments::{Invoke, SharedArgs};
use crate::failure::{CommandFailure, Exit};
use crate::function::Function;
use crate::lambda::Functions;
use crate::screen::Screen;

/// Sends the event and prints the whole answer.
pub(super) async fn run(shared: &SharedArgs, asked: &Invoke) -> Result<Exit, CommandFailure> {
    let text = read(asked)?;
    let event: Value = serde_json::from_str(&text).map_err(|fault| {
        CommandFailure::new(Exit::Usage, format!("{} is not JSON: {fault}", place(asked)))
            .advise("An event is one JSON object.")
    })?;
    let functions = Functions::new(shared).await?;
    // Only an event that cannot take effect twice may be sent twice.
    let again = asked.function == Function::History
        || event.get("idempotency_key").is_some_and(Value::is_string)
        || event.get("dry_run") == Some(&Value::Bool(true));
    let answer = functions.invoke(asked.function, text, again).await?;
    Screen::json(&answer, true)?;
    let status = answer.get("statusCode").and_then(Value::as_u64).unwrap_or(200);
    // Something that a restore was to undo is still there.
    let of = |pointer: &str| answer.pointer(pointer);
    let is_left = of("/body/not_restored").is_some()
        || of("/body/summary/not_restored").and_then(Value::as_u64).is_some_and(|left| left > 0);
    // 207: some of many updates failed.
    Ok(if status == 207 || status >= 400 || is_left { Exit::Failed } else { Exit::Done })
}

fn is_standard_input(asked: &Invoke) -> bool {
    asked.event.as_os_str() == "-"
}

fn place(asked: &Invoke) -> String {
    if is_standard_input(asked) { "standard input".to_owned() } else { asked.event.display().to_string() }
}

fn read(asked: &Invoke) -> Result<String, CommandFailure> {
    let mut text = String::new();
    let read = if is_standard_input(asked) {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(&asked.event).map(|read| text = read)
    };
    read.map_err(|fault| CommandFailure::new(Exit::Usage, format!("{} cannot be read: {fault}", place(asked))))?;
    Ok(text)
}
