//! Texts for messages, logs and records: on one line and without invisible characters; and the written form of bytes and times.

use std::fmt::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// A text in quotes for a message: see [`shown`].
#[must_use]
pub fn shown_text(text: &str) -> String {
    shown(&format_args!("{text:?}"))
}

/// A value for a message: at most 100 characters of it, on one line.
///
/// An event may hold megabytes and any Unicode; a message is read by people in a log. Rendering stops at the limit, so that a large value
/// costs nothing.
pub fn shown(value: &dyn fmt::Display) -> String {
    let mut line = Line { text: String::new(), room: 100 };
    if write!(line, "{value}").is_err() {
        line.text.push('…');
    }
    line.text
}

/// Whether a character could forge lines of a log, or make one text look like another: control characters, line ends, direction marks, and
/// characters that have no width or look like a space. Source of most of them: `Default_Ignorable_Code_Point`,
/// <https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point>.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        // Line ends, the Braille pattern without dots, and annotation marks.
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{2800}' | '\u{fff9}'..='\u{fffb}')
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// The text on one line, with `�` in place of each character for which [`is_unseen`] is true. Line ends and tabs become spaces.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            unseen if is_unseen(unseen) => '\u{fffd}',
            seen => seen,
        })
        .collect()
}

/// The first `longest` characters of a text, with `…` behind them if there are more.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Accepts characters until its room is used up, then fails, which ends the rendering.
struct Line {
    text: String,
    room: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            if is_unseen(character) {
                self.text.extend(character.escape_unicode());
            } else {
                self.text.push(character);
            }
        }
        Ok(())
    }
}

/// Lowercase hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// RFC 3339 in UTC with milliseconds: how every time of this project is written.
#[must_use]
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_values_on_one_short_line() {
        assert_eq!(shown_text("a\"b"), r#""a\"b""#);
        for text in
            ["a\nb\r", "\u{202e}gnp.exe", "\u{2028}", "\u{85}\u{1b}[31m", "\u{feff}", "\0", "\u{3164}", "\u{2800}"]
        {
            for line in [shown_text(text), shown(&text)] {
                assert!(line.is_ascii() && !line.contains(char::is_control), "{line:?}");
            }
        }
        assert_eq!(shown(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(shown(&"🦀".repeat(101)), format!("{}…", "🦀".repeat(100)));
    }
}
