//! The JSON header: a scanner for the flat shape that clients send, a reader for the rest, a
//! writer that prints what fastjson prints.

use super::body::fastjson;
use super::header::{Ext, Header, Span, SpanList};
use super::{HeaderError, Language};
use bytes::{BufMut, BytesMut};
use serde_json::Value;
use std::borrow::Cow;

/// The depth of the deepest header anyone sends is 2.
const DEPTH_MAX: usize = 8;

/// Reads a header: in place when it has the usual shape.
pub(super) fn read(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let mut header = Header { language: Language::Unknown, ..Header::default() };
            match scan(text, &mut header) {
                Some(()) => Ok(header),
                None => read_unusual(text.as_bytes()),
            }
        }
        // Java reads malformed UTF-8 as replacement characters.
        Err(_) => read_unusual(String::from_utf8_lossy(bytes).as_bytes()),
    }
}

/// Reads the flat shape in place. None says nothing about the header but that it is unusual:
/// blanks, unknown members, other types, escapes outside of values, surrogates, size.
fn scan<'a>(text: &'a str, header: &mut Header<'a>) -> Option<()> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    scanner.take(b'{')?;
    loop {
        match scanner.member()? {
            Member::Code => header.code = scanner.i32()?,
            Member::Flag => header.flag = scanner.i32()?,
            Member::Opaque => header.opaque = scanner.i32()?,
            Member::Version => header.version = scanner.i32()?,
            Member::Language => header.language = Language::from_name(scanner.plain_string()?),
            Member::Serialize => {
                scanner.plain_string()?;
            }
            Member::Remark => header.remark = Some(scanner.remark()?),
            Member::Fields => {
                let mut spans = SpanList::default();
                scanner.fields(&mut spans)?;
                header.ext = Ext::in_json(text, spans);
            }
        }
        if !scanner.goes_on()? {
            break;
        }
    }
    // C++ ends its headers with a line feed.
    text.as_bytes()[scanner.at..].iter().all(|byte| *byte == b'\n').then_some(())
}

/// The members that a header may have.
enum Member {
    Code,
    Flag,
    Opaque,
    Version,
    Language,
    Serialize,
    Remark,
    Fields,
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// After a member: true at a comma, false at the end of the object.
    #[inline]
    fn goes_on(&mut self) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// The name of a member and its colon.
    #[inline]
    fn member(&mut self) -> Option<Member> {
        let rest = &self.bytes[self.at..];
        let (name, member): (&[u8], _) = match rest.get(1)? {
            b'c' => (b"\"code\":", Member::Code),
            b'e' => (b"\"extFields\":", Member::Fields),
            b'f' => (b"\"flag\":", Member::Flag),
            b'l' => (b"\"language\":", Member::Language),
            b'o' => (b"\"opaque\":", Member::Opaque),
            b'r' => (b"\"remark\":", Member::Remark),
            b's' => (b"\"serializeTypeCurrentRPC\":", Member::Serialize),
            b'v' => (b"\"version\":", Member::Version),
            _ => return None,
        };
        self.at += name.len();
        rest.starts_with(name).then_some(member)
    }

    fn i32(&mut self) -> Option<i32> {
        let is_negative = self.peek()? == b'-';
        self.at += usize::from(is_negative);
        let start = self.at;
        let mut number = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number * 10 + i64::from(digit - b'0');
            self.at += 1;
            if self.at - start > 10 {
                return None;
            }
        }
        let has_leading_zero = self.bytes.get(start) == Some(&b'0') && self.at - start > 1;
        let is_minus_zero = is_negative && number == 0;
        if self.at == start || has_leading_zero || is_minus_zero {
            return None;
        }
        i32::try_from(if is_negative { -number } else { number }).ok()
    }

    /// A short string without escapes.
    #[inline]
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        let rest = &self.bytes[start..];
        let size = rest.iter().position(|byte| is_special(*byte))?;
        self.at = start + size;
        self.take(b'"')?;
        Some(&rest[..size])
    }

    /// A string's place between its quotes, and whether it holds escapes. Control characters may
    /// stand unescaped, as fastjson has it.
    #[inline]
    fn string(&mut self) -> Option<((usize, usize), bool)> {
        self.take(b'"')?;
        let start = self.at;
        self.at = special(self.bytes, start);
        let is_escaped = self.peek()? != b'"';
        if is_escaped {
            self.rest_of_string()?;
        }
        self.at += 1;
        Some(((start, self.at - 1), is_escaped))
    }

    /// From the first escape to the quote at the end.
    fn rest_of_string(&mut self) -> Option<()> {
        loop {
            match self.peek()? {
                b'"' => return Some(()),
                _ => self.escape()?,
            }
            self.at = special(self.bytes, self.at);
        }
    }

    /// Passes one escape. Surrogates come in pairs, which the other reader knows how to check.
    fn escape(&mut self) -> Option<()> {
        match self.bytes.get(self.at + 1)? {
            b'u' => {
                let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                let is_surrogate = matches!(digits[0], b'd' | b'D')
                    && matches!(digits[1], b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F');
                if is_surrogate || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.at += 6;
            }
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            _ => return None,
        }
        Some(())
    }

    fn remark(&mut self) -> Option<Cow<'a, str>> {
        let ((start, end), is_escaped) = self.string()?;
        let raw = &self.text[start..end];
        Some(if is_escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    fn fields(&mut self, spans: &mut SpanList) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            if self.short_field(spans)? {
                if !self.goes_on()? {
                    return Some(());
                }
                continue;
            }
            let key = self.key()?;
            let (value, is_escaped) = match self.peek()? {
                b'"' => self.string()?,
                _ => self.bare_value()?,
            };
            if !spans.push(Span::new(key, value, is_escaped)?) {
                return None;
            }
            if !self.goes_on()? {
                return Some(());
            }
        }
    }

    /// A field of one letter with a value of one character, as most are in a send: `"e":"3"`.
    /// False when this is none.
    #[inline]
    fn short_field(&mut self, spans: &mut SpanList) -> Option<bool> {
        let Some([b'"', b'a'..=b'z', b'"', b':', b'"', value, b'"']) =
            self.bytes[self.at..].first_chunk::<7>()
        else {
            return Some(false);
        };
        if matches!(value, b'"' | b'\\') {
            return Some(false);
        }
        let (key, value) = (self.at + 1, self.at + 5);
        self.at += 7;
        spans.push(Span::new((key, key + 1), (value, value + 1), false)?).then_some(true)
    }

    /// A field's name and its colon. The short form of a send has names of one letter.
    #[inline]
    fn key(&mut self) -> Option<(usize, usize)> {
        let start = self.at + 1;
        if let Some([b'"', b'a'..=b'z', b'"', b':']) = self.bytes[self.at..].first_chunk::<4>() {
            self.at += 4;
            return Some((start, start + 1));
        }
        let size = self.plain_string()?.len();
        self.take(b':')?;
        Some((start, start + size))
    }

    /// An integer or a boolean without quotes: C++ sends them so.
    fn bare_value(&mut self) -> Option<((usize, usize), bool)> {
        let start = self.at;
        let rest = &self.bytes[start..];
        if rest.starts_with(b"true") {
            self.at += 4;
        } else if rest.starts_with(b"false") {
            self.at += 5;
        } else {
            self.i32()?;
        }
        Some(((start, self.at), false))
    }
}

/// The next `"` or `\` from `at` on, or the end. Eight bytes at a time.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // A byte is marked when it is 0; wrong marks stand above right ones only.
        let zero = |word: u64| word.wrapping_sub(LOW) & !word;
        let quote = zero(word ^ (LOW * b'"' as u64));
        let backslash = zero(word ^ (LOW * b'\\' as u64));
        let found = (quote | backslash) & HIGH;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\')) {
        at += 1;
    }
    at
}

#[inline]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// The text of a string whose escapes the scanner has checked.
pub(super) fn unescape(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let next = special(bytes, at);
        out.extend_from_slice(&bytes[at..next]);
        at = match &bytes[next..] {
            [] => next,
            [b'\\', b'u', b'0', b'0', high @ b'0'..=b'7', low, ..] => {
                out.push((high - b'0') << 4 | digit(*low));
                next + 6
            }
            [b'\\', b'u', a, b, c, d, ..] => {
                unicode([*a, *b, *c, *d], &mut out);
                next + 6
            }
            [b'\\', mark, ..] => {
                out.push(unescaped(*mark));
                next + 2
            }
            [other, ..] => {
                out.push(*other);
                next + 1
            }
        };
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    }
}

fn unescaped(mark: u8) -> u8 {
    match mark {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// The value of a hexadecimal digit.
fn digit(digit: u8) -> u8 {
    if digit > b'9' { (digit | 0x20) - b'a' + 10 } else { digit - b'0' }
}

/// Appends the character with these four hexadecimal digits.
fn unicode(digits: [u8; 4], out: &mut Vec<u8>) {
    let code = digits.iter().fold(0_u32, |code, byte| code << 4 | u32::from(digit(*byte)));
    let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Reads any shape that fastjson takes for a header.
fn read_unusual(bytes: &[u8]) -> Result<Header<'static>, HeaderError> {
    let value = match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => value,
        Err(_) => {
            fastjson::read(bytes, DEPTH_MAX).map_err(|e| HeaderError::unreadable(e.to_string()))?
        }
    };
    let Value::Object(members) = value else {
        return Err(HeaderError::unreadable("it is no JSON object"));
    };
    let mut header = Header { language: Language::Unknown, ..Header::default() };
    for (key, value) in members {
        match key.as_str() {
            "code" => header.code = integer(&key, &value)?,
            "flag" => header.flag = integer(&key, &value)?,
            "opaque" => header.opaque = integer(&key, &value)?,
            "version" => header.version = integer(&key, &value)?,
            "language" => header.language = language(&value),
            "remark" => header.remark = field_text(value).map(Cow::Owned),
            "extFields" => match value {
                Value::Null => {}
                Value::Object(fields) => header.ext = Ext::owned(owned_fields(fields)),
                _ => return Err(HeaderError::unreadable("extFields is no object")),
            },
            _ => {}
        }
    }
    Ok(header)
}

fn integer(key: &str, value: &Value) -> Result<i32, HeaderError> {
    let number = match value {
        Value::Null => Some(0),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.and_then(|number| i32::try_from(number).ok()).ok_or_else(|| {
        HeaderError::unreadable(format!("{key} is {value:.64}, expected a 32-bit integer"))
    })
}

fn language(value: &Value) -> Language {
    match value {
        Value::String(name) => Language::from_name(name.as_bytes()),
        Value::Number(number) => Language::from_number(number.as_i64().unwrap_or(-1)),
        _ => Language::Unknown,
    }
}

/// Values that are no strings become their JSON text; null is no value.
fn field_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn owned_fields(fields: serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let fields = fields.into_iter();
    fields.filter_map(|(key, value)| Some((key, field_text(value)?))).collect()
}

/// What a header is written from.
pub(super) struct Parts<'a> {
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<&'a str>,
}

/// Writes a header as fastjson prints it: members in alphabetical order, null ones left out.
pub(super) fn write<'e>(
    out: &mut BytesMut,
    parts: &Parts<'_>,
    ext: Option<impl Iterator<Item = (&'e str, &'e str)>>,
) {
    out.put_slice(b"{\"code\":");
    write_integer(out, i64::from(parts.code));
    if let Some(ext) = ext {
        out.put_slice(b",\"extFields\":{");
        for (at, (key, value)) in ext.enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write_string(out, key);
            out.put_u8(b':');
            write_string(out, value);
        }
        out.put_u8(b'}');
    }
    write_rest(out, parts);
}

/// The members after the fields.
pub(super) fn write_rest(out: &mut BytesMut, parts: &Parts<'_>) {
    out.put_slice(b",\"flag\":");
    write_integer(out, i64::from(parts.flag));
    if let Some(language) = parts.language.name() {
        out.put_slice(b",\"language\":\"");
        out.put_slice(language.as_bytes());
        out.put_u8(b'"');
    }
    out.put_slice(b",\"opaque\":");
    write_integer(out, i64::from(parts.opaque));
    if let Some(remark) = parts.remark {
        out.put_slice(b",\"remark\":");
        write_string(out, remark);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    write_integer(out, i64::from(parts.version));
    out.put_u8(b'}');
}

#[inline]
pub(super) fn write_integer(out: &mut BytesMut, number: i64) {
    if let Ok(digit @ 0..=9) = u8::try_from(number) {
        return out.extend_from_slice(&[b'0' + digit]);
    }
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a string with fastjson's escapes.
pub(super) fn write_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(|byte| is_plain(&byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_escaped(out, text);
    }
    out.put_u8(b'"');
}

fn write_escaped(out: &mut BytesMut, text: &str) {
    let mut from = 0;
    for (at, c) in text.char_indices() {
        if fastjson::is_plain(c) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[from..at]);
        fastjson::write_escape(c, |bytes| out.extend_from_slice(bytes));
        from = at + c.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
}

#[cfg(test)]
mod tests;
