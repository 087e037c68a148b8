//! The history function: start-up only.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]

async fn main() -> ExitCode {
    match ecs_updater::history::handler::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("history: {error}");
            ExitCode::FAILURE
        }
    }
}
