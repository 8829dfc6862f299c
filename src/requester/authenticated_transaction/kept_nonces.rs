//! Nonces that registrars took, to begin the next request with (RFC 7616 §3.4, §3.5): a refresh is one
//! transaction then, not two.
//!
//! They are kept by registrar and user, with the realm of each, in two generations: a nonce that is used
//! moves
//! to the young one, and the old one goes when the young one is full. So memory is bounded, and what is not
//! used any more leaves by itself.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::authenticator::Realm;
use routr_registration::trunk::Credentials;
use routr_sip::{client::Destination, message::Request};
use routr_types::{digest_minimum::DigestMinimum, secret::Secret};

/// Bytes of each generation, as [`Entry::cost`] counts.
const MAX_GENERATION_BYTES: usize = 64 << 20;
/// Bytes of an entry beside its texts.
const ENTRY_BYTES: usize = 256;
/// Bytes of the texts of an entry that is kept.
const MAX_ENTRY_BYTES: usize = 8 << 10;
/// Number of times in a row that a registrar refuses a kept nonce, without calling it stale, until it is one
/// that takes each nonce once.
const MAX_REFUSALS: u8 = 2;
/// Time for which nonces of such a registrar and user are not kept.
const ONE_TIME_NONCES: Duration = Duration::from_secs(3600);

/// Owner of nonces.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct NonceKey(Box<str>);

impl NonceKey {
    /// Of a user at the registrar of a request.
    pub(super) fn new(destination: &Destination, request: &Request, credentials: &Credentials) -> Self {
        let mut key = format!("{destination}\n{}\n", request.uri.host);
        key.make_ascii_lowercase();
        key.push_str(&credentials.username);
        Self(key.into())
    }
}

/// Nonces that are kept, bounded in number. `Debug` shows nothing of them.
pub(in super::super) struct KeptNonces {
    generations: Mutex<Generations>,
    /// Makes the marks of passwords those of this process.
    salt: [u64; 2],
    max_bytes: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<NonceKey, Entry>,
    old: HashMap<NonceKey, Entry>,
    /// Bytes of the young one.
    bytes: usize,
}

struct Entry {
    realms: Vec<Realm>,
    /// A hash of the password that the nonces were used with.
    password: [u8; 32],
    /// Minimum demanded of the challenges.
    minimum: DigestMinimum,
    /// Refusals in a row.
    refusals: u8,
    /// The last of them.
    refused_at: Option<Instant>,
}

impl Entry {
    fn cost(&self, key: &NonceKey) -> usize {
        ENTRY_BYTES + key.0.len() + self.realms.iter().map(Realm::bytes).sum::<usize>()
    }
}

impl Generations {
    /// The entry, moved to the young generation.
    fn get(&mut self, key: &NonceKey, max_bytes: usize) -> Option<&mut Entry> {
        if let Some(entry) = self.old.remove(key) {
            self.put(key.clone(), entry, max_bytes);
        }
        self.young.get_mut(key)
    }

    fn put(&mut self, key: NonceKey, entry: Entry, max_bytes: usize) {
        self.remove(&key);
        let cost = entry.cost(&key);
        if cost > ENTRY_BYTES + MAX_ENTRY_BYTES {
            return;
        }
        if self.bytes + cost > max_bytes {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += cost;
        self.young.insert(key, entry);
    }

    fn remove(&mut self, key: &NonceKey) {
        self.old.remove(key);
        if let Some(entry) = self.young.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.cost(key));
        }
    }
}

impl Default for KeptNonces {
    fn default() -> Self {
        Self::bounded(MAX_GENERATION_BYTES)
    }
}

impl KeptNonces {
    fn bounded(max_bytes: usize) -> Self {
        let salt = [routr_environment::random(), routr_environment::random()];
        Self { generations: Mutex::default(), salt, max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, password: &Secret) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.salt.iter().for_each(|part| hash.update(part.to_ne_bytes()));
        hash.update(password.expose());
        hash.finalize().into()
    }

    /// The nonces to begin a request with, each with a count of its own; none where the password or what is
    /// demanded of a challenge is another one now.
    pub(super) fn begin(
        &self,
        key: &NonceKey,
        credentials: &Credentials,
        minimum: DigestMinimum,
    ) -> Option<Vec<Realm>> {
        let password = self.mark(&credentials.password);
        let mut generations = self.lock();
        let entry = generations.get(key, self.max_bytes)?;
        if entry.password != password || entry.minimum != minimum {
            generations.remove(key);
            return None;
        }
        let realms: Vec<Realm> = entry.realms.iter_mut().map(Realm::reserve).collect();
        (!realms.is_empty()).then_some(realms)
    }

    /// The registrar took these: the next request begins with them.
    pub(super) fn keep(
        &self,
        key: NonceKey,
        credentials: &Credentials,
        minimum: DigestMinimum,
        mut realms: Vec<Realm>,
        began_with_it: bool,
    ) {
        let password = self.mark(&credentials.password);
        let mut generations = self.lock();
        let (mut refusals, mut refused_at) = (0, None);
        if let Some(before) = generations.get(&key, self.max_bytes) {
            if before.is_one_time() {
                return;
            }
            // Others may have used the same nonce meanwhile.
            realms.iter_mut().for_each(|realm| realm.count_on(&before.realms));
            if !began_with_it {
                (refusals, refused_at) = (before.refusals, before.refused_at);
            }
        }
        let entry = Entry { realms, password, minimum, refusals, refused_at };
        generations.put(key, entry, self.max_bytes);
    }

    /// The registrar did not take these: the next request begins without any.
    pub(super) fn refused(&self, key: &NonceKey, stale: bool) {
        let mut generations = self.lock();
        let Some(entry) = generations.get(key, self.max_bytes) else { return };
        let mut entry = Entry {
            realms: Vec::new(),
            refusals: entry.refusals,
            refused_at: entry.refused_at,
            password: entry.password,
            minimum: entry.minimum,
        };
        if !stale {
            entry.refusals = entry.refusals.saturating_add(1);
            entry.refused_at = Some(Instant::now());
        }
        generations.put(key.clone(), entry, self.max_bytes);
    }

    /// Nothing is known of them any more.
    pub(super) fn forget(&self, key: &NonceKey) {
        self.lock().remove(key);
    }
}

impl Entry {
    /// The registrar seems to take each nonce once.
    fn is_one_time(&self) -> bool {
        self.refusals >= MAX_REFUSALS && self.refused_at.is_some_and(|at| at.elapsed() < ONE_TIME_NONCES)
    }
}

impl fmt::Debug for KeptNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptNonces").finish_non_exhaustive()
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routr_sip::{digest::Challenge, uri::SipUri};
    use routr_types::host::Transport;

    fn alice(password: &str) -> Credentials {
        Credentials { username: "alice".into(), password: Secret::new(password) }
    }

    fn key(number: u32) -> NonceKey {
        let host = format!("r{number}.test");
        let destination = Destination { host, port: Some(5060), transport: Transport::Udp };
        let request = Request::new("REGISTER", SipUri::parse("sip:registrar.test").unwrap());
        NonceKey::new(&destination, &request, &alice(""))
    }

    fn realms(nonce: &str) -> Vec<Realm> {
        let challenge = format!("Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"");
        vec![Realm::new(Challenge::parse(challenge, false).unwrap(), 1)]
    }

    fn keep(nonces: &KeptNonces, number: u32, nonce: &str) {
        nonces.keep(key(number), &alice("a"), DigestMinimum::default(), realms(nonce), false);
    }

    fn begin(nonces: &KeptNonces, number: u32, password: &str) -> bool {
        nonces.begin(&key(number), &alice(password), DigestMinimum::default()).is_some()
    }

    #[test]
    fn a_nonce_is_forgotten_when_the_password_changes() {
        let nonces = KeptNonces::default();
        keep(&nonces, 1, "n");
        assert!(begin(&nonces, 1, "a"));
        assert!(!begin(&nonces, 1, "b"), "another password");
        assert!(!begin(&nonces, 1, "a"), "it is gone");
        keep(&nonces, 1, "n");
        let strict = DigestMinimum { sha256: true, ..DigestMinimum::default() };
        assert!(nonces.begin(&key(1), &alice("a"), strict).is_none());
        assert!(!begin(&nonces, 2, "a"), "another registrar");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let entry = Entry {
            realms: realms("n"),
            password: [0; 32],
            minimum: DigestMinimum::default(),
            refusals: 0,
            refused_at: None,
        };
        let nonces = KeptNonces::bounded(10 * entry.cost(&key(100)));
        for number in 100..200 {
            keep(&nonces, number, "n");
            assert!(number == 100 || begin(&nonces, 100, "a"), "{number}");
            let generations = nonces.lock();
            assert!(generations.young.len() <= 10 && generations.old.len() <= 10);
        }
        assert!(!begin(&nonces, 101, "a") && begin(&nonces, 199, "a"));
        keep(&nonces, 300, &"x".repeat(MAX_ENTRY_BYTES + 1));
        assert!(!begin(&nonces, 300, "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registrar_that_takes_each_nonce_once_is_left_alone_for_a_while() {
        let nonces = KeptNonces::default();
        for _ in 0..MAX_REFUSALS {
            keep(&nonces, 1, "n");
            assert!(begin(&nonces, 1, "a"));
            nonces.refused(&key(1), false);
            assert!(!begin(&nonces, 1, "a"));
        }
        keep(&nonces, 1, "n");
        assert!(!begin(&nonces, 1, "a"));
        tokio::time::advance(ONE_TIME_NONCES).await;
        keep(&nonces, 1, "n");
        assert!(begin(&nonces, 1, "a"));
        for _ in 0..9 {
            nonces.refused(&key(1), true);
            keep(&nonces, 1, "n");
        }
        assert!(begin(&nonces, 1, "a"), "a stale one says nothing");
    }

    #[test]
    fn debug_shows_nothing() {
        let nonces = KeptNonces::default();
        keep(&nonces, 1, "nonce-of-alice");
        let text = format!("{nonces:?} {:?} {:?}", key(1), realms("nonce-of-alice"));
        assert!(!text.contains("nonce-of-alice") && !text.contains("alice"), "{text}");
    }
}
