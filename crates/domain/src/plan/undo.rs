//! Pure: puts back what one change set, and nothing else. Each member of the change is looked at by itself: it is as before, as the change
//! set it, or neither. That a member does not exist is a value too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::ecs::service::{IN_REVISION, PARAMETERS, Snapshot};
use crate::ecs::tags::{self, TagChange, TagMode};
use crate::ecs::task_definition::{TaskDefinition, comparable};
use crate::error::{Code, Failure};
use crate::event::request::UpdateRequest;
use crate::ledger::hidden::{hidden, in_words, is_hidden};
use crate::ledger::past::PastChange;
use crate::mask::may_be_secret;
use crate::plan::controller::takes;
use crate::plan::deployment_configuration::{MERGED, put_back_member, same_member};
use crate::plan::desired::{Desired, checked};
use crate::plan::difference::{Difference, DifferenceKind, NotRestored};
use crate::plan::images::{differing_images, registration};
use crate::plan::parameters::{covers_parameter, has_parameter, same_parameter};
use crate::plan::restoration::{
    Conflict, OldDefinition, Restoration, cleared, conflicting, copied, is_about, left_by_controller, unset,
};
use crate::plan::values::covers;
use crate::text::shown;

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// As before the change: there is nothing to do.
    AsBefore,
    /// As the change set it: it is put back.
    AsSet,
    /// Somebody else set it since.
    Neither,
}

/// What is wanted in order to undo a change.
pub(super) fn undone(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Result<Desired, Failure> {
    let mut undo = Undo {
        request,
        snapshot,
        restore,
        controller: controller(snapshot, restore),
        wanted: Desired::default(),
        conflicts: Vec::new(),
        put_back: Vec::new(),
    };
    undo.wanted.notes.push(format!("this puts back what change {} set, and nothing else", restore.change_id()));
    undo.definition()?;
    for change in &restore.changes {
        match change.what {
            DifferenceKind::Parameter if restore.includes(change) => undo.parameter(change),
            DifferenceKind::Deployment => undo.wanted.notes.push(format!(
                "change {} forced a new deployment: there is nothing to put back of that",
                restore.change_id()
            )),
            _ => {}
        }
    }
    undo.tags()?;
    let Undo { mut wanted, conflicts, put_back, .. } = undo;
    if !conflicts.is_empty() {
        return Err(conflicting(request, restore, &conflicts));
    }
    wanted.notes.extend(set_again(restore, &put_back));
    wanted.notes.extend(differs_since(request, snapshot, restore));
    Ok(wanted)
}

/// Why there is nothing to undo.
pub(super) fn why_nothing(restore: &Restoration) -> String {
    let change = restore.change_id();
    let past = &restore.past;
    if past.is_action {
        return format!("change {change} continued or stopped a deployment and set nothing: there is nothing to undo");
    }
    let by = restore.later.iter().find(|later| later.restores.as_ref() == Some(change) && later.ended_well());
    if let Some(by) = by {
        return format!("nothing is left to undo of change {change}: it was undone by {}", by.told());
    }
    if let Some(outcome) = &past.undone_by_ecs {
        return format!("nothing is left to undo of change {change}: its deployment ended {outcome}");
    }
    match past.result.as_deref() {
        Some("UNCHANGED") => format!("change {change} changed nothing: there is nothing to undo"),
        Some(result @ ("FAILED" | "ABANDONED")) => {
            format!("nothing is left to undo of change {change}, which ended {result}")
        }
        _ => format!("nothing is left to undo of change {change}"),
    }
}

/// The deployment controller that the service has after the restore: ECS takes all parameters in the call that sets it.
fn controller<'a>(snapshot: &'a Snapshot, restore: &Restoration) -> &'a str {
    let name = "deploymentController";
    let is = snapshot.service.parameter(name);
    let goes_back = restore.changes.iter().any(|change| {
        change.what == DifferenceKind::Parameter
            && change.path == name
            && has_parameter(name, is, &change.to)
            && same_parameter(name, Some(&change.from), Some(&serde_json::json!({"type": "ECS"})))
    });
    if goes_back { "ECS" } else { snapshot.service.deployment_controller() }
}

struct Undo<'a> {
    request: &'a UpdateRequest,
    snapshot: &'a Snapshot,
    restore: &'a Restoration,
    controller: &'a str,
    wanted: Desired,
    conflicts: Vec<Conflict>,
    /// What is put back: its kind and path.
    put_back: Vec<(DifferenceKind, String)>,
}

impl Undo<'_> {
    fn leaves(&mut self, what: DifferenceKind, path: &str, why: String) {
        self.wanted.not_restored.push(NotRestored { what, path: path.to_owned(), why });
    }

    fn conflict(&mut self, what: DifferenceKind, path: &str, now: String) {
        self.conflicts.push(Conflict::new(what, path, now, &self.restore.later));
    }

    /// Puts back the revision of before where the change's own revision runs, and otherwise each member in what runs now.
    fn definition(&mut self) -> Result<(), Failure> {
        let members = self.restore.definition_members();
        let Some(now) = self.snapshot.task_definition.as_deref() else {
            for change in members.into_iter().filter(|change| change.what != DifferenceKind::Revision) {
                self.leaves(change.what, &change.path, "the service runs no task definition of its own".to_owned());
            }
            return Ok(());
        };
        if members.is_empty() {
            return Ok(());
        }
        self.wanted.targets = members
            .iter()
            .filter(|change| change.what == DifferenceKind::Image)
            .filter_map(|change| Some((change.path.clone(), change.from.as_str()?.to_owned())))
            .collect();
        let old = match &self.restore.definition {
            OldDefinition::InPlace => return Ok(()),
            OldDefinition::Active(old) | OldDefinition::Inactive(old) => Some(old),
            OldDefinition::Gone => None,
        };
        let copy = old.map(|old| registration(old, &BTreeMap::new())).transpose()?;
        if copy.as_ref().is_some_and(|copy| now.matches_registration(&copy.document)) {
            return Ok(());
        }
        if !takes(self.controller, "taskDefinition") {
            for change in members.into_iter().filter(|change| change.what != DifferenceKind::Revision) {
                self.leaves(change.what, &change.path, left_by_controller(self.controller));
            }
            return Ok(());
        }
        let (Some(old), Some(copy)) = (old, copy) else { return self.members(now, None, &members) };
        if !self.runs_its_revision(now, old, &members)? {
            return self.members(now, Some(old), &members);
        }
        self.put_back.extend(members.iter().map(|change| (change.what, change.path.clone())));
        if let OldDefinition::Active(old) = &self.restore.definition {
            self.wanted.revision = Some(Arc::clone(old));
        } else {
            self.wanted.notes.push(copied(old));
            self.wanted.register = Some(copy);
        }
        self.wanted.images = differing_images(&old.images(), Some(now));
        Ok(())
    }

    /// Whether the service runs the revision that the change made: the one that its result names, or one that is the revision of before
    /// with the change's images.
    fn runs_its_revision(
        &self,
        now: &TaskDefinition,
        old: &TaskDefinition,
        members: &[&Difference],
    ) -> Result<bool, Failure> {
        if self.restore.past.deployed() == Some(now.arn.as_str()) {
            return Ok(true);
        }
        if members.iter().any(|change| change.what == DifferenceKind::Definition) {
            return Ok(false);
        }
        let image = |change: &&&Difference| change.what == DifferenceKind::Image;
        let set: BTreeMap<_, _> = members
            .iter()
            .filter(image)
            .filter_map(|change| Some((change.path.clone(), change.to.as_str()?.to_owned())))
            .collect();
        let made = registration(old, &differing_images(&set, Some(old)))?;
        Ok(now.matches_registration(&made.document))
    }

    fn members(
        &mut self,
        now: &TaskDefinition,
        old: Option<&TaskDefinition>,
        members: &[&Difference],
    ) -> Result<(), Failure> {
        let mut images = BTreeMap::new();
        let mut set: BTreeMap<String, Option<Box<RawValue>>> = BTreeMap::new();
        let has = now.images();
        for change in members {
            let path = change.path.as_str();
            match change.what {
                DifferenceKind::Image => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let (from, to, is) =
                        (text(&change.from), text(&change.to), has.get(path).cloned().unwrap_or_default());
                    if is == from {
                        continue;
                    }
                    // A container that was not there is put back, or removed, as a whole.
                    if is == to && (from.is_empty() || !has.contains_key(path)) {
                        continue;
                    }
                    if is == to {
                        self.put_back.push((change.what, path.to_owned()));
                        images.insert(path.to_owned(), (is, from));
                    } else {
                        let now =
                            if is.is_empty() { "no container has that name".to_owned() } else { format!("it is {is}") };
                        self.conflict(change.what, path, now);
                    }
                }
                DifferenceKind::Definition => match self.member(now, old, change) {
                    Member::AsBefore => {}
                    Member::Back(value) => {
                        self.put_back.push((change.what, path.to_owned()));
                        set.insert(path.to_owned(), value);
                    }
                    Member::Conflict(now) => self.conflict(change.what, path, now),
                    Member::Unknown => {
                        let why = "records do not hold values that may be secret, and AWS no longer has what it was";
                        self.conflicts.push(Conflict::unknown(change.what, path, why.to_owned()));
                    }
                    Member::Left(why) => self.leaves(change.what, path, why),
                },
                _ => {}
            }
        }
        if images.is_empty() && set.is_empty() {
            return Ok(());
        }
        let unreadable = |error: serde_json::Error| {
            Failure::new(
                Code::TaskDefinitionRejected,
                format!("from {}: its containers cannot be read: {error}", now.family_and_revision()),
            )
        };
        let base = now.with_members(&set).map_err(unreadable)?;
        let was = self.restore.before_revision();
        self.wanted.notes.push(match old {
            Some(_) => format!(
                "{} runs, which change {} did not deploy: what it set is put back in that, and the rest stays",
                now.family_and_revision(),
                self.restore.change_id()
            ),
            None => format!(
                "AWS no longer has {was}: what change {} set is put back in {}",
                self.restore.change_id(),
                now.family_and_revision()
            ),
        });
        self.wanted.register = Some(registration(&base, &images)?);
        self.wanted.images = images;
        Ok(())
    }

    fn member(&self, now: &TaskDefinition, old: Option<&TaskDefinition>, change: &Difference) -> Member {
        let path = change.path.as_str();
        if path == "tags" {
            return Member::Left("the tags of a task definition go back with its revision alone".to_owned());
        }
        let is_secret = path.split('.').any(may_be_secret) || path.split('.').count() == 2;
        let value = |raw: Option<Box<RawValue>>| -> Value {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).map(comparable).unwrap_or_default()
        };
        let literal = |value: &Value| serde_json::value::to_raw_value(value).ok().filter(|_| !value.is_null());
        let is = value(now.member(path));
        let from = match old {
            Some(old) => Some(old.member(path)),
            None if is_secret => None,
            None => Some(literal(&change.from)),
        };
        let to = match self.restore.deployed.as_deref() {
            Some(deployed) => Some(deployed.member(path)),
            None if is_secret => None,
            None => Some(literal(&change.to)),
        };
        let words = || if is_secret { "it is changed".to_owned() } else { told(&is) };
        match (from, to) {
            (Some(from), _) if value(from.clone()) == is => Member::AsBefore,
            (Some(from), Some(to)) if value(to.clone()) == is => Member::Back(from),
            (None, _) => Member::Unknown,
            _ => Member::Conflict(words()),
        }
    }

    fn parameter(&mut self, change: &Difference) {
        let name = change.path.as_str();
        let what = DifferenceKind::Parameter;
        // What the event itself asks for takes its place.
        if self.request.parameters.contains_key(name) {
            return;
        }
        let service = &self.snapshot.service;
        if !service.shows(name) {
            let why =
                "ECS does not show what the service has for it, so that it is not known whether somebody set it since";
            return self.leaves(what, name, why.to_owned());
        }
        let is = service.parameter(name).filter(|value| !value.is_null());
        let seen = is.map(|is| hidden(self.restore.hidden.as_ref(), &self.request.service_key, name, is));
        let seen = seen.and_then(Result::ok);
        if name == MERGED {
            let mut back = Map::new();
            for member in change.to.as_object().into_iter().flat_map(Map::keys) {
                let path = format!("{name}.{member}");
                let of = |value: Option<&Value>| {
                    value.and_then(|value| value.get(member)).filter(|it| !it.is_null()).cloned()
                };
                let (from, to, seen) = (of(Some(&change.from)), of(Some(&change.to)), of(seen.as_ref()));
                let same = |other: &Option<Value>| same_member(member, seen.as_ref(), other.as_ref());
                let covers = to.as_ref().is_some_and(|to| covers(seen.as_ref(), to, false));
                let standing = match (same(&from), same(&to) || covers) {
                    (true, _) => Standing::AsBefore,
                    (false, true) => Standing::AsSet,
                    (false, false) => Standing::Neither,
                };
                let is = of(is);
                let told = in_words(from.as_ref().unwrap_or(&Value::Null), seen.as_ref().unwrap_or(&Value::Null)).1;
                let Some(from) = self.goes_back(standing, &path, from.as_ref(), is.as_ref(), &told) else { continue };
                let from = Some(from).filter(|from| !from.is_null());
                match put_back_member(member, from.as_ref(), is.as_ref()) {
                    Some(value) => _ = back.insert(member.clone(), value),
                    None => self.leaves(what, &path, unset(&path)),
                }
            }
            if !back.is_empty() {
                self.wanted.parameters.insert(name.to_owned(), back.into());
            }
            return;
        }
        let from = Some(&change.from).filter(|from| !from.is_null());
        let standing = if same_parameter(name, seen.as_ref(), from) {
            Standing::AsBefore
        } else if is_as_set(name, seen.as_ref(), &change.to) {
            Standing::AsSet
        } else {
            Standing::Neither
        };
        if name == "desiredCount" && standing == Standing::Neither && !self.request.left_alone.contains(name) {
            self.wanted.notes.push(format!(
                "desiredCount is {} now, and change {} set {}: it stays as it is, since an autoscaler may have set it. Give it in `service` \
                 to set it",
                shown(is.unwrap_or(&Value::Null)),
                self.restore.change_id(),
                shown(&change.to)
            ));
            return;
        }
        let words = in_words(&change.from, seen.as_ref().unwrap_or(&Value::Null)).1;
        let Some(from) = self.goes_back(standing, name, from, is, &words) else { return };
        let from = Some(from).filter(|from| !from.is_null());
        match from.or_else(|| cleared(name)) {
            Some(from) if same_parameter(name, is, Some(&from)) => {}
            Some(from) => _ = self.wanted.parameters.insert(name.to_owned(), from),
            None => self.leaves(what, name, unset(name)),
        }
    }

    /// The value that goes back, null for one that did not exist; otherwise it is noted why the parameter stays.
    fn goes_back(
        &mut self,
        standing: Standing,
        path: &str,
        from: Option<&Value>,
        is: Option<&Value>,
        words: &Value,
    ) -> Option<Value> {
        let name = path.split('.').next().unwrap_or(path);
        let what = DifferenceKind::Parameter;
        if standing == Standing::AsBefore {
            return None;
        }
        if self.request.left_alone.contains(name) {
            self.leaves(what, path, "the event gives null for it".to_owned());
            return None;
        }
        if !takes(self.controller, name) {
            self.leaves(what, path, left_by_controller(self.controller));
            return None;
        }
        if standing == Standing::Neither {
            self.conflict(what, path, told(words));
            return None;
        }
        let known = match from {
            Some(from) if is_hidden(from) => {
                let known = self.restore.known(&self.request.service_key, path, from, is);
                if known.is_none() {
                    let now = "records do not hold values that may be secret, and AWS no longer has what it was";
                    self.conflicts.push(Conflict::unknown(what, path, now.to_owned()));
                }
                known?
            }
            from => from.cloned().unwrap_or_default(),
        };
        self.put_back.push((what, path.to_owned()));
        Some(known)
    }

    fn tags(&mut self) -> Result<(), Failure> {
        let current = &self.snapshot.service.tags;
        let mut wanted: BTreeMap<String, String> = current.clone();
        let changes: Vec<_> = self.restore.changes.iter().filter(|change| change.what == DifferenceKind::Tag).collect();
        for change in changes.into_iter().filter(|change| self.restore.includes(change)) {
            let key = &change.path;
            let is = current.get(key).map_or(Value::Null, |value| value.as_str().into());
            if is == change.from || tags::is_reserved(key) {
                continue;
            }
            if is != change.to {
                self.conflict(change.what, key, told(&is));
                continue;
            }
            self.put_back.push((change.what, key.clone()));
            match change.from.as_str() {
                Some(value) => _ = wanted.insert(key.clone(), value.to_owned()),
                None => _ = wanted.remove(key),
            }
        }
        wanted.retain(|key, _| !tags::is_reserved(key));
        let difference = tags::difference(current, &TagChange { mode: TagMode::Replace, tags: wanted });
        self.wanted.tags =
            checked(difference, self.request, "Remove others first: a restore removes only what its change added")?;
        Ok(())
    }
}

/// What becomes of a member of the task definition.
enum Member {
    AsBefore,
    /// It gets this value; `None` removes it.
    Back(Option<Box<RawValue>>),
    /// It is neither as before nor as the change set it; the text says what it is.
    Conflict(String),
    /// What it was is known neither to the records nor to AWS.
    Unknown,
    Left(String),
}

fn is_as_set(name: &str, seen: Option<&Value>, to: &Value) -> bool {
    if to.is_null() {
        return same_parameter(name, seen, None);
    }
    has_parameter(name, seen, to) || covers_parameter(name, seen, to)
}

/// A value for people.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "it is gone".to_owned(),
        value => format!("it is {}", shown(value)),
    }
}

/// Which later changes set something that is put back, and left it as the change had set it.
fn set_again(restore: &Restoration, put_back: &[(DifferenceKind, String)]) -> Option<String> {
    let sets = |later: &&PastChange| {
        let sets = later.sets().unwrap_or_default();
        put_back.iter().any(|(what, path)| sets.iter().any(|change| is_about(change, *what, path)))
    };
    let later: Vec<String> = restore.later.iter().filter(sets).map(PastChange::told).collect();
    (!later.is_empty()).then(|| {
        format!("set since then too, and left as change {} had it, by: {}", restore.change_id(), later.join("; "))
    })
}

/// What else differs from what the change left: it stays as it is.
fn differs_since(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Option<String> {
    let after = restore.past.after.as_ref().or(restore.past.before.as_ref()).filter(|after| !after.is_shortened())?;
    let is_its = |what: DifferenceKind, path: &str| {
        restore.changes.iter().any(|change| change.what == what && change.path == path)
    };
    let was: BTreeMap<&str, &str> = after.state.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
    let is: BTreeMap<&str, &str> =
        snapshot.service.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let keys: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
    let differs =
        |key: &&str| was.get(key) != is.get(key) && !tags::is_reserved(key) && !is_its(DifferenceKind::Tag, key);
    let tags = keys.into_iter().filter(differs).map(|key| format!("tag {key}"));
    let parameters = PARAMETERS.into_iter().filter(|name| {
        let is = snapshot.service.parameter(name);
        let is = is.and_then(|is| hidden(restore.hidden.as_ref(), &request.service_key, name, is).ok());
        !IN_REVISION.contains(name)
            && !is_its(DifferenceKind::Parameter, name)
            && !same_parameter(name, is.as_ref(), after.service.get(*name))
    });
    let named: Vec<String> = tags.chain(parameters.map(str::to_owned)).take(20).collect();
    (!named.is_empty()).then(|| {
        format!(
            "these have changed since change {} as well, and stay as they are: {}",
            restore.change_id(),
            named.join(", ")
        )
    })
}
