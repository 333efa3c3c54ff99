//! Values of a body read as fastjson casts them: a number or a truth value may come as text.
//!
//! The C++ client writes the version of a subscription as text, the Go client the codes of tags.
//! Source: TypeUtils.cast (fastjson 1.2.76).

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde_json::{Error, Value};
use std::str::FromStr;

/// Reads one value, and all in it, so.
pub(super) struct Lenient(pub Value);

/// A number where Java has one: what no number can be read from stays as it is, and fails.
fn number<T: FromStr + Into<Value>>(value: Value) -> Value {
    match value {
        Value::String(text) => match text.trim().parse::<T>() {
            Ok(number) => number.into(),
            Err(_) => Value::String(text),
        },
        other => other,
    }
}

fn truth(value: Value) -> Value {
    match &value {
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => true.into(),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => false.into(),
        Value::Number(number) => (number.as_i64() == Some(1)).into(),
        _ => value,
    }
}

macro_rules! numbers {
    ($($name:ident: $type:ty,)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            number::<$type>(self.0).$name(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    numbers! {
        deserialize_i8: i8,
        deserialize_i16: i16,
        deserialize_i32: i32,
        deserialize_i64: i64,
        deserialize_u8: u8,
        deserialize_u16: u16,
        deserialize_u32: u32,
        deserialize_u64: u64,
        deserialize_f32: f32,
        deserialize_f64: f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        truth(self.0).deserialize_bool(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(values) => {
                let mut left = SeqDeserializer::new(values.into_iter().map(Lenient));
                let read = visitor.visit_seq(&mut left)?;
                left.end()?;
                Ok(read)
            }
            Value::Object(members) => {
                let members = members.into_iter();
                let pairs = members.map(|(name, value)| (Lenient(name.into()), Lenient(value)));
                let mut left = MapDeserializer::new(pairs);
                let read = visitor.visit_map(&mut left)?;
                left.end()?;
                Ok(read)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any i128 u128
    }
}

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
