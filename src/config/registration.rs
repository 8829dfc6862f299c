//! `spec.registration`: how each trunk is registered.

use crate::spec::{DigestAlgorithm, Quantity, RedirectsSpec, RegistrationSpec, TlsUriSchemeSpec};
use routr_registration::{
    registration::redirect_policy::{RedirectDomain, RedirectPolicy},
    trunk::TlsUriScheme,
};
use routr_types::digest_minimum::DigestMinimum;

use super::{
    rules::{self, hint},
    validation_error::show,
    validator::{Validator, is_text},
};

/// Settings of each registration.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrationSettings {
    /// Requested expiry in seconds, 10 to 86,400.
    pub expires: u32,
    /// REGISTERs in flight at most.
    pub max_in_flight: u32,
    /// REGISTERs per second for each registrar host; `None` lifts the bound.
    pub rate_per_registrar: Option<f64>,
    /// User-Agent header field.
    pub user_agent: String,
    /// Option tags sent in Require and Proxy-Require; at most 32.
    pub require: Vec<String>,
    /// Redirections that are followed.
    pub redirects: RedirectPolicy,
    /// Minimum that a digest challenge must offer.
    pub digest: DigestMinimum,
    /// Scheme of URIs over TLS, where a trunk does not say.
    pub tls_uri_scheme: TlsUriScheme,
}

impl Validator<'_> {
    pub(super) fn registration(&mut self, spec: &RegistrationSpec) -> RegistrationSettings {
        let expires = self.duration("spec.registration.expires", spec.expires.as_ref(), &rules::EXPIRES);
        let max_in_flight =
            self.whole("spec.registration.maxInFlight", spec.max_in_flight, &rules::IN_FLIGHT);
        let user_agent = spec.user_agent.as_deref().unwrap_or(rules::USER_AGENT);
        if !is_text(user_agent, rules::MAX_USER_AGENT) {
            let path = "spec.registration.userAgent";
            self.wrong(path, "not a User-Agent", Some(show(user_agent)), hint::USER_AGENT);
        }
        RegistrationSettings {
            expires: u32::try_from(expires.as_secs()).unwrap_or(u32::MAX),
            max_in_flight: u32::try_from(max_in_flight).unwrap_or(u32::MAX),
            rate_per_registrar: self.rate(spec.rate_per_registrar.as_ref()),
            user_agent: user_agent.to_owned(),
            require: self.require(spec.require.as_deref()),
            redirects: self.redirects(&spec.redirects.clone().unwrap_or_default()),
            digest: spec.digest.as_ref().map_or_else(DigestMinimum::default, |digest| DigestMinimum {
                sha256: digest.min_algorithm == Some(DigestAlgorithm::Sha256),
                qop: digest.require_qop.unwrap_or(false),
            }),
            tls_uri_scheme: match spec.tls_uri_scheme {
                None | Some(TlsUriSchemeSpec::Sips) => TlsUriScheme::Sips,
                Some(TlsUriSchemeSpec::Sip) => TlsUriScheme::Sip,
            },
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
            None => return Some(rules::RATE.default),
            Some(Quantity::Text(text)) if text == rules::UNLIMITED => return None,
            Some(Quantity::Text(text)) => (text.parse().ok(), show(text)),
            Some(Quantity::Whole(number)) => (Some(*number as f64), number.to_string()),
            Some(Quantity::Number(number)) => (Some(*number), format!("{number:?}")),
        };
        let good = number.filter(|number| (rules::RATE.least..=rules::RATE.most).contains(number));
        if good.is_none() {
            let problem = if number.is_some() { "out of bounds" } else { "not a rate" };
            self.wrong("spec.registration.ratePerRegistrar", problem, Some(shown), &rules::RATE.hint());
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
