//! Long inputs: work grows with their length, and not with its square. Fuzzers find no long input by themselves, so a short one
//! says how it is made: `target, prefix, unit, suffix`, with [`MARK`] between, is the prefix, the unit again and again, and
//! the suffix. What takes too long, the fuzzer's limit per input finds; in `make test` the test that replays it.

use super::Check;

/// Separates the parts: no JSON and no reference holds it.
pub(crate) const MARK: u8 = 1;

/// Bytes of the longest input of each target: what Lambda takes, less where the properties read it a dozen times.
const LENGTHS: [(&str, Check, usize); 8] = [
    ("event", super::event::check, 1024 * 1024),
    ("query", super::query::check, 1024 * 1024),
    ("deployment_event", super::deployment_event::check, 256 * 1024),
    ("task_definition", super::task_definition::check, 256 * 1024),
    ("ledger_record", super::ledger_record::check, 400 * 1024),
    ("registry", super::registry::check, 1024 * 1024),
    ("push", super::push::check, 256 * 1024),
    ("image_reference", super::image_reference::check, 1024 * 1024),
];

pub(crate) fn check(data: &[u8]) {
    let parts: Vec<&[u8]> = data.splitn(4, |byte| *byte == MARK).collect();
    let [[target], prefix, unit, suffix] = parts[..] else { return };
    let (_, check, length) = LENGTHS[usize::from(*target) % LENGTHS.len()];
    if unit.is_empty() {
        return;
    }
    let mut input = prefix.to_vec();
    let times = length.saturating_sub(prefix.len() + suffix.len()) / unit.len();
    input.extend(unit.iter().copied().cycle().take(times * unit.len()));
    input.extend_from_slice(suffix);
    check(&input);
}
