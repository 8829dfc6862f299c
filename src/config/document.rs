//! From the tree to the types of [`crate::spec`]: every key of the document is named here.

use crate::spec::{
    CacheProvider, CacheSpec, DigestAlgorithm, DigestSpec, EdgePortSpec, Metadata, RedirectsSpec,
    RegistrationSpec, RegistryDocument, RegistrySpec, SyncSpec, TlsSpec,
};

use super::{
    fields::{Fields, Findings},
    rules::{self, right},
    tree::Node,
};

/// Reads the document; `None` where its shape leaves nothing to interpret. What is wrong goes to `findings`.
pub(super) fn read(findings: &mut Findings, node: Node) -> Option<RegistryDocument> {
    findings.lines.insert(String::new(), node.line);
    let mut top = Fields::of(findings, "", node)?;
    let kind = top.required_text("kind", right::KIND);
    let api_version = top.required_text("apiVersion", right::API_VERSION);
    let metadata = top.mapping("metadata", |fields| {
        let name = fields.text("name", right::NAME);
        fields.accept_rest();
        Metadata { name }
    });
    let spec = top.required_mapping("spec", right::SPEC, spec);
    top.finish();
    Some(RegistryDocument { kind, api_version, metadata, spec: spec? })
}

fn spec(fields: &mut Fields<'_>) -> RegistrySpec {
    fields.only_in_kubernetes("suspend");
    fields.only_in_kubernetes("requesterTokenSecretRef");
    RegistrySpec {
        requester_addr: fields.required_text("requesterAddr", right::REQUESTER_ADDR),
        api_addr: fields.required_text("apiAddr", right::API_ADDR),
        requester_token_file: fields.text("requesterTokenFile", right::TOKEN_FILE),
        requester_token_secret_ref: None,
        register_interval: fields.quantity("registerInterval", &rules::REGISTER_INTERVAL.right()),
        cache: fields.mapping("cache", cache),
        methods: fields.texts("methods", right::METHODS, right::METHOD),
        edge_ports: fields.mappings(
            "edgePorts",
            right::EDGE_PORTS,
            || EdgePortSpec { address: String::new(), region: None },
            |fields| EdgePortSpec {
                address: fields.required_text("address", right::EDGE_PORT),
                region: fields.text("region", right::REGION),
            },
        ),
        instance_id: fields.text("instanceId", right::INSTANCE_ID),
        registration: fields.mapping("registration", registration),
        tls: fields.mapping("tls", |fields| TlsSpec {
            ca_file: fields.text("caFile", right::CA_FILE),
            cert_file: fields.text("certFile", right::CERT_FILE),
            key_file: fields.text("keyFile", right::KEY_FILE),
        }),
        api_timeout: fields.quantity("apiTimeout", &rules::API_TIMEOUT.right()),
        sync: fields.mapping("sync", sync),
        suspend: None,
    }
}

fn cache(fields: &mut Fields<'_>) -> CacheSpec {
    fields.hide_values();
    fields.only_in_kubernetes("parametersSecretRef");
    fields.only_in_kubernetes("passwordSecretRef");
    CacheSpec {
        provider: fields
            .word("provider", &[("memory", CacheProvider::Memory), ("redis", CacheProvider::Redis)]),
        parameters: fields.text("parameters", right::PARAMETERS).map(Into::into),
        parameters_secret_ref: None,
        password_secret_ref: None,
    }
}

fn sync(fields: &mut Fields<'_>) -> SyncSpec {
    SyncSpec {
        timeout: fields.quantity("timeout", &rules::SYNC_TIMEOUT.right()),
        max_pages: fields.whole("maxPages", &rules::SYNC_PAGES.right()),
        max_trunks: fields.whole("maxTrunks", &rules::SYNC_TRUNKS.right()),
        max_bytes: fields.whole("maxBytes", &rules::SYNC_BYTES.right()),
        max_trunk_bytes: fields.whole("maxTrunkBytes", &rules::TRUNK_BYTES.right()),
    }
}

fn registration(fields: &mut Fields<'_>) -> RegistrationSpec {
    RegistrationSpec {
        expires: fields.quantity("expires", &rules::EXPIRES.right()),
        max_in_flight: fields.whole("maxInFlight", right::IN_FLIGHT),
        rate_per_registrar: fields.quantity("ratePerRegistrar", right::RATE),
        timeout: fields.quantity("timeout", &rules::REGISTER_TIMEOUT.right()),
        user_agent: fields.text("userAgent", right::USER_AGENT),
        require: fields.texts("require", right::REQUIRE, right::OPTION_TAG),
        redirects: fields.mapping("redirects", |fields| RedirectsSpec {
            domains: fields.texts("domains", right::REDIRECT_DOMAINS, right::REDIRECT_DOMAIN),
            credentials: fields.flag("credentials"),
            max_time: fields.quantity("maxTime", &rules::REDIRECT_TIME.right()),
        }),
        digest: fields.mapping("digest", |fields| DigestSpec {
            min_algorithm: fields
                .word("minAlgorithm", &[("MD5", DigestAlgorithm::Md5), ("SHA-256", DigestAlgorithm::Sha256)]),
            require_qop: fields.flag("requireQop"),
        }),
    }
}
