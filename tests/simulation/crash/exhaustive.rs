//! One short story, and a broker that dies at every command to its disk and at every few bytes of each.

use crate::crash::broker::{Fuse, Manner};
use crate::crash::disk::Crash;
use crate::crash::oracle::complaints;
use crate::crash::run::{Run, tiny_config};
use crate::wire::message::{Will, secs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use willowmq::shard::Closed;

const WATCHER: usize = 0;
const DEVICE: usize = 6;
/// Bytes of a write between two of the places at which it is cut off.
const STRIDE: usize = 64;

/// Connects with a will, unless the client is connected.
fn ensure(run: &mut Run, actor: usize, delay: Option<u32>) {
    if run.is_connected(actor) {
        return;
    }
    match delay {
        Some(delay) => take_over(run, actor, delay),
        None => run.connect(actor),
    }
    run.settle();
}

fn take_over(run: &mut Run, actor: usize, delay: u32) {
    let message = run.numbered(&format!("w/{actor}"), 2).retain();
    run.connect_with(actor, false, 4, Some(Will { message, delay }));
}

fn publish(run: &mut Run, topic: &str, level: u8, retain: bool) {
    ensure(run, WATCHER, None);
    ensure(run, DEVICE, Some(5));
    let message = run.numbered(topic, level);
    run.publish(DEVICE, if retain { message.retain() } else { message });
}

/// A client with a will subscribes, publishes, is taken over, vanishes, and its will falls due after a delay.
fn tell(run: &mut Run) {
    ensure(run, WATCHER, None);
    ensure(run, DEVICE, Some(5));
    publish(run, "t/6/0", 1, false);
    publish(run, "t/6/0", 2, false);
    publish(run, "r/6", 1, true);
    run.settle();
    take_over(run, DEVICE, 0);
    run.settle();
    publish(run, "t/6/1", 2, false);
    publish(run, "r/6", 2, true);
    run.settle();
    take_over(run, DEVICE, 3);
    run.settle();
    run.cut(DEVICE, Closed::Reset);
    run.settle();
    run.advance(secs(4));
    run.settle();
    run.come_to_an_end(|_| false);
    run.look_at_retained(&["r/6".to_owned()]);
}

fn run_with(shards: usize, fuse: Option<Fuse>) -> Run {
    let manner = Manner { segment_bytes: 600, ..Manner::default() };
    let mut run = Run::new(7, shards, tiny_config(), manner);
    run.cast = vec![WATCHER, DEVICE];
    run.sim.journals_mut().fuse = fuse;
    let told = catch_unwind(AssertUnwindSafe(|| {
        tell(&mut run);
        complaints(&run)
    }));
    let what = match told {
        Ok(complaints) if complaints.is_empty() => return run,
        Ok(complaints) => complaints.join("\n"),
        Err(_) => "it failed, as is told above".to_owned(),
    };
    panic!("{shards} shards, {fuse:?}: {what}\n{}", run.sim.epitaph());
}

/// Tells the story once for every place at which the broker can die.
fn die_everywhere(shards: usize, how: Crash) {
    let commands = run_with(shards, None).sim.journals().commands.clone();
    assert!(commands.len() > 20, "the story writes");
    for (command, pieces) in commands.into_iter().enumerate() {
        let places = (0..=pieces).step_by(STRIDE).chain([1, pieces, pieces + 1]);
        for pieces in places {
            run_with(shards, Some(Fuse { command, pieces, how }));
        }
    }
}

#[test]
fn a_shard_that_is_killed_anywhere_keeps_its_promises() {
    die_everywhere(1, Crash::Kill);
}

#[test]
fn a_shard_that_loses_its_power_anywhere_keeps_its_promises() {
    die_everywhere(1, Crash::PowerCut);
}

#[test]
fn two_shards_that_are_killed_anywhere_keep_their_promises() {
    die_everywhere(2, Crash::Kill);
}

#[test]
fn two_shards_that_lose_their_power_anywhere_keep_their_promises() {
    die_everywhere(2, Crash::PowerCut);
}
