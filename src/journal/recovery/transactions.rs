//! Which transactions took effect: what each journal says of them, and what follows from all of it.

use super::Scan;
use crate::journal::record::{Record, Transaction};
use ahash::{AHashMap, AHashSet};
use std::collections::BTreeMap;

/// Entries beyond which it is worth a look whether some can be forgotten.
const MENTIONS_MIN: usize = 1024;

/// What one journal says of transactions.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    /// Those that are not known to be complete.
    mentions: AHashMap<Transaction, Mention>,
    /// By shard: all its transactions up to this one are complete.
    completes: BTreeMap<u8, u64>,
    voids: AHashSet<Transaction>,
    /// By shard: its highest transaction.
    highest: BTreeMap<u8, u64>,
    /// Number of mentions at which to forget some again.
    forget_at: usize,
}

/// What one journal says of one transaction.
#[derive(Debug, Clone, Copy, Default)]
struct Mention {
    /// Log offset of the frame that names it last.
    last: u64,
    begun: Option<u128>,
    /// From whom all of a part has come.
    from: u128,
    /// To whom parts went on.
    passed_to: u128,
}

impl Testimony {
    /// Takes note of a record of the frame at log offset `at`, in the journal of `shard`.
    pub(super) fn note(&mut self, shard: u8, at: u64, record: &Record<'_>) {
        match *record {
            Record::Begun { number, parts } => {
                let begun = &mut self.mention(Transaction { shard, number }, at).begun;
                *begun = Some(begun.unwrap_or(0) | parts);
            }
            Record::Part { transaction, from, parts } => {
                let mention = self.mention(transaction, at);
                mention.from |= bit(from);
                mention.passed_to |= parts;
            }
            Record::Under(transaction) => {
                self.mention(transaction, at);
            }
            Record::Complete(transaction) => self.complete(transaction),
            Record::Void(transaction) => {
                self.rise(transaction);
                self.voids.insert(transaction);
            }
            _ => {}
        }
    }

    fn mention(&mut self, transaction: Transaction, at: u64) -> &mut Mention {
        self.rise(transaction);
        let mention = self.mentions.entry(transaction).or_default();
        mention.last = at;
        mention
    }

    fn rise(&mut self, transaction: Transaction) {
        let highest = self.highest.entry(transaction.shard).or_default();
        *highest = transaction.number.max(*highest);
    }

    fn complete(&mut self, transaction: Transaction) {
        self.rise(transaction);
        let complete = self.completes.entry(transaction.shard).or_default();
        *complete = transaction.number.max(*complete);
        if self.mentions.len() >= self.forget_at.max(MENTIONS_MIN) {
            let Self { mentions, completes, voids, .. } = self;
            mentions.retain(|mentioned, _| voids.contains(mentioned) || !is_up_to(completes, *mentioned));
            self.forget_at = mentions.len() * 2;
        }
    }
}

fn is_up_to(completes: &BTreeMap<u8, u64>, transaction: Transaction) -> bool {
    completes.get(&transaction.shard).is_some_and(|complete| transaction.number <= *complete)
}

/// Which transactions took effect, according to all journals.
#[derive(Debug, Default)]
pub struct Resolution {
    voids: AHashSet<Transaction>,
    /// Those of `voids` that some journal may still name to a later reader.
    lasting: Vec<Transaction>,
    highest: BTreeMap<u8, u64>,
}

impl Resolution {
    /// Whether what was recorded under the transaction does not count.
    pub fn is_void(&self, transaction: Transaction) -> bool {
        self.voids.contains(&transaction)
    }

    /// Transactions that do not count, of all shards, in their order: those that a checkpoint has left behind in every
    /// journal are not among them.
    pub fn voids(&self) -> &[Transaction] {
        &self.lasting
    }

    /// The highest transaction of each shard that any journal names: with its number all up to it are settled.
    pub fn highest(&self) -> impl Iterator<Item = Transaction> {
        self.highest.iter().map(|(shard, number)| Transaction { shard: *shard, number: *number })
    }

    pub(super) fn highest_of(&self, shard: u8) -> u64 {
        self.highest.get(&shard).copied().unwrap_or(0)
    }
}

/// Tells which transactions are complete; `scans` must be those of all journals.
///
/// One is complete if a journal says so, or if the shard that began it and all that have a part in it have recorded their
/// parts; who has a part is told by the first and by the others on. One that was found void stays void.
pub fn resolve(scans: &[&Scan]) -> Resolution {
    let mut completes = BTreeMap::new();
    let mut highest = BTreeMap::new();
    let mut voids = AHashSet::new();
    for testimony in scans.iter().map(|scan| &scan.testimony) {
        voids.extend(testimony.voids.iter().copied());
        raise(&mut completes, &testimony.completes);
        raise(&mut highest, &testimony.highest);
    }
    let all = || scans.iter().flat_map(|scan| scan.testimony.mentions.keys().copied());
    let found: Vec<_> = all().filter(|one| !is_up_to(&completes, *one) && !has_all_parts(scans, *one)).collect();
    voids.extend(found);
    let is_lasting = |scan: &Scan, one: &Transaction| {
        let mention = scan.testimony.mentions.get(one);
        mention.is_some_and(|mention| scan.checkpoint.is_none_or(|checkpoint| mention.last >= checkpoint.begin.offset))
    };
    let mut lasting: Vec<_> =
        voids.iter().filter(|one| scans.iter().any(|scan| is_lasting(scan, one))).copied().collect();
    lasting.sort_unstable();
    Resolution { voids, lasting, highest }
}

fn raise(into: &mut BTreeMap<u8, u64>, from: &BTreeMap<u8, u64>) {
    for (shard, number) in from {
        let highest = into.entry(*shard).or_default();
        *highest = (*highest).max(*number);
    }
}

/// Whether every shard has recorded each part that it got, from whom.
fn has_all_parts(scans: &[&Scan], transaction: Transaction) -> bool {
    let mention = |shard: u8| {
        let scan = scans.iter().find(|scan| scan.shard == shard)?;
        scan.testimony.mentions.get(&transaction)
    };
    let origin = transaction.shard;
    let Some(begun) = mention(origin).and_then(|mention| mention.begun) else { return false };
    // The record of the beginning stands for what the shard did by itself.
    let mut open: Vec<(u8, u8)> = shards_of(begun & !bit(origin)).map(|to| (origin, to)).collect();
    open.extend(mention(origin).into_iter().flat_map(|mention| shards_of(mention.passed_to)).map(|to| (origin, to)));
    let mut seen = AHashSet::new();
    while let Some((from, to)) = open.pop() {
        if !seen.insert((from, to)) {
            continue;
        }
        match mention(to).filter(|mention| mention.from & bit(from) != 0) {
            Some(mention) => open.extend(shards_of(mention.passed_to).map(|next| (to, next))),
            None => return false,
        }
    }
    true
}

fn shards_of(bits: u128) -> impl Iterator<Item = u8> {
    (0..128).filter(move |shard| bits & bit(*shard) != 0)
}

fn bit(shard: u8) -> u128 {
    1u128.checked_shl(u32::from(shard)).unwrap_or(0)
}
