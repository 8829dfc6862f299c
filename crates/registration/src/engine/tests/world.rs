//! Surroundings of a simulated engine: registrars, a Requester, EdgePorts. Deterministic; all faults are
//! switches.

pub use crate::testing::{code, registrar::Policy, trunk};
use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};

use crate::{
    model::{RegisterRequest, RegisterResponse, SendError},
    testing::registrar::{self as fake, Bound, Received},
};

/// A non-INVITE transaction ends then (RFC 3261 Timer F, and half a second of the Requester's own).
pub const SILENCE: u64 = 32_500;

/// One registrar, and the path to it.
#[derive(Clone, Debug)]
pub struct Registrar {
    pub fake: fake::Registrar,
    /// Milliseconds to answer in.
    pub delay: u64,
    /// Share of requests that no one answers.
    pub loss: f64,
}

impl Default for Registrar {
    fn default() -> Self {
        Self { fake: fake::Registrar::new(Policy::Grants(86_400)), delay: 20, loss: 0.0 }
    }
}

impl Registrar {
    /// Returns whether it holds a binding for a Call-ID at that time.
    pub fn holds(&self, call_id: &str, at: u64) -> bool {
        self.fake.holds(call_id, at)
    }

    /// Returns the response to a request, and after how many milliseconds it comes.
    pub fn answer(
        &mut self,
        request: &RegisterRequest,
        at: u64,
        rng: &mut SmallRng,
    ) -> (RegisterResponse, u64) {
        let silent = (code(408), SILENCE);
        if self.loss > 0.0 && rng.random_bool(self.loss) {
            return silent;
        }
        // The Requester has answered a challenge with the next number.
        let cseq = request.cseq + 1;
        let tags = ["gin".to_owned(), "path".to_owned()];
        let received = Received { request, contact: "the Requester", cseq, tags: &tags, at };
        let list = |_: &Bound, granted| RegisterResponse {
            contact_expires: i32::try_from(granted).ok(),
            cseq: Some(cseq),
            ..code(200)
        };
        match self.fake.respond(received, list) {
            None => silent,
            Some(response) if response.code == Some(200) => {
                (RegisterResponse { cseq: Some(cseq), ..response }, self.delay)
            }
            Some(response) => (response, self.delay),
        }
    }
}

/// Behaviour of the Requester.
#[derive(Clone, Debug, PartialEq)]
pub enum ConcurrencyLimit {
    /// Takes any number at a time.
    Up,
    /// Cannot be reached.
    Down,
    /// Answers with an error.
    Refusing,
    /// Never answers.
    Hanging,
    /// As the Java one: few slots, each polled every so many milliseconds; these are busy until then.
    Slots(Vec<u64>, u64),
}

impl ConcurrencyLimit {
    /// As measured: two slots, 500 ms.
    pub fn java() -> Self {
        Self::Slots(vec![0, 0], 500)
    }

    /// Returns when the answer to a request comes back, given what the other side made of it and how long
    /// that took.
    pub fn carry(
        &mut self,
        (response, took): (RegisterResponse, u64),
        at: u64,
        deadline: u64,
    ) -> (Result<RegisterResponse, SendError>, u64) {
        let late = || (Err(SendError::Deadline(Duration::from_millis(deadline))), at + deadline);
        match self {
            Self::Down => (Err(SendError::Unavailable("connection refused".into())), at + 1),
            Self::Refusing => (Err(SendError::Refused("no".into())), at + 2),
            Self::Hanging => late(),
            Self::Up if took >= deadline => late(),
            Self::Up => (Ok(response), at + took.max(1)),
            Self::Slots(slots, period) => {
                let Some(slot) = slots.iter_mut().min() else { return late() };
                *slot = (*slot).max(at) + took.div_ceil(*period).max(1) * *period;
                if *slot - at >= deadline { late() } else { (Ok(response), *slot) }
            }
        }
    }

    /// Returns whether a request reaches the registrar at all.
    pub fn passes(&self) -> bool {
        !matches!(self, Self::Down | Self::Refusing | Self::Hanging)
    }
}
