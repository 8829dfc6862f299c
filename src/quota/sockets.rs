//! Sockets and look-ups of names: who pays for those that several Registries share.
//!
//! Registries with the same dependency share the connections to it. A socket counts for one namespace of
//! those that use the place, the one that has the fewest, so that no tenant can use up what another one needs
//! by naming its Requester.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{Quota, Quotas, Tenant};
use routr_registration::model::Excess;

/// Names that are looked up at the same time, each by a thread and a socket of its own.
pub(super) const LOOK_UPS: usize = 256;
/// Those of one namespace: name servers of its choice may be silent.
pub(super) const LOOK_UPS_OF_ONE: usize = 32;

/// The Registries that use a place. Without any, what is opened there counts for no one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Payers(Arc<Mutex<Vec<Weak<Quota>>>>);

impl Payers {
    /// Adds a Registry, for as long as it is there.
    pub fn add(&self, quota: &Arc<Quota>) {
        if !quota.is_limited() {
            return;
        }
        let quota = Arc::downgrade(quota);
        let mut payers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        payers.retain(|payer| payer.strong_count() > 0 && !payer.ptr_eq(&quota));
        payers.push(quota);
    }

    fn all(&self) -> Vec<Arc<Quota>> {
        let payers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        payers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes room for one socket.
    ///
    /// # Errors
    /// [`Excess::Connections`], which all payers show then: none of their namespaces has room for it.
    pub fn socket(&self) -> Result<Socket, Excess> {
        let payers = self.all();
        let shared = payers.iter().filter_map(|payer| payer.shared.as_ref());
        let Some((quotas, tenant)) = shared.min_by_key(|(_, tenant)| tenant.sockets.get()) else {
            return Ok(Socket(None));
        };
        if quotas.0.sockets.take(&tenant.sockets, 1) {
            return Ok(Socket(Some((quotas.clone(), tenant.clone()))));
        }
        payers.iter().for_each(|payer| payer.note(Excess::Connections));
        Err(Excess::Connections)
    }

    /// Waits for a turn to look a name up. To be held until the look-up has ended, not only for as long as
    /// someone waits for it.
    pub async fn look_up(&self) -> LookUp {
        let payer = self.all().into_iter().find_map(|payer| payer.shared.clone());
        let Some((Quotas(process), tenant)) = payer else { return LookUp::default() };
        // First its own: who waits there takes none of the others'. Neither is ever closed.
        let own = tenant.look_ups.clone().acquire_owned().await.ok();
        LookUp { _own: own, _all: process.look_ups.clone().acquire_owned().await.ok() }
    }
}

/// The connections of all Registries of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// By namespace, in order.
    pub open: Vec<(String, u64)>,
    /// Number that there may be together.
    pub limit: u64,
}

impl Quotas {
    /// Returns how many connections the Registries of each namespace have, and the bound on them together.
    #[must_use]
    pub fn connections(&self) -> Connections {
        let tenants = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let open = tenants.iter().filter_map(|(namespace, tenant)| {
            let tenant = tenant.upgrade()?;
            Some((namespace.clone(), tenant.sockets.get()))
        });
        let mut open: Vec<_> = open.collect();
        drop(tenants);
        open.sort_unstable();
        Connections { open, limit: self.0.limits.connections }
    }
}

/// Room for one socket. Given back when it is dropped.
#[derive(Debug)]
pub struct Socket(Option<(Quotas, Arc<Tenant>)>);

impl Socket {
    /// A stream that has the room for as long as it lives.
    pub fn hold<S>(self, stream: S) -> Held<S> {
        Held { stream, _socket: self }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some((quotas, tenant)) = &self.0 {
            quotas.0.sockets.change(&tenant.sockets, 1, 0);
        }
    }
}

/// The right to look one name up.
#[derive(Debug, Default)]
pub struct LookUp {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

/// Turns for the look-ups of one namespace.
#[derive(Debug)]
pub(super) struct LookUps(Arc<Semaphore>);

impl Default for LookUps {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOK_UPS_OF_ONE)))
    }
}

impl std::ops::Deref for LookUps {
    type Target = Arc<Semaphore>;

    fn deref(&self) -> &Arc<Semaphore> {
        &self.0
    }
}

/// See [`Socket::hold`].
#[derive(Debug)]
pub struct Held<S> {
    stream: S,
    _socket: Socket,
}

impl<S> Held<S> {
    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
