//! A refused password reaches a registrar at most four times in an hour, and four more for each excuse: see
//! [`crate::model::refusals`].

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, model::refusals::Offer, rules::HOUR, world::State};

/// Offers that the schedule allows within an hour: at once, after 5 minutes, 10 more, 20 more.
pub const IN_AN_HOUR: usize = 4;

impl State {
    /// A registrar is offered a password that it refuses.
    pub fn password_offered(&mut self, request: &RegisterRequest, sent: u64, loops: bool) {
        let at = self.now();
        let Some(password) = request.credentials.as_ref().map(|own| own.password.expose().to_owned()) else {
            return;
        };
        self.count("refused passwords offered");
        let name = self.model.call_name(&self.catalogue, &request.call_id);
        let reference = self.reference(&request.call_id);
        let excuses =
            self.model.trunk(&reference).excuses.iter().filter(|excuse| **excuse + HOUR > at).count();
        let offers = self.model.offers.entry((request.call_id.clone(), password)).or_default();
        offers.retain(|offer| offer.at + HOUR > at);
        offers.push(Offer { at, sent, told: false, loops });
        // This one cannot have been told yet, unless it is late.
        let late = offers.iter().any(|offer| offer.sent > sent);
        let untold = offers.iter().filter(|offer| !offer.told).count() - usize::from(!late);
        let (count, most) = (offers.len(), IN_AN_HOUR * (1 + excuses) + untold);
        let times: Vec<u64> = offers.iter().map(|offer| offer.at).collect();
        self.check(Invariant::OffersOfARefusedPassword, count <= most, |_| {
            format!("{name}: {count} within an hour, {most} are allowed: {times:?}")
        });
    }
}
