//! `history --web`, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::stub::{CHANGE, HOSTILE, Reply, Stub, change, ok, page};

/// A page that is being served.
struct Page {
    port: u16,
    /// What every path begins with, without the slash at its end.
    path: String,
    token: String,
    _child: Child,
}

/// An answer, its headers in lowercase.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

impl Page {
    async fn open(stub: &Stub, arguments: &[&str]) -> Self {
        let arguments = [&["history", "--web", "--no-open", "--output", "json"], arguments].concat();
        Self::of(stub.command(&arguments).spawn().unwrap()).await
    }

    async fn of(mut child: Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
        let url = serde_json::from_str::<Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
        let (at, token) = url.strip_prefix("http://127.0.0.1:").unwrap().split_once("/?token=").unwrap();
        let (port, path) = at.split_once('/').unwrap();
        Self { port: port.parse().unwrap(), path: format!("/{path}"), token: token.to_owned(), _child: child }
    }

    /// Asks for what lies below the page's own path.
    async fn ask(&self, method: &str, path: &str, host: &str, cookie: &str) -> Answer {
        self.ask_at(method, &format!("{}{path}", self.path), host, cookie).await
    }

    async fn ask_at(&self, method: &str, path: &str, host: &str, cookie: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { status: head[9..12].parse().unwrap(), head: head.replace('\r', ""), body: body.to_owned() }
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn enter(&self) -> String {
        let answer = self.ask("GET", &format!("/?token={}", self.token), &self.host(), "").await;
        // No redirect: a strict cookie would not go along where a file led here.
        assert_eq!(answer.status, 200);
        let onwards = format!(r#"http-equiv="refresh" content="0; url={}/""#, self.path);
        assert!(answer.body.contains(&onwards), "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.ask("GET", path, &self.host(), cookie).await
    }
}

fn whole(_: &str, event: &Value) -> Reply {
    if event.get("verify").is_some() {
        ok(&json!({"ok": true, "verified": 3}))
    } else {
        page(&[change(&json!({}))], None)
    }
}

#[tokio::test]
async fn the_token_opens_once_and_the_cookie_afterwards() {
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &[]).await;
    for path in ["/", "/?token=", "/?token=guessed", "/style.css", "/nowhere"] {
        assert_eq!(page.get(path, "").await.status, 403, "{path}");
    }
    assert!(stub.seen().is_empty());
    let cookie = page.enter().await;
    assert_eq!(page.get(&format!("/?token={}", page.token), "").await.status, 403, "a token opens once");
    assert_eq!(page.get(&format!("/?token={}", page.token), &cookie).await.status, 303);
    assert_eq!(page.get("/", &cookie).await.status, 200);
    assert_eq!(page.get("/", &format!("{cookie}0")).await.status, 403);
    assert_eq!(page.get("/", &format!("{}={}", cookie.split('=').next().unwrap(), page.token)).await.status, 403);
    assert_eq!(page.get("/nowhere", &cookie).await.status, 404);
    assert_eq!(page.ask("POST", "/", &page.host(), &cookie).await.status, 405);
}

/// Whether a browser sends a cookie of `cookie_path` with a request for `path`: RFC 6265, section 5.1.4. It asks for no port.
fn goes_along(cookie_path: &str, path: &str) -> bool {
    path == cookie_path
        || path.strip_prefix(cookie_path).is_some_and(|rest| cookie_path.ends_with('/') || rest.starts_with('/'))
}

#[tokio::test]
async fn the_cookie_does_not_go_to_other_ports_of_this_machine() {
    let stub = Stub::start(whole).await;
    let (page, other) = (Page::open(&stub, &[]).await, Page::open(&stub, &[]).await);
    let answer = page.get(&format!("/?token={}", page.token), "").await;
    let set = answer.header("set-cookie").unwrap();
    let path = set.split("; ").find_map(|attribute| attribute.strip_prefix("Path=")).unwrap();
    assert!(!set.contains("Domain="), "{set}");
    // Whoever serves on another port knows that there is such a page, and cannot know its path.
    for elsewhere in ["/", "/index.html", "/style.css", &format!("{}/", other.path)] {
        assert!(!goes_along(path, elsewhere), "{path} {elsewhere}");
    }
    for own in ["/", "/style.css"] {
        assert!(goes_along(path, &format!("{}{own}", page.path)), "{path} {own}");
    }
    let secret = path.trim_matches('/');
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}");
    let cookie = set.split(';').next().unwrap();
    assert_eq!(page.get("/", cookie).await.status, 200);
    // Without the path nobody is let in, and no link of the page leads out of it.
    for path in ["/", "/style.css", &format!("{}/", other.path), &format!("/?token={}", page.token)] {
        assert_eq!(page.ask_at("GET", path, &page.host(), cookie).await.status, 403, "{path}");
    }
    let html = page.get("/?show=1", cookie).await.body;
    for absolute in ["href=\"/", "action=\"/", "src="] {
        assert!(!html.contains(absolute), "{absolute}: {html}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_browser_is_led_in_by_a_file_that_nobody_else_reads() {
    use std::os::unix::fs::PermissionsExt;

    let stub = Stub::start(whole).await;
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let desktop = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/desktop");
    let mut command = stub.command(&["history", "--web", "--output", "json"]);
    command.env("PATH", desktop).env("TOLD", &told).env("TMPDIR", folder.path());
    let page = Page::of(command.spawn().unwrap()).await;
    let exists = async |path: &std::path::Path, wanted: bool| {
        for _ in 0..100 {
            if path.exists() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} should exist: {wanted}", path.display());
    };
    exists(&told, true).await;
    let argument = std::fs::read_to_string(&told).unwrap();
    assert!(!argument.contains(&page.token), "every user may read arguments: {argument}");
    let file = std::path::Path::new(argument.trim_end());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700));
    let html = std::fs::read_to_string(file).unwrap();
    let url = format!("content=\"0; url=http://127.0.0.1:{}{}/?token={}\"", page.port, page.path, page.token);
    assert!(html.contains(&url), "{html}");
    page.enter().await;
    exists(file.parent().unwrap(), false).await;
}

#[tokio::test]
async fn a_foreign_name_for_this_machine_is_refused() {
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let token = format!("/?token={}", page.token);
    for host in
        ["evil.example".to_owned(), format!("evil.example:{}", page.port), "127.0.0.1".to_owned(), String::new()]
    {
        assert_eq!(page.ask("GET", "/", &host, &cookie).await.status, 421, "{host}");
        assert_eq!(page.ask("GET", &token, &host, "").await.status, 421, "{host}");
    }
    assert_eq!(page.ask("GET", "/", &format!("localhost:{}", page.port), &cookie).await.status, 200);
}

#[tokio::test]
async fn the_page_listens_on_loopback_only_and_forbids_everything_else() {
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    for path in ["/", "/style.css", "/nowhere"] {
        let answer = page.get(path, &cookie).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("script"),
            "{policy}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    let html = page.get("/", &cookie).await.body;
    for foreign in ["<script", "http://", "https://", " style=", "onload="] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let listening = format!("00000000:{:04X}", page.port);
    assert!(!sockets.contains(&listening), "listens on every address");
}

#[tokio::test]
async fn what_events_say_is_escaped() {
    let stub = Stub::start(|_, event| {
        if event.get("verify").is_some() {
            return ok(&json!({"ok": false, "verified": 1, "fault": {"record": HOSTILE, "what": HOSTILE}}));
        }
        let mut state = crate::stub::state(HOSTILE, 7, 2);
        state["tags"] = json!([{"key": HOSTILE, "value": HOSTILE}]);
        state["service"] = json!({HOSTILE: {HOSTILE: HOSTILE}});
        page(
            &[change(&json!({"change_id": HOSTILE, "status": HOSTILE, "account_id": HOSTILE, "region": HOSTILE,
                "ecs_cluster_name": HOSTILE, "ecs_service_name": HOSTILE, "started_at": HOSTILE, "requested_by": HOSTILE,
                "reason": HOSTILE, "identity": HOSTILE, "deployment_id": HOSTILE, "session": HOSTILE, "restores": HOSTILE,
                "request_id": HOSTILE, "error": {"code": HOSTILE, "message": HOSTILE}, "after": state,
                "changes": [{"what": "definition", "path": HOSTILE, "from": HOSTILE, "to": HOSTILE}],
                "resolved_images": {HOSTILE: HOSTILE}, "outcome": {"reason": HOSTILE}}))],
            Some(HOSTILE),
        )
    })
    .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    for path in [
        "/",
        &format!("/?show=1&change={CHANGE}"),
        "/?show=1&requested_by=%3Cscript%3Ealert(1)%3C/script%3E%22%20onload=%22x",
    ] {
        let html = page.get(path, &cookie).await.body;
        assert!(html.contains("&#60;script&#62;alert(1)"), "{path}: {html}");
        for dangerous in ["<script", "\" onload", "\u{1b}", "\u{9b}", "\u{202e}", "\u{7}"] {
            assert!(!html.contains(dangerous), "{path}: {dangerous:?}");
        }
    }
}

#[tokio::test]
async fn how_it_ended_and_what_was_asked_for_is_told_without_asking() {
    let stub = Stub::start(|_, _| {
        let rolled_back = change(&json!({"status": "ROLLED_BACK",
            "changes": (0..7).map(|index| json!({"what": "definition", "path": format!("member{index}"), "to": 1})).collect::<Vec<_>>(),
            "resolved_images": {"nginx:1.27": format!("nginx@sha256:{}", "0".repeat(64))},
            "outcome": {"reason": "circuit breaker", "rolled_back_to": {"task_definition_arn": "arn:aws:ecs:r:a:task-definition/web:6"}}}));
        let external = change(&json!({"status": "EXTERNAL", "deployment_id": "ecs-svc/9", "before": null, "after": null}));
        page(&[rolled_back, external], None)
    })
    .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let html = page.get("/?show=1&account=222222222222", &cookie).await.body;
    for shown in [
        "ROLLED_BACK",
        "asked for: <bdi>nginx:1.27</bdi>",
        "rolled back to: <bdi>",
        "web:6",
        "circuit breaker",
        "definition member3",
        "and 3 more that came with the revision",
        "EXTERNAL",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
}

#[tokio::test]
async fn filters_become_queries_and_stay_in_the_form() {
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    for (path, expected) in [
        ("/", json!({})),
        (
            "/?show=1&account=222222222222&status=FAILED&requested_by=ann&identity=verified",
            json!({"account_id": "222222222222", "status": "FAILED", "requested_by": "ann", "identity": "verified"}),
        ),
        (
            "/?show=1&image=r/edge:7&from=2026-11-01&to=2026-11-02&order=oldest_first",
            json!({"image": "r/edge", "from": "2026-11-01", "to": "2026-11-02", "order": "oldest_first"}),
        ),
        ("/?show=1&next=abc", json!({"next_token": "abc"})),
        ("/?show=1&external=true", json!({"external": true})),
    ] {
        assert_eq!(page.get(path, &cookie).await.status, 200);
        let mut whole = json!({"limit": 20, "order": "newest_first"});
        whole.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        assert_eq!(stub.seen().last().unwrap().1, whole, "{path}");
    }
    let html = page
        .get("/?show=1&account=222222222222&status=FAILED&requested_by=ann&identity=verified&from=2026-11-01", &cookie)
        .await
        .body;
    for kept in [
        r#"value="222222222222""#,
        "<option selected>FAILED</option>",
        "<option selected>verified</option>",
        r#"value="ann""#,
        r#"value="2026-11-01""#,
    ] {
        assert!(html.contains(kept), "{kept}: {html}");
    }
    // What the index cannot say: changes of another account, found by image, are left out.
    let html = page.get("/?show=1&image=registry.example:5000/edge/web&account=333333333333", &cookie).await.body;
    assert!(html.contains("No changes") && !html.contains("release 7"), "{html}");
}

#[tokio::test]
async fn the_page_opens_with_what_the_command_line_asked_for() {
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &["--account", "222222222222", "--day", "2026-11-17"]).await;
    let cookie = page.enter().await;
    let html = page.get("/", &cookie).await.body;
    assert_eq!(
        stub.only().1,
        json!({"account_id": "222222222222", "from": "2026-11-17", "to": "2026-11-17", "limit": 20, "order": "newest_first"})
    );
    for shown in [
        "<span class=\"identity\"><bdi>claimed</bdi></span> <strong><bdi>release pipeline</bdi></strong>",
        "registry.example:5000/edge/web:6",
        "registry.example:5000/edge/web:7",
        "COMPLETED",
        "<caption",
        "<main",
        "<h1>",
        r#"<label for="account">"#,
        r#"lang="en""#,
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
}

#[tokio::test]
async fn a_broken_chain_is_marked_where_one_service_is_shown() {
    let stub = Stub::start(|function, event| {
        if event.get("verify").is_some() {
            return ok(
                &json!({"ok": false, "verified": 3, "fault": {"record": format!("{CHANGE}#1"), "what": "was changed"}}),
            );
        }
        if event.get("ecs_service_name") == Some(&json!("emptied")) { page(&[], None) } else { whole(function, event) }
    })
    .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    assert!(!page.get("/", &cookie).await.body.contains("class=\"chain"));
    for path in [
        "/?show=1&service=222222222222/eu-west-1/prod/web",
        &format!("/?show=1&change={CHANGE}"),
        // Where every record is gone, that is what the chain has to tell.
        "/?show=1&service=222222222222/eu-west-1/prod/emptied",
    ] {
        let html = page.get(path, &cookie).await.body;
        assert!(
            html.contains(r#"class="chain broken" role="alert""#) && html.contains(&format!("{CHANGE}#1")),
            "{path}: {html}"
        );
        assert_eq!(stub.seen().last().unwrap().1["verify"], true);
    }
    let stub = Stub::start(whole).await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let html = page.get("/?show=1&service=222222222222/eu-west-1/prod/web", &cookie).await.body;
    assert!(
        html.contains("chain whole") && html.contains("3 records verified") && !html.contains("chain broken"),
        "{html}"
    );
}

#[tokio::test]
async fn a_chain_without_a_record_is_not_whole() {
    let stub = Stub::start(|_, event| {
        if event.get("verify").is_some() { ok(&json!({"ok": true, "verified": 0})) } else { page(&[], None) }
    })
    .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let html = page.get("/?show=1&service=222222222222/eu-west-1/prod/wbe", &cookie).await.body;
    assert!(html.contains("chain unknown") && html.contains("no records of this service"), "{html}");
    assert!(!html.contains("chain whole"), "{html}");
}

#[tokio::test]
async fn times_are_days_in_the_form() {
    let stub = Stub::start(whole).await;
    let times = ["--from", "2026-11-17T00:30:00+01:00", "--to", "2026-11-19T00:00:00Z"];
    let page = Page::open(&stub, &times).await;
    let cookie = page.enter().await;
    let html = page.get("/", &cookie).await.body;
    assert_eq!((&stub.only().1["from"], &stub.only().1["to"]), (&json!(times[1]), &json!(times[3])));
    for shown in [r#"type="date" value="2026-11-16""#, r#"type="date" value="2026-11-18""#] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
}

#[tokio::test]
async fn a_chain_that_could_not_be_checked_is_neither_whole_nor_broken() {
    let stub = Stub::start(|function, event| {
        if event.get("verify").is_some() {
            Reply::FunctionError("HistoryUnavailable", "away".to_owned())
        } else {
            whole(function, event)
        }
    })
    .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let html = page.get("/?show=1&service=222222222222/eu-west-1/prod/web", &cookie).await.body;
    assert!(html.contains("chain unknown") && html.contains("could not be checked: away"), "{html}");
    assert!(html.contains("release 7"));
}

#[tokio::test]
async fn pages_follow_each_other_with_their_filters() {
    let stub =
        Stub::start(|_, event| page(&[change(&json!({}))], event.get("next_token").is_none().then_some("a/b+c=")))
            .await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let html = page.get("/?show=1&account=222222222222", &cookie).await.body;
    let link = html.split("<a href=\"").find(|rest| rest.contains("rel=\"next\"")).unwrap().split('"').next().unwrap();
    // Seen from the page.
    let link = format!("/{}", link.replace("&#38;", "&"));
    let html = page.get(&link, &cookie).await.body;
    let event = stub.seen().last().unwrap().1.clone();
    assert_eq!((&event["next_token"], &event["account_id"]), (&json!("a/b+c="), &json!("222222222222")));
    assert!(html.contains("First page") && !html.contains("Next page"), "{html}");
}

#[tokio::test]
async fn trouble_is_told_on_the_page() {
    let stub = Stub::start(|_, _| Reply::Refused(403, "AccessDeniedException", "not <b>you</b>")).await;
    let page = Page::open(&stub, &[]).await;
    let cookie = page.enter().await;
    let answer = page.get("/", &cookie).await;
    assert_eq!(answer.status, 502);
    for shown in [r#"role="alert""#, "AccessDeniedException", "not &#60;b&#62;you", "lambda:InvokeFunction"] {
        assert!(answer.body.contains(shown), "{shown}: {}", answer.body);
    }
    let answer = page.get("/?show=1&service=web", &cookie).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("is no service"), "{}", answer.body);
}
