//! Identity of this process among all others, on this machine and elsewhere; and a check whether another one
//! of this machine is gone.

use std::{fs, sync::OnceLock};

/// This process.
#[derive(Debug)]
pub(super) struct This {
    /// Random text.
    pub(super) run: String,
    /// Name of the host, the pod or the container.
    pub(super) host: String,
    pub(super) pid: u32,
    /// Identity of the machine's boot and the PID namespace; empty where the system does not say.
    pub(super) namespace: String,
    /// Start of the process, in the kernel's ticks since the boot; 0 where the system does not say.
    pub(super) started: u64,
}

/// This process, as it is for all its life.
pub(super) fn this() -> &'static This {
    static THIS: OnceLock<This> = OnceLock::new();
    THIS.get_or_init(|| This {
        run: format!("{:016x}{:016x}", routr_environment::random(), routr_environment::random()),
        host: hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        pid: std::process::id(),
        namespace: namespace().unwrap_or_default(),
        started: started(std::process::id()).unwrap_or(0),
    })
}

/// Returns whether that process is certainly gone: it ran on this machine, in this PID namespace, and runs no
/// more. Of a process elsewhere nothing is certain.
pub(super) fn is_gone(in_namespace: &str, pid: u32, since: u64) -> bool {
    let this = this();
    if in_namespace.is_empty() || in_namespace != this.namespace || this.started == 0 {
        return false;
    }
    started(pid) != Some(since)
}

fn namespace() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), pids.to_string_lossy()))
}

/// The start of a process, from the 22nd field of `/proc/<pid>/stat`: a process number may come again. `None`
/// where there is none, or only its remains that no one has waited for.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, with whatever in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_gone_when_it_has_ended_and_not_before() {
        let this = this();
        assert!(!is_gone(&this.namespace, this.pid, this.started));
        // Its number was another process's before.
        assert!(is_gone(&this.namespace, this.pid, this.started - 1));
        assert!(!is_gone("another machine", this.pid, this.started - 1));
        assert!(!is_gone("", this.pid, 1));
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let since = started(child.id()).unwrap();
        assert!(!is_gone(&this.namespace, child.id(), since));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&this.namespace, child.id(), since));
    }
}
