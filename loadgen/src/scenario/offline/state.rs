//! What is owed to those who are away: kept in a file where the two halves of the scenario are two runs.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::stamp::{STAMP_BYTES, Stamper};

/// The version of the file.
const SCHEMA: &str = "willowmq-loadgen-offline/1";

/// What was published while the subscribers were away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    schema: String,
    /// The key of the payloads, in hexadecimal: numbers of JSON are not exact everywhere.
    key: String,
    /// Whether nobody else publishes to these topics, so that what cannot be read was altered.
    is_alone: bool,
    /// Who published what to whom.
    pub(super) plan: Plan,
    /// By stream.
    pub(super) streams: Vec<Stream>,
}

/// What one publisher has sent to one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) publisher: usize,
    /// Who is to receive it; nobody in particular for everybody.
    pub(super) subscriber: Option<usize>,
    /// Messages sent: they are numbered from 0.
    pub(super) published: u64,
    /// How many of them were acknowledged, and have to arrive.
    pub(super) acknowledged: u64,
    /// The first and the last number that was acknowledged.
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    /// The others, in order: they may arrive or not.
    pub(super) unacknowledged: Vec<u64>,
}

impl Stream {
    /// `published` messages, some of which were not acknowledged.
    pub(super) fn new(plan: &Plan, stream: usize, published: u64, mut unacknowledged: Vec<u64>) -> Self {
        unacknowledged.sort_unstable();
        let mut new = Self {
            publisher: plan.publisher(stream),
            subscriber: plan.subscriber(stream),
            published,
            acknowledged: published - unacknowledged.len() as u64,
            first: None,
            last: None,
            unacknowledged,
        };
        new.first = (0..published).find(|number| new.is_owed(*number));
        new.last = (0..published).rev().find(|number| new.is_owed(*number));
        new
    }

    /// Whether message `sequence` has to arrive.
    pub(super) fn is_owed(&self, sequence: u64) -> bool {
        sequence < self.published && self.unacknowledged.binary_search(&sequence).is_err()
    }
}

impl State {
    /// What was published by `plan`, with payloads of `stamper`.
    pub(super) fn new(plan: Plan, stamper: &Stamper, is_alone: bool, streams: Vec<Stream>) -> Self {
        Self { schema: SCHEMA.into(), key: format!("{:016x}", stamper.key()), is_alone, plan, streams }
    }

    /// What reads the payloads.
    ///
    /// # Errors
    ///
    /// When the key is none.
    pub(super) fn stamper(&self) -> Result<Stamper> {
        let key = u64::from_str_radix(&self.key, 16).with_context(|| format!("key {}", self.key))?;
        let stamper = Stamper::with_key(key);
        Ok(if self.is_alone { stamper.alone() } else { stamper })
    }

    /// How many messages were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.streams.iter().map(|stream| stream.acknowledged).sum()
    }

    /// Writes the file `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("--state {}", path.display()))
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not what [`State::write`] writes.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("--state {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("--state {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text).context("it is not what --phase publish writes")?;
        match value["schema"].as_str() {
            Some(SCHEMA) => {}
            Some(other) => bail!("it is a {other}, and this program reads {SCHEMA}"),
            None => bail!("it is not what --phase publish writes"),
        }
        let state: Self = serde_json::from_value(value)?;
        state.check()?;
        Ok(state)
    }

    /// Looks for what cannot be: the file may have been edited.
    fn check(&self) -> Result<()> {
        let plan = &self.plan;
        let within = 1..=u32::MAX as usize;
        ensure!(within.contains(&plan.publishers) && within.contains(&plan.subscribers), "it has no clients");
        ensure!(matches!(plan.qos, 1 | 2), "qos is 1 or 2");
        ensure!(plan.payload_bytes >= STAMP_BYTES, "payload_bytes is at least {STAMP_BYTES}");
        ensure!(self.streams.len() == plan.streams(), "it has {} streams of {}", self.streams.len(), plan.streams());
        self.stamper()?;
        for (number, stream) in self.streams.iter().enumerate() {
            let gaps = &stream.unacknowledged;
            ensure!(stream.published <= u32::MAX.into(), "stream {number}: published is beyond {}", u32::MAX);
            let is_ordered = gaps.windows(2).all(|pair| pair[0] < pair[1]);
            let is_within = gaps.last().is_none_or(|last| *last < stream.published);
            ensure!(is_ordered && is_within, "stream {number}: unacknowledged is not in order, or beyond published");
            let expected = Stream::new(plan, number, stream.published, gaps.clone());
            ensure!(*stream == expected, "stream {number} contradicts itself; it would be {expected:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Shape, tests::plan};
    use super::*;

    fn state() -> State {
        let plan = plan(Shape::Pairs, 2, 2);
        let streams = vec![Stream::new(&plan, 0, 5, vec![4, 0]), Stream::new(&plan, 1, 0, vec![])];
        State::new(plan, &Stamper::with_key(u64::MAX - 1), true, streams)
    }

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("loadgen-state-test-{}.json", std::process::id()));
        state().write(&path).unwrap();
        let read = State::read(&path);
        std::fs::remove_file(&path).unwrap();
        let read = read.unwrap();
        assert_eq!(read, state());
        assert_eq!(read.stamper().unwrap().key(), u64::MAX - 1);
        assert!(format!("{:#}", State::read(&path).unwrap_err()).contains("No such file"));
    }

    #[test]
    fn a_stream_owes_what_was_acknowledged() {
        let state = state();
        let stream = &state.streams[0];
        assert_eq!((stream.acknowledged, stream.first, stream.last), (3, Some(1), Some(3)));
        assert_eq!((0..7).filter(|number| stream.is_owed(*number)).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((state.streams[1].first, state.streams[1].last), (None, None));
        assert_eq!(state.acknowledged(), 3);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = serde_json::to_string(&state()).unwrap();
        for (from, to, expected) in [
            ("{", "", "it is not what"),
            ("\"schema\"", "\"scheme\"", "it is not what"),
            ("offline/1", "offline/9", "willowmq-loadgen-offline/9"),
            ("\"key\":\"", "\"key\":\"x", "key x"),
            ("\"qos\":1", "\"qos\":0", "qos is 1 or 2"),
            ("\"subscribers\":2", "\"subscribers\":0", "no clients"),
            ("\"subscribers\":2", "\"subscribers\":3", "2 streams of 3"),
            ("\"payload_bytes\":100", "\"payload_bytes\":1", "payload_bytes is at least"),
            ("[0,4]", "[4,0]", "stream 0: unacknowledged"),
            ("[0,4]", "[0,5]", "stream 0: unacknowledged"),
            ("[0,4]", "[0,1]", "stream 0 contradicts itself"),
            ("\"acknowledged\":3", "\"acknowledged\":4", "stream 0 contradicts itself"),
            ("\"last\":3", "\"last\":3,\"more\":1", "unknown field `more`"),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            let error = format!("{:#}", State::parse(&broken).unwrap_err());
            assert!(error.contains(expected), "{from} → {to}: {error}");
        }
    }
}
