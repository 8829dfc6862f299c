//! A fake registrar: the bindings that it holds, and its responses. The engine's tests and the simulation
//! share it; each adds the path to it (delay, loss, challenges) and lists Contacts in its own way.

use std::collections::BTreeMap;

use super::code;
use crate::model::{RedirectContact, RedirectTarget, RegisterRequest, RegisterResponse};
use routr_types::{extension::Authentication, host::HostPort};

/// Responses of a registrar.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Grants what is asked, up to so many seconds.
    Grants(u32),
    /// 423 below so many seconds.
    AtLeast(u32),
    /// 423 without Min-Expires below so many seconds.
    AtLeastUntold(u32),
    /// 420 as long as `gin` is required; names it, or nothing.
    RefusesTags(bool),
    /// 403 for all other passwords.
    Password(&'static str),
    /// The same behind an EdgePort that keeps offering a refused password without end: nothing comes back.
    SilentUnless(&'static str),
    /// A redirection to another registrar, for so many seconds.
    Moved(u16, String, Option<i32>),
    /// That code, whatever is asked.
    Code(u16),
    /// That code, with Retry-After.
    Later(u16, u32),
    /// Nothing at all.
    Silent,
    /// 100 as if it were final; the binding is made all the same.
    Provisional,
    /// No response type.
    Nonsense,
    /// 200 that grants nothing.
    GrantsZero,
    /// 200 that says it granted years.
    GrantsAges,
    /// 400 as long as `gin` is required, without a word on why.
    RefusesRequire,
    /// A redirection to several registrars, in that order, each with its own expiry.
    MovedToOneOf(u16, Vec<(String, Option<u32>)>),
    /// 401 that cannot be answered: what it asks for is not known.
    UnknownChallenge,
    /// 401 that says again and again that the nonce is stale.
    StaleForever,
    /// 403 before it has seen any credentials.
    ForbidsUnseen,
    /// Takes no connection.
    Refuses,
}

impl Policy {
    /// A redirection to another registrar, for so many seconds.
    pub fn moved(code: u16, to: &str, expires: Option<i32>) -> Self {
        Self::Moved(code, to.to_owned(), expires)
    }

    /// 503 with Retry-After.
    pub fn busy(seconds: u32) -> Self {
        Self::Later(503, seconds)
    }
}

/// A binding that a registrar holds. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Bound {
    pub expires: u64,
    pub made: u64,
    /// The Contact that was sent.
    pub contact: String,
    /// Bindings of the same Call-ID with Contacts of before, each until it expires; oldest first.
    pub older: Vec<(String, u64)>,
}

/// A request as it reaches a registrar, with the password that it may have, or none where none is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub request: &'a RegisterRequest,
    /// The Contact that the Requester sends.
    pub contact: &'a str,
    /// The number that it arrives with: that of the request, or a higher one after a challenge.
    pub cseq: u32,
    /// The configured option tags.
    pub tags: &'a [String],
    /// Time at which it arrives, in milliseconds.
    pub at: u64,
}

/// One registrar.
#[derive(Clone, Debug)]
pub struct Registrar {
    pub policy: Policy,
    /// By Call-ID.
    pub bindings: BTreeMap<Box<str>, Bound>,
    /// The last number of each Call-ID.
    pub numbers: BTreeMap<Box<str>, u32>,
}

impl Registrar {
    pub fn new(policy: Policy) -> Self {
        Self { policy, bindings: BTreeMap::new(), numbers: BTreeMap::new() }
    }

    /// Responds to a request; `None`: nothing comes back. `list` makes the 200 of a binding that was granted
    /// for so many seconds.
    pub fn respond(
        &mut self,
        received: Received<'_>,
        list: impl Fn(&Bound, u32) -> RegisterResponse,
    ) -> Option<RegisterResponse> {
        let Received { request, tags, .. } = received;
        let asked = request.expires;
        let wants_gin =
            tags.iter().enumerate().any(|(bit, tag)| tag == "gin" && request.without_tags & (1 << bit) == 0);
        let offers =
            |right: &str| request.credentials.as_ref().is_some_and(|own| own.password.expose() == right);
        let policy = self.policy.clone();
        Some(match &policy {
            Policy::Grants(most) => self.bind(received, asked.min(*most), list),
            Policy::AtLeast(least) if asked > 0 && asked < *least => {
                RegisterResponse { min_expires: Some(*least), ..code(423) }
            }
            Policy::AtLeastUntold(least) if asked > 0 && asked < *least => code(423),
            Policy::RefusesTags(names) if wants_gin => {
                let unsupported = if *names { vec!["gin".into()] } else { Vec::new() };
                RegisterResponse { unsupported, ..code(420) }
            }
            Policy::RefusesRequire if wants_gin => code(400),
            Policy::Password(right) if !offers(right) => code(403),
            Policy::SilentUnless(right) if !offers(right) => return None,
            Policy::AtLeast(_)
            | Policy::AtLeastUntold(_)
            | Policy::RefusesTags(_)
            | Policy::RefusesRequire
            | Policy::Password(_)
            | Policy::SilentUnless(_) => self.bind(received, asked, list),
            Policy::Moved(number, to, expires) => RegisterResponse {
                targets: vec![target(to, None)],
                contact_expires: *expires,
                ..code(*number)
            },
            Policy::MovedToOneOf(number, all) => RegisterResponse {
                targets: all.iter().map(|(to, expires)| target(to, *expires)).collect(),
                contact_expires: all.first().and_then(|(_, expires)| i32::try_from((*expires)?).ok()),
                ..code(*number)
            },
            Policy::UnknownChallenge => RegisterResponse {
                authentication: Some(Authentication::NotSent("Digest algorithm Snefru-256".to_owned())),
                ..code(401)
            },
            Policy::StaleForever => {
                RegisterResponse { authentication: Some(Authentication::Stale), ..code(401) }
            }
            Policy::ForbidsUnseen => {
                RegisterResponse { authentication: Some(Authentication::NotSent(String::new())), ..code(403) }
            }
            Policy::Code(number) => code(*number),
            Policy::Later(number, seconds) => {
                RegisterResponse { retry_after: Some(*seconds), ..code(*number) }
            }
            Policy::Silent | Policy::Refuses => return None,
            Policy::Provisional => {
                self.bind(received, asked, list);
                code(100)
            }
            Policy::Nonsense => RegisterResponse::default(),
            Policy::GrantsZero if asked > 0 => RegisterResponse { expires: Some(0), ..code(200) },
            Policy::GrantsZero => self.bind(received, 0, list),
            Policy::GrantsAges => {
                let response = self.bind(received, asked, list);
                RegisterResponse { contact_expires: Some(i32::MAX), ..response }
            }
        })
    }

    /// Returns whether it holds a binding for a Call-ID at that time.
    pub fn holds(&self, call_id: &str, at: u64) -> bool {
        self.bindings.get(call_id).is_some_and(|bound| bound.expires > at)
    }

    /// RFC 3261 §10.3, step 7: a number that is not higher than the last one of its Call-ID changes nothing.
    /// Each Contact is a binding of its own.
    fn bind(
        &mut self,
        Received { request, contact, cseq, at, .. }: Received<'_>,
        granted: u32,
        list: impl Fn(&Bound, u32) -> RegisterResponse,
    ) -> RegisterResponse {
        if self.numbers.get(&request.call_id).is_some_and(|last| cseq <= *last) {
            return code(500);
        }
        self.numbers.insert(request.call_id.clone(), cseq);
        if request.expires == 0 {
            if let Some(bound) = self.bindings.get_mut(&request.call_id) {
                bound.older.retain(|(older, _)| older != contact);
                if bound.contact == contact {
                    self.bindings.remove(&request.call_id);
                }
            }
            return code(200);
        }
        let mut older = Vec::new();
        if let Some(before) = self.bindings.remove(&request.call_id) {
            older = before.older;
            older.push((before.contact, before.expires));
            older.retain(|(older, expires_at)| older != contact && *expires_at > at);
        }
        let bound =
            Bound { expires: at + u64::from(granted) * 1_000, made: at, contact: contact.to_owned(), older };
        let response = list(&bound, granted);
        self.bindings.insert(request.call_id.clone(), bound);
        response
    }
}

fn target(to: &str, expires: Option<u32>) -> RedirectContact {
    RedirectContact { to: RedirectTarget { address: HostPort::new(to, 5060), transport: None }, expires }
}
