//! The trigger function: start-up only.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]

async fn main() -> ExitCode {
    match Box::pin(ecs_updater::trigger::handler::run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trigger: {error}");
            ExitCode::FAILURE
        }
    }
}
