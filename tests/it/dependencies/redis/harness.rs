//! A registry with many trunks and a Redis, which is ended and started again while Redis is not well.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dependencies::grpc::start_requester;
use crate::standalone::test_registry::TestRegistry;
use crate::support::process::{self, Process, tail};
use crate::support::redis::{self as support_redis, Options, Redis};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for};

/// Deadline of steps that happen at once, on a busy machine, with the seconds that a start waits for its
/// store.
pub const SOON: Duration = PATIENCE;

/// The trunks of a test, `t000` and so on.
pub fn refs(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number:03}")).collect()
}

/// A Redis that keeps its data, with these options.
pub async fn redis(args: &[&str]) -> Redis {
    Redis::start_with(Options { persistent: true, ..Options::default() }, args).await
}

/// A registry whose trunks are all registered, and kept in Redis.
pub struct Registered {
    pub stage: TestRegistry,
    pub service: Service,
    refs: Vec<String>,
    /// Call-IDs by user, as they were first seen.
    call_ids: BTreeMap<String, String>,
    /// Patient with a registrar on a busy machine: nothing is sent again for want of time.
    _requester: DropGuard,
}

impl Registered {
    /// Registers that many trunks with these parameters of the cache; `kept` is the Redis where they are
    /// found, if that is to be waited for.
    pub async fn start(count: usize, parameters: &str, kept: Option<&Redis>) -> Self {
        let refs = refs(count);
        let mut stage = TestRegistry::bare().await;
        stage.trunks(&refs.iter().map(String::as_str).collect::<Vec<_>>());
        stage.start_api().await;
        let requester = start_requester(&stage).await;
        stage.write(&config(&stage, parameters));
        let service = stage.run(&[]);
        let mut this = Self { stage, service, refs, call_ids: BTreeMap::new(), _requester: requester };
        this.all_registered().await;
        let all_kept = async || {
            let Some(kept) = kept else { return Ok(()) };
            let dump = kept.dump().await;
            let missing = this.refs.iter().filter(|reference| !dump.contains(reference.as_str())).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} are not kept")) }
        };
        wait_for(all_kept, SOON, "all registrations to be kept").await;
        this.call_ids = this.seen_call_ids();
        assert_eq!(this.call_ids.len(), count);
        this
    }

    /// Waits until all trunks are registered, as the registry sees it.
    pub async fn all_registered(&self) {
        let registered = async || {
            let summary = self.stage.private("/summary").await?;
            let count = summary["counts"]["registered"].as_u64().unwrap_or(0);
            if count == self.refs.len() as u64 { Ok(()) } else { Err(summary.to_string()) }
        };
        wait_for(registered, SOON, "all trunks to be registered").await;
    }

    /// Waits until the store works, as the registry sees it.
    pub async fn cache_works(&self) {
        let works = async || {
            let summary = self.stage.private("/summary").await?;
            if summary["cache"]["ok"] == true {
                Ok(())
            } else {
                Err(format!("{}; {}", summary["cache"], tail(&self.service.output())))
            }
        };
        wait_for(works, SOON, "the cache to work").await;
    }

    /// Asserts after a restart that all are registered without one REGISTER, and that the next REGISTERs have
    /// the Call-IDs of before.
    pub async fn nothing_was_sent_and_the_call_ids_are_the_same(&self) {
        self.all_registered().await;
        let granted: usize = self.stage.granted().values().sum();
        assert_eq!(granted, self.refs.len(), "REGISTERs after the restart");
        self.next_registers_have_the_same_call_ids().await;
        assert_eq!(self.stage.granted().values().sum::<usize>(), granted + REFRESHED, "sent without need");
    }

    /// Refreshes some trunks; their Call-IDs are those of before, and their CSeq numbers higher.
    pub async fn next_registers_have_the_same_call_ids(&self) {
        let highest = |reference: &str| {
            let log = self.stage.registrar.log();
            log.iter().filter(|seen| seen.user == reference).map(|seen| seen.cseq).max().unwrap_or(0)
        };
        for reference in &self.refs[..REFRESHED] {
            let (before, granted) = (highest(reference), self.stage.granted()[reference]);
            let refreshed = async || match self.stage.refresh(reference).await? {
                StatusCode::ACCEPTED | StatusCode::OK => Ok(()),
                other => Err(other.to_string()),
            };
            wait_for(refreshed, SOON, "the refresh to be taken").await;
            let again = async || {
                let now = self.stage.granted()[reference];
                if now > granted { Ok(()) } else { Err(now.to_string()) }
            };
            wait_for(again, SOON, "the refresh to be granted").await;
            assert!(highest(reference) > before);
        }
        assert_eq!(self.seen_call_ids(), self.call_ids, "another identity");
    }

    /// The one Call-ID of each user. Panics where one has two.
    fn seen_call_ids(&self) -> BTreeMap<String, String> {
        let mut call_ids = BTreeMap::new();
        for seen in self.stage.registrar.log() {
            let known = call_ids.entry(seen.user.clone()).or_insert_with(|| seen.call_id.clone());
            assert_eq!(*known, seen.call_id, "two Call-IDs of {}", seen.user);
        }
        call_ids
    }
}

/// Trunks that are refreshed to see their Call-IDs.
const REFRESHED: usize = 5;

/// A configuration with these parameters of the cache.
pub fn config(stage: &TestRegistry, parameters: &str) -> String {
    stage.config(&format!("  cache:\n    provider: redis\n    parameters: '{parameters}'\n"))
}

/// The parameters of a Redis on a port of this machine.
pub fn at(port: u16) -> String {
    format!("host=127.0.0.1,port={port}")
}

/// Stands before a Redis and says what a test wants, until it forwards.
pub struct Front {
    pub port: u16,
    _end: DropGuard,
}

impl Front {
    /// Responds to each command with `error` until the first connection is so old, then forwards to `port`.
    pub async fn start(port: u16, error: &'static str, for_so_long: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap().port();
        let end = CancellationToken::new();
        let ended = end.clone();
        tokio::spawn(ended.run_until_cancelled_owned(async move {
            let mut until = None;
            while let Ok((mut stream, _)) = listener.accept().await {
                let until = *until.get_or_insert_with(|| Instant::now() + for_so_long);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while Instant::now() < until {
                        let read = tokio::select! {
                            read = stream.read(&mut bytes) => read.unwrap_or(0),
                            () = tokio::time::sleep_until(until) => break,
                        };
                        if read == 0 {
                            return;
                        }
                        // As many errors as there are commands: each begins with the number of its parts.
                        let commands = bytes[..read].iter().filter(|byte| **byte == b'*').count();
                        if stream.write_all(error.repeat(commands).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    if let Ok(mut redis) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut stream, &mut redis).await;
                    }
                });
            }
        }));
        Self { port: front, _end: end.drop_guard() }
    }
}

/// A `redis-server` on a port of its own, with these options.
pub fn server(dir: &TempDir, port: u16, args: &[&str]) -> Process {
    let home = dir.path().join(port.to_string());
    std::fs::create_dir(&home).unwrap();
    let mut command = process::command(&support_redis::program());
    command.current_dir(&home).args(args).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    Process::spawn("redis-server", command, &home.join("output.log"))
}

/// Waits until what a server says to a command contains this.
pub async fn says(port: u16, command: &str, wanted: &str) {
    let look = async || {
        let reply = support_redis::all(port, command).await?;
        if reply.contains(wanted) { Ok(()) } else { Err(reply) }
    };
    wait_for(look, SOON, &format!("{command} to say {wanted}")).await;
}

/// Lets the condition of a test last.
pub async fn for_a_while(duration: Duration) {
    sleep(duration).await;
}
