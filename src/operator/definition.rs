//! A definition of the resource in the cluster that is older or newer than this operator.
//!
//! Server-side apply refuses a whole status for one field that the definition does not have. What the
//! definition takes is found out by a patch that changes nothing (a dry run drops what is unknown), and what
//! it does not take is left out of the next writes.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::core::Status;
use serde_json::Value;
use tokio::time::Instant;

/// Period at which it is tried whether the definition takes everything by now.
const RECHECK: Duration = Duration::from_secs(60);
/// Parts that are kept in mind.
const MAX_PARTS: usize = 100;

/// Parts of a status that the definition in the cluster does not take. All writers share it.
#[derive(Debug, Default)]
pub struct Definition(Mutex<Option<Lacking>>);

#[derive(Debug)]
struct Lacking {
    parts: BTreeSet<String>,
    checked: Instant,
}

impl Definition {
    /// Takes out of a status what the definition does not take. Returns whether anything is left out; once in
    /// a while nothing is, by one of the writers, to see whether the definition was upgraded.
    pub fn fit(&self, status: &mut Value) -> bool {
        let mut lacking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lacking) = lacking.as_mut() else { return false };
        if lacking.checked.elapsed() >= RECHECK {
            lacking.checked = Instant::now();
            return false;
        }
        lacking.parts.iter().for_each(|part| remove(status, part));
        true
    }

    /// Keeps in mind what the definition does not take. Returns whether that is news.
    pub fn lacks(&self, parts: &BTreeSet<String>) -> bool {
        let parts: BTreeSet<String> = parts.iter().take(MAX_PARTS).cloned().collect();
        let mut lacking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = lacking.as_ref().is_none_or(|lacking| lacking.parts != parts);
        *lacking = Some(Lacking { parts, checked: Instant::now() });
        news
    }

    /// The definition has taken this status. Returns whether that is news: it has one of the parts that were
    /// left out.
    pub fn takes(&self, status: &Value) -> bool {
        let mut lacking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reduced = status.clone();
        lacking.iter().flat_map(|lacking| &lacking.parts).for_each(|part| remove(&mut reduced, part));
        let news = reduced != *status;
        if news {
            *lacking = None;
        }
        news
    }
}

/// Returns whether an error may come from the definition rather than from the API server's state or a right.
pub fn may_be_definition(refusal: &Status) -> bool {
    matches!(refusal.code, 400 | 422 | 500)
}

/// Returns what of `sent` is not in `stored`, as `observedTime` or `failures[].name`.
pub fn dropped(sent: &Value, stored: &Value) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    compare(sent, stored, "", &mut parts);
    parts
}

fn compare(sent: &Value, stored: &Value, path: &str, parts: &mut BTreeSet<String>) {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            for (key, value) in sent.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match stored.get(key) {
                    Some(stored) => compare(value, stored, &path, parts),
                    None => drop(parts.insert(path)),
                }
            }
        }
        (Value::Array(sent), Value::Array(stored)) => {
            let path = format!("{path}[]");
            sent.iter().zip(stored).for_each(|(sent, stored)| compare(sent, stored, &path, parts));
        }
        _ => {}
    }
}

/// Returns the fields of the status at fault, by the causes of an error: those that the definition wants
/// otherwise than they are sent.
pub fn at_fault(refusal: &Status) -> BTreeSet<String> {
    let causes = refusal.details.iter().flat_map(|details| &details.causes);
    let fields = causes.filter_map(|cause| cause.field.strip_prefix("status."));
    fields.filter_map(|field| Some(field.split(['.', '[']).next()?.to_owned())).collect()
}

/// Takes a part out of a status.
pub fn remove(status: &mut Value, part: &str) {
    let (first, rest) = part.split_once('.').map_or((part, None), |(first, rest)| (first, Some(rest)));
    let (key, list) = first.strip_suffix("[]").map_or((first, false), |key| (key, true));
    let Value::Object(map) = status else { return };
    let Some(rest) = rest else {
        map.remove(key);
        return;
    };
    match map.get_mut(key) {
        Some(Value::Array(items)) if list => items.iter_mut().for_each(|item| remove(item, rest)),
        Some(value) => remove(value, rest),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn k5_what_a_definition_drops_is_found_and_left_out() {
        let sent = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 1, "g": 2}, {"f": 1}], "h": null});
        let stored = json!({"b": {"d": 3}, "e": [{"f": 1}, {"f": 1}], "other": 1});
        let parts = dropped(&sent, &stored);
        assert_eq!(parts.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b.c", "e[].g"]);
        let mut left = sent.clone();
        parts.iter().for_each(|part| remove(&mut left, part));
        assert_eq!(left, json!({"b": {"d": 3}, "e": [{"f": 1}, {"f": 1}], "h": null}));
        assert!(dropped(&left, &stored).is_empty());
    }

    #[test]
    fn k5_what_a_newer_definition_wants_otherwise_is_named_by_its_causes() {
        let fields = ["status.trunks.new", "status.failures[0].x", "metadata.name", "status"];
        let causes = fields.map(|field| json!({ "field": field }));
        let refusal = json!({ "code": 422, "reason": "Invalid", "details": { "causes": causes } });
        let refusal: Status = serde_json::from_value(refusal).unwrap();
        assert_eq!(at_fault(&refusal).into_iter().collect::<Vec<_>>(), ["failures", "trunks"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgraded_definition_is_noticed() {
        let definition = Definition::default();
        let mut status = json!({"a": 1});
        assert!(!definition.fit(&mut status));
        let parts = BTreeSet::from(["a".to_owned()]);
        assert!(definition.lacks(&parts) && !definition.lacks(&parts));
        assert!(definition.fit(&mut status) && status == json!({}));
        tokio::time::advance(RECHECK).await;
        let mut status = json!({"a": 1});
        assert!(!definition.fit(&mut status) && status == json!({"a": 1}), "one tries");
        assert!(definition.fit(&mut status), "one alone");
        assert!(!definition.takes(&json!({"b": 1})), "it proves nothing");
        assert!(definition.takes(&json!({"a": 1})) && !definition.takes(&json!({"a": 1})));
    }
}
