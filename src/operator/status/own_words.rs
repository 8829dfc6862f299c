//! A status without a word from outside, for an API server that refuses one with them: whatever it is that it
//! does not take, conditions must not go on saying what was so before.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::spec::status::RegistryStatus;

/// The same status with our own words alone: messages are replaced, and failures are known by their state,
/// code and reason.
pub fn without_foreign_text(status: &RegistryStatus) -> RegistryStatus {
    let mut plain = status.clone();
    for condition in &mut plain.conditions {
        condition.message = format!(
            "{} is {} ({}); the API server rejects the full message, so names and texts of others are left out",
            condition.type_, condition.status, condition.reason
        );
    }
    for (position, failure) in plain.failures.iter_mut().enumerate() {
        failure.reference = format!("withheld-{}", position + 1);
        failure.name.clear();
        failure.registrar.clear();
        failure.edge_port.clear();
        failure.message.clear();
        if !failure.reason.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            "Unknown".clone_into(&mut failure.reason);
        }
    }
    plain
}

/// Returns a hash of what a status says, whatever its times and counts are.
pub fn fingerprint(status: &RegistryStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    for condition in &status.conditions {
        (&condition.reason, &condition.message).hash(&mut hasher);
    }
    for failure in &status.failures {
        (&failure.reference, &failure.name, &failure.registrar, &failure.edge_port).hash(&mut hasher);
        (&failure.reason, &failure.message).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_what_others_wrote_is_left() {
        let status: RegistryStatus = serde_json::from_value(json!({
            "observedGeneration": 3,
            "conditions": [{"type": "Ready", "status": "False", "reason": "TrunksFailing", "observedGeneration": 3,
                "message": "foreign", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "failures": [{"ref": "foreign", "name": "foreign", "state": "failing", "registrar": "foreign", "edgePort": "foreign",
                "code": 403, "reason": "foreign text", "message": "foreign"},
                {"ref": "foreign", "state": "failing", "reason": "Refused"}],
        }))
        .unwrap();
        let plain = without_foreign_text(&status);
        let text = serde_json::to_string(&plain).unwrap();
        assert!(!text.contains("foreign"), "{text}");
        assert_eq!((plain.failures[0].code, &*plain.failures[1].reason), (Some(403), "Refused"));
        assert!(plain.conditions[0].message.starts_with("Ready is False (TrunksFailing); "));
        assert_ne!(fingerprint(&plain), fingerprint(&status));
        let later = RegistryStatus { observed_generation: Some(4), ..status.clone() };
        assert_eq!(fingerprint(&later), fingerprint(&status));
    }
}
