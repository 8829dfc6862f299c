//! Bindings by address of record: what a registrar of the least kind keeps.

use std::{collections::BTreeMap, time::Duration};

use super::{
    case::Expires,
    wire::{Wire, param, uri, user_and_host},
};

/// Most bindings that are kept of one address of record; the oldest goes.
const MAX_BINDINGS: usize = 16;
/// Most addresses of record.
const MAX_ADDRESSES: usize = 10_000;

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The URI of the Contact, as it was sent.
    pub contact: String,
    /// Time of expiry, since the start of the play.
    pub expires_at: Duration,
}

/// All bindings.
#[derive(Debug, Default)]
pub(super) struct Bindings(BTreeMap<String, Vec<Binding>>);

/// `user@host` of To.
pub(super) fn address_of_record(request: &Wire) -> String {
    let to = request.text("To").unwrap_or_default();
    let (user, host) = user_and_host(uri(&to));
    format!("{user}@{}", host.to_ascii_lowercase())
}

/// The seconds that a request asks for: of its first Contact, else of Expires.
pub(super) fn asked(request: &Wire, bounds: Expires) -> u32 {
    let contact = request.contacts().first().and_then(|contact| param(contact, "expires"));
    let asked = contact.or_else(|| request.text("Expires"));
    asked.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(bounds.default)
}

/// Returns what is granted of that.
pub(super) fn granted(asked: u32, bounds: Expires) -> u32 {
    if asked == 0 { 0 } else { asked.clamp(bounds.min, bounds.max.max(bounds.min)) }
}

impl Bindings {
    /// Changes the bindings as a REGISTER asks (RFC 3261 §10.3).
    pub fn update(&mut self, request: &Wire, bounds: Expires, now: Duration) {
        let record = address_of_record(request);
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&record) {
            return;
        }
        let bound = self.0.entry(record).or_default();
        bound.retain(|binding| binding.expires_at > now);
        for contact in request.contacts() {
            if contact == "*" {
                bound.clear();
                continue;
            }
            let seconds = param(&contact, "expires").and_then(|seconds| seconds.parse().ok());
            let seconds = granted(seconds.unwrap_or_else(|| asked(request, bounds)), bounds);
            let contact = uri(&contact).to_owned();
            let place = bound.iter().position(|binding| binding.contact == contact);
            let expires_at = now + Duration::from_secs(seconds.into());
            match (place, seconds) {
                (Some(place), 0) => {
                    bound.remove(place);
                }
                (None, 0) => {}
                (Some(place), _) => bound[place].expires_at = expires_at,
                (None, _) => bound.push(Binding { contact, expires_at }),
            }
        }
        if bound.len() > MAX_BINDINGS {
            bound.remove(0);
        }
    }

    /// The bindings of an address of record, the oldest first.
    pub fn of(&self, record: &str, now: Duration) -> Vec<Binding> {
        let bound = self.0.get(record).map(Vec::as_slice).unwrap_or_default();
        bound.iter().filter(|binding| binding.expires_at > now).cloned().collect()
    }

    /// All that have not expired.
    pub fn all(&self, now: Duration) -> BTreeMap<String, Vec<Binding>> {
        let all = self.0.keys().map(|record| (record.clone(), self.of(record, now)));
        all.filter(|(_, bound)| !bound.is_empty()).collect()
    }
}

/// Bindings as the value of Contact: whole seconds that are left, rounded up.
pub(super) fn as_contacts(bindings: &[Binding], now: Duration) -> String {
    let one = |binding: &Binding| {
        let left = binding.expires_at.saturating_sub(now).as_millis().div_ceil(1000);
        format!("<{}>;expires={left}", binding.contact)
    };
    bindings.iter().map(one).collect::<Vec<_>>().join(", ")
}
