//! Executions of the state machine that runs waves: starts, describes and stops them.

use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::HistoryEvent;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{ATTEMPTS, READ_TIMEOUT, config, failed, timeouts};
use crate::arguments::SharedArgs;
use crate::failure::{CommandFailure, Exit};
use crate::progress::{Counts, MapRun, RolloutStep};
use crate::text::short;

/// The most events that `GetExecutionHistory` returns at once.
const EVENTS_AT_ONCE: i32 = 1000;

/// How much of a cause a message shows: a cause may have 32,768 characters.
const MAX_OF_A_CAUSE: usize = 1000;

/// The present state of an execution.
#[derive(Debug, Clone, Default)]
pub(crate) struct Execution {
    /// `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`, `PENDING_REDRIVE`.
    pub status: String,
    /// Its input, if it could be read.
    pub input: Option<Value>,
    /// The summary: its output, or its cause if it failed, if that is JSON.
    pub summary: Option<Value>,
    /// The error it ended with.
    pub error: Option<String>,
    /// The cause it ended with.
    pub cause: Option<String>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
}

/// Asks Step Functions, in the region of an ARN.
#[derive(Debug)]
pub(crate) struct Executions {
    client: Client,
}

impl Executions {
    /// Reads the credentials and the endpoint. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If no region is set. Otherwise the region of the ARN is used in its place.
    pub(crate) async fn new(shared: &SharedArgs, arn: &str) -> Result<Self, CommandFailure> {
        let (config, _) = config(shared, ATTEMPTS, timeouts(READ_TIMEOUT), "where the state machine is").await?;
        let mut builder = aws_sdk_sfn::config::Builder::from(&config);
        if let Some(region) = arn.split(':').nth(3).filter(|region| !region.is_empty()) {
            builder = builder.region(aws_config::Region::new(region.to_owned()));
        }
        Ok(Self { client: Client::from_conf(builder.build()) })
    }

    /// Starts an execution and returns its ARN. The same name with the same input is the same execution, so it may be
    /// sent again.
    ///
    /// # Errors
    ///
    /// If it was not started.
    pub(crate) async fn start(&self, state_machine: &str, name: &str, input: String) -> Result<String, CommandFailure> {
        let request = self.client.start_execution().state_machine_arn(state_machine).name(name).input(input);
        match request.send().await {
            Ok(answer) => Ok(answer.execution_arn),
            Err(error) => {
                let failure = failed("states:StartExecution", &error).at(state_machine);
                Err(match failure.code.as_deref() {
                    Some("ExecutionAlreadyExists") => failure
                        .advise("An execution of that name had another input, or has ended: use another --name, or --follow it."),
                    Some("StateMachineDoesNotExist" | "InvalidArn") => failure
                        .advise("Name the state machine: --state-machine or ECS_UPDATER_STATE_MACHINE, output WavesArn of hub.yaml."),
                    _ => failure,
                })
            }
        }
    }

    /// Describes an execution.
    ///
    /// # Errors
    ///
    /// If it could not be described.
    pub(crate) async fn describe(&self, arn: &str) -> Result<Execution, CommandFailure> {
        let answer = self.client.describe_execution().execution_arn(arn).send().await.map_err(|error| {
            let failure = failed("states:DescribeExecution", &error).at(arn);
            match failure.code.as_deref() {
                Some("ExecutionDoesNotExist" | "InvalidArn") => {
                    failure.advise("Look at the ARN, and at whose credentials these are.")
                }
                _ => failure,
            }
        })?;
        let parse = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
        Ok(Execution {
            status: answer.status.as_str().to_owned(),
            input: parse(answer.input()),
            // A failed execution may have an output, too: the input of its last state.
            summary: parse(answer.cause()).filter(Value::is_object).or_else(|| parse(answer.output())),
            error: answer.error().map(str::to_owned),
            cause: answer.cause().map(str::to_owned),
            started: time(Some(answer.start_date())),
        })
    }

    /// The steps of an execution after event `after`, in their order, and the id of the newest event.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub(crate) async fn steps(&self, arn: &str, after: i64) -> Result<(Vec<RolloutStep>, i64), CommandFailure> {
        let mut events: Vec<HistoryEvent> = Vec::new();
        let mut token = None;
        // The newest events come first, so that only new ones are read, however long the execution has been running.
        loop {
            let answer = self
                .client
                .get_execution_history()
                .execution_arn(arn)
                .reverse_order(true)
                .include_execution_data(true)
                .max_results(EVENTS_AT_ONCE)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| failed("states:GetExecutionHistory", &error).at(arn))?;
            let known = answer.events.iter().any(|event| event.id <= after);
            events.extend(answer.events.into_iter().filter(|event| event.id > after));
            token = answer.next_token;
            if known || token.is_none() {
                break;
            }
        }
        events.sort_by_key(|event| event.id);
        let newest = events.last().map_or(after, |event| event.id);
        Ok((events.iter().filter_map(step).collect(), newest))
    }

    /// The Map Runs of an execution, the oldest first, without their counts.
    ///
    /// # Errors
    ///
    /// If they could not be listed.
    pub(crate) async fn map_runs(&self, arn: &str) -> Result<Vec<MapRun>, CommandFailure> {
        let listed = self.client.list_map_runs().execution_arn(arn).into_paginator().items().send();
        let listed: Vec<_> =
            listed.collect::<Result<_, _>>().await.map_err(|error| failed("states:ListMapRuns", &error).at(arn))?;
        let mut runs: Vec<_> = listed
            .into_iter()
            .map(|run| (run.start_date, MapRun { arn: run.map_run_arn, ended: run.stop_date.is_some() }))
            .collect();
        runs.sort_by_key(|(began, _)| *began);
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// How many items of a Map Run are in each state.
    ///
    /// # Errors
    ///
    /// If it could not be described.
    pub(crate) async fn counts(&self, map_run: &str) -> Result<Counts, CommandFailure> {
        let answer = self
            .client
            .describe_map_run()
            .map_run_arn(map_run)
            .send()
            .await
            .map_err(|error| failed("states:DescribeMapRun", &error).at(map_run))?;
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(answer.item_counts().map_or_else(Counts::default, |items| Counts {
            total: number(items.total()),
            succeeded: number(items.succeeded()),
            failed: number(items.failed()) + number(items.timed_out()) + number(items.aborted()),
        }))
    }

    /// Stops an execution.
    ///
    /// # Errors
    ///
    /// If it was not stopped.
    pub(crate) async fn stop(&self, arn: &str, cause: &str) -> Result<(), CommandFailure> {
        let request = self.client.stop_execution().execution_arn(arn).error("StoppedByHand").cause(cause);
        request.send().await.map(drop).map_err(|error| failed("states:StopExecution", &error).at(arn))
    }
}

fn time(at: Option<&aws_sdk_sfn::primitives::DateTime>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at?.to_millis().ok()?)
}

/// What an event says about the progress of the execution.
fn step(event: &HistoryEvent) -> Option<RolloutStep> {
    if let Some(entered) = event.state_entered_event_details() {
        return Some(RolloutStep::Entered { name: entered.name().to_owned(), at: time(Some(event.timestamp())) });
    }
    let assigned = event.state_exited_event_details()?.assigned_variables()?;
    RolloutStep::left(assigned.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The failure that describes the end of an execution that left no summary.
pub(crate) fn ended_without_summary(arn: &str, execution: &Execution) -> CommandFailure {
    let what = match execution.status.as_str() {
        "ABORTED" => "the execution was stopped",
        "TIMED_OUT" => "the execution ran out of time",
        _ => "the execution failed",
    };
    let mut message = what.to_owned();
    for detail in [&execution.error, &execution.cause].into_iter().flatten() {
        message = format!("{message}: {}", short(detail, MAX_OF_A_CAUSE));
    }
    let since = execution.started.map(|at| format!(" --from {}", at.format("%Y-%m-%dT%H:%M:%SZ"))).unwrap_or_default();
    CommandFailure::new(Exit::Failed, message).code(&execution.status).at(arn).advise(format!(
        "Waves after this one were not started; what was changed stays changed. Which services that is: \
         `ecs-updater history{since} --all`, and what stands under rollouts/{}/ in the results bucket.",
        arn.rsplit(':').next().unwrap_or_default()
    ))
}
