//! A child process with its own process group, whose output is kept for later.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::wait::{PATIENCE, wait_for};

/// A command for [`Process::spawn`]: `program` gets SIGTERM whenever this test run ends, by Ctrl-C too, which
/// does not reach other process groups. Panics with a hint when the program is not there.
pub fn command(program: &str) -> Command {
    command_ending_by(Signal::SIGTERM, program)
}

/// A command as of [`command`], with another signal than SIGTERM: SIGKILL for a program that takes its time
/// to end, or asks others first that end at the same moment.
pub fn command_ending_by(signal: Signal, program: &str) -> Command {
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(there, "{program} is not installed: `make setup` installs what the tests need");
    let mut command = Command::new("setpriv");
    command.env("PATH", path).args(["--pdeathsig", signal.as_str(), "--", program]);
    command
}

/// Linux sends that signal when the *thread* that started the child ends, so one thread that lives as long as
/// the process starts all of them.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The test that asked may have ended by now.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, child) = channel();
    SPAWNER.send((command, answer)).expect("the spawner lives");
    child.recv().expect("the spawner answers")
}

/// The process groups that were started so far, ended ones included.
static STARTED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Returns the process groups started so far that still have a process.
pub fn left() -> Vec<i32> {
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    started.into_iter().filter(|group| killpg(Pid::from_raw(*group), None).is_ok()).collect()
}

/// A running child. It leads a process group of its own, so that a signal reaches what it forked and nothing
/// else. Dropping it kills the group.
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    status: Option<ExitStatus>,
    output: PathBuf,
}

impl Process {
    /// Starts `command`, made by [`command`]. Standard output and error are appended to the file `output`,
    /// which may hold earlier runs.
    pub fn spawn(name: &str, mut command: Command, output: &Path) -> Self {
        let file = File::options().create(true).append(true).open(output).expect("open the output file");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("clone the output file"))
            .stderr(file)
            .process_group(0);
        let child = spawn_for_life(command).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).push(pid.as_raw());
        Self { name: name.to_owned(), child, pid, status: None, output: output.to_owned() }
    }

    /// The id of the leading process.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Everything written so far to standard output and error, of all runs that share the output file.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).expect("read the output file")).into_owned()
    }

    /// The exit status, once it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("ask for the exit status");
        }
        self.status
    }

    /// Sends a signal to the leading process alone, as an init system does.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            kill(self.pid, signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
        }
    }

    /// Sends a signal to the leading process and all that it forked.
    pub fn signal_group(&mut self, signal: Signal) {
        if self.status().is_none() {
            killpg(self.pid, signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
        }
    }

    /// Freezes it: it keeps its sockets and responds to nothing.
    pub fn pause(&mut self) {
        self.signal_group(Signal::SIGSTOP);
    }

    /// Lets it go on after `pause`.
    pub fn resume(&mut self) {
        self.signal_group(Signal::SIGCONT);
    }

    /// Waits for its end and returns the exit status. Panics with its output when it still runs after
    /// `deadline`.
    pub async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {} (pid {})", self.name, self.pid);
        wait_for(async || self.status().ok_or_else(|| tail(&self.output())), deadline, &what).await
    }

    /// SIGTERM to the leading process, then waits for its end.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.exit(deadline).await
    }

    /// SIGKILL to the whole group, then waits for the leader's end.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal_group(Signal::SIGKILL);
        self.exit(PATIENCE).await
    }

    /// Kills the group if it still runs, and returns when its leader is gone. For where nothing can be
    /// awaited.
    pub fn end(&mut self) {
        if self.status().is_none() {
            // A failure means that it has just ended by itself.
            let _ = killpg(self.pid, Signal::SIGKILL);
            self.status = self.child.wait().ok();
        }
    }

    /// Panics when `secret` stands anywhere in the output.
    #[track_caller]
    pub fn assert_never_said(&self, secret: &str) {
        let output = self.output();
        let said: Vec<&str> = output.lines().filter(|line| line.contains(secret)).collect();
        assert!(said.is_empty(), "{} gave away the secret {secret:?}:\n{}", self.name, said.join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a log, for a message.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    format!("output ends:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
}
