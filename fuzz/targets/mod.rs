//! The fuzz targets: plain functions from bytes to nothing, which panic when something that must hold does
//! not.
//!
//! One entry point, many callers: `make fuzz` calls them from libFuzzer, `tests/it` with every input that is
//! kept in the tree, and `cargo run --example fuzz -- TARGET FILE...` with the files that are named. Nothing
//! here knows which of them calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addresses;
mod config;
mod credentials;
mod lease;
mod listing;
mod registration;
mod resource;
mod send_message;
mod sip_message;
mod sip_reply;
mod sip_stream;
mod sip_values;
mod store;
mod support;
mod table;
mod trunk;

use support::SECRET;

/// One parser, or several that take the same kind of input.
pub struct Target {
    /// The name of its folders, and what `TARGET=` says.
    pub name: &'static str,
    /// Description of its input, for a list of targets.
    pub input: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

impl Target {
    /// Takes one input, in time; of some inputs a long one is made, which must be taken in a time in
    /// proportion.
    pub fn check(&self, data: &[u8]) {
        support::check_short(data, self.run);
        // Which ones depends on the input alone, so that a failure can be repeated.
        if support::Choices::of(data).below(256) == 0 {
            support::check_stretched(data, self.run);
        }
    }

    /// Finds a target by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// All of them, in the order in which a sync, a REGISTER and its response meet them.
pub static TARGETS: [Target; 15] = [
    Target { name: "config", input: "a configuration file, YAML or JSON", run: config::run },
    Target { name: "resource", input: "a Registry in JSON, and its Secrets", run: resource::run },
    Target { name: "lease", input: "what a Lease says, time after time", run: lease::run },
    Target { name: "addresses", input: "addresses and durations", run: addresses::run },
    Target { name: "listing", input: "an answer of FindBy or List", run: listing::run },
    Target { name: "trunk", input: "a Trunk, up to its REGISTERs", run: trunk::run },
    Target { name: "store", input: "a value in Redis", run: store::run },
    Target {
        name: "registration",
        input: "answers of a Requester, one after the other",
        run: registration::run,
    },
    Target { name: "send_message", input: "a request to the Requester", run: send_message::run },
    Target { name: "credentials", input: "X-Gateway-Auth, Authorization, challenges", run: credentials::run },
    Target { name: "sip_message", input: "a SIP datagram", run: sip_message::run },
    Target { name: "sip_stream", input: "SIP over TCP, in slices", run: sip_stream::run },
    Target { name: "sip_values", input: "URIs, addresses, Vias, lists", run: sip_values::run },
    Target { name: "sip_reply", input: "a SIP response on its way to a verdict", run: sip_reply::run },
    Target { name: "table", input: "a service's trunks, shown in a terminal", run: table::run },
];
