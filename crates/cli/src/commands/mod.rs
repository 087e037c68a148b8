//! What each command does.

mod change;
mod export;
mod history;
mod invoke;
mod rollout;
mod targets;
mod verify;

use clap::CommandFactory;
use serde_json::{Map, Value};

use crate::arguments::{Arguments, Command};
use crate::failure::{CommandFailure, Exit};
use crate::function::Function;
use crate::lambda::Functions;
use crate::screen::Screen;
use crate::service::Service;

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, screen: &mut Screen) -> Result<Exit, CommandFailure> {
    let shared = &arguments.shared;
    match arguments.command {
        Command::Update(it) => change::update(&Functions::new(shared).await?, screen, it.wanted, it.dry_run).await,
        Command::Plan(it) => change::plan(&Functions::new(shared).await?, screen, it.wanted, it.exit_code).await,
        Command::Restore(it) => change::restore(&Functions::new(shared).await?, screen, it).await,
        Command::History(it) if it.web => crate::web::serve(Functions::new(shared).await?, screen, &it).await,
        Command::History(it) => history::run(&Functions::new(shared).await?, screen, &it).await,
        Command::Verify(it) if !it.export.is_empty() => verify::offline(screen, &it.export, &it.against),
        Command::Verify(it) => verify::online(&Functions::new(shared).await?, screen, it.service.as_ref()).await,
        Command::Targets(it) => targets::run(shared, screen, it).await,
        Command::Rollout(it) => rollout::run(shared, screen, it).await,
        Command::Invoke(it) => invoke::run(shared, &it).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ecs-updater", &mut script);
            Screen::print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}

/// Asks the history function, which may be asked twice.
pub(crate) async fn ask_history(functions: &Functions, query: Map<String, Value>) -> Result<Value, CommandFailure> {
    let mut answer = functions.ask(Function::History, &Value::Object(query), true).await?;
    Ok(answer.get_mut("body").map(Value::take).unwrap_or_default())
}

/// The members of a query that name a service in full. The region of the functions stands in where none was named; the
/// account, nobody can guess.
pub(crate) fn query_of(service: &Service, functions: &Functions) -> Result<Map<String, Value>, CommandFailure> {
    let mut members = service.members();
    members.entry("region").or_insert_with(|| functions.region().into());
    if !members.contains_key("account_id") {
        return Err(CommandFailure::new(
            Exit::Usage,
            format!("the history is asked by account too, and {service} names none"),
        )
        .advise(format!("Write ACCOUNT/{service}.")));
    }
    Ok(members)
}
