//! Follows the configuration file: an edit, or SIGHUP, is taken over without touching what did not change; a
//! bad edit keeps the old configuration, and says so.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{InstanceId, registry_key, reload};
use crate::{
    admin::Directory,
    config::{self, Cache, Config, Endpoint, RedisSettings},
    instance::Reloads,
    registry::RegistryName,
    store,
};
use routr_registration::registration::identity::RegistryId;

/// Period at which the file is read again. Reading it, rather than waiting for events of the file system,
/// also works for mounted ConfigMaps and bind mounts.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// Keeps SIGHUP from ending the process from now on. `None` where it cannot be received.
pub(super) fn hangups() -> Option<Signal> {
    match signal(SignalKind::hangup()) {
        Ok(hangups) => Some(hangups),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be received; edits of the configuration still take effect");
            None
        }
    }
}

/// Applies changes of the file to the running engine until `shutdown` is cancelled or the engine has ended.
pub(super) async fn follow(
    path: PathBuf,
    config: Config,
    identity: InstanceId,
    (reloads, directory): (Reloads, Directory),
    mut hangups: Option<Signal>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(POLL_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower =
        Follower { path, last: Ok(config.clone()), config, identity, reloads, directory, reported: None };
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            () = hung_up(&mut hangups) => true,
            () = shutdown.cancelled() => return,
        };
        if follower.look(asked).await.is_err() {
            return;
        }
    }
}

async fn hung_up(hangups: &mut Option<Signal>) {
    match hangups {
        Some(hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }
}

/// The engine is gone.
struct Ended;

struct Follower {
    path: PathBuf,
    /// Configuration in use.
    config: Config,
    identity: InstanceId,
    reloads: Reloads,
    /// Directory in which the registry has its name.
    directory: Directory,
    /// Result of the last read.
    last: Result<Config, String>,
    /// Problem that the log has already.
    reported: Option<String>,
}

impl Follower {
    async fn look(&mut self, asked: bool) -> Result<(), Ended> {
        let file = self.path.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || read(&file)).await else { return Ok(()) };
        // A file that is being written is not taken half done: two looks must agree. Anyone who sends SIGHUP
        // has finished.
        let settled = asked || found == self.last;
        self.last = found.clone();
        if !settled {
            return Ok(());
        }
        match found {
            Ok(new) if new == self.config => {
                if asked {
                    tracing::info!("SIGHUP: the configuration has not changed");
                } else if self.reported.is_some() {
                    tracing::info!("the configuration is again as it was before the invalid edit");
                }
                self.reported = None;
                Ok(())
            }
            Ok(new) => self.take_over(new, asked).await,
            Err(problem) => {
                self.report(problem, asked);
                Ok(())
            }
        }
    }

    async fn take_over(&mut self, new: Config, asked: bool) -> Result<(), Ended> {
        let change = match reload(&self.config, &new, &self.identity) {
            Ok(change) => change,
            Err(error) => {
                self.report(error.to_string(), asked);
                return Ok(());
            }
        };
        if identity_changes(&self.config, &new) {
            tracing::warn!(
                instance_id = self.identity.now().as_str(),
                "the Call-IDs stay as they are until the next start, and change then; to keep them, set spec.instanceId to this instance_id"
            );
        }
        if self.config.cache != new.cache
            && new.instance_id.is_none()
            && self.identity.is_settled()
            && let Cache::Redis(settings) = &new.cache
        {
            tokio::spawn(keep_identity(
                RedisSettings::clone(settings),
                registry_key(&new),
                self.identity.now(),
            ));
        }
        self.reloads.send(change).await.map_err(|_| Ended)?;
        self.directory.rename(&RegistryName::plain(&self.config.name), RegistryName::plain(&new.name));
        let changed = changes(&self.config, &new).join(", ");
        tracing::info!(config = %self.path.display(), changed, "applied the new configuration");
        (self.config, self.reported) = (new, None);
        Ok(())
    }

    /// Logs each problem once, not once a second.
    fn report(&mut self, problem: String, asked: bool) {
        if asked || self.reported.as_ref() != Some(&problem) {
            tracing::error!("keeping the old configuration: {problem}");
            self.reported = Some(problem);
        }
    }
}

/// Leaves the identity in a Redis that is new here, so that the next start goes on with the same Call-IDs.
/// Where this fails, the store does it later.
async fn keep_identity(settings: RedisSettings, key: String, identity: RegistryId) {
    if let Ok(kept) = store::instance_id(&settings, &key, identity.as_str()).await
        && kept != identity.as_str()
    {
        tracing::warn!(
            instance_id = identity.as_str(),
            kept,
            "this Redis keeps another instance id: the Call-IDs change to it at the next start; to keep them, set \
             spec.instanceId to this instance_id"
        );
    }
}

fn read(path: &Path) -> Result<Config, String> {
    config::load(Some(path)).map(|(_, config)| config).map_err(|error| error.to_string())
}

/// Returns whether a start with the new configuration would make other Call-IDs than a start with the old
/// one.
fn identity_changes(before: &Config, after: &Config) -> bool {
    match (&before.instance_id, &after.instance_id) {
        (None, None) => registry_key(before) != registry_key(after),
        (before, after) => before != after,
    }
}

/// Returns which parts differ, by their keys in the document.
fn changes(before: &Config, after: &Config) -> Vec<&'static str> {
    let place = |endpoint: &Endpoint| (endpoint.address.clone(), endpoint.tls);
    let files = |config: &Config| (config.api.files.clone(), config.requester.files.clone());
    let bounds = |config: &Config| (config.sync, config.api.timeout);
    let parts = [
        ("metadata.name", before.name != after.name),
        ("spec.instanceId", before.instance_id != after.instance_id),
        ("spec.apiAddr", place(&before.api) != place(&after.api)),
        ("spec.requesterAddr", place(&before.requester) != place(&after.requester)),
        ("spec.requesterTokenFile", before.requester.token != after.requester.token),
        ("spec.tls", files(before) != files(after)),
        ("spec.sync", bounds(before) != bounds(after)),
        ("spec.registerInterval", before.register_interval != after.register_interval),
        ("spec.cache", before.cache != after.cache),
        ("spec.methods", before.methods != after.methods),
        ("spec.edgePorts", before.edge_ports != after.edge_ports),
        ("spec.registration", before.registration != after.registration),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
