//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as Go's `httpproxy` reads them, and with it kubectl. A proxy's
//! user and password are in no message.
//!
//! Unlike there, an API server on loopback is reached through the proxy too, unless `NO_PROXY` names it.

use std::net::IpAddr;

use axum::http::Uri;
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Environment;

/// Bytes to escape in the user and password of a URL: all but those that RFC 3986 allows there. `%` stays:
/// the credentials may be encoded already.
const USERINFO: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'%')
    .remove(b':')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// A proxy that cannot be used; its value is not shown, for it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No URL.
    #[error(
        "{0} is not the URL of a proxy; use for example http://proxy.example:3128 (its value is not shown: it may hold a password)"
    )]
    NotAUrl(String),
    /// Another protocol.
    #[error("{variable}: a proxy of the scheme {scheme} is not supported; use http, https or socks5")]
    Scheme {
        /// Variable that it comes from.
        variable: String,
        /// The scheme, which is no secret.
        scheme: String,
    },
    /// The SOCKS connector knows no credentials.
    #[error(
        "{0}: a SOCKS proxy with a user and a password is not supported; use one without, or an http proxy"
    )]
    SocksCredentials(String),
}

/// The proxy that the environment names for this server; `None`: connect directly.
pub(super) fn from_environment(
    server: &Uri,
    environment: Environment<'_>,
) -> Result<Option<Uri>, ProxyError> {
    let names = if server.scheme_str() == Some("http") {
        ["HTTP_PROXY", "http_proxy"]
    } else {
        ["HTTPS_PROXY", "https_proxy"]
    };
    let text = |name: &str| environment(name).map(|value| value.to_string_lossy().trim().to_owned());
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| text(name).filter(|value| !value.is_empty()).map(|value| (name, value)))
    };
    let Some((variable, value)) = first(names) else { return Ok(None) };
    if let Some((_, list)) = first(["NO_PROXY", "no_proxy"])
        && is_exempt(server, &list)
    {
        return Ok(None);
    }
    parse(variable, &value).map(Some)
}

/// Reads the URL of a proxy leniently: without a scheme it is `http`, and the password may have any character
/// but a line's end.
pub(super) fn parse(variable: &str, value: &str) -> Result<Uri, ProxyError> {
    let wrong = || ProxyError::NotAUrl(variable.to_owned());
    let (scheme, rest) = value.trim().split_once("://").unwrap_or(("http", value.trim()));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // The proxy resolves names in both cases.
        "socks5" | "socks5h" => "socks5",
        "http" => "http",
        "https" => "https",
        other if other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
            return Err(ProxyError::Scheme { variable: variable.to_owned(), scheme: other.to_owned() });
        }
        _ => return Err(wrong()),
    };
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (format!("{}@", utf8_percent_encode(credentials, USERINFO)), place),
        None => (String::new(), rest),
    };
    if scheme == "socks5" && !credentials.is_empty() {
        return Err(ProxyError::SocksCredentials(variable.to_owned()));
    }
    let place = place.split(['/', '?', '#']).next().unwrap_or_default();
    let uri: Uri = format!("{scheme}://{credentials}{place}/").parse().map_err(|_| wrong())?;
    let port_is_wrong =
        place.rsplit(']').next().unwrap_or_default().contains(':') && uri.port_u16().is_none();
    if uri.host().is_none_or(str::is_empty) || port_is_wrong { Err(wrong()) } else { Ok(uri) }
}

/// The URL without its user and password.
pub(super) fn without_credentials(uri: &Uri) -> String {
    let text = uri.to_string();
    let Some(authority) = uri.authority().map(ToString::to_string) else { return text };
    match authority.rsplit_once('@') {
        Some((_, place)) => text.replacen(&authority, place, 1),
        None => text,
    }
}

/// Returns whether a `NO_PROXY` list names the server. What cannot be read in it names nothing.
fn is_exempt(server: &Uri, list: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ', '\t', '\n'])
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || names(&entry, &host, address, port))
}

fn names(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    if let Ok(listed) = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return address == Some(listed);
    }
    let (name, listed_port) = match entry.rsplit_once(':') {
        Some((name, listed)) => (name, Some(listed)),
        None => (entry, None),
    };
    if listed_port.is_some_and(|listed| listed.parse() != Ok(port)) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    if let Ok(listed) = name.parse::<IpAddr>() {
        return address == Some(listed);
    }
    if address.is_some() || name.is_empty() {
        return false;
    }
    // `.example` and `*.example` name what is below a domain, `example` the domain too.
    match name.strip_prefix('*').unwrap_or(name).strip_prefix('.') {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn chosen(server: &str, variables: &[(&str, &str)]) -> Result<Option<String>, ProxyError> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let server: Uri = server.parse().unwrap();
        from_environment(&server, &environment).map(|proxy| proxy.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn k6_no_proxy_counts_in_all_its_spellings() {
        let direct = |server: &str, list: &str| {
            let variables = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", list)];
            chosen(server, &variables) == Ok(None)
        };
        for (server, list) in [
            ("https://10.1.2.3:6443", "10.0.0.0/8"),
            ("https://10.1.2.3:6443", "localhost, 10.1.2.3 ,"),
            ("https://10.1.2.3:6443", "10.1.2.3:6443"),
            ("https://10.1.2.3:6443", "*"),
            ("https://[fd00::1]:6443", "[fd00::1]"),
            ("https://[fd00::1]:6443", "fd00::1"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443,"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://api.k8s.example:6443", "K8S.example"),
            ("https://api.k8s.example:6443", ".k8s.example"),
            ("https://api.k8s.example:6443", "*.k8s.example:6443"),
            ("https://api.k8s.example:6443", "nothing::odd//, ,,api.k8s.example."),
            ("https://api.k8s.example", "api.k8s.example:443"),
            ("https://api.k8s.example", "a.b c.d api.k8s.example"),
        ] {
            assert!(direct(server, list), "{server} by {list}");
        }
        for (server, list) in [
            ("https://10.1.2.3:6443", ""),
            ("https://10.1.2.3:6443", "10.1.2.3:443"),
            ("https://10.1.2.3:6443", "3,2.3,10.1.2.4"),
            ("https://k8s.example:6443", ".k8s.example"),
            ("https://notk8s.example:6443", "k8s.example"),
            ("https://api.k8s.example:6443", "api.k8s.example:6444"),
        ] {
            assert!(!direct(server, list), "{server} by {list}");
        }
    }

    #[test]
    fn k6_the_proxy_is_read_as_kubectl_reads_it() {
        let by = |value: &str| {
            chosen("https://10.1.2.3:6443", &[("https_proxy", value)]).map(Option::unwrap_or_default)
        };
        for (value, read) in [
            ("http://proxy:3128", "http://proxy:3128/"),
            ("proxy:3128", "http://proxy:3128/"),
            ("HTTPS://proxy/path?x", "https://proxy/"),
            ("socks5h://proxy:1080", "socks5://proxy:1080/"),
            ("http://user:p@ss/w#rd%40@proxy:3128/", "http://user:p%40ss%2Fw%23rd%40@proxy:3128/"),
            ("  ", ""),
        ] {
            assert_eq!(by(value).as_deref(), Ok(read), "{value}");
        }
        let server = "http://10.1.2.3:8080";
        assert_eq!(chosen(server, &[("HTTPS_PROXY", "http://proxy:3128")]), Ok(None));
        assert_eq!(chosen(server, &[("http_proxy", "proxy:1")]), Ok(Some("http://proxy:1/".into())));
    }

    #[test]
    fn k6_no_message_shows_a_proxys_password() {
        for value in [
            "ftp://joe:s3cret@proxy:1",
            "http://joe:s3cret@",
            "http://joe:s3cret@pro xy:1",
            "s3cret://://",
            "socks5://joe:s3cret@proxy:1",
            "http://s3cret:99999999@proxy:99999999",
            "joe:s3cret",
        ] {
            let error = chosen("https://10.1.2.3", &[("HTTPS_PROXY", value)]);
            // `joe:s3cret` could be a host and a port.
            let error = error.expect_err(value).to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("joe"), "{error}");
            assert!(value.starts_with("s3cret") || !error.contains("s3cret"), "{error}");
        }
        let server: Uri = "https://joe:s3cret@10.1.2.3:6443/prefix".parse().unwrap();
        assert_eq!(without_credentials(&server), "https://10.1.2.3:6443/prefix");
    }
}
