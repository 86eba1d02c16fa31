//! What a journal keeps of who a client is, beside its User Name.
//!
//! A will is checked against the rights of its client when it is published, be that after a restart, so all that rights may depend on lies
//! with the Session. Most clients have nothing of the kind; their records are then as they were before there were facts.
//!
//! A block of facts is a flags byte (1: granted), the number of fields, for each its name and its value, and \[the granted filters for
//! publish, subscribe, receive and will, each list behind its length\]. It is never written where all of that is missing.

use super::encoding::{Malformed, Reader, Writer};
use crate::security::{Granted, Identity};
use crate::topic::TopicFilter;
use std::fmt;
use std::sync::Arc;

/// The fields and the granted rights of an [`Identity`], or the same as they lie in a journal.
#[derive(Clone, Copy)]
pub struct Facts<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Identity(&'a Identity),
    /// Known to be well formed; empty where there are none.
    Encoded(&'a [u8]),
}

impl<'a> Facts<'a> {
    /// Those of `identity`.
    pub fn of(identity: &'a Identity) -> Self {
        Self(Source::Identity(identity))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self.0 {
            Source::Identity(identity) => identity.fields.is_empty() && identity.granted.is_none(),
            Source::Encoded(block) => block.is_empty(),
        }
    }

    /// Who that is, together with a User Name.
    pub fn identity(&self, username: Option<&str>) -> Identity {
        let username = username.map(Arc::from);
        match self.0 {
            Source::Identity(identity) => Identity { username, ..identity.clone() },
            Source::Encoded([]) => Identity { username, ..Identity::default() },
            Source::Encoded(block) => {
                let (fields, granted) = parse(block).expect("facts are checked when they are read");
                Identity { username, fields: fields.into(), granted: granted.map(Arc::new) }
            }
        }
    }

    /// A block that was read, if it is one.
    pub(super) fn from_encoded(block: &'a [u8]) -> Result<Self, Malformed> {
        match parse(block)? {
            (fields, None) if fields.is_empty() => Err(Malformed::Value),
            _ => Ok(Self(Source::Encoded(block))),
        }
    }

    /// The block; empty where there are no facts.
    pub(super) fn encoded(&self) -> Vec<u8> {
        match self.0 {
            Source::Encoded(block) => block.to_vec(),
            Source::Identity(_) if self.is_empty() => Vec::new(),
            Source::Identity(identity) => block_of(identity),
        }
    }
}

fn block_of(identity: &Identity) -> Vec<u8> {
    let mut block = Vec::new();
    let mut writer = Writer(&mut block);
    writer.byte(u8::from(identity.granted.is_some()));
    writer.number(identity.fields.len() as u64);
    for (name, value) in &*identity.fields {
        writer.text(name);
        writer.text(value);
    }
    if let Some(granted) = &identity.granted {
        for filters in [&granted.publish, &granted.subscribe, &granted.receive, &granted.will] {
            writer.number(filters.len() as u64);
            filters.iter().for_each(|filter| writer.text(filter.as_str()));
        }
    }
    block
}

type Fields = Vec<(Box<str>, Box<str>)>;

fn parse(block: &[u8]) -> Result<(Fields, Option<Granted>), Malformed> {
    let mut reader = Reader::new(block);
    let has_granted = reader.flags(1)? != 0;
    let mut fields = Fields::new();
    for _ in 0..reader.number()? {
        fields.push((reader.text()?.into(), reader.text()?.into()));
    }
    let mut filters = || (0..reader.number()?).map(|_| filter(&mut reader)).collect::<Result<Vec<_>, _>>();
    let granted = if has_granted {
        Some(Granted { publish: filters()?, subscribe: filters()?, receive: filters()?, will: filters()? })
    } else {
        None
    };
    if reader.is_empty() { Ok((fields, granted)) } else { Err(Malformed::Value) }
}

fn filter(reader: &mut Reader<'_>) -> Result<TopicFilter, Malformed> {
    TopicFilter::parse(reader.text()?).map_err(|_| Malformed::Value)
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Self(Source::Encoded(&[]))
    }
}

impl PartialEq for Facts<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.encoded() == other.encoded()
    }
}

impl Eq for Facts<'_> {}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { fields, granted, .. } = self.identity(None);
        f.debug_struct("Facts").field("fields", &fields).field("granted", &granted).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::parse(text).expect("a Topic Filter")).collect()
    }

    #[test]
    fn an_identity_comes_back_as_it_was() {
        let granted = Granted { publish: filters(&["a/+", "b"]), will: filters(&["#"]), ..Granted::default() };
        let fields: Fields = vec![("cert.cn".into(), "lamp".into()), ("claim.site".into(), "".into())];
        for fields in [Fields::new(), fields] {
            for granted in [None, Some(Granted::default()), Some(granted.clone())] {
                let identity = Identity {
                    username: Some("ü".into()),
                    fields: fields.clone().into(),
                    granted: granted.clone().map(Arc::new),
                };
                let block = Facts::of(&identity).encoded();
                let is_empty = identity.fields.is_empty() && identity.granted.is_none();
                assert_eq!(block.is_empty(), is_empty);
                if !is_empty {
                    let read = Facts::from_encoded(&block).expect("a block");
                    assert_eq!(read.identity(Some("ü")), identity);
                }
            }
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let truncated = Malformed::Truncated;
        for (block, error) in [
            (&[][..], truncated),
            (&[0, 0], Malformed::Value),                            // It should not be there.
            (&[2, 0], Malformed::Value),                            // A flag that is not known.
            (&[0, 1, 1, b'a'], truncated),                          // A field without a value.
            (&[0, 1, 1, b'a', 1, 0xFF], Malformed::Text),           // A value that is no text.
            (&[1, 0, 0, 0, 0], truncated),                          // Three lists.
            (&[1, 0, 0, 0, 0, 1, 2, b'#', b'a'], Malformed::Value), // No Topic Filter.
            (&[1, 0, 0, 0, 0, 0, 0], Malformed::Value),             // Something behind it.
            (&[0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], truncated),
        ] {
            assert_eq!(Facts::from_encoded(block), Err(error), "{block:?}");
        }
    }
}
