//! Faults of registrars.

use std::sync::Arc;

use rand::RngExt;

use crate::{
    faults::later,
    registrar::Policy,
    rules::{MINUTE, SECOND},
    world::{State, World},
};

/// Fault of one registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrarFault {
    AnswersOtherwise,
    LosesPackets,
    IsLate,
    IsSlow,
    /// It loses its bindings.
    Forgets,
}

/// Registrars that are down for minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// One, more often than not the one that most trunks name.
    OneRegistrar,
    SeveralSilent,
}

/// Begins a fault of a registrar that is drawn.
pub fn begin(world: &Arc<World>, fault: RegistrarFault, ms: u64) {
    let mut state = world.lock();
    let name = state.any_host();
    let policy = state.any_policy();
    let share = state.rng.random_range(0.05..0.6);
    let slow = state.rng.random_range(2_500..20_000);
    state.say(format_args!("* {name} {policy:?} {share:.2}"));
    let Some(host) = state.hosts.get_mut(&name) else { return };
    match fault {
        RegistrarFault::AnswersOtherwise => host.policy = policy,
        RegistrarFault::LosesPackets => host.loss = share,
        RegistrarFault::IsLate => host.late = share,
        RegistrarFault::IsSlow => host.delay = (slow / 2, slow),
        RegistrarFault::Forgets => {
            host.forget();
            state.registrars_forgot();
        }
    }
    drop(state);
    later(world, ms, move |state| {
        if let Some(host) = state.hosts.get_mut(&name) {
            host.heal();
        }
        for (_, host) in state.hosts.iter_mut().filter(|(name, _)| name.starts_with('r')) {
            host.heal();
        }
    });
}

/// Registrars that are down for a minute or some: one with many trunks, or several at once.
pub fn begin_outage(world: &Arc<World>, outage: Outage) {
    let (down, ms) = {
        let mut state = world.lock();
        let longest = [3, 12, 40][state.rng.random_range(0..3)] * MINUTE;
        let ms = state.rng.random_range(MINUTE..longest);
        let names = state.host_names();
        let down: Vec<String> = if outage == Outage::OneRegistrar {
            vec![state.busiest_host()]
        } else {
            let share = state.rng.random_range(0.2..0.9);
            names.into_iter().filter(|_| state.rng.random_bool(share)).collect()
        };
        let ways = [Policy::Silent, Policy::Refuses, Policy::Code(500), Policy::Code(502), Policy::Code(503)];
        let policy = match outage {
            Outage::OneRegistrar => ways[state.rng.random_range(0..ways.len())].clone(),
            Outage::SeveralSilent => Policy::Silent,
        };
        state.say(format_args!("* {down:?} {policy:?} for {} s", ms / SECOND));
        for name in &down {
            if let Some(host) = state.hosts.get_mut(name) {
                host.policy = policy.clone();
            }
        }
        (down, ms)
    };
    later(world, ms, move |state| {
        for name in &down {
            if let Some(host) = state.hosts.get_mut(name) {
                host.heal();
            }
        }
    });
}

/// Makes the registrars silent that are so before anything begins.
pub fn begin_silent(world: &Arc<World>) {
    let Some(field) = world.lock().rules.field else { return };
    let silent: Vec<String> = world.lock().host_names().into_iter().take(field.silent_at_start).collect();
    for name in &silent {
        if let Some(host) = world.lock().hosts.get_mut(name) {
            host.policy = Policy::Silent;
        }
    }
    world.lock().update_model();
    later(world, field.silence_ms, move |state| {
        for name in &silent {
            if let Some(host) = state.hosts.get_mut(name) {
                host.heal();
            }
        }
    });
}

impl State {
    pub fn any_host(&mut self) -> String {
        let names = self.host_names();
        names[self.rng.random_range(0..names.len())].clone()
    }

    pub fn any_policy(&mut self) -> Policy {
        if self.rules.field.is_some() && self.rng.random_bool(0.4) {
            return self.any_policy_in_the_field();
        }
        let rng = &mut self.rng;
        let wait = [5, 60, 900, 7_200][rng.random_range(0..4)];
        let codes =
            [401, 403, 407, 404, 410, 604, 500, 502, 503, 504, 480, 600, 486, 408, 423, 420, 606, 302, 999];
        match rng.random_range(0..16) {
            0 => Policy::Grants(rng.random_range(20..90)),
            1 => Policy::Later(503, wait),
            2 => Policy::Later([500, 413, 480, 486, 600, 603, 404][rng.random_range(0..7)], wait),
            3 => {
                // A chain that ends, or a circle.
                let end = rng.random_range(1..7);
                let circle = rng.random_bool(0.3);
                for n in 0..end {
                    let to = if n + 1 < end { format!("r{}", n + 1) } else { "r6".to_owned() };
                    let to = if circle && n + 1 == end { "r0".to_owned() } else { to };
                    if let Some(host) = self.hosts.get_mut(&format!("r{n}")) {
                        host.policy = Policy::Moved(302, to, None);
                    }
                }
                Policy::Moved(
                    [301, 302, 305][self.rng.random_range(0..3)],
                    "R0".to_owned(),
                    [None, Some(600)][self.rng.random_range(0..2)],
                )
            }
            4 => Policy::Moved(302, "r6".to_owned(), Some(rng.random_range(10..5_000))),
            5 | 6 => Policy::Silent,
            7 => Policy::Provisional,
            8 => Policy::Nonsense,
            9 => Policy::GrantsZero,
            10 => Policy::GrantsAges,
            _ => Policy::Code(codes[rng.random_range(0..codes.len())]),
        }
    }

    /// Returns a policy that plain worlds do not have.
    pub fn any_policy_in_the_field(&mut self) -> Policy {
        let rng = &mut self.rng;
        let expires = [None, Some(30), Some(600)];
        match rng.random_range(0..8) {
            0 => Policy::RefusesRequire,
            1 => Policy::UnknownChallenge,
            2 => Policy::StaleForever,
            3 => Policy::ForbidsUnseen,
            4 => Policy::Refuses,
            5 => Policy::Code([433, 439, 494, 402, 493, 513][rng.random_range(0..6)]),
            _ => {
                // Some of them of no help; the last one is.
                let mut targets = vec!["r6"];
                for _ in 0..rng.random_range(0..4) {
                    let other = ["d0", "d1", "d2", "d3", "r1", "r2"][rng.random_range(0..6)];
                    if !targets.contains(&other) {
                        targets.insert(0, other);
                    }
                }
                let targets =
                    targets.into_iter().map(|to| (to.to_owned(), expires[rng.random_range(0..3)])).collect();
                Policy::MovedToOneOf([300, 301, 302, 305][rng.random_range(0..4)], targets)
            }
        }
    }

    /// The registrar that most trunks name, more often than not.
    pub fn busiest_host(&mut self) -> String {
        if self.rng.random_bool(0.4) {
            return self.any_host();
        }
        let names = self.host_names();
        let trunks = |name: &String| {
            let uris = self.catalogue.entries.values().flat_map(|entry| &entry.trunk.uris);
            uris.filter(|uri| *uri.registrar.host == **name).count()
        };
        names.iter().max_by_key(|name| trunks(name)).cloned().unwrap_or_default()
    }

    /// Registrars lost what they held: no one can know before the bindings would have expired.
    pub fn registrars_forgot(&mut self) {
        let at = self.now();
        self.forgot_at = at;
        for (id, call) in &self.model.calls {
            let Some(grant) = &call.grant else { continue };
            let Some(known) = self.catalogue.calls.get(id) else { continue };
            if let Some(trunk) = self.model.trunks.get_mut(&known.reference) {
                let until = (grant.sent + grant.granted_ms).max(call.most_until);
                trunk.patience = trunk.patience.max(until);
                trunk.fair_patience = trunk.fair_patience.max(until);
            }
        }
    }
}
