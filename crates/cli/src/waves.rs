//! Services in waves: the input of a rollout, how it is divided, and what is wrong with it. Values only.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use domain::event::parse::{Defaults, Event, parse};
use domain::event::update_event::UpdateEvent;
use domain::ids::{AccountId, EcsName, Identity, Region};
use jsonschema::{PatternOptions, Registry};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{CommandFailure, Exit};
use crate::text::clean;

/// The most bytes of an execution's input ("Step Functions service quotas" in the AWS Step Functions developer guide).
pub(crate) const MAX_INPUT_BYTES: usize = 262_144;

/// The most services that may be in the input itself: the state machine refuses more. A test compares it with the
/// schema.
const MAX_IN_INPUT: usize = 500;

/// The most faults that a message lists.
const MAX_FAULTS: usize = 20;

/// A service that can go into a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutTarget {
    /// The account that it is in.
    pub account_id: AccountId,
    /// The region that it is in.
    pub region: Region,
    /// Its cluster.
    pub cluster: EcsName,
    /// Its name.
    pub service: EcsName,
}

impl fmt::Display for RolloutTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.account_id, self.region, self.cluster.as_str(), self.service.as_str())
    }
}

impl RolloutTarget {
    /// The service as the input of a rollout names it.
    pub(crate) fn event(&self) -> UpdateEvent {
        UpdateEvent {
            account_id: Some(self.account_id.to_string()),
            region: Some(self.region.to_string()),
            ecs_cluster_name: Some(self.cluster.to_string()),
            ecs_service_name: Some(self.service.to_string()),
            ..UpdateEvent::default()
        }
    }
}

/// The input of a rollout on the wire (`schema/waves-input.schema.json`), as far as this command writes it. A field that is `None` here is
/// left out there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct WavesInput {
    /// What applies to every target that does not set its own value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<UpdateEvent>,
    /// The waves, from first to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<WaveTargets>>,
    /// Seconds to wait after each wave before it is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake_seconds: Option<u32>,
    /// The execution stops if more than this share of a wave failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerated_failure_percentage: Option<u8>,
}

/// The targets of one wave.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum WaveTargets {
    /// The targets themselves.
    Listed(Vec<UpdateEvent>),
    /// The targets that an object in the results bucket lists.
    Object {
        /// Its key.
        key: String,
    },
}

/// How far a rollout has come at the end of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaveStep {
    /// This many have been reached.
    Count(NonZeroUsize),
    /// This share of all has been reached, in percent.
    Percent(u8),
}

impl WaveStep {
    /// How many of `all` have been reached by then.
    fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count.get().min(all),
            // This is rounded up: a tenth of five is one.
            Self::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

impl FromStr for WaveStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a number from 1 or a percentage from 1% to 100%, such as 1,10%,100%";
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(EXPECTED.to_owned()),
            },
            None => text.trim().parse().map(Self::Count).map_err(|_| EXPECTED.to_owned()),
        }
    }
}

/// Where waves end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere: one wave.
    Whole,
    /// After each group of this size.
    Size(NonZeroUsize),
    /// Where each step has been reached. The rest is a wave of its own.
    Steps(Vec<WaveStep>),
}

/// Moves services whose account is in `first` to the front, in the order of `first`. The others keep their order.
pub(crate) fn put_first(targets: &mut [RolloutTarget], first: &[AccountId]) {
    targets.sort_by_key(|target| first.iter().position(|account| *account == target.account_id).unwrap_or(first.len()));
}

/// The units that cannot be divided: each service alone, or all services of an account together (which are next to each
/// other).
pub(crate) fn units(targets: Vec<RolloutTarget>, by_account: bool) -> Vec<Vec<RolloutTarget>> {
    let mut units: Vec<Vec<RolloutTarget>> = Vec::new();
    for target in targets {
        match units.last_mut() {
            Some(unit) if by_account && unit[0].account_id == target.account_id => unit.push(target),
            _ => units.push(vec![target]),
        }
    }
    units
}

/// Divides units into waves. A wave that would be empty is left out.
pub(crate) fn cut(units: Vec<Vec<RolloutTarget>>, how: &Cut) -> Vec<Vec<RolloutTarget>> {
    let all = units.len();
    let ends: Vec<usize> = match how {
        Cut::Whole => vec![all],
        Cut::Size(size) => (1..=all.div_ceil(size.get())).map(|wave| (wave * size.get()).min(all)).collect(),
        Cut::Steps(steps) => steps.iter().map(|step| step.of(all)).chain([all]).collect(),
    };
    let mut units = units.into_iter();
    let mut reached = 0;
    let mut waves = Vec::new();
    for end in ends {
        if end > reached {
            waves.push(units.by_ref().take(end - reached).flatten().collect());
            reached = end;
        }
    }
    waves
}

/// Where the state machine is: services that name no account or no region are there.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    /// Its account; `None` if it is not known.
    pub account_id: Option<AccountId>,
    /// Its region.
    pub region: Region,
}

/// The input of a rollout, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    /// The input as it is sent.
    pub document: Value,
    /// Its waves.
    pub waves: Vec<Wave>,
}

/// One wave of an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wave {
    /// The services in it, in their order.
    Services(Vec<String>),
    /// The object that lists them.
    Object(String),
}

impl Input {
    /// Checks an input as the state machine and the updater will do, before anything is started. Services that name no
    /// account or region are in those of `hub`.
    ///
    /// # Errors
    ///
    /// With every fault and its place.
    pub(crate) fn check(document: Value, hub: &Hub) -> Result<Self, CommandFailure> {
        let inside = document.get("waves").and_then(Value::as_array).into_iter().flatten();
        let inside: usize = inside.filter_map(Value::as_array).map(Vec::len).sum();
        if inside > MAX_IN_INPUT {
            return Err(too_large(format!(
                "there are {inside} services in the input, and the state machine takes {MAX_IN_INPUT}"
            )));
        }
        let faults = schema_faults(&document)?;
        if !faults.is_empty() {
            return Err(refuse(&faults));
        }
        let none = Map::new();
        let change = document.get("change").and_then(Value::as_object).unwrap_or(&none);
        let waves = document.get("waves").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut seen = BTreeMap::new();
        let mut faults = Vec::new();
        let mut checked = Vec::new();
        for (wave, targets) in waves.iter().enumerate() {
            let Some(targets) = targets.as_array() else {
                let key = targets.get("key").and_then(Value::as_str).unwrap_or_default();
                checked.push(Wave::Object(key.to_owned()));
                continue;
            };
            let mut services = Vec::new();
            for (index, target) in targets.iter().enumerate() {
                let place = format!("/waves/{wave}/{index}");
                match service_of(change, target, hub) {
                    Ok(service) => {
                        if let Some(first) = seen.insert(service.clone(), place.clone()) {
                            faults.push(format!("{place}: the same service as {first}: {service}"));
                        }
                        services.push(service);
                    }
                    Err(fault) => faults.push(format!("{place}: {fault}")),
                }
            }
            checked.push(Wave::Services(services));
        }
        if faults.is_empty() { Ok(Self { document, waves: checked }) } else { Err(refuse(&faults)) }
    }

    /// The text that is sent.
    ///
    /// # Errors
    ///
    /// If it is longer than the input of an execution may be.
    pub(crate) fn text(&self) -> Result<String, CommandFailure> {
        let text = self.document.to_string();
        match text.len() {
            0..=MAX_INPUT_BYTES => Ok(text),
            bytes => Err(too_large(format!("the input has {bytes} bytes, and Step Functions takes {MAX_INPUT_BYTES}"))),
        }
    }
}

/// The failure that says where large waves should go.
fn too_large(message: String) -> CommandFailure {
    CommandFailure::new(Exit::Usage, message).advise(
        "Large waves go into objects of the results bucket (output WavesBucketName of hub.yaml): `ecs-updater targets` writes them \
         with --objects, and says how to upload them.",
    )
}

fn refuse(faults: &[String]) -> CommandFailure {
    let mut told = faults.iter().take(MAX_FAULTS).cloned().collect::<Vec<_>>().join("\n");
    if let Some(more) = faults.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
        told = format!("{told}\nand {more} more");
    }
    CommandFailure::new(Exit::Usage, told).code("JsonValidation").advise("Fix the input; nothing was started.")
}

/// The faults that the schema finds.
fn schema_faults(document: &Value) -> Result<Vec<String>, CommandFailure> {
    let broken =
        |fault: String| CommandFailure::new(Exit::Failed, format!("the built-in schema does not compile: {fault}"));
    let schema = |text: &str| serde_json::from_str::<Value>(text).map_err(|fault| broken(fault.to_string()));
    let event = schema(include_str!("../../../schema/update-event.schema.json"))?;
    let input = schema(include_str!("../../../schema/waves-input.schema.json"))?;
    let registry = Registry::new()
        .add("urn:ecs-updater:schema:update-event", event)
        .and_then(jsonschema::RegistryBuilder::prepare)
        .map_err(|fault| broken(fault.to_string()))?;
    let validator = jsonschema::draft202012::options()
        .with_pattern_options(PatternOptions::regex())
        .with_registry(&registry)
        .build(&input)
        .map_err(|fault| broken(fault.to_string()))?;
    let words = |error: jsonschema::ValidationError<'_>| {
        let place = error.instance_path().as_str().to_owned();
        let place = if place.is_empty() { "(input)".to_owned() } else { place };
        // A wave takes one of two forms. If it is a list, its faults as a list are the relevant ones.
        let inner = match error.kind() {
            jsonschema::error::ValidationErrorKind::OneOfNotValid { context } if error.instance().is_array() => {
                context.first().and_then(|faults| faults.first())
            }
            _ => None,
        };
        match inner {
            Some(inner) => format!("{}: {inner}", clean(inner.instance_path().as_str())),
            None => format!("{}: {error}", clean(&place)),
        }
    };
    Ok(validator.iter_errors(document).map(words).collect())
}

/// The service that a target names, according to the updater's own check of the event that change and target make
/// together.
fn service_of(change: &Map<String, Value>, target: &Value, hub: &Hub) -> Result<String, String> {
    // It takes the place of an account that only the function knows.
    const OWN: &str = "000000000000";
    let mut event = change.clone();
    event.extend(target.as_object().cloned().unwrap_or_default());
    let account_id = hub.account_id.clone().or_else(|| AccountId::parse(OWN).ok());
    let defaults = Defaults { account_id, region: hub.region.clone(), identity: Identity::Claimed };
    match parse(Value::Object(event).to_string().as_bytes(), &defaults) {
        Ok(Event::One(request)) => {
            let service = request.service_key.to_string();
            Ok(service.strip_prefix(&format!("{OWN}/")).map(str::to_owned).unwrap_or(service))
        }
        Ok(Event::Many(_)) => Err("not one service".to_owned()),
        Err(failure) => {
            let told = failure.message.lines().next().unwrap_or_default();
            let told = told.split_once("wrong input event format: ").map_or(told, |(_, fault)| fault);
            Err(told.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(account: usize, service: &str) -> RolloutTarget {
        RolloutTarget {
            account_id: AccountId::parse(&format!("{account:012}")).unwrap(),
            region: Region::parse("eu-west-1").unwrap(),
            cluster: EcsName::parse("prod").unwrap(),
            service: EcsName::parse(service).unwrap(),
        }
    }

    fn sizes(services: usize, how: &str) -> Vec<usize> {
        let targets = (0..services).map(|index| target(1, &format!("web-{index}"))).collect();
        let how = match how.strip_prefix("size ") {
            Some(size) => Cut::Size(size.parse().unwrap()),
            None if how.is_empty() => Cut::Whole,
            None => Cut::Steps(how.split(',').map(|step| step.parse().unwrap()).collect()),
        };
        cut(units(targets, false), &how).iter().map(Vec::len).collect()
    }

    #[test]
    fn waves_end_where_they_are_told_to() {
        for (services, how, expected) in [
            (100, "", &[100][..]),
            (100, "1,10%,100%", &[1, 9, 90]),
            (100, "1,10%", &[1, 9, 90]),
            (100, "10,20,100%", &[10, 10, 80]),
            (3, "1,10%,100%", &[1, 2]),
            (1, "1,10%,50%,100%", &[1]),
            (5, "10%,50%", &[1, 2, 2]),
            (101, "50%,99%", &[51, 49, 1]),
            (2, "10,100%", &[2]),
            (10, "size 4", &[4, 4, 2]),
            (8, "size 4", &[4, 4]),
            (3, "size 9", &[3]),
            (0, "1,100%", &[]),
            (0, "size 2", &[]),
            (0, "", &[]),
        ] {
            assert_eq!(sizes(services, how), expected, "{services} by {how:?}");
        }
    }

    #[test]
    fn every_service_is_in_one_wave_in_its_order() {
        for services in 0..40 {
            for how in ["1,10%,100%", "3,3,50%,20%", "100%,1"] {
                let targets: Vec<_> = (0..services).map(|index| target(index / 3, &format!("web-{index}"))).collect();
                let steps = Cut::Steps(how.split(',').map(|step| step.parse().unwrap()).collect());
                for by_account in [true, false] {
                    let waves = cut(units(targets.clone(), by_account), &steps);
                    assert!(waves.iter().all(|wave| !wave.is_empty()));
                    assert_eq!(waves.concat(), targets, "{how}");
                }
            }
        }
    }

    #[test]
    fn an_account_is_not_cut_where_accounts_are_counted() {
        let accounts = [(1, 3), (2, 1), (3, 2)];
        let targets =
            accounts.iter().flat_map(|&(id, count)| (0..count).map(move |index| target(id, &format!("web-{index}"))));
        let waves = cut(units(targets.collect(), true), &Cut::Size(NonZeroUsize::new(2).unwrap()));
        let ids =
            |wave: &Vec<RolloutTarget>| wave.iter().map(|target| target.account_id.to_string()).collect::<Vec<_>>();
        assert_eq!(waves.iter().map(|wave| ids(wave).len()).collect::<Vec<_>>(), [4, 2]);
        assert!(ids(&waves[1]).iter().all(|id| id.ends_with('3')));
    }

    #[test]
    fn accounts_that_are_to_come_first_do_and_the_rest_keeps_its_order() {
        let mut targets = vec![target(1, "a"), target(2, "a"), target(2, "b"), target(3, "a"), target(4, "a")];
        let account = |id: usize| AccountId::parse(&format!("{id:012}")).unwrap();
        put_first(&mut targets, &[account(3), account(2)]);
        let order: Vec<_> = targets.iter().map(|target| (target.account_id.clone(), target.service.as_str())).collect();
        let expected = [(account(3), "a"), (account(2), "a"), (account(2), "b"), (account(1), "a"), (account(4), "a")];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_step_is_a_number_or_a_percentage() {
        assert_eq!("3".parse(), Ok(WaveStep::Count(NonZeroUsize::new(3).unwrap())));
        assert_eq!(" 10%".parse(), Ok(WaveStep::Percent(10)));
        for wrong in ["", "0", "0%", "101%", "-1", "1.5%", "a", "%"] {
            assert!(wrong.parse::<WaveStep>().unwrap_err().contains("1,10%,100%"), "{wrong}");
        }
    }

    fn check(document: Value) -> Result<Vec<Wave>, String> {
        let hub =
            Hub { account_id: AccountId::parse("000000000009").ok(), region: Region::parse("eu-west-1").unwrap() };
        Input::check(document, &hub).map(|input| input.waves).map_err(|failure| failure.message)
    }

    #[test]
    fn an_input_is_checked_as_the_updater_will() {
        let change = json!({"ecs_cluster_name": "prod", "ecs_service_name": "web", "ecs_image_name": "nginx:1"});
        let good = json!({"change": change, "waves": [
            [target(1, "a").event(), {"account_id": "000000000002"}, {}], {"key": "inputs/edge/2.jsonl"}]});
        let services =
            ["000000000001/eu-west-1/prod/a", "000000000002/eu-west-1/prod/web", "000000000009/eu-west-1/prod/web"]
                .map(str::to_owned);
        let waves = vec![Wave::Services(services.to_vec()), Wave::Object("inputs/edge/2.jsonl".to_owned())];
        assert_eq!(check(good.clone()).unwrap(), waves);
        for (place, value, faults) in [
            ("/waves/1", json!([target(1, "a").event()]), &["/waves/1/0: the same service as /waves/0/0"][..]),
            ("/waves/1", json!([{"account_id": "000000000009"}]), &["/waves/1/0: the same service as /waves/0/2"]),
            ("/waves/1", json!([{"region": "eu-west-1"}]), &["/waves/1/0: the same service as /waves/0/2"]),
            ("/waves/1", json!([{"image": "x"}]), &["/waves/1/0", "'image'"]),
            ("/waves/1", json!([]), &["/waves/1"]),
            ("/waves/1", json!({"key": "elsewhere"}), &["/waves/1"]),
            ("/waves", json!([]), &["/waves"]),
            ("/change/ecs_image_name", json!("a:b:c"), &["/waves/0/0: ", "a:b:c"]),
            ("/change", json!({"ecs_cluster_name": "prod"}), &["/waves/0/1: ", "ecs_service_name"]),
            ("/change", json!({"restore": "previous", "ecs_image_name": "nginx"}), &["/waves/0/0: "]),
            ("/bake_seconds", json!(-1), &["/bake_seconds"]),
            ("/more", json!(1), &["(input)", "more"]),
        ] {
            let mut wrong = good.clone();
            match wrong.pointer_mut(place) {
                Some(member) => *member = value,
                None => drop(wrong.as_object_mut().unwrap().insert(place[1..].to_owned(), value)),
            }
            let said = check(wrong).unwrap_err();
            for fault in faults {
                assert!(said.contains(fault), "{place}: {fault}: {said}");
            }
        }
    }

    #[test]
    fn an_input_that_is_too_long_says_what_to_do() {
        let check = |services: usize, reason: &str| {
            let reason = Some(reason.to_owned());
            let target = |index| UpdateEvent { reason: reason.clone(), ..target(index, "web").event() };
            let targets: Vec<UpdateEvent> = (0..services).map(target).collect();
            let input = json!({"change": {"ecs_image_name": "nginx"}, "waves": [targets]});
            Input::check(input, &Hub { account_id: None, region: Region::parse("eu-west-1").unwrap() })?.text()
        };
        assert!(check(500, "release").is_ok());
        let schema: Value = serde_json::from_str(include_str!("../../../schema/waves-input.schema.json")).unwrap();
        assert_eq!(schema.pointer("/properties/waves/items/oneOf/0/maxItems"), Some(&MAX_IN_INPUT.into()));
        for (services, reason, why) in [(501, "release".to_owned(), "501 services"), (500, "r".repeat(1000), "bytes")] {
            let failure = check(services, &reason).unwrap_err();
            assert!(failure.message.contains(why) && failure.advice[0].contains("--objects"), "{failure:?}");
            assert_eq!(failure.exit, Exit::Usage);
        }
    }
}
