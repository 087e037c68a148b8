//! What the fuzzers of `fuzz/` look for, without them: every input that was ever kept, and inputs near to them, go through the
//! same properties.
//!
//! What a fuzzer finds is kept under `tests/fixtures/fuzz/TARGET/` once it is fixed.

// A property says what is broken by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
// An input is written where it is needed, not where it is fast.
#![allow(clippy::format_collect)]

mod properties;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use properties::{Check, TARGETS, large};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// The longest that one input may take here, where nothing is optimized; the longest of those kept takes two seconds.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What this thread has had of the processors: whatever else runs beside it is not counted.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder that is there, by name.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Where a target's inputs are kept: what it starts from, and what it has found.
fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = [root().join("fuzz/seeds").join(target), root().join("tests/fixtures/fuzz").join(target)];
    folders.iter().filter(|folder| folder.exists()).flat_map(|folder| files(folder)).collect()
}

fn check_of(target: &str) -> Check {
    TARGETS.iter().find(|(name, _)| *name == target).map(|(_, check)| *check).expect("a target")
}

/// Runs a property; how it was broken, where it was.
fn broken(path: &Path, input: &[u8], check: Check) -> Option<String> {
    let before = spent();
    let is_broken = std::panic::catch_unwind(|| check(input)).is_err();
    let name = path.strip_prefix(root()).unwrap().display();
    match spent().saturating_sub(before) {
        _ if is_broken => Some(format!("{name}: see above")),
        took if took > MAX_TIME => Some(format!("{name} took {took:?}")),
        _ => None,
    }
}

#[test]
fn kept_inputs_break_nothing() {
    let mut found = Vec::new();
    for (target, check) in TARGETS {
        let inputs = kept(target);
        assert!(!inputs.is_empty(), "{target} has nothing to start from");
        found.extend(inputs.iter().filter_map(|(path, input)| broken(path, input, check)));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_input_is_kept_under_a_target_and_every_target_is_built() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for folder in ["fuzz/seeds", "tests/fixtures/fuzz"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(&name.as_str()), "{folder}/{name} is no target's");
        }
    }
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let targets = files(&root().join("fuzz/fuzz_targets"));
    assert_eq!(targets.len(), names.len());
    for (path, text) in targets {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(names.contains(&name), "{name} has no property");
        assert!(String::from_utf8(text).unwrap().contains(&format!("{name}::check")), "{name} checks something else");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
    }
}

#[test]
fn the_documents_of_this_project_break_nothing() {
    let mut documents = files(&root().join("tests/events"));
    documents.extend(files(&root().join("tests/fixtures")));
    for (path, schema) in files(&root().join("schema")) {
        let schema: Value = serde_json::from_slice(&schema).unwrap();
        let examples = schema["examples"].as_array().cloned().unwrap_or_default();
        documents.extend(examples.iter().map(|example| (path.clone(), example.to_string().into_bytes())));
    }
    assert!(documents.len() > 12);
    for (path, document) in documents {
        for (_, check) in TARGETS.iter().filter(|(name, _)| !matches!(*name, "large" | "page_token" | "registry")) {
            assert_eq!(broken(&path, &document, *check), None);
        }
    }
}

/// What is seldom in texts, and often where they end.
const SPLINTERS: [&str; 14] =
    ["\"", "\\", "{", "}", "[", "]", ",", ":", "null", "1.0", "\u{202e}", "\0", "9007199254740993", "\\u0000"];

/// The input with some of its bytes replaced, removed, repeated, or taken from another one.
fn changed(mut input: Vec<u8>, other: &[u8], edits: &[(u8, Index, Index, u8)]) -> Vec<u8> {
    for (how, from, to, byte) in edits {
        let (from, to) = (from.index(input.len() + 1), to.index(input.len() + 1));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 64));
        match how % 5 {
            0 if from < input.len() => input[from] = *byte,
            1 => _ = input.drain(from..to),
            2 => {
                let splinter = SPLINTERS[usize::from(*byte) % SPLINTERS.len()];
                _ = input.splice(from..from, splinter.bytes());
            }
            3 => {
                let again = input[from..to].to_vec();
                _ = input.splice(from..from, again);
            }
            _ => {
                let start = usize::from(*byte) * other.len() / 256;
                let piece = other[start..other.len().min(start + to - from)].to_vec();
                _ = input.splice(from..to, piece);
            }
        }
    }
    input
}

#[test]
fn inputs_near_to_kept_ones_break_nothing() {
    for (target, check) in TARGETS.iter().filter(|(name, _)| *name != "large") {
        let inputs: Vec<Vec<u8>> = kept(target).into_iter().map(|(_, input)| input).collect();
        let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
        let edits = vec((any::<u8>(), any::<Index>(), any::<Index>(), any::<u8>()), 0..6);
        proptest!(config, |(one: Index, other: Index, edits in edits)| {
            let input = changed(one.get(&inputs).clone(), other.get::<Vec<u8>>(&inputs), &edits);
            check(&input);
        });
    }
}

/// Names, texts and lists as long as an event may be: work must not grow with the square of the length.
#[test]
fn six_megabytes_are_refused_in_time() {
    let six = 6 * 1024 * 1024 - 1024;
    let long = "n".repeat(six / 2);
    let longer = "n".repeat(six - 200_000);
    let items = vec!["1"; 49_990].join(",");
    let faults: String = (0..49_000).map(|n| format!("\"field-{n}\":{n},")).collect();
    let events = [
        format!("{{\"{longer}\":[{items}]}}"),
        format!("{{\"service\":{{\"loadBalancers\":{{\"{longer}\":[{items}]}}}}}}"),
        format!("{{{faults}\"{long}\":1}}"),
        format!("{{\"ecs_tag\":{{{faults}\"x\":1}}}}"),
        format!("{{\"images\":{{{faults}\"{long}\":\"\\u0000\"}}}}"),
        format!(
            "{{\"updates\":[{}]}}",
            vec![format!("{{{}}}", &faults[..faults.len().min(1_200)].rsplit_once(',').unwrap().0); 500].join(",")
        ),
        format!("{{\"ecs_image_name\":\"{}\"}}", "a/".repeat(six / 2)),
        "[".repeat(six),
        format!("{{\"ecs_service_name\":\"{}\"}}", "\\u0000".repeat(six / 6)),
    ];
    for (index, event) in events.iter().enumerate() {
        let before = spent();
        let refused = domain::event::parse::parse(event.as_bytes(), &properties::event::defaults()).unwrap_err();
        assert!(refused.message.len() < 100_000);
        let took = spent().saturating_sub(before);
        assert!(took < MAX_TIME, "event {index} took {took:?}");
    }
}

#[test]
fn a_large_input_is_made_of_a_small_one() {
    // No room is left by the prefix, and no unit.
    large::check(b"");
    large::check(&[0, large::MARK, b'{', large::MARK, large::MARK, b'}']);
    let large: Check = large::check;
    assert_eq!(check_of("large") as *const (), large as *const ());
}
