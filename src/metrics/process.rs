//! What the kernel says of this process, under the names that every exporter uses; read when the page is asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

/// Reads `/proc/self`; what can't be read there is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut tell = |name, help, type_, value: Option<&dyn EncodeMetric>| match value {
            Some(value) => value.encode(encoder.encode_descriptor(name, help, None, type_)?),
            None => Ok(()),
        };
        let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let cpu = read("stat").and_then(|stat| cpu_ticks(&stat)).map(|ticks| {
            let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
            ConstCounter::new(f64::from(ticks) / f64::from(per_second))
        });
        let bytes = |line: &str| {
            let text = read("status")?;
            kibibytes(&text, line).map(|kib| ConstGauge::new(kib.saturating_mul(1024)))
        };
        let (resident, peak) = (bytes("VmRSS:"), bytes("VmHWM:"));
        let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        // Less the one that this looks by.
        let open =
            open.map(|open| ConstGauge::new(i64::try_from(open.saturating_sub(1)).unwrap_or(i64::MAX)));
        let most = getrlimit(Resource::Nofile).current;
        let most = most.map(|most| ConstGauge::new(i64::try_from(most).unwrap_or(i64::MAX)));
        let threads = read("status").and_then(|status| number(&status, "Threads:")).map(ConstGauge::new);
        tell(
            "cpu_seconds",
            "Time that all threads ran, in user and system mode",
            counter,
            as_metric(cpu.as_ref()),
        )?;
        tell("resident_memory_bytes", "Memory in use", gauge, as_metric(resident.as_ref()))?;
        tell("resident_memory_peak_bytes", "Most memory that was in use", gauge, as_metric(peak.as_ref()))?;
        tell("open_fds", "Open file descriptors", gauge, as_metric(open.as_ref()))?;
        tell("max_fds", "File descriptors that may be open", gauge, as_metric(most.as_ref()))?;
        tell("threads", "Threads", gauge, as_metric(threads.as_ref()))
    }
}

fn as_metric<M: EncodeMetric>(value: Option<&M>) -> Option<&dyn EncodeMetric> {
    value.map(|value| value as &dyn EncodeMetric)
}

/// User and system time of `/proc/self/stat`. The program's name, in brackets before it, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    user.checked_add(fields.next()?.parse().ok()?)
}

/// The number of a line of `/proc/self/status`, which is in kibibytes there.
fn kibibytes(status: &str, line: &str) -> Option<i64> {
    let kib = status.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB"))?;
    kib.trim().parse().ok()
}

fn number(status: &str, line: &str) -> Option<i64> {
    status.lines().find_map(|text| text.strip_prefix(line))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_as_it_writes() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 910 0 0 0 12 30 0 0 20 0 5 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a"), None);
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t5\n";
        assert_eq!((kibibytes(status, "VmRSS:"), kibibytes(status, "VmHWM:")), (Some(1024), Some(2048)));
        assert_eq!((number(status, "Threads:"), kibibytes(status, "VmSwap:")), (Some(5), None));
    }
}
