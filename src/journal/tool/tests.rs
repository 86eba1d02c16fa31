//! Journals damaged in all ways, told of and repaired.

use super::*;
use crate::journal::frame::FRAME_HEADER;
use crate::journal::record::{Record, SessionNumber};
use crate::journal::recovery::tests::{
    MemoryFiles, Writer, file_key, four_segments, message, queued, recover_with, session, will,
};
use crate::journal::recovery::{Limits, Recovered, recover};
use crate::journal::segment::SEGMENT_HEADER;
use proptest::prelude::*;

const NO_MEMORY: Limits = Limits { memory_budget: 0 };

fn checked(files: &dyn Files) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = check(files, 1, &mut out).expect("memory takes everything");
    (verdict, String::from_utf8(out).expect("text"))
}

fn dumped(files: &dyn Files, options: DumpOptions) -> Vec<String> {
    let mut out = Vec::new();
    dump(files, 1, options, &mut out).expect("memory takes everything");
    String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
}

/// Repairs, and answers what it costs and what is there then.
fn repaired(files: &MemoryFiles) -> (Vec<String>, Recovered) {
    let plan = plan(files, 1).expect("it can be repaired");
    assert_ne!(checked(&plan).0, Verdict::Damaged);
    let again = super::plan(&plan, 1).expect("a repaired journal is sound");
    assert_eq!(again.costs(), [""; 0], "nothing is left to repair");
    let mut recovered = recover(&plan, 1, NO_MEMORY, &mut |_, _| {}).expect("a repaired journal is sound");
    (plan.costs().to_vec(), recovered.pop().expect("one shard"))
}

fn numbers(recovered: &Recovered) -> Vec<u64> {
    recovered.sessions.iter().map(|session| session.header.session.0).collect()
}

#[test]
fn a_sound_journal_is_told_with_what_is_in_it() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), message(1, "a"), queued(1, 1, 1), will(1)]);
    writer.frame(&[message(2, "b"), Record::Retained(crate::session::message::Publication { shard: 0, sequence: 2 })]);
    let (verdict, told) = checked(&writer.files);
    assert_eq!((verdict, verdict.exit_status()), (Verdict::Sound, 0));
    assert!(told.contains(
        "6 records since then: 1 sessions, 0 subscriptions, 1 queued messages, 1 retained messages, 1 wills"
    ));
    writer.file().extend_from_slice(b"torn");
    let (verdict, told) = checked(&writer.files);
    assert_eq!((verdict, verdict.exit_status()), (Verdict::Torn, 0));
    assert!(told.contains("torn: 4 bytes"), "{told}");
    writer.file()[SEGMENT_HEADER] ^= 1;
    let (verdict, told) = checked(&writer.files);
    assert_eq!((verdict, verdict.exit_status()), (Verdict::Damaged, 1));
    assert!(told.contains("byte 64: the journal is damaged"), "{told}");
}

#[test]
fn a_dump_has_a_line_for_every_record() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), message(1, "say \"hi\"")]);
    let second = writer.frame(&[queued(1, 1, 1), Record::Begun { number: 3, parts: 0b101 }]);
    let lines = dumped(&writer.files, DumpOptions::default());
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("0 32 Session session=1 client_id=\"oak\""), "{}", lines[0]);
    assert!(lines[1].contains("topic=\"say \\\"hi\\\"\"") && lines[1].ends_with("payload=\"payload\""), "{}", lines[1]);
    let json = dumped(&writer.files, DumpOptions { from: second.offset, json: true, shard: Some(0) });
    assert_eq!(json.len(), 2);
    assert!(json[0].starts_with("{\"shard\":0,\"offset\":") && json[0].contains("\"subscription_ids\":\"7,9\""));
    assert!(json[1].ends_with("\"record\":\"Begun\",\"number\":3,\"parts\":\"0,2\"}"), "{}", json[1]);
    assert!(dumped(&writer.files, DumpOptions { shard: Some(1), ..DumpOptions::default() }).is_empty());
}

#[test]
fn a_dump_goes_on_behind_damage_and_says_so() {
    let (mut writer, names) = four_segments();
    let file = writer.files.files.get_mut(&file_key(&names[1])).expect("the second");
    file[SEGMENT_HEADER] ^= 1;
    let lines = dumped(&writer.files, DumpOptions::default());
    assert_eq!(lines.iter().filter(|line| line.starts_with('#')).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains(" Session ")).count(), 3);
}

#[test]
fn a_sound_journal_needs_no_repair() {
    let (writer, _) = four_segments();
    let (costs, recovered) = repaired(&writer.files);
    assert_eq!(costs, [""; 0]);
    assert_eq!(numbers(&recovered), [1, 2, 3, 4]);
}

#[test]
fn segments_that_overlap_are_left_as_they_are() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(0)]);
    let synced = writer.at;
    writer.frame_unsynced(&[session(1)], synced.offset);
    writer.frame_unsynced(&[session(2)], synced.offset);
    writer.fail_back_to(synced);
    writer.frame(&[session(1)]);
    let (costs, recovered) = repaired(&writer.files);
    assert_eq!(costs, [""; 0]);
    assert_eq!(numbers(&recovered), [0, 1, 2]);
    let lines = dumped(&writer.files, DumpOptions::default());
    assert_eq!(lines.len(), 3, "each frame is told once: {lines:?}");
    // The frame that both hold may go bad in one of them; what one alone holds may not.
    let start = SEGMENT_HEADER;
    writer.file()[start] ^= 1;
    assert_eq!(numbers(&repaired(&writer.files).1), [0, 1, 2]);
}

#[test]
fn a_torn_end_is_cut_off() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    writer.file().extend_from_slice(b"torn");
    let (costs, recovered) = repaired(&writer.files);
    assert!(costs[0].contains("4 torn bytes are cut off"), "{costs:?}");
    assert_eq!((numbers(&recovered), recovered.torn_bytes), (vec![1], 0));
}

#[test]
fn any_damaged_byte_costs_one_frame() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let start = writer.file().len();
    writer.frame(&[session(2)]);
    let end = writer.file().len();
    writer.frame(&[session(3)]);
    let position = recover_with(&writer.files, NO_MEMORY).expect("a sound journal").position;
    for index in start..end {
        writer.file()[index] ^= 0x40;
        let (costs, recovered) = repaired(&writer.files);
        assert!(costs[0].contains("what frames 1 to 1 said is lost"), "{costs:?}");
        assert_eq!((numbers(&recovered), recovered.position), (vec![1, 3], position), "byte {index}");
        writer.file()[index] ^= 0x40;
    }
}

#[test]
fn several_damaged_frames_in_a_row_are_filled_together() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let start = writer.file().len();
    for _ in 0..5 {
        writer.frame(&[Record::Unconditional]);
    }
    let end = writer.file().len();
    writer.frame(&[session(3)]);
    writer.file()[start..end].fill(0xAA);
    let (costs, recovered) = repaired(&writer.files);
    assert!(costs[0].contains("what frames 1 to 5 said is lost"), "{costs:?}");
    assert_eq!(numbers(&recovered), [1, 3]);
}

#[test]
fn a_missing_segment_costs_what_was_in_it() {
    for (missing, left) in [(0, vec![2, 3, 4]), (1, vec![1, 3, 4]), (2, vec![1, 2, 4]), (3, vec![1, 2, 3])] {
        let (mut writer, names) = four_segments();
        writer.files.files.remove(&file_key(&names[missing]));
        let (costs, recovered) = repaired(&writer.files);
        assert_eq!(costs.len(), 1);
        assert!(costs[0].contains("missing"), "{costs:?}");
        assert_eq!(numbers(&recovered), left);
    }
}

#[test]
fn a_last_segment_that_is_blank_is_missing_and_costs_what_was_in_it() {
    for blank in [Vec::new(), vec![0; 4096]] {
        let (mut writer, names) = four_segments();
        let last = names.last().expect("there are four");
        *writer.files.files.get_mut(&file_key(last)).expect("the last") = blank;
        let (verdict, _) = checked(&writer.files);
        assert_eq!(verdict, Verdict::Damaged);
        let (costs, recovered) = repaired(&writer.files);
        assert!(!costs.is_empty());
        assert_eq!(numbers(&recovered), [1, 2, 3]);
    }
}

#[test]
fn a_segment_that_was_cut_short_is_filled_up() {
    let (mut writer, names) = four_segments();
    let file = writer.files.files.get_mut(&file_key(&names[1])).expect("the second");
    file.truncate(SEGMENT_HEADER + FRAME_HEADER + 3);
    assert_eq!(numbers(&repaired(&writer.files).1), [1, 3, 4]);
}

#[test]
fn a_damaged_header_costs_nothing_if_the_first_frame_is_whole() {
    let (mut writer, names) = four_segments();
    writer.files.files.get_mut(&file_key(&names[1])).expect("the second")[20] ^= 1;
    assert_eq!(numbers(&repaired(&writer.files).1), [1, 2, 3, 4]);
    writer.files.files.get_mut(&file_key(&names[1])).expect("the second")[SEGMENT_HEADER] ^= 1;
    let (costs, recovered) = repaired(&writer.files);
    assert_eq!((numbers(&recovered), costs.len()), (vec![1, 3, 4], 2));
}

#[test]
fn a_file_from_elsewhere_is_taken_away() {
    let (mut writer, names) = four_segments();
    let stranger = writer.files.files[&file_key(&names[1])].clone();
    writer.files.files.insert((0, 7, 7), stranger);
    let (costs, recovered) = repaired(&writer.files);
    assert!(costs[0].contains("it belongs elsewhere"), "{costs:?}");
    assert_eq!(numbers(&recovered), [1, 2, 3, 4]);
}

#[test]
fn a_newer_format_is_not_repaired() {
    let mut writer = Writer::new(0);
    let file = writer.file();
    file[8] = 2;
    let crc = crc32c::crc32c(&file[..60]);
    file[60..64].copy_from_slice(&crc.to_le_bytes());
    assert!(plan(&writer.files, 1).is_err());
}

#[test]
fn a_frame_that_is_no_records_costs_itself() {
    let mut writer = Writer::new(0);
    let frame = writer.frame(&[Record::SessionEnded(SessionNumber(9))]);
    writer.frame(&[session(1)]);
    let file = writer.file();
    file[SEGMENT_HEADER + FRAME_HEADER] = 0; // No record has this tag.
    let payload_crc = crc32c::crc32c(&file[SEGMENT_HEADER + FRAME_HEADER..][..2]);
    let head = *file[SEGMENT_HEADER..].first_chunk().expect("a header");
    let header = crate::journal::frame::FrameHeader::decode(&head, frame.offset).expect("a header");
    let header = crate::journal::frame::FrameHeader { payload_crc, ..header };
    file[SEGMENT_HEADER..][..FRAME_HEADER].copy_from_slice(&header.encode(frame.offset));
    assert_eq!(checked(&writer.files).0, Verdict::Damaged);
    assert_eq!(numbers(&repaired(&writer.files).1), [1]);
}

#[cfg(feature = "server")]
#[test]
fn a_directory_is_repaired_only_when_that_is_confirmed_and_keeps_copies() {
    use crate::journal::directory::{Access, Directory};
    let path = std::env::temp_dir().join(format!("willowmq-repair-{}", std::process::id()));
    let directory = Directory::open(&path, 1).expect("a new directory");
    let (writer, names) = four_segments();
    for (name, bytes) in names.iter().zip(writer.files.files.values()) {
        let mut bytes = bytes.clone();
        let header = crate::journal::segment::SegmentHeader {
            name: *name,
            directory: directory.meta().identity,
            sequence: names.iter().position(|other| other == name).expect("it is one of them") as u64,
        };
        bytes[..SEGMENT_HEADER].copy_from_slice(&header.encode());
        std::fs::write(directory.segment_path(name), bytes).expect("a segment");
    }
    drop(directory);
    let directory = Directory::open_existing(&path, Access::Write).expect("the directory");
    assert_eq!(checked(&directory).0, Verdict::Sound);
    let second = directory.segment_path(&names[1]);
    let mut bytes = std::fs::read(&second).expect("the second");
    bytes[SEGMENT_HEADER + 5] ^= 1;
    std::fs::write(&second, &bytes).expect("damage");
    std::fs::remove_file(directory.segment_path(&names[2])).expect("the third goes");
    let mut out = Vec::new();
    assert_eq!(repair(&directory, false, 77, &mut out).expect("a dry run"), Verdict::Damaged);
    assert_eq!(std::fs::read(&second).expect("the second"), bytes);
    assert!(!path.join("repair-77").exists());
    assert_eq!(repair(&directory, true, 77, &mut out).expect("a repair"), Verdict::Sound);
    let copy = path.join("repair-77").join(names[1].to_string());
    assert_eq!(std::fs::read(copy).expect("a copy"), bytes);
    let told = String::from_utf8(out).expect("text");
    assert!(told.contains("nothing was changed: run again with --yes"), "{told}");
    drop(directory);
    std::fs::remove_dir_all(&path).expect("the scratch folder goes");
}

/// Bytes to change: a segment, a place in it, and what is written there.
type Damage = (usize, usize, Vec<u8>);

fn damage() -> impl Strategy<Value = Damage> {
    (0..4usize, 0..220usize, proptest::collection::vec(any::<u8>(), 1..40))
}

proptest! {
    #[test]
    fn a_repair_leaves_a_journal_that_checks_or_changes_nothing(
        damages in proptest::collection::vec(damage(), 1..6),
        missing in proptest::option::of(0..4usize),
    ) {
        let (mut writer, names) = four_segments();
        for (segment, at, bytes) in damages {
            let file = writer.files.files.get_mut(&file_key(&names[segment])).expect("a segment");
            let length = file.len();
            for (index, byte) in (at % length..length).zip(bytes) {
                file[index] = byte;
            }
        }
        if let Some(missing) = missing {
            writer.files.files.remove(&file_key(&names[missing]));
        }
        if plan(&writer.files, 1).is_ok() {
            repaired(&writer.files);
        }
        dumped(&writer.files, DumpOptions::default());
    }
}
