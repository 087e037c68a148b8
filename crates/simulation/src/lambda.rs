//! Lambda: environments for the functions, their time limits as in the templates, and what becomes of an invocation.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::config::{Config, RecorderConfig, Tables};
use domain::ecr_push::Mapping;
use domain::error::Failure;
use domain::event::parse::Defaults;
use domain::ids::Identity;
use domain::ids::{AccountId, FunctionArn, Region};
use ecs_updater::aws::history_reader::HistoryReader;
use ecs_updater::history::handler as history;
use ecs_updater::recorder;
use ecs_updater::recorder::Recorder;
use ecs_updater::telemetry;
use ecs_updater::trigger::handler::Trigger;
use ecs_updater::updater as update;
use ecs_updater::updater::Updater;
use ecs_updater::updater::handler::Function;
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::counts::Counts;
use crate::environment::{Environment, Run};
use crate::network::Call;
use crate::plan::{Deviation, Of};
use crate::random::Stream;
use crate::tables;
use crate::world::{World, clock, metrics, random};

/// Time limits of `infrastructure/cloudformation/hub.yaml` and `trigger.yaml`.
pub const UPDATER_TIMEOUT: u64 = 900;
const RECORDER_TIMEOUT: u64 = 120;
const HISTORY_TIMEOUT: u64 = 60;
const TRIGGER_TIMEOUT: u64 = 900;

/// The account of the functions.
pub const HUB: &str = aws_stub::site::HUB;

/// Environments that wait for an invocation, each with what runs in it.
type Waiting<T> = RefCell<Vec<Rc<(Rc<Environment>, T)>>>;

/// Environments that wait for an invocation.
#[derive(Default)]
pub struct Pool {
    updaters: Waiting<Function>,
    recorders: Waiting<Recorder>,
}

impl Pool {
    /// Ends all environments: the next invocations get new ones.
    pub fn clear(&self) {
        self.updaters.borrow_mut().clear();
        self.recorders.borrow_mut().clear();
    }
}

/// How an invocation ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It ended with an answer.
    Answered(Value),
    /// It ended with an error.
    Failed {
        /// `errorType`.
        code: String,
        /// `errorMessage`.
        message: String,
        /// Whether the error says that it may be temporary.
        is_retryable: bool,
    },
    /// It ended with neither: its environment died, or its time was over.
    Died,
}

impl Ended {
    fn shown(&self) -> String {
        match self {
            Self::Answered(answer) => {
                let status = answer.pointer("/body/status").or_else(|| answer.pointer("/body/summary"));
                let shown = status.unwrap_or(answer).to_string();
                format!("= {}", shown.chars().take(160).collect::<String>())
            }
            Self::Failed { code, message, is_retryable } => {
                let may = if *is_retryable { " (may pass)" } else { "" };
                format!("= {code}{may} {}", message.chars().take(300).collect::<String>())
            }
            Self::Died => "= nothing".to_owned(),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    match name {
        "HISTORY_TABLE" => Some(tables::HISTORY.to_owned()),
        "STATE_TABLE" => Some(tables::STATE.to_owned()),
        _ => None,
    }
}

fn environment(world: &World, kind: &str) -> Rc<Environment> {
    let name = format!("{kind}-{}", world.next(kind));
    let skew = match world.deviation(Of::Environment, &format!("environment {name}")) {
        Some(Deviation::Skew(millis)) => {
            Counts::one(&mut world.counts.borrow_mut().troubles, "clock skew");
            TimeDelta::milliseconds(millis)
        }
        _ => TimeDelta::zero(),
    };
    world.counts.borrow_mut().environments += 1;
    if !skew.is_zero() {
        world.note(&name, &format_args!("has a clock that is ahead by {} ms", skew.num_milliseconds()));
    }
    Rc::new(Environment {
        name,
        skew,
        invocation: RefCell::default(),
        calls: Cell::default(),
        failures: Cell::default(),
    })
}

/// A waiting environment, or a new one.
fn take<T>(
    world: &World,
    invocation: &str,
    idle: &RefCell<Vec<T>>,
    new: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let reuse = Stream::new(world.plan.seed, &format!("reuse {invocation}")).chance(0.6);
    let waiting = if reuse { idle.borrow_mut().pop() } else { None };
    waiting.map_or_else(new, Ok)
}

/// Runs an invocation to its end, its death or its time limit.
async fn run<F: Future>(
    world: &World,
    environment: &Rc<Environment>,
    invocation: &str,
    limit: u64,
    inner: F,
) -> Option<F::Output> {
    invocation.clone_into(&mut environment.invocation.borrow_mut());
    let stop = world.deviation(Of::Invocation, &format!("invocation {invocation}"));
    world.note(invocation, &format_args!("begins in {}", environment.name));
    let run = Run::new(environment, stop, inner);
    let done = timeout(Duration::from_secs(limit), run).await.ok().flatten();
    // It may have been frozen beyond its time limit.
    if done.is_none() {
        world.note(invocation, &"ended without an answer");
    }
    done
}

/// When Lambda ends an invocation that begins now, in the whole milliseconds of its header.
fn deadline(world: &World, limit: u64) -> DateTime<Utc> {
    let at = world.now() + TimeDelta::seconds(i64::try_from(limit).unwrap_or_default());
    DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at)
}

fn region(world: &World) -> Result<Region, String> {
    Region::parse(&world.region)
}

/// An environment of the updater.
fn new_updater(world: &World) -> Result<Rc<(Rc<Environment>, Function)>, String> {
    let config = Config::from_variables(variable)?;
    let namespace = config.metrics_namespace.clone();
    let updater = Updater::new(config, world.shared.clone(), clock, random);
    let function = Function::new(updater, region(world)?, namespace, clock, metrics as telemetry::Metrics);
    Ok(Rc::new((environment(world, "updater"), function)))
}

/// Invokes the updater.
pub async fn updater(world: &World, invocation: &str, request_id: &str, event: &Value) -> Ended {
    let pool = &world.pool.updaters;
    let waiting = match take(world, invocation, pool, || new_updater(world)) {
        Ok(waiting) => waiting,
        Err(error) => {
            world.violated("the updater starts", &error);
            return Ended::Died;
        }
    };
    let (environment, function) = &*waiting;
    let function_arn = format!("arn:aws:lambda:{}:{HUB}:function:ecs-updater", world.region);
    let invoked = update::Invocation {
        request_id: request_id.to_owned(),
        deadline: deadline(world, UPDATER_TIMEOUT),
        function: FunctionArn::parse(&function_arn),
    };
    let event = event.to_string();
    let answer = function.answer(event.as_bytes(), &invoked);
    let ended = match run(world, environment, invocation, UPDATER_TIMEOUT, answer).await {
        None => Ended::Died,
        Some(Ok(answer)) => Ended::Answered(serde_json::to_value(answer).unwrap_or_default()),
        Some(Err(failure)) => refused(&failure),
    };
    end(world, invocation, &ended);
    if !matches!(ended, Ended::Died) {
        pool.borrow_mut().push(waiting);
    }
    ended
}

fn refused(failure: &Failure) -> Ended {
    let (code, message) = (failure.code.as_str().to_owned(), failure.message.clone());
    Ended::Failed { code, message, is_retryable: failure.retryable }
}

fn end(world: &World, invocation: &str, ended: &Ended) {
    world.note(invocation, &ended.shown());
    world.say(&format!("{ended:?}"));
}

/// Invokes the recorder.
pub async fn recorder(world: &World, invocation: &str, request_id: &str, event: &Value) -> Ended {
    let Ok(config) = RecorderConfig::from_variables(variable) else { return Ended::Died };
    let pool = &world.pool.recorders;
    let waiting = take(world, invocation, pool, || {
        let recorder = Recorder::new(config, world.shared.clone(), clock, random, metrics as telemetry::Metrics);
        Ok(Rc::new((environment(world, "recorder"), recorder)))
    });
    let Ok(waiting) = waiting else { return Ended::Died };
    let (environment, recorder) = &*waiting;
    let invoked = recorder::RecorderInvocation {
        request_id: request_id.to_owned(),
        deadline: deadline(world, RECORDER_TIMEOUT),
        partition: "aws".to_owned(),
    };
    let event = event.to_string();
    let answer = recorder.answer(event.as_bytes(), &invoked);
    let ended = match run(world, environment, invocation, RECORDER_TIMEOUT, answer).await {
        None => Ended::Died,
        Some(Ok(answer)) => Ended::Answered(answer),
        Some(Err(failure)) => failed(Diagnostic::from(failure)),
    };
    end(world, invocation, &ended);
    if !matches!(ended, Ended::Died) {
        pool.borrow_mut().push(waiting);
    }
    ended
}

fn failed(failure: Diagnostic) -> Ended {
    Ended::Failed { code: failure.error_type, message: failure.error_message, is_retryable: true }
}

/// Queries the history.
pub async fn history(world: &World, invocation: &str, query: &Value) -> Ended {
    history_by_its_clock(world, invocation, query).await.0
}

/// The same, and how far the clock of the environment that answers is ahead.
pub async fn history_by_its_clock(world: &World, invocation: &str, query: &Value) -> (Ended, TimeDelta) {
    let Ok(tables) = Tables::from_variables(variable) else { return (Ended::Died, TimeDelta::zero()) };
    let environment = environment(world, "history");
    let reader = HistoryReader::new(&world.shared, tables);
    let query = query.to_string();
    let answer = async { history::answer(&reader, query.as_bytes(), invocation, clock()).await };
    let ended = match run(world, &environment, invocation, HISTORY_TIMEOUT, answer).await {
        None => Ended::Died,
        Some(Ok(answer)) => Ended::Answered(serde_json::to_value(answer).unwrap_or_default()),
        Some(Err(failure)) => refused(&failure),
    };
    end(world, invocation, &ended);
    (ended, environment.skew)
}

/// Delivers messages of the queue to the trigger.
pub async fn trigger(world: &World, invocation: &str, mapping: &Value, messages: &Value) -> Ended {
    let Ok(region) = region(world) else { return Ended::Died };
    let defaults = Defaults { account_id: AccountId::parse(HUB).ok(), region, identity: Identity::Claimed };
    let mapping = match Mapping::parse(&mapping.to_string(), &defaults) {
        Ok(mapping) => mapping,
        Err(error) => {
            world.violated("the trigger takes its mapping", &error);
            return Ended::Died;
        }
    };
    let environment = environment(world, "trigger");
    let trigger = Trigger::new(&world.shared, "ecs-updater".to_owned(), mapping);
    let messages = messages.to_string();
    let until = Instant::now() + Duration::from_secs(TRIGGER_TIMEOUT);
    let answer = trigger.answer(messages.as_bytes(), until);
    let ended = match run(world, &environment, invocation, TRIGGER_TIMEOUT, answer).await {
        None => Ended::Died,
        Some(Ok(again)) => Ended::Answered(serde_json::to_value(again).unwrap_or_default()),
        Some(Err(failure)) => failed(failure),
    };
    end(world, invocation, &ended);
    ended
}

/// The Lambda API: the trigger invokes the updater.
pub async fn invoked(world: &Rc<World>, call: &Call) -> (u16, String) {
    let event: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let request_id = format!("{}.u{}", call.invocation, world.next(&format!("{} invokes", call.invocation)));
    let answer = match crate::callers::send(world, &request_id, &request_id, &event).await {
        Ended::Answered(answer) => answer,
        Ended::Failed { code, message, .. } => json!({"errorType": code, "errorMessage": message}),
        Ended::Died => json!({"errorType": "Runtime.ExitError", "errorMessage": "the environment died"}),
    };
    (200, answer.to_string())
}
