//! Defaults and bounds of every key, in one place; docs/configuration.md states the same.

use std::time::Duration;

use super::duration;
use routr_registration::registration::redirect_policy;

/// Default and bounds of a duration.
pub(crate) struct DurationRange {
    pub(crate) default: Duration,
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

impl DurationRange {
    const fn of(default_s: u64, least_s: u64, most_s: u64) -> Self {
        Self {
            default: Duration::from_secs(default_s),
            least: Duration::from_secs(least_s),
            most: Duration::from_secs(most_s),
        }
    }

    /// Returns what would be right.
    pub(crate) fn hint(&self) -> String {
        format!(
            "write a duration from {} to {}, such as {}, or a number of seconds",
            duration::show(self.least),
            duration::show(self.most),
            duration::show(self.default)
        )
    }
}

/// Default and bounds of a whole number.
pub(crate) struct WholeRange {
    pub(crate) default: i64,
    pub(crate) least: i64,
    pub(crate) most: i64,
}

impl WholeRange {
    /// Returns what would be right.
    pub(crate) fn hint(&self) -> String {
        format!("write a whole number from {} to {}", self.least, self.most)
    }
}

pub(crate) const REGISTER_INTERVAL: DurationRange = DurationRange::of(60, 1, 86_400);
pub(crate) const EXPIRES: DurationRange = DurationRange::of(600, 10, 86_400);
pub(crate) const REGISTER_TIMEOUT: DurationRange = DurationRange::of(40, 1, 120);
/// Time that a redirection holds.
pub(crate) const REDIRECT_TIME: DurationRange =
    DurationRange::of(redirect_policy::DEFAULT_MAX_S as u64, 1, 86_400);
pub(crate) const API_TIMEOUT: DurationRange = DurationRange::of(30, 1, 600);
/// The default follows `apiTimeout`, see [`SYNC_TIMEOUT_FACTOR`]; the one here is that of its default.
pub(crate) const SYNC_TIMEOUT: DurationRange = DurationRange::of(300, 1, 7_200);
pub(crate) const SYNC_TIMEOUT_FACTOR: u32 = 10;

/// A million trunks in pages of 1,000 are 1,000 pages; a server may allow 100 trunks in a page only.
pub(crate) const SYNC_PAGES: WholeRange = WholeRange { default: 10_000, least: 1, most: 1_000_000 };
pub(crate) const SYNC_TRUNKS: WholeRange = WholeRange { default: 1_000_000, least: 1, most: 10_000_000 };
/// A million trunks take about 240 MiB.
pub(crate) const SYNC_BYTES: WholeRange = WholeRange { default: 512 << 20, least: 64 << 10, most: 16 << 30 };
pub(crate) const TRUNK_BYTES: WholeRange = WholeRange { default: 256 << 10, least: 1 << 10, most: 16 << 20 };

pub(crate) const NAME: &str = "registry";
pub(crate) const USER_AGENT: &str = "Routr Connect v2";
pub(crate) const REQUIRE: [&str; 1] = ["gin"];
pub(crate) const MAX_REQUIRE: usize = 32;
pub(crate) const MAX_REDIRECT_DOMAINS: usize = 64;
pub(crate) const MAX_METHODS: usize = 64;
pub(crate) const IN_FLIGHT: u32 = 1_000;
pub(crate) const IN_FLIGHT_RANGE: WholeRange =
    WholeRange { default: IN_FLIGHT as i64, least: 1, most: 100_000 };
pub(crate) const RATE: f64 = 20.0;
/// A rate outside of these is a slip, and its interval could not be held in a `Duration`.
pub(crate) const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
pub(crate) const UNLIMITED: &str = "unlimited";
pub(crate) const REQUESTER_PORT: u16 = 51909;
pub(crate) const API_PORT: u16 = 51907;
pub(crate) const REDIS_PORT: u16 = 6379;

/// Folder of the CA files of Registry resources: anyone who writes a resource must not make the operator read
/// any other file of its pod.
pub const CLUSTER_CA_FOLDER: &str = "/etc/routr/ca";

/// Folder of the unix sockets of Registry resources, for the same reason.
pub const CLUSTER_SOCKET_FOLDER: &str = "/run/routr";

/// Problem with a key that belongs to a resource.
pub(crate) const ONLY_IN_KUBERNETES: &str = "only in Kubernetes";

/// Problem with a token file in a resource.
pub(crate) const TOKEN_FILE_OF_THE_POD: &str = "names a file of the operator's own pod";

/// Suggested corrections, for each value that is not a duration.
pub(crate) mod hint {
    pub(crate) const KIND: &str = "write kind: Registry";
    pub(crate) const API_VERSION: &str = "write apiVersion: v2beta1";
    pub(crate) const SPEC: &str = "write spec: with requesterAddr, apiAddr and edgePorts indented under it";
    pub(crate) const NAME: &str = "write a name of 1 to 253 characters without control characters";
    pub(crate) const REQUESTER_ADDR: &str = "write the host and port of the Requester, such as localhost:51909, [::1]:51909, https://requester:51909, dns:///requester:51909 or unix:/run/routr/requester.sock";
    pub(crate) const API_ADDR: &str = "write the host and port of the API server, such as localhost:51907, [::1]:51907, https://api:51907, dns:///api:51907 or unix:/run/routr/api.sock";
    pub(crate) const EDGE_PORT: &str =
        "write the host and port of an EdgePort, such as 10.0.0.5:5060 or [2001:db8::5]:5060";
    pub(crate) const PUBLIC_ADDRESS: &str = "write the host and port at which providers reach this EdgePort, such as sip.example.com or 203.0.113.5:5060";
    pub(crate) const EDGE_PORTS: &str =
        "write a list with at least one EdgePort, such as [{address: 10.0.0.5:5060}]";
    pub(crate) const REGION: &str = "write the name of a region, such as us-east1";
    pub(crate) const METHODS: &str = "write a list of at most 64 SIP methods, such as [INVITE, MESSAGE]";
    pub(crate) const METHOD: &str = "write a SIP method, such as INVITE";
    pub(crate) const INSTANCE_ID: &str = "write 1 to 128 visible ASCII characters without blanks";
    pub(crate) const PARAMETERS: &str = "write key=value pairs, such as host=localhost,port=6379";
    pub(crate) const ONE_LINE: &str =
        "write each value on one line, without tabs and other control characters";
    pub(crate) const IN_FLIGHT: &str = "write a whole number from 1 to 100000";
    pub(crate) const RATE: &str =
        "write a number of REGISTERs per second from 0.001 to 1000000, or the word unlimited";
    pub(crate) const USER_AGENT: &str =
        "write a text of 1 to 256 characters without line breaks or other control characters";
    pub(crate) const REQUIRE: &str = "write a list of at most 32 SIP option tags, such as [gin], or []";
    pub(crate) const OPTION_TAG: &str = "write a SIP option tag, such as gin";
    pub(crate) const REDIRECT_DOMAINS: &str = "write a list of at most 64 domains, such as [provider.net]";
    pub(crate) const REDIRECT_DOMAIN: &str =
        "write a domain such as provider.net, an IP address, a network such as 192.0.2.0/24, or * for all";
    pub(crate) const TRUE_OR_FALSE: &str = "write true or false";
    pub(crate) const CA_FILE: &str =
        "write the path of a PEM file that can be read and holds the authorities to trust";
    pub(crate) const CERT_FILE: &str = "write the path of a PEM file that can be read and holds the certificate to present, together with \
         keyFile";
    pub(crate) const KEY_FILE: &str = "write the path of a PEM file that can be read and holds the private key of certFile, without a passphrase";
    pub(crate) const PASSWORD_FILE: &str =
        "write the path of a file that can be read and holds the password on one line";
    pub(crate) const PASSWORD_SECRET: &str =
        "put the password into a Secret and name it by passwordSecretRef";
    pub(crate) const TOKEN_FILE: &str =
        "write the path of a file that can be read and holds the token of the Requester on one line";
    pub(crate) const TOKEN_SECRET: &str =
        "put the token into a Secret and name it by requesterTokenSecretRef";
    pub(crate) const TOKEN: &str =
        "put the token of the Requester there: 1 to 4096 visible ASCII characters on one line";
    pub(crate) const SECRET: &str = "create the Secret in the namespace of the Registry, with that key";
    pub(crate) const ONLY_IN_KUBERNETES: &str = "remove it: it has no effect in a file";
}
