//! The tables of the matrix: printed, and compared with those of the document.

use std::fmt::Write;
use std::sync::Mutex;

use tokio::sync::Semaphore;

use super::{Cell, SIDES, Step};
use crate::harness::sync;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RELIABILITY.md");
const BEGIN: &str = "<!-- crash-matrix -->\n";
const END: &str = "<!-- /crash-matrix -->";

/// Cells of all tables that are at work at a time: each has processes of its own.
pub(super) static AT_WORK: Semaphore = Semaphore::const_new(6);

/// Tests write the document one after the other.
static WRITING: Mutex<()> = Mutex::new(());

/// Rows are the steps, columns what had become of each when the process was killed. Panics where a cell is wrong, once all
/// are printed, and where the document says something else.
pub(super) fn show(title: &str, steps: &[Step], cells: &[(Step, Cell)], all: &str) {
    let mut table =
        format!("### {title}\n\n| killed in the call | before it was done | after it was done |\n|---|---|---|\n");
    for step in steps {
        let texts = SIDES.map(|side| {
            let found = cells.iter().find(|(of, cell)| of == step && cell.side == side);
            found.map_or("-", |(_, cell)| cell.text.as_deref().unwrap_or("**WRONG**"))
        });
        let _ = writeln!(table, "| {} | {} | {} |", step.label, texts[0], texts[1]);
    }
    let _ = writeln!(table, "\n{all}");
    println!("\n{table}");
    let wrong: Vec<String> = cells
        .iter()
        .filter_map(|(step, cell)| Some(format!("{} {:?}: {}", step.label, cell.side, cell.fault.as_ref()?)))
        .collect();
    assert!(wrong.is_empty(), "{title}: {} of {} cells are wrong:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    compare(title, &table);
}

/// The document holds the table as it was just found. `UPDATE_TABLES=1` writes it there.
fn compare(title: &str, table: &str) {
    let _one = sync(&WRITING);
    let document = std::fs::read_to_string(DOCUMENT).expect("the document is there");
    let (head, rest) = document.split_once(BEGIN).expect("the document has its first mark");
    let (body, tail) = rest.split_once(END).expect("the document has its last mark");
    let mut sections: Vec<String> =
        body.split("### ").skip(1).map(|section| format!("### {}\n", section.trim_end())).collect();
    let heading = format!("### {title}\n");
    let place = sections.iter().position(|section| section.starts_with(&heading));
    if place.is_some_and(|place| sections[place] == table) {
        return;
    }
    assert!(
        std::env::var("UPDATE_TABLES").is_ok_and(|value| value == "1"),
        "docs/RELIABILITY.md does not hold this table as it was just found: UPDATE_TABLES=1 writes it\n{table}"
    );
    match place {
        Some(place) => table.clone_into(&mut sections[place]),
        None => sections.push(table.to_owned()),
    }
    let body = sections.join("\n");
    std::fs::write(DOCUMENT, format!("{head}{BEGIN}\n{body}\n{END}{tail}")).expect("the document is written");
}
