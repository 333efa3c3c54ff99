//! Bodies to and from JSON text, in both dialects.

use super::fastjson::{self, FastjsonError};
use super::lenient::Lenient;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use std::io::{self, Write};

/// Deeper bodies are refused; the deepest that RocketMQ writes has 6.
const DEPTH_MAX: usize = 32;

/// How keys of maps with numbers as keys are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Bare, as 4.9.3 prints them. Clients of that age split the text by hand.
    Fastjson,
    /// In quotes, as the standard wants and 4.9.4 prints them for newer clients.
    Standard,
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("compressed body: {0}")]
    Compressed(String),
    #[error("body of {size} bytes, the most allowed is {size_max}")]
    TooLong { size: usize, size_max: usize },
    #[error("body is no JSON {0}")]
    Text(#[from] FastjsonError),
    #[error("body is an array, expected an object")]
    Array,
    #[error("body has an unexpected shape: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Prints a body compactly.
pub fn encode(body: &impl Serialize, dialect: Dialect) -> Bytes {
    let mut out = Vec::with_capacity(256);
    let written = match dialect {
        Dialect::Fastjson => {
            body.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Bare::default()))
        }
        Dialect::Standard => serde_json::to_writer(&mut out, body),
    };
    written.expect("bodies have text or numbers as keys, and memory takes every write");
    out.into()
}

/// Reads a body of either dialect. A member that is null is as good as absent, and numbers may come
/// as text.
///
/// Errors: the text is no JSON, is no object, or a member is of another type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let value = fastjson::read(bytes, DEPTH_MAX)?;
    if value.is_array() {
        // Serde would take its items for the members in their order.
        return Err(BodyError::Array);
    }
    typed(value)
}

/// As `decode`, of an array.
pub(super) fn decode_list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, BodyError> {
    typed(fastjson::read(bytes, DEPTH_MAX)?)
}

fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T, BodyError> {
    drop_nulls(&mut value);
    Ok(T::deserialize(Lenient(value))?)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Prints keys that are numbers without quotes, and escapes as fastjson does. serde_json opens a
/// string, writes a number and closes the string for such a key: the quote waits for what comes.
#[derive(Default)]
struct Bare {
    has_open_quote: bool,
    is_number: bool,
}

impl Bare {
    fn settle(&mut self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        if std::mem::take(&mut self.has_open_quote) { out.write_all(b"\"") } else { Ok(()) }
    }

    fn number(&mut self) {
        self.is_number = std::mem::take(&mut self.has_open_quote);
    }
}

macro_rules! numbers {
    ($($name:ident: $type:ty,)*) => {$(
        fn $name<W: Write + ?Sized>(&mut self, out: &mut W, value: $type) -> io::Result<()> {
            self.number();
            CompactFormatter.$name(out, value)
        }
    )*};
}

impl Formatter for Bare {
    numbers! {
        write_i32: i32,
        write_i64: i64,
        write_u32: u32,
        write_u64: u64,
    }

    fn begin_string<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_open_quote = true;
        Ok(())
    }

    fn end_string<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        if std::mem::take(&mut self.is_number) {
            return Ok(());
        }
        self.settle(out)?;
        out.write_all(b"\"")
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.settle(out)?;
        let mut from = 0;
        for (at, c) in fragment.char_indices() {
            if fastjson::is_plain(c) {
                continue;
            }
            out.write_all(&fragment.as_bytes()[from..at])?;
            write_escape(out, c)?;
            from = at + c.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[from..])
    }

    fn write_char_escape<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.settle(out)?;
        let c = match escape {
            CharEscape::Quote => '"',
            CharEscape::ReverseSolidus => '\\',
            CharEscape::Solidus => '/',
            CharEscape::Backspace => '\u{8}',
            CharEscape::FormFeed => '\u{c}',
            CharEscape::LineFeed => '\n',
            CharEscape::CarriageReturn => '\r',
            CharEscape::Tab => '\t',
            CharEscape::AsciiControl(byte) => char::from(byte),
        };
        write_escape(out, c)
    }
}

fn write_escape(out: &mut (impl Write + ?Sized), c: char) -> io::Result<()> {
    let mut written = Ok(());
    fastjson::write_escape(c, |bytes| written = out.write_all(bytes));
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn number_keys_are_bare_in_one_dialect_and_quoted_in_the_other() {
        let body = BTreeMap::from([(0_i64, "a"), (1, "")]);
        assert_eq!(encode(&body, Dialect::Fastjson), "{0:\"a\",1:\"\"}");
        assert_eq!(encode(&body, Dialect::Standard), "{\"0\":\"a\",\"1\":\"\"}");
        for dialect in [Dialect::Fastjson, Dialect::Standard] {
            let text = encode(&body, dialect);
            let back: BTreeMap<i64, String> = decode(&text).unwrap();
            assert_eq!(back[&0], "a");
        }
    }

    #[test]
    fn text_is_escaped_as_fastjson_does() {
        let body = BTreeMap::from([("", "\u{1}\u{1b}\n\"\\/\u{7f}\u{2028}\u{e4}")]);
        let text = "{\"\":\"\\u0001\\u001B\\n\\\"\\\\/\\u007F\\u2028\u{e4}\"}";
        assert_eq!(encode(&body, Dialect::Fastjson), text);
    }

    #[test]
    fn a_body_of_another_shape_says_so() {
        let error = decode::<(i32,)>(b"[1]").unwrap_err();
        assert_eq!(error.to_string(), "body is an array, expected an object");
        assert_eq!(decode_list::<i32>(b"[1]").unwrap(), [1]);
        let error = decode::<BTreeMap<String, i32>>(b"{\"a\":[]}").unwrap_err();
        assert!(error.to_string().starts_with("body has an unexpected shape: "), "{error}");
        let error = decode::<BTreeMap<String, i32>>(b"{1").unwrap_err();
        assert_eq!(error.to_string(), "body is no JSON at byte 2: ':' expected");
    }
}
