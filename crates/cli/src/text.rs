//! Text from events is hostile: whoever may request a change writes its image, reason, requester and tags.

use std::fmt::Write;

use domain::text::is_unseen;
use serde::Serialize;

pub(crate) use domain::text::one_line as clean;

/// The same for a text of several lines, such as an error message. Its line breaks are kept.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// The text cleaned and cut to `most` characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    let clean = clean(text);
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// JSON that is still valid JSON, and that contains nothing that a terminal obeys: what `serde_json` leaves as it is (DEL, C1, marks of
/// direction) is escaped, too. Such characters can only be in strings.
///
/// # Errors
///
/// If `value` cannot be JSON.
pub(crate) fn json(value: &impl Serialize, pretty: bool) -> Result<String, serde_json::Error> {
    let plain = if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    let mut safe = String::with_capacity(plain.len());
    for character in plain.chars() {
        if character != '\n' && is_unseen(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    Ok(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\u{1b}[31mred\u{7}\u{9b}2J\u{7f}\u{202e}gpj\u{2066}\u{200b}\u{e0041}\nnext\tone";
        let clean = clean(hostile);
        assert!(!clean.chars().any(is_unseen), "{clean:?}");
        assert_eq!(clean, "a�[31mred��2J��gpj��� next one");
        assert_eq!(clean_lines("one\u{1b}\ntwo"), "one�\ntwo");
        assert_eq!(super::clean("Zürich → 東京 👍"), "Zürich → 東京 👍");
    }

    #[test]
    fn json_stays_what_it_says_and_reaches_no_terminal() {
        let hostile = serde_json::json!({"reason": "\u{1b}[31m\u{9b}2J\u{202e}\u{e0041}\n"});
        for pretty in [true, false] {
            let text = json(&hostile, pretty).unwrap();
            assert!(!text.chars().any(|character| character != '\n' && is_unseen(character)), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), hostile);
        }
    }

    #[test]
    fn a_short_text_says_that_it_goes_on() {
        assert_eq!(short("abcd", 4), "abcd");
        assert_eq!(short("abcde", 4), "abc…");
    }
}
