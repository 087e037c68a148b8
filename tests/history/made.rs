//! Ledgers made from a seed by the code that writes records, and beside them a plain list of what must be found.

use chrono::{DateTime, Duration, Utc};
use domain::error::{Code, Failure};
use domain::ids::Identity;
use domain::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
use domain::ledger::head::Head;
use domain::ledger::key::Attempt;
use domain::ledger::key::RecordPlace;
use domain::ledger::kind::Kind;
use domain::ledger::record::ChangeContext;
use domain::ledger::record::RawRecord;
use domain::ledger::record::Record;
use domain::ledger::record::RecordFields;
use domain::ledger::record::hash;
use serde::Serialize;
use serde_json::{Value, json};

use crate::table::{HISTORY, STATE, World};

/// When every test asks.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-22T09:30:00.500Z".parse().unwrap()
}

/// What must be found of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub change_id: String,
    pub service: ServiceKey,
    pub repositories: Vec<String>,
    pub requested_by: String,
    pub status: &'static str,
}

/// Everything made so far.
pub(crate) struct Made {
    random: u64,
    pub services: Vec<ServiceKey>,
    pub heads: Vec<Option<Head>>,
    pub changes: Vec<Expected>,
    /// Items that are in no table yet.
    pub items: Vec<RawRecord>,
}

/// How a change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Applied,
    Unchanged,
    Failed,
    /// It began just now, and its lease holds.
    Started,
    Unresolved,
    Abandoned,
    /// Closed as abandoned; then its result came after all.
    Late,
    /// Its deployment went well: a kind of record that only a later version writes.
    Completed,
    /// It did not come through the door.
    External,
}

impl Made {
    pub(crate) fn new(seed: u64, accounts: usize, services: usize) -> Self {
        let services = (0..services).map(|index| service(index % accounts, index)).collect::<Vec<_>>();
        let heads = vec![None; services.len()];
        Self { random: seed, services, heads, changes: Vec::new(), items: Vec::new() }
    }

    /// A number below `end` (splitmix64).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn shape(&mut self) -> Shape {
        match self.below(100) {
            0..70 => Shape::Applied,
            70..80 => Shape::Unchanged,
            80..88 => Shape::Failed,
            88..90 => Shape::Unresolved,
            90..93 => Shape::Abandoned,
            93..95 => Shape::Late,
            _ => Shape::Completed,
        }
    }

    /// Changes of random services, spread over the time before `now`, until there are so many records.
    pub(crate) fn fill(&mut self, records: usize, over: Duration) {
        self.fill_between(records, now() - over, now());
    }

    /// The same between two times.
    pub(crate) fn fill_between(&mut self, records: usize, mut at: DateTime<Utc>, until: DateTime<Utc>) {
        let mut count = 0;
        // The mean of `shape` is about two records.
        let step = (until - at) / i32::try_from(records / 2).unwrap();
        while count < records {
            at += step;
            let (service, shape) = (self.below(self.services.len()), self.shape());
            let before = self.items.len();
            self.change(service, at.min(until), shape);
            count += self.items[before..].iter().filter(|item| item.contains_key("seq")).count();
        }
    }

    /// One change, with all of its records.
    pub(crate) fn change(&mut self, service: usize, at: DateTime<Utc>, shape: Shape) -> Expected {
        let mut random = [0; 10];
        for byte in &mut random {
            *byte = u8::try_from(self.below(256)).unwrap();
        }
        // Ids of one service only grow, as those of the function do.
        let highest = self.heads[service].as_ref().map(|head| head.highest.time() + Duration::milliseconds(1));
        let change_id = ChangeId::new(at.max(highest.unwrap_or(at)), random);
        let mut repositories = vec![format!("registry.example:5000/app-{}", self.below(40))];
        if self.below(20) == 0 {
            repositories.push("fluent".to_owned());
        }
        let requested_by = ["ann", "ben", "release pipeline"][self.below(3)].to_owned();
        let facts = ChangeContext {
            service: self.services[service].clone(),
            change_id: change_id.clone(),
            repositories: repositories.clone(),
            requested_by: Some(requested_by.clone()),
            reason: None,
            // The door lets `ann` and `ben` in.
            identity: if requested_by.contains(' ') { Identity::Claimed } else { Identity::Verified },
            caller: None,
            attempt: Attempt::FIRST,
            session: "ecsu-1".to_owned(),
            request_id: "1".to_owned(),
            sent_at: None,
            restores: None,
            of: None,
            action: None,
            pins: domain::image::ResolvedImages::default(),
        };
        if !matches!(shape, Shape::Unchanged | Shape::External) {
            let lease =
                if shape == Shape::Started { now() + Duration::seconds(1) } else { now() - Duration::seconds(1) };
            let said = RecordFields { lease_until: Some(lease), ..RecordFields::default() };
            self.write(service, &facts, Kind::Started, RecordPlace::STARTED, at, &said, None);
        }
        let error = Failure::new(Code::ServiceUpdateFailed, "no");
        let failed = RecordFields { error: Some(&error), ..RecordFields::default() };
        let plain = RecordFields::default();
        // What closes an orphan stands under the image that the service has by then.
        let closing = ChangeContext { repositories: vec!["another".to_owned()], ..facts.clone() };
        let later = |seconds| at + Duration::milliseconds(seconds);
        match shape {
            Shape::Started | Shape::Unresolved => {}
            Shape::Applied => self.write(service, &facts, Kind::Applied, RecordPlace::RESULT, later(2), &plain, None),
            Shape::Unchanged => {
                self.write(service, &facts, Kind::Unchanged, RecordPlace::RESULT, later(1), &plain, None);
            }
            Shape::External => self.write(service, &facts, Kind::External, RecordPlace::RESULT, later(1), &plain, None),
            Shape::Failed => self.write(service, &facts, Kind::Failed, RecordPlace::RESULT, later(3), &failed, None),
            Shape::Abandoned => {
                self.write(service, &closing, Kind::Abandoned, RecordPlace::RESULT, later(9), &failed, None);
            }
            Shape::Late => {
                self.write(service, &closing, Kind::Abandoned, RecordPlace::RESULT, later(9), &failed, None);
                self.write(service, &facts, Kind::Applied, RecordPlace::Later(2), later(10), &plain, None);
            }
            Shape::Completed => {
                self.write(service, &facts, Kind::Applied, RecordPlace::RESULT, later(2), &plain, None);
                self.write(service, &facts, Kind::Applied, RecordPlace::Later(2), later(99), &plain, Some("COMPLETED"));
            }
        }
        let mut found_under = repositories;
        if matches!(shape, Shape::Abandoned | Shape::Late) {
            found_under.push("another".to_owned());
        }
        let expected = Expected {
            change_id: change_id.to_string(),
            service: self.services[service].clone(),
            repositories: found_under,
            requested_by,
            status: match shape {
                Shape::Applied | Shape::Late => "APPLIED",
                Shape::Unchanged => "UNCHANGED",
                Shape::Failed => "FAILED",
                Shape::Started => "STARTED",
                Shape::Unresolved => "UNRESOLVED",
                Shape::Abandoned => "ABANDONED",
                Shape::Completed => "COMPLETED",
                Shape::External => "EXTERNAL",
            },
        };
        self.changes.push(expected.clone());
        expected
    }

    #[expect(clippy::too_many_arguments, reason = "what a record is made of")]
    fn write(
        &mut self,
        service: usize,
        facts: &ChangeContext,
        kind: Kind,
        place: RecordPlace,
        at: DateTime<Utc>,
        said: &RecordFields<'_>,
        later_kind: Option<&str>,
    ) {
        let (mut record, pointers) = facts.record(kind, place, at, said, self.heads[service].as_ref()).unwrap();
        let mut item = raw(&record);
        if let Some(kind) = later_kind {
            item.insert("kind".to_owned(), kind.into());
            record.hash = hash(&Value::Object(item.clone())).unwrap();
            item.insert("hash".to_owned(), record.hash.as_str().into());
        }
        self.heads[service] = Some(Head::behind(&record, self.heads[service].as_ref(), None));
        self.items.push(item);
        self.items.extend(pointers.iter().map(raw));
    }

    /// Puts what was made into the tables.
    pub(crate) fn store(&mut self, world: &World) {
        world.put(HISTORY, &std::mem::take(&mut self.items));
        let heads: Vec<_> = self
            .services
            .iter()
            .zip(&self.heads)
            .filter_map(|(service, head)| Some(head_item(service, head.as_ref()?)))
            .collect();
        world.put(STATE, &heads);
    }

    /// The changes that pass, as ids and statuses, oldest first.
    pub(crate) fn expected(&self, passes: impl Fn(&Expected) -> bool) -> Vec<(String, String)> {
        let passing = self.changes.iter().filter(|change| passes(change));
        let mut found: Vec<_> = passing.map(|change| (change.change_id.clone(), change.status.to_owned())).collect();
        found.sort();
        found
    }
}

pub(crate) fn service(account: usize, index: usize) -> ServiceKey {
    ServiceKey::new(
        AccountId::parse(&format!("{:012}", 222_222_222_000 + account)).unwrap(),
        Region::parse(["eu-west-1", "us-east-1"][index % 2]).unwrap(),
        EcsName::parse("prod").unwrap(),
        EcsName::parse(&format!("service-{index}")).unwrap(),
    )
}

/// The query for the changes of a service.
pub(crate) fn of_service(service: &ServiceKey) -> Value {
    json!({"account_id": service.account_id().as_str(), "region": service.region().as_str(),
           "ecs_cluster_name": service.cluster(), "ecs_service_name": service.service()})
}

pub(crate) fn raw(item: &impl Serialize) -> RawRecord {
    serde_json::to_value(item).unwrap().as_object().unwrap().clone()
}

pub(crate) fn head_item(service: &ServiceKey, head: &Head) -> RawRecord {
    raw(&json!({"id": Head::id(service), "seq": head.seq, "hash": head.hash, "record": head.record,
                "highest": head.highest, "begun": head.begun.as_ref().map(ToString::to_string).unwrap_or_default(),
                "running": "", "failed": "", "lease_change": "", "lease_attempt": "", "lease_until": "", "lease_key": ""}))
}

/// A record is read back as the type that writes it.
pub(crate) fn typed(item: &RawRecord) -> Record {
    serde_json::from_value(Value::Object(item.clone())).unwrap()
}
