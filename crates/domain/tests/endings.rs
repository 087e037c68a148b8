//! How deployments end: what ECS shows, and what is said of it. Prints the table of `docs/RELIABILITY.md`, and fails where that page says
//! something else; `UPDATE_TABLES=1` writes it there.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use chrono::{DateTime, Utc};
use domain::ecs::deployment::outcome::DeploymentStatus;
use domain::ecs::deployment::seen::Seen;
use domain::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary};
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::reason;
use domain::ecs::service::Service;
use domain::ledger::kind::Kind;
use domain::response::Status;
use serde_json::{Value, json};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/RELIABILITY.md");
const BEGIN: &str = "<!-- endings -->\n";
const END: &str = "<!-- /endings -->";

/// The deployments of the cases, by the words of the table: the change's own, the one before, one that came later, and a rollback's.
const OWN: &str = "ecs-svc/2";
const BEFORE: &str = "ecs-svc/1";
const LATER: &str = "ecs-svc/3";
const ROLLBACK: &str = "ecs-svc/4";
const NAMES: [(&str, &str); 4] = [(OWN, "own"), (BEFORE, "before"), (LATER, "later"), (ROLLBACK, "rollback")];

const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start.";
const BACK: &str = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.";
const NO_CANDIDATE: &str = "No rollback candidate was found to run the rollback.";

/// The change's own deployment was created at 1000, and the looks are at 1200.
const CREATED: i64 = 1000;
const NOW: i64 = 1200;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// What ECS shows at one look.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a circumstance of a case, and independent of the others")]
struct Shown {
    /// The deployments of the service; none if it was deleted.
    service: Option<Vec<Value>>,
    /// Whether the circuit breaker rolls back.
    rolls_back: bool,
    /// When the service was created, if that was later.
    made_anew: bool,
    /// Whether the service deployment is still the current one.
    is_current: bool,
    /// The service deployment.
    known: Option<Value>,
    /// Whether only the list of service deployments is to be had.
    is_listed: bool,
}

impl Shown {
    fn deployments(deployments: &[Value]) -> Self {
        Self { service: Some(deployments.to_vec()), is_current: true, ..Self::default() }
    }

    fn rolls_back(self) -> Self {
        Self { rolls_back: true, ..self }
    }

    fn told(self, status: &str, more: &Value) -> Self {
        let mut known = json!({"serviceDeploymentArn": "arn:own", "status": status, "createdAt": CREATED,
            "targetServiceRevision": {"arn": "arn:revision/2"}});
        known.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self { known: Some(known), ..self }
    }

    fn service(&self) -> Option<Service> {
        let mut members = json!({"deployments": self.service.as_ref()?, "createdAt": if self.made_anew { NOW - 10 } else { 0 },
            "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": self.rolls_back, "rollback": self.rolls_back}}});
        if self.known.is_some() {
            members["currentServiceDeployment"] = if self.is_current { "arn:own" } else { "arn:later" }.into();
        }
        Some(Service::new(members.as_object().unwrap().clone(), None).unwrap())
    }

    fn known(&self) -> Option<ServiceDeployment> {
        let mut known = self.known.clone()?;
        if !self.is_listed {
            return Some(serde_json::from_value(known).unwrap());
        }
        known["targetServiceRevisionArn"] = known["targetServiceRevision"]["arn"].clone();
        let summary: ServiceDeploymentSummary = serde_json::from_value(known).unwrap();
        Some(summary.as_listed())
    }

    /// For the table.
    fn words(&self) -> String {
        let Some(deployments) = &self.service else { return "no service".to_owned() };
        let mut words: Vec<String> = deployments.iter().map(named).collect();
        words.push(match (self.rolls_back, self.made_anew) {
            (_, true) => "the service is newer".to_owned(),
            (true, _) => "rolls back".to_owned(),
            _ => String::new(),
        });
        words.retain(|word| !word.is_empty());
        words.join("; ")
    }

    fn known_words(&self) -> String {
        let Some(known) = &self.known else { return "none".to_owned() };
        let mut words = format!("`{}`", known["status"].as_str().unwrap());
        for (name, value) in [
            ("circuit breaker", &known["deploymentCircuitBreaker"]["status"]),
            ("reason", &known["statusReason"]),
            ("rollback", &known["rollback"]["reason"]),
            ("alarms", &known["alarms"]["triggeredAlarmNames"][0]),
        ] {
            if let Some(value) = value.as_str() {
                let _ = write!(words, ", {name}: {}", in_table(value));
            }
        }
        words + if self.is_listed { " (listed, not described)" } else { "" }
    }
}

fn in_table(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
}

/// A deployment in the words of the table.
fn named(deployment: &Value) -> String {
    let id = deployment["id"].as_str().unwrap();
    let name = NAMES.iter().find(|(known, _)| *known == id).map_or(id, |(_, name)| name);
    let rollout = deployment["rolloutState"].as_str();
    let mut words =
        format!("{name}: {} {}", deployment["status"].as_str().unwrap(), rollout.unwrap_or("without a rollout state"));
    if rollout.is_none() {
        let (running, desired) = (&deployment["runningCount"], &deployment["desiredCount"]);
        let _ = write!(words, ", {running} of {desired} tasks run");
    }
    if deployment["desiredCount"] == 0 {
        words += ", 0 tasks wanted";
    }
    if rollout == Some("FAILED") && deployment["updatedAt"] != CREATED {
        let _ = write!(words, " for {} s", NOW - deployment["updatedAt"].as_i64().unwrap());
    }
    if let Some(reason) = deployment["rolloutStateReason"].as_str() {
        let _ = write!(words, " ({})", in_table(reason));
    }
    words
}

fn deployment(id: &str, status: &str, rollout: &str) -> Value {
    let created = match id {
        BEFORE => 900,
        OWN => CREATED,
        _ => 1100,
    };
    let mut deployment = json!({"id": id, "status": status, "taskDefinition": format!("td:{id}"), "createdAt": created,
        "updatedAt": created, "desiredCount": 2, "runningCount": 1, "pendingCount": 1, "rolloutState": rollout});
    if rollout == "FAILED" {
        deployment["rolloutStateReason"] = BREAKER.into();
        deployment["updatedAt"] = (NOW - 30).into();
    }
    deployment
}

fn with(mut deployment: Value, members: &Value) -> Value {
    let object = deployment.as_object_mut().unwrap();
    object.extend(members.as_object().unwrap().clone());
    object.retain(|_, value| !value.is_null());
    deployment
}

/// Every case: how the deployment ended, and what ECS shows at each look at it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<(&'static str, Vec<Shown>)> {
    let own = |rollout| deployment(OWN, "PRIMARY", rollout);
    let left = |rollout| deployment(OWN, "ACTIVE", rollout);
    let old = || deployment(BEFORE, "ACTIVE", "COMPLETED");
    let failed_for = |seconds: i64| with(own("FAILED"), &json!({"updatedAt": NOW - seconds}));
    // The deployment from before, created anew.
    let back = |rollout| with(deployment(BEFORE, "PRIMARY", rollout), &json!({"createdAt": 1100}));
    let back_anew = with(deployment(ROLLBACK, "PRIMARY", "IN_PROGRESS"), &json!({"rolloutStateReason": BACK}));
    let plain = json!({"rolloutState": null, "pendingCount": 0});
    let (none, triggered) =
        (json!({}), json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}, "statusReason": BREAKER}));
    let paused = json!({"lifecycleStage": "POST_SCALE_UP", "lifecycleHookDetails": [
        {"hookId": "hook-1", "status": "AWAITING_ACTION", "expiresAt": NOW + 3600, "timeoutAction": "ROLLBACK"}]});
    let one = |deployment| Shown::deployments(&[deployment]);
    let two = |new, old| Shown::deployments(&[new, old]);
    vec![
        ("goes on", vec![two(own("IN_PROGRESS"), old()).told("IN_PROGRESS", &none)]),
        ("goes on", vec![two(own("IN_PROGRESS"), old())]),
        ("waits at a pause hook", vec![two(own("IN_PROGRESS"), old()).told("IN_PROGRESS", &paused)]),
        ("completed", vec![one(own("COMPLETED")).told("SUCCESSFUL", &none)]),
        ("completed", vec![one(own("COMPLETED"))]),
        (
            "completed, no tasks wanted",
            vec![one(with(own("COMPLETED"), &json!({"desiredCount": 0, "runningCount": 0})))],
        ),
        ("behind a Classic Load Balancer: goes on", vec![two(with(own(""), &plain), with(old(), &plain))]),
        (
            "behind a Classic Load Balancer: completed",
            vec![one(with(with(own(""), &plain), &json!({"runningCount": 2})))],
        ),
        ("failed", vec![two(own("FAILED"), old())]),
        ("failed", vec![two(own("FAILED"), old()).told("STOPPED", &triggered)]),
        ("failed, a rollback may begin", vec![two(own("FAILED"), old()).rolls_back()]),
        ("failed, nothing to go back to", vec![one(failed_for(61)).rolls_back()]),
        (
            "failed, nothing to go back to",
            vec![one(with(own("FAILED"), &json!({"rolloutStateReason": NO_CANDIDATE}))).rolls_back()],
        ),
        (
            "failed, nothing to go back to",
            vec![one(own("FAILED")).rolls_back().told("ROLLBACK_FAILED", &json!({"statusReason": NO_CANDIDATE}))],
        ),
        ("failed, and never rolled back", vec![two(failed_for(601), old()).rolls_back()]),
        ("is rolled back", vec![two(back("IN_PROGRESS"), left("FAILED")).rolls_back()]),
        (
            "is rolled back",
            vec![two(back("IN_PROGRESS"), left("FAILED")).rolls_back().told("ROLLBACK_IN_PROGRESS", &none)],
        ),
        ("rolled back", vec![two(back("COMPLETED"), left("FAILED")).rolls_back()]),
        (
            "rolled back",
            vec![
                one(back("COMPLETED"))
                    .rolls_back()
                    .told("ROLLBACK_SUCCESSFUL", &json!({"rollback": {"reason": BREAKER}})),
            ],
        ),
        (
            "rolled back by an alarm",
            vec![one(back("COMPLETED")).told(
                "ROLLBACK_SUCCESSFUL",
                &json!({"alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["too-slow"]}}),
            )],
        ),
        (
            "rolled back under a new id, seen before it completed",
            vec![
                two(back_anew, left("FAILED")).rolls_back(),
                one(deployment(ROLLBACK, "PRIMARY", "COMPLETED")).rolls_back(),
            ],
        ),
        (
            "rolled back under a new id, never seen",
            vec![one(deployment(ROLLBACK, "PRIMARY", "COMPLETED")).rolls_back()],
        ),
        ("the rollback failed", vec![two(back("FAILED"), left("FAILED")).rolls_back()]),
        (
            "the rollback failed",
            vec![one(back("FAILED")).told("ROLLBACK_FAILED", &json!({"rollback": {"reason": BREAKER}}))],
        ),
        ("another one took over", vec![two(deployment(LATER, "PRIMARY", "IN_PROGRESS"), left("IN_PROGRESS"))]),
        (
            "another one took over",
            vec![two(deployment(LATER, "PRIMARY", "IN_PROGRESS"), left("IN_PROGRESS")).told("STOPPED", &none)],
        ),
        (
            "another one took over, and was rolled back itself",
            vec![
                two(deployment(LATER, "PRIMARY", "IN_PROGRESS"), left("IN_PROGRESS")).told("IN_PROGRESS", &none),
                one(back("COMPLETED")).told("STOPPED", &none),
            ],
        ),
        (
            "stopped by hand",
            vec![one(own("IN_PROGRESS")).told(
                "STOPPED",
                &json!({"statusReason": "Service deployment was stopped.",
            "targetServiceRevision": {"arn": "arn:revision/2"}}),
            )],
        ),
        ("the service was deleted", vec![Shown::default()]),
        ("the service was deleted after it completed", vec![Shown::default().told("SUCCESSFUL", &none)]),
        (
            "the service was deleted and made anew",
            vec![Shown { made_anew: true, ..one(deployment(LATER, "PRIMARY", "COMPLETED")) }],
        ),
        (
            "rolled back, and the role may not describe service deployments",
            vec![Shown {
                is_listed: true,
                ..one(back("COMPLETED")).told("ROLLBACK_SUCCESSFUL", &json!({"statusReason": BREAKER}))
            }],
        ),
        (
            "failed, and the role may not describe service deployments",
            vec![Shown { is_listed: true, ..one(own("FAILED")).told("STOPPED", &json!({"statusReason": BREAKER})) }],
        ),
        ("is not to be seen", vec![one(deployment(BEFORE, "PRIMARY", "COMPLETED"))]),
    ]
}

/// What is said after these looks, by somebody who saw nothing before them.
fn said(looks: &[Shown], undone_by: Option<&str>) -> (DeploymentStatus, Seen) {
    let followed = TrackedDeployment {
        id: OWN,
        before: Some(BEFORE),
        started_at: at(CREATED),
        service_deployment: None,
        undone_by,
    };
    let mut seen = Seen::of(followed);
    let mut standing = DeploymentStatus::Open("nobody looked".to_owned());
    for shown in looks {
        let known = shown.known();
        standing = match shown.service() {
            None => followed.of_deleted(known.as_ref()),
            Some(service) => {
                seen.keep(followed, &service, known.as_ref());
                seen.about(followed).standing(&service, known.as_ref(), at(NOW))
            }
        };
        if let DeploymentStatus::Ended(ending) = standing {
            let ending = seen.ended(*ending).told(known.as_ref(), reason::known);
            standing = DeploymentStatus::Ended(Box::new(ending));
        }
    }
    (standing, seen)
}

fn row(ending: &str, looks: &[Shown]) -> String {
    let (waited, _) = said(looks, None);
    // A sweep looks once; what an earlier one saw of a rollback is noted.
    let (last, earlier) = looks.split_last().unwrap();
    let noted = said(earlier, None).1;
    let (swept, _) = said(std::slice::from_ref(last), noted.undone_by());
    let (answer, record) = match &waited {
        DeploymentStatus::Open(what) => (format!("`TIMED_OUT`: {}", in_table(what)), "–".to_owned()),
        DeploymentStatus::AwaitingAction(pauses) => {
            (format!("`AWAITING_ACTION`: {}", pauses[0]), "`AWAITING_ACTION`, `pause`".to_owned())
        }
        DeploymentStatus::Ended(ending) => {
            let status = serde_json::to_value(Status::of_outcome(ending.kind)).unwrap();
            assert_eq!(status, ending.kind.as_str(), "answer and record say the same");
            let mut detail = serde_json::to_value(&ending.detail).unwrap();
            let reason = detail.as_object_mut().unwrap().remove("reason");
            let reason = reason.map(|reason| format!(": {}", in_table(reason.as_str().unwrap()))).unwrap_or_default();
            let mut members = String::new();
            for name in detail.as_object().unwrap().keys() {
                let _ = write!(members, ", `{name}`");
            }
            (format!("`{}`{reason}", status.as_str().unwrap()), format!("`{}`{members}", ending.kind.as_str()))
        }
    };
    let sweep = match (&swept, &waited) {
        (DeploymentStatus::Open(_), _) => "asks again".to_owned(),
        (DeploymentStatus::AwaitingAction(_), _) => "records the pause, and asks again".to_owned(),
        (swept, waited) if swept == waited => "the same".to_owned(),
        (DeploymentStatus::Ended(ending), _) => {
            assert_eq!((ending.kind, looks.len()), (Kind::Stopped, 2), "a sweep says the same of what it sees");
            "`STOPPED`, or `SUPERSEDED` where the records of the service show the change that took over".to_owned()
        }
    };
    let shown = |words: fn(&Shown) -> String| looks.iter().map(words).collect::<Vec<_>>().join(", and then ");
    format!("| {ending} | {} | {} | {answer} | {record} | {sweep} |\n", shown(Shown::words), shown(Shown::known_words))
}

#[test]
fn the_table_of_endings() {
    let mut table =
        "| the deployment | the service shows | its service deployment | a wait answers | the record | a sweep |\n\
                     |---|---|---|---|---|---|\n"
            .to_owned();
    table.extend(cases().iter().map(|(ending, looks)| row(ending, looks)));
    println!("{table}");
    let document = std::fs::read_to_string(DOCUMENT).expect("the document is there");
    let (head, rest) = document.split_once(BEGIN).expect("the document has its first mark");
    let (body, tail) = rest.split_once(END).expect("the document has its last mark");
    if body == table {
        return;
    }
    assert!(
        std::env::var("UPDATE_TABLES").is_ok_and(|value| value == "1"),
        "docs/RELIABILITY.md has another table: UPDATE_TABLES=1 writes this one"
    );
    std::fs::write(DOCUMENT, format!("{head}{BEGIN}{table}{END}{tail}")).expect("the document is written");
}
