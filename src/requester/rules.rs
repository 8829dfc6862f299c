//! Rules for what a caller may ask for: methods, header fields, and targets.

use std::{fmt, str::FromStr};

use crate::proto::{processor::Method, requester::SendMessageRequest};
use routr_net::addresses::{AddressPolicy, AddressRule, NEVER};

use super::check::RequestError;

/// Header fields that only elements of a trust domain may write, or that change where requests go: they say
/// who calls, who pays, where someone is, or by which path responses and calls come. Routr's registry sends
/// none of them.
const GUARDED: &[&str] = &[
    "Accept-Contact",
    "Alert-Info",
    "Call-Info",
    "Diversion",
    "Geolocation",
    "Geolocation-Routing",
    "History-Info",
    "Identity",
    "Identity-Info",
    "Join",
    "Path",
    "Policy-Contact",
    "Policy-ID",
    "Privacy",
    "Record-Route",
    "Referred-By",
    "Reject-Contact",
    "Remote-Party-ID",
    "Replaces",
    "Reply-To",
    "Request-Disposition",
    "Resource-Priority",
    "RPID-Privacy",
    "Service-Route",
    "Target-Dialog",
    "Trigger-Consent",
    "User-to-User",
];

/// Prefix of the names of header fields that are for trust domains (RFC 3427 §4.1): P-Asserted-Identity,
/// P-Charging-Vector and all their kin.
const GUARDED_PREFIX: &str = "P-";

/// A word, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// `any`.
    Any,
    /// These only.
    Only(Vec<T>),
}

impl<T: PartialEq> Allowed<T> {
    fn has(&self, one: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(all) => all.contains(one),
        }
    }
}

/// A method that is sent outside of INVITE transactions, as a flag names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodRule {
    /// This one.
    One(Method),
    /// All that are offered.
    Any,
}

impl FromStr for MethodRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_uppercase();
        match Method::from_str_name(&name) {
            _ if matches!(name.as_str(), "ANY" | "ALL" | "*") => Ok(Self::Any),
            Some(Method::Invite | Method::Ack | Method::Cancel) => {
                Err(format!("{name} belongs to INVITE transactions, which are not offered here"))
            }
            Some(Method::Unknown) | None => Err(format!(
                "{text:?} is no method of the contract; expected any, or one such as REGISTER or OPTIONS"
            )),
            Some(method) => Ok(Self::One(method)),
        }
    }
}

/// The name of a header field, as a flag has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule(String);

impl FromStr for HeaderRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().trim_end_matches(':');
        match super::check::is_token(name) || name == "*" {
            true => Ok(Self(name.to_ascii_lowercase())),
            false => {
                Err(format!("{text:?} is no name of a header field; expected one such as Privacy, or any"))
            }
        }
    }
}

/// Rules for what a caller may ask for.
#[derive(Clone, Debug)]
pub struct Rules {
    methods: Allowed<Method>,
    headers: Allowed<String>,
    /// Addresses that requests may go to.
    pub targets: AddressPolicy,
}

impl Default for Rules {
    /// Any method that is offered, no guarded header field, any target but [`NEVER`].
    fn default() -> Self {
        Self::new(&[MethodRule::Any], &[], [], [])
    }
}

impl Rules {
    /// Makes rules of those that flags have.
    pub fn new(
        methods: &[MethodRule],
        headers: &[HeaderRule],
        allowed: impl IntoIterator<Item = AddressRule>,
        denied: impl IntoIterator<Item = AddressRule>,
    ) -> Self {
        let named = |rule: &MethodRule| match rule {
            MethodRule::One(method) => Some(*method),
            MethodRule::Any => None,
        };
        let methods: Option<Vec<Method>> = methods.iter().map(named).collect();
        let any = headers.iter().any(|HeaderRule(name)| matches!(name.as_str(), "any" | "all" | "*"));
        let headers = if any {
            Allowed::Any
        } else {
            Allowed::Only(headers.iter().map(|HeaderRule(name)| name.clone()).collect())
        };
        Self {
            methods: methods.map_or(Allowed::Any, Allowed::Only),
            headers,
            targets: AddressPolicy::new(NEVER, allowed, denied),
        }
    }

    /// Checks the method and the header fields of a request. Its target is checked once its name was looked
    /// up.
    ///
    /// # Errors
    /// [`RequestError::Denied`], with the field and the flag that would allow it.
    pub fn check(&self, sent: &SendMessageRequest) -> Result<(), RequestError> {
        if let Ok(method) = Method::try_from(sent.method)
            && !matches!(method, Method::Unknown | Method::Invite | Method::Ack | Method::Cancel)
            && !self.methods.has(&method)
        {
            let name = method.as_str_name();
            return Err(RequestError::Denied(format!(
                "method: {name} is not allowed here, only {}; --allow-method {name} allows it",
                self.shown_methods()
            )));
        }
        let extensions = sent.message.iter().flat_map(|message| message.extensions.iter().enumerate());
        for (at, extension) in extensions {
            let name = extension.name.trim().to_ascii_lowercase();
            if is_guarded(&name) && !self.headers.has(&name) {
                let shown = super::check::shown(&extension.name);
                return Err(RequestError::Denied(format!(
                    "message.extensions[{at}].name: {shown} says who someone is or changes where requests go; \
                     --allow-header {} allows it",
                    extension.name.escape_debug().take(64).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    fn shown_methods(&self) -> String {
        match &self.methods {
            Allowed::Any => "any".to_owned(),
            Allowed::Only(all) => {
                all.iter().map(|method| method.as_str_name()).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// The name in small letters.
fn is_guarded(name: &str) -> bool {
    let prefixed =
        name.get(..GUARDED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(GUARDED_PREFIX));
    prefixed || GUARDED.iter().any(|guarded| guarded.eq_ignore_ascii_case(name))
}

impl fmt::Display for Rules {
    /// The methods, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown_methods())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sipmessage::{Extension, SipMessage};

    fn request(method: Method, names: &[&str]) -> SendMessageRequest {
        let extension = |name: &&str| Extension { name: (*name).to_owned(), value: "x".to_owned() };
        let extensions = names.iter().map(extension).collect();
        let message = Some(SipMessage { extensions, ..SipMessage::default() });
        SendMessageRequest { method: method.into(), message, ..SendMessageRequest::default() }
    }

    fn denied(rules: &Rules, request: &SendMessageRequest) -> String {
        match rules.check(request) {
            Err(RequestError::Denied(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn methods_are_allowed_by_name() {
        let rule = |text: &str| text.parse::<MethodRule>();
        let rules = Rules::new(&[rule("register").unwrap(), rule(" Options ").unwrap()], &[], [], []);
        assert!(rules.check(&request(Method::Register, &[])).is_ok());
        assert_eq!(
            denied(&rules, &request(Method::Message, &[])),
            "method: MESSAGE is not allowed here, only REGISTER, OPTIONS; --allow-method MESSAGE allows it"
        );
        // What is not offered at all is said elsewhere.
        assert!(rules.check(&request(Method::Invite, &[])).is_ok());
        assert!(Rules::default().check(&request(Method::Message, &[])).is_ok());
        assert_eq!(rule("any"), Ok(MethodRule::Any));
        for bad in ["INVITE", "ack", "", "FOO", "unknown"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_fields_of_trust_domains_are_refused_however_written() {
        let rules = Rules::default();
        for name in [
            "P-Asserted-Identity",
            "p-asserted-identity",
            "P-PREFERRED-IDENTITY",
            "P-Charging-Vector",
            "P-Anything-New",
            "Privacy",
            "Remote-Party-ID",
            "DIVERSION",
            "History-Info",
            "Path",
            "Service-Route",
            "Record-Route",
            " Privacy",
            "Privacy\t",
        ] {
            let text = denied(&rules, &request(Method::Register, &["CSeq", name]));
            assert!(
                text.starts_with("message.extensions[1].name: ") && text.contains("--allow-header "),
                "{text}"
            );
        }
        let used = [
            "CSeq",
            "Allow",
            "User-Agent",
            "Require",
            "Supported",
            "X-Gateway-Auth",
            "Proxy-Require",
            "Pathology",
        ];
        assert!(rules.check(&request(Method::Register, &used)).is_ok());
        let allow = |names: &[&str]| {
            let names: Vec<HeaderRule> = names.iter().map(|name| name.parse().unwrap()).collect();
            Rules::new(&[MethodRule::Any], &names, [], [])
        };
        let privacy = request(Method::Register, &["Privacy"]);
        assert!(allow(&["privacy:"]).check(&privacy).is_ok());
        assert!(allow(&["any"]).check(&privacy).is_ok());
        assert!(allow(&["Path"]).check(&privacy).is_err());
        assert!("a b".parse::<HeaderRule>().is_err());
    }
}
