//! From a list of keys to a struct, its defaults, and the way to reach each key by its name.

use super::kind::Given;

/// A struct that [`section!`] wrote.
pub(super) trait Section {
    /// Appends this section and those within it, each key with its present value. Of an empty list comes one example.
    fn describe(&self, place: Place, doc: &'static [&'static str], out: &mut Vec<Group>);

    /// Parses, checks and stores the value of `key`, such as `allow.topics` within `wills`, or `listeners.0.address`.
    ///
    /// `None`: there is no such key, or no such item of a list. An error says what is wrong with the value.
    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Rejected>>;

    /// The list with this name.
    fn list(&mut self, name: &str) -> Option<&mut dyn List>;
}

/// An array of tables, whatever is in it.
pub(super) trait List {
    fn len(&self) -> usize;
    fn clear(&mut self);
    /// Appends an item that has nothing but defaults.
    fn push_default(&mut self);
}

impl<T: Default> List for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn push_default(&mut self) {
        self.push(T::default());
    }
}

/// Appends the items of a list, or one with the defaults as an example where there is none.
pub(super) fn describe_items<T: Section + Default>(
    items: &[T],
    place: &Place,
    doc: &'static [&'static str],
    out: &mut Vec<Group>,
) {
    items.iter().for_each(|item| item.describe(place.clone(), doc, out));
    if items.is_empty() {
        let begin = out.len();
        T::default().describe(place.clone(), doc, out);
        out[begin..].iter_mut().for_each(|group| group.is_example = true);
    }
}

/// Stores the value of a key of an item: `0.address` within `listeners`.
pub(super) fn set_in_item<T: Section>(items: &mut [T], key: &str, given: Given<'_>) -> Option<Result<(), Rejected>> {
    let (index, key) = key.split_once('.')?;
    items.get_mut(index.parse::<usize>().ok()?)?.set(key, given)
}

/// Why a value was not taken, and what would have been.
pub(super) struct Rejected {
    pub(super) reason: String,
    pub(super) allowed: String,
}

/// Where a section stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Empty for the keys before the first table.
    pub(super) path: String,
    /// The array of tables in which it stands, or whose items it is.
    pub(super) list: Option<String>,
}

impl Place {
    /// That of a table within this one.
    pub(super) fn table(&self, name: &str) -> Self {
        Self { path: self.key(name), list: self.list.clone() }
    }

    /// That of the items of a list within this one.
    pub(super) fn item(&self, name: &str) -> Self {
        Self { path: self.key(name), list: Some(self.key(name)) }
    }

    /// The path of a key or section within this one, as it stands in the file.
    pub(super) fn key(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// As [`Place::key`], and where this stands in a list, for the first item of it.
    pub(super) fn key_of_first(&self, name: &str) -> String {
        self.key_of(0, name)
    }

    /// As [`Place::key`], and where this stands in a list, for the item with this number.
    pub(super) fn key_of(&self, item: usize, name: &str) -> String {
        let key = self.key(name);
        match self.list.as_deref().and_then(|list| key.strip_prefix(list).map(|rest| (list, rest))) {
            Some((list, rest)) => format!("{list}.{item}{rest}"),
            None => key,
        }
    }

    /// The line that begins it; `None` before the first table.
    pub(super) fn header(&self) -> Option<String> {
        match self.path.as_str() {
            "" => None,
            path if self.is_item() => Some(format!("[[{path}]]")),
            path => Some(format!("[{path}]")),
        }
    }

    /// Whether it is an item of a list, and not a table.
    pub(super) fn is_item(&self) -> bool {
        self.list.as_ref() == Some(&self.path)
    }
}

/// A section as it is printed.
pub(super) struct Group {
    pub(super) place: Place,
    /// What an operator reads, one line of source per item.
    pub(super) doc: &'static [&'static str],
    pub(super) keys: Vec<Key>,
    /// It shows what an item of an empty list would be.
    pub(super) is_example: bool,
}

/// A key as it is printed.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    /// The allowed values in words.
    pub(super) allowed: String,
    /// The value as TOML; `None` when it is unset.
    pub(super) value: Option<String>,
}

/// Defines a struct with its `Default`, and what else follows from its keys.
///
/// A key is `name: Type = default, kind;` where `kind` says how the value is written and what range it has.
/// `sections` are tables within the struct, `lists` are arrays of tables.
macro_rules! section {
    (
        $(#[doc = $struct_doc:literal])*
        $Struct:ident {
            $($(#[doc = $doc:literal])* $name:ident: $Type:ty = $default:expr, $kind:expr;)*
        }
    ) => {
        section! {
            $(#[doc = $struct_doc])*
            $Struct { $($(#[doc = $doc])* $name: $Type = $default, $kind;)* }
            sections {}
            lists {}
        }
    };
    (
        $(#[doc = $struct_doc:literal])*
        $Struct:ident {
            $($(#[doc = $doc:literal])* $name:ident: $Type:ty = $default:expr, $kind:expr;)*
        }
        sections { $($(#[doc = $section_doc:literal])* $section:ident: $Section:ty,)* }
        lists { $($(#[doc = $list_doc:literal])* $list:ident: $Item:ty = $items:expr,)* }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Struct {
            $($(#[doc = $doc])* pub $name: $Type,)*
            $($(#[doc = $section_doc])* pub $section: $Section,)*
            $($(#[doc = $list_doc])* pub $list: Vec<$Item>,)*
        }

        impl Default for $Struct {
            fn default() -> Self {
                Self {
                    $($name: $default,)*
                    $($section: <$Section>::default(),)*
                    $($list: $items,)*
                }
            }
        }

        impl $crate::config::section::Section for $Struct {
            fn describe(
                &self,
                place: $crate::config::section::Place,
                doc: &'static [&'static str],
                out: &mut Vec<$crate::config::section::Group>,
            ) {
                use $crate::config::kind::Kind;
                use $crate::config::section::{Group, Key};
                let keys = vec![$(Key {
                    name: stringify!($name),
                    doc: &[$($doc),*],
                    allowed: Kind::<$Type>::allowed(&$kind),
                    value: Kind::<$Type>::show(&$kind, &self.$name),
                }),*];
                $(let $section = place.table(stringify!($section));)*
                $(let $list = place.item(stringify!($list));)*
                out.push(Group { place, doc, keys, is_example: false });
                $(self.$section.describe($section, &[$($section_doc),*], out);)*
                $($crate::config::section::describe_items(&self.$list, &$list, &[$($list_doc),*], out);)*
            }

            fn set(
                &mut self,
                key: &str,
                given: $crate::config::kind::Given<'_>,
            ) -> Option<Result<(), $crate::config::section::Rejected>> {
                use $crate::config::kind::Kind;
                use $crate::config::section::Rejected;
                $(if key == stringify!($name) {
                    return Some(match Kind::<$Type>::parse(&$kind, given) {
                        Ok(value) => {
                            self.$name = value;
                            Ok(())
                        }
                        Err(reason) => Err(Rejected { reason, allowed: Kind::<$Type>::allowed(&$kind) }),
                    });
                })*
                $(if let Some(key) = key.strip_prefix(concat!(stringify!($section), ".")) {
                    return self.$section.set(key, given);
                })*
                $(if let Some(key) = key.strip_prefix(concat!(stringify!($list), ".")) {
                    return $crate::config::section::set_in_item(&mut self.$list, key, given);
                })*
                None
            }

            fn list(&mut self, name: &str) -> Option<&mut dyn $crate::config::section::List> {
                match name {
                    $(stringify!($list) => Some(&mut self.$list),)*
                    _ => None,
                }
            }
        }
    };
}
pub(super) use section;

/// An enum whose variants have names in the file, and names that are known but refused, with the reason.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(Self, &'static str)];
    const REFUSED: &'static [(&'static str, &'static str)];
}

/// Defines an enum of named choices.
macro_rules! choices {
    (
        $(#[doc = $enum_doc:literal])*
        $Enum:ident { $($(#[doc = $doc:literal])* $Variant:ident = $name:literal,)* }
        refused { $($refused:literal = $reason:literal,)* }
    ) => {
        $(#[doc = $enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Enum { $($(#[doc = $doc])* $Variant,)* }

        impl $crate::config::section::Named for $Enum {
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$Variant, $name)),*];
            const REFUSED: &'static [(&'static str, &'static str)] = &[$(($refused, $reason)),*];
        }
    };
}
pub(super) use choices;
