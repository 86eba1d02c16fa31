//! The end of a broker, as its clients and the next one see it.

use super::{Place, Simulation};
use std::collections::{BTreeMap, VecDeque};
use willowmq::shard::Shard;

impl Simulation {
    /// The broker dies: connections break with whatever was under way on them, and so does the mesh. What the kernel had taken for a
    /// client may still arrive.
    pub(crate) fn break_connections(&mut self) {
        for index in 0..self.connections.len() {
            if self.connections[index].place == Place::Gone {
                continue;
            }
            if let Some((buffer, start)) = self.connections[index].downstream.take() {
                let end = start + self.random.below(buffer.len() - start + 1);
                self.deliver(index, &buffer[start..end]);
            }
            self.note(index, || "breaks".to_owned());
            self.finish(index);
        }
        self.busy.clear();
    }

    /// Other shards go on, with nothing under way.
    pub(crate) fn replace_shards(&mut self, shards: Vec<Shard>) {
        let count = shards.len();
        self.shards = shards;
        self.is_stirred = vec![true; count];
        self.mesh = (0..count * count).map(|_| VecDeque::new()).collect();
        self.by_id = vec![BTreeMap::new(); count];
        self.generations = vec![Vec::new(); count];
        self.free_slots = vec![Vec::new(); count];
    }

    pub(crate) fn note_line(&mut self, line: &str) {
        self.trace.note(format!("{} {line}", self.now.as_micros()));
    }
}
