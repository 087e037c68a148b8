//! The life of deployments: they progress, end, fail, are rolled back, stopped and superseded, as whoever uses the stub says.
//!
//! Shapes and words: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>,
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::services::{new_deployment, put_first};
use super::{Cloud, Place, Refusal, in_cluster, refusal, short};
use crate::versions::Versions;
use crate::{Site, seconds, sync};

/// A deployment that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The service that it belongs to.
    pub site: Site,
    /// Its id.
    pub id: String,
    /// The session whose call started it.
    pub session: String,
    /// The task definition that it runs.
    pub task_definition: String,
    /// The deployment that was PRIMARY before.
    pub before: String,
}

/// The id of a rollback's own deployment. ECS does not document which of the two it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackForm {
    /// The id of the deployment that it returns to.
    OldId,
    /// A new id.
    NewId,
}

impl Cloud {
    /// From now on deployments have a life: each one that is started is returned by [`Cloud::take_started`], has a
    /// service deployment, and stays in progress until a call says how it ends.
    pub fn live(&self) {
        sync(&self.state).lives = true;
    }

    /// The deployments that were started since the last call of this function.
    #[must_use]
    pub fn take_started(&self) -> Vec<Started> {
        std::mem::take(&mut sync(&self.state).started)
    }

    /// The events for `EventBridge` since the last call of this function.
    #[must_use]
    pub fn take_events(&self) -> Vec<Value> {
        std::mem::take(&mut sync(&self.state).events)
    }

    /// UpdateService has started a deployment, which is PRIMARY already.
    pub fn begin(&self, site: &Site, id: &str, session: &str) {
        let service = self.service(site);
        let before = service["deployments"][1]["id"].as_str().unwrap_or_default().to_owned();
        let task_definition = service["taskDefinition"].as_str().unwrap_or_default().to_owned();
        if let Some(current) = self.current(site)
            && ["PENDING", "IN_PROGRESS"].contains(&current["status"].as_str().unwrap_or_default())
        {
            self.set_status(site, current, "STOPPED", &json!({"statusReason": "A newer deployment was started."}));
        }
        self.new_service_deployment(site, id, &service);
        let session = session.to_owned();
        sync(&self.state).started.push(Started {
            site: site.clone(),
            id: id.to_owned(),
            session,
            task_definition,
            before,
        });
    }

    fn new_service_deployment(&self, site: &Site, id: &str, service: &Value) {
        let number = id.rsplit('/').next().unwrap_or_default();
        let own = site.arn("service-deployment", Some(&format!("Sd{:x}", self.next_number())));
        let revision = site.arn("service-revision", Some(number));
        let count = service["desiredCount"].clone();
        let told = json!({
            "serviceDeploymentArn": own, "serviceArn": site.service_arn(), "clusterArn": service["clusterArn"],
            "status": "PENDING", "createdAt": seconds(self.now()), "updatedAt": seconds(self.now()),
            "targetServiceRevision": {"arn": revision, "requestedTaskCount": count},
            "sourceServiceRevisions": service["currentServiceRevisions"],
        });
        self.write_service_revision(site, &told, &service["taskDefinition"]);
        self.write_service_deployment(site, told);
        self.edit(site, |service| {
            service["currentServiceDeployment"] = own.into();
            service["currentServiceRevisions"] = json!([{"arn": revision, "requestedTaskCount": count,
                "runningTaskCount": 0, "pendingTaskCount": 0}]);
        });
    }

    /// The service's current service deployment.
    fn current(&self, site: &Site) -> Option<Value> {
        let arn = self.find(site)?["currentServiceDeployment"].as_str()?.to_owned();
        self.place(&site.account, &site.region, |place| place.service_deployments.get(&arn)?.get().cloned())
    }

    fn set_status(&self, site: &Site, mut told: Value, status: &str, more: &Value) {
        told["status"] = status.into();
        told["updatedAt"] = json!(seconds(self.now()));
        for (name, value) in more.as_object().into_iter().flatten() {
            told[name] = value.clone();
        }
        self.write_service_deployment(site, told);
    }

    /// Whether the deployment is the service's PRIMARY one, and the service is ACTIVE.
    #[must_use]
    pub fn is_primary(&self, site: &Site, id: &str) -> bool {
        self.find(site).is_some_and(|service| service["status"] == "ACTIVE" && service["deployments"][0]["id"] == id)
    }

    /// The first tasks of a deployment start.
    pub fn progress(&self, site: &Site, id: &str) {
        if let Some(current) = self.current(site).filter(|deployment| deployment["status"] == "PENDING") {
            self.set_status(site, current, "IN_PROGRESS", &json!({"startedAt": seconds(self.now())}));
        }
        self.event(site, id, "SERVICE_DEPLOYMENT_IN_PROGRESS", &format!("ECS deployment {id} in progress."));
    }

    /// The PRIMARY deployment has ended well.
    pub fn complete(&self, site: &Site, id: &str) {
        let reason = format!("ECS deployment {id} completed.");
        let now = seconds(self.now());
        self.edit(site, |service| {
            service["deployments"].as_array_mut().expect("deployments").truncate(1);
            let primary = &mut service["deployments"][0];
            primary["rolloutState"] = "COMPLETED".into();
            primary["rolloutStateReason"] = reason.clone().into();
            primary["updatedAt"] = json!(now);
        });
        if let Some(current) = self.current(site) {
            self.set_status(site, current, "SUCCESSFUL", &json!({"finishedAt": now}));
        }
        self.event(site, id, "SERVICE_DEPLOYMENT_COMPLETED", &reason);
    }

    /// The circuit breaker gives up the PRIMARY deployment. [`Cloud::roll_back`] says whether ECS rolls it back.
    pub fn fail(&self, site: &Site, id: &str) {
        let reason = "ECS deployment circuit breaker: tasks failed to start.";
        let now = seconds(self.now());
        self.edit(site, |service| {
            let primary = &mut service["deployments"][0];
            primary["rolloutState"] = "FAILED".into();
            primary["rolloutStateReason"] = reason.into();
            primary["updatedAt"] = json!(now);
            primary["failedTasks"] = 10.into();
            say(service, &format!("(deployment {id}) deployment failed: tasks failed to start."), now);
        });
        if let Some(current) = self.current(site) {
            let breaker = json!({"deploymentCircuitBreaker": {"status": "TRIGGERED", "failureCount": 10, "threshold": 10},
                "statusReason": reason, "finishedAt": now});
            self.set_status(site, current, "STOPPED", &breaker);
        }
        self.event(site, id, "SERVICE_DEPLOYMENT_FAILED", reason);
    }

    /// ECS rolls a failed deployment back to `to`, which runs `task_definition`. Returns the id of the rollback's own
    /// deployment.
    pub fn roll_back(&self, site: &Site, to: &str, task_definition: &str, form: RollbackForm) -> String {
        let id = if form == RollbackForm::OldId { to.to_owned() } else { self.next_deployment() };
        let reason = format!("ECS deployment circuit breaker: rolling back to deploymentId {to}.");
        let now = self.now();
        let current = self.current(site);
        self.edit(site, |service| {
            let network = service["networkConfiguration"].clone();
            service["taskDefinition"] = task_definition.into();
            let mut new = new_deployment(&id, task_definition, &network, now);
            new["rolloutState"] = "IN_PROGRESS".into();
            new["rolloutStateReason"] = reason.clone().into();
            service["deployments"]
                .as_array_mut()
                .expect("deployments")
                .retain(|deployment| deployment["id"] != id.as_str());
            put_first(service, new);
            let number = to.rsplit('/').next().unwrap_or_default();
            service["currentServiceRevisions"] = json!([{"arn": site.arn("service-revision", Some(number)),
                "requestedTaskCount": service["desiredCount"], "runningTaskCount": 0, "pendingTaskCount": 0}]);
        });
        if let Some(current) = current {
            let revision = site.arn("service-revision", to.rsplit('/').next());
            let rollback =
                json!({"rollback": {"reason": reason, "startedAt": seconds(now), "serviceRevisionArn": revision}});
            self.set_status(site, current, "ROLLBACK_IN_PROGRESS", &rollback);
        }
        self.event(site, &id, "SERVICE_DEPLOYMENT_IN_PROGRESS", &reason);
        id
    }

    /// A rollback has ended, well or not.
    pub fn rolled_back(&self, site: &Site, id: &str, is_done: bool) {
        let (rollout, status, name, how) = if is_done {
            ("COMPLETED", "ROLLBACK_SUCCESSFUL", "SERVICE_DEPLOYMENT_COMPLETED", "completed.")
        } else {
            ("FAILED", "ROLLBACK_FAILED", "SERVICE_DEPLOYMENT_FAILED", "failed: tasks failed to start.")
        };
        let reason = format!("ECS deployment {id} {how}");
        let now = seconds(self.now());
        self.edit(site, |service| {
            if is_done {
                service["deployments"].as_array_mut().expect("deployments").truncate(1);
            }
            let primary = &mut service["deployments"][0];
            primary["rolloutState"] = rollout.into();
            primary["rolloutStateReason"] = reason.clone().into();
            primary["updatedAt"] = json!(now);
        });
        if let Some(current) = self.current(site) {
            self.set_status(site, current, status, &json!({"finishedAt": now}));
        }
        self.event(site, id, name, &reason);
    }

    /// A deployment reaches a pause hook and waits there: its event is among [`Cloud::take_events`]. Returns the id of the hook, which is
    /// another one each time.
    pub fn pause(&self, site: &Site, id: &str, until: DateTime<Utc>, then: &str) -> String {
        let hook = format!("ecs-pause-{:x}", self.next_number());
        let number = id.rsplit('/').next().unwrap_or_default();
        let revision = site.arn("service-revision", Some(number));
        let told =
            self.service_deployment_where(site, |told| told["targetServiceRevision"]["arn"] == revision.as_str());
        let told = told.unwrap_or_else(|| panic!("{id} has a service deployment"));
        let mut hooks = told["lifecycleHookDetails"].as_array().cloned().unwrap_or_default();
        hooks.push(
            json!({"hookId": hook, "targetType": "PAUSE", "status": "AWAITING_ACTION", "expiresAt": seconds(until),
            "timeoutAction": then}),
        );
        self.hook_event(site, &told, &hook, "HOOK_AWAITING_ACTION");
        let more = json!({"lifecycleHookDetails": hooks, "lifecycleStage": "POST_SCALE_UP"});
        self.set_status(site, told, "IN_PROGRESS", &more);
        hook
    }

    fn service_deployment_where(&self, site: &Site, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        self.place(&site.account, &site.region, |place| {
            place.service_deployments.values().filter_map(Versions::get).find(|told| is_it(told)).cloned()
        })
    }

    /// StopServiceDeployment and ContinueServiceDeployment. What can be stopped, and what becomes of it:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stop-service-deployment.html>. "The pause hook must be in
    /// `AWAITING_ACTION` status", and the deployment "in the IN_PROGRESS state":
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/continue-service-deployment.html>. Which error refuses what has ended
    /// is not documented.
    pub(super) fn act_on_deployment(
        &self,
        account: &str,
        region: &str,
        action: &str,
        input: &Value,
    ) -> Result<Value, Refusal> {
        let arn = input["serviceDeploymentArn"].as_str().unwrap_or_default();
        let found = self.place(account, region, |place| place.service_deployments.get(arn)?.get().cloned());
        let Some(mut told) = found else {
            return refusal("ServiceDeploymentNotFoundException", "Service deployment not found.");
        };
        let service_arn = told["serviceArn"].as_str().unwrap_or_default().to_owned();
        let names = service_arn.split_once(":service/").and_then(|(_, names)| names.split_once('/'));
        let (cluster, service) = names.unwrap_or_default();
        let site = Site::new(account, region, cluster, service);
        let status = told["status"].as_str().unwrap_or_default().to_owned();
        let mut hooks = told["lifecycleHookDetails"].as_array().cloned().unwrap_or_default();
        if action == "StopServiceDeployment" {
            if input["stopType"] != "ROLLBACK" {
                return refusal("InvalidParameterException", "The valid values are ROLLBACK.");
            }
            match status.as_str() {
                "PENDING" | "IN_PROGRESS" => {
                    told["lifecycleHookDetails"] = json!([]);
                    let rollback = json!({"rollback": {"reason": "Service deployment rollback requested.",
                        "startedAt": seconds(self.now())}});
                    self.set_status(&site, told, "ROLLBACK_REQUESTED", &rollback);
                }
                "STOP_REQUESTED" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" => {}
                _ => return refusal("ConflictException", "The service deployment has ended."),
            }
        } else {
            let waits = |hook: &&mut Value| hook["hookId"] == input["hookId"] && hook["status"] == "AWAITING_ACTION";
            let Some(hook) = hooks.iter_mut().find(waits).filter(|_| status == "IN_PROGRESS") else {
                return refusal("InvalidParameterException", "The hook does not wait for an action.");
            };
            let goes_on = input["action"].as_str().unwrap_or("CONTINUE") == "CONTINUE";
            let id = hook["hookId"].as_str().unwrap_or_default().to_owned();
            hook["status"] = if goes_on { "SUCCEEDED" } else { "FAILED" }.into();
            let name = if goes_on { "HOOK_SUCCEEDED" } else { "HOOK_FAILED" };
            self.hook_event(&site, &told, &id, name);
            let status = if goes_on { "IN_PROGRESS" } else { "ROLLBACK_REQUESTED" };
            self.set_status(&site, told, status, &json!({"lifecycleHookDetails": hooks}));
        }
        Ok(json!({"serviceDeploymentArn": arn}))
    }

    /// Shape: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_hook_state_change_events.html>.
    fn hook_event(&self, site: &Site, told: &Value, hook: &str, name: &str) {
        let at = self.now();
        let event = json!({
            "version": "0", "id": format!("3329f79b-3dca-07f8-b1c2-{:012}", self.next_number() % 1_000_000_000_000),
            "detail-type": "ECS Hook State Change", "source": "aws.ecs", "account": site.account,
            "time": at.to_rfc3339_opts(SecondsFormat::Secs, true), "region": site.region,
            "resources": [told["serviceDeploymentArn"]],
            "detail": {"eventType": "INFO", "eventName": name, "hookId": hook, "hookType": "PAUSE",
                       "lifecycleStage": "POST_SCALE_UP", "clusterArn": told["clusterArn"], "serviceArn": site.service_arn(),
                       "serviceDeploymentArn": told["serviceDeploymentArn"],
                       "updatedAt": at.to_rfc3339_opts(SecondsFormat::Nanos, true)},
        });
        sync(&self.state).events.push(event);
    }

    /// Somebody stops the PRIMARY deployment (StopServiceDeployment, ABORT): no event reports it.
    pub fn stop(&self, site: &Site) {
        if let Some(current) = self.current(site) {
            let reason = json!({"statusReason": "Service deployment was stopped.", "finishedAt": seconds(self.now())});
            self.set_status(site, current, "STOPPED", &reason);
        }
    }

    /// Somebody deletes the service, which begins to drain.
    pub fn delete(&self, site: &Site) {
        self.edit(site, |service| {
            service["status"] = "DRAINING".into();
            service["desiredCount"] = 0.into();
        });
    }

    /// A service that drained is gone. ECS shows it as INACTIVE for a while.
    pub fn deleted(&self, site: &Site) {
        self.edit(site, |service| {
            service["status"] = "INACTIVE".into();
            service["deployments"] = json!([]);
            service.as_object_mut().expect("an object").remove("currentServiceDeployment");
            service.as_object_mut().expect("an object").remove("currentServiceRevisions");
        });
    }

    fn event(&self, site: &Site, id: &str, name: &str, reason: &str) {
        let at = self.now();
        let event_type = if name.ends_with("FAILED") { "ERROR" } else { "INFO" };
        let event = json!({
            "version": "0", "id": format!("ddca6449-b258-46c0-8653-{:012}", self.next_number() % 1_000_000_000_000),
            "detail-type": "ECS Deployment State Change", "source": "aws.ecs", "account": site.account,
            "time": at.to_rfc3339_opts(SecondsFormat::Secs, true), "region": site.region, "resources": [site.service_arn()],
            "detail": {"eventType": event_type, "eventName": name, "deploymentId": id,
                       "updatedAt": at.to_rfc3339_opts(SecondsFormat::Millis, true), "reason": reason},
        });
        sync(&self.state).events.push(event);
    }
}

/// Puts an event before those that the service has. AWS keeps the newest 100. Texts:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>.
pub(super) fn say(service: &mut Value, what: &str, at: f64) {
    let message = format!("(service {}) {what}", service["serviceName"].as_str().unwrap_or_default());
    let Some(events) = service["events"].as_array_mut() else { return };
    events.insert(0, json!({"id": format!("e-{}", events.len() + 1), "createdAt": at, "message": message}));
    events.truncate(100);
}

/// ListServiceDeployments, as of a point in time.
pub(super) fn list(
    place: &Place,
    account: &str,
    region: &str,
    input: &Value,
    as_of: DateTime<Utc>,
) -> Result<Value, Refusal> {
    let cluster = in_cluster(place, input)?;
    let service = short(&input["service"]);
    if place.services.get(&(cluster.clone(), service.clone())).and_then(Versions::get).is_none() {
        return refusal("ServiceNotFoundException", "Service not found.");
    }
    let arn = Site::new(account, region, &cluster, &service).service_arn();
    let between = ["after", "before"].map(|name| input["createdAt"][name].as_f64());
    let [Some(after), Some(before)] = between else {
        return refusal("InvalidParameterException", "this stub wants createdAt");
    };
    let is_listed = |deployment: &&Value| {
        let created = deployment["createdAt"].as_f64().unwrap_or_default();
        deployment["serviceArn"] == arn.as_str() && (after..=before).contains(&created)
    };
    let listed = place.service_deployments.values().filter_map(|deployment| deployment.as_of(as_of)).filter(is_listed).map(|deployment| {
        json!({"serviceDeploymentArn": deployment["serviceDeploymentArn"], "serviceArn": arn, "status": deployment["status"],
               "createdAt": deployment["createdAt"], "targetServiceRevisionArn": deployment["targetServiceRevision"]["arn"]})
    });
    Ok(json!({"serviceDeployments": listed.collect::<Vec<_>>()}))
}

/// DescribeServiceDeployments, as of a point in time.
pub(super) fn describe(place: &Place, input: &Value, as_of: DateTime<Utc>) -> Value {
    let asked = input["serviceDeploymentArns"].as_array().cloned().unwrap_or_default();
    let found: Vec<&Value> =
        asked.iter().filter_map(|arn| place.service_deployments.get(arn.as_str()?)?.as_of(as_of)).collect();
    json!({"serviceDeployments": found, "failures": []})
}

/// `DescribeServiceRevisions`.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceRevisions.html>
pub(super) fn revisions(place: &Place, input: &Value) -> Value {
    let asked = input["serviceRevisionArns"].as_array().cloned().unwrap_or_default();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in &asked {
        match place.service_revisions.get(arn.as_str().unwrap_or_default()) {
            Some(members) => {
                let mut revision = members.clone();
                revision["serviceRevisionArn"] = arn.clone();
                found.push(revision);
            }
            None => failures.push(json!({"arn": arn, "reason": "MISSING"})),
        }
    }
    json!({"serviceRevisions": found, "failures": failures})
}
