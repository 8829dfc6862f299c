//! Registrars: what they hold, and how they answer.

use std::ops::{Deref, DerefMut};

use rand::{RngExt, rngs::SmallRng};
pub use routr_registration::testing::{
    code,
    registrar::{Bound, Policy, Registrar},
};
use routr_registration::{
    model::{RegisterRequest, RegisterResponse},
    testing::registrar::Received,
};

use crate::{contacts::Listing, field::Field};

/// One registrar.
#[derive(Debug)]
pub struct Host {
    /// Its bindings and its policy.
    pub registrar: Registrar,
    /// Policy when nothing is wrong with it.
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
    /// Way in which its 200 lists Contacts.
    pub listing: Listing,
    /// It keeps requests waiting, and since when it does so no more; 0: always.
    pub hindered: bool,
    pub well_since: u64,
}

impl Deref for Host {
    type Target = Registrar;

    fn deref(&self) -> &Registrar {
        &self.registrar
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Registrar {
        &mut self.registrar
    }
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
            registrar: Registrar::new(home.clone()),
            home,
            delay: (5, 60),
            loss: 0.0,
            late: 0.0,
            challenges: rng.random_bool(0.6),
            challenges_again: false,
            listing: Listing::default(),
            hindered: false,
            well_since: 0,
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
        let registrar = Registrar::new(policy.clone());
        Self { home: policy, registrar, challenges: false, ..Self::draw(rng) }
    }

    /// Returns whether nothing is wrong with it, apart from what it responds.
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
        let listing = self.listing;
        let received = Received { request, contact, cseq, tags, at };
        self.registrar.respond(received, |bound, granted| listing.response(bound, granted, at))
    }
}
