//! `targets`: what is found, how it is cut, and what could not be read.

use serde_json::{Value, json};

use crate::aws::{Aws, Call, Ecs, Reply, page};

const ACCOUNTS: [&str; 3] = ["222222222222", "333333333333", "444444444444"];

fn account(id: &str, state: &str) -> Value {
    json!({"Id": id, "Name": "n", "State": state})
}

/// An organization: a root with one account and unit ou-aaaa-1, which has two and ou-aaaa-2, which has three.
fn organizations(call: &Call) -> Option<Value> {
    let closed = account("999999999999", "CLOSED");
    let of = |parent: &str| match parent {
        "r-aaaa" => vec![account("111111111111", "ACTIVE")],
        "ou-aaaa-1" => vec![account(ACCOUNTS[2], "ACTIVE"), closed.clone(), account(ACCOUNTS[1], "ACTIVE")],
        "ou-aaaa-2" => vec![closed.clone(), account("888888888888", "SUSPENDED"), account(ACCOUNTS[0], "ACTIVE")],
        _ => vec![],
    };
    let units = |parent: &str| match parent {
        "r-aaaa" => vec![json!({"Id": "ou-aaaa-3"}), json!({"Id": "ou-aaaa-4"}), json!({"Id": "ou-aaaa-1"})],
        "ou-aaaa-1" => vec![json!({"Id": "ou-aaaa-2"})],
        _ => vec![],
    };
    let parent = call.text("ParentId");
    match call.operation.as_str() {
        "ListAccounts" => {
            let all = ["r-aaaa", "ou-aaaa-1", "ou-aaaa-2"].map(of).concat();
            Some(page("Accounts", &all, call, "NextToken"))
        }
        "ListAccountsForParent" => Some(page("Accounts", &of(parent), call, "NextToken")),
        "ListOrganizationalUnitsForParent" => Some(page("OrganizationalUnits", &units(parent), call, "NextToken")),
        _ => None,
    }
}

/// An AWS with these services.
async fn aws(services: &[&str]) -> Aws {
    let ecs = Ecs::new(services);
    Aws::start(move |call| Ok(organizations(call).unwrap_or_else(|| ecs.answer(call)))).await
}

/// The services of each wave, by their short names.
fn waves(input: &Value) -> Vec<Vec<String>> {
    let name = |target: &Value| {
        let parts =
            ["account_id", "region", "ecs_cluster_name", "ecs_service_name"].map(|name| target[name].as_str().unwrap());
        parts.join("/")
    };
    let waves = input["waves"].as_array().unwrap().iter();
    waves.map(|wave| wave.as_array().unwrap().iter().map(name).collect()).collect()
}

#[tokio::test]
async fn every_page_of_every_list_is_read() {
    let services: Vec<String> = (0..23).map(|index| format!("222222222222/eu-west-1/prod/web-{index:02}")).collect();
    let mut all: Vec<&str> = services.iter().map(String::as_str).collect();
    all.extend([
        "222222222222/eu-west-1/stage/a",
        "222222222222/eu-west-1/test/b",
        "222222222222/eu-west-1/test/!gone",
    ]);
    all.extend(["333333333333/eu-west-1/prod/c", "444444444444/eu-west-1/prod/d", "999999999999/eu-west-1/prod/e"]);
    let aws = aws(&all).await;
    let ran = aws.run(&["targets", "--organization", "-o", "json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let found = waves(&ran.json()).concat();
    let expected: Vec<&str> =
        all.iter().copied().filter(|name| !name.contains('!') && !name.starts_with('9')).collect();
    assert_eq!(found, expected);
    assert_eq!(ran.json()["change"], json!({}));
    // Each account was entered once, by the reader role.
    let entered = aws.calls("AssumeRole");
    assert_eq!(entered.len(), 4);
    assert!(entered.iter().all(|call| call.text("RoleSessionName").starts_with("ecsu-")), "{entered:?}");
    assert!(
        entered
            .iter()
            .any(|call| call.text("RoleArn") == "arn:aws:iam::222222222222:role/ecs-updater/ecs-updater-reader")
    );
    // And the same again is the same, however the answers came.
    assert_eq!(aws.run(&["targets", "--organization", "-o", "json"]).await.out, ran.out);
}

#[tokio::test]
async fn a_unit_is_read_with_all_units_in_it() {
    let services = ACCOUNTS.map(|account| format!("{account}/eu-west-1/prod/web"));
    let services: Vec<&str> = services.iter().map(String::as_str).chain(["111111111111/eu-west-1/prod/web"]).collect();
    let aws = aws(&services).await;
    for (arguments, accounts) in [
        (&["--unit", "ou-aaaa-1"][..], &ACCOUNTS[..]),
        (&["--unit", "ou-aaaa-2"], &ACCOUNTS[..1]),
        (&["--unit", "ou-aaaa-2,ou-aaaa-1", "--exclude-account", "333333333333"], &["222222222222", "444444444444"]),
        (&["--unit", "r-aaaa"], &["111111111111", "222222222222", "333333333333", "444444444444"]),
        (&["--account", "444444444444,222222222222"], &["444444444444", "222222222222"]),
        (&["--account", "444444444444", "--unit", "ou-aaaa-1"], &["444444444444", "222222222222", "333333333333"]),
        (&["--unit", "ou-aaaa-1", "--first", "444444444444"], &["444444444444", "222222222222", "333333333333"]),
    ] {
        let ran = aws.run(&[&["targets", "-o", "json"], arguments].concat()).await;
        let found: Vec<String> = waves(&ran.json()).concat().iter().map(|name| name[..12].to_owned()).collect();
        assert_eq!(found, accounts, "{arguments:?}");
    }
    let ran = aws.run(&["targets", "--unit", "ou-aaaa-3"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("no active account"), "{}", ran.err);
}

#[tokio::test]
async fn services_are_found_by_region_cluster_name_and_tag() {
    let aws = aws(&[
        "222222222222/eu-west-1/prod/edge-a?team=edge&tier=1",
        "222222222222/eu-west-1/prod/edge-b?team=other",
        "222222222222/eu-west-1/prod/web?team=edge",
        "222222222222/eu-west-1/prod-2/edge-a",
        "222222222222/eu-west-1/stage/edge-a?team=edge",
        "222222222222/us-east-1/prod/edge-a?team=edgy",
    ])
    .await;
    for (arguments, found) in [
        (&["--service", "edge-*", "--cluster", "prod"][..], &["eu-west-1/prod/edge-a", "eu-west-1/prod/edge-b"][..]),
        (&["--service", "edge-?", "--cluster", "prod-*"], &["eu-west-1/prod-2/edge-a"]),
        (&["--cluster", "prod,stage", "--service", "web,edge-b"], &["eu-west-1/prod/edge-b", "eu-west-1/prod/web"]),
        (&["--tagged", "team=edge"], &["eu-west-1/prod/edge-a", "eu-west-1/prod/web", "eu-west-1/stage/edge-a"]),
        (&["--tagged", "team=edge", "--tagged", "tier"], &["eu-west-1/prod/edge-a"]),
        (
            &["--regions", "us-east-1,eu-west-1", "--tagged", "team=edg*", "--cluster", "prod"],
            &["us-east-1/prod/edge-a", "eu-west-1/prod/edge-a", "eu-west-1/prod/web"],
        ),
    ] {
        let ran = aws.run(&[&["targets", "--account", "222222222222", "-o", "json"], arguments].concat()).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        let expected: Vec<String> = found.iter().map(|name| format!("222222222222/{name}")).collect();
        assert_eq!(waves(&ran.json()).concat(), expected, "{arguments:?}");
    }
    let ran = aws.run(&["targets", "--account", "222222222222", "--service", "Edge-a"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no active service fits in 1 accounts"), "{}", ran.err);
}

#[tokio::test]
async fn waves_are_cut_and_the_change_is_written_into_the_input() {
    let services: Vec<String> = (0..20)
        .map(|index| {
            format!("{}/eu-west-1/prod/web-{index:02}", if index < 3 { "222222222222" } else { "333333333333" })
        })
        .collect();
    let aws = aws(&services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (arguments, sizes) in [
        (&[][..], &[20][..]),
        (&["--waves", "1,10%,100%"], &[1, 1, 18]),
        (&["--waves", "2,50%"], &[2, 8, 10]),
        (&["--wave-size", "8"], &[8, 8, 4]),
        (&["--wave-size", "1", "--by", "account"], &[3, 17]),
        (&["--waves", "1,100%", "--by", "account", "--first", "333333333333"], &[17, 3]),
    ] {
        let ran =
            aws.run(&[&["targets", "--account", "222222222222,333333333333", "-o", "json"], arguments].concat()).await;
        let found: Vec<usize> = waves(&ran.json()).iter().map(Vec::len).collect();
        assert_eq!(found, sizes, "{arguments:?}");
    }
    let change =
        ["--image", "nginx:1.27", "--tag", "release=7", "--bake-seconds", "60", "--tolerated-failure-percentage", "5"];
    let ran = aws.run(&[&["targets", "--account", "222222222222", "-o", "json"], &change[..]].concat()).await;
    let mut input = ran.json();
    input["waves"].take();
    let change = json!({"ecs_image_name": "nginx:1.27", "ecs_tag": {"release": "7"}, "tag_mode": "merge"});
    assert_eq!(input, json!({"change": change, "waves": null, "bake_seconds": 60, "tolerated_failure_percentage": 5}));
    for wrong in [
        &["--image", "a:b:c"][..],
        &["--waves", "0"],
        &["--waves", "1", "--wave-size", "1"],
        &["--tolerated-failure-percentage", "101"],
        &["--unit", "edge"],
    ] {
        assert_eq!(
            aws.run(&[&["targets", "--account", "222222222222", "-o", "json"], wrong].concat()).await.code,
            2,
            "{wrong:?}"
        );
    }
    let ran = aws.run(&["targets", "--account", "222222222222,333333333333", "--waves", "1,10%"]).await;
    ran.is_legible();
    for shown in ["wave 1  1 of 20 services", "wave 3  18 of 20", "  222222222222/eu-west-1/prod/web-00\n"] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
}

#[tokio::test]
async fn large_waves_become_objects() {
    let services: Vec<String> = (0..501).map(|index| format!("222222222222/eu-west-1/prod/web-{index:03}")).collect();
    let aws = aws(&services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let asked = ["targets", "--account", "222222222222", "--waves", "1,100%", "--image", "nginx:7", "-o", "json"];
    let ran = aws.run(&asked).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("501 services") && ran.err.contains("--objects"), "{}", ran.err);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("edge-7");
    let ran = aws.run(&[&asked[..], &["--objects", folder.to_str().unwrap()]].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let keys = json!([{"key": "inputs/edge-7/wave-1.jsonl"}, {"key": "inputs/edge-7/wave-2.jsonl"}]);
    assert_eq!(ran.json()["waves"], keys);
    let lines = |wave: u32| std::fs::read_to_string(folder.join(format!("wave-{wave}.jsonl"))).unwrap();
    assert_eq!((lines(1).lines().count(), lines(2).lines().count()), (1, 500));
    let first: Value = serde_json::from_str(&lines(1)).unwrap();
    assert_eq!(first["ecs_service_name"], "web-000");
}

#[tokio::test]
async fn more_waves_than_a_rollout_has_are_refused() {
    let services: Vec<String> = (0..51).map(|index| format!("222222222222/eu-west-1/prod/web-{index:02}")).collect();
    let aws = aws(&services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let ran = aws.run(&["targets", "--account", "222222222222", "--wave-size", "1"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("51 waves"), "{}", ran.err);
}

/// An AWS in which 333333333333 lets nobody in, and 444444444444 has not opted in to us-east-1.
fn partly(ecs: &Ecs, call: &Call) -> Reply {
    match (call.operation.as_str(), call.account.as_str(), call.region.as_str()) {
        ("AssumeRole", ..) if call.text("RoleArn").contains("333333333333") => {
            Err(("AccessDenied", "User: ann is not authorized to perform: sts:AssumeRole"))
        }
        ("ListClusters", "444444444444", "us-east-1") => {
            Err(("UnrecognizedClientException", "The security token included in the request is invalid."))
        }
        _ => Ok(ecs.answer(call)),
    }
}

#[tokio::test]
async fn what_could_not_be_read_is_named_and_the_rest_is_listed() {
    let ecs = Ecs::new(&["222222222222/eu-west-1/prod/web", "444444444444/eu-west-1/prod/web"]);
    let aws = Aws::start(move |call| partly(&ecs, call)).await;
    let asked = ["targets", "--account", "222222222222,333333333333,444444444444", "--regions", "eu-west-1,us-east-1"];
    let ran = aws.run(&asked).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.is_legible();
    let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    for shown in [
        "error: Incomplete: 2 of 3 accounts could not be read in full",
        "333333333333: AccessDenied: sts:AssumeRole: User: ann is not authorized",
        "ReaderPrincipalArns",
        "444444444444/us-east-1: UnrecognizedClientException",
        "region enabled",
        "--exclude-account",
    ] {
        assert!(flat.contains(shown), "{shown}: {flat}");
    }
    assert!(ran.out.contains("222222222222/eu-west-1/prod/web") && ran.out.contains("444444444444/eu-west-1/prod/web"));
    let ran = aws.run(&[&asked[..], &["-o", "json"]].concat()).await;
    assert_eq!((ran.code, waves(&ran.json()).concat().len()), (1, 2));
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["code"], "Incomplete");
    // The external id goes where it is asked for.
    aws.run(&["targets", "--account", "222222222222", "--external-id", "secret", "--reader-role", "a/b"]).await;
    let last = aws.calls("AssumeRole").pop().unwrap();
    assert_eq!((last.text("ExternalId"), last.text("RoleArn")), ("secret", "arn:aws:iam::222222222222:role/a/b"));
}

#[tokio::test]
async fn who_may_not_ask_organizations_is_told_what_else_to_do() {
    for (code, advice) in [
        ("AccessDeniedException", "delegated administrators"),
        ("AWSOrganizationsNotInUseException", "in no organization"),
    ] {
        let aws = Aws::start(move |_| Err((code, "no"))).await;
        let ran = aws.run(&["targets", "--organization"]).await;
        assert_ne!(ran.code, 0);
        let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for shown in [code, advice, "--account", "organizations:ListAccounts"] {
            assert!(flat.contains(shown), "{shown}: {flat}");
        }
    }
}
