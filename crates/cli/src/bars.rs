//! Shows the progress of a rollout: bars on a terminal, lines in a log, nothing if a program reads the output.

use std::io::Write;

use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Phase, Progress, services};
use crate::screen::Screen;

/// A wave's bar: its name, how much is done, and its phase.
const BAR: &str = "{prefix} [{bar:24.green}] {pos:>5}/{len:5} {wide_msg}";

/// How progress is shown on standard error while an execution runs.
pub(crate) enum Bars {
    /// Bars that are redrawn, one for each wave that has begun.
    Drawn(MultiProgress, Vec<ProgressBar>),
    /// Lines, one for each piece of news.
    Lines,
    /// Nothing.
    None,
}

impl Bars {
    /// The form that suits the destination of standard error.
    pub(crate) fn new(screen: &Screen) -> Self {
        if screen.is_json() {
            return Self::None;
        }
        let drawn = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // There is no terminal, or it cannot move the cursor back to an earlier line.
        if drawn.is_hidden() { Self::Lines } else { Self::Drawn(drawn, Vec::new()) }
    }

    /// Shows what is new since `before`.
    pub(crate) fn show(&mut self, before: &Progress, now: &Progress, at: DateTime<Utc>) {
        match self {
            Self::Drawn(all, bars) => draw(all, bars, now),
            Self::Lines => {
                for line in now.news(before) {
                    // If standard error is closed, the exit code has to suffice.
                    _ = writeln!(anstream::stderr(), "{} {line}", at.format("%H:%M:%S"));
                }
            }
            Self::None => {}
        }
    }

    /// Leaves the bars as they are, so that later output appears below them.
    pub(crate) fn rest(&self) {
        if let Self::Drawn(_, bars) = self {
            bars.iter().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
        }
    }
}

fn draw(all: &MultiProgress, bars: &mut Vec<ProgressBar>, now: &Progress) {
    let begun = now.waves.iter().filter(|wave| wave.phase != Phase::Waiting).count();
    while bars.len() < begun {
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        bar.set_style(style.progress_chars("=> "));
        bars.push(all.add(bar));
    }
    let count = now.waves.len();
    for (index, (bar, wave)) in bars.iter().zip(&now.waves).enumerate() {
        bar.set_prefix(format!("wave {}/{count}", index + 1));
        bar.set_length(wave.total.unwrap_or(wave.done));
        bar.set_position(wave.done);
        let waiting: u64 = now.waves.iter().skip(index + 1).filter_map(|wave| wave.total).sum();
        let last = index + 1 == begun && waiting > 0;
        let rest = if last { format!("; {} to come", services(waiting)) } else { String::new() };
        bar.set_message(format!("{}{rest}", wave.phase.words()));
        if matches!(wave.phase, Phase::Ended(..)) && index + 1 < begun && !bar.is_finished() {
            bar.abandon();
        }
    }
}
