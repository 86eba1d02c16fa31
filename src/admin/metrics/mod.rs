//! What Prometheus reads at `/metrics`: all that the broker counts, in the text format 0.0.4.
//!
//! [`table`] defines every metric once; the text, and the reference in `docs/MONITORING.md`, are made from it. A scrape asks each shard for a
//! copy of its figures and does the rest here, beside the shards, so its cost grows with the number of shards and with nothing else.

mod process;
#[cfg(test)]
mod reference;
mod samples;
mod table;
#[cfg(test)]
mod tests;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use self::process::Process;
use self::samples::Samples;
use self::table::{Metric, Of, SUBJECTS};
use super::report::{Report, collect};
use crate::net::desk::{Desk, Silent};

/// What the format is called in HTTP.
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What the getters of metrics look at.
struct Facts<'a> {
    report: &'a Report,
    /// `None`: /proc cannot be read.
    process: Option<Process>,
}

/// All metrics as they are now.
///
/// # Errors
/// A shard does not answer.
pub(super) async fn text(desk: &Desk) -> Result<String, Silent> {
    Ok(encode(&collect(desk).await?))
}

fn encode(report: &Report) -> String {
    let facts = Facts { report, process: Process::now() };
    // What the configuration leaves out, such as the journal, has no samples, and the format knows no metric without any.
    let families: Vec<_> = metrics().filter_map(|metric| family(metric, &facts)).collect();
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families, &mut text)
        .expect("each family has a name and samples, and memory takes it all");
    String::from_utf8(text).expect("the encoder writes UTF-8")
}

fn metrics() -> impl Iterator<Item = &'static Metric> {
    SUBJECTS.iter().flat_map(|subject| subject.metrics)
}

/// A metric with its samples; `None` if it has none.
fn family(metric: &Metric, facts: &Facts<'_>) -> Option<MetricFamily> {
    let mut samples = Samples::new(metric);
    match metric.of {
        Of::Broker(read) => read(facts, &mut samples),
        Of::Shard(read) => {
            for shard in &facts.report.shards {
                samples.begin_shard(shard.shard);
                read(shard, &mut samples);
            }
        }
    }
    let samples = samples.into_metrics();
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(metric.kind);
    let has_samples = !samples.is_empty();
    family.set_metric(samples);
    has_samples.then_some(family)
}
