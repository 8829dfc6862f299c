//! A role: this program again as a process of its own, led by lines on its standard input. It ends when that
//! ends, and so with anyone who started it, however that came to its end.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, ensure};

/// Precedes a role's name on the command line.
pub const MARK: &str = "--role";

pub struct Role {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Role {
    /// Starts this program in the role `name`, with one argument.
    pub fn start(name: &'static str, argument: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([MARK, name, argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the role {name}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("its standard output")?);
        Ok(Self { name, child, stdin, stdout })
    }

    /// The next line that it says. Blocks the thread; the runtime goes on with another one.
    pub fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        tokio::task::block_in_place(|| self.stdout.read_line(&mut line))?;
        ensure!(line.ends_with('\n'), "the {} has ended before its time", self.name);
        Ok(line.trim_end().to_owned())
    }

    /// Sends it a line.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("it was ended")?;
        writeln!(stdin, "{line}").with_context(|| format!("the {} does not listen", self.name))
    }

    /// Sends it a line and returns its response.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        self.tell(line)?;
        self.hear()
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It has nothing to put in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
