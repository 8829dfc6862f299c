//! Routr's `SipURI` and `Address` as SIP URIs and addresses, in both directions.

use super::check::{self, RequestError};
use crate::proto::sipmessage as proto;
use routr_sip::uri::{self, NameAddr, SipUri};
use routr_types::host::{Transport, UriHost};

/// Place of a URI: RFC 3261 §19.1.1 (table 1) allows different parameters at different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The Request-URI: everything but `method`.
    RequestUri,
    /// From and To: an identity, so nothing that says how to get there.
    Identity,
    /// Route: everything but `method`.
    Route,
}

/// Reads a URI of a request. `field` is its path, for errors.
///
/// # Errors
/// A part that is missing or malformed, or a `user_password`.
pub fn read_uri(field: &str, uri: &proto::SipUri, place: Place) -> Result<SipUri, RequestError> {
    if !uri.user_password.is_empty() {
        return Err(RequestError::invalid(
            format!("{field}.user_password"),
            "must be empty: a password has no place in a SIP URI (RFC 3261 §19.1.1)",
        ));
    }
    let user = user(&format!("{field}.user"), &uri.user)?;
    let mut params = Vec::new();
    if place != Place::Identity {
        if !uri.transport_param.is_empty() {
            let transport = transport(&format!("{field}.transport_param"), &uri.transport_param)?;
            params.push(("transport".to_owned(), Some(transport.parameter().to_owned())));
        }
        if !uri.m_addr_param.is_empty() {
            let host = check::host(format_args!("{field}.m_addr_param"), &uri.m_addr_param)?;
            params.push(("maddr".to_owned(), Some(UriHost(&host).to_string())));
        }
        if let Some(ttl) = ttl(&format!("{field}.ttl_param"), uri.ttl_param)? {
            params.push(("ttl".to_owned(), Some(ttl.to_string())));
        }
    }
    if !uri.user_param.is_empty() {
        let value = check::token(format_args!("{field}.user_param"), &uri.user_param)?;
        params.push(("user".to_owned(), Some(value.to_owned())));
    }
    if place != Place::Identity && uri.lr_param {
        params.push(("lr".to_owned(), None));
    }
    Ok(SipUri {
        secure: uri.secure,
        user: (!user.is_empty()).then_some(user),
        host: check::host(format_args!("{field}.host"), &uri.host)?,
        port: check::port(format_args!("{field}.port"), uri.port)?,
        params,
    })
}

/// Reads a user, which Routr's `SipURI` has as it stands in a URI: `a%40b` is `a@b`. A `%` that begins no
/// escape is one.
fn user(field: &str, user: &str) -> Result<String, RequestError> {
    let user = uri::unescape(user).ok_or_else(|| {
        RequestError::invalid(field, format!("{} has escapes of what is not UTF-8", check::shown(user)))
    })?;
    check::plain_text(field, &user)?;
    Ok(user)
}

/// Reads an address of a request, without parameters.
///
/// # Errors
/// As [`read_uri`]; also where there is no address, or it is the wildcard.
pub fn read(field: &str, address: Option<&proto::Address>, place: Place) -> Result<NameAddr, RequestError> {
    let missing = || RequestError::invalid(format!("{field}.address.uri"), "is missing");
    let address = address.ok_or_else(missing)?;
    if address.wildcard {
        return Err(RequestError::invalid(format!("{field}.address.wildcard"), "only a Contact can be `*`"));
    }
    let uri = address.uri.as_ref().ok_or_else(missing)?;
    let mut named = NameAddr::new(read_uri(&format!("{field}.address.uri"), uri, place)?);
    let name = check::plain_text(format_args!("{field}.address.display_name"), &address.display_name)?;
    named.display_name = (!name.is_empty()).then(|| name.to_owned());
    Ok(named)
}

/// Appends header field parameters in the order of their names (a protobuf map has none), but for the tag.
///
/// # Errors
/// A name that is not a token, or a value that is more than one line.
pub fn read_parameters<'a>(
    field: &str,
    parameters: impl IntoIterator<Item = (&'a String, &'a String)>,
    into: &mut NameAddr,
) -> Result<(), RequestError> {
    let field = format!("{field}.parameters");
    let mut sorted: Vec<_> =
        parameters.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("tag")).collect();
    sorted.sort_unstable();
    for (name, value) in sorted {
        let name = check::token(&field, name)?.to_owned();
        let value = check::plain_text(&field, value)?;
        into.params.push((name, (!value.is_empty()).then(|| value.to_owned())));
    }
    Ok(())
}

/// Reads the name of a transport.
///
/// # Errors
/// A name that RFC 3261 and its kin do not know.
pub fn transport(field: &str, name: &str) -> Result<Transport, RequestError> {
    Transport::parse(name).ok_or_else(|| {
        let problem = format!("{} is not a transport: udp, tcp, tls, sctp, ws or wss", check::shown(name));
        RequestError::invalid(field, problem)
    })
}

fn ttl(field: &str, value: i32) -> Result<Option<u8>, RequestError> {
    match value {
        -1 | 0 => Ok(None),
        _ => u8::try_from(value).map(Some).map_err(|_| {
            RequestError::invalid(field, format!("{value} is not a TTL: 1 to 255, or -1 for none"))
        }),
    }
}

/// Writes a URI of a response. Port and ttl are -1 where they are unset.
pub fn write_uri(uri: &SipUri) -> proto::SipUri {
    let text = |name: &str| uri.param(name).flatten().unwrap_or_default().to_owned();
    proto::SipUri {
        user: uri.user.as_deref().map(uri::escape_user).unwrap_or_default(),
        user_password: String::new(),
        host: uri.host.clone(),
        transport_param: text("transport"),
        m_addr_param: text("maddr"),
        method_param: text("method"),
        user_param: text("user"),
        ttl_param: uri.param("ttl").flatten().and_then(|t| t.parse::<u8>().ok()).map_or(-1, i32::from),
        port: uri.port.map_or(-1, i32::from),
        lr_param: uri.param("lr").is_some(),
        bnc_param: uri.param("bnc").is_some(),
        secure: uri.secure,
    }
}

/// Writes an address of a response, without its parameters.
pub fn write(address: &NameAddr) -> proto::Address {
    proto::Address {
        uri: Some(write_uri(&address.uri)),
        display_name: address.display_name.clone().unwrap_or_default(),
        wildcard: false,
    }
}

/// Writes the parameters of an address but for the tag, which has a field of its own.
pub fn write_parameters<M: FromIterator<(String, String)>>(address: &NameAddr) -> M {
    address
        .params
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("tag"))
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> proto::SipUri {
        proto::SipUri {
            user: "+1 555".into(),
            host: "[2001:db8::1]".into(),
            transport_param: "TCP".into(),
            m_addr_param: "192.0.2.9".into(),
            method_param: "REGISTER".into(),
            user_param: "phone".into(),
            ttl_param: 5,
            port: 5070,
            lr_param: true,
            secure: true,
            ..Default::default()
        }
    }

    #[test]
    fn each_place_keeps_what_rfc_3261_allows_there() {
        let text = |place| read_uri("f", &full(), place).unwrap().to_string();
        let routing = "sips:+1%20555@[2001:db8::1]:5070;transport=tcp;maddr=192.0.2.9;ttl=5;user=phone;lr";
        assert_eq!(text(Place::RequestUri), routing);
        assert_eq!(text(Place::Route), routing);
        assert_eq!(text(Place::Identity), "sips:+1%20555@[2001:db8::1]:5070;user=phone");
    }

    #[test]
    fn n11_a_user_is_escaped_once_both_ways() {
        for (given, plain, escaped) in [
            ("a%40b", "a@b", "a%40b"),
            ("a@b", "a@b", "a%40b"),
            ("a b;c?d/e", "a b;c?d/e", "a%20b;c?d/e"),
            ("100%", "100%", "100%25"),
            ("%C3%A9\u{e9}", "\u{e9}\u{e9}", "%C3%A9%C3%A9"),
        ] {
            let uri = proto::SipUri { user: given.into(), host: "h".into(), ..Default::default() };
            let read = read_uri("f", &uri, Place::Identity).unwrap();
            assert_eq!(read.user.as_deref(), Some(plain));
            assert_eq!(read.to_string(), format!("sip:{escaped}@h"));
            assert_eq!(write_uri(&read).user, escaped);
        }
        for bad in ["a%0D%0Ab", "%00", "a\nb", "%E9"] {
            let uri = proto::SipUri { user: bad.into(), host: "h".into(), ..Default::default() };
            let text = read_uri("f", &uri, Place::Identity).unwrap_err().to_string();
            assert!(text.starts_with("f.user: ") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_uri_is_refused_unseen() {
        let uri = proto::SipUri { host: "a".into(), user_password: "hunter2".into(), ..Default::default() };
        let text = read_uri("message.to.address.uri", &uri, Place::Identity).unwrap_err().to_string();
        assert!(
            text.starts_with("message.to.address.uri.user_password: ") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn a_uri_that_is_written_out_reads_minus_one_for_what_is_unset() {
        let uri = write_uri(&SipUri::parse("sip:alice@example.com").unwrap());
        assert_eq!((uri.port, uri.ttl_param, uri.lr_param), (-1, -1, false));
        let uri = write_uri(&SipUri::parse("sips:a@[::1]:5061;transport=tls;lr;ttl=3;bnc").unwrap());
        assert_eq!((uri.host.as_str(), uri.port, uri.ttl_param), ("::1", 5061, 3));
        assert!(uri.lr_param && uri.bnc_param && uri.secure && uri.transport_param == "tls");
    }
}
