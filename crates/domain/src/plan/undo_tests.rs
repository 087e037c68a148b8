//! Restores of whole histories: a service, its ledger, and what AWS still has of its revisions, all as values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::ecs::service::{Service, Snapshot};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::event::request::{RestoreMode, RestorePoint};
use crate::ids::{ChangeId, ServiceKey};
use crate::ledger::hidden::{HiddenKey, hidden, is_hidden};
use crate::ledger::past::PastChange;
use crate::ledger::previous::{Previous, Search};
use crate::ledger::record::RawRecord;
use crate::plan::difference::{Difference, DifferenceKind};
use crate::plan::restoration::{OldDefinition, Restoration};
use crate::plan::tests::request;
use crate::plan::update::Update;
use crate::plan::{Plan, plan};

const SECRET: &str = "do-not-show-me";

/// What AWS has of a revision.
#[derive(Clone, Copy, PartialEq)]
enum Status {
    Active,
    Inactive,
    Deleted,
}

/// A service, its ledger and its revisions.
struct Door {
    now: Snapshot,
    /// The records of each change, the newest first.
    ledger: Vec<Vec<RawRecord>>,
    revisions: BTreeMap<String, (Arc<TaskDefinition>, Status)>,
    /// The service revision that AWS still has from before the changes.
    service_revision: Option<Map<String, Value>>,
    clock: i64,
}

/// How a change ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Applied,
    /// The revision is on, the tags are not.
    HalfWay,
    /// Nothing was done, as far as the record knows.
    Nothing,
    /// Nothing was done as far as the record knows, and ECS acted later.
    ActsLater,
    /// ECS rolled the deployment back: the revision, not the tags.
    RolledBack,
}

fn key() -> ServiceKey {
    request(&json!({"service": {"desiredCount": 1}})).service_key
}

fn hidden_key() -> HiddenKey {
    HiddenKey { name: "1".to_owned(), secret: [7; 32] }
}

fn id(n: i64) -> ChangeId {
    ChangeId::new(DateTime::from_timestamp(1_795_000_000 + n * 60, 0).unwrap(), [1; 10])
}

fn arn(revision: usize) -> String {
    format!("arn:aws:ecs:eu-west-1:222222222222:task-definition/web:{revision}")
}

fn service(members: &Map<String, Value>, tags: BTreeMap<String, String>) -> Service {
    Service::new(members.clone(), Some(tags)).unwrap()
}

/// What a restore does: the answer, the calls, and what it says.
struct Outcome {
    answer: String,
    calls: Vec<String>,
    said: String,
    changes: Vec<Difference>,
}

impl Door {
    fn new() -> Self {
        let members = json!({"serviceArn": "arn:s", "clusterArn": "arn:c", "status": "ACTIVE", "createdAt": 1_700_000_000,
            "desiredCount": 4, "enableExecuteCommand": false, "healthCheckGracePeriodSeconds": 5,
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["a"], "securityGroups": ["open"], "assignPublicIp": "DISABLED"}},
            "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": {"enable": true, "rollback": true}}});
        let tags = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let mut door = Self {
            now: Snapshot { service: service(members.as_object().unwrap(), tags), task_definition: None },
            ledger: Vec::new(),
            revisions: BTreeMap::new(),
            service_revision: None,
            clock: 0,
        };
        let definition = json!({"family": "web", "cpu": "256", "containerDefinitions": [
            {"name": "web", "image": "nginx:1", "environment": [{"name": "LEVEL", "value": "info"}]}, {"name": "log", "image": "fluent:1"}]});
        door.deploy(&definition);
        door
    }

    fn register(&mut self, definition: &Value) -> Arc<TaskDefinition> {
        let arn = arn(self.revisions.len() + 1);
        let mut definition = definition.clone();
        definition["taskDefinitionArn"] = arn.as_str().into();
        let body = json!({"taskDefinition": definition}).to_string();
        let registered = Arc::new(TaskDefinition::from_answer(body.as_bytes()).unwrap());
        self.revisions.insert(arn, (Arc::clone(&registered), Status::Active));
        registered
    }

    /// Registers and deploys a definition past the door.
    fn deploy(&mut self, definition: &Value) {
        let definition = self.register(definition);
        self.run(definition);
    }

    fn run(&mut self, definition: Arc<TaskDefinition>) {
        self.now.service = self.now.service.running(&definition.arn);
        self.now.task_definition = Some(definition);
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut members = self.now.service.document();
        edit(&mut members);
        self.now.service = service(members.as_object().unwrap(), self.now.service.tags.clone());
    }

    fn tag(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => _ = self.now.service.tags.insert(key.to_owned(), value.to_owned()),
            None => _ = self.now.service.tags.remove(key),
        }
    }

    /// The definition that runs, with other members.
    fn edit_definition(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut definition = self.now.task_definition.as_deref().unwrap().document();
        edit(&mut definition);
        self.deploy(&definition);
    }

    fn apply(&mut self, update: &Update) {
        if let Some(registration) = &update.register {
            self.deploy(&serde_json::from_str(&registration.document).unwrap());
        } else if let Some(revision) = &update.revision {
            assert!(self.revisions[&revision.arn].1 == Status::Active, "ECS refuses {}", revision.arn);
            self.run(Arc::clone(revision));
        }
        self.edit(|members| {
            for (name, value) in &update.parameters {
                match (value, members[name].as_object_mut()) {
                    (Value::Object(more), Some(has)) if name == "deploymentConfiguration" => has.extend(more.clone()),
                    _ => members[name] = value.clone(),
                }
            }
        });
        self.tags(update);
    }

    fn tags(&mut self, update: &Update) {
        let tags = &mut self.now.service.tags;
        tags.retain(|key, _| !update.tags.remove.contains(key));
        tags.extend(update.tags.set.clone());
    }

    fn hide(state: &mut Value) {
        let members = state["service"].as_object_mut().unwrap();
        for (name, value) in members.iter_mut() {
            *value = hidden(Some(&hidden_key()), &key(), name, value).unwrap();
        }
    }

    fn state(snapshot: &Snapshot) -> String {
        let mut state = serde_json::to_value(snapshot.recorded(None)).unwrap();
        Self::hide(&mut state);
        state["service_revision"] = "arn:service-revision".into();
        state.to_string()
    }

    /// Makes a change through the door.
    fn change(&mut self, event: &Value) -> String {
        self.change_that(event, End::Applied)
    }

    fn change_that(&mut self, event: &Value, end: End) -> String {
        match plan(&request(event), &self.now, None) {
            Plan::Update(update) => self.record(&update, end, None),
            Plan::Unchanged { .. } => self.record_unchanged(None),
            Plan::Refused(failure) => panic!("{failure}"),
        }
    }

    fn record_unchanged(&mut self, restores: Option<&ChangeId>) -> String {
        self.clock += 1;
        let state = Self::state(&self.now);
        let mut record = json!({"change_id": id(self.clock), "seq": self.clock * 10, "kind": "UNCHANGED", "before": state,
            "after": state, "at": format!("minute {}", self.clock)});
        if let Some(restores) = restores {
            record["restores"] = json!(restores);
        }
        self.ledger.insert(0, vec![record.as_object().unwrap().clone()]);
        id(self.clock).to_string()
    }

    fn record(&mut self, update: &Update, end: End, restores: Option<&ChangeId>) -> String {
        self.clock += 1;
        let n = self.clock;
        let before = self.now.clone();
        match end {
            End::Applied | End::ActsLater => self.apply(update),
            End::HalfWay => {
                let tags = self.now.service.tags.clone();
                self.apply(update);
                self.now.service.tags = tags;
            }
            End::RolledBack => self.tags(update),
            End::Nothing => {}
        }
        let after = match end {
            End::ActsLater => Self::state(&before),
            // The answer of UpdateService came before the rollback.
            End::RolledBack => {
                let mut other = Self {
                    now: before.clone(),
                    ledger: Vec::new(),
                    revisions: self.revisions.clone(),
                    service_revision: None,
                    clock: 0,
                };
                other.apply(update);
                self.revisions.clone_from(&other.revisions);
                Self::state(&other.now)
            }
            _ => Self::state(&self.now),
        };
        let hide = |change: &Difference| {
            let hide = |value: &Value| match change.what {
                DifferenceKind::Parameter => hidden(Some(&hidden_key()), &key(), &change.path, value).unwrap(),
                _ => value.clone(),
            };
            Difference { from: hide(&change.from), to: hide(&change.to), ..change.clone() }
        };
        let changes: Vec<Difference> = update.changes.iter().map(hide).collect();
        let result = if matches!(end, End::Applied | End::RolledBack) { "APPLIED" } else { "FAILED" };
        let mut kinds = vec!["STARTED", result];
        kinds.extend((end == End::RolledBack).then_some("ROLLED_BACK"));
        let record = |(place, kind): (usize, &&str)| {
            let mut record = json!({"change_id": id(n), "seq": n * 10 + i64::try_from(place).unwrap(), "kind": kind,
                "requested_by": format!("person {n}"), "identity": "claimed", "at": format!("minute {n}")});
            if let Some(restores) = restores {
                record["restores"] = json!(restores);
            }
            if *kind == "STARTED" {
                record["changes"] = json!(changes).to_string().into();
                record["before"] = Self::state(&before).into();
            } else if *kind == result {
                record["before"] = Self::state(&before).into();
                record["after"] = after.clone().into();
            }
            record.as_object().unwrap().clone()
        };
        self.ledger.insert(0, kinds.iter().enumerate().map(record).collect());
        id(n).to_string()
    }

    /// The recorder hears of a deployment past the door, which `edit` makes.
    fn external(&mut self, edit: impl FnOnce(&mut Self)) -> String {
        let before = Self::state(&self.now);
        edit(self);
        self.clock += 1;
        let record = json!({"change_id": id(self.clock), "seq": self.clock * 10, "kind": "EXTERNAL", "before": before,
            "after": Self::state(&self.now), "at": format!("minute {}", self.clock)});
        self.ledger.insert(0, vec![record.as_object().unwrap().clone()]);
        id(self.clock).to_string()
    }

    /// Everything that is asked of the ledger and of AWS for a restore, as `src/updater/restoring.rs` does.
    fn restoration(&self, change: &ChangeId, mode: RestoreMode) -> Result<Restoration, String> {
        let all: Vec<PastChange> = self.ledger.iter().filter_map(|records| PastChange::read(records)).collect();
        let past = all.iter().find(|past| past.change_id == *change).cloned().ok_or("no such change")?;
        let changes = past.sets()?;
        let before = past.before.clone().ok_or("no before")?;
        let mut restoration = Restoration {
            past,
            changes,
            before,
            mode,
            definition: OldDefinition::InPlace,
            deployed: None,
            service_revision: None,
            hidden: Some(hidden_key()),
            later: all.into_iter().filter(|past| past.change_id > *change).collect(),
            only: None,
        };
        let runs = self.now.service.task_definition_arn();
        if let Some(arn) = restoration.old_revision().filter(|arn| Some(*arn) != runs) {
            let (definition, status) = &self.revisions[arn];
            restoration.definition = match status {
                Status::Active => OldDefinition::Active(Arc::clone(definition)),
                Status::Inactive => OldDefinition::Inactive(Arc::clone(definition)),
                Status::Deleted => OldDefinition::Gone,
            };
        }
        if let Some(arn) = restoration.deployed_revision().filter(|arn| Some(*arn) != runs) {
            let (definition, status) = &self.revisions[arn];
            restoration.deployed = (*status != Status::Deleted).then(|| Arc::clone(definition));
        }
        if restoration.lacks_secrets(&key(), &self.now.service).is_some() {
            restoration.service_revision.clone_from(&self.service_revision);
        }
        Ok(restoration)
    }

    /// Restores through the door; `how` the restore itself ends.
    fn restore_that(&mut self, event: &Value, end: End) -> Outcome {
        let request = request(event);
        let change = match request.restore.as_ref().unwrap() {
            RestorePoint::Change(change) => change.clone(),
            RestorePoint::Previous => {
                let mut search = Search::new(&self.now);
                match self.ledger.iter().find_map(|records| search.look(records)).or_else(|| search.end()) {
                    Some(Previous::Change(change)) => change,
                    Some(Previous::Undone { by, before, .. }) => {
                        let said = format!("undone by {by}; before {before:?}");
                        return Outcome {
                            answer: "UNCHANGED".to_owned(),
                            calls: Vec::new(),
                            said,
                            changes: Vec::new(),
                        };
                    }
                    None => panic!("there is no previous change"),
                }
            }
        };
        let restoration = match self.restoration(&change, request.restore_mode) {
            Ok(restoration) => restoration,
            Err(why) => {
                return Outcome {
                    answer: "JsonValidation".to_owned(),
                    calls: Vec::new(),
                    said: why,
                    changes: Vec::new(),
                };
            }
        };
        match plan(&request, &self.now, Some(&restoration)) {
            Plan::Refused(failure) => {
                assert!(
                    !failure.message.contains(SECRET) && failure.message.contains("Nothing was changed"),
                    "{failure}"
                );
                Outcome {
                    answer: failure.code.to_string(),
                    calls: Vec::new(),
                    said: failure.message,
                    changes: Vec::new(),
                }
            }
            Plan::Unchanged { notes, not_restored, .. } => {
                self.record_unchanged(Some(&change));
                let left: Vec<_> = not_restored.iter().map(|left| left.path.clone()).collect();
                let left = if left.is_empty() { String::new() } else { format!(" (left: {})", left.join(", ")) };
                let said = notes.join("\n") + &json!(not_restored).to_string();
                Outcome { answer: format!("UNCHANGED{left}"), calls: Vec::new(), said, changes: Vec::new() }
            }
            Plan::Update(update) => {
                let calls = calls(&update);
                let said = update.notes.join("\n") + &json!(update.not_restored).to_string();
                assert!(!said.contains(SECRET), "{said}");
                let left: Vec<_> = update.not_restored.iter().map(|left| left.path.clone()).collect();
                let left = if left.is_empty() { String::new() } else { format!(" (left: {})", left.join(", ")) };
                self.record(&update, end, Some(&change));
                Outcome { answer: format!("APPLIED{left}"), calls, said, changes: update.changes.clone() }
            }
        }
    }

    fn restore(&mut self, change: &str) -> Outcome {
        self.restore_that(&json!({"restore": change}), End::Applied)
    }

    fn image(&self) -> String {
        self.now.task_definition.as_deref().unwrap().images()["web"].clone()
    }

    fn old_revision_is(&mut self, status: Status) {
        self.revisions.get_mut(&arn(1)).unwrap().1 = status;
    }
}

/// The calls that an update makes.
fn calls(update: &Update) -> Vec<String> {
    let mut calls = Vec::new();
    if update.register.is_some() {
        calls.push("RegisterTaskDefinition".to_owned());
    }
    if update.updates_service() {
        let mut sent: Vec<String> = Vec::new();
        sent.extend(update.register.is_some().then(|| "the new revision".to_owned()));
        sent.extend(update.revision.as_ref().map(|revision| family_and_revision(&revision.arn).to_owned()));
        for (name, value) in &update.parameters {
            match value.as_object().filter(|_| name == "deploymentConfiguration") {
                Some(members) => sent.extend(members.keys().map(|member| format!("{name}.{member}"))),
                None => sent.push(name.clone()),
            }
        }
        sent.extend(update.force_new_deployment.then(|| "forceNewDeployment".to_owned()));
        calls.push(format!("UpdateService ({})", sent.join(", ")));
    }
    let listed = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>().join(", ");
    if !update.tags.set.is_empty() {
        calls.push(format!("TagResource ({})", listed(update.tags.set.keys().collect())));
    }
    if !update.tags.remove.is_empty() {
        calls.push(format!("UntagResource ({})", listed(update.tags.remove.iter().collect())));
    }
    calls
}

/// A situation: its number, what happens and what is restored, the answer and the calls, and what has to be said.
type Situation = (&'static str, fn(&mut Door) -> Outcome, &'static str, &'static [&'static str]);

fn image(tag: &str) -> Value {
    json!({"ecs_image_name": format!("nginx:{tag}")})
}

fn connect(token: &str) -> Value {
    json!({"enabled": true, "namespace": "n", "logConfiguration": {"logDriver": "splunk",
        "options": {"splunk-token": format!("{SECRET}-{token}")}}})
}

fn code_deploy(door: &mut Door) {
    door.edit(|service| {
        service["deploymentController"] = json!({"type": "CODE_DEPLOY"});
        service["loadBalancers"] = json!([{"targetGroupArn": "arn:green"}]);
    });
}

const SITUATIONS: &[Situation] = &[
    (
        "1",
        |door| {
            let c = door.change(&image("2"));
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "2",
        |door| {
            let c = door.change(&image("2"));
            door.tag("owner", Some("terraform"));
            door.edit(|service| {
                service["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] = json!(["closed"]);
            });
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &["as well, and stay as they are: tag owner, networkConfiguration"],
    ),
    (
        "3",
        |door| {
            let c = door.change(&image("2"));
            door.edit_definition(|it| it["containerDefinitions"][0]["environment"][0]["value"] = "debug".into());
            let outcome = door.restore(&c);
            let runs = door.now.task_definition.as_deref().unwrap().document();
            assert_eq!(runs["containerDefinitions"][0]["environment"][0]["value"], "debug");
            assert_eq!(door.image(), "nginx:1");
            outcome
        },
        "APPLIED: RegisterTaskDefinition + UpdateService (the new revision)",
        &["web:3 runs, which change"],
    ),
    (
        "4",
        |door| {
            let c = door.change(&image("2"));
            door.change(&image("3"));
            door.restore(&c)
        },
        "RestoreConflict",
        &["image web: it is nginx:3", "requested by [claimed] \"person 2\"", "at minute 2", "restore_mode exact"],
    ),
    (
        "5",
        |door| {
            let c = door.change(&image("2"));
            door.change(&image("3"));
            door.change(&image("2"));
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &["set since then too", "person 3", "person 2"],
    ),
    (
        "6",
        |door| {
            let c = door.change(&json!({"ecs_tag": {"x": "1"}, "tag_mode": "merge"}));
            door.tag("x", None);
            door.restore(&c)
        },
        "UNCHANGED",
        &["nothing is left to undo"],
    ),
    (
        "7",
        |door| {
            let c = door.change(&json!({"ecs_tag": {}}));
            door.tag("team", Some("b"));
            door.restore(&c)
        },
        "RestoreConflict",
        &["tag team: it is \"b\" (set past the door, as far as the ledger knows)"],
    ),
    (
        "8",
        |door| {
            let c = door.change(&json!({"ecs_tag": {}}));
            (0..50).for_each(|n| door.tag(&format!("t{n}"), Some("")));
            door.restore(&c)
        },
        "TagUpdateFailed",
        &["there would be 51"],
    ),
    (
        "9",
        |door| {
            let c = door.change(&json!({"force_new_deployment": true}));
            door.restore(&c)
        },
        "UNCHANGED",
        &["forced a new deployment: there is nothing to put back"],
    ),
    (
        "10",
        |door| {
            let c = door.change(&image("1"));
            door.restore(&c)
        },
        "UNCHANGED",
        &["changed nothing"],
    ),
    (
        "10, failed",
        |door| {
            let c = door.change_that(&image("2"), End::Nothing);
            door.restore(&c)
        },
        "UNCHANGED",
        &["ended FAILED"],
    ),
    (
        "11",
        |door| {
            let event = json!({"ecs_image_name": "nginx:2", "ecs_tag": {"x": "1"}});
            let c = door.change_that(&event, End::HalfWay);
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "12",
        |door| {
            let c = door.change_that(&image("2"), End::ActsLater);
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "12, previous",
        |door| {
            door.change(&json!({"ecs_tag": {"x": "1"}, "tag_mode": "merge"}));
            door.change_that(&image("2"), End::ActsLater);
            door.restore("previous")
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "13",
        |door| {
            let c = door.change_that(&image("2"), End::HalfWay);
            door.tag("owner", Some("others"));
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &["stay as they are: tag owner"],
    ),
    (
        "14",
        |door| {
            let c = door.change_that(&image("2"), End::RolledBack);
            door.restore(&c)
        },
        "UNCHANGED",
        &["its deployment ended ROLLED_BACK"],
    ),
    (
        "14, the rest",
        |door| {
            let c = door.change_that(
                &json!({"ecs_image_name": "nginx:2", "ecs_tag": {"x": "1"}, "tag_mode": "merge"}),
                End::RolledBack,
            );
            door.restore(&c)
        },
        "APPLIED: UntagResource (x)",
        &[],
    ),
    (
        "15",
        |door| {
            door.change(&json!({"ecs_tag": {"x": "1"}, "tag_mode": "merge"}));
            door.change_that(&image("2"), End::RolledBack);
            door.restore("previous")
        },
        "UNCHANGED",
        &["its deployment ended ROLLED_BACK"],
    ),
    (
        "16",
        |door| {
            let c = door.change(&image("2"));
            door.restore(&c);
            door.restore(&c)
        },
        "UNCHANGED",
        &["it was undone by change", "person 2"],
    ),
    (
        "17, 18, 22",
        |door| {
            door.change(&image("2"));
            door.change(&image("3"));
            door.restore("previous");
            door.restore("previous")
        },
        "UNCHANGED",
        &["undone by", "before Some"],
    ),
    (
        "19",
        |door| {
            door.change(&json!({"ecs_image_name": "nginx:2", "ecs_tag": {"x": "1"}, "tag_mode": "merge"}));
            door.restore_that(&json!({"restore": "previous"}), End::HalfWay);
            door.restore("previous")
        },
        "APPLIED: UntagResource (x)",
        &[],
    ),
    (
        "20",
        |door| {
            door.change(&image("2"));
            door.restore_that(&json!({"restore": "previous"}), End::RolledBack);
            door.restore("previous")
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "21, redo",
        |door| {
            door.change(&image("2"));
            door.restore("previous");
            door.restore(&id(2).to_string())
        },
        "APPLIED: UpdateService (web:2)",
        &[],
    ),
    (
        "21, undo of the redo",
        |door| {
            door.change(&image("2"));
            door.restore("previous");
            door.restore(&id(2).to_string());
            door.restore(&id(3).to_string())
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "21, redo where another revision runs",
        |door| {
            door.edit_definition(|it| it["cpu"] = "512".into());
            door.change(&image("2"));
            let c = id(1).to_string();
            door.restore_that(&json!({"restore": c, "restore_mode": "exact"}), End::Applied);
            door.edit_definition(|it| it["containerDefinitions"][0]["environment"][0]["value"] = "debug".into());
            door.restore(&id(2).to_string())
        },
        "APPLIED: RegisterTaskDefinition + UpdateService (the new revision)",
        &[],
    ),
    (
        "23",
        |door| {
            door.change(&image("2"));
            door.external(|door| door.edit_definition(|it| it["containerDefinitions"][0]["image"] = "nginx:9".into()));
            door.restore("previous")
        },
        "RestoreConflict",
        &["image web: it is nginx:9", "last set by the deployment past the door"],
    ),
    (
        "24",
        |door| {
            door.change(&image("2"));
            door.external(|door| door.tag("owner", Some("others")));
            door.restore("previous")
        },
        "APPLIED: UpdateService (web:1)",
        &["stay as they are: tag owner"],
    ),
    (
        "25",
        |door| {
            door.change(&image("2"));
            door.edit(|service| service["desiredCount"] = json!(11));
            door.restore("previous")
        },
        "APPLIED: UpdateService (web:1)",
        &["stay as they are: desiredCount"],
    ),
    (
        "26",
        |door| {
            let c = door.change(&json!({"service": {"desiredCount": 0}}));
            door.restore(&c)
        },
        "APPLIED: UpdateService (desiredCount)",
        &[],
    ),
    (
        "27",
        |door| {
            let c = door.change(&json!({"service": {"desiredCount": 8}}));
            door.edit(|service| service["desiredCount"] = json!(11));
            door.restore(&c)
        },
        "UNCHANGED",
        &["desiredCount is 11 now", "an autoscaler may have set it"],
    ),
    (
        "28",
        |door| {
            let breaker =
                json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": false, "rollback": false}}});
            let c = door.change(&json!({"service": breaker}));
            door.edit(|service| {
                service["deploymentConfiguration"]["deploymentCircuitBreaker"]["resetOnHealthyTask"] = json!(true);
            });
            door.restore(&c)
        },
        "APPLIED: UpdateService (deploymentConfiguration.deploymentCircuitBreaker)",
        &[],
    ),
    (
        "29",
        |door| {
            code_deploy(door);
            let c = door.change(&json!({"service": {"healthCheckGracePeriodSeconds": 9}}));
            door.edit(|service| service["loadBalancers"] = json!([{"targetGroupArn": "arn:blue"}]));
            door.restore(&c)
        },
        "APPLIED: UpdateService (healthCheckGracePeriodSeconds)",
        &["stay as they are: loadBalancers"],
    ),
    (
        "29, exact",
        |door| {
            code_deploy(door);
            let c = door.change(&json!({"service": {"healthCheckGracePeriodSeconds": 9}}));
            door.edit(|service| service["loadBalancers"] = json!([{"targetGroupArn": "arn:blue"}]));
            door.restore_that(&json!({"restore": c, "restore_mode": "exact"}), End::Applied)
        },
        "APPLIED (left: loadBalancers): UpdateService (healthCheckGracePeriodSeconds)",
        &["under the deployment controller CODE_DEPLOY"],
    ),
    (
        "29, image",
        |door| {
            let c = door.change(&json!({"ecs_image_name": "nginx:2", "ecs_tag": {"x": "1"}, "tag_mode": "merge"}));
            code_deploy(door);
            door.restore(&c)
        },
        "APPLIED (left: web): UntagResource (x)",
        &["under the deployment controller CODE_DEPLOY"],
    ),
    (
        "30",
        |door| {
            let balancer = json!([{"targetGroupArn": "arn:blue", "advancedConfiguration": {"alternateTargetGroupArn": "arn:green"}}]);
            let c = door.change(&json!({"service": {"loadBalancers": balancer}}));
            door.restore(&c)
        },
        "APPLIED: UpdateService (loadBalancers)",
        &[],
    ),
    (
        "31",
        |door| {
            let c = door.change(&json!({"service": {"platformVersion": "1.4.0"}}));
            door.restore(&c)
        },
        "UNCHANGED (left: platformVersion)",
        &["UpdateService cannot unset it"],
    ),
    (
        "31, a member",
        |door| {
            let canary = json!({"deploymentConfiguration": {"canaryConfiguration": {"canaryPercent": 1.0}, "strategy": "CANARY"}});
            let c = door.change(&json!({"service": canary}));
            door.restore(&c)
        },
        "APPLIED (left: deploymentConfiguration.canaryConfiguration): UpdateService (deploymentConfiguration.strategy)",
        &[],
    ),
    (
        "32",
        |door| {
            let c = door.change(
                &json!({"service": {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}}),
            );
            let outcome = door.restore(&c);
            assert!(outcome.changes.iter().any(|change| change.what == DifferenceKind::Deployment));
            outcome
        },
        "APPLIED: UpdateService (capacityProviderStrategy, forceNewDeployment)",
        &[],
    ),
    (
        "33",
        |door| {
            door.edit_definition(|it| it["taskRoleArn"] = "arn:aws:iam::222222222222:role/app".into());
            let c = door.change(&image("2"));
            door.revisions.get_mut(&arn(2)).unwrap().1 = Status::Inactive;
            door.restore(&c)
        },
        "APPLIED: RegisterTaskDefinition + UpdateService (the new revision)",
        &["web:2 was deregistered since", "may pass arn:aws:iam::222222222222:role/app"],
    ),
    (
        "34",
        |door| {
            let c = door.change(&image("2"));
            door.old_revision_is(Status::Deleted);
            door.restore(&c)
        },
        "APPLIED: RegisterTaskDefinition + UpdateService (the new revision)",
        &["AWS no longer has web:1"],
    ),
    (
        "34, hidden ones",
        |door| {
            door.edit_definition(|it| it["containerDefinitions"][0]["environment"][0]["value"] = "debug".into());
            let c = door.change(&image("2"));
            let restore = json!({"restore": c, "restore_mode": "exact"});
            door.edit_definition(|it| it["containerDefinitions"][0]["environment"][0]["value"] = "trace".into());
            door.restore_that(&restore, End::Applied);
            door.revisions.get_mut(&arn(4)).unwrap().1 = Status::Deleted;
            door.restore(&id(2).to_string())
        },
        "RestoreConflict",
        &["containers.web.environment.LEVEL: records do not hold values that may be secret"],
    ),
    (
        "37",
        |door| {
            door.edit(|service| service["serviceConnectConfiguration"] = connect("one"));
            let c = door.change(&json!({"service": {"serviceConnectConfiguration": connect("two")}}));
            door.service_revision = json!({"serviceConnectConfiguration": connect("one")}).as_object().cloned();
            let outcome = door.restore(&c);
            assert_eq!(door.now.service.parameter("serviceConnectConfiguration"), Some(&connect("one")));
            outcome
        },
        "APPLIED: UpdateService (serviceConnectConfiguration)",
        &[],
    ),
    (
        "37, AWS has neither",
        |door| {
            door.edit(|service| service["serviceConnectConfiguration"] = connect("one"));
            let c = door.change(&json!({"service": {"serviceConnectConfiguration": connect("two")}}));
            door.restore(&c)
        },
        "RestoreConflict",
        &["parameter serviceConnectConfiguration: records do not hold values that may be secret"],
    ),
    (
        "37, set by another",
        |door| {
            door.edit(|service| service["serviceConnectConfiguration"] = connect("one"));
            let c = door.change(&json!({"service": {"serviceConnectConfiguration": connect("two")}}));
            door.edit(|service| service["serviceConnectConfiguration"] = connect("three"));
            door.restore(&c)
        },
        "RestoreConflict",
        &["\"splunk-token\":\"changed\""],
    ),
    (
        "38",
        |door| {
            let c = door.change(&image("2"));
            door.edit(|service| service["createdAt"] = json!(id(1).time().timestamp() + 5));
            door.restore(&c)
        },
        "RestoreConflict",
        &["another service with this name"],
    ),
    (
        "38, within the skew",
        |door| {
            let c = door.change(&image("2"));
            door.edit(|service| service["createdAt"] = json!(id(1).time().timestamp() + 4));
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1)",
        &[],
    ),
    (
        "41",
        |door| {
            let c = door.change(&image("2"));
            door.edit(|service| {
                service["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] = json!(["closed"]);
            });
            let outcome = door.restore_that(&json!({"restore": c, "restore_mode": "exact"}), End::Applied);
            assert!(outcome.changes.iter().any(|change| change.path == "networkConfiguration"), "it is listed");
            outcome
        },
        "APPLIED: UpdateService (web:1, networkConfiguration)",
        &["what was there before change"],
    ),
    (
        "41, the desired count",
        |door| {
            let c = door.change(&json!({"service": {"desiredCount": 8, "enableExecuteCommand": true}}));
            door.restore_that(&json!({"restore": c, "restore_mode": "exact"}), End::Applied)
        },
        "APPLIED: UpdateService (enableExecuteCommand)",
        &[],
    ),
    (
        "null takes a parameter out",
        |door| {
            let c =
                door.change(&json!({"service": {"enableExecuteCommand": true, "healthCheckGracePeriodSeconds": 9}}));
            door.edit(|service| service["healthCheckGracePeriodSeconds"] = json!(11));
            door.restore_that(&json!({"restore": c, "service": {"healthCheckGracePeriodSeconds": null}}), End::Applied)
        },
        "APPLIED (left: healthCheckGracePeriodSeconds): UpdateService (enableExecuteCommand)",
        &["the event gives null for it"],
    ),
    (
        "an EXTERNAL by its id",
        |door| {
            let c = door.external(|door| {
                door.edit_definition(|it| it["containerDefinitions"][0]["image"] = "nginx:9".into());
                door.tag("x", Some("1"));
            });
            door.restore(&c)
        },
        "APPLIED: UpdateService (web:1) + UntagResource (x)",
        &[],
    ),
];

#[test]
fn every_situation_ends_as_it_should() {
    let mut wrong = String::new();
    for (number, happens, expected, words) in SITUATIONS {
        let mut door = Door::new();
        let Outcome { answer, calls, said, .. } = happens(&mut door);
        let is = if calls.is_empty() { answer } else { format!("{answer}: {}", calls.join(" + ")) };
        if is != *expected {
            let _ = writeln!(wrong, "{number}: {is}, not {expected}: {said}");
        }
        for word in words.iter().filter(|word| !said.contains(**word)) {
            let _ = writeln!(wrong, "{number}: {word:?} is not in {said}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A restored service that is restored again is as it was, whatever the change had set.
#[test]
fn an_undo_puts_back_all_that_its_change_set_and_a_redo_sets_it_again() {
    for event in [
        json!({"ecs_image_name": "nginx:2", "ecs_tag": {"x": "1"}}),
        json!({"service": {"enableExecuteCommand": true, "desiredCount": 0, "propagateTags": "SERVICE"}}),
        json!({"service": {"deploymentConfiguration": {"alarms": {"alarmNames": ["a"], "enable": true, "rollback": true}, "maximumPercent": 150}}}),
        json!({"ecs_image_name": "nginx:2", "service": {"serviceConnectConfiguration": {"enabled": true, "namespace": "n"}}}),
    ] {
        let mut door = Door::new();
        let state = |door: &Door| {
            let state = door.now.recorded(None);
            (state.state.images, state.state.tags, state.service)
        };
        let before = state(&door);
        let c = door.change(&event);
        let after = state(&door);
        assert!(door.restore(&c).answer == "APPLIED", "{event}");
        let undone = state(&door);
        assert_eq!((&undone.0, &undone.1), (&before.0, &before.1), "{event}");
        assert!(matches!(door.restore(&c).answer.as_str(), "UNCHANGED"), "once");
        assert!(door.restore(&id(2).to_string()).answer == "APPLIED", "{event}");
        assert_eq!(state(&door), after, "{event}");
    }
}

/// A restore that ended half-way is continued with what is left of it, whatever others set that it does not.
#[test]
fn a_later_attempt_looks_only_at_what_the_first_set_out_to_set() {
    let mut door = Door::new();
    let c =
        door.change(&json!({"ecs_tag": {"x": "1"}, "tag_mode": "merge", "service": {"enableExecuteCommand": true}}));
    door.tag("x", None);
    let request = request(&json!({"restore": c}));
    let change = ChangeId::parse(&c).unwrap();
    let first = door.restoration(&change, RestoreMode::Undo).unwrap();
    let Plan::Update(update) = plan(&request, &door.now, Some(&first)) else { panic!("an update") };
    door.tag("x", Some("of somebody else"));
    let again = Restoration { only: Some(update.changes), ..door.restoration(&change, RestoreMode::Undo).unwrap() };
    let Plan::Update(update) = plan(&request, &door.now, Some(&again)) else { panic!("the rest of it") };
    assert_eq!(calls(&update), ["UpdateService (enableExecuteCommand)"]);
}

/// No value that may be secret is in what is told, and none that is a hash is sent.
#[test]
fn a_hash_is_never_sent() {
    for (_, happens, _, _) in SITUATIONS {
        let mut door = Door::new();
        happens(&mut door);
        let has_hash = |name: &&str| door.now.service.parameter(name).is_some_and(is_hidden);
        let hashes: BTreeSet<&str> =
            crate::ecs::service::PARAMETERS.into_iter().filter(|name| has_hash(name)).collect();
        assert_eq!(hashes, BTreeSet::new());
    }
}

/// What a change sets: its name, its event, and how to see it.
type Sets = (&'static str, fn() -> Value, fn(&Door) -> String);

/// What happens after the change: its name, and how it happens to a service that was changed by an event.
type Since = (&'static str, fn(&mut Door, &str));

fn parameter(door: &Door, name: &str) -> String {
    door.now.service.parameter(name).map_or("none".to_owned(), |value| value.to_string().replace('"', ""))
}

fn runs(door: &Door) -> String {
    let definition = door.now.task_definition.as_deref().unwrap();
    format!("{} in {}", definition.images()["web"], definition.family_and_revision())
}

const SETS: &[Sets] = &[
    ("an image", || image("2"), runs),
    (
        "a tag",
        || json!({"ecs_tag": {"x": "1"}, "tag_mode": "merge"}),
        |door| door.now.service.tags.get("x").map_or("no tag x".to_owned(), |value| format!("tag x is {value}")),
    ),
    (
        "a parameter",
        || json!({"service": {"enableExecuteCommand": true}}),
        |door| parameter(door, "enableExecuteCommand"),
    ),
    (
        "a member of `deploymentConfiguration`",
        || json!({"service": {"deploymentConfiguration": {"maximumPercent": 150}}}),
        |door| door.now.service.parameter("deploymentConfiguration").unwrap()["maximumPercent"].to_string(),
    ),
    ("`desiredCount`", || json!({"service": {"desiredCount": 8}}), |door| parameter(door, "desiredCount")),
];

fn another(what: &str, door: &mut Door) -> Value {
    match what {
        "an image" => image("3"),
        "a tag" => json!({"ecs_tag": {"x": "2"}, "tag_mode": "merge"}),
        // It has two values: somebody else sets it back.
        "a parameter" => {
            door.edit(|service| service["enableExecuteCommand"] = false.into());
            json!({"ecs_tag": {"owner": "others"}, "tag_mode": "merge"})
        }
        "`desiredCount`" => json!({"service": {"desiredCount": 11}}),
        _ => json!({"service": {"deploymentConfiguration": {"maximumPercent": 120}}}),
    }
}

const SINCE: &[Since] = &[
    ("nothing", |_, _| {}),
    ("a later change of the same", |door, what| {
        let event = another(what, door);
        door.change(&event);
    }),
    ("others changed a tag and a security group", |door, _| {
        door.tag("owner", Some("others"));
        door.edit(|service| {
            service["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] = json!(["closed"]);
        });
    }),
    ("past the door: the same", |door, what| {
        let event = another(what, door);
        door.external(|door| match plan(&request(&event), &door.now, None) {
            Plan::Update(update) => door.apply(&update),
            other => panic!("{other:?}"),
        });
    }),
    ("another revision by hand", |door, _| door.edit_definition(|it| it["cpu"] = "512".into())),
    ("deleted and made anew", |door, _| {
        door.edit(|service| service["createdAt"] = json!(id(1).time().timestamp() + 60));
    }),
    ("the revision from before deregistered", |door, _| door.old_revision_is(Status::Inactive)),
    ("the revision from before deleted", |door, _| door.old_revision_is(Status::Deleted)),
    ("an autoscaler moved the count", |door, _| door.edit(|service| service["desiredCount"] = json!(6))),
    ("ECS rolled back", |door, _| {
        let first = Arc::clone(&door.revisions[&arn(1)].0);
        door.run(first);
    }),
];

/// The matrix of `docs/RELIABILITY.md`: `UPDATE_TABLES=1` writes it there.
#[test]
fn the_document_has_the_matrix_of_restores() {
    let mut table = String::from(
        "| the change set | since then | `undo` | then it is | `exact` | then it is |\n|---|---|---|---|---|---|\n",
    );
    for (what, event, look) in SETS {
        for (happened, happens) in SINCE {
            let mut row = format!("| {what} | {happened} |");
            for mode in ["undo", "exact"] {
                let mut door = Door::new();
                let change = door.change(&event());
                happens(&mut door, what);
                let state = |door: &Door| {
                    let state = door.now.recorded(None);
                    (state.state.images, state.state.tags, state.service)
                };
                let now = state(&door);
                let outcome = door.restore_that(&json!({"restore": change, "restore_mode": mode}), End::Applied);
                let then = state(&door);
                if outcome.calls.is_empty() {
                    assert_eq!(
                        now, then,
                        "{what}, {happened}: what was refused, or had nothing to do, changes nothing"
                    );
                }
                if mode == "undo" {
                    let of_others = |state: &(_, Vec<crate::ecs::service::TagState>, Map<String, Value>)| {
                        let tags: Vec<_> = state.1.iter().filter(|tag| tag.key != "x").cloned().collect();
                        (
                            tags,
                            state.2["networkConfiguration"].clone(),
                            state.2["healthCheckGracePeriodSeconds"].clone(),
                        )
                    };
                    assert_eq!(of_others(&now), of_others(&then), "{what}, {happened}: what others set stays");
                }
                let calls = if outcome.calls.is_empty() { "no call".to_owned() } else { outcome.calls.join(", ") };
                let _ = write!(row, " {}: {calls} | {} |", outcome.answer, look(&door));
            }
            table += &row;
            table.push('\n');
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/RELIABILITY.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- restore-matrix -->\n", "<!-- /restore-matrix -->");
    let (before, rest) = document.split_once(begin).expect("the mark before the table");
    let (found, after) = rest.split_once(end).expect("the mark behind the table");
    if std::env::var("UPDATE_TABLES").is_ok_and(|value| value == "1") {
        std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "docs/RELIABILITY.md has another table: `UPDATE_TABLES=1` writes this one");
    }
}
