//! Vital signs of a process, as Linux shows them: its memory, descriptors, time used and start.

use std::collections::BTreeSet;
use std::fs;

/// Clock ticks a second in /proc/PID/stat: a constant of Linux' interface to programs.
const TICKS: f64 = 100.0;

/// A process at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vitals {
    /// Time of its start, in clock ticks since the start of the machine: with the pid, its identity.
    pub started: u64,
    /// Processor time used, in seconds.
    pub cpu: f64,
    /// Resident memory, in KiB.
    pub rss: u64,
    /// The most it ever was, or since [`forget_peak`], in KiB.
    pub peak: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

/// A process that must not end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alive {
    pub pid: i32,
    /// See [`Vitals::started`].
    pub started: u64,
}

/// `None` when there is no such process, or it is a zombie.
pub fn vitals(pid: i32) -> Option<Vitals> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its last parenthesis is the third field and on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    if *fields.first()? == "Z" {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    #[allow(clippy::cast_precision_loss)]
    let cpu = (number(14)? + number(15)?) as f64 / TICKS;
    Some(Vitals {
        started: number(22)?,
        cpu,
        rss: kib("VmRSS:")?,
        peak: kib("VmHWM:")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
    })
}

/// That process, from now on.
pub fn alive(pid: i32) -> Option<Alive> {
    vitals(pid).map(|vitals| Alive { pid, started: vitals.started })
}

/// From now on the peak of its memory is measured again.
pub fn forget_peak(pid: i32) {
    // Where that is not allowed, the peak is that of its whole life: still an upper bound.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The local TCP ports of a process' IPv4 connections.
pub fn ports_of(pid: i32) -> BTreeSet<u16> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: BTreeSet<String> = links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The second is the local address, the tenth the inode.
        let (_, port) = fields.get(1)?.split_once(':')?;
        sockets.contains(*fields.get(9)?).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}
