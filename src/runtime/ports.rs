//! Ports of the engine to the outside, as traits. Nothing here knows gRPC, Redis or Kubernetes.
//!
//! * [`TrunkSource`] lists the trunks,
//! * [`Requester`] sends one REGISTER and brings back the response,
//! * [`Store`] keeps the state that must outlive the process.

use std::{future::Future, sync::LazyLock, time::Duration};

use routr_environment::System;
use routr_registration::model::{
    Absence, Change, Link, Record, RegisterRequest, RegisterResponse, Rival, SendError, SourceError,
    StoreError, TrunkItem,
};
use tokio::sync::watch;

/// Sends REGISTERs.
pub trait Requester: Send + Sync + 'static {
    /// Sends one REGISTER and waits for the response, for at most `deadline`.
    ///
    /// An implementation must resolve in every case: the engine keeps a place for the request until it does.
    fn register(
        &self,
        request: RegisterRequest,
        deadline: Duration,
    ) -> impl Future<Output = Result<RegisterResponse, SendError>> + Send;

    /// The connections to the Requester. A number of restarts that rises means that its Contact may have
    /// changed.
    fn link(&self) -> watch::Receiver<Link>;

    /// Closes what is open for this registry alone, until the next call: nothing will be sent for a while.
    fn rest(&self) {}
}

/// Lists the trunks.
pub trait TrunkSource: Send + Sync + 'static {
    /// Element of a list.
    type Item: TrunkItem + 'static;

    /// Reads all trunks with `sendRegister: true` and hands them over in batches. `Ok` means that the list
    /// was complete; on an error whatever was handed over is only a part of it.
    fn list(
        &self,
        batches: tokio::sync::mpsc::Sender<Vec<Self::Item>>,
    ) -> impl Future<Output = Result<Absence, SourceError>> + Send;

    /// Asks for trunks that a list did not have, one by one, and hands those over that are there with
    /// `sendRegister: true`. Returns whether all others are surely gone; `false` where the source cannot say.
    fn look_up(
        &self,
        references: Vec<Box<str>>,
        batches: tokio::sync::mpsc::Sender<Vec<Self::Item>>,
    ) -> impl Future<Output = Result<bool, SourceError>> + Send {
        drop((references, batches));
        std::future::ready(Ok(false))
    }

    /// Closes what is open for this registry alone, until the next call.
    fn rest(&self) {}
}

/// Keeps registrations beyond the life of the process. One store serves one registry (one instance id).
pub trait Store: Send + Sync + 'static {
    /// Everything that is kept for this registry, in any order. A record that cannot be read is left out, and
    /// said so in the log.
    fn load(&self) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Returns whether anything outlives the process. Where it does not, nothing needs to be written.
    fn is_durable(&self) -> bool;

    /// Applies the changes in their order. After an error any part of them may have been applied; applying
    /// them again is harmless.
    fn apply(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns whether the store is there at all: resolves as soon as one round trip succeeded.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns whether the store may have lost writes of this process (it was emptied, restarted without its
    /// data or with an older copy of it, or nothing was ever loaded from it) since the last [`Store::load`]
    /// or the last `Ok` of this method. `true` is said once: anyone who hears it writes everything again, and
    /// remembers to until it has succeeded.
    ///
    /// To be called every few seconds and after every failure; where the store is remote it takes two round
    /// trips, so it does for a [`Store::ping`] as well.
    fn detect_data_loss(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Returns how often [`Store::detect_data_loss`] is called, whatever else there is to do.
    fn check_every(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The instance id that the store keeps for this registry, once it has said so: the Call-IDs are made of
    /// it from then on. `None` where the id is known without the store.
    fn instance_id(&self) -> Option<Box<str>> {
        None
    }

    /// Another process that acts for this registry already; `None` where this one may. It is read before the
    /// first [`Store::load`] returns, and followed from then on.
    fn rival(&self) -> watch::Receiver<Option<Rival>> {
        static NONE: LazyLock<watch::Sender<Option<Rival>>> = LazyLock::new(|| watch::channel(None).0);
        NONE.subscribe()
    }

    /// Returns the process that had written in this one's place when [`Store::detect_data_loss`] last looked:
    /// both act for this registry. It is no loss of data.
    fn other_writer(&self) -> Option<Rival> {
        None
    }

    /// Lets another process act for this registry at once. The last call of all.
    fn release(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Receives events, for metrics. All methods must be quick.
pub trait Observer: Send + Sync + 'static {
    /// A REGISTER got a response, or none; `outcome` is one of a few fixed names.
    fn register_finished(&self, _registrar: &str, _outcome: &'static str, _seconds: f64) {}
    /// A refresh went out, this many seconds after the moment that was chosen for it.
    fn refresh_sent(&self, _seconds: f64) {}
    /// A sync ended.
    fn sync_finished(&self, _ok: bool, _seconds: f64) {}
    /// A write to the store ended.
    fn store_write(&self, _ok: bool) {}
}

impl Observer for () {}

/// Reads the clock and draws random numbers: the engine's driver does neither by itself.
pub trait Environment: Send + Sync + 'static {
    /// Wall-clock time in milliseconds since the Unix epoch. It may jump.
    fn unix_ms(&self) -> u64;
    /// A seed for the engine's random numbers.
    fn seed(&self) -> u64;
}

impl Environment for System {
    fn unix_ms(&self) -> u64 {
        routr_environment::unix_ms()
    }

    fn seed(&self) -> u64 {
        routr_environment::random()
    }
}
