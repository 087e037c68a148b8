//! The world around the real `updater` binary: the Lambda Runtime API that feeds it, and STS, ECS and DynamoDB as it
//! meets them on the wire. Everything listens on loopback and ends with the test.

pub(crate) mod dynamodb;
pub(crate) mod ecs;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod lambda;
pub(crate) mod ledger;
pub(crate) mod registry;
pub(crate) mod sigv4;
pub(crate) mod sts;
pub(crate) mod tls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use aws_stub::site::{HUB, REGION, Site, TARGET};
pub(crate) use aws_stub::{SECRET_MARKER, SESSION_SECRET, SESSION_TOKEN, exact_json, policy};
use domain::text::is_unseen;
use serde_json::{Value, json};

use dynamodb::{DynamoDb, HISTORY_TABLE, STATE_TABLE, Tables};
use ecs::{Cloud, Ecs, tag_list};
use journal::Journal;
use lambda::{Invocation, Outcome, Process};
use sts::{Session, Sts};

pub(crate) const OTHER_TARGET: &str = "333333333333";
pub(crate) const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater";
pub(crate) const RECORDER_ARN: &str = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater-recorder";
pub(crate) const HUB_ACCESS_KEY: &str = "ASIAHUBHUBHUBHUB0001";
pub(crate) const HUB_SECRET: &str = "do-not-show-me-own-secret";
pub(crate) const OWN_TOKEN: &str = "do-not-show-me-own-token";

/// Locks, also after a panic elsewhere.
pub(crate) fn sync<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The clock of this machine.
pub(crate) fn wall_clock() -> aws_stub::Clock {
    Arc::new(chrono::Utc::now)
}

/// A task definition with one container `web`, as AWS describes one.
pub(crate) fn web_definition(image: &str) -> Value {
    json!({
        "family": "web",
        "containerDefinitions": [{
            "name": "web", "image": image, "cpu": 0, "memory": 64,
            "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}],
            "essential": true, "command": ["sleep", "1000"],
            "environment": [{"name": "PASSWORD", "value": format!("{SECRET_MARKER}-environment")}],
            "mountPoints": [], "volumesFrom": [], "systemControls": [],
        }],
        "networkMode": "awsvpc", "volumes": [], "placementConstraints": [],
        "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
    })
}

/// Everything one test needs.
pub(crate) struct World {
    pub journal: Journal,
    pub sts: Sts,
    pub ecs: Ecs,
    pub dynamodb: DynamoDb,
    environment: Mutex<Vec<(String, String)>>,
    process: Mutex<Option<Arc<Process>>>,
    recorder: Mutex<Option<Arc<Process>>>,
    /// Processes that were ended, for their logs.
    ended: Mutex<Vec<Arc<Process>>>,
    outcomes: Mutex<Vec<Outcome>>,
}

impl World {
    /// A world with the sample service (image busybox, tag old-custom-tag-name) in the target account, and the
    /// updater waiting for an event.
    pub(crate) async fn new() -> Self {
        let world = Self::with_environment(&[]).await;
        world.seed(&Site::target());
        world
    }

    /// An empty world; `environment` adds to what the updater's process gets, or replaces it.
    pub(crate) async fn with_environment(environment: &[(&str, &str)]) -> Self {
        let world = Self::without_process(environment).await;
        world.restart().await;
        world
    }

    pub(crate) async fn without_process(environment: &[(&str, &str)]) -> Self {
        let journal = Journal::default();
        let sts = Sts::start(journal.clone()).await;
        let dynamodb = DynamoDb::start(journal.clone()).await;
        let ecs = Ecs::start(journal.clone(), sts.sessions.clone(), dynamodb.tables.clone()).await;
        let mut variables: Vec<(String, String)> = [
            ("AWS_LAMBDA_FUNCTION_NAME", "ecs-updater".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", HUB_ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", HUB_SECRET.to_owned()),
            ("AWS_SESSION_TOKEN", OWN_TOKEN.to_owned()),
            ("HISTORY_TABLE", HISTORY_TABLE.to_owned()),
            ("STATE_TABLE", STATE_TABLE.to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.server.url()),
            ("AWS_ENDPOINT_URL_ECS", ecs.server.url()),
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.server.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        for (name, value) in environment {
            variables.retain(|(n, _)| n != name);
            if !value.is_empty() {
                variables.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        Self {
            journal,
            sts,
            ecs,
            dynamodb,
            environment: Mutex::new(variables),
            process: Mutex::default(),
            recorder: Mutex::default(),
            ended: Mutex::default(),
            outcomes: Mutex::default(),
        }
    }

    /// A world with the sample service whose updater has other settings.
    pub(crate) async fn configured(environment: &[(&str, &str)]) -> Self {
        let world = Self::with_environment(environment).await;
        world.seed(&Site::target());
        world
    }

    fn variables(&self) -> Vec<(String, String)> {
        sync(&self.environment).clone()
    }

    /// What processes that start from now on get for `name`.
    pub(crate) fn set_variable(&self, name: &str, value: &str) {
        let mut variables = sync(&self.environment);
        variables.retain(|(n, _)| n != name);
        variables.push((name.into(), value.into()));
    }

    /// Takes back all faults, and says how many calls they spoiled.
    pub(crate) async fn mend(&self) -> usize {
        let hits = self.journal.mend();
        for server in [&self.sts.server, &self.ecs.server, &self.dynamodb.server] {
            server.listen().await;
        }
        hits
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        &self.ecs.cloud
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.dynamodb.tables
    }

    /// What AssumeRole gave, in order.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.sts.sessions.all()
    }

    /// The sample service at `site`.
    pub(crate) fn seed(&self, site: &Site) {
        self.seed_with(site, |_| {});
    }

    pub(crate) fn seed_with(&self, site: &Site, edit: impl FnOnce(&mut Value)) {
        self.seed_definition(site, &web_definition("busybox").to_string(), json!([]), edit);
    }

    /// A service at `site` that runs `definition`, the sample tag on it.
    pub(crate) fn seed_definition(&self, site: &Site, definition: &str, tags: Value, edit: impl FnOnce(&mut Value)) {
        let arn = self.cloud().register(site, definition, tags);
        self.cloud().create_service(site, &arn, |service| {
            service["tags"] = tag_list([("old-custom-tag-name", "old-custom-tag-value")]);
            edit(service);
        });
    }

    pub(crate) fn process(&self) -> Arc<Process> {
        sync(&self.process).clone().expect("the updater was started")
    }

    /// SIGKILL.
    pub(crate) async fn kill(&self) {
        let process = sync(&self.process).take().expect("the updater was started");
        process.kill().await;
        sync(&self.ended).push(process);
    }

    /// Ends the process, where one runs, and starts a fresh one.
    pub(crate) async fn restart(&self) {
        if sync(&self.process).is_some() {
            self.kill().await;
        }
        let process = self.another_process().await;
        *sync(&self.process) = Some(process);
    }

    /// A further process beside the first, in the same world: another execution environment of the function.
    pub(crate) async fn another_process(&self) -> Arc<Process> {
        Arc::new(Process::start(&self.variables()).await)
    }

    /// A process of this binary, or of the updater that was just built.
    pub(crate) async fn process_of(&self, binary: Option<&str>) -> Process {
        match binary {
            Some(binary) => Process::start_binary(binary, &self.variables()).await,
            None => Process::start(&self.variables()).await,
        }
    }

    /// A process of the recorder in this world.
    pub(crate) async fn another_recorder(&self) -> Arc<Process> {
        Arc::new(Process::start_recorder(&self.variables()).await)
    }

    /// Sends an event to the recorder, which is started where it does not run yet.
    pub(crate) async fn tell(&self, event: &Value) -> Outcome {
        let running = sync(&self.recorder).clone();
        let recorder = if let Some(recorder) = running {
            recorder
        } else {
            let recorder = self.another_recorder().await;
            sync(&self.recorder).get_or_insert(recorder).clone()
        };
        self.tell_on(&recorder, event).await
    }

    pub(crate) async fn tell_on(&self, recorder: &Process, event: &Value) -> Outcome {
        let outcome = recorder.invoke(event.to_string().into_bytes(), Invocation::new(RECORDER_ARN)).await;
        sync(&self.outcomes).push(outcome.clone());
        outcome
    }

    /// A process that may not come to its first poll.
    pub(crate) async fn spawn_process(&self) -> Process {
        Process::spawn(&self.variables()).await
    }

    #[allow(clippy::unused_self)] // an invocation of this world's function
    pub(crate) fn invocation(&self) -> Invocation {
        Invocation::new(FUNCTION_ARN)
    }

    pub(crate) async fn invoke(&self, event: &Value) -> Outcome {
        self.invoke_with(event, self.invocation()).await
    }

    pub(crate) async fn invoke_with(&self, event: &Value, invocation: Invocation) -> Outcome {
        self.invoke_bytes(event.to_string().into_bytes(), invocation).await
    }

    pub(crate) async fn invoke_bytes(&self, event: Vec<u8>, invocation: Invocation) -> Outcome {
        let process = self.process();
        self.invoke_on(&process, event, invocation).await
    }

    pub(crate) async fn invoke_on(&self, process: &Process, event: Vec<u8>, invocation: Invocation) -> Outcome {
        let outcome = process.invoke(event, invocation).await;
        check_contract(&outcome);
        sync(&self.outcomes).push(outcome.clone());
        outcome
    }

    /// Changes the sample service in the target account.
    pub(crate) async fn update(&self, changes: Value) -> Outcome {
        self.invoke(&Site::target().event(changes)).await
    }

    /// Starts an invocation and kills the process once `action` was called `nth` times and met its fault.
    pub(crate) async fn kill_at(&self, event: &Value, invocation: Invocation, action: &str, nth: usize) {
        let process = self.process();
        let running = self.invoke_on(&process, event.to_string().into_bytes(), invocation);
        let killed = async {
            self.journal.reached(action, nth).await;
            // Where the server acts before it falls silent, it has acted by now.
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.kill().await;
        };
        let (outcome, ()) = tokio::join!(running, killed);
        assert_eq!(outcome, Outcome::Died, "the process should not have answered");
    }

    pub(crate) fn records(&self, site: &Site) -> Vec<Value> {
        ledger::records(self.tables(), &site.key())
    }

    pub(crate) fn kinds(&self, site: &Site) -> Vec<String> {
        ledger::kinds(&self.records(site))
    }

    /// Log lines of all processes so far.
    pub(crate) fn logs(&self) -> Vec<String> {
        let ended = sync(&self.ended).clone();
        let (running, recorder) = (sync(&self.process).clone(), sync(&self.recorder).clone());
        ended.iter().chain(&running).chain(&recorder).flat_map(|process| process.stdout()).collect()
    }

    fn stderr(&self) -> Vec<String> {
        let ended = sync(&self.ended).clone();
        let (running, recorder) = (sync(&self.process).clone(), sync(&self.recorder).clone());
        ended.iter().chain(&running).chain(&recorder).flat_map(|process| process.stderr()).collect()
    }

    /// What must be true at the end of every test, whatever it was about.
    fn check_invariants(&self) {
        let violations = self.journal.take_violations();
        assert!(violations.is_empty(), "{violations:#?}\ncalls:\n{}", self.journal.summary());

        let history = self.tables().scan(HISTORY_TABLE);
        let mut services: Vec<&str> = history.iter().filter_map(|item| item["service"]["S"].as_str()).collect();
        services.sort_unstable();
        services.dedup();
        for service in services {
            let faults = ledger::faults(self.tables(), service);
            assert!(faults.is_empty(), "the ledger of {service}: {faults:#?}");
        }

        sync(&self.outcomes).iter().for_each(check_lines);
        let outcomes = format!("{:?}", sync(&self.outcomes));
        let state = Value::from(self.tables().scan(STATE_TABLE)).to_string();
        let sources = [
            ("a log line", self.logs().join("\n")),
            ("stderr", self.stderr().join("\n")),
            ("an answer", outcomes),
            ("the history table", Value::from(history).to_string()),
            ("the state table", state),
        ];
        for (name, text) in sources {
            if let Some(at) = text.find(SECRET_MARKER) {
                let (from, to) = (text.floor_char_boundary(at.saturating_sub(200)), text.floor_char_boundary(at + 60));
                panic!("a secret stands in {name}: {}", &text[from..to]);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "calls:\n{}\nstdout:\n{}\nstderr:\n{}",
                self.journal.summary(),
                self.logs().join("\n"),
                self.stderr().join("\n")
            );
        } else {
            self.check_invariants();
        }
    }
}

/// The error codes that an update can end with.
pub(crate) const CODES: [&str; 24] = [
    "JsonValidation",
    "ClusterNotFound",
    "ServiceNotFound",
    "ServiceReadFailed",
    "TaskDefinitionRejected",
    "ServiceUpdateFailed",
    "TagUpdateFailed",
    "AssumeRoleFailed",
    "UnsupportedDeploymentController",
    "ServiceNotActive",
    "RegionNotEnabled",
    "ContainerNotFound",
    "AmbiguousContainer",
    "InvalidImage",
    "ImageNotFound",
    "RegistryUnavailable",
    "TaskDefinitionChanged",
    "RestoreConflict",
    "IdempotencyKeyReused",
    "ChangeInProgress",
    "ChangeOvertaken",
    "CallerThrottled",
    "ClockSkewed",
    "HistoryUnavailable",
];

/// What every answer must be, whatever the event.
fn check_contract(outcome: &Outcome) {
    match outcome {
        Outcome::Died => {}
        Outcome::Response(response) => {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/update-response.schema.json");
            let Ok(schema) = std::fs::read_to_string(path) else { return };
            let schema: Value = serde_json::from_str(&schema).expect("the response schema is JSON");
            let validator = jsonschema::validator_for(&schema).expect("the response schema is a JSON schema");
            let errors: Vec<String> =
                validator.iter_errors(response).map(|e| format!("{} at {}", e, e.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:#?} in {response}");
        }
        Outcome::Error { error_type, message } => {
            assert!(CODES.contains(&error_type.as_str()), "{error_type} is no code of an update: {message}");
            assert!(message.starts_with("[ERROR]["), "{message}");
            // Lambda takes 6 MB, people much less.
            assert!(message.len() < 20_000, "{} characters of message", message.len());
        }
    }
}

/// No error begins a line with what others wrote, but that of an event that is wrong in several places; none holds what nobody sees.
fn check_lines(outcome: &Outcome) {
    let check = |code: &str, message: &str| {
        let may_be = |c: char| code == "JsonValidation" && c == '\n';
        assert!(!message.contains(|c| is_unseen(c) && !may_be(c)), "{code}: {message:?}");
    };
    match outcome {
        Outcome::Died => {}
        Outcome::Error { error_type, message } => check(error_type, message),
        Outcome::Response(response) => {
            for result in response["results"].as_array().into_iter().flatten() {
                let error = &result["error"];
                check(error["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
            }
        }
    }
}

/// STS and DynamoDB are called with the function's own credentials.
fn check_own_signature(journal: &Journal, request: &http::Request) {
    if journal.trusts() {
        return;
    }
    let key = sigv4::signer(request).map(|(key, _)| key).unwrap_or_default();
    if key != HUB_ACCESS_KEY {
        journal.violation(format!("called with the access key {key:?}, not with the function's own"));
    } else if let Some(fault) = sigv4::fault(request, HUB_SECRET) {
        journal.violation(fault);
    }
}
