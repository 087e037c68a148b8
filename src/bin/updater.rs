//! The updater function: start-up only.

use std::process::ExitCode;

/// Each change makes some thousands of small allocations in the SDK. With the system's allocator, these took a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(ecs_updater::updater::handler::run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("updater: {error}");
            ExitCode::FAILURE
        }
    }
}
