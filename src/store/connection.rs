//! The connection to Redis: made at the first use, made again after it broke, and never waited for without a
//! bound.
//!
//! The client library has a manager that reconnects by itself. It is not used, because a call through it may
//! wait for several attempts of its own, and it goes on trying in the background with credentials that were
//! refused.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, FromRedisValue, Pipeline, ProtocolVersion, RedisConnectionInfo,
    aio::MultiplexedConnection,
};
use tokio::{sync::Mutex, time::timeout};

mod failure;

use self::failure::Failure;
use super::{
    error_text, keys,
    migration::Units,
    servers::{self, Login, Servers},
    settings_error::RedisSettingsError,
    stream::{Dialer, Place},
};
use crate::{config::RedisSettings, quota::sockets::Payers};
use routr_registration::model::StoreError;
use routr_types::host::HostPort;

/// Time limit of connecting (name look-up, TCP, TLS and log-in together), and of one response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Nodes of a cluster that one call follows from one to the next.
const MAX_REDIRECTS: u32 = 5;

/// One connection, shared by all calls.
pub(super) struct RedisConnection {
    dialer: Dialer,
    servers: Servers,
    /// The servers in words.
    address: String,
    /// Prefix of all keys.
    keys: String,
    login: Option<Login>,
    database: u32,
    limit: Duration,
    current: Mutex<Current>,
    /// Connections up to this generation are not used again.
    discarded: AtomicU64,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Number of connections made, from 1, which distinguishes the one that failed from one that has replaced
    /// it meanwhile.
    generation: u64,
}

impl RedisConnection {
    /// Reads the CA file, if there is one, and does nothing else.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisSettingsError> {
        Ok(Self {
            dialer: Dialer::new(settings)?,
            servers: Servers::new(settings),
            address: servers::name(settings),
            keys: keys::root(&settings.prefix),
            login: Login::new(settings.username.as_deref(), settings.password.as_ref()),
            database: settings.database,
            limit: RESPONSE_TIMEOUT,
            current: Mutex::default(),
            discarded: AtomicU64::new(0),
        })
    }

    /// Returns the Registries that its connections count for.
    pub(super) fn payers(&self) -> &Payers {
        &self.dialer.payers
    }

    /// Waits for less than [`RESPONSE_TIMEOUT`], so that a test of silence is quick.
    #[cfg(test)]
    pub(super) fn set_timeout(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sends the pipeline and waits for all its responses, for at most 5 s and as long again for each
    /// `slack`. A connection found broken is replaced once, so the commands must be harmless when they are
    /// done twice.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        slack: usize,
    ) -> Result<T, StoreError> {
        let limit = self.limit.saturating_mul(u32::try_from(slack).unwrap_or(u32::MAX).saturating_add(1));
        let (mut redirects, mut again) = (0, false);
        loop {
            let (failure, fresh) = match self.attempt(pipeline, limit).await {
                Ok(values) => return self.read(values),
                Err(failed) => failed,
            };
            if let Some(node) = failure.moved_to
                && redirects < MAX_REDIRECTS
            {
                redirects += 1;
                // The one that has the keys is down, and the others have not yet agreed on another one.
                if let Some(cause) = self.servers.cause(&node).filter(|_| redirects > 1) {
                    let text = format!(
                        "{}: the node that has the keys, {node}, cannot be reached: {cause}",
                        self.address
                    );
                    return Err(StoreError::Unavailable(text.into()));
                }
                self.servers.moved_to(node);
            } else if failure.broken && !fresh && !again {
                again = true;
            } else {
                return Err(failure.error);
            }
        }
    }

    fn read<T: FromRedisValue>(&self, values: redis::Value) -> Result<T, StoreError> {
        redis::from_redis_value(values).map_err(|e| self.explain(&e.into()).error)
    }

    /// One attempt. An error comes with whether the connection was made for it.
    async fn attempt(&self, pipeline: &Pipeline, limit: Duration) -> Result<redis::Value, (Failure, bool)> {
        let (mut connection, generation, fresh) = self.connection().await.map_err(|f| (f, true))?;
        let failure = match timeout(limit, pipeline.query_async::<redis::Value>(&mut connection)).await {
            // The library also finds the errors inside the response to EXEC.
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(e)) => match self.explain(&e) {
                failure if failure.ask => {
                    match timeout(limit, self.migrating(&mut connection, pipeline)).await {
                        Ok(Ok(values)) => return Ok(values),
                        Ok(Err(failure)) => failure,
                        Err(_) => self.silent("no answer", limit),
                    }
                }
                failure => failure,
            },
            Err(_) => self.silent("no answer", limit),
        };
        if failure.discard {
            self.discarded.fetch_max(generation, Ordering::Relaxed);
        }
        Err((failure, fresh))
    }

    /// Sends a pipeline again while the keys are moved from one node of a cluster to another: the commands
    /// whose keys the one no longer has go to the other.
    async fn migrating(
        &self,
        connection: &mut MultiplexedConnection,
        pipeline: &Pipeline,
    ) -> Result<redis::Value, Failure> {
        let mut units = Units::of(pipeline);
        let said = units.pipeline(None).query_async(connection).await.map_err(|e| self.explain(&e))?;
        units.note(None, said).map_err(|e| self.explain(&e))?;
        while let Some(node) = units.asked() {
            let mut target = self.open(&Place::Tcp(node.clone()), self.login.as_ref(), 0).await?;
            let pipeline = units.pipeline(Some(&node));
            let said = pipeline.query_async(&mut target).await.map_err(|e| self.explain(&e))?;
            units.note(Some(&node), said).map_err(|e| self.explain(&e))?;
        }
        Ok(units.values())
    }

    /// The connection there is, or a new one: with its generation, and whether it is new. Callers that come
    /// while one is being made wait for it, so there is never more than one attempt at a time.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64, bool), Failure> {
        let connect = async {
            let mut current = self.current.lock().await;
            if let Some(connection) = &current.connection
                && current.generation > self.discarded.load(Ordering::Relaxed)
            {
                return Ok((connection.clone(), current.generation, false));
            }
            current.connection = None;
            let connection = self.connect().await?;
            current.generation += 1;
            current.connection = Some(connection.clone());
            Ok((connection, current.generation, true))
        };
        timeout(self.limit, connect).await.unwrap_or_else(|_| Err(self.silent("no connection", self.limit)))
    }

    /// Connects to the server that serves now.
    async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        match &self.servers {
            Servers::One(place) => self.open(place, self.login.as_ref(), self.database).await,
            Servers::Nodes { .. } => {
                let mut last = None;
                for node in self.servers.nodes() {
                    match self
                        .with_short_timeout(self.open(&Place::Tcp(node.clone()), self.login.as_ref(), 0))
                        .await
                    {
                        Err(failure) if matches!(failure.error, StoreError::Unavailable(_)) => {
                            self.servers.is_unreachable(&node, &self.cause(&failure.error));
                            last = Some(failure);
                        }
                        other => return other,
                    }
                }
                Err(last.unwrap_or_else(|| self.silent("no connection", self.limit)))
            }
            Servers::Sentinels { sentinels, master, login } => {
                let mut last = None;
                for sentinel in sentinels {
                    let sentinel = Place::Tcp(sentinel.clone());
                    match self.with_short_timeout(self.master(&sentinel, login.as_ref(), master)).await {
                        Ok(place) => return self.open(&place, self.login.as_ref(), self.database).await,
                        Err(failure) => last = Some(failure),
                    }
                }
                Err(last.unwrap_or_else(|| self.silent("no sentinel", self.limit)))
            }
        }
    }

    /// One of several servers may be silent.
    async fn with_short_timeout<V>(
        &self,
        what: impl Future<Output = Result<V, Failure>>,
    ) -> Result<V, Failure> {
        let limit = self.limit / 4;
        timeout(limit, what).await.unwrap_or_else(|_| Err(self.silent("no connection", limit)))
    }

    /// The server that a sentinel says is the master.
    async fn master(&self, sentinel: &Place, login: Option<&Login>, master: &str) -> Result<Place, Failure> {
        let mut connection = self.open(sentinel, login, 0).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        let found: Result<Option<(String, u16)>, _> = command.query_async(&mut connection).await;
        match found {
            Ok(Some((host, port))) => Ok(Place::Tcp(HostPort::new(&host, port))),
            Ok(None) => {
                let text = format!("{}: the sentinel {sentinel} knows no master of that name", self.address);
                Err(Failure::new(StoreError::Refused(text.into()), true, false))
            }
            Err(error) => Err(self.explain(&error)),
        }
    }

    async fn open(
        &self,
        place: &Place,
        login: Option<&Login>,
        database: u32,
    ) -> Result<MultiplexedConnection, Failure> {
        let stream = self.dialer.dial(place).await.map_err(|e| self.explain(&e.into()))?;
        // Log-in is done below: the library hides why it was refused. Its greeting (CLIENT SETINFO) would
        // only ask for one more permission.
        let session =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (mut connection, driver) = MultiplexedConnection::new_with_config(&session, stream, config)
            .await
            .map_err(|e| self.explain(&e))?;
        // It ends with the last clone of the connection.
        tokio::spawn(driver);
        self.is_redis(&mut connection).await?;
        if let Some(login) = login {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &login.username {
                auth.arg(username);
            }
            auth.arg(login.password.expose());
            auth.exec_async(&mut connection).await.map_err(|e| self.explain_login(&e))?;
        }
        // A user without the permission for SELECT is in the first database anyway.
        if database != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(database).exec_async(&mut connection).await.map_err(|e| self.explain(&e))?;
        }
        Ok(connection)
    }

    /// Nothing that comes from a configuration is sent before what listens there has shown that it is a
    /// Redis: any other server would take a user's name, a password or a key for a line of its own protocol.
    async fn is_redis(&self, connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        match redis::cmd("PING").query_async::<redis::Value>(connection).await {
            Ok(redis::Value::SimpleString(pong)) if pong == "PONG" => Ok(()),
            Ok(_) => {
                let text = format!(
                    "{}: what listens there is no Redis: its response to PING is none of Redis's",
                    self.address
                );
                Err(Failure::new(StoreError::Unavailable(text.into()), true, false))
            }
            // It wants a log-in first, is loading, or lets this user do less: what comes next says so.
            Err(error) if error_text::is_of_redis(&error) => Ok(()),
            Err(error) => Err(self.explain(&error)),
        }
    }
}
