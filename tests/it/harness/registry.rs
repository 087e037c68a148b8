//! Registries, Amazon ECR and Secrets Manager, each of which answers as a test scripts it and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::text::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::{Answer, Reply, Request, Server, handler};
use super::sync;

/// A manifest of one image.
pub(crate) fn manifest(content: &str) -> String {
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": content}, "layers": []})
    .to_string()
}

/// An index of images for these platforms.
pub(crate) fn index(platforms: &[(&str, &str)]) -> String {
    let manifests: Vec<Value> = platforms
        .iter()
        .map(|(os, architecture)| json!({"platform": {"os": os, "architecture": architecture}}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests})
        .to_string()
}

pub(crate) fn digest(content: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

/// The answer of a registry that has `content`.
pub(crate) fn has(content: &str) -> Reply {
    Reply::Answer(Answer::new(200, "application/json", content).header("docker-content-digest", digest(content)))
}

pub(crate) fn status(status: u16) -> Answer {
    Answer::new(status, "application/json", "{\"errors\":[]}")
}

/// A server that answers by its script.
#[derive(Clone)]
pub(crate) struct Registry {
    server: Arc<Server>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Registry {
    pub(crate) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (heard, script) = (Arc::clone(&requests), Arc::new(script));
        let server = Server::start(handler(move |request: Request| {
            let reply = script(&request);
            sync(&heard).push(request);
            async move { reply }
        }))
        .await;
        Self { server: Arc::new(server), requests }
    }

    /// One that has these: path behind `/v2/` to manifest. They may change.
    pub(crate) async fn with(contents: Contents) -> Self {
        Self::start(move |request| {
            let path = request.path.trim_start_matches("/v2/").to_owned();
            sync(&contents).get(&path).map_or_else(|| Reply::Answer(status(404)), |content| has(content))
        })
        .await
    }

    /// `127.0.0.1:port`.
    pub(crate) fn host(&self) -> String {
        self.server.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        sync(&self.requests).clone()
    }

    /// Method of each request.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.method.clone()).collect()
    }

    /// Path and `Authorization` of each request.
    pub(crate) fn heard(&self) -> Vec<(String, Option<String>)> {
        self.requests()
            .iter()
            .map(|request| (request.path.clone(), request.header("authorization").map(str::to_owned)))
            .collect()
    }
}

pub(crate) type Contents = Arc<Mutex<BTreeMap<String, String>>>;

pub(crate) fn contents<const N: usize>(contents: [(&str, &str); N]) -> Contents {
    Arc::new(Mutex::new(contents.map(|(path, content)| (path.to_owned(), content.to_owned())).into()))
}
