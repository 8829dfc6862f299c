//! Nothing is left in the temporary folder.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Removes a folder when this process ends without doing so itself, as it does for what lies in a `static`,
/// or by SIGKILL: a child whose standard input ends then.
pub(super) struct Janitor {
    child: Child,
    input: Option<ChildStdin>,
}

impl Janitor {
    pub(super) fn start(folder: &Path) -> Self {
        // Programs that die at the same moment may still write there at the first attempt.
        let script = "cat; until rm -rf \"$1\" && sleep 0.2 && [ ! -e \"$1\" ]; do sleep 0.2; done";
        let mut child = Command::new("sh")
            .args(["-c", script, "janitor"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start sh");
        let input = child.stdin.take();
        Self { child, input }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
