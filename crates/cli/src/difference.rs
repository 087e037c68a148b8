//! Pure: what differs between two states of a service, and what a plan would change, line by line for people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::answers::{HistoryChange, PlannedChange, StateView};
use crate::text::clean;

/// One difference. Its texts are clean, so they may be written to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// `image`, `tag`, `parameter`, `task definition`, `deployment`.
    pub what: String,
    /// Which one: container, tag key or parameter. Empty if there is only one.
    pub path: String,
    /// The former value; `None` if there was none.
    pub from: Option<String>,
    /// The new value; `None` if it was removed.
    pub to: Option<String>,
}

impl Difference {
    fn new(what: &str, path: &str, from: Option<&str>, to: Option<&str>) -> Self {
        Self { what: clean(what), path: clean(path), from: from.map(clean), to: to.map(clean) }
    }

    /// What the difference is about, such as `image web`. The names of `UpdateService`'s parameters speak for
    /// themselves.
    pub(crate) fn title(&self) -> String {
        match (self.what.as_str(), self.path.as_str()) {
            (what, "") => what.to_owned(),
            ("parameter", path) => path.to_owned(),
            (what, path) => format!("{what} {path}"),
        }
    }

    /// The whole difference on one line, such as `image web: busybox → nginx:1.27`.
    pub(crate) fn line(&self) -> String {
        let title = self.title();
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{title}: {from} → {to}"),
            (None, Some(to)) => format!("+ {title}: {to}"),
            (Some(from), None) => format!("- {title}: {from}"),
            (None, None) => title,
        }
    }
}

/// What differs between two states.
pub(crate) fn of_states(before: Option<&StateView>, after: Option<&StateView>) -> Vec<Difference> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut differences = Vec::new();
    of_maps("image", &before.all_images(), &after.all_images(), &mut differences);
    of_maps("tag", &tags(before), &tags(after), &mut differences);
    let names: BTreeSet<&String> = before.service.keys().chain(after.service.keys()).collect();
    for name in names {
        of_values(name, before.service.get(name), after.service.get(name), false, &mut differences);
    }
    // The revision is unknown if a change has not registered it: that is no difference.
    if after.task_definition_arn.is_some() && before.revision() != after.revision() {
        differences.push(Difference::new("task definition", "", before.revision(), after.revision()));
    }
    differences
}

/// What would change according to a dry run.
pub(crate) fn of_plan(changes: &[PlannedChange]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for change in changes {
        if change.what == "parameter" {
            of_values(&change.path, present(&change.from), present(&change.to), true, &mut differences);
        } else {
            let (from, to) = (present(&change.from).map(shown), present(&change.to).map(shown));
            differences.push(Difference::new(&change.what, &change.path, from.as_deref(), to.as_deref()));
        }
    }
    differences
}

/// What a change made different: the differences between its states, and those of its planned settings that the states do not have. If the
/// change was not done as a whole (`is_done`), the latter are only what came with a revision, and only if another revision runs.
pub(crate) fn of_change(
    changes: Option<&[PlannedChange]>,
    before: Option<&StateView>,
    after: Option<&StateView>,
    is_done: bool,
) -> Vec<Difference> {
    let mut differences = of_states(before, after);
    let is_revised = before.and_then(StateView::revision) != after.and_then(StateView::revision) && after.is_some();
    let planned = changes.unwrap_or_default().iter().filter(|change| match change.what.as_str() {
        "definition" => is_revised,
        // The states say which revision runs.
        "revision" => false,
        _ => is_done,
    });
    for planned in planned {
        for difference in of_plan(std::slice::from_ref(planned)) {
            if !differences.iter().any(|shown| shown.title() == difference.title()) {
                differences.push(difference);
            }
        }
    }
    differences
}

/// The differences, with only the first of those that came with a revision, and how many more there are: a list has no room for a whole
/// task definition.
pub(crate) fn shortened(mut differences: Vec<Difference>) -> (Vec<Difference>, usize) {
    const MAX_SHOWN: usize = 4;
    let mut seen = 0;
    let all = differences.len();
    differences.retain(|difference| {
        seen += usize::from(difference.what == "definition");
        difference.what != "definition" || seen <= MAX_SHOWN
    });
    let more = all - differences.len();
    (differences, more)
}

fn tags(state: &StateView) -> BTreeMap<&str, &str> {
    state.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect()
}

fn of_maps(what: &str, before: &BTreeMap<&str, &str>, after: &BTreeMap<&str, &str>, into: &mut Vec<Difference>) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (from, to) = (before.get(key).copied(), after.get(key).copied());
        if from != to {
            into.push(Difference::new(what, key, from, to));
        }
    }
}

/// Descends to the members that differ. `subset`: a request leaves out what AWS fills in, so a member which `to` does not name stays as it
/// is.
fn of_values(path: &str, from: Option<&Value>, to: Option<&Value>, subset: bool, into: &mut Vec<Difference>) {
    if from == to {
        return;
    }
    if let (Some(Value::Object(from)), Some(Value::Object(to))) = (from, to) {
        for name in members(from, to, subset) {
            let path = format!("{path}.{name}");
            of_values(&path, from.get(name).and_then(present), to.get(name).and_then(present), subset, into);
        }
        return;
    }
    into.push(Difference::new("parameter", path, from.map(shown).as_deref(), to.map(shown).as_deref()));
}

fn members<'a>(from: &'a Map<String, Value>, to: &'a Map<String, Value>, subset: bool) -> BTreeSet<&'a String> {
    let of_from = from.keys().filter(|_| !subset);
    to.keys().chain(of_from).collect()
}

fn present(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null())
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl HistoryChange {
    /// What the change made different.
    pub(crate) fn differences(&self) -> Vec<Difference> {
        let failed = ["FAILED", "ABANDONED", "STARTED", "UNRESOLVED"];
        let is_done = self.status.as_deref().is_some_and(|status| !failed.contains(&status));
        of_change(self.changes.as_deref(), self.before.as_ref(), self.after.as_ref(), is_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::read;
    use serde_json::json;

    fn lines(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(Difference::line).collect()
    }

    #[test]
    fn two_states_differ_in_images_tags_parameters_and_revision() {
        let before: StateView = read(
            &json!({"images": {"web": "busybox", "log": "fluent"}, "taskDefinitionArn": "a/web:7",
            "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "1"}],
            "service": {"desiredCount": 2, "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 50}}}),
        );
        let after: StateView = read(
            &json!({"images": {"web": "nginx:1.27", "log": "fluent"}, "taskDefinitionArn": "a/web:8",
            "tags": [{"key": "b", "value": "\u{1b}2"}, {"key": "c", "value": "3"}],
            "service": {"desiredCount": 2, "deploymentConfiguration": {"maximumPercent": 150, "minimumHealthyPercent": 50}}}),
        );
        assert_eq!(
            lines(&of_states(Some(&before), Some(&after))),
            [
                "image web: busybox → nginx:1.27",
                "- tag a: 1",
                "tag b: 1 → �2",
                "+ tag c: 3",
                "deploymentConfiguration.maximumPercent: 200 → 150",
                "task definition: web:7 → web:8",
            ]
        );
        assert_eq!(of_states(Some(&before), Some(&before)), []);
        assert_eq!(of_states(Some(&before), None), []);
    }

    #[test]
    fn a_change_is_what_its_states_show_and_what_came_with_its_revision() {
        let changes: Vec<PlannedChange> = read(&json!([
            {"what": "image", "path": "web", "from": "busybox", "to": "nginx"},
            {"what": "revision", "path": "taskDefinition", "from": "a/web:7", "to": "a/web:8"},
            {"what": "definition", "path": "taskRoleArn", "from": "one", "to": "other"},
            {"what": "parameter", "path": "enableExecuteCommand", "from": false, "to": true},
        ]));
        let state = |image: &str, revision: &str| -> StateView {
            read(&json!({"images": {"web": image}, "taskDefinitionArn": format!("a/{revision}")}))
        };
        let (before, after) = (state("busybox", "web:7"), state("nginx", "web:8"));
        let of = |after: &StateView, is_done| lines(&of_change(Some(&changes), Some(&before), Some(after), is_done));
        let seen = ["image web: busybox → nginx", "task definition: web:7 → web:8"];
        let role = "definition taskRoleArn: one → other";
        assert_eq!(of(&after, true), [seen[0], seen[1], role, "enableExecuteCommand: false → true"]);
        assert_eq!(of(&after, false), [seen[0], seen[1], role]);
        assert_eq!(of(&before, false), [""; 0], "nothing came of it");
        assert_eq!(lines(&of_change(None, Some(&before), Some(&after), true)), seen);
        let many: Vec<_> = (0..9).map(|index| Difference::new("definition", &index.to_string(), None, None)).collect();
        let (few, more) = shortened(many);
        assert_eq!((few.len(), more), (4, 5));
    }

    #[test]
    fn a_plan_leaves_out_what_it_leaves_alone() {
        let changes: Vec<PlannedChange> = read(&json!([
            {"what": "image", "path": "web", "from": "busybox", "to": "nginx"},
            {"what": "tag", "path": "old", "from": "1", "to": null},
            {"what": "parameter", "path": "deploymentConfiguration",
             "from": {"maximumPercent": 200, "minimumHealthyPercent": 100}, "to": {"maximumPercent": 150}},
            {"what": "parameter", "path": "loadBalancers", "from": [{"containerPort": 80}], "to": []},
            {"what": "deployment", "path": "forceNewDeployment", "from": null, "to": true},
        ]));
        assert_eq!(
            lines(&of_plan(&changes)),
            [
                "image web: busybox → nginx",
                "- tag old: 1",
                "deploymentConfiguration.maximumPercent: 200 → 150",
                "loadBalancers: [{\"containerPort\":80}] → []",
                "+ deployment forceNewDeployment: true",
            ]
        );
    }
}
