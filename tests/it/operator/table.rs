//! Conditions of each fault that was injected: a table in the target folder, for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

/// All that a status has.
pub const CONDITIONS: [&str; 7] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "APIReachable",
    "RequesterReachable",
    "CacheReachable",
    "CredentialsAccepted",
];

/// Conditions and events by fault.
static ROWS: Mutex<BTreeMap<String, (String, String)>> = Mutex::new(BTreeMap::new());

/// Enters what the status says of a fault.
pub fn row(fault: &str, status: &Value) {
    let cells: Vec<String> = CONDITIONS.into_iter().map(|kind| cell(status, kind)).collect();
    enter(fault, |row| row.0 = cells.join(" | "));
}

/// Enters which events there were, from before the fault to after its end.
pub fn events(fault: &str, reasons: &[String]) {
    enter(fault, |row| row.1 = reasons.join(", "));
}

/// Writes the table again each time: no one knows which test is the last.
fn enter(fault: &str, change: impl FnOnce(&mut (String, String))) {
    let mut rows = ROWS.lock().unwrap();
    change(rows.entry(fault.to_owned()).or_default());
    let head = CONDITIONS.join(" | ");
    let mut text = format!("| fault | {head} | events |\n|{}\n", "---|".repeat(CONDITIONS.len() + 2));
    for (fault, (conditions, events)) in rows.iter() {
        text.push_str(&format!("| {fault} | {conditions} | {events} |\n"));
    }
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.md"), text).unwrap();
}

/// Returns the text of a cell. The usual states are left out: their words say nothing.
fn cell(status: &Value, kind: &str) -> String {
    let found = super::harness::condition(status, kind);
    let text = |key: &str| found[key].as_str().unwrap_or("-");
    let (truth, reason) = (text("status"), text("reason"));
    let usual = ["Reachable", "InMemory", "NotStalled", "Accepted", "Settled", "AllRegistered"];
    match text("message") {
        words if !usual.contains(&reason) || words.contains(';') && reason != "InMemory" => {
            format!("{truth}/{reason} «{}»", words.replace('|', "\\|"))
        }
        _ => format!("{truth}/{reason}"),
    }
}
