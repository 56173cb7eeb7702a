//! Metrics of the process, with the names that the Prometheus clients of all languages use.
//!
//! They are read from `/proc/self` at each scrape, so only Linux has them. A value that cannot be
//! read, for example in a sandbox without `/proc`, is left out.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::param::{clock_ticks_per_second, page_size};

/// Reads the metrics of this process.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut output = Output(encoder);
        output.write_usage()?;
        output.write_files()
    }
}

/// Writes metrics that exist.
struct Output<'a>(DescriptorEncoder<'a>);

impl Output<'_> {
    /// What `/proc/self/stat` contains.
    fn write_usage(&mut self) -> Result<(), fmt::Error> {
        let Some(usage) = Usage::read() else {
            return Ok(());
        };
        self.write(
            ("process_cpu", Some(Unit::Seconds)),
            "User and system CPU time",
            &ConstCounter::new(seconds(usage.cpu_ticks)),
        )?;
        self.write(
            ("process_resident_memory", Some(Unit::Bytes)),
            "Resident memory",
            &ConstGauge::new(usage.resident_bytes),
        )?;
        self.write(
            ("process_virtual_memory", Some(Unit::Bytes)),
            "Virtual memory",
            &ConstGauge::new(usage.virtual_bytes),
        )?;
        self.write(
            ("process_threads", None),
            "Threads",
            &ConstGauge::new(usage.threads),
        )?;
        let Some(booted) = boot_time() else {
            return Ok(());
        };
        self.write(
            ("process_start_time", Some(Unit::Seconds)),
            "Start of the process, since the Unix epoch",
            &ConstGauge::new(booted + seconds(usage.start_ticks)),
        )
    }

    fn write_files(&mut self) -> Result<(), fmt::Error> {
        if let Some(open) = open_files() {
            let open = ConstGauge::new(open);
            self.write(("process_open_fds", None), "Open files", &open)?;
        }
        // A process without a limit has no sample.
        if let Some(max) = sse_cli::open_files::current_limit() {
            let max = ConstGauge::new(max);
            self.write(("process_max_fds", None), "Limit of open files", &max)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        (name, unit): (&str, Option<Unit>),
        help: &str,
        metric: &impl EncodeMetric,
    ) -> Result<(), fmt::Error> {
        // The library writes the full stop that ends the help of a registered metric.
        let help = format!("{help}.");
        let kind = metric.metric_type();
        let encoder = self.0.encode_descriptor(name, &help, unit.as_ref(), kind)?;
        metric.encode(encoder)
    }
}

/// What a process uses, as the kernel counts it.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    cpu_ticks: u64,
    threads: u64,
    /// Start of the process since the boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Usage {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Parses `/proc/[pid]/stat` (proc(5)). The name of the program may contain spaces and
    /// parentheses, so the fields are counted from the last parenthesis.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first field here is the third one of the file.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_size() as u64,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process does not run for 2^53 ticks"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

/// Returns the time of the boot, in seconds since the Unix epoch.
fn boot_time() -> Option<f64> {
    parse_boot_time(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse_boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Returns the number of open files.
///
/// Since Linux 6.2 the size of the directory is their number. Before, the entries are counted,
/// which takes some milliseconds for tens of thousands.
fn open_files() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => Some(fs::read_dir(DIRECTORY).ok()?.count() as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_contain_anything() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 7 0 4000 1048576 \
                    16 18446744073709551615 1 1";
        let usage = Usage {
            cpu_ticks: 300,
            threads: 7,
            start_ticks: 4000,
            virtual_bytes: 1 << 20,
            resident_bytes: 16 * page_size() as u64,
        };
        assert_eq!(Usage::parse(stat), Some(usage));
        for bad in ["", "17 (a", "17 (a) S 1", "17 (a) S x"] {
            assert_eq!(Usage::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_boot_time_is_a_line_of_its_own() {
        let stat = "cpu  1 2 3\nbtime 1795521996\nprocesses 5\n";
        assert_eq!(parse_boot_time(stat), Some(1_795_521_996.0));
        assert_eq!(parse_boot_time("cpu 1\n"), None);
    }

    #[test]
    fn this_process_has_values() {
        let usage = Usage::read().unwrap();
        assert!(usage.threads > 0 && usage.resident_bytes > 0);
        assert!(usage.virtual_bytes >= usage.resident_bytes);
        assert!(boot_time().unwrap() > 0.0 && open_files().unwrap() > 0);
    }
}
