//! Debian's docker-registry on loopback, where `tests/registry/unpack` (a part of `make test`) could put it, or where it
//! is installed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::http::{Answer, Request, Upstream};
use crate::harness::registry::{Registry, digest};
use crate::harness::{SECRET_MARKER, Site, World};

/// `ci`, with a password that must show nowhere.
const HTPASSWD: &str = "ci:$2b$04$TtMwJhsyPVxjAbqgYD.i5O8OEkg3bm5qD6upkPR6yOXAo0J303iRK\n";

struct RealRegistry {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl RealRegistry {
    /// None, and a word about it, where there is none on this machine.
    fn start(private: bool) -> Option<Self> {
        let unpacked = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../docker-registry/usr/bin/docker-registry");
        let program = [PathBuf::from("/usr/bin/docker-registry"), unpacked].into_iter().find(|path| path.exists());
        let Some(program) = program else {
            eprintln!(
                "SKIPPED: no docker-registry here: `tests/registry/unpack target/docker-registry` gets it from apt"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (config, users) = (folder.path().join("config.yml"), folder.path().join("htpasswd"));
        std::fs::write(&users, HTPASSWD).unwrap();
        let mut settings = json!({"version": 0.1, "storage": {"inmemory": {}}, "http": {"addr": "127.0.0.1:0"}});
        if private {
            settings["auth"] = json!({"htpasswd": {"realm": "private", "path": users}});
        }
        std::fs::write(&config, settings.to_string()).unwrap();
        let mut process = Command::new(program)
            .args(["serve".as_ref(), config.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on")).expect("it listens");
        let address =
            line.split("listening on ").nth(1).unwrap().split(['"', ' ', ',']).next().unwrap().parse().unwrap();
        // Read on, or it would stop when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address, _folder: folder })
    }

    fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let headers = vec![("authorization".to_owned(), basic()), ("content-type".to_owned(), content_type.to_owned())];
        let request = Request { method: method.to_owned(), path: path.to_owned(), headers, body: body.to_vec() };
        let answer = Upstream::new(self.address).forward(&request).await.unwrap();
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer
    }

    async fn push_blob(&self, repository: &str, content: &str) -> Value {
        let begun = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "application/json", b"").await;
        let location = begun.headers.iter().find(|(name, _)| name == "location").unwrap().1.clone();
        let path = location.split_once("://").map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
        let path = format!("{path}&digest={}", digest(content));
        self.send("PUT", &path, "application/octet-stream", content.as_bytes()).await;
        json!({"digest": digest(content), "size": content.len()})
    }

    async fn push(&self, repository: &str, tag: &str, manifest: &Value) -> String {
        let text = manifest.to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.send("PUT", &path, manifest["mediaType"].as_str().unwrap(), text.as_bytes()).await;
        digest(&text)
    }

    /// An image with an index that names it for one platform.
    async fn push_image(&self, repository: &str, tag: &str) -> (String, String) {
        let mut config = self.push_blob(repository, "{\"architecture\":\"amd64\",\"os\":\"linux\"}").await;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let mut layer = self.push_blob(repository, "no real layer").await;
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let image = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let of_image = self.push(repository, tag, &image).await;
        let entry = json!({"mediaType": media_type, "digest": of_image, "size": image.to_string().len(),
            "platform": {"os": "linux", "architecture": "amd64"}});
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
        let of_index = self.push(repository, &format!("{tag}-all"), &index).await;
        (of_image, of_index)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn password() -> String {
    format!("{SECRET_MARKER}-registry")
}

fn basic() -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("ci:{}", password())))
}

async fn world(registry: &RealRegistry, more: &[(&str, &str)]) -> World {
    let host = registry.address.to_string();
    let mut environment = vec![("REGISTRY_ALLOW_HTTP", host.as_str()), ("REGISTRY_ALLOW_PRIVATE", "127.0.0.1")];
    environment.extend(more);
    World::configured(&environment).await
}

#[tokio::test]
async fn tags_become_digests_that_the_service_runs() {
    let Some(registry) = RealRegistry::start(false) else { return };
    let (of_image, of_index) = registry.push_image("team/app", "7").await;
    let world = world(&registry, &[]).await;
    for (tag, digest) in [("7", &of_image), ("7-all", &of_index)] {
        let event = json!({"ecs_image_name": registry.image(&format!("team/app:{tag}")), "resolve_digest": true});
        let outcome = world.update(event).await;
        let pinned = registry.image(&format!("team/app@{digest}"));
        assert_eq!(outcome.body()["AFTER"]["serviceImage"], pinned);
        let running = world.cloud().service(&Site::target())["taskDefinition"].as_str().unwrap().to_owned();
        let revisions = world.cloud().revisions(&Site::target(), "web");
        assert!(running.ends_with(&format!("/web:{}", revisions.len())));
        assert_eq!(revisions.last().unwrap().image("web"), pinned);
    }
    for missing in ["team/app:8", "team/other:7"] {
        let outcome = world.update(json!({"ecs_image_name": registry.image(missing), "check_image": true})).await;
        assert!(outcome.error("ImageNotFound").contains(missing));
    }
}

#[tokio::test]
async fn an_index_is_refused_for_a_platform_that_it_lacks() {
    let Some(registry) = RealRegistry::start(false) else { return };
    registry.push_image("team/app", "7").await;
    let world = world(&registry, &[]).await;
    let image = registry.image("team/app:7-all");
    for (architecture, fits) in [("X86_64", true), ("ARM64", false)] {
        let site =
            Site::new(crate::harness::TARGET, crate::harness::REGION, "ECSCluster", &architecture.to_lowercase());
        let mut definition = crate::harness::web_definition("busybox");
        definition["runtimePlatform"] = json!({"cpuArchitecture": architecture, "operatingSystemFamily": "LINUX"});
        world.seed_definition(&site, &definition.to_string(), json!([]), |_| {});
        let outcome = world.invoke(&site.event(json!({"ecs_image_name": image, "resolve_digest": true}))).await;
        if fits {
            outcome.status("APPLIED");
        } else {
            assert!(outcome.error("ImageNotFound").contains("for linux/amd64 only"));
        }
    }
}

#[tokio::test]
async fn a_private_repository_wants_its_credentials() {
    let Some(registry) = RealRegistry::start(true) else { return };
    let (of_image, _) = registry.push_image("team/app", "7").await;
    let event = json!({"ecs_image_name": registry.image("team/app:7"), "resolve_digest": true});
    let without = world(&registry, &[]).await;
    assert!(without.update(event.clone()).await.error("ImageNotFound").contains("REGISTRY_CREDENTIALS"));

    let secret = |password: String| async move {
        Registry::start(move |_| {
            let secret = json!({"username": "ci", "password": password}).to_string();
            let answer = json!({"ARN": "arn", "Name": "registry", "SecretString": secret});
            crate::harness::http::Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", answer.to_string()))
        })
        .await
    };
    let arn = "arn:aws:secretsmanager:eu-west-1:111111111111:secret:registry-AbCdEf";
    let credentials = json!({registry.address.to_string(): arn}).to_string();
    for (password, fits) in [(password(), true), (format!("{SECRET_MARKER}-wrong"), false)] {
        let secrets = secret(password).await;
        let url = secrets.url();
        let settings = [("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()), ("REGISTRY_CREDENTIALS", &credentials)];
        let world = world(&registry, &settings).await;
        let outcome = world.update(event.clone()).await;
        if fits {
            let pinned = registry.image(&format!("team/app@{of_image}"));
            assert_eq!(outcome.status("APPLIED")["AFTER"]["serviceImage"], pinned);
        } else {
            outcome.error("ImageNotFound");
        }
    }
}
