//! Actions of users in a world: edits of trunks and accounts, commands to the engine that acts, new settings.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use routr_registration::trunk::TrunkProblem;
use routr_types::host::HostPort;
use tokio::time::{sleep, timeout};

use crate::{
    process::{self, SimReload},
    process_state::EPOCH_MS,
    rules::SECOND,
    world::{State, World},
};

/// Action of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserAction {
    Edit(Edit),
    RefreshOne,
    SyncNow,
    Suspend,
    /// New settings.
    Reload,
    /// New settings in which another EdgePort takes the place of one.
    ReplaceEdgePort,
}

/// An edit of trunks or accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// One of the ways that are drawn.
    Drawn,
    MassRemoval,
    ProviderChangesPassword,
    MistypedPassword,
}

impl UserAction {
    /// The name in histories and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edit(Edit::Drawn) => "edit",
            Self::Edit(Edit::MassRemoval) => "mass removal",
            Self::Edit(Edit::ProviderChangesPassword) => "provider changes a password",
            Self::Edit(Edit::MistypedPassword) => "a password is mistyped",
            Self::RefreshOne => "refresh one",
            Self::SyncNow => "sync now",
            Self::Suspend => "suspend",
            Self::Reload => "reload",
            Self::ReplaceEdgePort => "edge port replaced",
        }
    }

    /// Does it; a suspended registry resumes after `ms`.
    pub async fn act(self, world: &Arc<World>, ms: u64) {
        match self {
            Self::Edit(kind) => edit(&mut world.lock(), kind),
            Self::Suspend => {
                command(world, self).await;
                let world = world.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    if world.lock().calm_since.is_none() {
                        suspend(&world, false).await;
                    }
                });
            }
            _ => command(world, self).await,
        }
    }
}

impl State {
    pub fn any_trunk(&mut self) -> Option<String> {
        let all: Vec<&String> = self.catalogue.entries.keys().collect();
        if all.is_empty() { None } else { Some(all[self.rng.random_range(0..all.len())].clone()) }
    }
}

/// Trunks or accounts are edited: as `edit` says, or in one of the ways that are drawn.
pub fn edit(state: &mut State, edit: Edit) {
    let at = state.now();
    if state.rules.field.is_some() {
        state.catalogue.clock_s = u32::try_from((EPOCH_MS + at) / SECOND).unwrap_or(0);
    }
    let names = state.host_names();
    let Some(reference) = state.any_trunk() else { return };
    let Some(mut trunk) = state.catalogue.entries.get(&reference).map(|entry| entry.trunk.clone()) else {
        return;
    };
    if edit == Edit::MassRemoval {
        let all: Vec<String> = state.catalogue.entries.keys().cloned().collect();
        for reference in all.iter().skip(1) {
            if state.rng.random_bool(0.8) {
                state.catalogue.entries.remove(reference);
            }
        }
        return;
    }
    if edit == Edit::ProviderChangesPassword {
        let password = state.catalogue.draw_credentials().password.expose().to_owned();
        let Some(uri) = trunk.uris.first() else { return };
        let key = (uri.user.clone(), uri.registrar.host.clone());
        state.catalogue.accounts.insert(key, password);
        return;
    }
    if edit == Edit::MistypedPassword {
        // In the trunk, until it is corrected.
        if trunk.credentials.is_some() {
            trunk.credentials = Some(state.catalogue.draw_credentials());
            state.catalogue.put(trunk);
        }
        return;
    }
    let kind = state.rng.random_range(0..11);
    state.say(format_args!("* edit {kind} of {reference}"));
    match kind {
        0 | 1 if state.catalogue.entries.len() < state.rules.trunks.max(24) + 6 => {
            let number = state.catalogue.revision;
            let new = state.catalogue.draw(&format!("t{number:02}"), &names, &mut state.rng);
            state.catalogue.put(new);
        }
        2 => drop(state.catalogue.entries.remove(&reference)),
        3 => {
            // A new password on both sides.
            let credentials = state.catalogue.draw_credentials();
            for uri in &trunk.uris {
                let key = (uri.user.clone(), uri.registrar.host.clone());
                state.catalogue.accounts.insert(key, credentials.password.expose().to_owned());
            }
            trunk.credentials = Some(credentials);
            state.catalogue.put(trunk);
        }
        4 => {
            let uri = state.catalogue.draw_uri(&names, &mut state.rng);
            trunk.uris = vec![uri];
            state.catalogue.put(trunk);
        }
        5 => {
            let uri = state.catalogue.draw_uri(&names, &mut state.rng);
            if !trunk.uris.iter().any(|other| other.registrar == uri.registrar) && trunk.uris.len() < 4 {
                trunk.uris.push(uri);
            }
            state.catalogue.put(trunk);
        }
        6 => {
            for uri in &mut trunk.uris {
                uri.priority = state.rng.random_range(0..3);
            }
            trunk.region = Some("us".into());
            state.catalogue.put(trunk);
        }
        7 => {
            let message = "uris[0].uri.host: missing".into();
            let problem = if state.rng.random_bool(0.5) {
                TrunkProblem::AllDisabled
            } else {
                TrunkProblem::Malformed { message }
            };
            spoil(state, &reference, problem);
        }
        8 => {
            trunk.name = format!("Name {at}").into();
            state.catalogue.put(trunk);
        }
        9 => {
            trunk.uris.reverse();
            state.catalogue.put(trunk);
        }
        // As good as new.
        _ => state.catalogue.put(trunk),
    }
}

pub fn spoil(state: &mut State, reference: &str, problem: TrunkProblem) {
    state.catalogue.revision += 1;
    let revision = state.catalogue.revision;
    if let Some(entry) = state.catalogue.entries.get_mut(reference) {
        (entry.problem, entry.revision) = (Some(problem), revision);
    }
}

/// A person's command to the engine that acts.
pub async fn command(world: &Arc<World>, action: UserAction) {
    let (reach, reference) = {
        let mut state = world.lock();
        (state.reach.clone(), state.any_trunk())
    };
    let patience = Duration::from_secs(5);
    match (action, reach, reference) {
        (UserAction::RefreshOne, Some(reach), Some(reference)) => {
            {
                let mut state = world.lock();
                let at = state.now();
                let trunk = state.model.trunk(&reference);
                (trunk.reason_at, trunk.wish_at) = (at, at);
                state.excuse_offers(&reference);
            }
            let said = timeout(patience, reach.handle.refresh(reference.clone())).await;
            world.lock().say(format_args!("* refresh {reference}: {said:?}"));
        }
        (UserAction::SyncNow, Some(reach), _) => {
            let _ = timeout(patience, reach.handle.sync_now()).await;
        }
        (UserAction::Suspend, ..) => suspend(world, true).await,
        (UserAction::Reload, Some(reach), _) => reload(world, &reach, false).await,
        (UserAction::ReplaceEdgePort, Some(reach), _) => reload(world, &reach, true).await,
        _ => {}
    }
}

/// Suspends, or resumes.
pub async fn suspend(world: &Arc<World>, suspended: bool) {
    let reach = {
        let mut state = world.lock();
        state.suspended = suspended;
        let at = state.now();
        let reach = state.reach.clone();
        if let Some(run) = reach.as_ref().and_then(|reach| state.model.runs.get_mut(&reach.run)) {
            run.paused = suspended;
            run.resumed_at = at;
        }
        state.update_model();
        reach
    };
    if let Some(reach) = reach {
        let _ = timeout(Duration::from_secs(5), reach.handle.pause(suspended)).await;
    }
}

/// New settings; `replaces`: one EdgePort gives way to another.
pub async fn reload(world: &Arc<World>, reach: &process::Reach, replaces: bool) {
    let reload = {
        let mut state = world.lock();
        let mut new = state.model.settings.clone();
        match state.rng.random_range(0..6) {
            _ if replaces => {
                let position = state.rng.random_range(0..new.edge_ports.len());
                let name = format!("edge{}", 10 + state.requester.replaced);
                state.requester.replaced += 1;
                new.edge_ports[position].address = HostPort::new(&name, 5060);
            }
            0 => new.registration.interval_ms = [60, 300, 900][state.rng.random_range(0..3)] * SECOND,
            1 => new.registration.expires_s = [600, 3_600, 7_200][state.rng.random_range(0..3)],
            2 => new.rate_per_registrar = [None, Some(5.0), Some(1.0)][state.rng.random_range(0..3)],
            3 => new.max_in_flight = [2, 10, 100][state.rng.random_range(0..3)],
            4 => new.registration.tags = vec!["gin".to_owned()],
            _ => new.edge_ports.reverse(),
        }
        let at = state.now();
        let model = &mut state.model;
        model.before = std::mem::replace(&mut model.settings, new.clone());
        model.changed_at = at;
        model.tags.clone_from(&new.registration.tags);
        model.excuse_all(at);
        let moved = state.rng.random_bool(0.2);
        let other = moved || state.rng.random_bool(0.2);
        let store = state.rng.random_bool(0.1);
        drop(state);
        let requester_port = || {
            Arc::new(process::requester_port(
                world,
                &reach.life,
                reach.run,
                &reach.permit,
                reach.link.clone(),
            ))
        };
        SimReload {
            settings: new,
            source: None,
            requester: other.then(requester_port),
            requester_moved: moved,
            store: store.then(|| Arc::new(process::store(world, &reach.life, reach.run, &reach.permit))),
        }
    };
    // It waits for an engine that is frozen: settings that are in the file do not go by.
    let reloads = reach.reloads.clone();
    tokio::spawn(async move { drop(reloads.send(Box::new(reload)).await) });
}
