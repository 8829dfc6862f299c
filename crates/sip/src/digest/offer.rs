//! Challenges that a response offers.

use super::{Challenge, DigestError, scan::schemes};
use crate::message::Response;
use routr_types::digest_minimum::DigestMinimum;

/// Most realms of one response that are looked at.
const MAX_REALMS: usize = 8;
/// Most reasons of one response that are kept.
const MAX_REFUSED: usize = 8;

/// The challenges of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Those that can be answered: the strongest for each realm of the registrar and of each proxy, the
    /// strongest first (RFC 3261 §22.3, RFC 8760 §2.4).
    pub challenges: Vec<Challenge>,
    /// Reasons that others cannot be answered, in their order.
    pub refused: Vec<DigestError>,
    /// Descriptions of those that offer less than is demanded, in their order.
    pub weak: Vec<String>,
    /// The header field that belongs to the code is missing, the other one is there.
    pub misplaced: bool,
}

impl Offer {
    /// Reads WWW-Authenticate and Proxy-Authenticate of a 401 or 407. The one that belongs to the code
    /// counts; where it is there the other one does too: forking proxies put the challenges of several into
    /// one response (RFC 3261 §16.7). `None` where the response is another one, or carries no challenge.
    pub fn of(response: &Response) -> Option<Self> {
        Self::of_at_least(response, DigestMinimum::default())
    }

    /// Reads an offer as [`Offer::of`] does, of those challenges that offer the minimum.
    pub fn of_at_least(response: &Response, minimum: DigestMinimum) -> Option<Self> {
        let (own, other) = match response.code {
            401 => (("WWW-Authenticate", false), ("Proxy-Authenticate", true)),
            407 => (("Proxy-Authenticate", true), ("WWW-Authenticate", false)),
            _ => return None,
        };
        let has =
            |(name, _): (&str, bool)| response.headers.get_all_bytes(name).any(|value| !value.is_empty());
        match (has(own), has(other)) {
            (false, false) => return None,
            (false, true) => return Some(Self { misplaced: true, ..Self::default() }),
            (true, _) => {}
        }
        let mut offer = Self::default();
        for (name, proxy) in [own, other] {
            for value in response.headers.get_all_bytes(name) {
                of_value(value, proxy).into_iter().for_each(|challenge| offer.add(challenge, minimum));
            }
            if offer.challenges.is_empty() {
                break;
            }
        }
        offer.challenges.sort_by_key(|challenge| std::cmp::Reverse(challenge.algorithm.strength()));
        Some(offer)
    }

    fn add(&mut self, challenge: Result<Challenge, DigestError>, minimum: DigestMinimum) {
        match challenge {
            Ok(challenge) if !challenge.offers(minimum) => {
                let qop = challenge.qop.map_or("without qop", |_| "with qop");
                let weak = format!("{} {qop}", challenge.algorithm.name());
                if self.weak.len() < MAX_REFUSED && !self.weak.contains(&weak) {
                    self.weak.push(weak);
                }
            }
            Ok(challenge) => {
                let full = self.challenges.len() >= MAX_REALMS;
                let same =
                    |other: &&mut Challenge| other.proxy == challenge.proxy && other.realm == challenge.realm;
                match self.challenges.iter_mut().find(same) {
                    Some(weaker) if challenge.is_stronger_than(weaker) => *weaker = challenge,
                    Some(_) => {}
                    None if full => {}
                    None => self.challenges.push(challenge),
                }
            }
            Err(error) if self.refused.len() < MAX_REFUSED => self.refused.push(error),
            Err(_) => {}
        }
    }

    /// Returns the demands that cannot be answered, in a few words.
    pub fn asked(&self) -> String {
        let mut asked: Vec<String> = self.refused.iter().map(DigestError::asked).collect();
        asked.dedup();
        asked.truncate(3);
        asked.join(", ")
    }
}

impl Challenge {
    /// The strongest challenge of a 401 or 407 that can be answered; among equals the first. `None` where the
    /// response is another one, or carries no challenge.
    ///
    /// # Errors
    /// When there are challenges and none of them can be answered: the reason for the first one.
    pub fn from_response(response: &Response) -> Result<Option<Self>, DigestError> {
        let Some(offer) = Offer::of(response).filter(|offer| !offer.misplaced) else { return Ok(None) };
        match (offer.challenges.into_iter().next(), offer.refused.into_iter().next()) {
            (None, Some(error)) => Err(error),
            (best, _) => Ok(best),
        }
    }
}

/// The challenges of one header field value.
pub(super) fn of_value(value: &[u8], proxy: bool) -> Vec<Result<Challenge, DigestError>> {
    schemes(value).iter().map(|scheme| Challenge::from_scheme(scheme, proxy)).collect()
}
