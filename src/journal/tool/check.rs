//! `willowmq journal check`: is everything whole, and what is there.

use crate::journal::recovery::{Files, Limits, Recovered, Scan, recover, scan};
use std::io::{self, Write};

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is whole.
    Sound,
    /// The end of some journal is torn, as a power cut leaves it. The broker cuts it off: nothing in it was promised.
    Torn,
    /// The broker would not start.
    Damaged,
}

impl Verdict {
    /// The exit status that tells it.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Sound | Self::Torn => 0,
            Self::Damaged => 1,
        }
    }
}

/// Checks the journals of shards `0..shards` and tells what is in them. What is wrong with each is told, not only the first
/// thing.
pub fn check(files: &dyn Files, shards: u8, out: &mut dyn Write) -> io::Result<Verdict> {
    let mut verdict = Verdict::Sound;
    let mut scans = Vec::new();
    for shard in 0..shards {
        match scan(files, shard, &mut |_| {}) {
            Ok(scan) => scans.push(scan),
            Err(error) => {
                verdict = Verdict::Damaged;
                writeln!(out, "shard {shard}: {error}")?;
            }
        }
    }
    // Which transactions count, and so what is there, can be told only from all journals together.
    let recovered = match verdict {
        Verdict::Damaged => Vec::new(),
        _ => match recover(files, shards, Limits { memory_budget: 0 }, &mut |_, _| {}) {
            Ok(recovered) => recovered,
            Err(error) => {
                verdict = Verdict::Damaged;
                writeln!(out, "{error}")?;
                Vec::new()
            }
        },
    };
    for scan in &scans {
        write_scan(out, scan)?;
        if let Some(recovered) = recovered.get(usize::from(scan.shard)) {
            write_contents(out, recovered)?;
        }
        if scan.torn_bytes > 0 {
            verdict = verdict.max(Verdict::Torn);
        }
    }
    let word = match verdict {
        Verdict::Sound => "the journals are sound",
        Verdict::Torn => "the journals are sound but for torn ends, which the broker cuts off when it starts",
        Verdict::Damaged => "the journals are damaged: the broker would not start; see `willowmq journal repair`",
    };
    writeln!(out, "{word}")?;
    Ok(verdict)
}

fn write_scan(out: &mut dyn Write, scan: &Scan) -> io::Result<()> {
    let first = scan.parts.first().map_or(0, |part| part.start.offset);
    writeln!(
        out,
        "shard {}: {} segments, {} bytes on disk, log offsets {first} to {}, {} frames",
        scan.shard,
        scan.existing.len(),
        scan.file_bytes,
        scan.position.offset,
        scan.frames
    )?;
    match scan.checkpoint {
        Some(checkpoint) => writeln!(
            out,
            "  last checkpoint: from log offset {} to {}",
            checkpoint.begin.offset, checkpoint.end.offset
        )?,
        None => writeln!(out, "  no checkpoint yet")?,
    }
    if scan.torn_bytes > 0 {
        let file = scan.parts.last().map(|part| part.name.to_string()).unwrap_or_default();
        writeln!(out, "  torn: {} bytes behind log offset {} in {file}", scan.torn_bytes, scan.position.offset)?;
    }
    Ok(())
}

fn write_contents(out: &mut dyn Write, recovered: &Recovered) -> io::Result<()> {
    let sum = |count: fn(&crate::journal::recovery::RecoveredSession) -> usize| -> usize {
        recovered.sessions.iter().map(count).sum()
    };
    writeln!(
        out,
        "  {} records since then: {} sessions, {} subscriptions, {} queued messages, {} retained messages, {} wills",
        recovered.records,
        recovered.sessions.len(),
        sum(|session| session.subscriptions.len()),
        sum(|session| session.deliveries.len()),
        recovered.retained.len(),
        sum(|session| usize::from(session.will.is_some())),
    )?;
    writeln!(out, "  {} transactions are void", recovered.voids.len())?;
    if recovered.orphans > 0 {
        writeln!(out, "  {} records refer to messages that a repair has lost", recovered.orphans)?;
    }
    Ok(())
}
