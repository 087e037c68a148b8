//! `ecs-updater`: the command line. This file only starts it: `arguments` defines what it accepts, `commands` what it does.
//!
//! It has no rights of its own: it uses the updater and the history function through the Lambda API, Step Functions for rollouts, and AWS
//! Organizations and the accounts' reader roles for targets, with the credentials of whoever calls it.

mod answers;
mod arguments;
mod aws;
mod bars;
mod commands;
mod difference;
mod failure;
mod function;
mod json;
mod lambda;
mod progress;
mod screen;
mod service;
mod text;
mod waves;
mod web;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::screen::Screen;

#[tokio::main(flavor = "current_thread")]

async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut screen = Screen::new(arguments.shared.output);
    match commands::run(arguments, &mut screen).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen.failure(&failure);
            failure.exit.into()
        }
    }
}
