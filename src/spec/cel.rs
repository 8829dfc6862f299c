//! The rules by which an API server judges a [`super::Registry`] when it is applied (CEL,
//! `x-kubernetes-validations`).
//!
//! They say what [`crate::config`] says, as far as CEL can: what passes here is good there, but for the
//! parameters of Redis, whose text is looked at there. Not everything that a file may hold passes here: a
//! duration is written without blanks and in hours, minutes and seconds, and a rate or a duration with a
//! fraction as a text. The messages are the same.

use kube::core::{Reason, Rule};

use super::rules::{self, DurationRange, RateRange, hint};

/// A label of a host name, and a whole name.
const LABEL: &str = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?";
/// 1 to 65535.
const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// `token` of RFC 3261 §25.1.
const TOKEN: &str = "^[A-Za-z0-9.!%*_+`'~-]+$";

/// An expression that is true of a text without control characters: no value of a Registry has any within it,
/// and a line end would begin a line of its own wherever the value is sent.
fn no_control(text: &str) -> String {
    format!(r"!{text}.matches(r'\p{{Cc}}')")
}

/// A host and a port, with `before` (a regular expression) before them and `after` behind.
fn address(before: &str, after: &str) -> String {
    let name = format!(r"{LABEL}(\.{LABEL})*\.?");
    format!(
        r"self.matches(r'^({before})?({name}|\[[0-9A-Fa-f:.]+\])(:{PORT})?{after}$') && (!self.matches(r'^({before})?[0-9.]+(:[0-9]+)?{after}$') || self.matches(r'^({before})?({OCTET}\.){{3}}{OCTET}(:[0-9]+)?{after}$')) && (!self.contains('[') || (isIP(self.substring(self.indexOf('[') + 1, self.indexOf(']'))) && ip(self.substring(self.indexOf('[') + 1, self.indexOf(']'))).family() == 6))"
    )
}

/// The address of a gRPC service.
pub(super) fn service_address(hint: &str) -> Rule {
    let host = address("(?i:https?://|dns:(/|///)?)", "/?");
    // Not an end in a slash, but for http and https; and no port alone.
    let host = format!("{host} && (!self.endsWith('/') || self.matches(r'^(?i:https?)://'))");
    let octets = format!(r"({OCTET}\.){{3}}{OCTET}(:{PORT})?");
    let v4 = format!(r"self.matches(r'^(?i:ipv4):{octets}(,{octets})*$')");
    let v6 =
        format!(r"self.matches(r'^(?i:ipv6):\[[0-9A-Fa-f:.]+\](:{PORT})?(,\[[0-9A-Fa-f:.]+\](:{PORT})?)*$')");
    let folder = rules::CLUSTER_SOCKET_FOLDER;
    let unix = format!(
        r"self.matches(r'^(?i:unix):(//)?{folder}/[^/]+(/[^/]+)*$') && !self.split('/').exists(part, part == '.' || part == '..') && {}",
        no_control("self")
    );
    Rule::new(format!("({host}) || {v4} || {v6} || ({unix})")).message(hint)
}

/// A SIP address of an EdgePort.
pub(super) fn sip_address(hint: &str) -> Rule {
    Rule::new(address("(?i:sip):", "")).message(hint)
}

/// No two EdgePorts with the same address, however written; not so far that the zeros of IPv6 are looked at.
pub(super) fn distinct_edge_ports() -> Rule {
    let plain = "self.map(e, e.address.lowerAscii()).map(a, a.startsWith('sip:') ? a.substring(4) : a)\
                 .map(a, a.matches(r'(^[^:]*|])$') ? a + ':5060' : a)";
    Rule::new(format!("[{plain}].all(l, l.all(a, l.indexOf(a) == l.lastIndexOf(a)))"))
        .message("two EdgePorts have the same address; remove one of them")
}

/// A duration within its bounds, as a number of seconds or a text.
pub(super) fn duration(span: &DurationRange) -> Rule {
    let (fraction, hint) = match span.whole_seconds {
        false => ("([.][0-9]{1,9})?", span.hint()),
        true => ("", format!("{}, without a fraction", span.hint())),
    };
    let (least, most) = (span.least.as_secs(), span.most.as_secs());
    // A number gets its unit, then there is but one form to look at. Few digits, so that no value is too
    // large to be read.
    Rule::new(format!(
        "[type(self) == int || !self.matches('[hms]') ? string(self) + 's' : string(self)].all(t, \
         t.matches('^([0-9]{{1,4}}h)?([0-9]{{1,6}}m)?([0-9]{{1,8}}{fraction}s)?$') \
         && duration(t) >= duration('{least}s') && duration(t) <= duration('{most}s'))"
    ))
    .message(hint.as_str())
}

/// REGISTERs per second.
pub(super) fn rate(range: &RateRange) -> Rule {
    let (least, most) = (range.least, range.most);
    Rule::new(format!(
        "string(self) == '{}' || (string(self).matches('^[0-9]{{1,7}}([.][0-9]{{1,9}})?$') \
         && double(string(self)) >= {least:?} && double(string(self)) <= {most:?})",
        rules::UNLIMITED
    ))
    .message(range.hint().as_str())
}

/// Tokens of SIP in a list.
pub(super) fn tokens(hint: &str) -> Rule {
    Rule::new(format!("self.all(t, t.matches(r\"{TOKEN}\"))")).message(hint)
}

/// A list of which no two are the same but for case.
pub(super) fn distinct_tokens(what: &str) -> Rule {
    Rule::new("[self.map(t, t.lowerAscii())].all(l, l.all(t, l.indexOf(t) == l.lastIndexOf(t)))")
        .message(format!("two {what} are the same; remove one of them").as_str())
}

/// Domains, addresses and networks that redirections may lead to.
pub(super) fn redirect_domains() -> Rule {
    let name = format!(r"([*][.])?{LABEL}([.]{LABEL})*[.]?");
    Rule::new(format!(
        r"self.all(d, d == '*' || (d.matches(r'^{name}$') && !d.matches(r'(^|[.])(0x[0-9A-Fa-f]*|[0-9]+)[.]?$')) || isIP(d) || isCIDR(d))"
    ))
    .message(hint::REDIRECT_DOMAIN)
}

/// Visible ASCII.
pub(super) fn visible() -> Rule {
    Rule::new("self.matches('^[!-~]+$')").message(hint::INSTANCE_ID)
}

/// Something to read, that cannot break a header field.
pub(super) fn text(hint: &str) -> Rule {
    Rule::new(format!("self.trim() != '' && {}", no_control("self"))).message(hint)
}

/// The key of a Secret, as Kubernetes has it.
pub(super) fn secret_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("write a key of the Secret's data: letters, digits, dots, dashes and underscores")
}

/// The name of an object of Kubernetes (RFC 1123 §2.1).
pub(super) fn object_name() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("write the name of a Secret in the same namespace, such as redis")
}

/// The rules of `spec.cache`.
pub(super) mod cache {
    use super::{Reason, Rule, rules};

    const PARAMETERS: &str = "(has(self.parameters) && self.parameters.trim() != '')";
    const REDIS: &str = "(has(self.provider) && self.provider == 'redis')";

    fn needs_redis(given: &str, field: &str) -> Rule {
        Rule::new(format!("!{given} || {REDIS}"))
            .message(
                "has no effect with the provider memory; write provider: redis in spec.cache, or remove \
                      it",
            )
            .reason(Reason::FieldValueForbidden)
            .field_path(format!(".{field}"))
    }

    pub(in super::super) fn parameters_need_redis() -> Rule {
        needs_redis(PARAMETERS, "parameters")
    }

    pub(in super::super) fn parameters_ref_needs_redis() -> Rule {
        needs_redis("has(self.parametersSecretRef)", "parametersSecretRef")
    }

    pub(in super::super) fn password_ref_needs_redis() -> Rule {
        needs_redis("has(self.passwordSecretRef)", "passwordSecretRef")
    }

    pub(in super::super) fn one_place_for_parameters() -> Rule {
        Rule::new(format!("!has(self.parametersSecretRef) || !{PARAMETERS}"))
            .message("both parameters and parametersSecretRef are given; keep one of them")
            .reason(Reason::FieldValueForbidden)
            .field_path(".parametersSecretRef")
    }

    pub(in super::super) fn one_place_for_the_password() -> Rule {
        Rule::new(
            r"!has(self.passwordSecretRef) || !has(self.parameters) || !self.parameters.matches(r'(^|,)\s*password\s*(=|,|$)')",
        )
        .message("a password in the parameters and passwordSecretRef are given; keep one of them")
        .reason(Reason::FieldValueForbidden)
        .field_path(".passwordSecretRef")
    }

    pub(in super::super) fn no_password_file() -> Rule {
        Rule::new(r"!has(self.parameters) || !self.parameters.matches(r'(^|,)\s*passwordFile\s*(=|,|$)')")
            .message(
                "passwordFile names a file of the operator's own pod; put the password into a Secret and name it by \
                 passwordSecretRef",
            )
            .reason(Reason::FieldValueForbidden)
            .field_path(".parameters")
    }

    /// Line ends around the parts are those of a block of YAML.
    pub(in super::super) fn parameters_without_control_characters() -> Rule {
        Rule::new(format!(
            "!has(self.parameters) || self.parameters.split(',').all(p, {})",
            super::no_control("p.trim()")
        ))
        .message(rules::hint::ONE_LINE)
        .field_path(".parameters")
    }

    pub(in super::super) fn known_parameters() -> Rule {
        Rule::new(
            r"!has(self.parameters) || self.parameters.trim() == '' || self.parameters.split(',').all(p, p.matches(r'(?s)^\s*(secure|cluster|(redis|rediss)://.*|(host|port|username|password|passwordFile|secure|caFile|certFile|keyFile|db|prefix|url|sentinels|sentinelMaster|sentinelUsername|sentinelPassword|cluster|nodes)\s*=.*)\s*$'))",
        )
        .message(
            "write key=value pairs separated by commas, with the keys host, port, username, password, \
             secure, caFile, certFile, keyFile, db, prefix, url, sentinels, sentinelMaster, \
             sentinelUsername, sentinelPassword, cluster, nodes; put a password that contains a comma into a \
             Secret and name it by passwordSecretRef",
        )
        .field_path(".parameters")
    }
}

/// No other file of the operator's pod.
pub(super) fn ca_file_of_the_pod() -> Rule {
    let folder = rules::CLUSTER_CA_FOLDER;
    Rule::new(format!(
        "self.matches(r'^({folder}/)?[^/]+(/[^/]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')"
    ))
    .message(&*format!("write the path of a PEM file below {folder} of the operator's pod, such as routr.pem"))
}

/// A tenant must not be able to have a token of the operator's pod sent to a Requester of its own.
pub(super) fn no_token_file() -> Rule {
    Rule::new("!has(self.requesterTokenFile)")
        .message(&*format!("{}; {}", rules::TOKEN_FILE_OF_THE_POD, hint::TOKEN_SECRET))
        .reason(Reason::FieldValueForbidden)
        .field_path(".requesterTokenFile")
}

/// All Call-IDs depend on it.
pub(super) fn instance_id_stays() -> Rule {
    Rule::new(
        "has(self.instanceId) == has(oldSelf.instanceId) && (!has(self.instanceId) || self.instanceId == oldSelf.instanceId)",
    )
    .message(
        "cannot be changed, added or removed, because every Call-ID derives from it; delete the Registry and \
         create it again",
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(".instanceId")
}

/// A file of TLS without anything that needs it.
pub(super) fn tls_file_needs_https(field: &str) -> Rule {
    Rule::new(format!(
        "!has(self.tls) || !has(self.tls.{field}) || self.requesterAddr.lowerAscii().startsWith('https://') \
         || self.apiAddr.lowerAscii().startsWith('https://')",
    ))
    .message(
        "has no effect, because neither address uses https://; write https:// before requesterAddr or \
         apiAddr, or remove it",
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(format!(".tls.{field}"))
}

/// A certificate cannot be shown without its key.
pub(super) fn certificate_and_key() -> Rule {
    Rule::new("has(self.certFile) == has(self.keyFile)")
        .message("certFile and keyFile go together; write both, or neither")
        .reason(Reason::FieldValueInvalid)
}
