//! Conversion of the tree to the types of [`crate::spec`]: every key of the document is named here.

use crate::spec::{
    CacheProvider, CacheSpec, DigestAlgorithm, DigestSpec, EdgePortSpec, Metadata, RedirectsSpec,
    RegistrationSpec, RegistryDocument, RegistrySpec, SyncSpec, TlsSpec,
};

use super::{
    map_reader::{Findings, MapReader},
    rules::{self, hint},
    tree::Node,
};

/// Reads the document; `None` where its shape leaves nothing to interpret. What is wrong goes to `findings`.
pub(super) fn read(findings: &mut Findings, node: Node) -> Option<RegistryDocument> {
    findings.lines.insert(String::new(), node.line);
    let mut top = MapReader::of(findings, "", node)?;
    let kind = top.required_text("kind", hint::KIND);
    let api_version = top.required_text("apiVersion", hint::API_VERSION);
    let metadata = top.mapping("metadata", |fields| {
        let name = fields.text("name", hint::NAME);
        fields.accept_rest();
        Metadata { name }
    });
    let spec = top.required_mapping("spec", hint::SPEC, spec);
    top.finish();
    Some(RegistryDocument { kind, api_version, metadata, spec: spec? })
}

fn spec(fields: &mut MapReader<'_>) -> RegistrySpec {
    fields.only_in_kubernetes("suspend");
    fields.only_in_kubernetes("requesterTokenSecretRef");
    RegistrySpec {
        requester_addr: fields.required_text("requesterAddr", hint::REQUESTER_ADDR),
        api_addr: fields.required_text("apiAddr", hint::API_ADDR),
        requester_token_file: fields.text("requesterTokenFile", hint::TOKEN_FILE),
        requester_token_secret_ref: None,
        register_interval: fields.quantity("registerInterval", &rules::REGISTER_INTERVAL.hint()),
        cache: fields.mapping("cache", cache),
        methods: fields.texts("methods", hint::METHODS, hint::METHOD),
        edge_ports: fields.mappings("edgePorts", hint::EDGE_PORTS, EdgePortSpec::default, |fields| {
            EdgePortSpec {
                address: fields.required_text("address", hint::EDGE_PORT),
                region: fields.text("region", hint::REGION),
                public_address: fields.text("publicAddress", hint::PUBLIC_ADDRESS),
                public_tcp_address: fields.text("publicTcpAddress", hint::PUBLIC_ADDRESS),
                public_tls_address: fields.text("publicTlsAddress", hint::PUBLIC_ADDRESS),
            }
        }),
        instance_id: fields.text("instanceId", hint::INSTANCE_ID),
        registration: fields.mapping("registration", registration),
        tls: fields.mapping("tls", |fields| TlsSpec {
            ca_file: fields.text("caFile", hint::CA_FILE),
            cert_file: fields.text("certFile", hint::CERT_FILE),
            key_file: fields.text("keyFile", hint::KEY_FILE),
        }),
        api_timeout: fields.quantity("apiTimeout", &rules::API_TIMEOUT.hint()),
        sync: fields.mapping("sync", sync),
        suspend: None,
    }
}

fn cache(fields: &mut MapReader<'_>) -> CacheSpec {
    fields.hide_values();
    fields.only_in_kubernetes("parametersSecretRef");
    fields.only_in_kubernetes("passwordSecretRef");
    CacheSpec {
        provider: fields
            .word("provider", &[("memory", CacheProvider::Memory), ("redis", CacheProvider::Redis)]),
        parameters: fields.text("parameters", hint::PARAMETERS).map(Into::into),
        parameters_secret_ref: None,
        password_secret_ref: None,
    }
}

fn sync(fields: &mut MapReader<'_>) -> SyncSpec {
    SyncSpec {
        timeout: fields.quantity("timeout", &rules::SYNC_TIMEOUT.hint()),
        max_pages: fields.whole("maxPages", &rules::SYNC_PAGES.hint()),
        max_trunks: fields.whole("maxTrunks", &rules::SYNC_TRUNKS.hint()),
        max_bytes: fields.whole("maxBytes", &rules::SYNC_BYTES.hint()),
        max_trunk_bytes: fields.whole("maxTrunkBytes", &rules::TRUNK_BYTES.hint()),
    }
}

fn registration(fields: &mut MapReader<'_>) -> RegistrationSpec {
    RegistrationSpec {
        expires: fields.quantity("expires", &rules::EXPIRES.hint()),
        max_in_flight: fields.whole("maxInFlight", hint::IN_FLIGHT),
        rate_per_registrar: fields.quantity("ratePerRegistrar", hint::RATE),
        timeout: fields.quantity("timeout", &rules::REGISTER_TIMEOUT.hint()),
        user_agent: fields.text("userAgent", hint::USER_AGENT),
        require: fields.texts("require", hint::REQUIRE, hint::OPTION_TAG),
        redirects: fields.mapping("redirects", |fields| RedirectsSpec {
            domains: fields.texts("domains", hint::REDIRECT_DOMAINS, hint::REDIRECT_DOMAIN),
            credentials: fields.flag("credentials"),
            max_time: fields.quantity("maxTime", &rules::REDIRECT_TIME.hint()),
        }),
        digest: fields.mapping("digest", |fields| DigestSpec {
            min_algorithm: fields
                .word("minAlgorithm", &[("MD5", DigestAlgorithm::Md5), ("SHA-256", DigestAlgorithm::Sha256)]),
            require_qop: fields.flag("requireQop"),
        }),
    }
}
