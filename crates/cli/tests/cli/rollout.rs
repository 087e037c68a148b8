//! `rollout`: started, watched, left, come back to, stopped; and how each end reads.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::aws::{Aws, Call, Reply, page};
use crate::stub::{CHANGE, HOSTILE, Ran, Reply as Function, Stub, ok};

const MACHINE: &str = "arn:aws:states:eu-west-1:111111111111:stateMachine:waves";
const EXECUTION: &str = "arn:aws:states:eu-west-1:111111111111:execution:waves:one";

/// An input of a wave with one service, one with four, and one with three.
fn input() -> Value {
    let wave = |account: &str, count: usize| -> Vec<Value> {
        let service = |index| json!({"account_id": account, "ecs_cluster_name": "prod", "ecs_service_name": format!("web-{index}")});
        (0..count).map(service).collect()
    };
    json!({"change": {"ecs_image_name": "nginx:1.27"}, "bake_seconds": 60,
        "waves": [wave("222222222222", 1), wave("333333333333", 4), wave("444444444444", 3)]})
}

/// How wave `number` ended.
fn wave(number: u32, status: &str, targets: u32, failed: u32) -> Value {
    let failures: Vec<Value> = (0..failed)
        .map(|index| {
            json!({"account_id": "333333333333", "region": "eu-west-1", "ecs_cluster_name": "prod",
            "ecs_service_name": format!("web-{index}"), "status": "FAILED", "code": "ServiceNotFound"})
        })
        .collect();
    json!({"wave": number, "status": status, "targets": targets, "changed": targets - failed, "unchanged": 0, "failed": failed,
        "unfinished": 0, "failed_percentage": 100 * failed / targets, "failures": failures, "results_key": "rollouts/one/wave/"})
}

/// The summary of a rollout whose second wave failed.
fn stopped() -> Value {
    let restore = json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod",
        "ecs_service_name": "web-0", "restore": CHANGE});
    json!({"status": "STOPPED", "rollout_id": EXECUTION, "execution": EXECUTION, "bucket": "results", "key": "rollouts/one/summary.json",
        "reason": "wave 2 of 3: 2 of 4 targets failed (50 %), and 0 % are tolerated", "changed": 3, "failed": 2,
        "waves": [wave(1, "PASSED", 1, 0), wave(2, "STOPPED", 4, 2), {"wave": 3, "status": "NOT_STARTED"}],
        "restore": {"reason": "back", "updates": [restore]},
        "restore_keys": ["rollouts/one/wave-2/restore/a.json", "rollouts/one/wave-1/restore/b.json"]})
}

/// What an execution has done, event by event, with the look at which it is first seen.
fn events() -> Vec<(usize, Value)> {
    let entered =
        |name: &str| json!({"type": "PassStateEntered", "stateEnteredEventDetails": {"name": name, "input": "{}"}});
    let judged = |wave: &Value| {
        json!({"type": "MapStateExited", "stateExitedEventDetails": {"name": "Judge", "output": "{}",
        "assignedVariables": {"wave": wave.to_string(), "restoreKeys": "[]"}}})
    };
    let mut events = vec![
        (1, json!({"type": "ExecutionStarted", "executionStartedEventDetails": {"input": "{}"}})),
        (1, entered("Check")),
        (1, entered("ChangeTargets")),
        (2, entered("FindChanges")),
        (2, entered("Bake")),
        (3, entered("Judge")),
        (3, judged(&wave(1, "PASSED", 1, 0))),
        (3, entered("EndWave")),
        (3, entered("ChangeTargets")),
        (4, entered("Bake")),
        (4, entered("Judge")),
        (4, judged(&wave(2, "STOPPED", 4, 2))),
        (4, entered("GatherRestore")),
    ];
    for (index, (_, event)) in events.iter_mut().enumerate() {
        event["id"] = (index + 1).into();
        event["timestamp"] = json!(1_795_000_000.5);
    }
    events
}

/// A Step Functions that has got one step further each time it is looked at, and ends with `end` at the fourth look.
struct Machine {
    looks: AtomicUsize,
    end: Value,
}

impl Machine {
    async fn start(end: Value) -> Aws {
        let machine = Self { looks: AtomicUsize::new(0), end };
        Aws::start(move |call| machine.answer(call)).await
    }

    fn answer(&self, call: &Call) -> Reply {
        let looks = self.looks.load(Ordering::SeqCst);
        let run = |label: &str, begun: usize| {
            json!({"executionArn": EXECUTION, "stateMachineArn": MACHINE, "startDate": 1_795_000_000 + begun,
                "mapRunArn": format!("arn:aws:states:eu-west-1:111111111111:mapRun:waves/{label}:{begun}")})
        };
        Ok(match call.operation.as_str() {
            "StartExecution" => json!({"executionArn": EXECUTION, "startDate": 1_795_000_000}),
            "StopExecution" => json!({"stopDate": 1_795_000_100}),
            "DescribeExecution" => {
                let looks = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
                let mut execution = json!({"executionArn": EXECUTION, "stateMachineArn": MACHINE, "name": "one",
                    "status": "RUNNING", "startDate": 1_795_000_000, "input": input().to_string()});
                if looks >= 4 {
                    execution.as_object_mut().unwrap().extend(self.end.as_object().unwrap().clone());
                }
                execution
            }
            "GetExecutionHistory" => {
                assert_eq!(call.input["reverseOrder"], true, "{call:?}");
                let events: Vec<Value> =
                    events().into_iter().filter(|(look, _)| *look <= looks).map(|(_, event)| event).rev().collect();
                page("events", &events, call, "nextToken")
            }
            "ListMapRuns" => {
                // Newest first, as they may come.
                let runs = [(4, run("Judge", 4)), (3, run("Targets", 3)), (3, run("Judge", 2)), (1, run("Targets", 1))];
                let runs: Vec<Value> =
                    runs.into_iter().filter(|(look, _)| *look <= looks).map(|(_, run)| run).collect();
                page("mapRuns", &runs, call, "nextToken")
            }
            "DescribeMapRun" => {
                let (total, succeeded) = match (call.text("mapRunArn").rsplit(':').next().unwrap(), looks) {
                    ("1", 1) => (1, 0),
                    ("1", _) => (1, 1),
                    ("3", 3) => (4, 2),
                    ("3", _) => (4, 4),
                    other => panic!("{other:?}"),
                };
                let counts = json!({"pending": 0, "running": total - succeeded, "succeeded": succeeded, "failed": 0, "timedOut": 0,
                    "aborted": 0, "total": total, "resultsWritten": 0});
                json!({"mapRunArn": call.text("mapRunArn"), "executionArn": EXECUTION, "status": "RUNNING", "startDate": 1,
                    "maxConcurrency": 5, "toleratedFailurePercentage": 0.0, "toleratedFailureCount": 0, "itemCounts": counts,
                    "executionCounts": counts})
            }
            _ => return Err(("UnknownOperationException", "no")),
        })
    }
}

/// How an execution ends that was stopped by its second wave.
fn failed() -> Value {
    json!({"status": "FAILED", "error": "RolloutStopped", "cause": stopped().to_string(), "output": "{}", "stopDate": 1_795_000_200})
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const START: [&str; 6] = ["rollout", "-", "--state-machine", MACHINE, "--interval", "1"];

#[tokio::test]
async fn a_log_is_told_line_by_line_and_the_end_says_what_to_restore() {
    let aws = Machine::start(failed()).await;
    let ran = aws.run_with_input(&START, &input()).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.is_harmless();
    let lines: Vec<&str> = ran.err.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "wave 1 of 3: begins, 1 service",
            "wave 1 of 3: 1 of 1 updated",
            "wave 1 of 3: baking until 11:07:40 UTC",
            "wave 1 of 3: PASSED, 1 changed, 0 unchanged, 0 failed",
            "wave 2 of 3: begins, 4 services",
            "wave 2 of 3: 2 of 4 updated",
            "wave 2 of 3: 4 of 4 updated",
            "wave 2 of 3: STOPPED, 2 changed, 0 unchanged, 2 failed",
        ]
    );
    let out = flat(&ran.out);
    for shown in [
        "STARTED",
        &format!("Come back to it: ecs-updater rollout --follow {EXECUTION}"),
        &format!("Stop it: ecs-updater rollout --stop {EXECUTION}"),
        "wave 2 of 3: 2 of 4 targets failed (50 %), and 0 % are tolerated",
        "PASSED wave 1 1 changed, 0 unchanged, 0 failed",
        "333333333333/eu-west-1/prod/web-0 FAILED ServiceNotFound",
        "NOT_STARTED wave 3",
        "changed 3 services",
        "failed 2 services",
        "s3://results/rollouts/one/summary.json",
        "aws s3 cp 's3://results/rollouts/one/wave-2/restore/a.json' - | ecs-updater invoke - \
         aws s3 cp 's3://results/rollouts/one/wave-1/restore/b.json' - | ecs-updater invoke -",
        "222222222222/eu-west-1/prod/web-0",
    ] {
        assert!(out.contains(shown), "{shown}: {out}");
    }
    let started = aws.calls("StartExecution");
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].text("stateMachineArn"), MACHINE);
    assert!(started[0].text("name").starts_with("cli-"));
    let mut sent = input();
    sent["change"]["requested_by"] = "ann".into();
    assert_eq!(serde_json::from_str::<Value>(started[0].text("input")).unwrap(), sent);
    // Only what is new was read: two events a page; looks that see 3, 5, 9 and 13 events.
    assert_eq!(aws.calls("GetExecutionHistory").len(), 2 + 2 + 3 + 3);
    // What judges is no wave, and a wave that all went through is not asked for again.
    let asked: Vec<String> = aws.calls("DescribeMapRun").iter().map(|call| call.text("mapRunArn").to_owned()).collect();
    assert!(asked.iter().all(|arn| arn.contains("/Targets:")) && asked.len() == 2, "{asked:?}");
    assert!(aws.calls("StopExecution").is_empty());
}

#[tokio::test]
async fn a_rollout_that_ends_well_is_done() {
    let mut summary = stopped();
    summary["status"] = "SUCCEEDED".into();
    summary["reason"] = Value::Null;
    summary["waves"][1] = wave(2, "PASSED", 4, 0);
    summary["waves"][2] = wave(3, "PASSED", 3, 0);
    let aws = Machine::start(json!({"status": "SUCCEEDED", "output": summary.to_string()})).await;
    let ran = aws.run_with_input(&START, &input()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("wave 3 of 3: PASSED, 3 changed"), "{}", ran.err);
    // For programs: the summary, and nothing else.
    let aws = Machine::start(json!({"status": "SUCCEEDED", "output": summary.to_string()})).await;
    let ran = aws.run_with_input(&[&START[..], &["-o", "json"]].concat(), &input()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.json(), summary);
}

#[tokio::test]
async fn every_end_reads_as_what_it_is() {
    for (end, code, told) in [
        (
            json!({"status": "ABORTED", "error": "StoppedByHand", "cause": "stopped by bob: wrong image"}),
            1,
            "stopped by bob: wrong image",
        ),
        (json!({"status": "TIMED_OUT", "error": "States.Timeout"}), 1, "ran out of time: States.Timeout"),
        (
            json!({"status": "FAILED", "error": "States.Runtime", "cause": "An error occurred"}),
            1,
            "States.Runtime: An error occurred",
        ),
        (
            json!({"status": "FAILED", "error": "InputRefused", "cause": "Nothing was changed. waves/0: no"}),
            2,
            "Nothing was changed. waves/0: no",
        ),
        (json!({"status": "SUCCEEDED", "output": "{}"}), 1, "left no summary"),
        (json!({"status": "SUCCEEDED", "output": "[1]"}), 1, "left no summary"),
    ] {
        let aws = Machine::start(end.clone()).await;
        let ran = aws.run(&["rollout", "--follow", EXECUTION, "--interval", "1"]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(flat(&ran.err).contains(told) && ran.err.contains(EXECUTION), "{told}: {}", ran.err);
        let unsummed = !matches!(end["status"].as_str(), Some("SUCCEEDED")) && code == 1;
        assert_eq!(ran.err.contains("ecs-updater history"), unsummed, "{}", ran.err);
        assert!(aws.calls("StartExecution").is_empty() && aws.calls("StopExecution").is_empty());
    }
}

#[tokio::test]
async fn ctrl_c_leaves_it_running_and_says_how_to_come_back() {
    for json in [false, true] {
        let aws = Machine::start(json!({"status": "RUNNING"})).await;
        let mut arguments = vec!["rollout", "--follow", EXECUTION, "--interval", "1"];
        arguments.extend(["-o", "json"].iter().filter(|_| json));
        let mut child = aws.command(&arguments).spawn().unwrap();
        if json {
            while aws.calls("ListMapRuns").len() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } else {
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let line =
                tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
            assert!(line.contains("wave 1 of 3: begins"), "{line}");
        }
        let id = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let output = tokio::time::timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
        let ran = Ran::of(output);
        assert_eq!(ran.code, 5, "{ran:?}");
        let said = if json { &ran.err } else { &ran.out };
        for shown in
            [format!("rollout --follow {EXECUTION}"), format!("rollout --stop {EXECUTION}"), "goes on".to_owned()]
        {
            assert!(said.contains(&shown), "{shown}: {said}");
        }
        assert!(aws.calls("StopExecution").is_empty());
    }
}

#[tokio::test]
async fn an_execution_is_stopped_where_it_runs() {
    let aws = Machine::start(json!({})).await;
    let ran = aws.run(&["rollout", "--stop", EXECUTION, "--reason", "wrong image"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let stopped = aws.calls("StopExecution");
    assert_eq!(stopped.len(), 1);
    assert_eq!((stopped[0].text("executionArn"), stopped[0].text("cause")), (EXECUTION, "stopped by ann: wrong image"));
    assert!(flat(&ran.out).contains("under way end by themselves"), "{}", ran.out);
    let aws = Aws::start(|_| {
        Ok(json!({"executionArn": EXECUTION, "stateMachineArn": MACHINE, "startDate": 1, "status": "SUCCEEDED"}))
    })
    .await;
    let ran = aws.run(&["rollout", "--stop", EXECUTION]).await;
    assert_eq!((ran.code, aws.calls("StopExecution").len()), (0, 0));
    assert!(ran.out.contains("already finished"), "{}", ran.out);
}

#[tokio::test]
async fn options_are_put_over_what_the_file_says() {
    let aws = Machine::start(json!({})).await;
    let mut file = input();
    file["change"] =
        json!({"images": {"web": "nginx:1"}, "ecs_tag": {"a": "1"}, "requested_by": "pipeline", "reason": "old"});
    let detached = [&START[..], &["--detach", "--name", "release-7"]].concat();
    let ran = aws
        .run_with_input(
            &[
                &detached[..],
                &[
                    "--image",
                    "nginx:2",
                    "--reason",
                    "new",
                    "--bake-seconds",
                    "0",
                    "--tolerated-failure-percentage",
                    "10",
                ],
            ]
            .concat(),
            &file,
        )
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains(&format!("--follow {EXECUTION}")), "{}", ran.out);
    let call = aws.calls("StartExecution").pop().unwrap();
    assert_eq!(call.text("name"), "release-7");
    let sent: Value = serde_json::from_str(call.text("input")).unwrap();
    let change =
        json!({"ecs_image_name": "nginx:2", "ecs_tag": {"a": "1"}, "requested_by": "pipeline", "reason": "new"});
    assert_eq!(
        (&sent["change"], &sent["bake_seconds"], &sent["tolerated_failure_percentage"]),
        (&change, &json!(0), &json!(10))
    );
    // It was not looked at.
    assert_eq!(aws.seen().len(), 1);
    aws.run_with_input(&[&detached[..], &["--requested-by", "bob"]].concat(), &file).await;
    let sent: Value = serde_json::from_str(aws.calls("StartExecution")[1].text("input")).unwrap();
    assert_eq!(sent["change"]["requested_by"], "bob");
}

/// Tags are looked up once, before anything starts: each wave would find what they stand for by then.
#[tokio::test]
async fn tags_are_resolved_once_for_the_rollout() {
    let digest = format!("nginx@sha256:{}", "0".repeat(64));
    let pinned = digest.clone();
    let functions = Stub::start(move |_: &str, event: &Value| match event["ecs_service_name"].as_str() {
        Some("web-0") if event["account_id"] == "222222222222" => {
            Function::FunctionError("ServiceNotFound", "not found".to_owned())
        }
        _ if event["ecs_image_name"] == "nginx:gone" => {
            Function::FunctionError("ImageNotFound", "no such tag".to_owned())
        }
        _ => ok(&json!({"status": "PLANNED", "changes": [], "resolved_images": {"nginx:1.28": pinned}})),
    })
    .await;
    let aws = Machine::start(json!({"status": "SUCCEEDED", "output": stopped().to_string()})).await;
    let run = async |image: &str| {
        let arguments = ["rollout", "-", "--state-machine", MACHINE, "--detach", "--image", image, "--resolve-digest"];
        let mut command = aws.command(&arguments);
        command.env("AWS_ENDPOINT_URL_LAMBDA", functions.url());
        Ran::of_input(command, input().to_string().as_bytes()).await
    };
    let ran = run("nginx:1.28").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let started: Value = aws
        .calls("StartExecution")
        .iter()
        .map(|call| serde_json::from_str(call.text("input")).unwrap())
        .next()
        .unwrap();
    assert_eq!(started["change"]["ecs_image_name"], digest);
    assert_eq!(started["change"].get("resolve_digest"), None);
    // A service that is not there is none to ask for: the next one is.
    let seen = functions.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|(name, event)| name == "ecs-updater" && event["dry_run"] == true), "{seen:?}");
    assert!(ran.out.replace(char::is_whitespace, "").contains(&digest), "{}", ran.out);

    let ran = run("nginx:gone").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(flat(&ran.err).contains("Nothing was started"), "{}", ran.err);
    assert_eq!(aws.calls("StartExecution").len(), 1);
}

#[tokio::test]
async fn a_dry_run_checks_shows_and_starts_nothing() {
    let aws = Machine::start(json!({})).await;
    let ran = aws.run_with_input(&["rollout", "-", "--dry-run", "--reason", HOSTILE], &input()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.is_harmless();
    for shown in [
        "PLANNED",
        "nginx:1.27",
        "wave 2: 4 services\n  333333333333/eu-west-1/prod/web-0\n",
        "waits 60 s",
        "Nothing was started",
    ] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    let wrong = |place: &str, value: Value| {
        let mut input = input();
        *input.pointer_mut(place).unwrap() = value;
        input
    };
    for (input, told) in [
        (
            wrong(
                "/waves/1/0",
                json!({"account_id": "222222222222", "ecs_cluster_name": "prod", "ecs_service_name": "web-0"}),
            ),
            "/waves/1/0: the same service as /waves/0/0",
        ),
        (wrong("/change/ecs_image_name", json!("a:b:c")), "a:b:c"),
        (wrong("/change", json!({})), "/waves/0/0"),
        (wrong("/bake_seconds", json!("60")), "/bake_seconds"),
        (json!([]), "(input)"),
    ] {
        for dry_run in [&["--dry-run"][..], &[]] {
            let ran = aws.run_with_input(&[&START[..], dry_run].concat(), &input).await;
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.err.contains(told) && ran.err.contains("nothing was started"), "{told}: {}", ran.err);
        }
    }
    let ran = aws.run(&["rollout", "-", "--dry-run"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is no JSON"), "{}", ran.err);
    assert_eq!(aws.run_with_input(&["rollout", "-"], &input()).await.code, 2, "no state machine is named");
    assert!(aws.seen().is_empty());
}

#[tokio::test]
async fn who_may_not_start_or_look_is_told_what_is_missing() {
    let aws = Aws::start(|_| Err(("AccessDeniedException", "User: ann is not authorized"))).await;
    let ran = aws.run_with_input(&START, &input()).await;
    assert_eq!(ran.code, 3);
    assert!(flat(&ran.err).contains("they need states:StartExecution"), "{}", ran.err);
    let ran = aws.run(&["rollout", "--follow", EXECUTION]).await;
    assert_eq!(ran.code, 3);
    assert!(flat(&ran.err).contains("they need states:DescribeExecution"), "{}", ran.err);
    // Rights that are missing later: the execution goes on, and the message says how to come back.
    let machine = Machine { looks: AtomicUsize::new(0), end: json!({}) };
    let aws = Aws::start(move |call| match call.operation.as_str() {
        "ListMapRuns" => Err(("AccessDeniedException", "no")),
        _ => machine.answer(call),
    })
    .await;
    let ran = aws.run_with_input(&START, &input()).await;
    assert_eq!(ran.code, 3);
    assert!(
        flat(&ran.err).contains(&format!("may go on. Come back to it: ecs-updater rollout --follow {EXECUTION}")),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_shortened_summary_says_where_the_rest_is() {
    let mut summary = stopped();
    summary["shortened"] = "restore and restore_keys".into();
    summary["restore"] = Value::Null;
    summary["restore_keys"] = json!([]);
    let aws =
        Machine::start(json!({"status": "FAILED", "error": "RolloutStopped", "cause": summary.to_string()})).await;
    let ran = aws.run(&["rollout", "--follow", EXECUTION, "--interval", "1"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for shown in ["left out restore and restore_keys", "\"restore_keys\" of s3://results/rollouts/one/summary.json"] {
        assert!(flat(&ran.out).contains(shown), "{shown}: {}", ran.out);
    }
}

/// Runs it on a terminal of 80 columns; what the terminal was sent.
async fn on_a_terminal(aws: &Aws, environment: &[(&str, &str)]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.to_bytes())).unwrap();
    let terminal = open();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size).unwrap();
    let mut command = aws.command(&["rollout", "--follow", EXECUTION, "--interval", "1"]);
    command.envs(environment.iter().copied()).stdout(Stdio::from(open())).stderr(Stdio::from(terminal));
    let mut child = command.spawn().unwrap();
    // The last ends of the terminal that this process holds: reading ends with the child.
    drop(command);
    let reading = std::thread::spawn(move || {
        let (mut master, mut sent, mut part) = (File::from(master), Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = master.read(&mut part) {
            sent.extend_from_slice(&part[..read]);
        }
        String::from_utf8_lossy(&sent).into_owned()
    });
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    tokio::task::spawn_blocking(|| reading.join().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_terminal_shows_bars() {
    let aws = Machine::start(failed()).await;
    let sent = on_a_terminal(&aws, &[("TERM", "xterm-256color")]).await;
    for shown in [
        "wave 1/3 [",
        "] ",
        "2/4",
        "4/4",
        "baking until 11:07:40 UTC",
        "PASSED, 1 changed",
        "3 services to come",
        "STOPPED, 2 changed",
    ] {
        assert!(sent.contains(shown), "{shown}: {sent:?}");
    }
    // Drawn again in place, and in colours.
    assert!(sent.contains("\u{1b}[1A") && sent.contains("\u{1b}[32m"), "{sent:?}");
    assert!(!sent.contains("wave 1 of 3"), "{sent:?}");
    // The summary stands below the bars.
    assert!(sent.rfind("wave 2/3 [").unwrap() < sent.find("targets failed").unwrap(), "{sent:?}");
}

#[tokio::test]
async fn no_colours_where_none_are_wanted_and_lines_where_bars_cannot_be_drawn() {
    let aws = Machine::start(failed()).await;
    let sent = on_a_terminal(&aws, &[("TERM", "xterm-256color"), ("NO_COLOR", "1")]).await;
    assert!(sent.contains("wave 1/3 [") && sent.contains("\u{1b}[1A"), "{sent:?}");
    assert!(!sent.contains("\u{1b}[3") && !sent.contains("\u{1b}[1m"), "{sent:?}");
    let aws = Machine::start(failed()).await;
    let sent = on_a_terminal(&aws, &[("TERM", "dumb")]).await;
    assert!(sent.contains("wave 1 of 3: begins, 1 service") && !sent.contains('\u{1b}'), "{sent:?}");
}
