//! A Registry as the Kubernetes API server has it, with what its Secrets hold, which follow it after a line
//! of `---`.

use routr_registry::{
    config::{Config, Secrets},
    operator::lenient_registry::LenientRegistry,
    spec::{Registry, status::RegistryStatus},
};
use routr_types::secret::Secret;

use super::{
    config::{assert_good, assert_told},
    support::{count, text},
};

pub fn run(data: &[u8]) {
    let text = text(data);
    let mut parts = text.splitn(3, "\n---\n");
    let document = parts.next().unwrap_or_default();
    let secrets = Secrets {
        parameters: parts.next().map(Secret::new),
        password: parts.next().map(Secret::new),
        requester_token: None,
    };
    let secrets = Secrets { requester_token: secrets.password.clone(), ..secrets };
    let Ok(found) = serde_json::from_str::<LenientRegistry>(document) else { return };
    // The reason why a spec cannot be read may quote a value of it, so the operator shows it to no one.
    let Ok(registry) = found.registry else { return };
    assert_survives(&registry);
    let given = [Secrets::default(), secrets.clone()];
    for given in given {
        match Config::from_resource("main", &registry.spec, &given) {
            Ok(config) => assert_good(&config),
            Err(mistakes) => {
                let said = assert_told(&mistakes);
                for secret in [&secrets.parameters, &secrets.password].into_iter().flatten() {
                    let line = secret.expose().trim();
                    let apart = line.len() >= 16 && count(document.as_bytes(), line.as_bytes()) == 0;
                    assert!(!apart || !said.contains(line), "{said}");
                }
            }
        }
    }
}

/// Asserts that a Registry read from Kubernetes and written back is the same: no field, and no time, changes.
fn assert_survives(registry: &Registry) {
    let written = serde_json::to_value(registry).unwrap();
    let again: Registry = serde_json::from_value(written).expect("what was written is read");
    // A number that is not finite is no JSON; there is none in a Registry that was read from JSON.
    assert_eq!(again.spec, registry.spec);
    if let Some(status) = &registry.status {
        let again: RegistryStatus = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
        let twice: RegistryStatus = serde_json::from_value(serde_json::to_value(&again).unwrap()).unwrap();
        assert_eq!(again, twice);
    }
}
