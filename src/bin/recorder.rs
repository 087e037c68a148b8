//! The recorder function: start-up only.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]

async fn main() -> ExitCode {
    match ecs_updater::recorder::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder: {error}");
            ExitCode::FAILURE
        }
    }
}
