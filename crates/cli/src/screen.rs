//! What people see: width, colours, tables, failures. Every text that comes from outside passes through `text` first.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;
use textwrap::{Options, WordSplitter, wrap};
use unicode_width::UnicodeWidthStr;

use crate::answers::{HistoryChange, ServiceAnswer, Tone, tone};
use crate::arguments::Format;
use crate::difference::{Difference, shortened};
use crate::failure::{CommandFailure, Exit};
use crate::text::{clean, clean_lines, json, short};

/// The indentation of a failure's further lines. Its advice begins at the second column.
const INNER: &str = "    ";
/// The width of output that goes to a file: that of a traditional terminal.
const USUAL_WIDTH: usize = 80;
/// Longer lines are hard to read.
const WIDEST: usize = 120;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const OPEN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Standard output and standard error.
pub(crate) struct Screen {
    format: Format,
    width: usize,
    /// The service that heads the current entries of a list.
    heading: Option<String>,
}

/// The result of printing. If a pipe was closed, nobody reads any more, which is no failure.
pub(crate) type Printed = Result<(), CommandFailure>;

impl Screen {
    /// The screen of this process.
    pub(crate) fn new(format: Format) -> Self {
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
        let terminal = || Some(usize::from(terminal_size::terminal_size()?.0.0));
        let width = if io::stdout().is_terminal() { terminal().or_else(columns) } else { columns() };
        Self { format, width: width.unwrap_or(USUAL_WIDTH).clamp(40, WIDEST), heading: None }
    }

    /// Whether programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints text as it is. It is ours, or it was cleaned before.
    pub(crate) fn print(text: &str) -> Printed {
        let mut out = anstream::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // This is what `head` causes: who closed the pipe has what they wanted.
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => std::process::exit(i32::from(Exit::Done as u8)),
            Err(fault) => {
                Err(CommandFailure::new(Exit::Failed, format!("standard output could not be written: {fault}")))
            }
        }
    }

    /// Prints an answer as JSON, for programs.
    pub(crate) fn json(value: &Value, pretty: bool) -> Printed {
        let text = json(value, pretty)
            .map_err(|fault| CommandFailure::new(Exit::Failed, format!("the answer is not JSON: {fault}")))?;
        Self::print(&format!("{text}\n"))
    }

    /// Prints one or several lines, wrapped.
    pub(crate) fn say(&self, text: &str) -> Printed {
        Self::print(&self.wrapped(text, 0, Style::new()))
    }

    /// Prints lines indented and not wrapped: names and commands, for copying.
    pub(crate) fn list<'a>(lines: impl IntoIterator<Item = impl Into<std::borrow::Cow<'a, str>>>) -> Printed {
        let mut text = String::new();
        for line in lines {
            _ = writeln!(text, "  {}", clean(&line.into()));
        }
        Self::print(&text)
    }

    /// An empty line.
    pub(crate) fn space() -> Printed {
        Self::print("\n")
    }

    /// A heading: a status and what it is about.
    pub(crate) fn headline(&self, status: &str, about: &str) -> Printed {
        let (status, about) = (clean(status), clean(about));
        let style = style_of(&status);
        let mut text = String::new();
        if status.width() + about.width() + 2 <= self.width {
            _ = writeln!(text, "{style}{status}{style:#}  {BOLD}{about}{BOLD:#}");
        } else {
            _ = writeln!(text, "{style}{status}{style:#}");
            text.push_str(&self.wrapped(&about, 2, BOLD));
        }
        Self::print(&text)
    }

    /// Names and values, one pair below the other. Those without a value are left out.
    pub(crate) fn facts(&self, facts: &[(&str, Option<String>)]) -> Printed {
        let names = facts.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in facts {
            let Some(value) = value else { continue };
            let lines = self.lines(&clean(value), names + 4);
            for (index, line) in lines.iter().enumerate() {
                let name = if index == 0 { *name } else { "" };
                _ = writeln!(text, "  {DIM}{name:names$}{DIM:#}  {line}");
            }
        }
        Self::print(&text)
    }

    /// Differences, in the form of a diff.
    pub(crate) fn differences(&self, differences: &[Difference]) -> Printed {
        let mut text = String::new();
        for difference in differences {
            text.push_str(&self.wrapped(&difference.title(), 2, BOLD));
            for (sign, style, value) in [("-", BAD, &difference.from), ("+", GOOD, &difference.to)] {
                let Some(value) = value else { continue };
                for (index, line) in self.lines(value, 6).iter().enumerate() {
                    let sign = if index == 0 { sign } else { " " };
                    _ = writeln!(text, "    {style}{sign} {line}{style:#}");
                }
            }
        }
        Self::print(&text)
    }

    /// One change of a list, under the name of its service.
    pub(crate) fn entry(&mut self, change: &HistoryChange) -> Printed {
        /// The width of the longest usual status. A rarer one pushes the id to the right, which then ends at column 75.
        const STATUS: usize = 10;
        let mut text = String::new();
        let service = clean(&change.service());
        if self.heading.as_ref() != Some(&service) {
            text.push_str(if self.heading.is_some() { "\n" } else { "" });
            text.push_str(&self.wrapped(&service, 0, BOLD));
            self.heading = Some(service);
        }
        let status = clean(change.status.as_deref().unwrap_or("?"));
        let style = style_of(&status);
        let gap = " ".repeat(STATUS.saturating_sub(status.width()));
        let id = short(change.change_id.as_deref().unwrap_or_default(), 36);
        let time = time_of(change.when());
        _ = writeln!(text, "  {time}  {style}{status}{style:#}{gap}  {DIM}{id}{DIM:#}");
        for (line, style) in summary(change) {
            for (index, wrapped) in self.lines(&line, 8).iter().enumerate() {
                let indent = if index == 0 { 6 } else { 8 };
                _ = writeln!(text, "{}{style}{wrapped}{style:#}", " ".repeat(indent));
            }
        }
        Self::print(&text)
    }

    /// Prints a failure on standard error, as sentences or as JSON.
    pub(crate) fn failure(&self, failure: &CommandFailure) {
        let mut text = String::new();
        if self.is_json() {
            text = json(&failure.to_json(), false).unwrap_or_default();
            text.push('\n');
        } else {
            let code = failure.code.as_ref().map(|code| format!("{}, ", clean(code))).unwrap_or_default();
            let place = failure.place.as_ref().map(|place| clean(place)).unwrap_or_default();
            let about = format!("{code}{place}");
            let about = about.trim_end_matches(", ");
            let separator = if about.is_empty() { "" } else { ": " };
            let message = clean_lines(&failure.message);
            // Only our own lines begin at the edge, or where advice begins. Text that others wrote is indented further.
            let lines =
                lines_of(&format!("error: {about}{separator}{message}"), self.options(0).subsequent_indent(INNER));
            text.push_str(&lines.join("\n").replacen("error:", &format!("{BAD}error:{BAD:#}"), 1));
            text.push('\n');
            for sentence in &failure.advice {
                text.push_str(&self.wrapped(&clean(sentence), 2, Style::new()));
            }
        }
        // If standard error is closed, too, the exit code has to suffice.
        _ = anstream::stderr().write_all(text.as_bytes());
    }

    fn options(&self, indent: usize) -> Options<'static> {
        Options::new(self.width.saturating_sub(indent).max(20)).word_splitter(WordSplitter::NoHyphenation)
    }

    fn lines(&self, text: &str, indent: usize) -> Vec<String> {
        lines_of(text, self.options(indent))
    }

    fn wrapped(&self, text: &str, indent: usize, style: Style) -> String {
        let mut wrapped = String::new();
        for line in self.lines(text, indent) {
            _ = writeln!(wrapped, "{}{style}{line}{style:#}", " ".repeat(indent));
        }
        wrapped
    }
}

fn lines_of(text: &str, options: Options) -> Vec<String> {
    // An arrow stays on the same line as its target.
    wrap(&text.replace("→ ", "→\u{a0}"), options).iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

fn style_of(status: &str) -> Style {
    match tone(status) {
        Tone::Good => GOOD,
        Tone::Open => OPEN,
        Tone::Bad => BAD,
        Tone::Quiet => DIM,
    }
}

/// `2026-11-22 09:30` for an RFC 3339 time, in UTC.
pub(crate) fn time_of(at: Option<&str>) -> String {
    let at = clean(at.unwrap_or_default());
    match chrono::DateTime::parse_from_rfc3339(&at) {
        Ok(at) => at.to_utc().format("%Y-%m-%d %H:%M").to_string(),
        Err(_) => format!("{:16}", short(&at, 16)),
    }
}

/// What a list says about a change: who made it, why, what differs, how it failed.
fn summary(change: &HistoryChange) -> Vec<(String, Style)> {
    const PLAIN: Style = Style::new();
    let mut lines: Vec<(String, Style)> = Vec::new();
    match (change.requester(100), &change.reason) {
        (Some(who), Some(why)) => lines.push((format!("{who}: {}", short(why, 240)), PLAIN)),
        (Some(who), None) => lines.push((who, PLAIN)),
        // What the reason says of itself must not be taken for a name that somebody vouches for.
        (None, Some(why)) => {
            lines.push((format!("[{}] nobody named: {}", short(change.identity(), 16), short(why, 240)), PLAIN));
        }
        (None, None) => {}
    }
    if let Some(restores) = &change.restores {
        lines.push((format!("restores what was before {}", short(restores, 36)), PLAIN));
    }
    if let Some(asked) = change.asked_for() {
        lines.push((short(&format!("asked for {asked}"), 300), PLAIN));
    }
    let (differences, more) = shortened(change.differences());
    lines.extend(differences.iter().map(|difference| (short(&difference.line(), 300), PLAIN)));
    if more > 0 {
        lines.push((format!("and {more} more that came with the revision"), PLAIN));
    }
    if differences.is_empty() {
        // There is nothing to compare, or nothing differs: the images that run are shown.
        let state = change.after.as_ref().or(change.before.as_ref());
        let images = state.iter().flat_map(|state| state.all_images());
        lines.extend(images.map(|(name, image)| (short(&format!("image {name}: {image}"), 300), PLAIN)));
    }
    let ended = change.outcome.iter().flat_map(ServiceAnswer::facts);
    lines.extend(ended.map(|(name, value)| (short(&format!("{name}: {value}"), 240), PLAIN)));
    if let Some(error) = &change.error {
        let code = error.code.as_deref().unwrap_or("error");
        lines.push((short(&format!("{code}: {}", error.message.as_deref().unwrap_or_default()), 240), BAD));
    }
    lines
}
