//! Typed headers as tables: one line per field, both directions from it.

use super::Ext;
use crate::protocol::HeaderError;

/// A field's type: how it reads and how it prints.
pub trait FieldValue: Sized {
    fn read(ext: &Ext<'_>, name: &'static str) -> Result<Self, HeaderError>;
    /// None leaves the field out, as Java does with null.
    fn print(&self) -> Option<String>;
}

macro_rules! field_values {
    ($($type:ty, $read:ident;)*) => {$(
        impl FieldValue for $type {
            fn read(ext: &Ext<'_>, name: &'static str) -> Result<Self, HeaderError> {
                ext.$read(name)?.ok_or(HeaderError::Missing { field: name })
            }
            fn print(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
        impl FieldValue for Option<$type> {
            fn read(ext: &Ext<'_>, name: &'static str) -> Result<Self, HeaderError> {
                ext.$read(name)
            }
            fn print(&self) -> Option<String> {
                self.as_ref().map(ToString::to_string)
            }
        }
    )*};
}

field_values! {
    String, text;
    i32, i32;
    i64, i64;
}

/// A primitive boolean: absent is false.
impl FieldValue for bool {
    fn read(ext: &Ext<'_>, name: &'static str) -> Result<Self, HeaderError> {
        Ok(ext.bool(name)?.unwrap_or_default())
    }
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Makes a struct per header, with `decode` and `to_ext`. An `Option` may be absent; a plain
/// boolean is false when absent; any other field is required.
macro_rules! headers {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $type:ty = $wire:literal,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl $name {
            /// Errors: a required field is missing, or a number is none.
            pub fn decode(
                ext: &$crate::protocol::header::Ext<'_>,
            ) -> Result<Self, $crate::protocol::HeaderError> {
                use $crate::protocol::header::FieldValue;
                Ok($name { $($field: <$type as FieldValue>::read(ext, $wire)?,)* })
            }

            /// The fields as the wire carries them.
            pub fn to_ext(&self) -> Vec<(String, String)> {
                use $crate::protocol::header::FieldValue;
                let fields = [$(($wire, self.$field.print()),)*];
                let present = fields.into_iter();
                present.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
            }
        }
    )*};
}
