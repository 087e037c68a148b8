//! Amazon ECS on loopback: services and task definitions of any account and region, kept as raw JSON.
//!
//! Task definitions stay the text that was sent, so that a test sees what a typed stub would have lost or mended.
//! It refuses what AWS refuses, where a test of the updater depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::dynamodb::Tables;
use super::exact_json::{object_text, raw_members};
use super::http::{Answer, Reply, Request, Server, handler};
use super::journal::{Call, Journal, Service, request_id};
use super::ledger;
use super::policy::{self, Question};
use super::sts::{Session, Sessions};
use super::{SESSION_SECRET, SESSION_TOKEN, Site, sigv4, sync};

const MAX_TAGS: usize = 50;

/// Members that only the answers about task definitions have.
pub const RESPONSE_MEMBERS: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

#[derive(Debug, Clone)]
pub struct Revision {
    pub number: usize,
    /// What was registered, as text, without `tags`.
    pub document: String,
    pub tags: Value,
    pub active: bool,
}

impl Revision {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.document).expect("a task definition is JSON")
    }

    pub fn image(&self, container: &str) -> String {
        let document = self.json();
        let containers = document["containerDefinitions"].as_array().expect("containers");
        let found = containers.iter().find(|c| c["name"] == container).expect("the container");
        found["image"].as_str().expect("an image").to_owned()
    }
}

#[derive(Debug, Clone, Default)]
struct Place {
    clusters: Vec<String>,
    /// By cluster and name.
    services: BTreeMap<(String, String), Map<String, Value>>,
    families: BTreeMap<String, Vec<Revision>>,
    /// By ARN.
    service_deployments: BTreeMap<String, Value>,
}

#[derive(Default)]
struct State {
    /// By account and region.
    places: BTreeMap<(String, String), Place>,
    /// Regions an account has not enabled.
    disabled: Vec<(String, String)>,
    /// Lists of a definition come back in another order than they were registered in.
    reorders: bool,
    deployments: usize,
    /// Deployments have ended when they are first looked at.
    ends_at_once: bool,
    /// Where AWS's quotas are kept: what is left of them, by account, region and action.
    buckets: Option<BTreeMap<(String, String, String), Bucket>>,
    throttled: usize,
}

/// What is left of a quota, and when that was.
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// How many calls of `action` ECS takes at once in an account and region, and how many a second after that.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>.
pub fn quota(action: &str) -> (f64, f64) {
    match action {
        "RegisterTaskDefinition" => (20.0, 1.0),
        "UpdateService" => (50.0, 5.0),
        "TagResource" | "UntagResource" => (20.0, 10.0),
        _ => (50.0, 20.0),
    }
}

#[derive(Clone)]
pub struct Cloud {
    state: Arc<Mutex<State>>,
}

impl Cloud {
    fn place<T>(&self, account: &str, region: &str, f: impl FnOnce(&mut Place) -> T) -> T {
        let mut state = sync(&self.state);
        f(state.places.entry((account.into(), region.into())).or_default())
    }

    pub fn disable(&self, account: &str, region: &str) {
        sync(&self.state).disabled.push((account.into(), region.into()));
    }

    /// From now on definitions are described with their environment, secrets and tags in another order than they were
    /// registered in, as AWS does at times.
    pub fn reorder(&self) {
        sync(&self.state).reorders = true;
    }

    /// From now on a deployment that is started has succeeded by the time anybody looks at it.
    pub fn end_at_once(&self) {
        sync(&self.state).ends_at_once = true;
    }

    /// From now on calls beyond AWS's quotas are throttled.
    pub fn throttle(&self) {
        sync(&self.state).buckets = Some(BTreeMap::new());
    }

    fn has_room(&self, account: &str, region: &str, action: &str) -> bool {
        let mut state = sync(&self.state);
        let Some(buckets) = &mut state.buckets else { return true };
        let (burst, per_second) = quota(action);
        // Both kinds of tag calls share one.
        let action = action.replace("Untag", "Tag");
        let now = Instant::now();
        let bucket =
            buckets.entry((account.into(), region.into(), action)).or_insert(Bucket { tokens: burst, at: now });
        bucket.tokens = (bucket.tokens + per_second * (now - bucket.at).as_secs_f64()).min(burst);
        bucket.at = now;
        let has_room = bucket.tokens >= 1.0;
        bucket.tokens -= f64::from(u8::from(has_room));
        state.throttled += usize::from(!has_room);
        has_room
    }

    /// How many calls were throttled.
    pub fn throttled(&self) -> usize {
        sync(&self.state).throttled
    }

    /// Registers a task definition, with its tags, outside of any call. Gives its ARN.
    pub fn register(&self, site: &Site, document: &str, tags: Value) -> String {
        let account = site.account.clone();
        self.place(&account, &site.region, |place| register(place, &site.account, &site.region, document, tags).0)
    }

    pub fn revisions(&self, site: &Site, family: &str) -> Vec<Revision> {
        self.place(&site.account, &site.region, |place| place.families.get(family).cloned().unwrap_or_default())
    }

    pub fn deregister(&self, site: &Site, family: &str, number: usize) {
        self.place(&site.account, &site.region, |place| {
            place.families.get_mut(family).expect("the family")[number - 1].active = false;
        });
    }

    /// Creates the cluster, and in it a service as AWS describes one, for the test to change further.
    pub fn create_service(&self, site: &Site, task_definition: &str, edit: impl FnOnce(&mut Value)) {
        let deployment = self.next_deployment();
        let mut service = new_service(site, task_definition, &deployment);
        edit(&mut service);
        let Value::Object(service) = service else { panic!("a service is an object") };
        self.place(&site.account, &site.region, |place| {
            if !place.clusters.contains(&site.cluster) {
                place.clusters.push(site.cluster.clone());
            }
            place.services.insert((site.cluster.clone(), site.service.clone()), service);
        });
    }

    pub fn service(&self, site: &Site) -> Value {
        self.place(&site.account, &site.region, |place| {
            Value::Object(
                place.services.get(&(site.cluster.clone(), site.service.clone())).cloned().expect("the service"),
            )
        })
    }

    /// Tags of the service, by key.
    pub fn tags(&self, site: &Site) -> BTreeMap<String, String> {
        tag_map(&self.service(site)["tags"])
    }

    /// Id of the service's PRIMARY deployment.
    pub fn deployment(&self, site: &Site) -> String {
        self.service(site)["deployments"][0]["id"].as_str().expect("a deployment").to_owned()
    }

    /// Changes a service as ECS, or somebody else, does.
    pub fn edit(&self, site: &Site, edit: impl FnOnce(&mut Value)) {
        let mut service = self.service(site);
        edit(&mut service);
        let Value::Object(service) = service else { panic!("a service is an object") };
        let name = (site.cluster.clone(), site.service.clone());
        self.place(&site.account, &site.region, |place| place.services.insert(name, service));
    }

    /// The PRIMARY deployment comes to `rollout`.
    pub fn roll_out(&self, site: &Site, rollout: &str) {
        self.edit(site, |service| {
            service["deployments"][0]["rolloutState"] = rollout.into();
            if rollout == "COMPLETED" {
                service["deployments"].as_array_mut().expect("deployments").truncate(1);
            }
        });
    }

    /// Another deployment takes over, as somebody else's UpdateService starts one. Gives its id.
    pub fn take_over(&self, site: &Site, rollout: &str, reason: &str) -> String {
        let id = self.next_deployment();
        self.edit(site, |service| {
            let mut new = new_deployment(&id, service["taskDefinition"].as_str().unwrap_or_default(), &Value::Null);
            new["rolloutState"] = rollout.into();
            new["rolloutStateReason"] = reason.into();
            let deployments = service["deployments"].as_array_mut().expect("deployments");
            for deployment in deployments.iter_mut() {
                deployment["status"] = "ACTIVE".into();
            }
            deployments.insert(0, new);
        });
        id
    }

    /// From now on ECS tells this of a deployment's service deployment, whose number is that of the deployment.
    pub fn tell(&self, site: &Site, deployment_id: &str, status: &str, more: &Value) {
        let number = deployment_id.rsplit('/').next().expect("a number");
        let arn = |kind: &str, last: &str| {
            format!("arn:aws:ecs:{}:{}:{kind}/{}/{}/{last}", site.region, site.account, site.cluster, site.service)
        };
        let own = arn("service-deployment", &format!("sd{number}"));
        let mut told = json!({
            "serviceDeploymentArn": own, "serviceArn": site.service_arn(), "status": status, "createdAt": now(),
            "targetServiceRevision": {"arn": arn("service-revision", number), "requestedTaskCount": 2},
        });
        told.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.place(&site.account, &site.region, |place| place.service_deployments.insert(own, told));
    }

    fn next_deployment(&self) -> String {
        let mut state = sync(&self.state);
        state.deployments += 1;
        format!("ecs-svc/{:019}", 1_000_000_000_000_000_000_usize + state.deployments)
    }
}

/// Seconds since 1970 with milliseconds, as the API writes times.
pub fn now() -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let millis = chrono::Utc::now().timestamp_millis() as f64;
    millis / 1000.0
}

pub fn tag_list<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    tags.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn tag_map(tags: &Value) -> BTreeMap<String, String> {
    let text = |tag: &Value, name: &str| tag[name].as_str().unwrap_or_default().to_owned();
    tags.as_array().into_iter().flatten().map(|tag| (text(tag, "key"), text(tag, "value"))).collect()
}

/// A service like those DescribeServices shows.
fn new_service(site: &Site, task_definition: &str, deployment: &str) -> Value {
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}});
    json!({
        "serviceArn": site.service_arn(),
        "serviceName": site.service,
        "clusterArn": format!("arn:aws:ecs:{}:{}:cluster/{}", site.region, site.account, site.cluster),
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": "ACTIVE",
        "desiredCount": 2,
        "runningCount": 2,
        "pendingCount": 0,
        "launchType": "FARGATE",
        "platformVersion": "LATEST",
        "platformFamily": "Linux",
        "taskDefinition": task_definition,
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            "maximumPercent": 200, "minimumHealthyPercent": 100,
            "strategy": "ROLLING", "bakeTimeInMinutes": 0,
        },
        "deployments": [new_deployment(deployment, task_definition, &network)],
        "roleArn": format!("arn:aws:iam::{}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS", site.account),
        "events": [{"id": "e-1", "createdAt": 1_763_700_000.123, "message": "(service x) has reached a steady state."}],
        "createdAt": 1_763_600_000.5,
        "placementConstraints": [],
        "placementStrategy": [],
        "networkConfiguration": network,
        "healthCheckGracePeriodSeconds": 0,
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "createdBy": format!("arn:aws:iam::{}:role/admin", site.account),
        "enableECSManagedTags": false,
        "propagateTags": "NONE",
        "enableExecuteCommand": false,
        "availabilityZoneRebalancing": "ENABLED",
        "tags": [],
    })
}

fn new_deployment(id: &str, task_definition: &str, network: &Value) -> Value {
    json!({
        "id": id, "status": "PRIMARY", "taskDefinition": task_definition,
        "desiredCount": 2, "pendingCount": 0, "runningCount": 2, "failedTasks": 0,
        "createdAt": now(), "updatedAt": now(),
        "launchType": "FARGATE", "platformVersion": "1.4.0", "platformFamily": "Linux",
        "networkConfiguration": network,
        "rolloutState": "COMPLETED", "rolloutStateReason": format!("ECS deployment {id} completed."),
    })
}

pub struct Ecs {
    pub server: Server,
    pub cloud: Cloud,
}

impl Ecs {
    pub async fn start(journal: Journal, sessions: Sessions, tables: Tables) -> Self {
        let cloud = Cloud { state: Arc::default() };
        let shared = cloud.clone();
        let server = Server::start(handler(move |request| {
            let (journal, sessions, cloud, tables) =
                (journal.clone(), sessions.clone(), shared.clone(), tables.clone());
            async move { answer(&journal, &sessions, &cloud, &tables, request).await }
        }))
        .await;
        Self { server, cloud }
    }
}

/// Why a call is refused: the API's error code, and its message.
type Refusal = (&'static str, String);

fn refusal<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err((code, message.into()))
}

async fn answer(journal: &Journal, sessions: &Sessions, cloud: &Cloud, tables: &Tables, request: Request) -> Reply {
    let (key, region) = sigv4::signer(&request).unwrap_or_default();
    let session = sessions.of(&key);
    if session.is_some() && !journal.trusts() {
        let fault = sigv4::fault(&request, SESSION_SECRET).or_else(|| {
            let token = request.header("x-amz-security-token");
            (token != Some(SESSION_TOKEN)).then(|| "the session token is missing".into())
        });
        if let Some(fault) = fault {
            journal.violation(format!("ECS: {fault}"));
        }
    }
    let id = request_id();
    let target = request.header("x-amz-target").unwrap_or_default();
    let action = target.strip_prefix("AmazonEC2ContainerServiceV20141113.").unwrap_or("").to_owned();
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let call = Call {
        at: Instant::now(),
        answered: None,
        service: Service::Ecs,
        action: action.clone(),
        account: session.as_ref().map_or_else(|| format!("unknown key {key}"), |s| s.account.clone()),
        region: region.clone(),
        session: session.as_ref().map(|s| s.name.clone()).unwrap_or_default(),
        body: body.clone(),
        request_id: id.clone(),
    };
    if call.mutates_ecs() && !journal.trusts() {
        check_started_first(journal, tables, &call);
    }
    let refuse = |status: u16, code: &str, message: &str| {
        let body = json!({"__type": code, "message": message}).to_string();
        Answer::new(status, "application/x-amz-json-1.1", body).header("x-amzn-requestid", id.clone())
    };
    journal
        .serve(
            call,
            || async {
                match act(cloud, session.as_deref(), &region, &action, &body) {
                    Ok(text) => {
                        Answer::new(200, "application/x-amz-json-1.1", text).header("x-amzn-requestid", id.clone())
                    }
                    Err((code, message)) => refuse(400, code, &message),
                }
            },
            refuse,
        )
        .await
}

/// Nothing is changed in a target account before STARTED is in the table: looked up at the moment a mutating call
/// arrives, in every test. A call about a service needs that service's lease; a registration that of one in its account.
fn check_started_first(journal: &Journal, tables: &Tables, call: &Call) {
    let place = format!("{}/{}/", call.account, call.region);
    let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let service = match (input["service"].as_str(), input["resourceArn"].as_str()) {
        (Some(service), _) => Some(format!("{place}{}/{service}", input["cluster"].as_str().unwrap_or_default())),
        (_, Some(arn)) => arn.split_once(":service/").map(|(_, service)| format!("{place}{service}")),
        _ => None,
    };
    let mut open = match service {
        Some(service) => {
            let head = ledger::head(tables, &service);
            Vec::from_iter(head.and_then(|head| Some((service, head["lease_change"].as_str()?.to_owned()))))
        }
        None => tables.leased(),
    };
    open.retain(|(service, _)| service.starts_with(&place));
    let is_open = |(service, change): (String, String)| {
        let record = |n: u8| {
            let key = json!({"service": {"S": service}, "record": {"S": format!("{change}#{n}")}});
            tables.get(super::dynamodb::HISTORY_TABLE, &key)
        };
        record(0).is_some() && record(1).is_none()
    };
    if !open.into_iter().any(is_open) {
        journal.violation(format!(
            "{} was sent while no STARTED record was open with its lease: {}",
            call.action, call.body
        ));
    }
}

fn act(cloud: &Cloud, session: Option<&Session>, region: &str, action: &str, body: &str) -> Result<String, Refusal> {
    let invalid = "The security token included in the request is invalid.";
    let Some(session) = session else { return refusal("UnrecognizedClientException", invalid) };
    let account = session.account.as_str();
    if sync(&cloud.state).disabled.iter().any(|(a, r)| a == account && r == region) {
        return refusal("UnrecognizedClientException", invalid);
    }
    if !cloud.has_room(account, region, action) {
        return refusal("ThrottlingException", "Rate exceeded");
    }
    let input: Value = serde_json::from_str(body).map_err(|e| ("SerializationException", e.to_string()))?;
    authorize(session, region, action, &input)?;
    let id = cloud.next_deployment();
    let (reorders, ends_at_once) = {
        let state = sync(&cloud.state);
        (state.reorders, state.ends_at_once)
    };
    let answer = cloud.place(account, region, |place| match action {
        "DescribeServices" => describe_services(place, account, region, &input).map(|v| v.to_string()),
        "ListServiceDeployments" => list_service_deployments(place, account, region, &input).map(|v| v.to_string()),
        "DescribeServiceDeployments" => {
            let asked = input["serviceDeploymentArns"].as_array().cloned().unwrap_or_default();
            let found: Vec<_> = asked.iter().filter_map(|arn| place.service_deployments.get(arn.as_str()?)).collect();
            Ok(json!({"serviceDeployments": found, "failures": []}).to_string())
        }
        "DescribeTaskDefinition" if reorders => {
            describe_task_definition(place, account, region, &input).map(|text| reordered(&text))
        }
        "DescribeTaskDefinition" => describe_task_definition(place, account, region, &input),
        "RegisterTaskDefinition" => register_task_definition(place, account, region, body),
        "UpdateService" => update_service(place, account, region, &input, &id).map(|v| v.to_string()),
        "TagResource" => tag_resource(place, &input).map(|()| "{}".into()),
        "UntagResource" => untag_resource(place, &input).map(|()| "{}".into()),
        other => refusal("UnknownOperationException", format!("{other} is not known here")),
    });
    if action == "UpdateService" && ends_at_once && answer.is_ok() {
        let site = Site::new(account, region, &short(&input["cluster"]), &short(&input["service"]));
        if cloud.deployment(&site) == id {
            cloud.tell(&site, &id, "SUCCESSFUL", &json!({}));
        }
    }
    answer
}

/// What the inline session policy leaves of the role's rights.
fn authorize(session: &Session, region: &str, action: &str, input: &Value) -> Result<(), Refusal> {
    let Some(policy) = &session.policy else { return Ok(()) };
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let cluster = text("cluster").rsplit('/').next().unwrap_or_default();
    let service_arn = |name: &str| {
        if name.starts_with("arn:") {
            name.to_owned()
        } else {
            format!("arn:aws:ecs:{region}:{}:service/{cluster}/{name}", session.account)
        }
    };
    let cluster_arn = format!("arn:aws:ecs:{region}:{}:cluster/{cluster}", session.account);
    let mut questions = Vec::new();
    let name = format!("ecs:{action}");
    match action {
        "DescribeServices" => {
            for service in input["services"].as_array().into_iter().flatten() {
                let resource = service_arn(service.as_str().unwrap_or_default());
                questions.push((name.clone(), resource, vec![("ecs:cluster", cluster_arn.clone())]));
            }
        }
        "UpdateService" => questions.push((name, service_arn(text("service")), vec![("ecs:cluster", cluster_arn)])),
        "TagResource" | "UntagResource" => questions.push((name, text("resourceArn").to_owned(), vec![])),
        "RegisterTaskDefinition" => {
            let family = format!("arn:aws:ecs:{region}:{}:task-definition/{}:*", session.account, text("family"));
            if input["tags"].as_array().is_some_and(|t| !t.is_empty()) {
                let created = vec![("ecs:createaction", "RegisterTaskDefinition".to_owned())];
                questions.push(("ecs:TagResource".into(), family.clone(), created));
            }
            questions.push((name, family, vec![]));
            for role in ["taskRoleArn", "executionRoleArn"].map(&text).into_iter().filter(|r| r.starts_with("arn:")) {
                let passed = vec![("iam:passedtoservice", "ecs-tasks.amazonaws.com".to_owned())];
                questions.push(("iam:PassRole".into(), role.to_owned(), passed));
            }
        }
        _ => questions.push((name, "*".into(), vec![])),
    }
    for (action, resource, context) in questions {
        if !policy::allows(policy, &Question { action: &action, resource: &resource, context }) {
            let who = format!("arn:aws:sts::{}:assumed-role/ecs-updater-target/{}", session.account, session.name);
            return refusal(
                "AccessDeniedException",
                format!(
                    "User: {who} is not authorized to perform: {action} on resource: {resource} because no session policy allows the {action} action"
                ),
            );
        }
    }
    Ok(())
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

fn describe_services(place: &Place, account: &str, region: &str, input: &Value) -> Result<Value, Refusal> {
    let cluster = in_cluster(place, input)?;
    let asked = input["services"].as_array().cloned().unwrap_or_default();
    if asked.is_empty() || asked.len() > 10 {
        return refusal("InvalidParameterException", "Services must have between 1 and 10 members.");
    }
    let with_tags = includes_tags(input);
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for name in asked {
        let name = short(&name);
        match place.services.get(&(cluster.clone(), name.clone())) {
            Some(service) => {
                let mut service = service.clone();
                if !with_tags {
                    service.remove("tags");
                }
                services.push(Value::Object(service));
            }
            None => failures.push(
                json!({"arn": format!("arn:aws:ecs:{region}:{account}:service/{cluster}/{name}"), "reason": "MISSING"}),
            ),
        }
    }
    Ok(json!({"services": services, "failures": failures}))
}

fn list_service_deployments(place: &Place, account: &str, region: &str, input: &Value) -> Result<Value, Refusal> {
    let cluster = in_cluster(place, input)?;
    let service = short(&input["service"]);
    if !place.services.contains_key(&(cluster.clone(), service.clone())) {
        return refusal("ServiceNotFoundException", "Service not found.");
    }
    let arn = format!("arn:aws:ecs:{region}:{account}:service/{cluster}/{service}");
    let between = ["after", "before"].map(|name| input["createdAt"][name].as_f64());
    let [Some(after), Some(before)] = between else {
        return refusal("InvalidParameterException", "this stub wants createdAt");
    };
    let is_listed = |it: &&Value| {
        let created = it["createdAt"].as_f64().unwrap_or_default();
        it["serviceArn"] == arn.as_str() && (after..=before).contains(&created)
    };
    let listed = place.service_deployments.values().filter(is_listed).map(|it| {
        json!({"serviceDeploymentArn": it["serviceDeploymentArn"], "serviceArn": arn, "status": it["status"],
               "createdAt": it["createdAt"], "targetServiceRevisionArn": it["targetServiceRevision"]["arn"]})
    });
    Ok(json!({"serviceDeployments": listed.collect::<Vec<_>>()}))
}

fn includes_tags(input: &Value) -> bool {
    input["include"].as_array().is_some_and(|i| i.contains(&json!("TAGS")))
}

/// The revision that an ARN, `family:revision` or a family (its newest active one) names.
fn revision<'a>(place: &'a Place, name: &str) -> Option<(&'a str, &'a Revision)> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let (family, number) = name.split_once(':').map_or((name, None), |(f, n)| (f, n.parse::<usize>().ok()));
    let (family, revisions) = place.families.get_key_value(family)?;
    let found = match number {
        Some(number) => revisions.iter().find(|r| r.number == number),
        None if name.contains(':') => None,
        None => revisions.iter().rev().find(|r| r.active),
    };
    found.map(|revision| (family.as_str(), revision))
}

fn revision_arn(account: &str, region: &str, family: &str, number: usize) -> String {
    format!("arn:aws:ecs:{region}:{account}:task-definition/{family}:{number}")
}

/// The document with the members that answers have besides.
fn described(account: &str, region: &str, family: &str, revision: &Revision) -> String {
    let arn = Value::from(revision_arn(account, region, family, revision.number)).to_string();
    let registered_by = Value::from(format!("arn:aws:iam::{account}:role/admin")).to_string();
    let number = revision.number.to_string();
    let members = raw_members(&revision.document);
    let mut all: Vec<(&str, &str)> = members.iter().map(|(n, v)| (n.as_str(), v.get())).collect();
    all.extend([
        ("taskDefinitionArn", arn.as_str()),
        ("revision", &number),
        ("status", if revision.active { r#""ACTIVE""# } else { r#""INACTIVE""# }),
        ("requiresAttributes", r#"[{"name":"com.amazonaws.ecs.capability.docker-remote-api.1.18"},{"name":"ecs.capability.task-eni","value":"","targetType":"container-instance","targetId":""}]"#),
        ("compatibilities", r#"["EC2","FARGATE"]"#),
        ("registeredAt", "1.763700000123E9"),
        ("registeredBy", &registered_by),
    ]);
    if !revision.active {
        all.push(("deregisteredAt", "1763700999.5"));
        all.push(("deleteRequestedAt", "1763701999"));
    }
    object_text(all)
}

fn describe_task_definition(place: &Place, account: &str, region: &str, input: &Value) -> Result<String, Refusal> {
    let name = input["taskDefinition"].as_str().unwrap_or_default();
    let Some((family, revision)) = revision(place, name) else {
        return refusal("ClientException", "Unable to describe task definition.");
    };
    let document = described(account, region, family, revision);
    // Without include TAGS the member is there and empty.
    let tags = if includes_tags(input) { revision.tags.to_string() } else { "[]".into() };
    Ok(object_text([("taskDefinition", document.as_str()), ("tags", &tags)]))
}

fn reordered(answer: &str) -> String {
    let mut answer: Value = serde_json::from_str(answer).expect("JSON");
    let reverse = |list: &mut Value| {
        if let Some(list) = list.as_array_mut() {
            list.reverse();
        }
    };
    reverse(&mut answer["tags"]);
    for container in answer["taskDefinition"]["containerDefinitions"].as_array_mut().into_iter().flatten() {
        for name in ["environment", "secrets"] {
            if let Some(list) = container.get_mut(name) {
                reverse(list);
            }
        }
    }
    answer.to_string()
}

fn register<'a>(
    place: &'a mut Place,
    account: &str,
    region: &str,
    document: &str,
    tags: Value,
) -> (String, &'a Revision) {
    let family: Value = serde_json::from_str(document).expect("a task definition is JSON");
    let family = family["family"].as_str().expect("a task definition has a family").to_owned();
    let revisions = place.families.entry(family.clone()).or_default();
    let number = revisions.len() + 1;
    revisions.push(Revision { number, document: document.into(), tags, active: true });
    (revision_arn(account, region, &family, number), revisions.last().expect("just pushed"))
}

fn register_task_definition(place: &mut Place, account: &str, region: &str, body: &str) -> Result<String, Refusal> {
    let input: Value = serde_json::from_str(body).map_err(|e| ("SerializationException", e.to_string()))?;
    let Some(family) = input["family"].as_str().filter(|f| !f.is_empty()) else {
        return refusal("ClientException", "Family should not be null or empty.");
    };
    if input["containerDefinitions"].as_array().is_none_or(Vec::is_empty) {
        return refusal("ClientException", "Container list cannot be empty.");
    }
    let tags = input.get("tags").cloned();
    if tags.as_ref().is_some_and(|t| t.as_array().is_none_or(Vec::is_empty)) {
        return refusal("InvalidParameterException", "Tags can not be empty.");
    }
    if tag_map(tags.as_ref().unwrap_or(&Value::Null)).keys().any(|k| reserved(k)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    let members = raw_members(body);
    let without_tags = object_text(members.iter().filter(|(n, _)| n != "tags").map(|(n, v)| (n.as_str(), v.get())));
    let stored_tags = tags.clone().unwrap_or_else(|| json!([]));
    let (_, revision) = register(place, account, region, &without_tags, stored_tags);
    let document = described(account, region, family, revision);
    let mut members = vec![("taskDefinition", document)];
    members.extend(tags.map(|tags| ("tags", tags.to_string())));
    Ok(object_text(members.iter().map(|(n, v)| (*n, v.as_str()))))
}

fn reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Parameters whose change starts a new deployment by itself.
const DEPLOYING: [&str; 7] = [
    "networkConfiguration",
    "platformVersion",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

/// Parameters that DescribeServices shows in the deployment, not in the service.
const IN_DEPLOYMENT: [&str; 3] = ["serviceConnectConfiguration", "volumeConfigurations", "vpcLatticeConfigurations"];

fn update_service(
    place: &mut Place,
    account: &str,
    region: &str,
    input: &Value,
    deployment_id: &str,
) -> Result<Value, Refusal> {
    let cluster = in_cluster(place, input)?;
    let name = short(&input["service"]);
    let wanted = match input["taskDefinition"].as_str() {
        None => None,
        Some(name) => match revision(place, name) {
            Some((family, revision)) if revision.active => Some(revision_arn(account, region, family, revision.number)),
            Some(_) => return refusal("ClientException", "TaskDefinition is inactive"),
            None => return refusal("ClientException", "TaskDefinition not found."),
        },
    };
    let Some(service) = place.services.get_mut(&(cluster, name)) else {
        return refusal("ServiceNotFoundException", "Service not found.");
    };
    if service["status"] != "ACTIVE" {
        return refusal("ServiceNotActiveException", "Service was not ACTIVE.");
    }
    let given: Vec<(String, Value)> = input
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(n, v)| {
            !["cluster", "service", "taskDefinition", "forceNewDeployment"].contains(&n.as_str()) && !v.is_null()
        })
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let force = input["forceNewDeployment"] == true;
    check_controller(service, &given, wanted.is_some() || force)?;
    if service["schedulingStrategy"] == "DAEMON" && given.iter().any(|(n, _)| n == "desiredCount") {
        return refusal(
            "InvalidParameterException",
            "The daemon scheduling strategy does not support a desired count for services. Remove the desired count value and try again",
        );
    }
    if given.iter().any(|(n, v)| n == "capacityProviderStrategy" && service.get(n) != Some(v)) && !force {
        return refusal(
            "InvalidParameterException",
            "When switching from launch type to capacity provider strategy on an existing service, or making a change to a capacity provider strategy on a service that is already using one, you must force a new deployment.",
        );
    }

    let mut deploys = force || wanted.as_ref().is_some_and(|arn| service["taskDefinition"] != arn.as_str());
    let old = service["deployments"][0].clone();
    for (name, value) in &given {
        let had = if IN_DEPLOYMENT.contains(&name.as_str()) { old.get(name) } else { service.get(name) };
        deploys |= DEPLOYING.contains(&name.as_str()) && had != Some(value);
        if !IN_DEPLOYMENT.contains(&name.as_str()) {
            let value = with_defaults(name, value, service.get(name));
            if name == "capacityProviderStrategy" {
                service.remove("launchType");
            }
            service.insert(name.clone(), value);
        }
    }
    if let Some(arn) = wanted {
        service.insert("taskDefinition".into(), arn.into());
    }
    let deployments = service["deployments"].as_array().cloned().unwrap_or_default();
    if deploys {
        let mut new = new_deployment(deployment_id, "", &service["networkConfiguration"]);
        new["taskDefinition"] = service["taskDefinition"].clone();
        new["rolloutState"] = "IN_PROGRESS".into();
        new["rolloutStateReason"] = format!("ECS deployment {deployment_id} in progress.").into();
        for name in IN_DEPLOYMENT {
            let value = given.iter().find(|(n, _)| n == name).map(|(_, v)| v).or_else(|| old.get(name));
            if let Some(value) = value {
                new[name] = value.clone();
            }
        }
        let mut all = vec![new];
        all.extend(deployments.into_iter().map(|mut d| {
            d["status"] = "ACTIVE".into();
            d
        }));
        service.insert("deployments".into(), all.into());
    } else if let Some(primary) = service["deployments"].get_mut(0) {
        primary["updatedAt"] = json!(now());
    }
    let mut answer = service.clone();
    answer.remove("tags");
    Ok(json!({"service": answer}))
}

fn check_controller(service: &Map<String, Value>, given: &[(String, Value)], deploys: bool) -> Result<(), Refusal> {
    let refused: &[&str] = match service["deploymentController"]["type"].as_str() {
        Some("CODE_DEPLOY") => &["networkConfiguration", "platformVersion", "loadBalancers"],
        Some("EXTERNAL") => &["networkConfiguration", "platformVersion", "loadBalancers", "deploymentConfiguration"],
        _ => return Ok(()),
    };
    if deploys || given.iter().any(|(n, _)| refused.contains(&n.as_str())) {
        return refusal(
            "InvalidParameterException",
            "Unable to update task definition on services with a CODE_DEPLOY deployment controller. Please use Code Deploy to trigger a new deployment.",
        );
    }
    Ok(())
}

/// What AWS fills in.
fn with_defaults(name: &str, value: &Value, had: Option<&Value>) -> Value {
    let mut value = value.clone();
    match name {
        "networkConfiguration" => {
            let vpc = &mut value["awsvpcConfiguration"];
            if vpc.get("assignPublicIp").is_none() {
                vpc["assignPublicIp"] = "DISABLED".into();
            }
        }
        "deploymentConfiguration" => {
            let mut merged = had.cloned().unwrap_or_else(|| json!({}));
            for (name, value) in value.as_object().into_iter().flatten() {
                merged[name] = value.clone();
            }
            value = merged;
        }
        "capacityProviderStrategy" => {
            for item in value.as_array_mut().into_iter().flatten() {
                for name in ["weight", "base"] {
                    if item.get(name).is_none() {
                        item[name] = 0.into();
                    }
                }
            }
        }
        _ => {}
    }
    value
}

fn by_arn<'a>(place: &'a mut Place, input: &Value) -> Result<&'a mut Map<String, Value>, Refusal> {
    let arn = input["resourceArn"].as_str().unwrap_or_default();
    match place.services.values_mut().find(|s| s["serviceArn"] == arn) {
        Some(service) => Ok(service),
        None => refusal("InvalidParameterException", format!("The specified service does not exist: {arn}")),
    }
}

fn tag_resource(place: &mut Place, input: &Value) -> Result<(), Refusal> {
    let service = by_arn(place, input)?;
    let mut tags = tag_map(&service["tags"]);
    let given = tag_map(&input["tags"]);
    if given.is_empty() || input["tags"].as_array().map(Vec::len) != Some(given.len()) {
        return refusal("InvalidParameterException", "Tags can not be empty or hold a key twice.");
    }
    if given.iter().any(|(k, v)| reserved(k) || reserved(v)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    tags.extend(given);
    if tags.keys().filter(|k| !reserved(k)).count() > MAX_TAGS {
        return refusal("InvalidParameterException", "The number of tags on the resource cannot be more than 50.");
    }
    service.insert("tags".into(), tag_list(tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    Ok(())
}

fn untag_resource(place: &mut Place, input: &Value) -> Result<(), Refusal> {
    let service = by_arn(place, input)?;
    let keys: Vec<String> =
        input["tagKeys"].as_array().into_iter().flatten().filter_map(|k| k.as_str().map(Into::into)).collect();
    if keys.is_empty() {
        return refusal("InvalidParameterException", "Tag keys can not be empty.");
    }
    if keys.iter().any(|k| reserved(k)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    let mut tags = tag_map(&service["tags"]);
    tags.retain(|k, _| !keys.contains(k));
    service.insert("tags".into(), tag_list(tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    Ok(())
}
