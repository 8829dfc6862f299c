//! What is around a simulated engine: registrars, a Requester, EdgePorts. Deterministic; all faults are
//! switches.

pub use crate::testing::{code, trunk};
use std::{collections::HashMap, time::Duration};

use rand::{RngExt, rngs::SmallRng};

use crate::model::{RedirectContact, RedirectTarget, RegisterRequest, RegisterResponse, SendError};
use routr_types::host::HostPort;

/// A non-INVITE transaction ends then (RFC 3261 Timer F, and half a second of the Requester's own).
pub const SILENCE: u64 = 32_500;

/// How a registrar answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Grants what is asked, up to so many seconds.
    Grants(i32),
    /// 423 below so many seconds.
    AtLeast(u32),
    /// 423 without Min-Expires below so many seconds.
    AtLeastUntold(u32),
    /// 503 with Retry-After.
    Busy(u32),
    /// Another code with Retry-After.
    Later(u16, u32),
    /// A redirection.
    Moved(u16, &'static str, Option<i32>),
    /// 420 as long as the first option tag is required.
    RefusesTags,
    /// 403 for all other passwords.
    Password(&'static str),
    /// The same behind an EdgePort that keeps offering a refused password without end: nothing comes back.
    SilentUnless(&'static str),
    /// That code, whatever is asked.
    Code(u16),
    /// Nothing at all.
    Silent,
    /// 100 as if it were final; the binding is made all the same.
    Provisional,
    /// A reply without a response type.
    Nonsense,
}

/// One registrar.
#[derive(Clone, Debug)]
pub struct Registrar {
    pub policy: Policy,
    /// Milliseconds to answer in.
    pub delay: u64,
    /// Share of requests that no one answers.
    pub loss: f64,
    /// Call-ID -> (CSeq, when it expires).
    pub bindings: HashMap<String, (u32, u64)>,
}

impl Default for Registrar {
    fn default() -> Self {
        Self { policy: Policy::Grants(86_400), delay: 20, loss: 0.0, bindings: HashMap::new() }
    }
}

impl Registrar {
    /// Returns whether it holds a binding for a Call-ID at that time.
    pub fn holds(&self, call_id: &str, at: u64) -> bool {
        self.bindings.get(call_id).is_some_and(|(_, expiry)| *expiry > at)
    }

    /// The reply to a request, and after how many milliseconds it comes.
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
        let asked = request.expires;
        let response = match &self.policy {
            Policy::Grants(most) => self.bind(request, at, *most),
            Policy::AtLeast(least) if asked > 0 && asked < *least => {
                RegisterResponse { min_expires: Some(*least), ..code(423) }
            }
            Policy::AtLeastUntold(least) if asked > 0 && asked < *least => code(423),
            Policy::AtLeast(_) | Policy::AtLeastUntold(_) => self.bind(request, at, 86_400),
            Policy::Busy(seconds) => RegisterResponse { retry_after: Some(*seconds), ..code(503) },
            Policy::Later(number, seconds) => {
                RegisterResponse { retry_after: Some(*seconds), ..code(*number) }
            }
            Policy::Moved(number, to, expires) => RegisterResponse {
                targets: vec![RedirectContact {
                    to: RedirectTarget { address: HostPort::new(to, 5060), transport: None },
                    expires: None,
                }],
                contact_expires: *expires,
                ..code(*number)
            },
            Policy::RefusesTags if request.without_tags & 1 == 0 => {
                RegisterResponse { unsupported: vec!["gin".into()], ..code(420) }
            }
            Policy::RefusesTags => self.bind(request, at, 86_400),
            Policy::Password(right) => {
                if request.credentials.as_ref().is_some_and(|own| own.password.expose() == *right) {
                    self.bind(request, at, 86_400)
                } else {
                    code(403)
                }
            }
            Policy::SilentUnless(right) => {
                if request.credentials.as_ref().is_none_or(|own| own.password.expose() != *right) {
                    return silent;
                }
                self.bind(request, at, 86_400)
            }
            Policy::Code(number) => code(*number),
            Policy::Silent => return silent,
            Policy::Provisional => {
                self.bind(request, at, 86_400);
                code(100)
            }
            Policy::Nonsense => RegisterResponse::default(),
        };
        (response, self.delay)
    }

    fn bind(&mut self, request: &RegisterRequest, at: u64, most: i32) -> RegisterResponse {
        let granted = i32::try_from(request.expires).unwrap_or(i32::MAX).min(most);
        let expiry = at + u64::try_from(granted).unwrap_or(0) * 1_000;
        self.bindings.insert(request.call_id.to_string(), (request.cseq, expiry));
        // The Requester answered a challenge with the next number.
        RegisterResponse { contact_expires: Some(granted), cseq: Some(request.cseq + 1), ..code(200) }
    }
}

/// How the Requester behaves.
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

    /// When the answer to a request comes back, given what the other side made of it and how long that took.
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
