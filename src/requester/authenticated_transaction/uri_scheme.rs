//! Registrars that respond to `sips:` with 416 (RFC 3261 §21.4.14), and want `sip:` over TLS.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use routr_sip::{
    client::{ClientError, Destination},
    message::{BuildError, Request},
    uri::NameAddr,
};
use routr_types::host::Transport;

/// Unsupported URI Scheme.
pub(super) const UNSUPPORTED_URI_SCHEME: u16 = 416;

/// Time for which such a registrar is remembered: a refresh costs one request more after it.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Most registrars that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// Header fields whose URI has the scheme of the Request-URI.
const WITH_SCHEME: [&str; 3] = ["From", "To", "Contact"];

/// Registrars that took `sip:` over TLS after they had refused `sips:`: where requests go, and the domain.
#[derive(Debug, Default)]
pub(in super::super) struct SipRegistrars(Mutex<HashMap<Box<str>, Instant>>);

impl SipRegistrars {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a registrar is known to want `sip:`.
    pub(super) fn contains(&self, registrar: &str) -> bool {
        self.lock().get(registrar).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers a registrar. Returns false where it was known.
    pub(super) fn insert(&self, registrar: Box<str>) -> bool {
        let (mut all, now) = (self.lock(), Instant::now());
        if all.len() >= MAX_REMEMBERED && !all.contains_key(&registrar) {
            all.retain(|_, until| *until > now);
            if all.len() >= MAX_REMEMBERED {
                all.clear();
            }
        }
        all.insert(registrar, now + REMEMBERED).is_none_or(|until| until <= now)
    }

    /// Forgets a registrar, which does not take `sip:` any more.
    pub(super) fn remove(&self, registrar: &str) {
        self.lock().remove(registrar);
    }
}

/// The registrar of a REGISTER by `sips:` over TLS; `None` for any other request.
pub(super) fn registrar_by_sips(request: &Request, destination: &Destination) -> Option<Box<str>> {
    let applies =
        request.method == "REGISTER" && request.uri.secure && destination.transport == Transport::Tls;
    applies.then(|| format!("{destination}\n{}", request.uri.host).to_ascii_lowercase().into())
}

/// Makes `sip:` of `sips:` in the Request-URI, From, To and Contact. The Request-URI says `transport=tls`,
/// and where the request goes stays what it was.
///
/// # Errors
/// As [`routr_sip::headers::Headers::set`].
pub(super) fn use_sip(request: &mut Request) -> Result<(), ClientError> {
    request.uri.secure = false;
    if request.uri.param("transport").is_none() {
        let tls = Transport::Tls.parameter().to_owned();
        request.uri.params.push(("transport".to_owned(), Some(tls)));
    }
    set_scheme(request).map_err(ClientError::Invalid)
}

fn set_scheme(request: &mut Request) -> Result<(), BuildError> {
    for name in WITH_SCHEME {
        let Some(mut address) = request.headers.get(name).and_then(|value| NameAddr::parse(value).ok())
        else {
            continue;
        };
        address.uri.secure = false;
        request.headers.set(name, address.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn n7_registrars_are_remembered_for_a_day_and_bounded_in_number() {
        let known = SipRegistrars::default();
        assert!(known.insert("a".into()) && !known.insert("a".into()));
        assert!(known.contains("a") && !known.contains("b"));
        tokio::time::advance(REMEMBERED).await;
        assert!(!known.contains("a") && known.insert("a".into()));
        for number in 0..2 * MAX_REMEMBERED {
            known.insert(number.to_string().into());
        }
        assert!(known.lock().len() <= MAX_REMEMBERED);
        known.insert("a".into());
        known.remove("a");
        assert!(!known.contains("a"));
    }

    #[test]
    fn n7_only_a_register_by_sips_over_tls_has_another_scheme_to_try() {
        let to = |transport| Destination { host: "Proxy.example".into(), port: Some(5061), transport };
        let uri = |text| routr_sip::uri::SipUri::parse(text).unwrap();
        let of = |method, text, transport| {
            registrar_by_sips(&Request::new(method, uri(text)), &to(transport)).as_deref().map(str::to_owned)
        };
        let tls = Transport::Tls;
        assert_eq!(of("REGISTER", "sips:A.example", tls).unwrap(), "proxy.example:5061/tls\na.example");
        assert_eq!(of("REGISTER", "sip:a.example", tls), None);
        assert_eq!(of("OPTIONS", "sips:a.example", tls), None);
        assert_eq!(of("REGISTER", "sips:a.example", Transport::Tcp), None);
    }
}
