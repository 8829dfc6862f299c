//! The right to act for a registry: whoever has lost it sends no REGISTER and writes no state any more, whatever its engine
//! still wants.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::ports::{Change, Link, Record, Register, Reply, Requester, SendError, Store, StoreError};

/// Asked before each REGISTER and each write. An engine stops when it is told to; this is for the moment between the loss
/// of the right and that, which a process that was frozen may be in without knowing.
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn() -> bool + Send + Sync>);

impl Permit {
    /// Nobody else acts for this registry.
    pub fn always() -> Self {
        Self::when(|| true)
    }

    /// Holds as long as `valid` says so; it must be quick.
    pub fn when(valid: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(valid))
    }

    /// Whether it holds now.
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.holds()).finish()
    }
}

/// A port that acts only while the permit holds.
#[derive(Debug)]
pub struct Permitted<P> {
    port: P,
    permit: Permit,
}

impl<P> Permitted<P> {
    /// Puts the port under the permit.
    pub fn new(port: P, permit: &Permit) -> Self {
        Self { port, permit: permit.clone() }
    }
}

const LOST: &str = "this replica does not lead any more";

impl<R: Requester> Requester for Permitted<R> {
    async fn register(&self, request: Register, deadline: Duration) -> Result<Reply, SendError> {
        if !self.permit.holds() {
            return Err(SendError::Unavailable(LOST.into()));
        }
        self.port.register(request, deadline).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.port.link()
    }
}

impl<S: Store> Store for Permitted<S> {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        self.port.load().await
    }

    fn is_durable(&self) -> bool {
        self.port.is_durable()
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        // What the next leader has written meanwhile must not be set back.
        if !self.permit.holds() {
            return Err(StoreError::Unavailable(LOST.into()));
        }
        self.port.apply(changes).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.port.ping().await
    }

    async fn lost_data(&self) -> Result<bool, StoreError> {
        // It leaves a mark of its own there.
        if !self.permit.holds() {
            return Err(StoreError::Unavailable(LOST.into()));
        }
        self.port.lost_data().await
    }
}
