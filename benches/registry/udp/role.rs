//! Processes of this very binary with a role as their first argument: servers that live as long as their standard input, and
//! loads that run for a while and say in one line what they counted.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};
use serde::{Serialize, de::DeserializeOwned};

/// A server. Dropping it ends it, for its standard input ends then; so does the end of this process, by whatever cause.
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it listens on, on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts a role that prints its port first.
    pub fn start(role: &str, args: &[String]) -> anyhow::Result<Self> {
        let mut child = command(role, args)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut server = Self { child, input, output: BufReader::new(output.context("no pipe")?), port: 0 };
        server.port = server.line().with_context(|| format!("the start of {role}"))?;
        Ok(server)
    }

    /// What it has counted so far.
    pub fn counted<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        self.input.as_mut().context("it has ended")?.write_all(b"\n")?;
        self.line()
    }

    fn line<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{line:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Runs a role to its end, and returns what it counted.
pub async fn load<T: DeserializeOwned>(role: &str, args: &[String]) -> anyhow::Result<T> {
    let mut command = command(role, args)?;
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    if !done.status.success() {
        bail!("{role} {args:?} ended with {}", done.status);
    }
    let said = String::from_utf8_lossy(&done.stdout);
    serde_json::from_str(&said).with_context(|| format!("{role} said {said:?}"))
}

fn command(role: &str, args: &[String]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).args(args);
    Ok(command)
}

/// For a server's own process: prints the port, then what it has counted at each line of the standard input, until that ends.
pub fn serve<T: Serialize>(port: u16, counted: impl Fn() -> T + Send + 'static) -> anyhow::Result<()> {
    println!("{port}");
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            match (line, serde_json::to_string(&counted())) {
                (Ok(_), Ok(text)) => println!("{text}"),
                _ => break,
            }
        }
        std::process::exit(0);
    });
    Ok(())
}
