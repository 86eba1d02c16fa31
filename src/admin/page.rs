//! Lists in pages: where the last one ended, and how the next one is collected from the shards.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::net::desk::Desk;
use crate::shard::{Shard, inspect};
use crate::timer::Moment;

/// Items of a page unless the request says otherwise.
const LIMIT_DEFAULT: u32 = 100;
/// Most items of a page.
const LIMIT_MAX: u32 = 1000;
/// Entries that a shard looks at for a list in one of its turns: some ten microseconds of it.
pub(super) const EXAMINE: usize = 256;
/// Version of the form of cursors, so that one from before an update is not misread.
const FORM: u8 = 1;

/// Where a page ended. To those who send requests it is opaque.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The shard that is to go on.
    shard: u16,
    /// From where in it, in the words of the list.
    place: Place,
}

/// A place in the part of a list that one shard has; empty: its beginning.
pub(super) type Place = String;

/// The place with this number; zero is the beginning, and so is what is no number.
pub(super) fn number(place: &str) -> u64 {
    place.parse().unwrap_or(0)
}

impl Cursor {
    /// What a request says in `after`; the beginning where it says nothing.
    ///
    /// # Errors
    /// It is none of ours, or one of a broker with more shards.
    pub(super) fn parse(after: Option<&str>, shards: usize) -> Result<Self, Problem> {
        let Some(after) = after else { return Ok(Self::default()) };
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(after).ok()?;
            let [FORM, high, low, place @ ..] = bytes.as_slice() else { return None };
            let cursor =
                Self { shard: u16::from_be_bytes([*high, *low]), place: String::from_utf8(place.to_vec()).ok()? };
            (usize::from(cursor.shard) < shards).then_some(cursor)
        };
        parse().ok_or_else(|| {
            Problem::bad_request("after is no cursor of this broker: it is what a page has as its \"next\"")
        })
    }

    fn to_text(&self) -> String {
        let mut bytes = vec![FORM];
        bytes.extend(self.shard.to_be_bytes());
        bytes.extend(self.place.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// How many items a request asks for.
///
/// # Errors
/// None, or too many.
pub(super) fn limit(limit: Option<u32>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        _ => Err(Problem::bad_request(format!("limit has to be from 1 to {LIMIT_MAX}"))),
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// To be sent as `after` for the page that follows; `null` on the last one.
    #[schema(required)]
    pub(super) next: Option<String>,
}

/// What a shard gives of a list in one of its turns.
pub(super) struct Slice<T> {
    pub(super) items: Vec<T>,
    /// Where it goes on; `None` at the end of this shard.
    pub(super) next: Option<Place>,
}

impl<T> Slice<T> {
    pub(super) fn map<U>(self, of: impl FnMut(T) -> U) -> Slice<U> {
        Slice { items: self.items.into_iter().map(of).collect(), next: self.next }
    }
}

/// What a shard gives in one of its turns: at most so many items, and at most [`EXAMINE`] slots looked at. `give` gives what it finds in so
/// many slots from one on.
pub(super) fn examine<T>(
    place: &str,
    at_most: usize,
    mut give: impl FnMut(u32, usize) -> inspect::Page<T>,
) -> Slice<T> {
    // A cursor of another list may name a slot that there cannot be: it is behind the last one.
    let mut from = u32::try_from(number(place)).unwrap_or(u32::MAX);
    let (mut items, mut left) = (Vec::new(), EXAMINE);
    while left > 0 && items.len() < at_most {
        // No more slots than there is room for what is found in them.
        let slots = left.min(at_most - items.len());
        let page = give(from, slots);
        items.extend(page.items);
        left -= slots;
        match page.next {
            Some(next) => from = next,
            None => return Slice { items, next: None },
        }
    }
    Slice { items, next: Some(from.to_string()) }
}

/// Collects a page from slices, which shards give in turns of theirs: `job` is told the place to begin at, and how many items are wanted.
///
/// # Errors
/// A shard does not answer.
pub(super) async fn collect<T: Send + 'static>(
    desk: &Desk,
    from: Cursor,
    limit: usize,
    job: impl Fn(Moment, &Shard, &str, usize) -> Slice<T> + Clone + Send + 'static,
) -> Result<Page<T>, Problem> {
    let mut collection = Collection { items: Vec::new(), cursor: from, limit, shards: desk.shards() };
    while let Some((shard, place, at_most)) = collection.wanted() {
        let (job, place) = (job.clone(), place.clone());
        collection.add(desk.ask(shard, move |now, shard| job(now, shard, &place, at_most)).await?);
    }
    Ok(collection.page())
}

/// A page on its way.
struct Collection<T> {
    items: Vec<T>,
    cursor: Cursor,
    limit: usize,
    shards: usize,
}

impl<T> Collection<T> {
    /// The shard to be asked next, from which place in it, and for how many items; `None`: the page is complete.
    fn wanted(&self) -> Option<(usize, &Place, usize)> {
        let Cursor { shard, ref place } = self.cursor;
        let is_complete = usize::from(shard) >= self.shards || self.items.len() >= self.limit;
        (!is_complete).then(|| (usize::from(shard), place, self.limit - self.items.len()))
    }

    fn add(&mut self, slice: Slice<T>) {
        self.items.extend(slice.items);
        self.cursor = match slice.next {
            Some(place) => Cursor { shard: self.cursor.shard, place },
            None => Cursor { shard: self.cursor.shard + 1, place: Place::new() },
        };
    }

    fn page(self) -> Page<T> {
        let has_next = usize::from(self.cursor.shard) < self.shards;
        Page { items: self.items, next: has_next.then(|| self.cursor.to_text()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for (shard, place) in [(0, ""), (7, "18446744073709551615"), (127, "a/b/é")] {
            let cursor = Cursor { shard, place: place.to_owned() };
            assert_eq!(Cursor::parse(Some(&cursor.to_text()), 128).unwrap(), cursor);
        }
        assert_eq!(Cursor::parse(None, 1).unwrap(), Cursor::default());
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let of_more_shards = Cursor { shard: 2, place: Place::new() }.to_text();
        let of_another_form = URL_SAFE_NO_PAD.encode([9; 11]);
        for after in ["", "x", "AQA", "ÿ", "AQAAAAAAAAAAAAA=", &of_more_shards, &of_another_form] {
            assert!(Cursor::parse(Some(after), 2).is_err(), "{after}");
        }
    }

    #[test]
    fn a_slice_has_no_more_than_is_wanted_and_looks_at_no_more_than_it_may() {
        // Every hundredth slot of ten thousand has an item.
        let give = |from: u32, slots: usize| {
            let end = (from + slots as u32).min(10_000);
            let items = (from..end).filter(|slot| slot % 100 == 0).collect();
            inspect::Page { items, next: (end < 10_000).then_some(end) }
        };
        let slice = examine("", 2, give);
        assert_eq!((slice.items, slice.next.as_deref()), (vec![0, 100], Some("101")));
        let slice = examine("1", 1000, give);
        assert_eq!((slice.items, slice.next.as_deref()), (vec![100, 200], Some("257")));
        let slice = examine("9990", 1, give);
        assert_eq!((slice.items, slice.next), (vec![], None));
    }

    #[test]
    fn pages_together_are_the_list() {
        // Three shards with four items each, which give two in a slice at most, and an empty slice now and then.
        let give = |shard: usize, place: u64, at_most: usize| {
            let end = 5.min(place + at_most.min(2) as u64);
            let items = (place..end).filter(|item| *item != 2).map(|item| (shard, item)).collect();
            Slice { items, next: (end < 5).then(|| end.to_string()) }
        };
        for limit in 1..20 {
            let (mut all, mut cursor) = (Vec::new(), Cursor::default());
            loop {
                let mut collection = Collection { items: Vec::new(), cursor, limit, shards: 3 };
                while let Some((shard, place, at_most)) = collection.wanted() {
                    let slice = give(shard, number(place), at_most);
                    collection.add(slice);
                }
                let page = collection.page();
                assert!(page.items.len() <= limit);
                all.extend(page.items);
                let Some(next) = page.next else { break };
                cursor = Cursor::parse(Some(&next), 3).unwrap();
            }
            let expected: Vec<_> = (0..3).flat_map(|shard| [0, 1, 3, 4].map(|item| (shard, item))).collect();
            assert_eq!(all, expected, "limit {limit}");
        }
    }
}
