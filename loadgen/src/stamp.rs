//! What a payload says about itself, so that whoever receives it can tell whose it is, which one, when it was due to be
//! sent, and whether it is whole.
//!
//! ```text
//! 0        4           8          16         24
//! ┌────────┬───────────┬──────────┬──────────┬──────────────┐
//! │ check  │ publisher │ sequence │ time, ns │ noise …      │   integers in little-endian order
//! └────────┴───────────┴──────────┴──────────┴──────────────┘
//! ```
//!
//! The check covers the rest and is keyed by the run, so that messages of another run are told apart. The noise is cut
//! from a fixed table at a place that the check names: comparing it costs one `memcmp`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::engine::Time;

/// The smallest payload that has room for a stamp.
pub const STAMP_BYTES: usize = 24;

/// Noise is repeated after this many bytes: few enough to stay in the first-level cache.
const NOISE_BYTES: usize = 1 << 12;

/// What is written at the beginning of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the client that published it.
    pub publisher: u32,
    /// Which of its messages this is: 0, 1, 2, …
    pub sequence: u64,
    /// When it was due to be sent.
    pub at: Time,
}

/// Why a payload is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It is not of this run: something else publishes here, or an older run left it.
    Foreign,
    /// It is not what was sent: its stamp is of this run, or nobody else publishes here.
    Altered,
}

/// Writes and reads the payloads of one run.
#[derive(Clone)]
pub struct Stamper {
    key: u64,
    /// What a payload is whose stamp is not of this run.
    unknown: Defect,
    noise: std::sync::Arc<[u8]>,
}

impl Stamper {
    /// A stamper with a key of its own.
    pub fn random() -> Self {
        Self::with_key(RandomState::new().build_hasher().finish())
    }

    /// A stamper that reads what another one with this key wrote, in an earlier run.
    pub fn with_key(key: u64) -> Self {
        let noise = (0..2 * NOISE_BYTES as u64).map(|position| (mix(position % NOISE_BYTES as u64) >> 32) as u8);
        Self { key, unknown: Defect::Foreign, noise: noise.collect() }
    }

    /// A stamper for topics at which nobody else publishes: what is not of this run was altered on its way.
    pub fn alone(self) -> Self {
        Self { unknown: Defect::Altered, ..self }
    }

    /// A stamper for topics at which others may publish as well.
    pub fn among_others(self) -> Self {
        Self { unknown: Defect::Foreign, ..self }
    }

    /// The key, for names that must not meet those of another run.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Overwrites `out` with a payload of `length` bytes, at least [`STAMP_BYTES`].
    pub fn write(&self, stamp: Stamp, length: usize, out: &mut Vec<u8>) {
        debug_assert!(length >= STAMP_BYTES, "the command line was checked");
        let check = self.check(stamp, length);
        out.clear();
        out.extend_from_slice(&check.to_le_bytes());
        out.extend_from_slice(&stamp.publisher.to_le_bytes());
        out.extend_from_slice(&stamp.sequence.to_le_bytes());
        out.extend_from_slice(&stamp.at.0.to_le_bytes());
        while out.len() < length {
            let chunk = (length - out.len()).min(NOISE_BYTES);
            out.extend_from_slice(self.noise(check, chunk));
        }
    }

    /// Reads the stamp of `payload`, and compares everything else with what was sent.
    pub fn read(&self, payload: &[u8]) -> Result<Stamp, Defect> {
        let Some((head, noise)) = payload.split_first_chunk::<STAMP_BYTES>() else { return Err(self.unknown) };
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let stamp = Stamp { publisher: u32_at(4), sequence: u64_at(8), at: Time(u64_at(16)) };
        let check = self.check(stamp, payload.len());
        if check != u32_at(0) {
            return Err(self.unknown);
        }
        let is_whole = noise.chunks(NOISE_BYTES).all(|chunk| chunk == self.noise(check, chunk.len()));
        if is_whole { Ok(stamp) } else { Err(Defect::Altered) }
    }

    fn noise(&self, check: u32, length: usize) -> &[u8] {
        let from = check as usize % NOISE_BYTES;
        &self.noise[from..from + length]
    }

    fn check(&self, stamp: Stamp, length: usize) -> u32 {
        let place = u64::from(stamp.publisher) << 32 ^ length as u64;
        let mixed = mix(mix(mix(self.key ^ place) ^ stamp.sequence) ^ stamp.at.0);
        (mixed >> 32) as u32
    }
}

/// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 7, sequence: 1 << 40, at: Time(123_456_789) };

    #[test]
    fn what_is_written_is_read() {
        let stamper = Stamper::with_key(1);
        let mut payload = Vec::new();
        for length in [STAMP_BYTES, 25, 100, NOISE_BYTES, 3 * NOISE_BYTES + 5] {
            stamper.write(STAMP, length, &mut payload);
            assert_eq!(payload.len(), length);
            assert_eq!(stamper.read(&payload), Ok(STAMP));
        }
    }

    #[test]
    fn every_altered_byte_and_every_other_length_is_noticed() {
        let stamper = Stamper::with_key(1);
        let mut payload = Vec::new();
        stamper.write(STAMP, 100, &mut payload);
        for position in 0..payload.len() {
            payload[position] ^= 1;
            let expected = if position < STAMP_BYTES { Defect::Foreign } else { Defect::Altered };
            assert_eq!(stamper.read(&payload), Err(expected), "{position}");
            payload[position] ^= 1;
        }
        assert_eq!(stamper.read(&payload[..99]), Err(Defect::Foreign));
        assert_eq!(stamper.read(&[]), Err(Defect::Foreign));
        assert_eq!(Stamper::with_key(2).read(&payload), Err(Defect::Foreign));
        assert_eq!(Stamper::with_key(2).alone().read(&payload), Err(Defect::Altered));
    }
}
