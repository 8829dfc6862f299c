//! Conversion of [`crate::spec`] to a [`Config`]: every value is parsed, every default filled in, every
//! validation error collected.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::spec::{
    CacheSpec, DigestAlgorithm, EdgePortSpec, Quantity, RedirectsSpec, RegistrationSpec, RegistryDocument,
    RegistrySpec, SyncSpec, TlsSpec,
};
use routr_net::tls::{TlsFiles, followed::ClientCertificate};
use routr_registration::registration::redirect_policy::{RedirectDomain, RedirectPolicy};
use routr_types::{
    digest_minimum::DigestMinimum,
    host::{HostPort, Transport},
};

use super::{
    Config, Endpoint, RegistrationSettings, Secrets, SyncBounds,
    address::{self, AddressError, Target},
    duration::{self, DurationError},
    files::Files,
    rules::{self, DurationRange, WholeRange, hint},
    validation_error::{ValidationError, show},
};
use routr_registration::model::{EdgePort, PublicAddresses};

/// Collects what is wrong with the values.
pub(super) struct Validator<'a> {
    pub(super) files: &'a dyn Files,
    /// Content of a resource's Secrets; `None` for a document that is no Kubernetes resource.
    pub(super) secrets: Option<&'a Secrets>,
    /// Paths that need no second error.
    pub(super) blamed: HashSet<String>,
    pub(super) lines: HashMap<String, u32>,
    pub(super) errors: Vec<ValidationError>,
}

impl Validator<'_> {
    pub(super) fn wrong(
        &mut self,
        path: &str,
        problem: impl Into<String>,
        value: Option<String>,
        hint: &str,
    ) {
        // The path and all that it is in; a document may have many of both.
        let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
        if ends.map(|end| &path[..end]).any(|outer| self.blamed.contains(outer)) {
            return;
        }
        self.errors.push(ValidationError {
            path: path.to_owned(),
            line: self.lines.get(path).copied().filter(|line| *line > 0),
            problem: problem.into(),
            value,
            hint: hint.to_owned(),
        });
    }

    /// Validates the whole document. Where there are errors, placeholders stand for the values at fault.
    pub(super) fn document(&mut self, document: &RegistryDocument) -> Config {
        if !matches!(document.kind.as_str(), "Registry" | "registry") {
            self.wrong("kind", "another kind of document", Some(show(&document.kind)), hint::KIND);
        }
        if !matches!(document.api_version.as_str(), "v2beta1" | "routr.io/v2beta1") {
            let given = show(&document.api_version);
            self.wrong("apiVersion", "another version", Some(given), hint::API_VERSION);
        }
        let name = document.metadata.as_ref().and_then(|metadata| metadata.name.as_deref());
        self.spec(name.unwrap_or(rules::NAME), &document.spec)
    }

    /// The spec of a registry of that name.
    pub(super) fn spec(&mut self, name: &str, spec: &RegistrySpec) -> Config {
        if !is_text(name, 253) {
            self.wrong("metadata.name", "not a name", Some(show(name)), hint::NAME);
        }
        if spec.suspend.is_some() {
            self.only_in_kubernetes("spec.suspend");
        }
        let registration = spec.registration.clone().unwrap_or_default();
        let timeout = self.duration(
            "spec.registration.timeout",
            registration.timeout.as_ref(),
            &rules::REGISTER_TIMEOUT,
        );
        let api_timeout = self.duration("spec.apiTimeout", spec.api_timeout.as_ref(), &rules::API_TIMEOUT);
        let mut requester = self.endpoint(
            "spec.requesterAddr",
            &spec.requester_addr,
            rules::REQUESTER_PORT,
            hint::REQUESTER_ADDR,
            timeout,
        );
        let mut api =
            self.endpoint("spec.apiAddr", &spec.api_addr, rules::API_PORT, hint::API_ADDR, api_timeout);
        self.tls(spec, [&mut requester, &mut api]);
        requester.token = self.requester_token(spec);
        Config {
            name: name.to_owned(),
            instance_id: self.instance_id(spec.instance_id.as_deref()),
            api,
            requester,
            register_interval: self.duration(
                "spec.registerInterval",
                spec.register_interval.as_ref(),
                &rules::REGISTER_INTERVAL,
            ),
            cache: self.cache(spec.cache.as_ref().unwrap_or(&CacheSpec::default())),
            methods: self.methods(spec.methods.as_deref().unwrap_or_default()),
            edge_ports: self.edge_ports(&spec.edge_ports),
            registration: self.registration(&registration),
            sync: self.sync(&spec.sync.clone().unwrap_or_default(), api_timeout),
        }
    }

    /// Reports the key at `path` where this is no resource.
    pub(super) fn only_in_kubernetes(&mut self, path: &str) {
        if self.secrets.is_none() {
            self.wrong(path, rules::ONLY_IN_KUBERNETES, None, hint::ONLY_IN_KUBERNETES);
        }
    }

    fn endpoint(
        &mut self,
        path: &str,
        text: &str,
        default_port: u16,
        hint: &str,
        timeout: Duration,
    ) -> Endpoint {
        let nowhere = || Target::Host(HostPort::new("", default_port));
        let (address, tls) = match address::service(text, default_port) {
            Ok((Target::Unix(given), _)) => match self.files.socket(&given) {
                Ok(socket) => (Target::Unix(socket), false),
                Err(problem) => {
                    self.wrong(path, problem, Some(show(text)), hint);
                    (nowhere(), false)
                }
            },
            Ok(read) => read,
            Err(error) => {
                self.address(path, text, error, hint);
                (nowhere(), text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")))
            }
        };
        Endpoint { tls, ..Endpoint::plain(address, timeout) }
    }

    fn address(&mut self, path: &str, text: &str, error: AddressError, hint: &str) {
        let value = (error != AddressError::Empty).then(|| show(text));
        self.wrong(path, error.to_string(), value, hint);
    }

    fn tls(&mut self, spec: &RegistrySpec, endpoints: [&mut Endpoint; 2]) {
        let Some(tls) = &spec.tls else { return };
        let given = [
            ("spec.tls.caFile", &tls.ca_file),
            ("spec.tls.certFile", &tls.cert_file),
            ("spec.tls.keyFile", &tls.key_file),
        ];
        let authorities = tls.ca_file.as_deref().and_then(|given| self.authorities("spec.tls.caFile", given));
        let certificate = self.client_certificate(tls);
        let unused = !endpoints.iter().any(|endpoint| endpoint.tls);
        for (path, given) in given {
            if let Some(given) = given.as_ref().filter(|given| unused && !given.trim().is_empty()) {
                self.wrong(
                    path,
                    "has no effect, because neither address uses https://",
                    Some(show(given)),
                    "write https:// before requesterAddr or apiAddr, or remove it",
                );
            }
        }
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.tls) {
            endpoint.files = TlsFiles { authorities: authorities.clone(), certificate: certificate.clone() };
        }
    }

    /// A certificate and its key: both, or neither.
    fn client_certificate(&mut self, tls: &TlsSpec) -> Option<ClientCertificate> {
        let (cert_path, key_path) = ("spec.tls.certFile", "spec.tls.keyFile");
        let (certificate, key) = match (&tls.cert_file, &tls.key_file) {
            (None, None) => return None,
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                self.wrong(key_path, "required together with certFile", None, hint::KEY_FILE);
                return None;
            }
            (None, Some(_)) => {
                self.wrong(cert_path, "required together with keyFile", None, hint::CERT_FILE);
                return None;
            }
        };
        let mut file = |path, given: &str, hint, good: fn(&dyn Files, &Path) -> Result<(), String>| {
            if given.trim().is_empty() {
                self.wrong(path, "empty", None, hint);
                return None;
            }
            let file = self.files.resolve(given);
            if let Err(problem) = good(self.files, &file) {
                self.wrong(path, problem, Some(show(given)), hint);
            }
            Some(file)
        };
        let certificate =
            file(cert_path, certificate, hint::CERT_FILE, |files, path| files.authorities(path));
        let key = file(key_path, key, hint::KEY_FILE, |files, path| files.key(path));
        Some(ClientCertificate { certificate: certificate?, key: key? })
    }

    /// A PEM file with authorities.
    pub(super) fn authorities(&mut self, path: &str, given: &str) -> Option<PathBuf> {
        if given.trim().is_empty() {
            self.wrong(path, "empty", None, hint::CA_FILE);
            return None;
        }
        let file = self.files.resolve(given);
        if let Err(problem) = self.files.authorities(&file) {
            // What stands in the parameters of a cache may come from a Secret.
            let shown = (path == "spec.tls.caFile").then(|| show(given));
            self.wrong(path, problem, shown, hint::CA_FILE);
        }
        Some(file)
    }

    fn duration(&mut self, path: &str, given: Option<&Quantity>, span: &DurationRange) -> Duration {
        let Some(given) = given else { return span.default };
        let (read, shown) = match given {
            #[allow(clippy::cast_precision_loss)]
            Quantity::Whole(number) => (
                u64::try_from(*number).map(Duration::from_secs).map_err(|_| DurationError::OutOfBounds),
                number.to_string(),
            ),
            Quantity::Number(number) => (duration::seconds(*number), format!("{number:?}")),
            Quantity::Text(text) => (duration::parse(text), show(text)),
        };
        let read = read.and_then(|duration| match duration {
            duration if (span.least..=span.most).contains(&duration) => Ok(duration),
            _ => Err(DurationError::OutOfBounds),
        });
        read.unwrap_or_else(|error| {
            self.wrong(path, error.to_string(), Some(shown), &span.hint());
            span.default
        })
    }

    fn whole(&mut self, path: &str, given: Option<i64>, range: &WholeRange) -> i64 {
        let Some(number) = given else { return range.default };
        if (range.least..=range.most).contains(&number) {
            return number;
        }
        self.wrong(path, "out of bounds", Some(number.to_string()), &range.hint());
        range.default
    }

    fn sync(&mut self, spec: &SyncSpec, api_timeout: Duration) -> SyncBounds {
        let timeout = match &spec.timeout {
            None => api_timeout * rules::SYNC_TIMEOUT_FACTOR,
            given => self.duration("spec.sync.timeout", given.as_ref(), &rules::SYNC_TIMEOUT),
        };
        let max_pages = self.whole("spec.sync.maxPages", spec.max_pages, &rules::SYNC_PAGES);
        let max_trunks = self.whole("spec.sync.maxTrunks", spec.max_trunks, &rules::SYNC_TRUNKS);
        let max_bytes = self.whole("spec.sync.maxBytes", spec.max_bytes, &rules::SYNC_BYTES);
        let max_trunk_bytes =
            self.whole("spec.sync.maxTrunkBytes", spec.max_trunk_bytes, &rules::TRUNK_BYTES);
        let narrow = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        SyncBounds {
            timeout,
            max_pages: narrow(max_pages),
            max_trunks: narrow(max_trunks),
            max_bytes: max_bytes.unsigned_abs(),
            max_trunk_bytes: narrow(max_trunk_bytes),
        }
    }

    fn instance_id(&mut self, given: Option<&str>) -> Option<String> {
        let given = given?;
        if !(1..=128).contains(&given.len()) || !given.bytes().all(|b| b.is_ascii_graphic()) {
            self.wrong("spec.instanceId", "not an instance id", Some(show(given)), hint::INSTANCE_ID);
        }
        Some(given.to_owned())
    }

    fn methods(&mut self, given: &[String]) -> Vec<String> {
        let path = "spec.methods";
        if given.len() > rules::MAX_METHODS {
            self.wrong(path, "too many", Some(given.len().to_string()), hint::METHODS);
        }
        let all: Vec<String> = given.iter().map(|method| method.to_ascii_uppercase()).collect();
        self.tokens(path, &all, given, "not a SIP method", hint::METHOD);
        all
    }

    /// Each must be a token (RFC 3261 §25.1), and none a repetition.
    fn tokens(&mut self, path: &str, all: &[String], given: &[String], problem: &str, hint: &str) {
        let mut seen = HashMap::new();
        for (index, (text, given)) in all.iter().zip(given).enumerate() {
            let path_of = |index: usize| format!("{path}[{index}]");
            let first = *seen.entry(text.to_ascii_lowercase()).or_insert(index);
            if !is_token(text) {
                self.wrong(&path_of(index), problem, Some(show(given)), hint);
            } else if first < index {
                let problem = format!("the same as {}", path_of(first));
                self.wrong(&path_of(index), problem, Some(show(given)), "remove one of them");
            }
        }
    }

    fn edge_ports(&mut self, given: &[EdgePortSpec]) -> Vec<EdgePort> {
        let path = "spec.edgePorts";
        if given.is_empty() {
            self.wrong(path, "an empty list", None, hint::EDGE_PORTS);
        }
        let mut all = Vec::with_capacity(given.len());
        let mut seen = HashMap::new();
        for (index, spec) in given.iter().enumerate() {
            let here = format!("{path}[{index}]");
            if let Some(region) = spec.region.as_deref().filter(|region| !is_text(region, 128)) {
                self.wrong(
                    &format!("{here}.region"),
                    "not the name of a region",
                    Some(show(region)),
                    hint::REGION,
                );
            }
            let here = format!("{here}.address");
            match address::sip(&spec.address, Transport::Udp.default_port()) {
                Err(error) => self.address(&here, &spec.address, error, hint::EDGE_PORT),
                Ok(address) => {
                    let first = *seen.entry(address.clone()).or_insert(index);
                    if first < index {
                        let problem = format!("the same as {path}[{first}].address");
                        self.wrong(&here, problem, Some(show(&spec.address)), "remove one of them");
                    }
                    let public = self.public_addresses(&format!("{path}[{index}]"), spec);
                    all.push(EdgePort { address, region: spec.region.clone(), public });
                }
            }
        }
        all
    }

    fn public_addresses(&mut self, path: &str, spec: &EdgePortSpec) -> PublicAddresses {
        let mut read = |key: &str, given: &Option<String>, transport: Transport| {
            let given = given.as_deref()?;
            match address::sip(given, transport.default_port()) {
                Ok(address) => Some(address),
                Err(error) => {
                    self.address(&format!("{path}.{key}"), given, error, hint::PUBLIC_ADDRESS);
                    None
                }
            }
        };
        let udp = read("publicAddress", &spec.public_address, Transport::Udp);
        let tcp = read("publicTcpAddress", &spec.public_tcp_address, Transport::Tcp);
        let tls = read("publicTlsAddress", &spec.public_tls_address, Transport::Tls);
        let tls_port = Transport::Tls.default_port();
        PublicAddresses {
            tcp: tcp.or_else(|| udp.clone()),
            tls: tls.or_else(|| Some(HostPort { port: tls_port, ..udp.clone()? })),
            udp,
        }
    }

    fn registration(&mut self, spec: &RegistrationSpec) -> RegistrationSettings {
        let path = "spec.registration.expires";
        let expires = self.duration(path, spec.expires.as_ref(), &rules::EXPIRES);
        if expires.subsec_nanos() != 0 {
            let given = duration::show(expires);
            self.wrong(path, "not a whole number of seconds", Some(given), &rules::EXPIRES.hint());
        }
        let max_in_flight =
            self.whole("spec.registration.maxInFlight", spec.max_in_flight, &rules::IN_FLIGHT_RANGE);
        let user_agent = spec.user_agent.as_deref().unwrap_or(rules::USER_AGENT);
        if !is_text(user_agent, 256) {
            let path = "spec.registration.userAgent";
            self.wrong(path, "not a User-Agent", Some(show(user_agent)), hint::USER_AGENT);
        }
        RegistrationSettings {
            expires: u32::try_from(expires.as_secs()).unwrap_or(u32::MAX),
            max_in_flight: u32::try_from(max_in_flight).unwrap_or(rules::IN_FLIGHT),
            rate_per_registrar: self.rate(spec.rate_per_registrar.as_ref()),
            user_agent: user_agent.to_owned(),
            require: self.require(spec.require.as_deref()),
            redirects: self.redirects(&spec.redirects.clone().unwrap_or_default()),
            digest: spec.digest.as_ref().map_or_else(DigestMinimum::default, |digest| DigestMinimum {
                sha256: digest.min_algorithm == Some(DigestAlgorithm::Sha256),
                qop: digest.require_qop.unwrap_or(false),
            }),
        }
    }

    fn redirects(&mut self, spec: &RedirectsSpec) -> RedirectPolicy {
        let path = "spec.registration.redirects.domains";
        let given = spec.domains.as_deref().unwrap_or_default();
        if given.len() > rules::MAX_REDIRECT_DOMAINS {
            self.wrong(path, "too many", Some(given.len().to_string()), hint::REDIRECT_DOMAINS);
        }
        let mut domains = Vec::with_capacity(given.len());
        for (index, text) in given.iter().enumerate() {
            match RedirectDomain::parse(text) {
                Some(domain) => domains.push(domain),
                None => {
                    let path = format!("{path}[{index}]");
                    self.wrong(&path, "not a domain", Some(show(text)), hint::REDIRECT_DOMAIN);
                }
            }
        }
        let path = "spec.registration.redirects.maxTime";
        let max = self.duration(path, spec.max_time.as_ref(), &rules::REDIRECT_TIME);
        RedirectPolicy {
            domains,
            credentials: spec.credentials.unwrap_or(false),
            max_s: u32::try_from(max.as_secs()).unwrap_or(u32::MAX),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn rate(&mut self, given: Option<&Quantity>) -> Option<f64> {
        let (number, shown) = match given {
            None => return Some(rules::RATE),
            Some(Quantity::Text(text)) if text == rules::UNLIMITED => return None,
            Some(Quantity::Text(text)) => (text.parse().ok(), show(text)),
            Some(Quantity::Whole(number)) => (Some(*number as f64), number.to_string()),
            Some(Quantity::Number(number)) => (Some(*number), format!("{number:?}")),
        };
        let good = number.filter(|number| rules::RATES.contains(number));
        if good.is_none() {
            let problem = if number.is_some() { "out of bounds" } else { "not a rate" };
            self.wrong("spec.registration.ratePerRegistrar", problem, Some(shown), hint::RATE);
        }
        good
    }

    fn require(&mut self, given: Option<&[String]>) -> Vec<String> {
        let path = "spec.registration.require";
        let Some(given) = given else { return rules::REQUIRE.map(str::to_owned).into() };
        if given.len() > rules::MAX_REQUIRE {
            self.wrong(path, "too many", Some(given.len().to_string()), hint::REQUIRE);
        }
        self.tokens(path, given, given, "not a SIP option tag", hint::OPTION_TAG);
        given.to_vec()
    }
}

/// Something to read, that cannot break a header field.
fn is_text(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// `token` of RFC 3261 §25.1.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}
