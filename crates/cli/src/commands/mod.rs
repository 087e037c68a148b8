//! What each command does.

mod change;
mod export;
mod history;
mod invoke;
mod pins;
mod rollout;
mod targets;
mod verify;

use clap::CommandFactory;
use domain::ecs::deployment::verb::DeploymentVerb;
use domain::ids::Region;
use domain::ledger::history_query::HistoryQuery;
use serde_json::Value;

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
        Command::Update(asked) => {
            change::update(&Functions::new(shared).await?, screen, asked.wanted, asked.dry_run).await
        }
        Command::Plan(asked) => {
            change::plan(&Functions::new(shared).await?, screen, asked.wanted, asked.exit_code).await
        }
        Command::Restore(asked) => change::restore(&Functions::new(shared).await?, screen, asked).await,
        Command::Continue(asked) => {
            let functions = Functions::new(shared).await?;
            Box::pin(change::act(&functions, screen, DeploymentVerb::Continue, asked)).await
        }
        Command::Stop(asked) => {
            let functions = Functions::new(shared).await?;
            Box::pin(change::act(&functions, screen, DeploymentVerb::Stop, asked)).await
        }
        Command::History(asked) if asked.web => crate::web::serve(Functions::new(shared).await?, screen, &asked).await,
        Command::History(asked) => history::run(&Functions::new(shared).await?, screen, &asked).await,
        Command::Verify(asked) if !asked.export.is_empty() => verify::offline(screen, &asked.export, &asked.against),
        Command::Verify(asked) => verify::online(&Functions::new(shared).await?, screen, asked.service.as_ref()).await,
        Command::Targets(asked) => targets::run(shared, screen, asked).await,
        Command::Rollout(asked) => rollout::run(shared, screen, asked).await,
        Command::Invoke(asked) => invoke::run(shared, &asked).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ecs-updater", &mut script);
            Screen::print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}

/// Queries the history function, which may be queried twice.
pub(crate) async fn ask_history(functions: &Functions, query: &HistoryQuery) -> Result<Value, CommandFailure> {
    let mut answer = functions.ask(Function::History, query, true).await?;
    Ok(answer.get_mut("body").map(Value::take).unwrap_or_default())
}

/// The query that names a service in full, and nothing else. If no region was named, that of the functions is used; the account cannot be
/// guessed.
pub(crate) fn query_of(service: &Service, functions: &Functions) -> Result<HistoryQuery, CommandFailure> {
    let Some(account_id) = &service.account_id else {
        return Err(CommandFailure::new(
            Exit::Usage,
            format!("the history is asked by account too, and {service} names none"),
        )
        .advise(format!("Write ACCOUNT/{service}.")));
    };
    let region = service.region.as_ref().map_or_else(|| functions.region().to_owned(), Region::to_string);
    Ok(HistoryQuery {
        account_id: Some(account_id.to_string()),
        region: Some(region),
        ecs_cluster_name: Some(service.cluster.to_string()),
        ecs_service_name: Some(service.name.to_string()),
        ..HistoryQuery::default()
    })
}
