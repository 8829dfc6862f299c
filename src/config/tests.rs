//! Documents that load, and their result. The other files: documents that do not, secrets, files, the
//! reference table, arbitrary text.

use std::time::Duration;

use routr_registration::{registration::redirect_policy::RedirectPolicy, trunk::TlsUriScheme};
use routr_types::digest_minimum::DigestMinimum;

use super::*;
use crate::spec::RegistryDocument;
use routr_registration::model::PublicAddresses;

mod control_characters;
mod errors;
mod files;
mod generated;
mod properties;
mod reference;
mod resource;
mod secrets;

/// The least that is good.
const LEAST: &str = "\
kind: Registry
apiVersion: v2beta1
spec:
  requesterAddr: localhost:51909
  apiAddr: localhost:51907
  edgePorts:
    - address: 10.100.42.127
";

fn yaml(text: &str) -> Result<Config, ValidationErrors> {
    parse(text, Format::Yaml)
}

/// [`LEAST`] with more lines in its spec, indented by two.
fn with(lines: &str) -> Result<Config, ValidationErrors> {
    yaml(&format!("{LEAST}{lines}\n"))
}

fn good(lines: &str) -> Config {
    with(lines).unwrap_or_else(|errors| panic!("{lines}\n{errors}"))
}

fn redis(parameters: &str) -> RedisSettings {
    match good(&format!("  cache:\n    provider: redis\n    parameters: {parameters}")).cache {
        Cache::Redis(settings) => *settings,
        Cache::Memory => panic!("memory"),
    }
}

#[test]
fn least_gets_every_default() {
    let config = yaml(LEAST).unwrap();
    let endpoint =
        |port, seconds| Endpoint::plain(HostPort::new("localhost", port), Duration::from_secs(seconds));
    assert_eq!(
        config,
        Config {
            name: "registry".into(),
            instance_id: None,
            api: endpoint(51907, 30),
            requester: endpoint(51909, 40),
            register_interval: Duration::from_secs(60),
            cache: Cache::Memory,
            methods: vec![],
            edge_ports: vec![EdgePort {
                address: HostPort::new("10.100.42.127", 5060),
                region: None,
                public: PublicAddresses::default()
            }],
            registration: RegistrationSettings {
                expires: 600,
                max_in_flight: 1000,
                rate_per_registrar: Some(20.0),
                user_agent: "Routr Connect v2".into(),
                require: vec!["gin".into()],
                redirects: RedirectPolicy::default(),
                digest: DigestMinimum::default(),
                tls_uri_scheme: TlsUriScheme::Sips,
            },
            sync: SyncBounds {
                timeout: Duration::from_secs(300),
                max_pages: 10_000,
                max_trunks: 1_000_000,
                max_bytes: 536_870_912,
                max_trunk_bytes: 262_144,
            },
        }
    );
}

#[test]
fn configuration_of_routrs_own_registry_loads_unchanged() {
    let text = "\
kind: Registry
apiVersion: v2beta1
metadata:
  region: default
spec:
  requesterAddr: localhost:51909
  apiAddr: localhost:51907
  registerInterval: 20
  cache:
    provider: memory
  methods: [INVITE, MESSAGE]
  edgePorts:
    - address: 10.100.42.127:5060
      region: us-east1
";
    let config = yaml(text).unwrap();
    assert_eq!(config.register_interval, Duration::from_secs(20));
    assert_eq!(config.methods, ["INVITE", "MESSAGE"]);
    let edge_port = EdgePort {
        address: HostPort::new("10.100.42.127", 5060),
        region: Some("us-east1".into()),
        public: PublicAddresses::default(),
    };
    assert_eq!(config.edge_ports, [edge_port]);

    let json = serde_json::to_string(&serde_saphyr::from_str::<RegistryDocument>(text).unwrap()).unwrap();
    assert_eq!(parse(&json, Format::Json).unwrap(), config);
    assert_eq!(parse(&json, Format::Yaml).unwrap(), config, "JSON is YAML");
}

#[test]
fn both_kinds_and_versions_are_taken() {
    for (kind, version) in [("registry", "v2beta1"), ("Registry", "routr.io/v2beta1")] {
        let text = LEAST.replace("kind: Registry", &format!("kind: {kind}"));
        yaml(&text.replace("v2beta1", version)).unwrap();
    }
}

#[test]
fn metadata_takes_anything_and_its_name_is_used() {
    let text = format!("{LEAST}metadata:\n  name: europe\n  labels: {{a: b}}\n  region: default\n");
    assert_eq!(yaml(&text).unwrap().name, "europe");
    assert_eq!(yaml(&format!("{LEAST}metadata:\n")).unwrap().name, "registry", "null is as good as absent");
}

#[test]
fn addresses_of_services() {
    let table = [
        ("localhost", "localhost:51907", false),
        ("LocalHost:1", "localhost:1", false),
        ("http://api", "api:51907", false),
        ("http://api:80/", "api:80", false),
        ("https://api.example.com:443", "api.example.com:443", true),
        ("HTTPS://api.example.com", "api.example.com:51907", true),
        ("'[::1]:5000'", "[::1]:5000", false),
        ("'[2001:DB8:0::1]'", "[2001:db8::1]:51907", false),
        ("https://[::1]:5000", "[::1]:5000", true),
        ("10.0.0.1:65535", "10.0.0.1:65535", false),
        ("api_server.routr.svc.cluster.local.:51907", "api_server.routr.svc.cluster.local.:51907", false),
        ("routr-api", "routr-api:51907", false),
        // As gRPC's users write them.
        ("dns:///api:50", "api:50", false),
        ("DNS:api", "api:51907", false),
        ("dns:/api:50", "api:50", false),
        ("dns:50", "dns:50", false),
        ("unix:50", "unix:50", false),
        ("unix:run/api.sock", "unix:run/api.sock", false),
        ("unix:/run/api.sock", "unix:/run/api.sock", false),
        ("unix:///run/api.sock", "unix:/run/api.sock", false),
        ("ipv4:10.0.0.1:50", "ipv4:10.0.0.1:50", false),
        ("'ipv4:10.0.0.1,10.0.0.2:50'", "ipv4:10.0.0.1:51907,10.0.0.2:50", false),
        ("ipv6:[::1]:50", "ipv6:[::1]:50", false),
        ("'ipv6:%5B::1%5D:50,[::2]'", "ipv6:[::1]:50,[::2]:51907", false),
        ("ipv6:::1", "ipv6:[::1]:51907", false),
    ];
    for (given, address, tls) in table {
        let text = LEAST.replace("apiAddr: localhost:51907", &format!("apiAddr: {given}"));
        let config = yaml(&text).unwrap_or_else(|errors| panic!("{given}: {errors}"));
        assert_eq!((config.api.address.to_string().as_str(), config.api.tls), (address, tls), "{given}");
    }
}

#[test]
fn addresses_of_edge_ports() {
    let table = [
        ("edge", "edge:5060"),
        ("sip:edge", "edge:5060"),
        ("SIP:10.0.0.1:5080", "10.0.0.1:5080"),
        ("sip:[2001:db8::5]", "[2001:db8::5]:5060"),
        ("'[2001:db8::5]:5070'", "[2001:db8::5]:5070"),
        ("sip:5070", "sip:5070"),
    ];
    for (given, address) in table {
        let config = yaml(&LEAST.replace("10.100.42.127", given)).unwrap();
        assert_eq!(config.edge_ports[0].address.to_string(), address, "{given}");
    }
}

#[test]
fn durations_in_every_form() {
    let table = [
        ("60s", 60_000),
        ("1m30s", 90_000),
        ("1.5s", 1_500),
        ("90", 90_000),
        ("1.5", 1_500),
        ("\"90\"", 90_000),
        ("1h", 3_600_000),
        ("24h", 86_400_000),
        ("1 m 30 s", 90_000),
        ("1s", 1_000),
    ];
    for (given, ms) in table {
        let config = good(&format!("  registerInterval: {given}"));
        assert_eq!(config.register_interval, Duration::from_millis(ms), "{given}");
    }
}

#[test]
fn deadlines_and_tls_reach_their_endpoints() {
    let text = LEAST.replace("requesterAddr: localhost", "requesterAddr: https://localhost");
    let more = "  apiTimeout: 5s\n  registration:\n    timeout: 35s\n  tls:\n    caFile: ca.pem\n";
    let config = yaml(&format!("{text}{more}")).unwrap();
    assert_eq!(config.requester.timeout, Duration::from_secs(35));
    assert_eq!(config.requester.files.authorities.as_deref(), Some(std::path::Path::new("ca.pem")));
    assert_eq!(config.api.timeout, Duration::from_secs(5));
    assert_eq!(config.api.files.authorities, None, "not for an address without TLS");
}

#[test]
fn registration_as_given() {
    let config = good(
        "  instanceId: a-1
  methods: [invite, X-OWN]
  registration:
    expires: 1h
    maxInFlight: 7
    ratePerRegistrar: unlimited
    userAgent: 'Ours/1.0 (x = y)'
    require: []",
    );
    assert_eq!(config.instance_id.as_deref(), Some("a-1"));
    assert_eq!(config.methods, ["INVITE", "X-OWN"]);
    let expected = RegistrationSettings {
        expires: 3600,
        max_in_flight: 7,
        rate_per_registrar: None,
        user_agent: "Ours/1.0 (x = y)".into(),
        require: vec![],
        redirects: RedirectPolicy::default(),
        digest: DigestMinimum::default(),
        tls_uri_scheme: TlsUriScheme::Sips,
    };
    assert_eq!(config.registration, expected);
    for (given, rate) in [("0.5", 0.5), ("3", 3.0), ("\"2.5\"", 2.5)] {
        let config = good(&format!("  registration: {{ratePerRegistrar: {given}}}"));
        assert_eq!(config.registration.rate_per_registrar, Some(rate));
    }
}

#[test]
fn redirects_and_digest_as_given() {
    let config = good(
        "  registration:
    redirects: {domains: [Provider.NET, '*.example.org', 192.0.2.7, '2001:db8::/32'], credentials: true, maxTime: 5m}
    digest: {minAlgorithm: SHA-256, requireQop: true}",
    );
    let shown: Vec<String> = config.registration.redirects.domains.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["provider.net", "example.org", "192.0.2.7/32", "2001:db8::/32"]);
    assert!(config.registration.redirects.credentials);
    assert_eq!(config.registration.redirects.max_s, 300);
    assert_eq!(config.registration.digest, DigestMinimum { sha256: true, qop: true });
    let config = good("  registration: {digest: {minAlgorithm: MD5}, redirects: {}}");
    assert_eq!(config.registration.digest, DigestMinimum::default());
    assert_eq!(config.registration.redirects, RedirectPolicy::default());
}

#[test]
fn n7_the_uri_scheme_over_tls_as_given() {
    let of = |given: &str| good(given).registration.tls_uri_scheme;
    assert_eq!(of("  registration: {tlsUriScheme: sip}"), TlsUriScheme::Sip);
    assert_eq!(of("  registration: {tlsUriScheme: sips}"), TlsUriScheme::Sips);
}

#[test]
fn bounds_of_a_sync_as_given() {
    assert_eq!(yaml(LEAST).unwrap().sync, SyncBounds::default());
    let given =
        good("  apiTimeout: 2s\n  sync: {maxPages: 7, maxTrunks: 8, maxBytes: 65536, maxTrunkBytes: 1024}");
    let expected = SyncBounds {
        timeout: Duration::from_secs(20),
        max_pages: 7,
        max_trunks: 8,
        max_bytes: 65_536,
        max_trunk_bytes: 1_024,
    };
    assert_eq!(given.sync, expected, "the time for all follows the time for one response");
    let given = good("  apiTimeout: 2s\n  sync: {timeout: 90m, maxBytes: 17179869184}");
    assert_eq!((given.sync.timeout, given.sync.max_bytes), (Duration::from_secs(5_400), 16 << 30));
}

#[test]
fn redis_without_parameters_is_the_local_one() {
    let expected = RedisSettings::new(HostPort::new("localhost", 6379));
    assert_eq!(redis(""), expected);
    assert_eq!(redis("'host=localhost,port=6379,secure=false'"), expected);
    assert_eq!(good("  cache: {provider: redis}").cache, Cache::Redis(Box::new(expected)));
}

#[test]
fn redis_parameters_as_given() {
    let settings =
        redis("host=redis.example.com, port=6380, username=me,password= a=b==c ,secure,caFile=/ca.pem");
    assert_eq!(settings.address, HostPort::new("redis.example.com", 6380));
    assert_eq!(settings.username.as_deref(), Some("me"));
    assert_eq!(settings.password.unwrap().expose(), " a=b==c ", "to the comma, blanks and all");
    assert!(settings.secure);
    assert_eq!(settings.ca_file.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert!(redis("secure=true").secure);
    for host in ["::1", "'host=[::1]'"] {
        let parameters = if host.starts_with('\'') { host.to_owned() } else { format!("host={host}") };
        assert_eq!(redis(&parameters).address.to_string(), "[::1]:6379");
    }
}

#[test]
fn yaml_anchors_and_merges_work() {
    let text = "\
kind: Registry
apiVersion: v2beta1
spec:
  requesterAddr: localhost
  apiAddr: localhost
  edgePorts:
    - &first {address: 10.0.0.1, region: north}
    - {<<: *first, address: 10.0.0.2}
";
    let config = yaml(text).unwrap();
    assert_eq!(config.edge_ports[1].region.as_deref(), Some("north"));
    assert_eq!(config.edge_ports[1].address, HostPort::new("10.0.0.2", 5060));
}

#[test]
fn a_spec_from_elsewhere_gives_the_same() {
    let text = format!("{LEAST}  registerInterval: 20\n  cache: {{provider: redis, parameters: 'host=r'}}\n");
    let document: RegistryDocument = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(Config::from_spec("registry", &document.spec).unwrap(), yaml(&text).unwrap());

    let mut spec = document.spec;
    spec.api_addr = "a:b".into();
    spec.edge_ports.clear();
    let errors = Config::from_spec("registry", &spec).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(paths, ["spec.apiAddr", "spec.edgePorts"]);
}

#[test]
fn public_addresses_of_edge_ports() {
    let public = |lines: &str| good(lines).edge_ports.remove(1).public.to_string();
    for (keys, expected) in [
        ("", ""),
        (
            "      publicAddress: sip.example.com",
            "udp=sip.example.com:5060 tcp=sip.example.com:5060 tls=sip.example.com:5061",
        ),
        (
            "      publicAddress: '[2001:db8::5]:5070'",
            "udp=[2001:db8::5]:5070 tcp=[2001:db8::5]:5070 tls=[2001:db8::5]:5061",
        ),
        ("      publicTlsAddress: sip.example.com", "tls=sip.example.com:5061"),
        ("      publicTcpAddress: 203.0.113.5:5070", "tcp=203.0.113.5:5070"),
        (
            "      publicAddress: a.example\n      publicTcpAddress: b.example:1\n      publicTlsAddress: c.example:2",
            "udp=a.example:5060 tcp=b.example:1 tls=c.example:2",
        ),
    ] {
        let shown = public(&format!("    - address: 10.0.0.9\n{keys}"));
        assert_eq!(shown, expected);
        assert_eq!(shown.parse::<PublicAddresses>().unwrap().to_string(), expected);
    }
    let errors = with("    - address: 10.0.0.9\n      publicAddress: sips:x").unwrap_err().to_string();
    assert!(
        errors.contains("spec.edgePorts[1].publicAddress") && errors.contains("sip.example.com"),
        "{errors}"
    );
}
