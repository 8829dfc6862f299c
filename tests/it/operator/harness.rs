//! Base of the operator's tests: an installed chart, and the dependencies of a registry.

pub use crate::standalone::test_registry::TestRegistry;
pub use crate::support::installation::{
    Dependencies, Installation, Operator, PACE, RELEASE, SOON, condition, manifest,
};

impl Dependencies for TestRegistry {
    fn api_port(&self) -> u16 {
        self.api_port
    }

    fn requester_port(&self) -> u16 {
        self.requester_port
    }
}
