//! Defaults and bounds of every key, in one place; docs/configuration.md states the same.

use std::time::Duration;

use super::duration;

/// What a duration may be.
pub(super) struct Span {
    pub(super) default: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Span {
    const fn of(default_s: u64, least_s: u64, most_s: u64) -> Self {
        Self {
            default: Duration::from_secs(default_s),
            least: Duration::from_secs(least_s),
            most: Duration::from_secs(most_s),
        }
    }

    /// What would be right.
    pub(super) fn right(&self) -> String {
        format!(
            "write a duration from {} to {}, such as {}, or a number of seconds",
            duration::show(self.least),
            duration::show(self.most),
            duration::show(self.default)
        )
    }
}

pub(super) const REGISTER_INTERVAL: Span = Span::of(60, 1, 86_400);
pub(super) const EXPIRES: Span = Span::of(600, 10, 86_400);
pub(super) const REGISTER_TIMEOUT: Span = Span::of(40, 1, 120);
pub(super) const API_TIMEOUT: Span = Span::of(30, 1, 600);

pub(super) const NAME: &str = "registry";
pub(super) const USER_AGENT: &str = "Routr Connect v2";
pub(super) const REQUIRE: [&str; 1] = ["gin"];
pub(super) const MAX_REQUIRE: usize = 32;
pub(super) const MAX_METHODS: usize = 64;
pub(super) const MAX_IN_FLIGHT: i64 = 100_000;
pub(super) const IN_FLIGHT: u32 = 1_000;
pub(super) const RATE: f64 = 20.0;
/// A rate outside of these is a slip, and its interval could not be held in a `Duration`.
pub(super) const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
pub(super) const UNLIMITED: &str = "unlimited";
pub(super) const REQUESTER_PORT: u16 = 51909;
pub(super) const API_PORT: u16 = 51907;
pub(super) const REDIS_PORT: u16 = 6379;

/// What would be right, for each value that is not a duration.
pub(super) mod right {
    pub(in super::super) const KIND: &str = "write kind: Registry";
    pub(in super::super) const API_VERSION: &str = "write apiVersion: v2beta1";
    pub(in super::super) const SPEC: &str =
        "write spec: with requesterAddr, apiAddr and edgePorts indented under it";
    pub(in super::super) const NAME: &str = "write a name of 1 to 253 characters without control characters";
    pub(in super::super) const REQUESTER_ADDR: &str = "write the host and port of the Requester, such as localhost:51909, [::1]:51909 or https://requester:51909";
    pub(in super::super) const API_ADDR: &str = "write the host and port of the API server, such as localhost:51907, [::1]:51907 or https://api:51907";
    pub(in super::super) const EDGE_PORT: &str =
        "write the host and port of an EdgePort, such as 10.0.0.5:5060 or [2001:db8::5]:5060";
    pub(in super::super) const EDGE_PORTS: &str =
        "write a list with at least one EdgePort, such as [{address: 10.0.0.5:5060}]";
    pub(in super::super) const REGION: &str = "write the name of a region, such as us-east1";
    pub(in super::super) const METHODS: &str =
        "write a list of at most 64 SIP methods, such as [INVITE, MESSAGE]";
    pub(in super::super) const METHOD: &str = "write a SIP method, such as INVITE";
    pub(in super::super) const INSTANCE_ID: &str = "write 1 to 128 visible ASCII characters without blanks";
    pub(in super::super) const PARAMETERS: &str = "write key=value pairs, such as host=localhost,port=6379";
    pub(in super::super) const IN_FLIGHT: &str = "write a whole number from 1 to 100000";
    pub(in super::super) const RATE: &str =
        "write a number of REGISTERs per second from 0.001 to 1000000, or the word unlimited";
    pub(in super::super) const USER_AGENT: &str =
        "write a text of 1 to 256 characters without line breaks or other control characters";
    pub(in super::super) const REQUIRE: &str =
        "write a list of at most 32 SIP option tags, such as [gin], or []";
    pub(in super::super) const OPTION_TAG: &str = "write a SIP option tag, such as gin";
    pub(in super::super) const CA_FILE: &str =
        "write the path of a PEM file that can be read and holds the authorities to trust";
    pub(in super::super) const PASSWORD_FILE: &str =
        "write the path of a file that can be read and holds the password on one line";
}
