//! Pure: what a service is now, read from what ECS answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ecs::task_definition::{TaskDefinition, tag_map};
use crate::text::rfc3339;

/// The parameters of `UpdateService` that `service` in an event can set, and that records keep.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
pub const PARAMETERS: [&str; 20] = [
    "desiredCount",
    "deploymentConfiguration",
    "healthCheckGracePeriodSeconds",
    "enableExecuteCommand",
    "platformVersion",
    "capacityProviderStrategy",
    "propagateTags",
    "enableECSManagedTags",
    "availabilityZoneRebalancing",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "monitoring",
    "deploymentController",
    "placementConstraints",
    "placementStrategy",
    "gatewayConnectors",
];

/// Whether a parameter is one that is known here.
#[must_use]
pub fn is_known(parameter: &str) -> bool {
    PARAMETERS.contains(&parameter)
}

/// The parameters that neither a service nor its deployments show, but only the service revision that a deployment deploys. Source:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceRevision.html>.
pub const IN_REVISION: [&str; 2] = ["monitoring", "gatewayConnectors"];

/// A service and the task definition it runs.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The service.
    pub service: Service,
    /// The revision that the service runs; `None` if its tasks come from task sets that have none of their own.
    pub task_definition: Option<Arc<TaskDefinition>>,
}

/// A service as ECS answered it, with every member.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    members: Map<String, Value>,
    /// The service's tags, those of AWS included.
    pub tags: BTreeMap<String, String>,
    /// ARN of the task definition that the `PRIMARY` deployment replaced, if ECS was asked for it: `DescribeServices` shows it only as long
    /// as tasks of the replaced one are left.
    pub replaced: Option<String>,
    /// Whether the `PRIMARY` deployment is known to roll another one back: once it has ended, only its service deployment shows this.
    pub is_a_rollback: bool,
}

impl Service {
    /// Reads a `service` member of `DescribeServices` or `UpdateService`. `UpdateService` answers without tags: then `tags` gives them.
    ///
    /// # Errors
    ///
    /// If its tags cannot be read: it would look like a service that has none.
    pub fn new(mut members: Map<String, Value>, tags: Option<BTreeMap<String, String>>) -> Result<Self, String> {
        let answered = members.remove("tags");
        let tags = match (tags, answered) {
            (Some(tags), _) => tags,
            (None, None | Some(Value::Null)) => BTreeMap::new(),
            (None, Some(answered)) => {
                tag_map(serde_json::from_value(answered).map_err(|error| format!("the service's tags: {error}"))?)
            }
        };
        Ok(Self { members, tags, replaced: None, is_a_rollback: false })
    }

    /// Every member that ECS answered, for code that searches them.
    #[must_use]
    pub fn document(&self) -> Value {
        Value::Object(self.members.clone())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// ARN of the service.
    #[must_use]
    pub fn arn(&self) -> &str {
        self.text("serviceArn").unwrap_or_default()
    }

    /// Whether its ARN is a short one, without the name of the cluster: those of services "that were created before 2021" may be.
    /// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-arn-migration.html>.
    #[must_use]
    pub fn has_short_arn(&self) -> bool {
        self.arn().split_once(":service/").is_some_and(|(_, names)| !names.contains('/'))
    }

    /// ARN of its cluster.
    #[must_use]
    pub fn cluster_arn(&self) -> &str {
        self.text("clusterArn").unwrap_or_default()
    }

    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    #[must_use]
    pub fn status(&self) -> &str {
        self.text("status").unwrap_or_default()
    }

    /// Whether it runs one task on each container instance.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.text("schedulingStrategy") == Some("DAEMON")
    }

    /// Whether ECS says that it manages the service itself (an Express service).
    #[must_use]
    pub fn is_managed_by_ecs(&self) -> bool {
        self.text("resourceManagementType") == Some("ECS")
    }

    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    #[must_use]
    pub fn deployment_controller(&self) -> &str {
        self.members.get("deploymentController").and_then(|c| c.get("type")).and_then(Value::as_str).unwrap_or("ECS")
    }

    /// The same service as if it ran another task definition.
    #[must_use]
    pub fn running(&self, task_definition_arn: &str) -> Self {
        let mut service = self.clone();
        service.members.insert("taskDefinition".to_owned(), task_definition_arn.into());
        service
    }

    /// When the service was created: one that was created anew under the same name is another service.
    #[must_use]
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        time(self.members.get("createdAt")?)
    }

    /// ARN of the service deployment that is under way, or was the last one, if ECS reports it.
    #[must_use]
    pub fn service_deployment(&self) -> Option<&str> {
        self.text("currentServiceDeployment")
    }

    /// ARN of the service revision that a deployment deploys, if ECS reports exactly one.
    #[must_use]
    pub fn service_revision(&self) -> Option<&str> {
        match self.members.get("currentServiceRevisions")?.as_array()?.as_slice() {
            [only] => only.get("arn")?.as_str(),
            _ => None,
        }
    }

    fn primary(&self) -> Option<&Map<String, Value>> {
        primary_of(self.members.get("deployments")?)
    }

    /// Id of the `PRIMARY` deployment, such as `ecs-svc/1234567890123456789`.
    #[must_use]
    pub fn deployment_id(&self) -> Option<&str> {
        self.primary()?.get("id")?.as_str()
    }

    /// ARN of the task definition the service runs; for services of task sets that of the `PRIMARY` set.
    #[must_use]
    pub fn task_definition_arn(&self) -> Option<&str> {
        self.text("taskDefinition")
            .filter(|arn| !arn.is_empty())
            .or_else(|| primary_of(self.members.get("taskSets")?)?.get("taskDefinition")?.as_str())
    }

    /// When the `PRIMARY` deployment was last updated.
    #[must_use]
    pub fn updated_at(&self) -> Option<DateTime<Utc>> {
        time(self.primary()?.get("updatedAt")?)
    }

    /// When the `PRIMARY` deployment was created.
    #[must_use]
    pub fn deployed_at(&self) -> Option<DateTime<Utc>> {
        time(self.primary()?.get("createdAt")?)
    }

    /// ARN of the task definition of the `PRIMARY` deployment.
    #[must_use]
    pub fn deployed_task_definition(&self) -> Option<&str> {
        self.primary()?.get("taskDefinition")?.as_str()
    }

    /// The service's value of a parameter of `UpdateService`. Some parameters appear only in the `PRIMARY` deployment.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.members.get(name).or_else(|| self.primary()?.get(name))
    }

    /// Whether the service's value of a parameter is known.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        is_known(name) && (!IN_REVISION.contains(&name) || self.members.contains_key(name))
    }

    /// The same service with the parameters that only its revision shows.
    #[must_use]
    pub fn with_revision(mut self, revision: &Map<String, Value>) -> Self {
        for name in IN_REVISION {
            self.members.insert(name.to_owned(), revision.get(name).cloned().unwrap_or_default());
        }
        self
    }

    /// Whether new tasks get the service's tags.
    #[must_use]
    pub fn propagates_its_tags(&self) -> bool {
        self.text("propagateTags") == Some("SERVICE")
    }
}

/// A time as ECS writes it: seconds since 1970, with milliseconds after the decimal point.
pub(crate) fn time(seconds: &Value) -> Option<DateTime<Utc>> {
    #[allow(clippy::cast_possible_truncation)] // milliseconds since 1970 fit for the next 290 million years
    DateTime::from_timestamp_millis((seconds.as_f64()? * 1000.0).round() as i64)
}

fn primary_of(list: &Value) -> Option<&Map<String, Value>> {
    list.as_array()?.iter().find(|entry| entry.get("status").and_then(Value::as_str) == Some("PRIMARY"))?.as_object()
}

/// `BEFORE` and `AFTER`: the keys of the first version, and `images` in addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    /// ARN of the cluster.
    pub cluster_arn: String,
    /// ARN of the service.
    pub service_arn: String,
    /// Name of the container that the change is about.
    pub task_definition_name: Option<String>,
    /// Family of the task definition.
    pub task_definition_family: Option<String>,
    /// ARN of the task definition.
    pub task_definition_arn: Option<String>,
    /// Image of that container.
    pub service_image: Option<String>,
    /// Images of all containers.
    pub images: BTreeMap<String, String>,
    /// Hard memory limit of that container in MiB; null where it sets none.
    pub service_memory: Option<i64>,
    /// The service's tags by key.
    pub tags: Vec<TagState>,
    /// When the `PRIMARY` deployment was last updated (RFC 3339).
    pub updated_on: Option<String>,
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagState {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Snapshot {
    /// The state that is reported to the caller; `container` is the one that the change is about.
    #[must_use]
    pub fn state(&self, container: Option<&str>) -> ServiceState {
        let definition = self.task_definition.as_deref();
        let reported = definition.and_then(|definition| {
            let containers = &definition.containers;
            containers
                .iter()
                .find(|candidate| Some(candidate.name.as_str()) == container)
                .or_else(|| containers.first())
        });
        ServiceState {
            cluster_arn: self.service.cluster_arn().to_owned(),
            service_arn: self.service.arn().to_owned(),
            task_definition_name: reported.map(|container| container.name.clone()),
            task_definition_family: definition.map(|definition| definition.family.clone()),
            task_definition_arn: definition.map(|definition| definition.arn.clone()),
            service_image: reported.map(|container| container.image.clone()),
            images: definition.map(TaskDefinition::images).unwrap_or_default(),
            service_memory: reported.and_then(|container| container.memory),
            tags: self
                .service
                .tags
                .iter()
                .map(|(key, value)| TagState { key: key.clone(), value: value.clone() })
                .collect(),
            updated_on: self.service.updated_at().map(rfc3339),
        }
    }

    /// What a record keeps of it: the state, the `PRIMARY` deployment, and every parameter that an event can set.
    #[must_use]
    pub fn recorded(&self, container: Option<&str>) -> RecordedState {
        RecordedState {
            state: self.state(container),
            deployment_id: self.service.deployment_id().map(str::to_owned),
            created_at: self.service.created_at().map(rfc3339),
            service_revision: self.service.service_revision().map(str::to_owned),
            service: PARAMETERS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), self.service.parameter(name)?.clone())))
                .filter(|(_, value)| !value.is_null())
                .collect(),
        }
    }
}

/// `before` and `after` of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedState {
    /// The state that was reported to the caller.
    #[serde(flatten)]
    pub state: ServiceState,
    /// Id of the `PRIMARY` deployment.
    #[serde(rename = "deploymentId")]
    pub deployment_id: Option<String>,
    /// When the service was created (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// ARN of its service revision, if ECS reports exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_revision: Option<String>,
    /// Parameters of `UpdateService` as the service had them.
    pub service: Map<String, Value>,
}

impl RecordedState {
    /// Omits the parameters, and gives `why` as the reason in their place.
    pub fn shorten(&mut self, why: String) {
        self.service = Map::from_iter([(SHORTENED.to_owned(), why.into())]);
    }

    /// Whether the parameters were omitted.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        self.service.contains_key(SHORTENED)
    }
}

/// The name that replaces parameters that would not have fitted into an item.
const SHORTENED: &str = "shortened";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(value: Value) -> Service {
        let Value::Object(members) = value else { panic!("an object") };
        Service::new(members, None).unwrap()
    }

    #[test]
    fn a_tag_without_a_value_is_a_tag_and_tags_that_cannot_be_read_are_not_none() {
        let tags = |tags: Value| Service::new(json!({"tags": tags}).as_object().unwrap().clone(), None);
        let read = tags(json!([{"key": "a", "value": null}, {"key": "b"}, {"key": "c", "value": "1"}])).unwrap();
        assert_eq!(read.tags, BTreeMap::from([("a", ""), ("b", ""), ("c", "1")].map(|(k, v)| (k.into(), v.into()))));
        for none in [json!([]), Value::Null] {
            assert!(tags(none).unwrap().tags.is_empty());
        }
        for unreadable in [json!({"a": "1"}), json!("a"), json!([{"value": "1"}]), json!([{"key": "a", "value": 1}])] {
            let error = tags(unreadable.clone()).unwrap_err();
            assert!(error.starts_with("the service's tags: "), "{unreadable}: {error}");
        }
    }

    #[test]
    fn parameters_stand_in_the_service_or_in_its_primary_deployment() {
        let service = service(json!({
            "desiredCount": 2,
            "deployments": [{"status": "ACTIVE", "id": "old", "volumeConfigurations": []},
                            {"status": "PRIMARY", "id": "new", "updatedAt": 1_763_800_000.125, "serviceConnectConfiguration": {"enabled": true}}],
        }));
        assert_eq!(service.parameter("desiredCount"), Some(&json!(2)));
        assert_eq!(service.parameter("serviceConnectConfiguration"), Some(&json!({"enabled": true})));
        assert_eq!(service.parameter("volumeConfigurations"), None);
        assert_eq!(service.deployment_id(), Some("new"));
        assert_eq!(service.updated_at().map(rfc3339).as_deref(), Some("2025-11-22T08:26:40.125Z"));
    }

    #[test]
    fn the_task_definition_of_a_service_of_task_sets_is_that_of_its_primary_set() {
        let external = service(json!({"deploymentController": {"type": "EXTERNAL"},
            "taskSets": [{"status": "ACTIVE", "taskDefinition": "a"}, {"status": "PRIMARY", "taskDefinition": "b"}]}));
        assert_eq!(external.task_definition_arn(), Some("b"));
        assert_eq!(service(json!({"taskDefinition": "c"})).task_definition_arn(), Some("c"));
        assert_eq!(service(json!({})).task_definition_arn(), None);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let body = json!({"taskDefinition": {"taskDefinitionArn": "arn:td/web:7", "family": "web",
            "containerDefinitions": [{"name": "web", "image": "busybox", "memory": 64}, {"name": "log", "image": "fluent"}]}});
        let snapshot = Snapshot {
            service: service(json!({"serviceArn": "arn:s", "clusterArn": "arn:c", "desiredCount": 3, "unknown": 1,
                                    "tags": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}]})),
            task_definition: Some(Arc::new(TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap())),
        };
        let recorded = snapshot.recorded(Some("log"));
        assert_eq!(recorded.state.service_image.as_deref(), Some("fluent"));
        assert_eq!(recorded.state.service_memory, None);
        assert_eq!(recorded.state.tags[0].key, "a");
        assert_eq!(recorded.service, *json!({"desiredCount": 3}).as_object().unwrap());
        let text = serde_json::to_string(&recorded).unwrap();
        assert_eq!(serde_json::from_str::<RecordedState>(&text).unwrap(), recorded);
        assert_eq!(snapshot.state(None).task_definition_name.as_deref(), Some("web"));
    }
}
