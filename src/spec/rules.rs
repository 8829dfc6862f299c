//! Every key of the document with its default and bounds ([`KEYS`]), and the texts that say what would be
//! right.
//!
//! From this table and the types of [`crate::spec`] follow: how a file is read ([`crate::config`]), the
//! defaults, bounds and descriptions of the CRD ([`super::crd`]), and, written by `make docs`, the reference
//! and the example of docs/configuration.md and the keys of fuzz/dictionaries/config.dict.

use routr_registration::registration::redirect_policy;
use serde_json::json;

pub(crate) use super::key::{DurationRange, Key, RateRange, UNLIMITED, WholeRange};

pub(crate) const REGISTER_INTERVAL: DurationRange = DurationRange::of(60, 1, 86_400);
pub(crate) const EXPIRES: DurationRange = DurationRange::of(600, 10, 86_400).whole_seconds();
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
/// REGISTERs in flight at once.
pub(crate) const IN_FLIGHT: WholeRange = WholeRange { default: 1_000, least: 1, most: 100_000 };
/// A rate outside of these is a slip, and its interval could not be held in a `Duration`.
pub(crate) const RATE: RateRange = RateRange { default: 20.0, least: 0.001, most: 1_000_000.0 };
pub(crate) const REQUESTER_PORT: u16 = 51909;
pub(crate) const API_PORT: u16 = 51907;
pub(crate) const REDIS_PORT: u16 = 6379;
pub(crate) const MAX_NAME: u32 = 253;
pub(crate) const MAX_REGION: u32 = 128;
pub(crate) const MAX_USER_AGENT: u32 = 256;
/// Longest path of a file.
const MAX_PATH: u32 = 4_096;

/// Every key of the document, in the order of the fields of [`crate::spec`].
pub(crate) const KEYS: &[Key] = &[
    Key::text("kind", hint::KIND).required().example(&["Registry"]),
    Key::text("apiVersion", hint::API_VERSION).required().example(&["routr.io/v2beta1"]),
    Key::open_mapping("metadata"),
    Key::text("metadata.name", hint::NAME)
        .is(|| json!(NAME))
        .bounds("1 to 253 characters")
        .example(&["europe"]),
    Key::mapping("spec").hint_of(hint::SPEC).required(),
    Key::text("spec.requesterAddr", hint::REQUESTER_ADDR)
        .required()
        .bounds("see *Addresses*")
        .example(&["https://requester.example.com:51909"]),
    Key::text("spec.apiAddr", hint::API_ADDR)
        .required()
        .bounds("see *Addresses*")
        .example(&["\"[2001:db8::7]:51907\""]),
    Key::text("spec.requesterTokenFile", hint::TOKEN_FILE)
        .bounds("1 to 4096 visible ASCII characters")
        .example(&["requester-token"]),
    Key::secret_key("spec.requesterTokenSecretRef"),
    Key::duration("spec.registerInterval", &REGISTER_INTERVAL).example(&["1m30s"]),
    Key::mapping("spec.cache").is(|| json!({})).hides_values(),
    Key::word("spec.cache.provider", &["memory", "redis"]).is(|| json!("memory")).example(&["redis"]),
    Key::text("spec.cache.parameters", hint::PARAMETERS)
        .otherwise("with `redis`, the local one: `host=localhost,port=6379`")
        .bounds("see *Cache parameters*")
        .example(&[
            "host=redis.example.com,port=6380,username=registry,passwordFile=redis-password,secure=true,\
             caFile=redis-ca.pem",
        ]),
    Key::secret_key("spec.cache.parametersSecretRef"),
    Key::secret_key("spec.cache.passwordSecretRef"),
    Key::texts("spec.methods", hint::METHODS, hint::METHOD)
        .bounds("at most 64, none twice")
        .example(&["[INVITE, MESSAGE]"]),
    Key::mappings("spec.edgePorts", hint::EDGE_PORTS).bounds("at least one"),
    Key::text("spec.edgePorts[].address", hint::EDGE_PORT)
        .required()
        .bounds("none twice")
        .example(&["10.100.42.127:5060", "\"[2001:db8::5]:5060\""]),
    Key::line("spec.edgePorts[].region", MAX_REGION, hint::REGION)
        .bounds("1 to 128 characters")
        .example(&["us-east1", "europe-west1"]),
    Key::text("spec.edgePorts[].publicAddress", hint::PUBLIC_ADDRESS)
        .otherwise("as `address`")
        .example(&["203.0.113.5", "sip.example.com"]),
    Key::text("spec.edgePorts[].publicTcpAddress", hint::PUBLIC_ADDRESS)
        .otherwise("as `publicAddress`")
        .example(&["203.0.113.5:5070", "sip.example.com"]),
    Key::text("spec.edgePorts[].publicTlsAddress", hint::PUBLIC_ADDRESS)
        .otherwise("the host of `publicAddress`, port 5061")
        .example(&["203.0.113.5:5081", "sip.example.com"]),
    Key::text("spec.instanceId", hint::INSTANCE_ID)
        .otherwise(
            "in Kubernetes the UID of the Registry, else stored in Redis or derived from the name and the \
             addresses",
        )
        .bounds("1 to 128 visible ASCII characters")
        .example(&["europe-1"]),
    Key::mapping("spec.registration").is(|| json!({})),
    Key::duration("spec.registration.expires", &EXPIRES).example(&["15m"]),
    Key::whole("spec.registration.maxInFlight", &IN_FLIGHT).example(&["500"]),
    Key::rate("spec.registration.ratePerRegistrar", &RATE).example(&["50"]),
    Key::duration("spec.registration.timeout", &REGISTER_TIMEOUT).example(&["35s"]),
    Key::line("spec.registration.userAgent", MAX_USER_AGENT, hint::USER_AGENT)
        .is(|| json!(USER_AGENT))
        .bounds("1 to 256 characters, no line breaks")
        .example(&[USER_AGENT]),
    Key::texts("spec.registration.require", hint::REQUIRE, hint::OPTION_TAG)
        .is(|| json!(REQUIRE))
        .bounds("at most 32, none twice")
        .example(&["[gin]"]),
    Key::mapping("spec.registration.redirects"),
    Key::texts("spec.registration.redirects.domains", hint::REDIRECT_DOMAINS, hint::REDIRECT_DOMAIN)
        .bounds("at most 64")
        .example(&["[provider.net, 203.0.113.0/24]"]),
    Key::flag("spec.registration.redirects.credentials").example(&["true"]),
    Key::duration("spec.registration.redirects.maxTime", &REDIRECT_TIME).example(&["30m"]),
    Key::mapping("spec.registration.digest").otherwise("anything"),
    Key::word("spec.registration.digest.minAlgorithm", &["MD5", "SHA-256"])
        .is(|| json!("MD5"))
        .example(&["SHA-256"]),
    Key::flag("spec.registration.digest.requireQop").example(&["true"]),
    Key::word("spec.registration.tlsUriScheme", &["sips", "sip"]).is(|| json!("sips")).example(&["sip"]),
    Key::mapping("spec.tls"),
    Key::line("spec.tls.caFile", MAX_PATH, hint::CA_FILE)
        .otherwise("the system's authorities")
        .example(&["authorities.pem"]),
    Key::line("spec.tls.certFile", MAX_PATH, hint::CERT_FILE).example(&["client.pem"]),
    Key::line("spec.tls.keyFile", MAX_PATH, hint::KEY_FILE).example(&["client-key.pem"]),
    Key::duration("spec.apiTimeout", &API_TIMEOUT).example(&["1m"]),
    Key::mapping("spec.sync").is(|| json!({})),
    Key::duration("spec.sync.timeout", &SYNC_TIMEOUT).otherwise("ten times `apiTimeout`").example(&["5m"]),
    Key::whole("spec.sync.maxPages", &SYNC_PAGES).example(&["10000"]),
    Key::whole("spec.sync.maxTrunks", &SYNC_TRUNKS).example(&["200000"]),
    Key::whole("spec.sync.maxBytes", &SYNC_BYTES).example(&["268435456"]),
    Key::whole("spec.sync.maxTrunkBytes", &TRUNK_BYTES).example(&["65536"]),
    Key::flag("spec.suspend").only_in_kubernetes(),
];

/// The keys of the mapping at `parent`, in their order.
pub(crate) fn keys_of(parent: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.parent() == parent)
}

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
    pub(crate) const USER_AGENT: &str =
        "write a text of 1 to 256 characters without line breaks or other control characters";
    pub(crate) const REQUIRE: &str = "write a list of at most 32 SIP option tags, such as [gin], or []";
    pub(crate) const OPTION_TAG: &str = "write a SIP option tag, such as gin";
    pub(crate) const REDIRECT_DOMAINS: &str = "write a list of at most 64 domains, such as [provider.net]";
    pub(crate) const REDIRECT_DOMAIN: &str =
        "write a domain such as provider.net, an IP address, a network such as 192.0.2.0/24, or * for all";
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
