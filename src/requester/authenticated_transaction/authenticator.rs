//! Choice of the challenges that are answered, and limits on the number of attempts (RFC 3261 §22.2, §22.3).

use std::fmt;

use routr_registration::trunk::Credentials;
use routr_sip::{
    digest::{Answer, Challenge, Login, Offer, QuotedText, Signed, next_nonce},
    headers::BuildError,
    message::{Request, Response},
};
use routr_types::{digest_minimum::DigestMinimum, extension::Authentication};

/// Most realms that one request gets credentials for, those of proxies included.
const MAX_REALMS: usize = 5;
/// Most credentials for one realm: the first, and those for a new nonce where the old one was stale.
const MAX_ANSWERS: u8 = 3;
/// Most requests with credentials that are sent for one request.
const MAX_ROUNDS: u8 = 8;

/// The challenges that have been answered. Their credentials go along with all requests after them.
#[derive(Debug, Default)]
pub(super) struct Authenticator {
    realms: Vec<Realm>,
    rounds: u8,
    /// The request carried credentials of the caller's own.
    given: bool,
    /// Minimum that a challenge must offer to be answered.
    minimum: DigestMinimum,
}

/// Fate of nonces that were kept.
pub(super) enum KeptOutcome {
    /// They were taken; others are asked for.
    Taken,
    /// One is challenged again.
    Refused {
        /// The registrar says that it was too old.
        stale: bool,
    },
    /// Refused without a challenge that could be answered.
    Unclear,
}

/// A challenge that is answered, and how often. `Debug` shows nothing of it.
#[derive(Clone)]
pub(super) struct Realm {
    challenge: Challenge,
    /// The same for all requests that use the nonce: a session key is made of it.
    cnonce: String,
    /// Number of requests that have used the nonce.
    used: u32,
    /// Number of nonces answered; 0 for one that was kept from an earlier request.
    answers: u8,
    /// The last credentials.
    answer: Option<Answer>,
}

impl Authenticator {
    /// Begins with a request that is not sent yet.
    pub(super) fn new(request: &Request, minimum: DigestMinimum) -> Self {
        let has = |name| request.headers.get(name).is_some();
        Self { given: has("Authorization") || has("Proxy-Authorization"), minimum, ..Self::default() }
    }

    /// Returns whether the request carries credentials of the caller's own.
    pub(super) fn is_given(&self) -> bool {
        self.given
    }

    /// Begins with nonces that were kept.
    pub(super) fn begin_with(&mut self, kept: Vec<Realm>) {
        self.realms = kept;
    }

    /// Forgets what was answered so far: the kept nonces were not taken.
    pub(super) fn restart(&mut self) {
        (self.realms, self.rounds) = (Vec::new(), 0);
    }

    /// Returns what a response that may refuse a nonce says of those that were kept.
    pub(super) fn refuses_kept(&self, response: &Response) -> KeptOutcome {
        let challenges = Offer::of(response).map(|offer| offer.challenges).unwrap_or_default();
        let kept = |challenge: &&Challenge| {
            self.realms.iter().any(|realm| realm.answers == 0 && realm.is_of(challenge))
        };
        match challenges.iter().find(kept) {
            Some(challenge) => KeptOutcome::Refused { stale: challenge.stale },
            None if challenges.is_empty() => KeptOutcome::Unclear,
            None => KeptOutcome::Taken,
        }
    }

    /// The nonces to begin the next request with, after a response that took them: those that it names as the
    /// next (RFC 7616 §3.5), else the same. None where a session key is bound to a nonce that is used up.
    pub(super) fn into_kept(mut self, response: &Response) -> Option<Vec<Realm>> {
        for (name, proxy) in [("Authentication-Info", false), ("Proxy-Authentication-Info", true)] {
            let next = response.headers.get_all_bytes(name).find_map(next_nonce);
            let Some(next) = next else { continue };
            // It does not say of which realm it is.
            let mut of_kind = self.realms.iter_mut().filter(|realm| realm.challenge.proxy == proxy);
            let (Some(realm), None) = (of_kind.next(), of_kind.next()) else { continue };
            if realm.challenge.algorithm.is_session() {
                return None;
            }
            realm.renew(next);
        }
        self.realms.iter_mut().for_each(|realm| (realm.answers, realm.answer) = (0, None));
        (!self.realms.is_empty()).then_some(self.realms)
    }

    /// Takes the challenges of a response in, which are to be answered then. Each realm is answered once, and
    /// a few times more in all for a nonce that was too old: credentials that were refused are not offered
    /// again, which would look like an attack. A realm with escapes is the one exception, see
    /// [`Challenge::as_written`].
    ///
    /// # Errors
    /// Outcome of the challenge, where it is not answered; `None` where the response does not ask for
    /// credentials.
    pub(super) fn admit(
        &mut self,
        response: &Response,
        credentials: Option<&Credentials>,
    ) -> Result<(), Option<Authentication>> {
        if !matches!(response.code, 401 | 403 | 407) {
            return Err(None);
        }
        let not_sent = |asked: String| Err(Some(Authentication::NotSent(asked)));
        // A proxy before the registrar may have its credentials although the registrar does not have those it
        // wants.
        let sent = match response.code {
            403 => self.given || self.rounds > 0,
            code => self.given || self.realms.iter().any(|realm| realm.challenge.proxy == (code == 407)),
        };
        let offer = Offer::of_at_least(response, self.minimum).unwrap_or_default();
        // Whatever was sent before: a second challenge may be the forged one.
        if offer.challenges.is_empty() && !offer.weak.is_empty() {
            let (weak, minimum) = (offer.weak.join(", "), self.minimum.words());
            return Err(Some(Authentication::TooWeak(format!(
                "Digest with {weak}, where the minimum is {minimum}"
            ))));
        }
        if offer.challenges.is_empty() && sent {
            return Err(Some(Authentication::Refused));
        }
        if offer.challenges.is_empty() {
            return not_sent(if offer.misplaced {
                let name = if response.code == 401 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
                format!("{name} on a {}", response.code)
            } else if offer.refused.is_empty() {
                "no challenge".to_owned()
            } else {
                offer.asked()
            });
        }
        if credentials.is_none() {
            let refused = Err(Some(Authentication::Refused));
            return if sent { refused } else { not_sent("the trunk has no credentials".to_owned()) };
        }
        if self.rounds >= MAX_ROUNDS {
            return Err(Some(Authentication::Refused));
        }
        for challenge in offer.challenges {
            self.admit_one(challenge).map_err(Some)?;
        }
        Ok(())
    }

    fn admit_one(&mut self, challenge: Challenge) -> Result<(), Authentication> {
        let same = |realm: &&mut Realm| realm.is_of(&challenge);
        let full = self.realms.len() >= MAX_REALMS;
        let answers = match self.realms.iter_mut().find(same) {
            // A nonce of an earlier request is too old, whatever the registrar calls it. The realm is hashed
            // as
            // it was right then.
            Some(realm) if realm.answers == 0 => {
                let with_escapes = realm.challenge.with_escapes;
                *realm = Realm::new(Challenge { with_escapes, ..challenge }, 1);
                return Ok(());
            }
            Some(realm) if !challenge.stale => {
                // A realm with escapes is rare, and may be hashed in two forms: the other one is tried once.
                let reread = challenge.as_written().filter(|_| !realm.challenge.with_escapes);
                let reread = reread.ok_or(Authentication::Refused)?;
                *realm = Realm::new(reread, realm.answers);
                return Ok(());
            }
            Some(realm) if realm.answers >= MAX_ANSWERS => return Err(Authentication::Stale),
            Some(realm) => {
                let with_escapes = realm.challenge.with_escapes;
                *realm = Realm::new(Challenge { with_escapes, ..challenge }, realm.answers + 1);
                return Ok(());
            }
            None if full => {
                let asked = format!("the credentials of more than {MAX_REALMS} realms");
                return Err(Authentication::NotSent(asked));
            }
            None => 1,
        };
        self.realms.push(Realm::new(challenge, answers));
        Ok(())
    }

    /// Puts the credentials for all challenges so far into the request.
    ///
    /// # Errors
    /// When credentials cannot stand in a header field, or there are too many fields.
    pub(super) fn authorize(
        &mut self,
        request: &mut Request,
        credentials: &Credentials,
    ) -> Result<(), BuildError> {
        let uri = request.uri.to_string();
        let login = Login { username: &credentials.username, password: &credentials.password };
        request.headers.remove("Authorization");
        request.headers.remove("Proxy-Authorization");
        for realm in &mut self.realms {
            realm.used += 1;
            let signed = Signed { method: &request.method, uri: &uri, body: &request.body };
            let answer = realm.challenge.authorize(login, signed, &realm.cnonce, realm.used);
            let (name, value) = answer.header();
            request.headers.push(name, value)?;
            realm.answer = Some(answer);
        }
        self.rounds += 1;
        Ok(())
    }

    /// Returns whether a response proves that the other side knows the password, by Authentication-Info or
    /// Proxy-Authentication-Info; `None` where it says nothing.
    pub(super) fn is_proven(&self, response: &Response) -> Option<bool> {
        let mut proven = None;
        for (name, proxy) in [("Authentication-Info", false), ("Proxy-Authentication-Info", true)] {
            for info in response.headers.get_all_bytes(name) {
                let answers = self.realms.iter().filter_map(|realm| realm.answer.as_ref());
                let said = answers
                    .filter(|answer| answer.is_for_proxy() == proxy)
                    .filter_map(|answer| answer.is_proven_by(info, &response.body));
                // It is of one realm, and does not say of which.
                if let Some(one) = said.reduce(|a, b| a || b) {
                    proven = Some(proven.unwrap_or(true) && one);
                }
            }
        }
        proven
    }
}

impl Realm {
    pub(super) fn new(challenge: Challenge, answers: u8) -> Self {
        Self { challenge, cnonce: cnonce(), used: 0, answers, answer: None }
    }

    fn is_of(&self, challenge: &Challenge) -> bool {
        self.challenge.proxy == challenge.proxy && self.challenge.realm == challenge.realm
    }

    /// Takes another nonce, with the same realm.
    fn renew(&mut self, nonce: QuotedText) {
        (self.challenge.nonce, self.cnonce, self.used) = (nonce, cnonce(), 0);
    }

    /// Takes the next count of the nonce, and returns what uses it.
    pub(super) fn reserve(&mut self) -> Self {
        let reserved = self.clone();
        self.used = self.used.saturating_add(1);
        reserved
    }

    /// Goes on counting where others are that have the same nonce.
    pub(super) fn count_on(&mut self, others: &[Self]) {
        let same = |other: &&Self| {
            other.is_of(&self.challenge)
                && other.challenge.nonce == self.challenge.nonce
                && other.cnonce == self.cnonce
        };
        if let Some(other) = others.iter().find(same) {
            self.used = self.used.max(other.used);
        }
    }

    /// Bytes of its texts.
    pub(super) fn bytes(&self) -> usize {
        let Challenge { realm, nonce, opaque, .. } = &self.challenge;
        let opaque = opaque.as_ref().map_or(0, |opaque| opaque.as_bytes().len());
        realm.as_bytes().len() + nonce.as_bytes().len() + opaque + self.cnonce.len()
    }
}

impl fmt::Debug for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realm").field("used", &self.used).finish_non_exhaustive()
    }
}

fn cnonce() -> String {
    format!("{:016x}{:016x}", routr_environment::random(), routr_environment::random())
}
