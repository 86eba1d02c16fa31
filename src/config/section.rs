//! From a list of keys to a struct, its defaults and the table of its keys.

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
    };
}
pub(super) use section;

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
    };
}
pub(super) use choices;
