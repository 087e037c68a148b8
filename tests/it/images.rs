//! Images that are looked up before anything is changed: pinned, or found missing; and registries that mean no good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::{Answer, Reply, Request};
use crate::harness::lambda::{MEMORY_LIMIT, Outcome};
use crate::harness::registry::{Registry, contents, digest, has, index, manifest, status};
use crate::harness::{OTHER_TARGET, REGION, SECRET_MARKER, Site, TARGET, World, ledger, sync};

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:111111111111:secret:registry-AbCdEf";

/// A world whose updater may ask these registries on loopback.
async fn world(registries: &[&Registry], more: &[(&str, &str)]) -> World {
    let http: Vec<String> = registries.iter().map(|registry| registry.host()).collect();
    let http = http.join(",");
    let mut environment = vec![("REGISTRY_ALLOW_HTTP", http.as_str()), ("REGISTRY_ALLOW_PRIVATE", "127.0.0.1")];
    environment.extend(more);
    World::configured(&environment).await
}

fn failed(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Error { error_type, message } => (error_type, message),
        other => panic!("{other:?}"),
    }
}

fn body(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Response(response) => response["body"].clone(),
        other => panic!("{other:?}"),
    }
}

/// Nothing was changed, and nothing was written.
fn is_untouched(world: &World) {
    assert!(!world.journal.calls().iter().any(crate::harness::journal::Call::mutates_ecs));
    assert!(world.records(&Site::target()).is_empty());
}

#[tokio::test]
async fn a_tag_is_pinned_to_the_index_and_the_record_has_both() {
    let content = index(&[("linux", "amd64"), ("linux", "arm64")]);
    let registry = Registry::with(contents([("team/app/manifests/7", &content)])).await;
    let world = world(&[&registry], &[]).await;
    let (asked, pinned) =
        (format!("{}/team/app:7", registry.host()), format!("{}/team/app@{}", registry.host(), digest(&content)));
    let event = json!({"ecs_image_name": asked, "resolve_digest": true});

    let plan = body(world.update(json!({"ecs_image_name": asked, "resolve_digest": true, "dry_run": true})).await);
    assert_eq!(plan["changes"][0]["to"], pinned);
    assert_eq!(plan["resolved_images"], json!({asked.as_str(): pinned}));
    is_untouched(&world);

    let answer = body(world.update(event.clone()).await);
    assert_eq!(answer["AFTER"]["serviceImage"], pinned);
    assert_eq!(answer["resolved_images"], json!({asked.as_str(): pinned}));
    let records = world.records(&Site::target());
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    for record in &records {
        let resolved: Value = serde_json::from_str(record["resolved_images"].as_str().unwrap()).unwrap();
        assert_eq!(resolved, json!({asked.as_str(): pinned}));
    }

    // The same bytes again: nothing differs.
    assert_eq!(body(world.update(event).await)["status"], "UNCHANGED");
}

#[tokio::test]
async fn all_services_of_an_event_get_the_same_bytes() {
    let now = contents([("app/manifests/7", &manifest("one"))]);
    let moving = Arc::clone(&now);
    // The tag moves with every request.
    let registry = Registry::start(move |request: &Request| {
        let reply = has(&sync(&moving)[request.path.trim_start_matches("/v2/")]);
        if request.method == "GET" {
            sync(&moving).insert("app/manifests/7".to_owned(), manifest("another"));
        }
        reply
    })
    .await;
    let world = world(&[&registry], &[]).await;
    let other = Site::new(OTHER_TARGET, REGION, "ECSCluster", "ecs-dummy-service");
    world.seed(&other);
    let event = json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service",
        "ecs_image_name": format!("{}/app:7", registry.host()), "resolve_digest": true,
        "updates": [{"account_id": TARGET}, {"account_id": OTHER_TARGET}]});
    let answer = body(world.invoke(&event).await);
    let image = format!("{}/app@{}", registry.host(), digest(&manifest("one")));
    for result in answer["results"].as_array().unwrap() {
        assert_eq!(result["AFTER"]["serviceImage"], image, "{answer}");
    }
    assert_eq!(registry.methods(), ["HEAD", "GET"]);
}

/// Docker Hub counts a GET of a manifest as a pull, and a HEAD as none.
#[tokio::test]
async fn a_manifest_that_was_read_before_is_not_pulled_again() {
    let now = contents([("app/manifests/7", &manifest("one")), ("other/manifests/7", &manifest("one"))]);
    let registry = Registry::with(Arc::clone(&now)).await;
    let world = world(&[&registry], &[]).await;
    let look_up = async |image: &str, expected: &str| {
        let image = format!("{}/{image}", registry.host());
        let answer =
            body(world.update(json!({"ecs_image_name": image, "resolve_digest": true, "dry_run": true})).await);
        let pinned = format!("{}@{}", image.rsplit_once(':').unwrap().0, digest(expected));
        assert_eq!(answer["resolved_images"], json!({image: pinned}));
    };
    look_up("app:7", &manifest("one")).await;
    look_up("app:7", &manifest("one")).await;
    assert_eq!(registry.methods(), ["HEAD", "GET", "HEAD"]);
    // Another repository shows its own, and a tag that moved is read.
    look_up("other:7", &manifest("one")).await;
    sync(&now).insert("app/manifests/7".to_owned(), manifest("another"));
    look_up("app:7", &manifest("another")).await;
    sync(&now).insert("app/manifests/7".to_owned(), manifest("one"));
    look_up("app:7", &manifest("one")).await;
    assert_eq!(registry.methods()[3..], ["HEAD", "GET", "HEAD", "GET", "HEAD"]);

    // A registry that does not answer HEAD, or has no digest in its answer.
    for refusal in [405, 404, 200] {
        let registry = Registry::start(move |request: &Request| match request.method.as_str() {
            "HEAD" => Reply::Answer(status(refusal)),
            _ => has(&manifest("one")),
        })
        .await;
        let world = self::world(&[&registry], &[]).await;
        for _ in 0..2 {
            let event =
                json!({"ecs_image_name": format!("{}/app:7", registry.host()), "check_image": true, "dry_run": true});
            assert_eq!(body(world.update(event).await)["status"], "PLANNED");
        }
        assert_eq!(registry.methods(), ["HEAD", "GET", "HEAD", "GET"], "{refusal}");
    }
}

#[tokio::test]
async fn a_missing_image_is_found_before_anything_is_registered() {
    let registry = Registry::with(contents([("app/manifests/7", &manifest("one"))])).await;
    let world = world(&[&registry], &[]).await;
    for field in ["resolve_digest", "check_image"] {
        let image = format!("{}/app:8", registry.host());
        let (code, message) = failed(world.update(json!({"ecs_image_name": image, field: true})).await);
        assert_eq!(code, "ImageNotFound");
        assert!(
            message.starts_with("[ERROR][ecs_service_update] new task_definition could not be created with image "),
            "{message}"
        );
        assert!(
            message.contains(&image) && message.ends_with("Nothing was changed in the target account."),
            "{message}"
        );
    }
    is_untouched(&world);
    let image = format!("{}/app:7", registry.host());
    let answer = body(world.update(json!({"ecs_image_name": image, "check_image": true})).await);
    assert_eq!((&answer["AFTER"]["serviceImage"], &answer["resolved_images"]), (&json!(image), &Value::Null));
}

#[tokio::test]
async fn what_is_no_image_is_refused_and_told() {
    let chart = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"},
        "layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}]});
    let signature = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}]});
    let registry = Registry::with(contents([
        ("app/manifests/chart", &chart.to_string()),
        ("app/manifests/signature", &signature.to_string()),
    ]))
    .await;
    let world = world(&[&registry], &[]).await;
    for (tag, what) in [("chart", "a Helm chart"), ("signature", "a cosign signature")] {
        for field in ["resolve_digest", "check_image"] {
            let image = format!("{}/app:{tag}", registry.host());
            let (code, message) = failed(world.update(json!({"ecs_image_name": image, field: true})).await);
            assert_eq!(code, "InvalidImage");
            assert!(
                message.starts_with("[ERROR][ecs_service_update] new task_definition could not be created with image "),
                "{message}"
            );
            assert!(message.contains(&format!("it is {what}, and no container image")), "{message}");
            assert!(message.ends_with("Nothing was changed in the target account."), "{message}");
        }
    }
    is_untouched(&world);
}

#[tokio::test]
async fn the_other_entries_go_on() {
    let registry = Registry::with(contents([("app/manifests/7", &manifest("one"))])).await;
    let world = world(&[&registry], &[]).await;
    let other = Site::new(OTHER_TARGET, REGION, "ECSCluster", "ecs-dummy-service");
    world.seed(&other);
    let image = |tag: &str| format!("{}/app:{tag}", registry.host());
    let event = json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "check_image": true,
        "updates": [{"account_id": TARGET, "ecs_image_name": image("8")}, {"account_id": OTHER_TARGET, "ecs_image_name": image("7")}]});
    let results = body(world.invoke(&event).await)["results"].clone();
    assert_eq!((&results[0]["error"]["code"], &results[1]["status"]), (&json!("ImageNotFound"), &json!("APPLIED")));
}

#[tokio::test]
async fn an_image_without_what_the_tasks_run_on_is_refused() {
    let content = index(&[("linux", "amd64")]);
    let registry = Registry::with(contents([("app/manifests/7", &content)])).await;
    let world = world(&[&registry], &[]).await;
    let site = Site::new(TARGET, REGION, "ECSCluster", "arm");
    let mut definition = crate::harness::web_definition("busybox");
    definition["runtimePlatform"] = json!({"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"});
    world.seed_definition(&site, &definition.to_string(), json!([]), |_| {});
    let image = format!("{}/app:7", registry.host());
    let (code, message) =
        failed(world.invoke(&site.event(json!({"ecs_image_name": image, "resolve_digest": true}))).await);
    assert_eq!(code, "ImageNotFound");
    assert!(message.contains("runs on linux/arm64") && message.contains("for linux/amd64 only"), "{message}");
}

#[tokio::test]
async fn a_replay_and_a_resumption_do_not_ask_again() {
    let now = contents([("app/manifests/7", &manifest("one"))]);
    let registry = Registry::with(Arc::clone(&now)).await;
    let world = world(&[&registry], &[]).await;
    let event = Site::target().event(
        json!({"ecs_image_name": format!("{}/app:7", registry.host()), "resolve_digest": true, "idempotency_key": "k"}),
    );
    world.journal.on("UpdateService", 1, crate::harness::journal::Fault::HangBefore);
    let soon = world.invocation().deadline_in(Duration::from_secs(15));
    world.kill_at(&event, soon, "UpdateService", 1).await;
    sync(&now).insert("app/manifests/7".to_owned(), manifest("another"));
    world.restart().await;
    ledger::expire_lease(world.tables(), &Site::target().key());
    let answer = body(world.invoke(&event).await);
    let pinned = format!("{}/app@{}", registry.host(), digest(&manifest("one")));
    assert_eq!(answer["AFTER"]["serviceImage"], pinned, "what it began with");
    assert_eq!(body(world.invoke(&event).await)["replayed"], true);
    assert_eq!(registry.methods(), ["HEAD", "GET"]);
}

/// Secrets Manager with this secret, or none.
async fn secrets(secret: Option<Value>) -> Registry {
    Registry::start(move |request: &Request| {
        assert_eq!(request.header("x-amz-target"), Some("secretsmanager.GetSecretValue"));
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(asked["SecretId"], SECRET);
        Reply::Answer(match &secret {
            Some(secret) => {
                let answer = json!({"ARN": SECRET, "Name": "registry", "SecretString": secret.to_string()});
                Answer::new(200, "application/x-amz-json-1.1", answer.to_string())
            }
            None => Answer::new(
                400,
                "application/x-amz-json-1.1",
                json!({"__type": "AccessDeniedException", "Message": "not authorized"}).to_string(),
            ),
        })
    })
    .await
}

fn password() -> Value {
    json!({"username": "ci", "password": format!("{SECRET_MARKER}-password")})
}

fn basic() -> String {
    use base64::Engine;
    let pair = format!("ci:{SECRET_MARKER}-password");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// What an updater is told that has credentials for `registry`.
fn credentials(registry: &Registry) -> String {
    json!({registry.host(): SECRET}).to_string()
}

#[tokio::test]
async fn a_private_repository_is_read_with_its_credentials_only() {
    let registry = Registry::start(|request: &Request| match request.header("authorization") {
        Some(given) if given == basic() => has(&manifest("one")),
        _ => Reply::Answer(status(401).header("www-authenticate", "Basic realm=\"registry\"")),
    })
    .await;
    let event = json!({"ecs_image_name": format!("{}/app:7", registry.host()), "resolve_digest": true});

    let without = world(&[&registry], &[]).await;
    let (code, message) = failed(without.update(event.clone()).await);
    assert_eq!(code, "ImageNotFound");
    assert!(message.contains("REGISTRY_CREDENTIALS"), "{message}");

    for (secret, expected) in
        [(Some(password()), None), (None, Some("RegistrySecretArns")), (Some(json!("x")), Some("is not {"))]
    {
        let secrets = secrets(secret).await;
        let (url, credentials) = (secrets.url(), credentials(&registry));
        let settings =
            [("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()), ("REGISTRY_CREDENTIALS", credentials.as_str())];
        let world = world(&[&registry], &settings).await;
        let outcome = world.update(event.clone()).await;
        match expected {
            None => assert_eq!(body(outcome)["status"], "APPLIED"),
            Some(expected) => {
                let (code, message) = failed(outcome);
                assert_eq!(code, "RegistryUnavailable");
                assert!(message.contains(expected), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says() {
    let registry = Registry::start(|request: &Request| {
        if request.path.starts_with("/token?") {
            return match request.header("authorization") {
                Some(given) if given == basic() => {
                    Reply::Answer(Answer::new(200, "application/json", "{\"token\": \"abc\"}"))
                }
                _ => Reply::Answer(status(401)),
            };
        }
        if request.header("authorization") == Some("Bearer abc") {
            return has(&manifest("one"));
        }
        let host = request.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"the registry\"");
        Reply::Answer(status(401).header("www-authenticate", challenge))
    })
    .await;
    let secrets = secrets(Some(password())).await;
    let (url, credentials) = (secrets.url(), credentials(&registry));
    let settings = [("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()), ("REGISTRY_CREDENTIALS", credentials.as_str())];
    let event = json!({"ecs_image_name": format!("{}/team/app:7", registry.host()), "resolve_digest": true});
    let with = world(&[&registry], &settings).await;
    assert_eq!(body(with.update(event.clone()).await)["status"], "APPLIED");
    let heard = registry.heard();
    assert_eq!(heard[1].0, "/token?service=the%20registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!((heard[0].1.as_deref(), heard[2].1.as_deref()), (None, Some("Bearer abc")));

    let without = world(&[&registry], &[]).await;
    assert_eq!(failed(without.update(event).await).0, "ImageNotFound");
}

#[tokio::test]
async fn credentials_are_sent_nowhere_else() {
    let elsewhere = Registry::start(|_: &Request| has(&manifest("one"))).await;
    let to = elsewhere.url();
    // First it asks for the password, then it sends the one who has it elsewhere.
    let redirecting = {
        let to = to.clone();
        Registry::start(move |request: &Request| {
            Reply::Answer(match request.header("authorization") {
                Some(_) => status(307).header("location", format!("{to}/somewhere?x=1")),
                None => status(401).header("www-authenticate", "Basic realm=\"registry\""),
            })
        })
        .await
    };
    let tokens_elsewhere = Registry::start(move |_: &Request| {
        Reply::Answer(status(401).header("www-authenticate", format!("Bearer realm=\"{to}/token\"")))
    })
    .await;
    let secrets = secrets(Some(password())).await;
    let url = secrets.url();

    let given = credentials(&redirecting);
    let settings = [("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()), ("REGISTRY_CREDENTIALS", given.as_str())];
    let redirected = world(&[&redirecting, &elsewhere], &settings).await;
    let event = json!({"ecs_image_name": format!("{}/app:7", redirecting.host()), "resolve_digest": true});
    assert_eq!(body(redirected.update(event).await)["status"], "APPLIED");
    let heard = [("/somewhere?x=1".to_owned(), None), ("/somewhere?x=1".to_owned(), None)];
    assert_eq!(elsewhere.heard(), heard, "a HEAD and a GET");

    let given = credentials(&tokens_elsewhere);
    let settings = [("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()), ("REGISTRY_CREDENTIALS", given.as_str())];
    let refused = world(&[&tokens_elsewhere, &elsewhere], &settings).await;
    let event = json!({"ecs_image_name": format!("{}/app:7", tokens_elsewhere.host()), "resolve_digest": true});
    let (code, message) = failed(refused.update(event).await);
    assert_eq!(code, "RegistryUnavailable");
    assert!(message.contains("token_host"), "{message}");
    assert_eq!(elsewhere.requests().len(), heard.len(), "nothing more was asked there");
}

#[tokio::test]
async fn a_registry_that_means_no_good_is_not_followed_and_not_believed() {
    let other = Registry::start(|_: &Request| has(&manifest("one"))).await;
    let other_url = other.url();
    let registry = Registry::start(move |request: &Request| {
        let tag = request.path.rsplit('/').next().unwrap_or_default();
        let redirect = |to: &str| Reply::Answer(status(302).header("location", to));
        match tag {
            "endless" => Reply::Endless(Answer::new(200, "application/json", vec![b' '; 64 * 1024])),
            "endless-token" | "metadata-token" => {
                let realm = if tag == "endless-token" { "http://127.0.0.1:1/" } else { "http://169.254.169.254/" };
                Reply::Answer(status(401).header("www-authenticate", format!("Bearer realm=\"{realm}\"")))
            }
            "wrong-digest" => Reply::Answer(
                Answer::new(200, "application/json", manifest("one"))
                    .header("docker-content-digest", digest(&manifest("another"))),
            ),
            "html" => Reply::Answer(Answer::new(200, "text/html", "<html>do-not-show</html>")),
            "busy" => Reply::Answer(status(429).header("retry-after", "77")),
            "broken" => Reply::Answer(status(500)),
            "cut" => Reply::Cut,
            "elsewhere" => redirect(&format!("{other_url}/x?signature=do-not-show-me")),
            "metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
            "metadata-https" => redirect("https://169.254.169.254/latest/meta-data/"),
            "mapped" => redirect("https://[::ffff:169.254.169.254]/latest/meta-data/"),
            "private" => redirect("https://10.0.0.1/"),
            "file" => redirect("file:///etc/passwd"),
            "circle" => redirect(&request.path),
            _ => Reply::Answer(status(404)),
        }
    })
    .await;
    let world = world(&[&registry], &[]).await;
    for (tag, retryable, expected) in [
        ("endless", false, "sent more than 4194304 bytes"),
        ("endless-token", false, "sends for a token to where it is not asked"),
        ("metadata-token", false, "sends for a token to where it is not asked"),
        ("wrong-digest", false, "should have sha256:"),
        ("html", false, "is no image manifest"),
        ("busy", true, "it asks to wait 77 s"),
        ("broken", true, "answered 500"),
        ("cut", true, "could not be reached"),
        ("elsewhere", false, "redirects to where it is not asked"),
        ("metadata", false, "redirects to where it is not asked"),
        ("metadata-https", false, "169.254.169.254"),
        ("mapped", false, "redirects to where it is not asked"),
        ("private", false, "10.0.0.1"),
        ("file", false, "redirects to where it is not asked"),
        ("circle", false, "redirects more than 3 times"),
    ] {
        let image = format!("{}/app:{tag}", registry.host());
        let event =
            json!({"updates": [Site::target().event(json!({"ecs_image_name": image, "resolve_digest": true}))]});
        let error = body(world.invoke(&event).await)["results"][0]["error"].clone();
        assert_eq!(
            (&error["code"], &error["retryable"]),
            (&json!("RegistryUnavailable"), &json!(retryable)),
            "{tag}: {error}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(expected), "{tag}: {message}");
    }
    assert!(other.requests().is_empty());
    is_untouched(&world);
}

/// The memory that the template gives the updater, in MiB.
fn memory_of_the_template() -> usize {
    let template = include_str!("../../infrastructure/cloudformation/hub.yaml");
    let function = template.split("\n  UpdaterFunction:\n").nth(1).unwrap();
    let size = function.split("MemorySize: ").nth(1).unwrap();
    size.lines().next().unwrap().trim().parse().unwrap()
}

/// `head`, then `piece` as often as 4 MiB have room for, then `tail`.
fn huge(head: &str, piece: &str, tail: &str) -> String {
    let room = 4 * 1024 * 1024 - head.len() - tail.len();
    let text = format!("{head}{}{tail}", piece.repeat(room / piece.len()));
    assert!(text.len() > 4 * 1024 * 1024 - 64, "{}", text.len());
    text
}

/// What may take much more memory than it has bytes, by what it is called, and whether it is an image all the same.
fn hostile() -> Vec<(&'static str, String, bool)> {
    let image = "{\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\"},";
    let platforms = {
        let entries: Vec<String> = (0..)
            .map(|n| format!("{{\"platform\":{{\"os\":\"{}\",\"architecture\":\"{n}\"}}}}", "o".repeat(2000)))
            .take(2000)
            .collect();
        format!("{{\"manifests\":[{}]}}", entries.join(","))
    };
    vec![
        // As a tree of JSON values each entry takes a hundred bytes.
        ("entries", huge("{\"manifests\":[{}", ",{}", "]}"), false),
        ("layers", huge(&format!("{image}\"layers\":[{{}}"), ",{}", "]}"), true),
        ("types", huge(&format!("{image}\"layers\":[{{\"mediaType\":\"a\"}}"), ",{\"mediaType\":\"b\"}", "]}"), false),
        ("string", huge("{\"artifactType\":\"", "x", "\"}"), false),
        // These cannot be borrowed from the body: they are copied.
        ("escaped", huge("{\"manifests\":[],\"artifactType\":\"", "\\u0041\\n", "\"}"), false),
        ("values", huge(&format!("{image}\"layers\":[],\"annotations\":{{\"a\":1"), ",\"\":1", "}}"), true),
        ("arrays", huge("", "[", ""), false),
        ("objects", huge("", "{\"a\":", ""), false),
        ("nested", huge("{\"manifests\":[{\"platform\":", "[", "]}]}"), false),
        ("platforms", platforms, false),
        ("white", huge("{\"manifests\":", " ", "}"), false),
    ]
}

/// The process ends where it maps more than its function has, and its five honest services with it.
#[tokio::test]
async fn sixty_four_hostile_answers_at_once_cost_little_memory_and_nobody_elses_change() {
    let shapes = hostile();
    let answers: Vec<(String, String)> =
        shapes.iter().map(|(name, text, _)| ((*name).to_owned(), text.clone())).collect();
    let registry = Registry::start(move |request: &Request| {
        let tag = request.path.rsplit('/').next().unwrap_or_default();
        let answer = answers.iter().find(|(name, _)| name == tag);
        answer.map_or_else(|| has(&manifest("honest")), |(_, text)| has(text))
    })
    .await;
    let limit = (memory_of_the_template() * 1024).to_string();
    let world = world(&[&registry], &[(MEMORY_LIMIT, &limit)]).await;
    let process = world.process();
    // The honest ones come first: they have begun when the others are read, which takes this unoptimized build ten seconds and more.
    let tag = |n: usize| if n < 5 { "honest" } else { shapes[n % shapes.len()].0 };
    let sites: Vec<Site> = (0..69).map(|n| Site::new(TARGET, REGION, "prod", &format!("s{n:02}"))).collect();
    let entry = |(n, site): (usize, &Site)| {
        world.seed(site);
        let image = format!("{}/app{n}:{}", registry.host(), tag(n));
        site.event(json!({"ecs_image_name": image, "resolve_digest": true}))
    };
    let updates: Vec<Value> = sites.iter().enumerate().map(entry).collect();
    let answer = body(world.invoke(&json!({"updates": updates})).await);
    let results = answer["results"].as_array().unwrap();
    let of = |tag_of: &str| (0..69).filter(|n| tag(*n) == tag_of).map(|n| &results[n]).collect::<Vec<_>>();
    assert_eq!(of("honest").len(), 5);
    for honest in of("honest") {
        assert_eq!(honest["status"], "APPLIED", "{honest}");
    }
    let mut read = 0;
    for (name, _, is_image) in &shapes {
        for result in of(name) {
            // On a busy machine some of them have no turn in time.
            let message = result["error"]["message"].as_str().unwrap_or_default();
            let is_late = message.contains("did not answer within");
            assert!(is_late || (result["status"] == "APPLIED") == *is_image, "{name}: {result}");
            read += usize::from(!is_late);
        }
    }
    assert!(read > shapes.len(), "only {read} were read: {answer}");
    world.update(json!({"ecs_image_name": "nginx:1.27"})).await.status("APPLIED");
    assert!(Arc::ptr_eq(&process, &world.process()) && process.ended().is_none());
    let peak = process.peak_memory().unwrap();
    assert!(peak < 100 * 1024 * 1024, "{peak} bytes");
}

#[tokio::test]
async fn a_slow_registry_is_not_waited_for() {
    let registry = Registry::start(|request: &Request| match request.path.as_str() {
        "/v2/app/manifests/slow" => Reply::Late(Duration::from_mins(1), status(404)),
        _ => Reply::Answer(status(404)),
    })
    .await;
    let world = world(&[&registry], &[]).await;
    let image = format!("{}/app:slow", registry.host());
    let begun = Instant::now();
    let (code, message) = failed(world.update(json!({"ecs_image_name": image, "check_image": true})).await);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(code, "RegistryUnavailable");
    assert!(message.contains("did not answer within 5 s"), "{message}");
}

#[tokio::test]
async fn private_addresses_are_asked_where_the_configuration_says_so_only() {
    let registry = Registry::start(|_: &Request| has(&manifest("one"))).await;
    let port = registry.host().rsplit(':').next().unwrap().to_owned();
    for name in ["127.0.0.1", "localhost"] {
        let host = format!("{name}:{port}");
        let event = json!({"ecs_image_name": format!("{host}/app:7"), "check_image": true});
        let refusing = World::configured(&[("REGISTRY_ALLOW_HTTP", &host)]).await;
        let (code, message) = failed(refusing.update(event.clone()).await);
        assert_eq!(code, "RegistryUnavailable");
        assert!(message.contains("only where REGISTRY_ALLOW_PRIVATE names the host"), "{message}");
        let over_tls = World::configured(&[("REGISTRY_ALLOW_PRIVATE", name)]).await;
        assert_eq!(failed(over_tls.update(event).await).0, "RegistryUnavailable");
    }
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn ecr_is_asked_in_the_account_and_region_of_the_repository() {
    let content = manifest("one");
    let pinned = digest(&content);
    let answer = json!({"images": [{"registryId": "999999999999", "repositoryName": "team/app",
        "imageId": {"imageTag": "7", "imageDigest": pinned}, "imageManifest": content}], "failures": []});
    let ecr = Registry::start(move |request: &Request| {
        assert_eq!(request.header("x-amz-target"), Some("AmazonEC2ContainerRegistry_V20150921.BatchGetImage"));
        assert!(request.header("authorization").unwrap().contains("/us-east-1/ecr/"));
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(asked["registryId"], "999999999999");
        let refuse = |code: &str| {
            Reply::Answer(Answer::new(400, "application/x-amz-json-1.1", json!({"__type": code, "message": "no"}).to_string()))
        };
        match (asked["repositoryName"].as_str().unwrap(), asked["imageIds"][0]["imageTag"].as_str().unwrap()) {
            ("team/app", "7") => Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", answer.to_string())),
            ("team/app", tag) => {
                let code = if tag == "8" { "ImageNotFound" } else { tag };
                let failure = json!({"images": [], "failures": [{"failureCode": code, "failureReason": "Requested image not found"}]});
                Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", failure.to_string()))
            }
            ("missing", _) => refuse("RepositoryNotFoundException"),
            ("busy", _) => refuse("ThrottlingException"),
            _ => refuse("AccessDeniedException"),
        }
    })
    .await;
    let url = ecr.url();
    let world = World::configured(&[("AWS_ENDPOINT_URL_ECR", &url)]).await;
    let registry = "999999999999.dkr.ecr.us-east-1.amazonaws.com";
    for (image, code, expected) in [
        ("team/app:8", "ImageNotFound", "Requested image not found"),
        ("missing:7", "ImageNotFound", "RepositoryNotFoundException"),
        ("busy:7", "RegistryUnavailable", "ThrottlingException"),
        ("denied:7", "RegistryUnavailable", "policy of the repository"),
        ("team/app:ImageInaccessible", "ImageNotFound", "is archived cannot be pulled"),
        ("team/app:UpstreamTooManyRequests", "RegistryUnavailable", "UpstreamTooManyRequests"),
        ("team/app:UpstreamAccessDenied", "RegistryUnavailable", "credentials that the pull through cache rule has"),
    ] {
        let event = json!({"ecs_image_name": format!("{registry}/{image}"), "resolve_digest": true});
        let (actual, message) = failed(world.update(event).await);
        assert_eq!(actual, code, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    is_untouched(&world);
    let event = json!({"ecs_image_name": format!("{registry}/team/app:7"), "resolve_digest": true});
    let answer = body(world.update(event).await);
    assert_eq!(answer["AFTER"]["serviceImage"], format!("{registry}/team/app@{pinned}"));
}
