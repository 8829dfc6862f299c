//! A real `redis-server` on one loopback port.

use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::ports;
use super::process::{self, Process};
use super::wait::{PATIENCE, wait_for, wait_until};

/// Time after which a response that has begun has ended.
const MOMENT: Duration = Duration::from_millis(100);
const START: Duration = PATIENCE;
/// Time limit of a response.
const DEADLINE: Duration = Duration::from_secs(30);
/// Error of a Redis that does not respond.
pub const SILENCE: &str = "no reply";

/// Options of a Redis.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The password of the default user; none when empty.
    pub password: String,
    /// True when written data survives `stop`, `kill` and `restart`. Otherwise each start begins empty.
    pub persistent: bool,
}

/// A running `redis-server`. Dropping it kills it and removes its data.
pub struct Redis {
    process: Process,
    options: Options,
    args: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl Redis {
    /// Starts one and waits until it responds.
    pub async fn start(options: Options) -> Self {
        Self::start_with(options, &[]).await
    }

    /// Starts one with more options of `redis-server`, and waits until it responds.
    pub async fn start_with(options: Options, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let dir = TempDir::new().expect("a temporary directory");
        let port = ports::free();
        let process = spawn(&options, &args, port, &dir);
        let mut redis = Self { process, options, args, port, dir };
        redis.ready().await;
        redis
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it by SIGTERM.
    pub async fn stop(&mut self) {
        self.process.terminate(START).await;
    }

    /// Ends it by SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it on the same port, ending it first when it still runs.
    pub async fn restart(&mut self) {
        self.process.signal(Signal::SIGCONT);
        self.stop().await;
        let port = self.port;
        wait_until(async || ports::is_free(port), START, "redis-server's port to be free again").await;
        self.process = spawn(&self.options, &self.args, port, &self.dir);
        self.ready().await;
    }

    /// Freezes it: connections stay, nothing gets a response.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on after `pause`.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Sends one command by Redis' inline protocol, after AUTH where there is a password, and returns the
    /// first line of the response: `+PONG`, `:3`, `$5`, `-ERR …`.
    pub async fn command(&self, line: &str) -> Result<String, String> {
        command(self.port, &self.options.password, line).await
    }

    /// Returns whether it says nothing to a PING, for a second.
    pub async fn is_silent(&self) -> bool {
        let reply = command_within(Duration::from_secs(1), self.port, &self.options.password, "PING").await;
        reply == Err(SILENCE.to_owned())
    }

    /// Ends the connections of all others, by a connection with this password: a changed one is asked for
    /// only at the next.
    pub async fn drop_clients(&self, password: &str) {
        let reply = command(self.port, password, "CLIENT KILL TYPE normal SKIPME yes").await;
        assert!(reply.as_ref().is_ok_and(|reply| reply.starts_with(':')), "{reply:?}");
    }

    /// All keys with all that they hold, as text.
    pub async fn dump(&self) -> String {
        let password = if self.options.password.is_empty() {
            String::new()
        } else {
            format!(":{}@", self.options.password)
        };
        let client = redis::Client::open(format!("redis://{password}127.0.0.1:{}/", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection to redis");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut text = String::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let command = if kind == "hash" { "HGETALL" } else { "GET" };
            let value: redis::Value =
                redis::cmd(command).arg(&key).query_async(&mut connection).await.unwrap();
            text.push_str(&format!("{key} {}\n", flat(&value)));
        }
        text
    }

    async fn ready(&mut self) {
        let probe = async || {
            if let Some(status) = self.process.status() {
                panic!("redis-server ended at its start with {status}:\n{}", self.process.output());
            }
            match command(self.port, &self.options.password, "PING").await {
                Ok(reply) if reply == "+PONG" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        wait_for(probe, START, "redis-server to answer").await;
    }
}

fn flat(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(values) => values.iter().map(flat).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

/// Sends one command by Redis' inline protocol to the Redis on a port, and returns all that comes within a
/// moment.
pub async fn all(port: u16, line: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut reply = vec![0; 64 << 10];
        let mut read = stream.read(&mut reply).await?;
        while let Ok(more) = tokio::time::timeout(MOMENT, stream.read(&mut reply[read..])).await {
            match more? {
                0 => break,
                more => read += more,
            }
        }
        reply.truncate(read);
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&reply).into_owned())
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .map_err(|_| SILENCE.to_owned())?
        .map_err(|error| error.to_string())
}

/// Sends one command by Redis' inline protocol to the Redis on a port, and returns the first line of the
/// response.
pub async fn command(port: u16, password: &str, line: &str) -> Result<String, String> {
    command_within(DEADLINE, port, password, line).await
}

async fn command_within(deadline: Duration, port: u16, password: &str, line: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let mut reply = String::new();
        if !password.is_empty() {
            stream.write_all(format!("AUTH {password}\r\n").as_bytes()).await?;
            stream.read_line(&mut reply).await?;
            reply.clear();
        }
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        stream.read_line(&mut reply).await?;
        Ok::<_, std::io::Error>(reply.trim_end().to_owned())
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .map_err(|_| SILENCE.to_owned())?
        .map_err(|error| error.to_string())
}

/// The server that the tests use: `redis-server` of the system, or that of the variable `REDIS_SERVER`, of
/// another version, or Valkey.
pub fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// The major version of that server.
pub fn major() -> u32 {
    let output = std::process::Command::new(program()).arg("--version").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v=")).expect("v=7.0.15");
    version.split('.').next().and_then(|major| major.parse().ok()).expect("a number")
}

fn spawn(options: &Options, args: &[String], port: u16, dir: &TempDir) -> Process {
    let mut command = process::command(&program());
    command.current_dir(dir.path()).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    if options.persistent {
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    }
    if !options.password.is_empty() {
        command.args(["--requirepass", &options.password]);
    }
    command.args(args);
    Process::spawn("redis-server", command, &dir.path().join("output.log"))
}
