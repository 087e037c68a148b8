//! The updater function: start-up only.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(ecs_updater::function::run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("updater: {error}");
            ExitCode::FAILURE
        }
    }
}
