//! A workload and its disasters, drawn from one seed.

use crate::crash::broker::{Flaw, Manner};
use crate::crash::disk::{Crash, Faults};
use crate::crash::operating::Operator;
use crate::crash::oracle::complaints;
use crate::crash::run::{ACTORS, Part, Run, tiny_config};
use crate::simulation::Random;
use crate::wire::message::{Message, Will, millis};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use willowmq::codec::ProtocolVersion;
use willowmq::journal::log::Mode;
use willowmq::shard::Closed;

/// Seeds of an ordinary run.
const SEEDS: u64 = 60;
/// What happens under one seed.
const ACTIONS: usize = 120;

/// What is wrong with the run of a seed, and what happened last in it; a broker that fails altogether is as wrong as anything.
fn wrong_with(seed: u64, operator: Operator) -> Option<String> {
    let (outcome, epitaph) = outcome(seed, Flaw::None, operator);
    let what = match outcome {
        Ok(complaints) if complaints.is_empty() => return None,
        Ok(complaints) => complaints.join("\n"),
        Err(panic) => panic,
    };
    Some(format!("{what}\n{epitaph}"))
}

/// What the oracle complains of, or how the run has failed.
fn outcome(seed: u64, flaw: Flaw, operator: Operator) -> (Result<Vec<String>, String>, String) {
    let mut random = Random::new(seed);
    let shards = 1 + random.below(4);
    let manner = Manner {
        segment_bytes: [1024, 2048, 8192][random.below(3)],
        slowness: [0, 2, 8][random.below(3)],
        mode: if flaw == Flaw::None && random.one_in(4) { Mode::Relaxed } else { Mode::Sync },
        flaw,
    };
    let mut run = Run::new(seed, shards, tiny_config(), manner);
    run.operations.operator = operator;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        play(&mut run, &mut random);
        complaints(&run)
    }));
    let outcome = outcome.map_err(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned())).unwrap_or_default()
    });
    (outcome, run.sim.epitaph())
}

fn play(run: &mut Run, random: &mut Random) {
    for actor in 0..ACTORS.len() {
        run.connect(actor);
    }
    run.settle();
    for _ in 0..ACTIONS {
        act(run, random);
        if run.operations.operator != Operator::Absent && random.one_in(6) {
            let devices: Vec<_> = (0..ACTORS.len()).filter(|actor| ACTORS[*actor].part == Part::Device).collect();
            run.operate(devices[random.below(devices.len())], random);
        }
        match random.below(6) {
            0 => run.settle(),
            1 => run.advance(millis(random.below(2000) as u64)),
            _ => run.step(random.below(12)),
        }
    }
    let returning = random.next();
    run.come_to_an_end(|actor| returning >> actor & 1 == 0);
    run.look_at_retained(&retained_topics());
}

fn retained_topics() -> Vec<String> {
    let devices = ACTORS.iter().enumerate().filter(|(_, client)| client.part == Part::Device);
    devices.map(|(actor, _)| format!("r/{actor}")).collect()
}

fn act(run: &mut Run, random: &mut Random) {
    let actor = random.below(ACTORS.len());
    let is_device = ACTORS[actor].part == Part::Device;
    match random.below(30) {
        0 => restart(run, random),
        1 => fail(run, random),
        2 | 3 => run.sim.disk().faults = Faults::default(),
        4 => run.cut(actor, if random.one_in(2) { Closed::Fin } else { Closed::Reset }),
        5 if is_device => run.say_goodbye(actor),
        6 => run.look_at_retained(&retained_topics()),
        7 => withhold(run, actor, random),
        8 if is_device && run.is_connected(actor) => connect_device(run, actor, random), // A takeover.
        8..=14 if !run.is_connected(actor) => match is_device {
            true => connect_device(run, actor, random),
            false => run.connect(actor),
        },
        _ => {
            let devices = (0..ACTORS.len()).filter(|actor| ACTORS[*actor].part == Part::Device);
            let device = devices.clone().nth(random.below(devices.count())).expect("there are devices");
            for _ in 0..1 + random.below(3) {
                let message = draw_message(run, device, random);
                run.publish(device, message);
            }
        }
    }
}

fn restart(run: &mut Run, random: &mut Random) {
    let shards = if random.one_in(4) { 1 + random.below(4) } else { run.sim.shards().len() };
    let away = millis([0, 50, 3000][random.below(3)]);
    let outlives_power = run.sim.journals().manner.mode == Mode::Sync;
    match random.below(5) {
        0 => run.stop(away, shards),
        kind if kind < 3 || !outlives_power => run.crash(Crash::Kill, away, shards),
        _ => run.crash(Crash::PowerCut, away, shards),
    }
}

fn fail(run: &mut Run, random: &mut Random) {
    let mut faults = Faults::default();
    match random.below(5) {
        0 => faults.is_full = true,
        1 => faults.is_read_only = true,
        2 => faults.fails_writes = true,
        3 => faults.fails_syncs = true,
        _ => faults.fails_reads = true,
    }
    run.sim.disk().faults = faults;
}

fn withhold(run: &mut Run, actor: usize, random: &mut Random) {
    let Some(attempt) = run.usable(actor) else { return };
    let link = run.attempts[attempt].link;
    match random.below(3) {
        0 => run.sim.client_mut(link).manner.acknowledges = false,
        1 => run.sim.set_reading(link, random.one_in(2)),
        _ => run.sim.post_acknowledgements(link),
    }
}

fn connect_device(run: &mut Run, actor: usize, random: &mut Random) {
    let clean_start = !ACTORS[actor].is_persistent || random.one_in(6);
    let keep_alive = [0, 4][random.below(2)];
    let delay = match ACTORS[actor].version {
        ProtocolVersion::V5 => [0, 0, 1, 5][random.below(4)],
        _ => 0,
    };
    let level = [0, 1, 2, 2][random.below(4)];
    let message = run.numbered(&format!("w/{actor}"), level);
    let message = if random.one_in(3) { message.retain() } else { message };
    let will = (!random.one_in(4)).then_some(Will { message, delay });
    run.connect_with(actor, clean_start, keep_alive, will);
}

fn draw_message(run: &Run, device: usize, random: &mut Random) -> Message {
    let level = [0, 1, 1, 2, 2][random.below(5)];
    let kind = random.below(8);
    let topic = match kind {
        0..=3 => format!("t/{device}/{}", random.below(2)),
        4 | 5 => format!("s/{device}"),
        _ => format!("r/{device}"),
    };
    let message = run.numbered(&topic, level);
    let may_expire = ACTORS[device].version == ProtocolVersion::V5;
    match kind {
        0 if may_expire && random.one_in(2) => message.expires_in(Duration::from_secs(3)),
        6 if random.one_in(3) => Message { payload: Vec::new(), ..message.retain() },
        6 if may_expire && random.one_in(3) => message.retain().expires_in(Duration::from_secs(2)),
        6 | 7 => message.retain(),
        _ => message,
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let from = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match from("WILLOWMQ_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from("WILLOWMQ_CRASH_SEEDS").unwrap_or(default),
    }
}

fn nothing_is_wrong(operator: Operator) {
    let mut wrong = Vec::new();
    for seed in seeds(SEEDS) {
        if let Some(what) = wrong_with(seed, operator) {
            eprintln!("WILLOWMQ_CRASH_SEED={seed}, {operator:?}: {what}\n");
            wrong.push(seed);
        }
    }
    assert!(wrong.is_empty(), "wrong with these seeds: {wrong:?}");
}

/// Nothing that was promised is lost, and nothing happens twice, whenever the broker dies.
#[test]
fn drawn_crashes_lose_nothing_that_was_promised() {
    nothing_is_wrong(Operator::Absent);
}

/// Nor does it where an operator publishes and discards wills, and ends Sessions: what the operator was told is so.
#[test]
fn drawn_crashes_undo_nothing_that_an_operator_was_told() {
    nothing_is_wrong(Operator::Decides);
}

/// Nor where wills are held back, and the broker is drained.
#[test]
fn drawn_crashes_during_planned_work_lose_nothing() {
    nothing_is_wrong(Operator::Plans);
}

/// Whether the oracle complains of a mistake under any of the seeds of an ordinary run, and of nothing without it.
fn is_found(flaw: Flaw) -> bool {
    let complains =
        |seed, flaw| matches!(outcome(seed, flaw, Operator::Absent).0, Ok(complaints) if !complaints.is_empty());
    (0..SEEDS).any(|seed| complains(seed, flaw) && wrong_with(seed, Operator::Absent).is_none())
}

#[test]
fn a_forgotten_sync_is_found() {
    assert!(is_found(Flaw::SyncForgotten));
}

#[test]
fn outputs_that_leave_before_the_records_are_found() {
    assert!(is_found(Flaw::OutputsFirst));
}

#[test]
fn a_batch_that_is_believed_too_early_is_found() {
    assert!(is_found(Flaw::OneBatchEarly));
}

#[test]
fn a_failed_sync_that_is_believed_is_found() {
    assert!(is_found(Flaw::FailedSyncBelieved));
}
