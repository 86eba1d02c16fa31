//! Lists in pages: where the last one ended, and how the next one is collected from the shards.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;

/// Items of a page unless the request says otherwise.
const LIMIT_DEFAULT: u32 = 100;
/// Most items of a page.
const LIMIT_MAX: u32 = 1000;
/// Entries that a shard looks at for a list in one of its turns: some ten microseconds of it.
pub(super) const EXAMINE: usize = 256;
/// Version of the form of cursors, so that one from before an update is not misread.
const FORM: u8 = 1;

/// Where a page ended. To those who send requests it is opaque.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The shard that is to go on.
    pub(super) shard: u16,
    /// From where in it, as it counts.
    pub(super) place: u64,
}

impl Cursor {
    /// What a request says in `after`; the beginning where it says nothing.
    ///
    /// # Errors
    /// It is none of ours, or one of a broker with more shards.
    pub(super) fn parse(after: Option<&str>, shards: usize) -> Result<Self, Problem> {
        let Some(after) = after else { return Ok(Self::default()) };
        let parse = || {
            let bytes: [u8; 11] = BASE64_URL_SAFE_NO_PAD.decode(after).ok()?.try_into().ok()?;
            let [form, shard @ .., _, _, _, _, _, _, _, _] = bytes;
            let place = bytes[3..].try_into().ok()?;
            let cursor = Self { shard: u16::from_be_bytes(shard), place: u64::from_be_bytes(place) };
            (form == FORM && usize::from(cursor.shard) < shards).then_some(cursor)
        };
        parse().ok_or_else(|| {
            Problem::bad_request("after is no cursor of this broker: it is what a page has as its \"next\"")
        })
    }

    fn to_text(self) -> String {
        let mut bytes = vec![FORM];
        bytes.extend(self.shard.to_be_bytes());
        bytes.extend(self.place.to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// A place that is the number of a slot.
///
/// # Errors
/// There cannot be so many.
pub(super) fn slot(place: u64) -> Result<u32, Problem> {
    u32::try_from(place).map_err(|_| Problem::bad_request("after is the cursor of another list"))
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
    pub(super) next: Option<u64>,
}

/// Collects a page from slices, which `ask` gets for a shard, a place in it and how many items are wanted.
///
/// # Errors
/// A shard does not answer.
pub(super) async fn collect<T>(
    from: Cursor,
    shards: usize,
    limit: usize,
    ask: impl AsyncFn(usize, u64, usize) -> Result<Slice<T>, Problem>,
) -> Result<Page<T>, Problem> {
    let mut items = Vec::new();
    let mut cursor = from;
    while usize::from(cursor.shard) < shards {
        if items.len() >= limit {
            return Ok(Page { items, next: Some(cursor.to_text()) });
        }
        let slice = ask(usize::from(cursor.shard), cursor.place, limit - items.len()).await?;
        items.extend(slice.items);
        cursor = match slice.next {
            Some(place) => Cursor { place, ..cursor },
            None => Cursor { shard: cursor.shard + 1, place: 0 },
        };
    }
    Ok(Page { items, next: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for cursor in [Cursor::default(), Cursor { shard: 7, place: u64::MAX }, Cursor { shard: 127, place: 1 }] {
            assert_eq!(Cursor::parse(Some(&cursor.to_text()), 128).unwrap(), cursor);
        }
        assert_eq!(Cursor::parse(None, 1).unwrap(), Cursor::default());
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let of_more_shards = Cursor { shard: 2, place: 0 }.to_text();
        let of_another_form = BASE64_URL_SAFE_NO_PAD.encode([9; 11]);
        for after in ["", "x", "AQAA", "ÿ", "AQAAAAAAAAAAAAA=", &of_more_shards, &of_another_form] {
            assert!(Cursor::parse(Some(after), 2).is_err(), "{after}");
        }
    }

    #[test]
    fn pages_together_are_the_list() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // Three shards with five items each, that give two in a slice at most, and an empty slice now and then.
        let ask = async |shard: usize, place: u64, at_most: usize| {
            let end = if place == 2 { 2 } else { 5.min(place + at_most.min(2) as u64) };
            let items = (place..end).map(|item| (shard, item)).collect();
            let next = if place == 2 { 3 } else { end };
            Ok(Slice { items, next: (next < 5).then_some(next) })
        };
        for limit in 1..20 {
            let (mut all, mut cursor) = (Vec::new(), Cursor::default());
            loop {
                let page = runtime.block_on(collect(cursor, 3, limit, ask)).unwrap();
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
