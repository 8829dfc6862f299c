//! kubectl, helm and what they said.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Time in seconds after which a program is killed: a hanging one must not hold up the run for ever.
const SECONDS: &str = "240";

/// Environment of the programs: nothing of the developer's own configuration is read or written.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// Folder of the programs.
    pub(super) bin: PathBuf,
    /// A folder for all that they keep.
    pub(super) home: PathBuf,
    /// Identity of the programs, unless `--kubeconfig` says otherwise.
    pub(super) kubeconfig: PathBuf,
}

impl Tools {
    /// Runs `program` to its end with this text as standard input.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Output {
        let mut command = self.command(program, args);
        let input = input.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(input.as_bytes()).and_then(|()| file.rewind()).expect("write the input");
            output(&mut command, file)
        });
        done.await.expect("the program is waited for")
    }

    /// The program, to be started by other means; the first argument of its own is the first of `args`.
    pub(super) fn command<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", SECONDS])
            .arg(self.bin.join(program))
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.environment())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        command
    }

    /// Variables that keep a program in its own place.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let below = |name: &str| self.home.join(name).into_os_string();
        vec![
            ("HOME", self.home.clone().into_os_string()),
            ("KUBECONFIG", self.kubeconfig.clone().into_os_string()),
            ("KUBECACHEDIR", below("kube-cache")),
            ("HELM_CACHE_HOME", below("helm-cache")),
            ("HELM_CONFIG_HOME", below("helm-config")),
            ("HELM_DATA_HOME", below("helm-data")),
        ]
    }
}

fn output(command: &mut Command, input: File) -> Output {
    let shown = command.get_args().skip(2).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let done = command.stdin(Stdio::from(input)).output().unwrap_or_else(|error| panic!("{shown}: {error}"));
    Output {
        command: shown,
        code: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Output of a program. `Display` shows all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The program and its arguments.
    pub command: String,
    /// Exit status; `None` when a signal ended it (after four minutes it is killed).
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Returns whether it reported success by its exit status.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output. Panics with all that it said when it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success(), "{self}");
        self.stdout
    }

    /// Its standard error. Panics when it did not fail.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.success(), "this should have failed: {self}");
        self.stderr
    }

    /// Its standard output as JSON. Panics with all that it said when it failed or is none.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        assert!(self.success(), "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit status: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
