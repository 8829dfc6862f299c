//! What each condition said for each fault that was injected: a table in the target folder, for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

const CONDITIONS: [&str; 7] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "APIReachable",
    "RequesterReachable",
    "CacheReachable",
    "CredentialsAccepted",
];

static ROWS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Enters what the status says of a fault, and writes the table anew.
pub fn row(fault: &str, status: &Value) {
    let cells: Vec<String> = CONDITIONS.into_iter().map(|kind| cell(status, kind)).collect();
    let mut rows = ROWS.lock().unwrap();
    rows.insert(fault.to_owned(), format!("| {fault} | {} |", cells.join(" | ")));
    let mut text =
        format!("| fault | {} |\n|{}\n", CONDITIONS.join(" | "), "---|".repeat(CONDITIONS.len() + 1));
    for row in rows.values() {
        text.push_str(row);
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.md");
    fs::write(path, text).unwrap();
}

/// What is as always is left out: its words say nothing.
fn cell(status: &Value, kind: &str) -> String {
    let found = super::stage::condition(status, kind);
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
