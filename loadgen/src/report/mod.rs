//! What a run found out, in one shape: the summary at the terminal, `--json`, `--report` and `compare` all read a
//! [`Report`], and no scenario knows any of them.

mod axis;
mod charts;
mod html;
mod latency;
mod plot;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod units;

pub use html::{Group, write_page};
pub use latency::{Latency, histogram};
pub use summary::print_summary;
pub(crate) use units::{number, quantity};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the JSON; a change that could break a reader counts up the number.
pub const SCHEMA: &str = "willowmq-loadgen/1";

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Names this schema and its version: `willowmq-loadgen/1`.
    pub schema: String,
    /// Version of the load generator.
    pub generator_version: String,
    /// The subcommand: `storm`, `connect`, `publish`, `retained`, `offline`, `churn`, `soak` or `siege`.
    pub scenario: String,
    /// What the run is called in tables and plots: `--label`, or else the broker's address.
    pub label: String,
    /// The command line, program name excluded.
    pub arguments: Vec<String>,
    /// When the run began, in seconds since 1970-01-01 UTC.
    pub started_unix_s: u64,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Where it ran.
    pub machine: Machine,
    /// Whether every check passed.
    pub passed: bool,
    /// What was checked, and how often it was violated.
    pub checks: Vec<Check>,
    /// Single numbers; the first few are those that matter most.
    pub figures: Vec<Figure>,
    /// Distributions of latency.
    pub latencies: Vec<Latency>,
    /// Values over time.
    pub series: Vec<Series>,
    /// The parts of the run, on the time axis of `series`.
    pub phases: Vec<Phase>,
    /// What makes the figures doubtful: the generator or the machine was the bottleneck, for example.
    pub warnings: Vec<String>,
}

/// The machine that the generator ran on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Cores that the generator may use.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
}

/// One rule that deliveries must obey.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// A stable name: `wills_lost`, `duplicates`, …
    pub name: String,
    /// What is counted, for people.
    pub title: String,
    /// How often it happened.
    pub count: u64,
    /// Whether the standard or the command line permits it, so that it does not fail the run.
    pub permitted: bool,
    /// The first few cases.
    pub examples: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// A stable name: `broker_cpu_us_per_delivery`, …
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// The number itself.
    pub value: f64,
    /// Its unit: `µs`, `s`, `/s`, `B`, `%` or empty for a count.
    pub unit: String,
    /// Which direction is an improvement, where one is.
    pub better: Option<Better>,
}

/// Which direction is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// A value over time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// A stable name: `wills_delivered`, `latency_p99`, …
    pub name: String,
    /// What it is, for people: the legend's entry.
    pub title: String,
    /// The title of the plot it belongs to; series with the same chart share one.
    pub chart: String,
    /// The unit of the values.
    pub unit: String,
    /// Pairs of seconds since the beginning of the run and value, in order.
    pub points: Vec<(f64, f64)>,
}

/// One part of a run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// Its name: `connect`, `before`, `storm`, …
    pub name: String,
    /// When it began, in seconds since the beginning of the run.
    pub from_s: f64,
    /// When it ended.
    pub to_s: f64,
}

impl Report {
    /// An empty report of `scenario`, begun now.
    pub fn new(scenario: &str, label: String) -> Self {
        Self {
            schema: SCHEMA.into(),
            generator_version: env!("CARGO_PKG_VERSION").into(),
            scenario: scenario.into(),
            label,
            arguments: std::env::args().skip(1).collect(),
            started_unix_s: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
            duration_s: 0.0,
            machine: Machine::read(),
            passed: true,
            checks: Vec::new(),
            figures: Vec::new(),
            latencies: Vec::new(),
            series: Vec::new(),
            phases: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Adds a figure that is neither good nor bad.
    pub fn figure(&mut self, name: &str, title: &str, value: f64, unit: &str) {
        self.push_figure(name, title, value, unit, None);
    }

    /// Adds a figure that is the better the lower it is.
    pub fn lower(&mut self, name: &str, title: &str, value: f64, unit: &str) {
        self.push_figure(name, title, value, unit, Some(Better::Lower));
    }

    /// Adds a figure that is the better the higher it is.
    pub fn higher(&mut self, name: &str, title: &str, value: f64, unit: &str) {
        self.push_figure(name, title, value, unit, Some(Better::Higher));
    }

    fn push_figure(&mut self, name: &str, title: &str, value: f64, unit: &str, better: Option<Better>) {
        self.figures.push(Figure { name: name.into(), title: title.into(), value, unit: unit.into(), better });
    }

    /// Adds a check; a violation that is not permitted fails the run.
    pub fn check(&mut self, check: Check) {
        self.passed &= check.count == 0 || check.permitted;
        self.checks.push(check);
    }

    /// Adds the usual figures of a latency, and its distribution.
    pub fn latency(&mut self, latency: Latency) {
        if latency.count > 0 {
            self.lower(
                &format!("{}_p50_us", latency.name),
                &format!("{}, median", latency.title),
                latency.p50_us,
                "µs",
            );
            self.lower(&format!("{}_p99_us", latency.name), &format!("{}, 99 %", latency.title), latency.p99_us, "µs");
        }
        self.latencies.push(latency);
    }
}

impl Machine {
    /// The machine that this runs on.
    pub fn read() -> Self {
        let lines = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = lines.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: processor.map_or_else(|| "unknown".into(), |(_, model)| model.trim().into()),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get().try_into().unwrap_or(u32::MAX)),
            memory_bytes: rustix::system::sysinfo().totalram * u64::from(rustix::system::sysinfo().mem_unit),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }
}
