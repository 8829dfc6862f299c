//! The whole chain: the built program as a registry, the built program as a Requester, the API server of
//! `devstack`, and a real Kamailio, whose own location table is what is asserted.

pub mod harness;
pub mod observe;
mod outages;
mod registering;
mod restarts;
mod thousand_trunks;
