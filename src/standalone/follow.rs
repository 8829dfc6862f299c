//! Follows the configuration file: an edit, or SIGHUP, is taken over without touching what did not change; a bad edit
//! keeps the old configuration, and says so.

use std::{path::PathBuf, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Reloads, reload};
use crate::{
    config::{self, Config},
    registration::identity::RegistryId,
};

/// How often the file is read again. Reading it, rather than waiting for the file system to tell, also works for
/// mounted ConfigMaps and bind mounts.
const PERIOD: Duration = Duration::from_secs(1);

/// See the module.
pub(super) async fn follow(
    path: PathBuf,
    mut config: Config,
    identity: RegistryId,
    reloads: Reloads,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be received; edits of the configuration are noticed all the same");
        return;
    };
    let mut reported = None;
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangups.recv() => true,
            () = shutdown.cancelled() => return,
        };
        let file = path.clone();
        let Ok(loaded) = tokio::task::spawn_blocking(move || config::load(Some(&file))).await else {
            continue;
        };
        match loaded {
            Ok((_, new)) if new == config => {
                if asked {
                    tracing::info!("SIGHUP: the configuration has not changed");
                } else if reported.is_some() {
                    tracing::info!("the configuration is as it was before the bad edit");
                }
                reported = None;
            }
            Ok((_, new)) => {
                reported = None;
                if identity_changes(&config, &new) {
                    tracing::warn!(
                        "metadata.name and spec.instanceId make the Call-IDs: a change of them takes effect at the next start"
                    );
                }
                match reload(&config, &new, &identity) {
                    Ok(change) => {
                        if reloads.send(change).await.is_err() {
                            return;
                        }
                        tracing::info!(config = %path.display(), "took over the new configuration");
                        config = new;
                    }
                    Err(error) => tracing::error!(%error, "keeping the old configuration"),
                }
            }
            Err(error) => {
                let text = error.to_string();
                // Once for each mistake, not once a second.
                if asked || reported.as_ref() != Some(&text) {
                    tracing::error!("keeping the old configuration: {text}");
                    reported = Some(text);
                }
            }
        }
    }
}

fn identity_changes(before: &Config, after: &Config) -> bool {
    before.instance_id != after.instance_id || (after.instance_id.is_none() && before.name != after.name)
}
