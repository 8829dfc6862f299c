//! An API server over Routr's own resource files: the `Trunks` service of the wire contract, responding as
//! the real file-backed server does, or as the PostgreSQL-backed one with [`ApiOptions::paged`]. Tests fill
//! it from memory and make it fail with [`ApiServer::set_fault`].

mod faults;
mod folder;
mod link;
mod problem;
mod reader;
mod resources;
mod service;
#[cfg(test)]
mod tests;

use std::{
    fmt, future, io,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::proto::trunks::{Trunk, trunks_server::TrunksServer};

pub use faults::{Fault, Rpc, SizeCode};
pub use problem::{Problem, Problems};

use faults::Faults;
use folder::Folder;
use service::{Service, Snapshot};

/// Time that calls may still run after the shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Behaviour of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiOptions {
    /// Offer `List` as the PostgreSQL-backed server does; without it `List` is `UNIMPLEMENTED`, as with
    /// files.
    pub paged: bool,
    /// Period at which the folder is looked at; at least 10 ms. An edit is taken once the folder looked the
    /// same twice.
    pub poll_interval: Duration,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self { paged: false, poll_interval: Duration::from_millis(250) }
    }
}

/// Reason that the resources could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder, or a file in it, cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The folder or file.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The files are readable but wrong: all problems at once.
    #[error("{0}")]
    Invalid(Problems),
}

/// Reason that the server ended before its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC server failed.
    #[error("the API server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// An API server. Clones share their state.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    options: ApiOptions,
    snapshot: watch::Sender<Arc<Snapshot>>,
    faults: Arc<Faults>,
    folder: Option<Arc<std::sync::Mutex<Folder>>>,
    /// Held by the one `serve` that follows the edits.
    following: Mutex<()>,
}

impl fmt::Debug for ApiServer {
    /// Leaves out the trunks: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("options", &self.shared.options)
            .field("trunks", &self.len())
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Serves the resource files (`*.yaml`, `*.yml`, `*.json`) of a folder, as the real file-backed server
    /// does.
    ///
    /// # Errors
    /// When the folder cannot be read, or anything in it is wrong.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, LoadError> {
        Self::load_with(dir, ApiOptions::default())
    }

    /// Loads as [`ApiServer::load`] does, with options.
    ///
    /// # Errors
    /// When the folder cannot be read, or anything in it is wrong.
    pub fn load_with(dir: impl AsRef<Path>, options: ApiOptions) -> Result<Self, LoadError> {
        let (folder, trunks) = Folder::open(dir.as_ref())?;
        Ok(Self::new(trunks, Some(folder), options))
    }

    /// Serves the given trunks.
    pub fn from_trunks(trunks: Vec<Trunk>) -> Self {
        Self::from_trunks_with(trunks, ApiOptions::default())
    }

    /// Makes a server as [`ApiServer::from_trunks`] does, with options.
    pub fn from_trunks_with(trunks: Vec<Trunk>, options: ApiOptions) -> Self {
        Self::new(trunks, None, options)
    }

    fn new(trunks: Vec<Trunk>, folder: Option<Folder>, options: ApiOptions) -> Self {
        let shared = Shared {
            options,
            snapshot: watch::Sender::new(Arc::new(Snapshot::new(trunks, 0))),
            faults: Arc::new(Faults::default()),
            folder: folder.map(|folder| Arc::new(std::sync::Mutex::new(folder))),
            following: Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Replaces what is served, in one step. An edit of the folder replaces it again.
    pub fn set_trunks(&self, trunks: Vec<Trunk>) {
        self.shared.snapshot.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot::new(trunks, snapshot.generation() + 1));
        });
    }

    /// Returns how many trunks are served, whatever their `sendRegister`.
    pub fn len(&self) -> usize {
        self.shared.snapshot.borrow().trunks().len()
    }

    /// Returns whether no trunk is served.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how often what is served has been replaced: by an edit of the folder or by
    /// [`ApiServer::set_trunks`].
    pub fn generation(&self) -> u64 {
        self.shared.snapshot.borrow().generation()
    }

    /// Waits until the generation is another than `known`, and returns it.
    pub async fn changed_since(&self, known: u64) -> u64 {
        let mut snapshots = self.shared.snapshot.subscribe();
        match snapshots.wait_for(|snapshot| snapshot.generation() != known).await {
            Ok(snapshot) => snapshot.generation(),
            // The sender lives in `self`, so that this cannot happen.
            Err(_) => future::pending().await,
        }
    }

    /// Makes every call of `rpc` fail with this fault from now on; `None` makes it well again.
    pub fn set_fault(&self, rpc: Rpc, fault: Option<Fault>) {
        self.shared.faults.set(rpc, fault);
    }

    /// Returns how many calls of `rpc` have arrived so far, failed ones included.
    pub fn calls(&self, rpc: Rpc) -> u64 {
        self.shared.faults.calls(rpc)
    }

    /// Serves gRPC on `listener` and follows the edits of the folder until `shutdown` is cancelled. Calls
    /// that are still running then get two more seconds.
    ///
    /// # Errors
    /// When the gRPC server fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let service = Service::new(
            self.shared.options.paged,
            self.shared.snapshot.subscribe(),
            Arc::clone(&self.shared.faults),
            shutdown.clone(),
        );
        let incoming = TcpListenerStream::new(listener).map(|accepted| {
            if let Ok(stream) = &accepted
                && let Err(error) = stream.set_nodelay(true)
            {
                warn!(%error, "TCP_NODELAY could not be set");
            }
            accepted
        });
        let server = tonic::transport::Server::builder()
            .add_service(TrunksServer::new(service).max_encoding_message_size(usize::MAX))
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let give_up = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            ended = server => Ok(ended?),
            () = give_up => Ok(()),
            () = self.follow() => Ok(()),
        }
    }

    /// Takes edits of the folder over; never ends.
    async fn follow(&self) {
        let Some(folder) = &self.shared.folder else { return future::pending().await };
        let _alone = self.shared.following.lock().await;
        let mut ticks = interval(self.shared.options.poll_interval.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let folder = Arc::clone(folder);
            // Files are read and parsed off the runtime's threads: they may be large.
            let polled = tokio::task::spawn_blocking(move || {
                folder.lock().unwrap_or_else(PoisonError::into_inner).poll()
            });
            match polled.await {
                Ok(Some(trunks)) => self.set_trunks(trunks),
                Ok(None) => {}
                Err(error) => warn!(%error, "the resource files could not be read"),
            }
        }
    }
}
