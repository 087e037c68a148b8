//! The Lambda Runtime API, and the real `updater` process that polls it.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, oneshot};

use super::http::{Answer, Reply, Request, Server, handler};

/// How one invocation ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Response(Value),
    Error {
        error_type: String,
        message: String,
    },
    /// The process ended before it answered.
    Died,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn response(&self) -> &Value {
        match self {
            Self::Response(value) => value,
            other => panic!("expected a response, got {other:?}"),
        }
    }

    /// The body of a response with statusCode 200.
    #[track_caller]
    pub(crate) fn body(&self) -> &Value {
        let response = self.response();
        assert_eq!(response["statusCode"], 200, "{response}");
        &response["body"]
    }

    /// The body of an answer to many updates.
    #[track_caller]
    pub(crate) fn many(&self, status_code: u64) -> &Value {
        let response = self.response();
        assert_eq!(response["statusCode"], status_code, "{response}");
        &response["body"]
    }

    /// The body, its status being `status`.
    #[track_caller]
    pub(crate) fn status(&self, status: &str) -> &Value {
        let body = self.body();
        assert_eq!(body["status"], status, "{body}");
        body
    }

    /// The message of a function error whose type is `code`.
    #[track_caller]
    pub(crate) fn error(&self, code: &str) -> &str {
        match self {
            Self::Error { error_type, message } => {
                assert_eq!(error_type, code, "{message}");
                message
            }
            other => panic!("expected the error {code}, got {other:?}"),
        }
    }
}

/// What hub.yaml gives the updater: a test compares the two.
pub(crate) const UPDATER_TIMEOUT: Duration = Duration::from_mins(15);
/// How long a test waits for an answer at the most.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub request_id: String,
    pub deadline_in: Duration,
    pub function_arn: String,
}

impl Invocation {
    pub(crate) fn new(function_arn: &str) -> Self {
        Self {
            request_id: super::journal::request_id().replace("aaaaaaaa", "1a2b3c4d"),
            deadline_in: UPDATER_TIMEOUT,
            function_arn: function_arn.into(),
        }
    }

    pub(crate) fn request_id(mut self, id: &str) -> Self {
        self.request_id = id.into();
        self
    }

    pub(crate) fn deadline_in(mut self, time: Duration) -> Self {
        self.deadline_in = time;
        self
    }
}

struct Event {
    invocation: Invocation,
    body: Vec<u8>,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<String, oneshot::Sender<Outcome>>,
    /// When the event that is worked on was handed out.
    handed_out: Option<Instant>,
    /// How long invocations took so far, each from its event to its answer.
    durations: Vec<Duration>,
    polls: usize,
    init_error: Option<String>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    polled: Notify,
    stdout: Mutex<Vec<String>>,
    stderr: Mutex<Vec<String>>,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One `updater` process and the runtime API it polls. Dropped, it is killed.
pub(crate) struct Process {
    child: Mutex<Child>,
    /// Killed by the test: it may have answered and not polled again.
    killed: AtomicBool,
    events: mpsc::UnboundedSender<Event>,
    shared: Arc<Shared>,
    _server: Server,
}

/// Among the variables of a process, the most memory that it may map, in KiB: beyond that the kernel gives it none, and it ends.
pub(crate) const MEMORY_LIMIT: &str = "HARNESS_MEMORY_LIMIT";

impl Process {
    /// Starts the process and waits for its first poll.
    pub(crate) async fn start(environment: &[(String, String)]) -> Self {
        let process = Self::spawn(environment).await;
        let ready = process.polls_reach(1, Duration::from_secs(30)).await;
        assert!(ready, "the updater never polled for an event; {}", process.post_mortem());
        process
    }

    /// Starts a process of the recorder and waits for its first poll.
    pub(crate) async fn start_recorder(environment: &[(String, String)]) -> Self {
        Self::start_binary(env!("CARGO_BIN_EXE_recorder"), environment).await
    }

    /// The same with any binary.
    pub(crate) async fn start_binary(binary: &str, environment: &[(String, String)]) -> Self {
        let process = Self::spawn_binary(binary, environment).await;
        let ready = process.polls_reach(1, Duration::from_secs(30)).await;
        assert!(ready, "{binary} never polled for an event; {}", process.post_mortem());
        process
    }

    /// Starts the process without waiting for anything. `BENCH_UPDATER` names another updater than the one just built: that
    /// of a package, which takes long to build and is what a measurement is about.
    pub(crate) async fn spawn(environment: &[(String, String)]) -> Self {
        let packaged = std::env::var("BENCH_UPDATER").ok();
        Self::spawn_binary(packaged.as_deref().unwrap_or(env!("CARGO_BIN_EXE_updater")), environment).await
    }

    /// The same with another binary of this project than the updater.
    pub(crate) async fn spawn_binary(binary: &str, environment: &[(String, String)]) -> Self {
        let shared = Arc::new(Shared::default());
        let (events, queue) = mpsc::unbounded_channel::<Event>();
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let api = shared.clone();
        let server = Server::start(handler(move |request| {
            let (api, queue) = (api.clone(), queue.clone());
            async move { runtime_api(&api, &queue, &request).await }
        }))
        .await;

        let limit = environment.iter().find(|(name, _)| name == MEMORY_LIMIT);
        let mut command = match limit {
            // All that it maps counts, its code too: it gets less than a function of that size has.
            Some((_, kib)) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -v {kib} && exec \"$0\""), binary]);
                shell
            }
            None => Command::new(binary),
        };
        let mut child = command
            .env_clear()
            .envs(environment.iter().cloned())
            .env("AWS_LAMBDA_RUNTIME_API", server.address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        keep_lines(stdout, shared.clone(), |s| &s.stdout);
        keep_lines(stderr, shared.clone(), |s| &s.stderr);
        Self { child: Mutex::new(child), killed: AtomicBool::new(false), events, shared, _server: server }
    }

    async fn polls_reach(&self, polls: usize, patience: Duration) -> bool {
        let wait = async {
            loop {
                let polled = self.shared.polled.notified();
                if self.shared.waiting().polls >= polls {
                    return true;
                }
                tokio::select! {
                    () = polled => {}
                    () = tokio::time::sleep(Duration::from_millis(50)) => {
                        if self.ended().is_some() { return false; }
                    }
                }
            }
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(false)
    }

    /// The most memory the process had so far, in bytes (`VmHWM`).
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let id = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).id()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    }

    /// How long its invocations took, all together: what Lambda bills.
    pub(crate) fn worked(&self) -> Duration {
        self.shared.waiting().durations.iter().sum()
    }

    /// The exit status as text, where the process has ended.
    pub(crate) fn ended(&self) -> Option<String> {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Waits for the process to end by itself, and gives the error it reported for its start, if any.
    pub(crate) async fn init_failure(&self) -> (Option<String>, String) {
        for _ in 0..200 {
            if self.ended().is_some() || self.shared.waiting().init_error.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        (self.shared.waiting().init_error.clone(), self.post_mortem())
    }

    /// SIGKILL, and wait until the process is gone.
    pub(crate) async fn kill(&self) {
        {
            let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.killed.store(true, SeqCst);
            let _ = child.start_kill();
        }
        for _ in 0..500 {
            if self.ended().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (_, answer) in self.shared.waiting().answers.drain() {
            let _ = answer.send(Outcome::Died);
        }
    }

    /// Sends one event and waits for its answer, and for the poll after it (all log lines are written by then).
    pub(crate) async fn invoke(&self, body: Vec<u8>, invocation: Invocation) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let polls = {
            let mut waiting = self.shared.waiting();
            waiting.answers.insert(invocation.request_id.clone(), answer);
            waiting.polls
        };
        let patience = invocation.deadline_in.min(PATIENCE) + Duration::from_secs(15);
        assert!(self.events.send(Event { invocation, body }).is_ok(), "the runtime API runs");
        let outcome = tokio::select! {
            outcome = answered => outcome.unwrap_or(Outcome::Died),
            () = self.end() => Outcome::Died,
            () = tokio::time::sleep(patience) => panic!("no answer in {patience:?}; {}", self.post_mortem()),
        };
        if outcome != Outcome::Died {
            let polled = tokio::select! {
                polled = self.polls_reach(polls + 1, Duration::from_secs(10)) => polled,
                () = self.end() => true,
            };
            assert!(polled || self.killed.load(SeqCst), "no poll after the answer; {}", self.post_mortem());
        }
        // What was written before the poll is in the pipe by now: let the readers drain it.
        tokio::time::sleep(Duration::from_millis(15)).await;
        outcome
    }

    async fn end(&self) {
        while self.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        // An answer that was sent just before the end counts.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.shared.stdout.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.shared.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn post_mortem(&self) -> String {
        format!(
            "exit: {:?}\nstdout:\n{}\nstderr:\n{}",
            self.ended(),
            self.stdout().join("\n"),
            self.stderr().join("\n")
        )
    }
}

fn keep_lines<R: tokio::io::AsyncRead + Unpin + Send + 'static>(
    pipe: R,
    shared: Arc<Shared>,
    of: fn(&Shared) -> &Mutex<Vec<String>>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            of(&shared).lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        }
    });
}

async fn runtime_api(
    shared: &Shared,
    queue: &tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    request: &Request,
) -> Reply {
    let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match path.as_slice() {
        ["2018-06-01", "runtime", "invocation", "next"] => {
            shared.waiting().polls += 1;
            shared.polled.notify_waiters();
            let Some(event) = queue.lock().await.recv().await else { return Reply::Cut };
            shared.waiting().handed_out = Some(Instant::now());
            let deadline = SystemTime::now() + event.invocation.deadline_in;
            let deadline = deadline.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
            Reply::Answer(
                Answer::new(200, "application/json", event.body)
                    .header("lambda-runtime-aws-request-id", event.invocation.request_id)
                    .header("lambda-runtime-deadline-ms", deadline.to_string())
                    .header("lambda-runtime-invoked-function-arn", event.invocation.function_arn)
                    .header("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"),
            )
        }
        ["2018-06-01", "runtime", "invocation", id, how @ ("response" | "error")] => {
            {
                let mut waiting = shared.waiting();
                let took = waiting.handed_out.take().map(|since| since.elapsed());
                waiting.durations.extend(took);
            }
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_else(|e| {
                Value::String(format!("not JSON ({e}): {}", String::from_utf8_lossy(&request.body)))
            });
            let outcome = if *how == "response" {
                Outcome::Response(body)
            } else {
                let text = |key: &str| body[key].as_str().map_or_else(|| format!("no {key} in {body}"), Into::into);
                Outcome::Error { error_type: text("errorType"), message: text("errorMessage") }
            };
            if let Some(answer) = shared.waiting().answers.remove(*id) {
                let _ = answer.send(outcome);
            }
            accepted()
        }
        ["2018-06-01", "runtime", "init", "error"] => {
            shared.waiting().init_error = Some(String::from_utf8_lossy(&request.body).into_owned());
            accepted()
        }
        _ => Reply::Answer(Answer::new(404, "application/json", "{}")),
    }
}

fn accepted() -> Reply {
    Reply::Answer(Answer::new(202, "application/json", r#"{"status":"OK"}"#))
}
