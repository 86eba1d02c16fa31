//! What is in flight, each under the index that its tag carries.

/// Things that are with the kernel.
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Adds a thing, and says under which index.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(thing);
        index
    }

    /// The thing that a completion names.
    ///
    /// # Panics
    /// When it is not there: a thing stays until its last completion.
    pub(super) fn at(&mut self, index: u32) -> &mut T {
        self.slots[index as usize].as_mut().expect("in flight until its completion")
    }

    /// Takes a thing out after its last completion.
    ///
    /// # Panics
    /// As [`Slab::at`].
    pub(super) fn remove(&mut self, index: u32) -> T {
        let thing = self.slots[index as usize].take().expect("in flight until its completion");
        self.free.push(index);
        thing
    }

    /// Whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// Gives all of it up: the kernel may still use it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slots));
        self.free.clear();
    }
}
