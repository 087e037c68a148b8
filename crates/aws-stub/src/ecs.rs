//! Amazon ECS: services and task definitions of any account and region, kept as raw JSON.
//!
//! Task definitions stay the text that was sent, so that a test sees what a typed stub would have lost or repaired. By
//! default a deployment keeps the state in which it was started; with [`Cloud::live`] it has a life (`deployments.rs`).

mod definitions;
mod deployments;
mod quota;
mod services;
mod session_policy;
mod tags;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

pub use definitions::{RESPONSE_MEMBERS, Revision};
pub use deployments::{RollbackForm, Started};
pub use quota::quota;
pub use tags::{tag_list, tag_map};

use crate::sts::Session;
use crate::versions::Versions;
use crate::{Clock, Site, seconds, sync};
use quota::Buckets;

/// The refusal of a call: the API's error code and its message.
pub type Refusal = (&'static str, String);

fn refusal<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err((code, message.into()))
}

/// One account and region.
#[derive(Debug, Default)]
struct Place {
    clusters: Vec<String>,
    /// By cluster and name.
    services: BTreeMap<(String, String), Versions<Map<String, Value>>>,
    families: BTreeMap<String, Vec<Revision>>,
    /// By ARN.
    service_deployments: BTreeMap<String, Versions<Value>>,
    /// The members of each service revision, by ARN.
    service_revisions: BTreeMap<String, Value>,
    /// What UpdateService ignores: parameters, and members of parameters after a point.
    overlooked: Vec<String>,
}

#[derive(Default)]
struct State {
    /// By account and region.
    places: BTreeMap<(String, String), Place>,
    /// Regions that an account has not enabled.
    disabled: Vec<(String, String)>,
    /// Lists of a definition are returned in another order than they were registered in.
    reorders: bool,
    deployments: u64,
    /// Makes the numbers of deployments look like those of AWS.
    salt: u64,
    /// Deployments have ended by the time they are first looked at.
    ends_at_once: bool,
    /// Deployments have a life.
    lives: bool,
    /// What was started since this was last taken.
    started: Vec<Started>,
    /// Events for `EventBridge` since they were last taken.
    events: Vec<Value>,
    /// What is left of AWS's quotas, if they are enforced.
    buckets: Option<Buckets>,
    throttled: usize,
}

/// ECS in all accounts and regions.
#[derive(Clone)]
pub struct Cloud {
    state: Arc<Mutex<State>>,
    /// Held while a service changes: calls come from several threads.
    acting: Arc<Mutex<()>>,
    clock: Clock,
}

impl Cloud {
    /// An empty one, with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), acting: Arc::default(), clock }
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    fn place<T>(&self, account: &str, region: &str, f: impl FnOnce(&mut Place) -> T) -> T {
        let mut state = sync(&self.state);
        f(state.places.entry((account.into(), region.into())).or_default())
    }

    /// From now on the account counts as one that has not enabled the region.
    pub fn disable(&self, account: &str, region: &str) {
        sync(&self.state).disabled.push((account.into(), region.into()));
    }

    /// From now on definitions are described with their environment, secrets and tags in another order than they were
    /// registered in, as AWS does at times.
    pub fn reorder(&self) {
        sync(&self.state).reorders = true;
    }

    /// From now on a deployment that is started has succeeded by the time it is first looked at.
    pub fn end_at_once(&self) {
        sync(&self.state).ends_at_once = true;
    }

    /// From now on calls beyond AWS's quotas are throttled.
    pub fn throttle(&self) {
        sync(&self.state).buckets = Some(Buckets::default());
    }

    fn has_room(&self, account: &str, region: &str, action: &str) -> bool {
        let now = self.now();
        let mut state = sync(&self.state);
        let Some(buckets) = &mut state.buckets else { return true };
        let has_room = buckets.take(account, region, action, now);
        state.throttled += usize::from(!has_room);
        has_room
    }

    /// How many calls were throttled.
    #[must_use]
    pub fn throttled(&self) -> usize {
        sync(&self.state).throttled
    }

    /// Registers a task definition with its tags, without a call. Returns its ARN.
    pub fn register(&self, site: &Site, document: &str, tags: Value) -> String {
        let (account, region) = (&site.account, &site.region);
        self.place(account, region, |place| definitions::register(place, account, region, document, tags).0)
    }

    /// All revisions of a family.
    #[must_use]
    pub fn revisions(&self, site: &Site, family: &str) -> Vec<Revision> {
        self.place(&site.account, &site.region, |place| place.families.get(family).cloned().unwrap_or_default())
    }

    /// The revision that `family:revision` or an ARN names.
    #[must_use]
    pub fn revision(&self, site: &Site, name: &str) -> Option<Revision> {
        self.place(&site.account, &site.region, |place| {
            definitions::revision(place, name).map(|(_, revision)| revision.clone())
        })
    }

    /// Makes a revision INACTIVE.
    pub fn deregister(&self, site: &Site, family: &str, number: usize) {
        self.place(&site.account, &site.region, |place| {
            place.families.get_mut(family).expect("the family")[number - 1].active = false;
        });
    }

    /// Creates the cluster, and in it a service as AWS describes one. The test may change the service further in
    /// `edit`.
    pub fn create_service(&self, site: &Site, task_definition: &str, edit: impl FnOnce(&mut Value)) {
        let deployment = self.next_deployment();
        let mut service = services::new_service(site, task_definition, &deployment, self.now());
        edit(&mut service);
        self.place(&site.account, &site.region, |place| {
            if !place.clusters.contains(&site.cluster) {
                place.clusters.push(site.cluster.clone());
            }
        });
        self.write(site, Some(service));
    }

    /// The service, if there is one.
    #[must_use]
    pub fn find(&self, site: &Site) -> Option<Value> {
        let name = (site.cluster.clone(), site.service.clone());
        let found = |place: &mut Place| place.services.get(&name).and_then(Versions::get).cloned();
        self.place(&site.account, &site.region, found).map(Value::Object)
    }

    /// The service.
    #[must_use]
    pub fn service(&self, site: &Site) -> Value {
        self.find(site).expect("the service")
    }

    fn write(&self, site: &Site, service: Option<Value>) {
        let service = service.map(|service| match service {
            Value::Object(service) => service,
            other => panic!("a service is an object, not {other}"),
        });
        let (now, name) = (self.now(), (site.cluster.clone(), site.service.clone()));
        self.place(&site.account, &site.region, |place| place.services.entry(name).or_default().set(now, service));
    }

    /// The tags of the service, by key.
    #[must_use]
    pub fn tags(&self, site: &Site) -> BTreeMap<String, String> {
        tag_map(&self.service(site)["tags"])
    }

    /// The id of the service's PRIMARY deployment.
    #[must_use]
    pub fn deployment(&self, site: &Site) -> String {
        self.service(site)["deployments"][0]["id"].as_str().expect("a deployment").to_owned()
    }

    /// Changes a service as ECS or somebody else would.
    pub fn edit(&self, site: &Site, edit: impl FnOnce(&mut Value)) {
        let mut service = self.service(site);
        edit(&mut service);
        self.write(site, Some(service));
    }

    /// From now on the service runs this revision, which has these members, and DescribeServices names it.
    pub fn run_revision(&self, site: &Site, arn: &str, members: &Value) {
        self.reveal(site, arn, members);
        self.edit(site, |service| service["currentServiceRevisions"] = json!([{"arn": arn}]));
    }

    fn reveal(&self, site: &Site, arn: &str, members: &Value) {
        self.place(&site.account, &site.region, |place| {
            place.service_revisions.insert(arn.to_owned(), members.clone());
        });
    }

    /// From now on UpdateService accepts this parameter, or this member of a parameter after a point, and ignores it.
    pub fn overlook(&self, site: &Site, name: &str) {
        self.place(&site.account, &site.region, |place| place.overlooked.push(name.to_owned()));
    }

    /// The PRIMARY deployment reaches the state `rollout`.
    pub fn roll_out(&self, site: &Site, rollout: &str) {
        self.edit(site, |service| {
            service["deployments"][0]["rolloutState"] = rollout.into();
            if rollout == "COMPLETED" {
                service["deployments"].as_array_mut().expect("deployments").truncate(1);
            }
        });
    }

    /// The service says this now, and this many tasks of its PRIMARY deployment have failed.
    pub fn complain(&self, site: &Site, failed_tasks: u64, what: &str) {
        let now = seconds(self.now());
        self.edit(site, |service| {
            service["deployments"][0]["failedTasks"] = failed_tasks.into();
            deployments::say(service, what, now);
        });
    }

    /// Another deployment takes over, as if somebody else's UpdateService had started it. Returns its id.
    pub fn take_over(&self, site: &Site, rollout: &str, reason: &str) -> String {
        let id = self.next_deployment();
        let now = self.now();
        self.edit(site, |service| {
            let definition = service["taskDefinition"].as_str().unwrap_or_default();
            let mut new = services::new_deployment(&id, definition, &Value::Null, now);
            new["rolloutState"] = rollout.into();
            new["rolloutStateReason"] = reason.into();
            services::put_first(service, new);
        });
        id
    }

    /// From now on ECS reports this of a deployment's service deployment, which has the same number as the deployment.
    pub fn tell(&self, site: &Site, deployment_id: &str, status: &str, more: &Value) {
        let number = deployment_id.rsplit('/').next().expect("a number");
        let own = site.arn("service-deployment", Some(&format!("sd{number}")));
        let mut told = json!({
            "serviceDeploymentArn": own, "serviceArn": site.service_arn(), "status": status, "createdAt": seconds(self.now()),
            "targetServiceRevision": {"arn": site.arn("service-revision", Some(number)), "requestedTaskCount": 2},
        });
        told.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let service = self.service(site);
        let mut deployments = service["deployments"].as_array().into_iter().flatten();
        if let Some(deployment) = deployments.find(|deployment| deployment["id"] == deployment_id) {
            self.write_service_revision(site, &told, &deployment["taskDefinition"]);
        }
        self.write_service_deployment(site, told);
    }

    fn write_service_deployment(&self, site: &Site, told: Value) {
        let now = self.now();
        let arn = told["serviceDeploymentArn"].as_str().expect("an ARN").to_owned();
        self.place(&site.account, &site.region, |place| {
            place.service_deployments.entry(arn).or_default().set(now, Some(told));
        });
    }

    /// Records that the service revision of a service deployment has this task definition, and the digests to which ECS resolved its
    /// images. Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceRevision.html>.
    fn write_service_revision(&self, site: &Site, told: &Value, task_definition: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let arn = text(&told["targetServiceRevision"]["arn"]);
        let document = self.revision(site, &text(task_definition)).map(|revision| revision.json()).unwrap_or_default();
        let containers = document["containerDefinitions"].as_array().into_iter().flatten();
        let images = containers.map(|container| {
            let image = text(&container["image"]);
            json!({"containerName": container["name"], "image": image, "imageDigest": digest_of(&image)})
        });
        let images: Vec<Value> = images.collect();
        self.reveal(site, &arn, &json!({"taskDefinition": task_definition, "containerImages": images}));
    }

    /// From now on the numbers of deployments are spread over the whole range, like those of AWS.
    pub fn salt(&self, salt: u64) {
        sync(&self.state).salt = salt;
    }

    fn next_number(&self) -> u64 {
        let mut state = sync(&self.state);
        state.deployments += 1;
        let spread = state.deployments.wrapping_mul(state.salt | 1) % 9_000_000_000_000_000_000;
        1_000_000_000_000_000_000 + spread
    }

    fn next_deployment(&self) -> String {
        format!("ecs-svc/{}", self.next_number())
    }

    /// Answers a call.
    ///
    /// # Errors
    ///
    /// The reason for which ECS would refuse it.
    pub fn act(&self, session: Option<&Session>, region: &str, action: &str, body: &str) -> Result<String, Refusal> {
        self.act_late(session, region, action, body, Duration::ZERO)
    }

    /// Answers a call whose reads lag behind by `lag`. That concerns reads of services and their deployments, which are
    /// eventually consistent.
    ///
    /// # Errors
    ///
    /// The reason for which ECS would refuse it.
    pub fn act_late(
        &self,
        session: Option<&Session>,
        region: &str,
        action: &str,
        body: &str,
        lag: Duration,
    ) -> Result<String, Refusal> {
        let invalid = "The security token included in the request is invalid.";
        let Some(session) = session else { return refusal("UnrecognizedClientException", invalid) };
        let account = session.account.as_str();
        if sync(&self.state).disabled.iter().any(|(a, r)| a == account && r == region) {
            return refusal("UnrecognizedClientException", invalid);
        }
        if !self.has_room(account, region, action) {
            return refusal("ThrottlingException", "Rate exceeded");
        }
        let input: Value = serde_json::from_str(body).map_err(|e| ("SerializationException", e.to_string()))?;
        session_policy::authorize(session, region, action, &input)?;
        let reorders = sync(&self.state).reorders;
        let as_of = self.now() - lag;
        self.place(account, region, |place| match action {
            "DescribeServices" => services::describe(place, account, region, &input, as_of).map(|v| v.to_string()),
            "ListServiceDeployments" => deployments::list(place, account, region, &input, as_of).map(|v| v.to_string()),
            "DescribeServiceDeployments" => Ok(deployments::describe(place, &input, as_of).to_string()),
            "DescribeServiceRevisions" => Ok(deployments::revisions(place, &input).to_string()),
            "DescribeTaskDefinition" if reorders => {
                definitions::describe_task_definition(place, account, region, &input)
                    .map(|text| definitions::reordered(&text))
            }
            "DescribeTaskDefinition" => definitions::describe_task_definition(place, account, region, &input),
            "RegisterTaskDefinition" => definitions::register_task_definition(place, account, region, body),
            _ => Ok(String::new()),
        })
        .and_then(|answer| if answer.is_empty() { self.mutate(session, region, action, &input) } else { Ok(answer) })
    }

    /// Answers a call that changes a service.
    fn mutate(&self, session: &Session, region: &str, action: &str, input: &Value) -> Result<String, Refusal> {
        let account = session.account.as_str();
        let _one_at_a_time = sync(&self.acting);
        match action {
            "UpdateService" => {
                let (cluster, service) = (short(&input["cluster"]), short(&input["service"]));
                let site = Site::new(account, region, &cluster, &service);
                self.update_service(&site, session, input).map(|answer| answer.to_string())
            }
            "TagResource" | "UntagResource" => {
                let arn = input["resourceArn"].as_str().unwrap_or_default();
                tags::check_long_arn(arn)?;
                let site = arn.split_once(":service/").and_then(|(_, names)| names.split_once('/'));
                let site = site.map(|(cluster, service)| Site::new(account, region, cluster, service));
                let found =
                    site.as_ref().and_then(|site| self.find(site)).filter(|service| service["serviceArn"] == arn);
                let (Some(site), Some(Value::Object(mut service))) = (site, found) else {
                    return refusal(
                        "InvalidParameterException",
                        format!("The specified service does not exist: {arn}"),
                    );
                };
                let change = if action == "TagResource" { tags::tag_resource } else { tags::untag_resource };
                change(&mut service, input)?;
                self.write(&site, Some(service.into()));
                Ok("{}".to_owned())
            }
            "StopServiceDeployment" | "ContinueServiceDeployment" => {
                self.act_on_deployment(account, region, action, input).map(|answer| answer.to_string())
            }
            other => refusal("UnknownOperationException", format!("{other} is not known here")),
        }
    }

    fn update_service(&self, site: &Site, session: &Session, input: &Value) -> Result<Value, Refusal> {
        let id = self.next_deployment();
        let now = self.now();
        let (mut service, deploys) = self.place(&site.account, &site.region, |place| {
            services::update_service(place, &site.account, &site.region, input, &id, now)
        })?;
        self.write(site, Some(service.clone().into()));
        let (lives, ends_at_once) = {
            let state = sync(&self.state);
            (state.lives, state.ends_at_once)
        };
        if deploys && lives {
            self.begin(site, &id, &session.name);
            service = services::object(self.service(site));
        } else if deploys && ends_at_once {
            self.tell(site, &id, "SUCCESSFUL", &json!({}));
        }
        service.remove("tags");
        Ok(json!({"service": service}))
    }
}

/// The digest that an image has here: the one that it names, otherwise one that is always the same.
#[must_use]
pub fn digest_of(image: &str) -> String {
    if let Some((_, digest)) = image.split_once('@') {
        return digest.to_owned();
    }
    let hash = image
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("sha256:{}", format!("{hash:016x}").repeat(4))
}

fn short(name_or_arn: &Value) -> String {
    name_or_arn.as_str().unwrap_or("default").rsplit('/').next().unwrap_or_default().to_owned()
}

fn in_cluster(place: &Place, input: &Value) -> Result<String, Refusal> {
    let cluster = short(&input["cluster"]);
    if place.clusters.contains(&cluster) {
        Ok(cluster)
    } else {
        refusal("ClusterNotFoundException", "Cluster not found.")
    }
}

fn includes_tags(input: &Value) -> bool {
    input["include"].as_array().is_some_and(|i| i.contains(&json!("TAGS")))
}
