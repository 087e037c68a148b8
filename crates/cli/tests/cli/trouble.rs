//! What goes wrong, how it reads, and the exit code it has; help and completions.

use serde_json::json;

use crate::stub::{CHANGE, HOSTILE, Reply, Stub, page, updated};

const UPDATE: [&str; 4] = ["update", "222222222222/eu-west-1/prod/web", "--image", "nginx:1.27"];

#[tokio::test]
async fn what_a_function_reports_reads_as_a_sentence_and_has_its_exit_code() {
    for (code, text, exit, advice) in [
        ("ServiceNotFound", "[ERROR][ecs_service_read] ecs_service_name web not found", 1, "Check account"),
        (
            "JsonValidation",
            "[ERROR][json_validation] wrong input event format: x\n[ERROR][json_validation] Needed: y",
            2,
            "Fix",
        ),
        ("AssumeRoleFailed", "[ERROR][assume_role] role r in account 222222222222", 1, "target role"),
        ("ChangeInProgress", "[ERROR][service_lease] service web is being changed", 5, "--idempotency-key cli-"),
        ("HistoryUnavailable", "[ERROR][history_write] the service WAS changed", 5, "--idempotency-key cli-"),
        ("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds", 5, "--idempotency-key cli-"),
        ("Runtime.ExitError", "RequestId: 1 Error: Runtime exited", 1, "--idempotency-key cli-"),
        ("Sandbox.Failure", "RequestId: 1 Error: gone", 1, "--idempotency-key cli-"),
        ("Unhandled", "gone", 1, "then nothing is done twice"),
        ("SomethingNew", "a later function", 1, ""),
    ] {
        let stub = Stub::start(move |_, _| Reply::FunctionError(code, text.to_owned())).await;
        let ran = stub.run(&UPDATE).await;
        assert_eq!(ran.code, exit, "{ran:?}");
        assert_eq!(ran.out, "");
        ran.is_legible();
        assert!(ran.err.starts_with(&format!("error: {code}, 222222222222/eu-west-1/prod/web:")), "{}", ran.err);
        let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for shown in text.lines().chain([advice]) {
            assert!(flat.contains(shown), "{shown}: {flat}");
        }
        let told = code == "ServiceNotFound" || code == "JsonValidation" || code == "AssumeRoleFailed";
        assert_eq!(flat.contains("then nothing is done twice"), !told, "{flat}");
        // A function that failed is not asked again behind the caller's back.
        assert_eq!(stub.seen().len(), 1);
    }
}

#[tokio::test]
async fn what_the_history_function_reports_is_about_the_history_function() {
    for (code, text, exit, advice) in [
        ("HistoryUnavailable", "dynamodb:Query: ThrottlingException: slow down", 5, "history function's role"),
        (
            "HistoryUnavailable",
            "dynamodb:Query: AccessDeniedException: not authorized",
            1,
            "Asking again does not help",
        ),
        ("HistoryUnavailable", "dynamodb:Query: ResourceNotFoundException: no table", 1, "its tables"),
        ("HistoryUnavailable", "dynamodb:Query: ValidationException: no index", 1, "its log group"),
        ("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds", 5, "fewer days"),
        ("Runtime.ExitError", "RequestId: 1 Error: Runtime exited", 1, "log group"),
        ("JsonValidation", "limit is 101", 2, "Fix the query"),
    ] {
        let stub = Stub::start(move |_, _| Reply::FunctionError(code, text.to_owned())).await;
        let ran = stub.run(&["history"]).await;
        assert_eq!(ran.code, exit, "{ran:?}");
        ran.is_legible();
        let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for shown in [&format!("error: {code}, function ecs-updater-history in eu-west-1: "), text, advice] {
            assert!(flat.contains(shown), "{shown}: {flat}");
        }
        assert!(!flat.contains("idempotency") && !flat.contains("updater's"), "{flat}");
    }
    // Who follows does not wait for what does not pass.
    let denied = "dynamodb:Query: AccessDeniedException: not authorized";
    let stub = Stub::start(move |_, _| Reply::FunctionError("HistoryUnavailable", denied.to_owned())).await;
    let ran = stub.run(&["history", "--follow", "--change", CHANGE, "--interval", "1", "--timeout", "10"]).await;
    assert_eq!((ran.code, stub.seen().len()), (1, 1), "{ran:?}");
}

#[tokio::test]
async fn what_lambda_refuses_says_what_to_do() {
    for (status, code, exit, advice) in [
        (403, "AccessDeniedException", 3, "lambda:InvokeFunction"),
        (404, "ResourceNotFoundException", 3, "--updater-function or ECS_UPDATER_FUNCTION"),
        (403, "ExpiredTokenException", 3, "sign in again"),
        (429, "TooManyRequestsException", 5, "in a moment"),
        (500, "ServiceException", 5, "nothing is done twice"),
        (413, "RequestTooLargeException", 2, "6 MB"),
    ] {
        let stub = Stub::start(move |_, _| Reply::Refused(status, code, "told by AWS")).await;
        let ran = stub.run(&UPDATE).await;
        assert_eq!(ran.code, exit, "{ran:?}");
        ran.is_legible();
        let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for shown in [code, "told by AWS", "function ecs-updater in eu-west-1", advice] {
            assert!(flat.contains(shown), "{shown}: {flat}");
        }
    }
}

#[tokio::test]
async fn an_event_without_a_key_is_sent_once_and_one_with_a_key_again() {
    let stub = Stub::start(|_, _| Reply::Refused(500, "ServiceException", "lost")).await;
    let ran = stub.run_with_input(&["invoke"], b"{}").await;
    assert_eq!((ran.code, stub.seen().len()), (5, 1));
    assert!(ran.err.contains("may have been carried out"), "{}", ran.err);
    stub.run_with_input(&["invoke"], br#"{"idempotency_key": "k"}"#).await;
    assert_eq!(stub.seen().len(), 1 + 3);
}

#[tokio::test]
async fn who_cannot_ask_is_told_why() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let unreachable = stub.run(&["history", "--endpoint-url", "http://127.0.0.1:9"]).await;
    assert_eq!(unreachable.code, 3, "{unreachable:?}");
    assert!(unreachable.err.contains("was not reached"), "{}", unreachable.err);
    unreachable.is_legible();

    let mut command = stub.command(&["history"]);
    let output = command.env_remove("AWS_ACCESS_KEY_ID").output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("there are no AWS credentials") && text.contains("Sign in"), "{text}");

    let mut command = stub.command(&["history"]);
    let output = command.env_remove("AWS_REGION").output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--region"));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn failures_are_json_where_json_was_asked_for() {
    let stub = Stub::start(|_, _| Reply::FunctionError("ChangeInProgress", format!("busy {HOSTILE}"))).await;
    let ran = stub.run(&[&UPDATE[..], &["--output", "json"]].concat()).await;
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["code"], "ChangeInProgress");
    assert_eq!(error["error"]["message"], format!("busy {HOSTILE}"));
    assert_eq!((&error["error"]["retryable"], &error["error"]["exit_code"]), (&json!(true), &json!(5)));
    ran.is_harmless();
}

#[tokio::test]
async fn hostile_errors_reach_no_terminal() {
    let stub =
        Stub::start(|_, _| Reply::FunctionError("TaskDefinitionRejected", format!("{HOSTILE}\nsecond line"))).await;
    let ran = stub.run(&UPDATE).await;
    ran.is_legible();
    assert!(ran.err.contains("\n    second line\n"), "{}", ran.err);
    let begin = |column: usize| ran.err.lines().filter(move |line| line.find(|c: char| c != ' ') == Some(column));
    // One message and its advice: nothing that others wrote begins where they do.
    assert_eq!(begin(0).count(), 1, "{}", ran.err);
    assert!(begin(2).all(|line| !line.contains("second")), "{}", ran.err);
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_success() {
    let stub = Stub::start(|_, _| Reply::Text("<html>")).await;
    let ran = stub.run(&UPDATE).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--idempotency-key cli-"), "{}", ran.err);
    let stub = Stub::start(|_, _| Reply::Payload(json!({"hello": "from another function"}))).await;
    let ran = stub.run(&UPDATE).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("Is that the right function?"), "{}", ran.err);
    let stub = Stub::start(|_, _| {
        Reply::Payload(
            json!({"statusCode": 400, "body": {"error": {"code": "JsonValidation", "message": "limit is 101"}}}),
        )
    })
    .await;
    let ran = stub.run(&["history"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("limit is 101"), "{}", ran.err);
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    let mut child = stub.command(&UPDATE).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test]
async fn wrong_usage_is_told_and_help_teaches() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    for arguments in [
        &[][..],
        &["update"],
        &["update", "web", "--image", "nginx"],
        &["update", "prod/web"],
        &["update", "prod/web", "--tag", "novalue"],
        &["update", "prod/web", "--set", "a={"],
        &["restore", "prod/web"],
        &["restore", "--previous"],
        &["restore", "prod/web", "--previous", "--change", crate::stub::CHANGE],
        &["verify"],
        &["nonsense"],
    ] {
        let ran = stub.run(arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
    }
    let mut command = stub.command(&["--help"]);
    let help = String::from_utf8(command.env("COLUMNS", "80").output().await.unwrap().stdout).unwrap();
    for taught in ["Exit codes:", "  4  a ledger is broken", "Examples:", "ecs-updater restore"] {
        assert!(help.contains(taught), "{taught}: {help}");
    }
    for subcommand in ["update", "plan", "restore", "continue", "stop", "history", "verify", "invoke", "completions"] {
        let mut command = stub.command(&[subcommand, "--help"]);
        let help = String::from_utf8(command.env("COLUMNS", "80").output().await.unwrap().stdout).unwrap();
        assert!(help.contains("Example"), "{subcommand}: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{subcommand}: {line}");
        }
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn completions_know_the_subcommands() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = stub.run(&["completions", shell]).await;
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("restore") && ran.out.contains("idempotency-key"), "{shell}");
    }
}
