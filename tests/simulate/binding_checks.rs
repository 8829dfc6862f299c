//! What an engine believes after a response: no binding lasts longer than the registrar holds it, and no
//! refusal is shown where no credentials were refused.

use std::{sync::Arc, time::Duration};

use routr_registration::{
    engine::view::TrunkView,
    model::{RegisterResponse, SendError},
    registration::state::TrunkState,
};
use routr_types::extension::Authentication;
use tokio::time::{sleep, timeout};

use crate::{
    model::{Flight, Grant},
    rules::SECOND,
    world::{State, World},
};

/// A response is taken within this, in milliseconds.
const TAKEN_WITHIN: u64 = 100;
/// An expiry is that of another binding if it differs from what is left of that by no more than this, in
/// seconds.
const SAME_EXPIRY: u64 = 2;
/// The longest expiry that is believed, in seconds; and the same of what is longer than the configured one,
/// which a 423 wanted: a registrar may reject nothing that lasts an hour (RFC 3261 §10.3), and a forged 423
/// must not have a registration looked after once a day.
const MAX_EXPIRES: u32 = 86_400;
const MAX_WANTED: u32 = 3_600;

/// The longest expiry that is believed where so much was asked, in seconds.
pub fn longest(asked: u32, configured: u32) -> u32 {
    if asked > configured { configured.max(MAX_WANTED) } else { MAX_EXPIRES }
}

/// What a 2xx grants, as a reader of the specification has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// `None`: nothing.
    pub seconds: Option<u32>,
    /// The most that a reader may come to.
    pub most: u32,
    /// Not every reader comes to the same.
    pub unsure: bool,
    /// It depends on a second more or less.
    pub border: bool,
}

/// Reads what is granted: never more than what was asked, or `longest`. `held` is the grant of before, if it
/// is certain.
pub fn granted(
    reply: &RegisterResponse,
    (asked, longest): (u32, u32),
    held: Option<&Grant>,
    certain: bool,
    (sent, at): (u64, u64),
) -> Granted {
    let sure = |seconds: Option<u32>| {
        let seconds = seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.min(asked).min(longest));
        Granted { seconds, most: seconds.unwrap_or(0), unsure: false, border: false }
    };
    if asked == 0 {
        return Granted { seconds: Some(0), most: 0, unsure: false, border: false };
    }
    if let Some(own) = reply.bindings.iter().find(|binding| binding.own) {
        return sure(own.expires.or(Some(asked)));
    }
    let listed: Vec<u32> = if reply.bindings.is_empty() {
        let said =
            reply.contact_expires.filter(|seconds| *seconds > 0).or(reply.expires).or(reply.contact_expires);
        let Some(said) = said else { return sure(Some(asked)) };
        u32::try_from(said).into_iter().filter(|seconds| *seconds > 0).collect()
    } else {
        reply.bindings.iter().filter_map(|binding| binding.expires).filter(|seconds| *seconds > 0).collect()
    };
    let Some(least) = listed.iter().copied().min() else { return sure(None) };
    // What is granted in full is no remainder of anything.
    if !certain && least < asked {
        // It may look like what is left of the binding before: then the last grant is kept.
        let before = held.map_or(0, |held| u32::try_from(held.granted_ms / SECOND).unwrap_or(asked));
        let most = listed.iter().copied().max().unwrap_or(0).max(before).min(asked);
        return Granted { unsure: true, border: true, most, ..sure(Some(least)) };
    }
    // What was left of it is somewhere between the two; further off by so much, it is another one.
    let left = |held: &Grant, at: u64| (held.sent + held.granted_ms).saturating_sub(at) / SECOND;
    let apart = |held: &Grant| {
        let (shortest, longest) = (left(held, at), left(held, sent));
        let least = u64::from(least);
        shortest.saturating_sub(least).max(least.saturating_sub(longest))
    };
    match (held, held.map(apart)) {
        (Some(held), Some(apart)) if apart <= SAME_EXPIRY + 2 => {
            let before = u32::try_from(held.granted_ms / SECOND).unwrap_or(asked);
            let border = apart + 1 >= SAME_EXPIRY;
            let seconds = if apart <= SAME_EXPIRY { before } else { least };
            // Of several, the next one may count.
            let next = listed.iter().copied().filter(|other| *other != least).min().unwrap_or(0);
            let unsure = border || next > 0 || before != least;
            // A reader who is off by a second takes it for the one of before.
            let other = if border { before } else { 0 };
            Granted { unsure, border, most: seconds.max(next).max(other).min(asked), ..sure(Some(seconds)) }
        }
        _ => sure(Some(least)),
    }
}

/// What to look at after a response.
#[derive(Clone, Debug)]
pub struct Glance {
    run: u32,
    call: Box<str>,
    cseq: u32,
    reference: String,
    /// The response says which binding is ours.
    own: bool,
    grants: bool,
    no_refusal: bool,
}

impl State {
    /// Whether a response is worth a look at what the engine makes of it.
    pub fn glance(
        &mut self,
        flight: &Flight,
        answer: &Result<RegisterResponse, SendError>,
    ) -> Option<Glance> {
        self.rules.field?;
        let reply = answer.as_ref().ok()?;
        let own = reply.bindings.iter().any(|binding| binding.own);
        let grants = reply.code == Some(200) && flight.asked > 0 && (reply.bindings.len() != 1 || !own);
        let not_refused =
            matches!(reply.authentication, Some(Authentication::NotSent(_) | Authentication::Stale));
        let no_refusal = not_refused && !self.model.trunk(&flight.reference).refused;
        (grants || no_refusal).then(|| Glance {
            run: flight.run,
            call: flight.call.clone(),
            cseq: flight.cseq,
            reference: flight.reference.clone(),
            own,
            grants,
            no_refusal,
        })
    }

    fn check_glance(&mut self, glance: &Glance, view: &TrunkView, wall: u64) {
        let at = self.now();
        let Some(call) = self.model.calls.get(&glance.call) else { return };
        if call.flight.is_some() || call.last_sent != glance.cseq || *view.call_id != *glance.call {
            return;
        }
        let refused = self.model.trunks.get(&glance.reference).is_some_and(|trunk| trunk.refused);
        if glance.no_refusal && refused {
            // Another URI's registrar has refused them meanwhile.
            return;
        }
        if glance.no_refusal {
            let reason = view.failure.as_ref().map_or("", |trouble| trouble.reason.as_str());
            let right = reason != "CredentialsRejected" && reason != "UnknownAccount";
            let name = self.model.call_name(&self.catalogue, &glance.call);
            self.check("no false refusal", right, |_| {
                format!("{name}: no credentials were refused, and the reason is {:?}", view.failure)
            });
            return;
        }
        if !glance.grants || !matches!(view.state, TrunkState::Registered | TrunkState::AtRisk) {
            return;
        }
        let believed = view.expires_at_ms.unwrap_or(0).saturating_sub(wall);
        let real =
            self.holders(&glance.call).map(|bound| bound.expires.saturating_sub(at)).max().unwrap_or(0);
        let Some(call) = self.model.calls.get(&glance.call) else { return };
        if call.grant.as_ref().is_none_or(|grant| grant.cseq != glance.cseq || grant.sent <= self.forgot_at) {
            return;
        }
        let read = call
            .grant
            .as_ref()
            .filter(|_| !call.border)
            .map(|grant| (grant.sent + grant.granted_ms).saturating_sub(at));
        let most = if glance.own { Some(real) } else { read.map(|read| read.max(real)) };
        let Some(most) = most else { return };
        let name = self.model.call_name(&self.catalogue, &glance.call);
        self.check("no expiry too long", believed <= most + 2 * SECOND, |_| {
            format!("{name}: believed to last {believed} ms, and lasts {real} ms; read as {read:?} ms")
        });
    }
}

/// Looks, a moment after a response, at what the engine has made of it.
pub fn look_later(world: &Arc<World>, glance: Glance) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(TAKEN_WITHIN)).await;
        let reach = world.lock().reach.clone().filter(|reach| reach.run == glance.run);
        let Some(reach) = reach else { return };
        let view = timeout(Duration::from_secs(5), reach.handle.get(glance.reference.clone())).await;
        let Ok(Ok(Some(view))) = view else { return };
        let wall = reach.life.machine.wall_ms();
        world.lock().check_glance(&glance, &view, wall);
    });
}
