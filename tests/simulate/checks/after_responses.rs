//! Reads what an engine believes a moment after a response: [`super::no_false_refusal`],
//! [`super::no_expiry_too_long`].

use std::{sync::Arc, time::Duration};

use routr_registration::{
    engine::view::TrunkView,
    model::{RegisterResponse, SendError},
};
use routr_types::extension::Authentication;
use tokio::time::{sleep, timeout};

use crate::{
    model::InFlight,
    world::{State, World},
};

/// A response is taken within this, in milliseconds.
pub const TAKEN_WITHIN: u64 = 100;

/// A belief to check after a response.
#[derive(Clone, Debug)]
pub struct Recheck {
    pub run: u32,
    pub call: Box<str>,
    pub cseq: u32,
    pub reference: String,
    /// The response says which binding is ours.
    pub own: bool,
    pub grants: bool,
    pub no_refusal: bool,
}

impl State {
    /// Returns what to check of the engine's belief after a response, if anything.
    pub fn recheck(
        &mut self,
        flight: &InFlight,
        answer: &Result<RegisterResponse, SendError>,
    ) -> Option<Recheck> {
        self.rules.field?;
        let reply = answer.as_ref().ok()?;
        let own = reply.bindings.iter().any(|binding| binding.own);
        let grants = reply.code == Some(200) && flight.asked > 0 && (reply.bindings.len() != 1 || !own);
        let not_refused =
            matches!(reply.authentication, Some(Authentication::NotSent(_) | Authentication::Stale));
        let no_refusal = not_refused && !self.model.trunk(&flight.reference).refused;
        (grants || no_refusal).then(|| Recheck {
            run: flight.run,
            call: flight.call.clone(),
            cseq: flight.cseq,
            reference: flight.reference.clone(),
            own,
            grants,
            no_refusal,
        })
    }

    pub fn check_belief(&mut self, recheck: &Recheck, view: &TrunkView, wall: u64) {
        let Some(call) = self.model.calls.get(&recheck.call) else { return };
        if call.open.is_some() || call.last_sent != recheck.cseq || *view.call_id != *recheck.call {
            return;
        }
        let refused = self.model.trunks.get(&recheck.reference).is_some_and(|trunk| trunk.refused);
        if recheck.no_refusal && refused {
            // Another URI's registrar has refused them meanwhile.
            return;
        }
        if recheck.no_refusal {
            self.check_no_false_refusal(&recheck.call, view);
            return;
        }
        self.check_no_expiry_too_long(recheck, view, wall);
    }
}

/// Checks, a moment after a response, what the engine has made of it.
pub fn recheck_later(world: &Arc<World>, recheck: Recheck) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(TAKEN_WITHIN)).await;
        let reach = world.lock().reach.clone().filter(|reach| reach.run == recheck.run);
        let Some(reach) = reach else { return };
        let view = timeout(Duration::from_secs(5), reach.handle.get(recheck.reference.clone())).await;
        let Ok(Ok(Some(view))) = view else { return };
        let wall = reach.life.machine.wall_ms();
        world.lock().check_belief(&recheck, &view, wall);
    });
}
