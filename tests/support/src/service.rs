//! The built `routr-registry` as a process.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use tempfile::TempDir;

use super::process::{self, Process};

/// The built program, run with given arguments. Derefs to its `Process`: `stop` it by `terminate`, `kill`,
/// `pause` and so on.
pub struct Service {
    process: Process,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl Service {
    /// Starts `routr-registry` with `args`, and of the environment only PATH, HOME and `env`: what a
    /// developer's shell has set (`CONFIG_PATH`, `RUST_LOG`) must not change a test.
    pub fn start<A: Into<String>>(args: impl IntoIterator<Item = A>, env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        let env: Vec<(String, String)> = env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let process = spawn(&args, &env, &dir);
        Self { process, args, env, dir }
    }

    /// Starts it again as before, killing it first when it still runs. The output goes on in the same place,
    /// so that a search for secrets covers all runs.
    pub fn restart(&mut self) {
        // The old process is dropped, and so ended, before the new one takes its ports.
        self.process.end();
        self.process = spawn(&self.args, &self.env, &self.dir);
    }
}

impl Deref for Service {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The built program: cargo puts it beside the folder of the tests that it was built for.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let folder = own.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    folder.join("routr-registry")
}

fn spawn(args: &[String], env: &[(String, String)], dir: &TempDir) -> Process {
    let program = program();
    let mut command = process::command(program.to_str().expect("a path in UTF-8"));
    command.args(args).env_clear().current_dir(dir.path());
    for inherited in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(inherited) {
            command.env(inherited, value);
        }
    }
    command.envs(env.iter().map(|(k, v)| (k, v)));
    Process::spawn("routr-registry", command, &dir.path().join("output.log"))
}
