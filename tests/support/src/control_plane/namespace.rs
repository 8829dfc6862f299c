//! A namespace for one test.

use std::ops::Deref;
use std::process::Stdio;

use super::kubectl::Tools;

/// A namespace that no one else has. Dropping it begins its deletion, and does not wait.
pub struct Namespace {
    name: String,
    tools: Tools,
}

impl Namespace {
    pub(super) fn new(name: String, tools: Tools) -> Self {
        Self { name, tools }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut command = self
            .tools
            .command("kubectl", ["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A failure means that the control plane is gone, and the namespace with it. Someone has to collect
        // the child.
        std::thread::spawn(move || command.status());
    }
}
