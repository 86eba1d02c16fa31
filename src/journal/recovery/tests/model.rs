//! Any journal of a small shard, with checkpoints at any places, tells what a model of the shard holds.

use super::*;
use proptest::prelude::*;

/// What a shard does, in small.
#[derive(Debug, Clone)]
enum Step {
    Session(u64),
    End(u64),
    Queue(u64, u64),
    Done(u64, u64),
    Release(u64, u64),
    Retain(u64),
    Unretain(u64),
    Will(u64),
    WillGone(u64),
    Receive(u64, u16),
    Complete(u64, u16),
    Checkpoint,
    NextSegment,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..4u64;
    prop_oneof![
        3 => number.clone().prop_map(Step::Session),
        1 => number.clone().prop_map(Step::End),
        6 => (number.clone(), 0..3u64).prop_map(|(session, topic)| Step::Queue(session, topic)),
        3 => (number.clone(), 0..30u64).prop_map(|(session, place)| Step::Done(session, place)),
        1 => (number.clone(), 0..30u64).prop_map(|(session, place)| Step::Release(session, place)),
        2 => (0..3u64).prop_map(Step::Retain),
        1 => (0..3u64).prop_map(Step::Unretain),
        2 => number.clone().prop_map(Step::Will),
        1 => number.clone().prop_map(Step::WillGone),
        1 => (number.clone(), 1..4u16).prop_map(|(session, id)| Step::Receive(session, id)),
        1 => (number, 1..4u16).prop_map(|(session, id)| Step::Complete(session, id)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::NextSegment),
    ]
}

/// One Session of the model: places with their publications (none where released), ids, whether it has a will.
#[derive(Debug, Clone, Default, PartialEq)]
struct ModelSession {
    deliveries: BTreeMap<u64, Option<u64>>,
    received: Vec<u16>,
    has_will: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    sessions: BTreeMap<u64, ModelSession>,
    retained: BTreeMap<&'static str, u64>,
}

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A shard in small: it changes its model, writes deltas, and between them slices of a checkpoint.
struct ModelShard {
    model: Model,
    writer: Writer,
    places: u64,
    publications: u64,
    topics: BTreeMap<u64, &'static str>,
    /// Slices of the open checkpoint that are still to be written: Sessions, then topics.
    open: Option<Vec<Slice>>,
}

#[derive(Debug, Clone, Copy)]
enum Slice {
    Session(u64),
    /// Deliveries of a Session from this place on.
    Deliveries(u64, u64),
    Topic(&'static str),
}

impl ModelShard {
    fn new() -> Self {
        Self {
            model: Model::default(),
            writer: Writer::new(0),
            places: 0,
            publications: 0,
            topics: BTreeMap::new(),
            open: None,
        }
    }

    fn publish(&mut self, topic: u64) -> u64 {
        self.publications += 1;
        self.topics.insert(self.publications, TOPICS[topic as usize]);
        self.publications
    }

    fn step(&mut self, step: &Step) {
        let mut records = Vec::new();
        match *step {
            Step::Session(number) => {
                self.model.sessions.entry(number).or_default();
                records.push(session(number));
            }
            Step::End(number) => {
                self.model.sessions.remove(&number);
                records.push(Record::SessionEnded(SessionNumber(number)));
            }
            Step::Queue(number, topic) => {
                let publication = self.publish(topic);
                self.places += 1;
                if let Some(session) = self.model.sessions.get_mut(&number) {
                    session.deliveries.insert(self.places, Some(publication));
                }
                records
                    .extend([message(publication, TOPICS[topic as usize]), queued(number, self.places, publication)]);
            }
            Step::Done(number, place) => {
                self.model.sessions.get_mut(&number).map(|session| session.deliveries.remove(&place));
                records.push(Record::Done { session: SessionNumber(number), place: Place(place) });
            }
            Step::Release(number, place) => {
                let session = self.model.sessions.get_mut(&number);
                if let Some(held) = session.and_then(|session| session.deliveries.get_mut(&place)) {
                    *held = None;
                }
                records.push(Record::Released { session: SessionNumber(number), place: Place(place) });
            }
            Step::Retain(topic) => {
                let sequence = self.publish(topic);
                self.model.retained.insert(TOPICS[topic as usize], sequence);
                records.extend([message(sequence, TOPICS[topic as usize]), Record::Retained(publication(sequence))]);
            }
            Step::Unretain(topic) => {
                self.model.retained.remove(TOPICS[topic as usize]);
                records.push(Record::RetainedRemoved(TOPICS[topic as usize]));
            }
            Step::Will(number) => {
                if let Some(session) = self.model.sessions.get_mut(&number) {
                    session.has_will = true;
                }
                records.push(will(number));
            }
            Step::WillGone(number) => {
                if let Some(session) = self.model.sessions.get_mut(&number) {
                    session.has_will = false;
                }
                records.push(Record::WillGone(SessionNumber(number)));
            }
            Step::Receive(number, id) => {
                if let Some(session) = self.model.sessions.get_mut(&number)
                    && !session.received.contains(&id)
                {
                    session.received.push(id);
                    session.received.sort_unstable();
                }
                records.push(Record::Received { session: SessionNumber(number), packet_id: PACKET(id) });
            }
            Step::Complete(number, id) => {
                if let Some(session) = self.model.sessions.get_mut(&number) {
                    session.received.retain(|received| *received != id);
                }
                records.push(Record::Completed { session: SessionNumber(number), packet_id: PACKET(id) });
            }
            Step::Checkpoint => {
                if self.open.is_none() {
                    self.open = Some(self.slices());
                    records.push(Record::CheckpointBegin);
                }
            }
            Step::NextSegment => self.writer.next_segment(),
        }
        if !records.is_empty() {
            self.writer.frame(&records);
        }
    }

    fn slices(&self) -> Vec<Slice> {
        let topics = self.model.retained.keys().map(|topic| Slice::Topic(topic));
        let sessions = self.model.sessions.keys().map(|number| Slice::Session(*number));
        topics.chain(sessions).collect()
    }

    /// Writes one slice of the open checkpoint, from the state as it is now.
    fn slice(&mut self) {
        let Some(open) = &mut self.open else { return };
        let mut records = Vec::new();
        match open.pop() {
            None => {
                self.open = None;
                records.push(Record::CheckpointEnd);
            }
            Some(Slice::Session(number)) => {
                if let Some(state) = self.model.sessions.get(&number) {
                    records.extend([Record::SessionReset(SessionNumber(number)), session(number)]);
                    let ids = state.received.iter();
                    records.extend(
                        ids.map(|id| Record::Received { session: SessionNumber(number), packet_id: PACKET(*id) }),
                    );
                    records.extend(state.has_will.then(|| will(number)));
                    open.push(Slice::Deliveries(number, 0));
                }
            }
            Some(Slice::Deliveries(number, from)) => {
                let state = self.model.sessions.get(&number);
                if let Some((place, held)) = state.and_then(|state| state.deliveries.range(from..).next()) {
                    records.extend(held.map(|sequence| message(sequence, self.topics[&sequence])));
                    let Record::Queued(queued) = queued(number, *place, held.unwrap_or(1)) else { unreachable!() };
                    records.push(Record::Queued(QueuedRecord { is_released: held.is_none(), ..queued }));
                    open.push(Slice::Deliveries(number, *place + 1));
                }
            }
            Some(Slice::Topic(topic)) => {
                if let Some(sequence) = self.model.retained.get(topic) {
                    records.extend([message(*sequence, topic), Record::Retained(publication(*sequence))]);
                }
            }
        }
        if !records.is_empty() {
            self.writer.frame(&records);
        }
    }
}

/// What was recovered, in the terms of the model.
fn model_of(recovered: &Recovered) -> Model {
    let sessions = recovered.sessions.iter().map(|session| {
        let deliveries = session.deliveries.iter();
        let told = ModelSession {
            deliveries: deliveries
                .map(|delivery| {
                    let message = delivery.message.as_ref();
                    (delivery.place.0, message.map(|stored| stored.publication.sequence))
                })
                .collect(),
            received: session.received.iter().map(|id| id.get()).collect(),
            has_will: session.will.is_some(),
        };
        (session.header.session.0, told)
    });
    let retained = retained_topics(recovered)
        .into_iter()
        .map(|(topic, sequence)| (TOPICS.into_iter().find(|known| *known == topic).expect("a known topic"), sequence));
    Model { sessions: sessions.collect(), retained: retained.collect() }
}

proptest! {
    /// Session numbers are used again here, which makes it harder.
    #[test]
    fn a_replay_tells_what_the_model_holds_wherever_checkpoints_stand(
        steps in proptest::collection::vec((step(), 0..3usize), 0..120),
    ) {
        let mut shard = ModelShard::new();
        for (step, slices) in &steps {
            shard.step(step);
            (0..*slices).for_each(|_| shard.slice());
        }
        let recovered = shard.writer.recover();
        prop_assert_eq!(model_of(&recovered), shard.model);
        prop_assert_eq!(recovered.orphans, 0);
        prop_assert_eq!(recovered.position, shard.writer.at);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut writer = Writer::new(0);
        writer.file().extend_from_slice(&bytes);
        let _ = recover_with(&writer.files, ALL);
        *writer.file() = bytes;
        let _ = recover_with(&writer.files, ALL);
    }

    #[test]
    fn any_records_in_sound_frames_are_read_without_a_panic(
        start in prop_oneof![Just(0), Just(u64::MAX - 200), any::<u64>()],
        payloads in proptest::collection::vec(proptest::collection::vec(0..32u8, 1..40), 0..6),
    ) {
        let mut writer = Writer::new(0);
        writer.files.files.clear();
        writer.name.start = start;
        writer.begin();
        let mut at = start;
        for (sequence, payload) in (0..).zip(payloads) {
            let flags = crate::journal::frame::Flags::TRANSACTIONS;
            let (length, payload_crc) = (payload.len() as u32, crc32c::crc32c(&payload));
            let header = crate::journal::frame::FrameHeader { length, payload_crc, sequence, durable: 0, flags };
            let head = header.encode(at);
            writer.file().extend_from_slice(&head);
            writer.file().extend_from_slice(&payload);
            at = at.wrapping_add(header.frame_bytes());
        }
        let _ = recover_with(&writer.files, ALL);
    }
}
