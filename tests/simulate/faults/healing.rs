//! The end of all faults.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{dependencies::Api, network::Mode, rules::SECOND, users, world::World};

/// Everything is well again, and stays so.
pub async fn heal(world: &Arc<World>) {
    {
        let mut state = world.lock();
        state.say(format_args!("* all is well"));
        let at = state.now();
        state.calm_since = Some(at);
        for host in state.hosts.values_mut() {
            host.heal();
        }
        let lost = state.requester.mode == Mode::Down;
        state.requester.mode = state.requester.home.clone();
        state.requester.dead_edges.clear();
        state.heal_calls();
        if lost {
            state.link(false);
        }
        state.api = Api::Up;
        state.shrink = None;
        state.restore_store();
        state.lease.out = false;
        for machine in &state.machines {
            let ahead = machine.wall_ahead.load(Relaxed);
            if ahead.unsigned_abs() > SECOND {
                machine.wall_ahead.store(0, Relaxed);
            }
        }
        for (life, _) in state.processes.clone().into_iter().flatten() {
            state.thaw(&life);
        }
        let right: Vec<_> = state
            .catalogue
            .entries
            .values()
            .flat_map(|entry| entry.trunk.uris.iter().map(move |uri| (uri, &entry.trunk.credentials)))
            .filter_map(|(uri, own)| {
                let key = (uri.user.clone(), uri.registrar.host.clone());
                own.as_ref().map(|own| (key, own.password.expose().to_owned()))
            })
            .collect();
        state.catalogue.accounts.clear();
        state.catalogue.accounts.extend(right);
    }
    users::suspend(world, false).await;
}
