//! The named text fields of a header.

use crate::protocol::HeaderError;
use crate::protocol::header_json::unescape;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// How many fields are read in place; a header with more is copied.
const SPANS_MAX: usize = 20;

/// Where one field stands in the header. Headers beyond 64 KiB and names beyond 255 bytes are
/// copied instead.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::protocol) struct Span {
    pub key: u16,
    pub key_size: u8,
    pub is_escaped: bool,
    pub value: u16,
    pub value_size: u16,
}

impl Span {
    /// None when a place or a size is too large.
    pub fn new(key: (usize, usize), value: (usize, usize), is_escaped: bool) -> Option<Span> {
        Some(Span {
            key: key.0.try_into().ok()?,
            key_size: (key.1 - key.0).try_into().ok()?,
            is_escaped,
            value: value.0.try_into().ok()?,
            value_size: (value.1 - value.0).try_into().ok()?,
        })
    }

    fn key(self) -> Range<usize> {
        let from = usize::from(self.key);
        from..from + usize::from(self.key_size)
    }

    fn value(self) -> Range<usize> {
        let from = usize::from(self.value);
        from..from + usize::from(self.value_size)
    }
}

/// The fields of one header, found by a scanner.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::protocol) struct SpanList {
    spans: [Span; SPANS_MAX],
    count: u8,
}

impl SpanList {
    /// False when the list is full.
    pub fn push(&mut self, span: Span) -> bool {
        let Some(free) = self.spans.get_mut(usize::from(self.count)) else { return false };
        *free = span;
        self.count += 1;
        true
    }
    fn as_slice(&self) -> &[Span] {
        &self.spans[..usize::from(self.count)]
    }
}

/// The fields of a header in their order on the wire. Names may repeat; the last one counts.
#[derive(Clone, Default)]
pub struct Ext<'a>(Fields<'a>);

#[derive(Clone, Default)]
enum Fields<'a> {
    #[default]
    Absent,
    Json(&'a str, SpanList),
    Binary(&'a [u8], SpanList),
    Owned(Vec<(String, String)>),
    Borrowed(&'a [(String, String)]),
}

/// One field, still as its bytes stand in the header.
#[derive(Clone, Copy, Debug)]
pub enum Field<'e> {
    Plain { key: &'e [u8], value: &'e [u8] },
    Text { key: &'e [u8], value: &'e str },
    Escaped { key: &'e [u8], value: &'e str },
}

impl<'a> Ext<'a> {
    pub(in crate::protocol) fn in_json(text: &'a str, spans: SpanList) -> Self {
        Ext(Fields::Json(text, spans))
    }
    pub(in crate::protocol) fn in_binary(bytes: &'a [u8], spans: SpanList) -> Self {
        Ext(Fields::Binary(bytes, spans))
    }
    pub fn owned(fields: Vec<(String, String)>) -> Self {
        Ext(Fields::Owned(fields))
    }
    pub fn borrowed(fields: &'a [(String, String)]) -> Self {
        Ext(Fields::Borrowed(fields))
    }

    /// The header has no fields member at all.
    pub fn is_absent(&self) -> bool {
        matches!(self.0, Fields::Absent)
    }

    /// How many fields, repeated names included.
    pub fn count(&self) -> usize {
        match &self.0 {
            Fields::Absent => 0,
            Fields::Json(_, spans) | Fields::Binary(_, spans) => spans.as_slice().len(),
            Fields::Owned(fields) => fields.len(),
            Fields::Borrowed(fields) => fields.len(),
        }
    }

    /// Field number `at` in the order of the wire.
    #[inline]
    pub fn field(&self, at: usize) -> Option<Field<'_>> {
        match &self.0 {
            Fields::Absent => None,
            Fields::Json(text, spans) => spans.as_slice().get(at).map(|span| json(text, *span)),
            Fields::Binary(bytes, spans) => {
                spans.as_slice().get(at).map(|span| binary(bytes, *span))
            }
            Fields::Owned(fields) => fields.get(at).map(owned),
            Fields::Borrowed(fields) => fields.get(at).map(owned),
        }
    }

    pub fn fields(&self) -> impl DoubleEndedIterator<Item = Field<'_>> {
        (0..self.count()).filter_map(|at| self.field(at))
    }

    /// Shows every field to `take`, in the order of the wire, until it refuses one. The quick way
    /// for typed headers.
    #[inline]
    pub(super) fn each<'e>(
        &'e self,
        mut take: impl FnMut(Field<'e>) -> Result<(), HeaderError>,
    ) -> Result<(), HeaderError> {
        match &self.0 {
            Fields::Absent => Ok(()),
            Fields::Json(text, spans) => {
                spans.as_slice().iter().try_for_each(|span| take(json(text, *span)))
            }
            Fields::Binary(bytes, spans) => {
                spans.as_slice().iter().try_for_each(|span| take(binary(bytes, *span)))
            }
            Fields::Owned(fields) => fields.iter().try_for_each(|field| take(owned(field))),
            Fields::Borrowed(fields) => fields.iter().try_for_each(|field| take(owned(field))),
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.last(name).map(Field::text)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.fields().map(|field| (String::from_utf8_lossy(field.key()), field.text()))
    }

    pub fn to_vec(&self) -> Vec<(String, String)> {
        self.iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    }

    fn last(&self, name: &str) -> Option<Field<'_>> {
        self.fields().rev().find(|field| field.key() == name.as_bytes())
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, HeaderError> {
        Ok(self.get(name).map(Cow::into_owned))
    }
    pub(super) fn i32(&self, name: &'static str) -> Result<Option<i32>, HeaderError> {
        self.last(name).map(|field| field.i32(name)).transpose()
    }
    pub(super) fn i64(&self, name: &'static str) -> Result<Option<i64>, HeaderError> {
        self.last(name).map(|field| field.i64(name)).transpose()
    }
    pub(super) fn bool(&self, name: &'static str) -> Result<Option<bool>, HeaderError> {
        Ok(self.last(name).map(Field::bool))
    }
}

impl fmt::Debug for Ext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_absent() {
            return f.write_str("absent");
        }
        f.debug_map().entries(self.iter()).finish()
    }
}

#[inline]
fn json(text: &str, span: Span) -> Field<'_> {
    let (key, value) = (&text.as_bytes()[span.key()], &text[span.value()]);
    if span.is_escaped { Field::Escaped { key, value } } else { Field::Text { key, value } }
}

#[inline]
fn binary(bytes: &[u8], span: Span) -> Field<'_> {
    Field::Plain { key: &bytes[span.key()], value: &bytes[span.value()] }
}

fn owned((key, value): &(String, String)) -> Field<'_> {
    Field::Text { key: key.as_bytes(), value }
}

impl<'e> Field<'e> {
    pub fn key(self) -> &'e [u8] {
        match self {
            Field::Plain { key, .. } | Field::Text { key, .. } | Field::Escaped { key, .. } => key,
        }
    }

    pub fn text(self) -> Cow<'e, str> {
        match self {
            Field::Plain { value, .. } => String::from_utf8_lossy(value),
            Field::Text { value, .. } => Cow::Borrowed(value),
            Field::Escaped { value, .. } => Cow::Owned(unescape(value)),
        }
    }

    fn bytes(self) -> &'e [u8] {
        match self {
            Field::Plain { value, .. } => value,
            Field::Text { value, .. } | Field::Escaped { value, .. } => value.as_bytes(),
        }
    }

    pub fn i32(self, name: &'static str) -> Result<i32, HeaderError> {
        match self.integer() {
            Some(number) if i32::try_from(number).is_ok() => Ok(number as i32),
            _ => Err(HeaderError::field(name, &self.text(), "a 32-bit integer")),
        }
    }

    pub fn i64(self, name: &'static str) -> Result<i64, HeaderError> {
        self.integer().ok_or_else(|| HeaderError::field(name, &self.text(), "a 64-bit integer"))
    }

    /// Only "true" in any letter case is true. Source: Boolean#parseBoolean (Java).
    pub fn bool(self) -> bool {
        self.bytes().eq_ignore_ascii_case(b"true")
    }

    fn integer(self) -> Option<i64> {
        /// As many digits as always fit.
        const SHORT: usize = 18;
        let (is_negative, digits) = match self.bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        if digits.is_empty() || digits.len() > SHORT {
            let all_digits = digits.iter().all(u8::is_ascii_digit) && !digits.is_empty();
            return all_digits.then(|| std::str::from_utf8(self.bytes()).ok()?.parse().ok())?;
        }
        let mut number = 0_i64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
        }
        Some(if is_negative { -number } else { number })
    }
}
