//! The machine that a run was made on.

use std::{fs, process::Command};

use serde::Serialize;

/// The machine and the versions of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_gib: f64,
    pub kernel: String,
    pub rustc: String,
    /// The commit, with `+` where the tree has changes.
    pub commit: String,
    /// The day, UTC.
    pub date: String,
}

impl Machine {
    pub fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches([':', ' ', '\t']).to_owned()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kilobytes: f64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        let changed = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Self {
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            processor: field("/proc/cpuinfo", "model name"),
            memory_gib: (kilobytes / f64::from(1 << 20) * 10.0).round() / 10.0,
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["rev-parse", "--short=12", "HEAD"]) + if changed { "+" } else { "" },
            date: said("date", &["-u", "+%Y-%m-%d"]),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, processor, memory_gib, kernel, rustc, commit, date } = self;
        write!(
            f,
            "{cores} cores of {processor}, {memory_gib} GiB, {kernel}, {rustc}; commit {commit}, {date}"
        )
    }
}

/// Returns the output of a program; nothing where it is not there.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
