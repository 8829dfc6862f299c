//! The location table: which contacts an address of record is bound to, by the rules of RFC 3261 §10.3.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use routr_sip::uri::NameAddr;

/// One contact that an address of record is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The contact's URI as it was registered.
    pub contact: String,
    /// Call-ID of the REGISTER that made or refreshed it.
    pub call_id: String,
    /// Its CSeq number.
    pub cseq: u32,
    /// Granted expiry, in seconds.
    pub granted_s: u32,
    /// Time of expiry, since the registrar's start.
    pub expires_at: Duration,
}

impl Binding {
    /// Whole seconds left at `now`, rounded up.
    pub fn seconds_left(&self, now: Duration) -> u64 {
        u64::try_from(self.expires_at.saturating_sub(now).as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

/// Bounds on expiry, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryBounds {
    /// Less than this (but not 0) gets 423.
    pub min: u32,
    /// Granted where a request asks for nothing.
    pub default: u32,
    /// Most that is granted.
    pub max: u32,
}

/// Update that a REGISTER asks for.
pub(super) struct Update<'r> {
    pub(super) aor: &'r str,
    pub(super) call_id: &'r str,
    pub(super) cseq: u32,
    /// The transaction: an equal CSeq in an equal transaction is a retransmission.
    pub(super) branch: &'r str,
    pub(super) contacts: Contacts,
    /// The Expires header field.
    pub(super) expires: Option<u32>,
    pub(super) bounds: ExpiryBounds,
    pub(super) now: Duration,
}

/// The Contact header fields of a REGISTER.
pub(super) enum Contacts {
    /// `*`: all of them.
    All,
    /// These; none where the request only asks for the list.
    These(Vec<NameAddr>),
}

/// Reason that an update was refused. Nothing is changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 423 with this Min-Expires.
    TooBrief(u32),
    /// 400: the CSeq of this Call-ID has not risen.
    CseqNotRising,
    /// 400: `*` without Expires 0.
    BadWildcard,
    /// The table is full.
    Full,
}

/// Result of an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done; all bindings of the address of record follow, oldest first.
    Done(Vec<Binding>),
    /// The same request once more: nothing was done again.
    Repeated(Vec<Binding>),
}

struct Entry {
    binding: Binding,
    key: String,
    branch: String,
}

/// The table.
pub(super) struct Bindings {
    aors: HashMap<String, Vec<Entry>>,
    count: usize,
    max: usize,
}

impl Bindings {
    pub(super) fn new(max: usize) -> Self {
        Self { aors: HashMap::new(), count: 0, max }
    }

    /// Everything that has not expired at `now`, by address of record.
    pub(super) fn snapshot(&self, now: Duration) -> BTreeMap<String, Vec<Binding>> {
        let valid = |entries: &Vec<Entry>| {
            entries.iter().map(|e| &e.binding).filter(|b| b.expires_at > now).cloned().collect::<Vec<_>>()
        };
        self.aors
            .iter()
            .map(|(aor, entries)| (aor.clone(), valid(entries)))
            .filter(|(_, bindings)| !bindings.is_empty())
            .collect()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.aors.clear();
        self.count = 0;
    }

    /// Does what a REGISTER asks for, or nothing of it.
    pub(super) fn update(&mut self, update: &Update<'_>) -> Result<Outcome, Refusal> {
        self.purge(update.aor, update.now);
        let entries = self.aors.get(update.aor).map(Vec::as_slice).unwrap_or_default();
        // RFC 3261 §10.3 step 6 and 7: a lower CSeq of one Call-ID aborts the update, whichever binding it
        // meets.
        let of_this_call = || entries.iter().filter(|e| e.binding.call_id == update.call_id);
        if of_this_call().any(|e| e.binding.cseq == update.cseq && e.branch == update.branch) {
            return Ok(Outcome::Repeated(self.list(update.aor)));
        }
        let rising =
            |entry: &Entry| entry.binding.call_id != update.call_id || entry.binding.cseq < update.cseq;
        let wanted = match &update.contacts {
            Contacts::All => {
                if update.expires != Some(0) {
                    return Err(Refusal::BadWildcard);
                }
                if !entries.iter().all(rising) {
                    return Err(Refusal::CseqNotRising);
                }
                let removed = self.aors.remove(update.aor).map_or(0, |entries| entries.len());
                self.count -= removed;
                return Ok(Outcome::Done(Vec::new()));
            }
            Contacts::These(contacts) => contacts,
        };
        let mut changes = Vec::with_capacity(wanted.len());
        for contact in wanted {
            let key = key(contact);
            let known = entries.iter().find(|entry| entry.key == key);
            if known.is_some_and(|entry| !rising(entry)) {
                return Err(Refusal::CseqNotRising);
            }
            changes.push((key, contact, granted(contact, update)?, known.is_some()));
        }
        let added = changes.iter().filter(|(_, _, granted, known)| *granted > 0 && !known).count();
        if self.count + added > self.max {
            self.purge_all(update.now);
            if self.count + added > self.max {
                return Err(Refusal::Full);
            }
        }
        for (key, contact, granted_s, _) in changes {
            self.change(update, key, contact, granted_s);
        }
        Ok(Outcome::Done(self.list(update.aor)))
    }

    fn change(&mut self, update: &Update<'_>, key: String, contact: &NameAddr, granted_s: u32) {
        let entries = self.aors.entry(update.aor.to_owned()).or_default();
        let place = entries.iter().position(|entry| entry.key == key);
        if granted_s == 0 {
            if let Some(place) = place {
                entries.remove(place);
                self.count -= 1;
            }
            if entries.is_empty() {
                self.aors.remove(update.aor);
            }
            return;
        }
        let binding = Binding {
            contact: contact.uri.to_string(),
            call_id: update.call_id.to_owned(),
            cseq: update.cseq,
            granted_s,
            expires_at: update.now + Duration::from_secs(u64::from(granted_s)),
        };
        let entry = Entry { binding, key, branch: update.branch.to_owned() };
        match place.and_then(|place| entries.get_mut(place)) {
            Some(known) => *known = entry,
            None => {
                entries.push(entry);
                self.count += 1;
            }
        }
    }

    fn list(&self, aor: &str) -> Vec<Binding> {
        self.aors.get(aor).into_iter().flatten().map(|entry| entry.binding.clone()).collect()
    }

    fn purge(&mut self, aor: &str, now: Duration) {
        let Some(entries) = self.aors.get_mut(aor) else { return };
        let before = entries.len();
        entries.retain(|entry| entry.binding.expires_at > now);
        self.count -= before - entries.len();
        if entries.is_empty() {
            self.aors.remove(aor);
        }
    }

    fn purge_all(&mut self, now: Duration) {
        let mut count = 0;
        self.aors.retain(|_, entries| {
            entries.retain(|entry| entry.binding.expires_at > now);
            count += entries.len();
            !entries.is_empty()
        });
        self.count = count;
    }
}

/// Returns what is granted to one contact, in seconds: its own `expires`, else the header field's, else the
/// default.
fn granted(contact: &NameAddr, update: &Update<'_>) -> Result<u32, Refusal> {
    let own = contact.param("expires").map(|value| {
        // RFC 3261 §20.10: a malformed value counts as 3600.
        value
            .and_then(|value| value.parse::<u64>().ok())
            .map_or(3600, |value| u32::try_from(value).unwrap_or(u32::MAX))
    });
    let asked = own.or(update.expires).unwrap_or(update.bounds.default);
    if asked > 0 && asked < update.bounds.min {
        return Err(Refusal::TooBrief(update.bounds.min));
    }
    Ok(asked.min(update.bounds.max))
}

/// Returns what makes two contacts the same one, near enough to RFC 3261 §19.1.4.
fn key(contact: &NameAddr) -> String {
    let uri = &contact.uri;
    let mut params: Vec<String> = uri
        .params
        .iter()
        .map(|(name, value)| {
            format!(";{}={}", name, value.as_deref().unwrap_or_default()).to_ascii_lowercase()
        })
        .collect();
    params.sort_unstable();
    format!(
        "{}{}@{}:{}{}",
        uri.secure,
        uri.user.as_deref().unwrap_or_default(),
        uri.host.to_ascii_lowercase(),
        uri.port.unwrap_or_default(),
        params.concat()
    )
}

#[cfg(test)]
mod tests;
