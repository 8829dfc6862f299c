//! The standard metrics of a process, by the names that all client libraries of Prometheus give them.

use prometheus_client::{
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

use super::seconds;

/// Registers the metrics of this process. What the system does not say is left out: outside Linux that is
/// everything but the start.
pub(crate) fn register(registry: &mut Registry, started_unix_ms: u64) {
    registry.register_with_unit(
        "process_start_time",
        "Start time of the process since the Unix epoch",
        Unit::Seconds,
        ConstGauge::new(seconds(started_unix_ms)),
    );
    #[cfg(target_os = "linux")]
    linux::register(registry);
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::{Process, Stat};
    use prometheus_client::{
        metrics::{counter::ConstCounter, gauge::ConstGauge},
        registry::{Registry, Unit},
    };

    use crate::metrics::count;

    pub(super) fn register(registry: &mut Registry) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            times_and_memory(registry, &stat);
        }
        if let Ok(open) = process.fd_count() {
            let open = ConstGauge::new(count(u64::try_from(open).unwrap_or(u64::MAX)));
            registry.register("process_open_fds", "Number of open file descriptors", open);
        }
        if let Some(limit) = routr_net::descriptors::limit() {
            let limit = ConstGauge::new(count(limit));
            registry.register("process_max_fds", "Maximum number of open file descriptors", limit);
        }
    }

    fn times_and_memory(registry: &mut Registry, stat: &Stat) {
        let ticks = count(stat.utime.saturating_add(stat.stime));
        registry.register_with_unit(
            "process_cpu",
            "Total user and system CPU time spent",
            Unit::Seconds,
            ConstCounter::new(ticks / count(procfs::ticks_per_second())),
        );
        registry.register_with_unit(
            "process_resident_memory",
            "Resident memory size",
            Unit::Bytes,
            ConstGauge::new(count(stat.rss.saturating_mul(procfs::page_size()))),
        );
        registry.register_with_unit(
            "process_virtual_memory",
            "Virtual memory size",
            Unit::Bytes,
            ConstGauge::new(count(stat.vsize)),
        );
    }
}
