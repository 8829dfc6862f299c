//! Registrars: what they hold, and how they answer.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::SmallRng};
use routr_registration::model::{RedirectContact, RedirectTarget, RegisterRequest, RegisterResponse};
use routr_types::{extension::Authentication, host::HostPort};

use crate::{contacts::Listing, field::Field};

/// How a registrar answers.
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

/// A binding that a registrar holds.
#[derive(Clone, Debug)]
pub struct Bound {
    pub expires: u64,
    pub made: u64,
    /// The Contact that was sent.
    pub contact: String,
    /// Bindings of the same Call-ID with Contacts of before, each until it expires; oldest first.
    pub older: Vec<(String, u64)>,
}

/// One registrar.
#[derive(Debug)]
pub struct Host {
    pub policy: Policy,
    /// What it is like when nothing is wrong with it.
    pub home: Policy,
    /// Milliseconds one way, from and to.
    pub delay: (u64, u64),
    /// Share of requests, and of replies, that are lost.
    pub loss: f64,
    /// Share of requests that arrive up to a minute late.
    pub late: f64,
    /// Asks for the password by a challenge.
    pub challenges: bool,
    /// Responds to a wrong password with another challenge, not with 403.
    pub challenges_again: bool,
    /// How its 200 lists Contacts.
    pub listing: Listing,
    /// It keeps requests waiting, and since when it does so no more; 0: always.
    pub hindered: bool,
    pub well_since: u64,
    pub bindings: BTreeMap<Box<str>, Bound>,
    /// The last number of each Call-ID.
    pub numbers: BTreeMap<Box<str>, u32>,
}

impl Host {
    pub fn draw(rng: &mut SmallRng) -> Self {
        let home = match rng.random_range(0..8) {
            0 => Policy::AtLeast([900, 4_000, 7_200][rng.random_range(0..3)]),
            1 => Policy::AtLeastUntold(900),
            2 => Policy::RefusesTags(rng.random_bool(0.5)),
            3 => Policy::Grants(300),
            4 => Policy::Grants(1_800),
            _ => Policy::Grants(86_400),
        };
        Self {
            policy: home.clone(),
            home,
            delay: (5, 60),
            loss: 0.0,
            late: 0.0,
            challenges: rng.random_bool(0.6),
            challenges_again: false,
            listing: Listing::default(),
            hindered: false,
            well_since: 0,
            bindings: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The same with the habits of the field.
    pub fn draw_in(rng: &mut SmallRng, field: Field) -> Self {
        let mut host = Self::draw(rng);
        host.challenges = rng.random_bool(0.7);
        host.challenges_again = rng.random_bool(0.6);
        let short = host.home == Policy::Grants(300);
        host.listing = Listing::draw(rng, field.is_ours(), short);
        if rng.random_ratio(1, 10) {
            host.home = Policy::RefusesRequire;
            host.policy = host.home.clone();
        }
        host
    }

    /// A registrar that is never of any help.
    pub fn dead(policy: Policy, rng: &mut SmallRng) -> Self {
        Self { home: policy.clone(), policy, challenges: false, ..Self::draw(rng) }
    }

    /// Whether nothing is wrong with it, apart from what it answers.
    pub fn is_reached(&self) -> bool {
        self.loss == 0.0 && self.late == 0.0 && self.delay.1 <= 2_000
    }

    /// Back to what it is at its best.
    pub fn heal(&mut self) {
        self.policy = self.home.clone();
        (self.loss, self.late, self.delay) = (0.0, 0.0, (5, 60));
    }

    /// A restart without its data.
    pub fn forget(&mut self) {
        self.bindings.clear();
        self.numbers.clear();
    }

    /// Takes a request that carries the right password, or needs none, for the Contact that the Requester
    /// sends. `None`: it says nothing.
    pub fn take(
        &mut self,
        request: &RegisterRequest,
        contact: &str,
        cseq: u32,
        tags: &[String],
        at: u64,
    ) -> Option<RegisterResponse> {
        let asked = request.expires;
        let wants_gin =
            tags.iter().enumerate().any(|(bit, tag)| tag == "gin" && request.without_tags & (1 << bit) == 0);
        Some(match &self.policy {
            Policy::Grants(most) => {
                let granted = asked.min(*most);
                self.bind(request, contact, cseq, granted, at)
            }
            Policy::AtLeast(least) if asked > 0 && asked < *least => {
                RegisterResponse { min_expires: Some(*least), ..code(423) }
            }
            Policy::AtLeastUntold(least) if asked > 0 && asked < *least => code(423),
            Policy::RefusesTags(names) if wants_gin => {
                let unsupported = if *names { vec!["gin".into()] } else { Vec::new() };
                RegisterResponse { unsupported, ..code(420) }
            }
            Policy::RefusesRequire if wants_gin => code(400),
            Policy::AtLeast(_)
            | Policy::AtLeastUntold(_)
            | Policy::RefusesTags(_)
            | Policy::RefusesRequire => self.bind(request, contact, cseq, asked, at),
            Policy::Moved(number, to, expires) => RegisterResponse {
                targets: vec![RedirectContact {
                    to: RedirectTarget { address: HostPort::new(to, 5060), transport: None },
                    expires: None,
                }],
                contact_expires: *expires,
                ..code(*number)
            },
            Policy::MovedToOneOf(number, all) => RegisterResponse {
                targets: all
                    .iter()
                    .map(|(to, expires)| RedirectContact {
                        to: RedirectTarget { address: HostPort::new(to, 5060), transport: None },
                        expires: *expires,
                    })
                    .collect(),
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
                self.bind(request, contact, cseq, asked, at);
                code(100)
            }
            Policy::Nonsense => RegisterResponse::default(),
            Policy::GrantsZero if asked > 0 => RegisterResponse { expires: Some(0), ..code(200) },
            Policy::GrantsZero => self.bind(request, contact, cseq, 0, at),
            Policy::GrantsAges => {
                let reply = self.bind(request, contact, cseq, asked, at);
                RegisterResponse { contact_expires: Some(i32::MAX), ..reply }
            }
        })
    }

    /// RFC 3261 §10.3, step 7: a number that is not higher than the last one of its Call-ID changes nothing.
    /// Each Contact is a binding of its own.
    fn bind(
        &mut self,
        request: &RegisterRequest,
        contact: &str,
        cseq: u32,
        granted: u32,
        at: u64,
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
        let response = self.listing.response(&bound, granted, at);
        self.bindings.insert(request.call_id.clone(), bound);
        response
    }
}

pub fn code(code: u16) -> RegisterResponse {
    RegisterResponse { code: Some(code), phrase: "Because".into(), ..RegisterResponse::default() }
}
