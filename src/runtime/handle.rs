//! Handle of a running engine: queries and commands.

use tokio::sync::{mpsc, oneshot};

use routr_registration::engine::{
    history::TrunkDetail,
    view::{DeregistrationReport, FailureSummary, Filter, Page, Refresh, Summary, TrunkView},
};

/// Most trunks that one [`Page`] holds.
pub const MAX_PAGE: usize = 500;

/// The engine has ended and does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

/// Message to the loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// See [`EngineHandle::summary`].
    Summary(oneshot::Sender<Summary>),
    /// See [`EngineHandle::list`].
    List { filter: Filter, after: Option<String>, limit: usize, respond_to: oneshot::Sender<Page> },
    /// See [`EngineHandle::get`].
    Get { reference: String, respond_to: oneshot::Sender<Option<TrunkView>> },
    /// See [`EngineHandle::detail`].
    Detail { reference: String, respond_to: oneshot::Sender<Option<TrunkDetail>> },
    /// See [`EngineHandle::refresh`].
    Refresh { reference: String, respond_to: oneshot::Sender<Refresh> },
    /// See [`EngineHandle::sync_now`].
    SyncNow,
    /// See [`EngineHandle::failures`].
    FailureSummary { most: usize, respond_to: oneshot::Sender<FailureSummary> },
    /// See [`EngineHandle::pause`].
    Pause(bool),
    /// See [`EngineHandle::deregister_all`].
    DeregisterAll { assume_bound: bool, respond_to: oneshot::Sender<DeregistrationReport> },
}

/// A handle to one engine, cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    /// Boxed, as all that a channel of the engine carries: a channel has room for 32 values from the start,
    /// and there may be thousands of engines.
    commands: mpsc::Sender<Box<Command>>,
}

impl EngineHandle {
    /// A handle and the receiving end that the loop reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Box<Command>>) {
        let (commands, receiver) = mpsc::channel(64);
        (Self { commands }, receiver)
    }

    /// Returns whether both talk to the same engine.
    pub fn is_same(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineStopped> {
        let (respond_to, answered) = oneshot::channel();
        self.commands.send(Box::new(command(respond_to))).await.map_err(|_| EngineStopped)?;
        answered.await.map_err(|_| EngineStopped)
    }

    /// The engine at a glance.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn summary(&self) -> Result<Summary, EngineStopped> {
        self.ask(Command::Summary).await
    }

    /// Trunks that pass the filter, ordered by ref, after the page token `after`; at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn list(
        &self,
        filter: Filter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, EngineStopped> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.ask(|respond_to| Command::List { filter, after, limit, respond_to }).await
    }

    /// One trunk, by its ref; `None` where there is no such trunk.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn get(&self, reference: String) -> Result<Option<TrunkView>, EngineStopped> {
        self.ask(|respond_to| Command::Get { reference, respond_to }).await
    }

    /// One trunk with its history, by its ref; `None` where there is no such trunk.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn detail(&self, reference: String) -> Result<Option<TrunkDetail>, EngineStopped> {
        self.ask(|respond_to| Command::Detail { reference, respond_to }).await
    }

    /// Registers one trunk now.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn refresh(&self, reference: String) -> Result<Refresh, EngineStopped> {
        self.ask(|respond_to| Command::Refresh { reference, respond_to }).await
    }

    /// Returns the worst `most` failures, and the number of each kind.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn failures(&self, most: usize) -> Result<FailureSummary, EngineStopped> {
        self.ask(|respond_to| Command::FailureSummary { most, respond_to }).await
    }

    /// `true`: sends nothing any more, while bindings stay and trunks are still read; `false`: goes on.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn pause(&self, paused: bool) -> Result<(), EngineStopped> {
        self.commands.send(Box::new(Command::Pause(paused))).await.map_err(|_| EngineStopped)
    }

    /// Removes the bindings of all trunks, and returns when that is done: each was removed, or given up after
    /// its tries, and the store knows. With `assume_bound`, trunks that this engine has sent nothing for are
    /// removed too: a predecessor without a cache may have registered them.
    ///
    /// An engine that has not read its trunks yet reads them first. The trunks are not read again afterwards.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn deregister_all(&self, assume_bound: bool) -> Result<DeregistrationReport, EngineStopped> {
        self.ask(|respond_to| Command::DeregisterAll { assume_bound, respond_to }).await
    }

    /// Reads the trunks again without waiting for the interval.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn sync_now(&self) -> Result<(), EngineStopped> {
        self.commands.send(Box::new(Command::SyncNow)).await.map_err(|_| EngineStopped)
    }
}
