//! Base of the operator's tests: an installed chart, and the dependencies of a registry.

pub use crate::standalone::test_registry::TestRegistry;
pub use crate::support::installation::{Installation, Operator, PACE, RELEASE, SOON, condition};

impl Installation<'_> {
    /// Applies this Registry; `more` are lines of `spec`, indented by two.
    pub async fn apply(&self, name: &str, stage: &TestRegistry, more: &str) {
        self.apply_manifest(&manifest(name, stage, more)).await;
    }
}

/// A Registry that reaches these dependencies; `more` are lines of `spec`, indented by two.
pub fn manifest(name: &str, stage: &TestRegistry, more: &str) -> String {
    format!(
        "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata:\n  name: {name}\nspec:\n  requesterAddr: 127.0.0.1:{}\n  \
         apiAddr: 127.0.0.1:{}\n  registerInterval: 1s\n  edgePorts:\n    - address: 10.0.0.1:5060\n{more}",
        stage.requester_port, stage.api_port
    )
}
