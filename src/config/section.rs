//! From a list of keys to a struct, its defaults, and the way to reach each key by its name.

use super::kind::Given;

/// A struct that [`section!`] wrote.
pub(super) trait Section {
    /// Appends this section and those within it, each key with its present value.
    fn describe(&self, header: Header, doc: &'static [&'static str], out: &mut Vec<Group>);

    /// Parses, checks and stores the value of `key`, such as `allow.topics` within `wills`.
    ///
    /// `None`: there is no such key. An error says what is wrong with the value.
    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Rejected>>;
}

/// Why a value was not taken, and what would have been.
pub(super) struct Rejected {
    pub(super) reason: String,
    pub(super) allowed: String,
}

/// The name of a section, and how it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// The keys before the first table.
    Top,
    Table(String),
    /// One item of an array of tables.
    Item(String),
}

impl Header {
    /// The path of a key or section within this one.
    pub(super) fn join(&self, name: &str) -> String {
        match self {
            Self::Top => name.to_owned(),
            Self::Table(path) | Self::Item(path) => format!("{path}.{name}"),
        }
    }
}

/// A section as it is printed.
pub(super) struct Group {
    pub(super) header: Header,
    /// What an operator reads, one line of source per item.
    pub(super) doc: &'static [&'static str],
    pub(super) keys: Vec<Key>,
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
                header: $crate::config::section::Header,
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
                $(let $section = $crate::config::section::Header::Table(header.join(stringify!($section)));)*
                $(let $list = $crate::config::section::Header::Item(header.join(stringify!($list)));)*
                out.push(Group { header, doc, keys });
                $(self.$section.describe($section, &[$($section_doc),*], out);)*
                $(for item in &self.$list {
                    item.describe($list.clone(), &[$($list_doc),*], out);
                })*
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
                None
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
