//! The figures of the process, read from `/proc` when the metrics are requested. They have the names that the client
//! libraries of Prometheus give them, so that existing dashboards show them. The only user of `procfs-core`.

use std::{fmt, fs};

use procfs_core::FromRead;
use procfs_core::process::{LimitValue, Limits, Stat};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};

/// Reads and encodes the figures.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    /// In seconds since 1970 UTC.
    pub(super) started_at: u64,
}

impl Collector for ProcessCollector {
    /// Leaves out what cannot be read.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("process_start_time_seconds", "Start of the process, in seconds since 1970 UTC", self.started_at)?;
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            gauge("process_open_fds", "Open file descriptors", descriptors.count() as u64)?;
        }
        if let Ok(limits) = Limits::from_file("/proc/self/limits")
            && let LimitValue::Value(maximum) = limits.max_open_files.soft_limit
        {
            gauge("process_max_fds", "Maximum number of open file descriptors", maximum)?;
        }
        let Ok(stat) = Stat::from_file("/proc/self/stat") else { return Ok(()) };
        let resident = stat.rss * page_size() as u64;
        gauge("process_resident_memory_bytes", "Memory in RAM", resident)?;
        gauge("process_virtual_memory_bytes", "Address space", stat.vsize)?;
        gauge("process_threads", "Threads", u64::try_from(stat.num_threads).unwrap_or(0))?;
        let cpu_seconds = (stat.utime + stat.stime) as f64 / clock_ticks_per_second() as f64;
        let counter = ConstCounter::new(cpu_seconds);
        let help = "CPU time of user and system";
        counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)
    }
}
