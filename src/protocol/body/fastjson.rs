//! A reader for what fastjson writes and accepts beyond standard JSON.
//!
//! Keys may be bare words, numbers, in single quotes, or whole objects (which become their own
//! compact text); strings may hold raw control characters; a comma may trail. Depth and size are
//! bounded: nesting by `depth_max`, everything else by the length of the input.

use serde_json::{Map, Number, Value};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {expected} expected")]
pub struct FastjsonError {
    pub at: usize,
    pub expected: &'static str,
}

/// Reads one value. The deepest one is inside of at most `depth_max` arrays and objects.
pub fn read(bytes: &[u8], depth_max: usize) -> Result<Value, FastjsonError> {
    let mut reader = Reader { bytes, at: 0, depth_left: depth_max };
    let value = reader.value()?;
    reader.skip_blanks();
    if reader.at < bytes.len() {
        return Err(reader.expected("end of text"));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth_left: usize,
}

type Outcome<T> = Result<T, FastjsonError>;

impl Reader<'_> {
    fn expected(&self, expected: &'static str) -> FastjsonError {
        FastjsonError { at: self.at, expected }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Passes `wanted`, after blanks, if it comes next.
    fn takes(&mut self, wanted: u8) -> bool {
        self.skip_blanks();
        let is_next = self.peek() == Some(wanted);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self) -> Outcome<Value> {
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.nested(Self::object).map(Value::Object),
            Some(b'[') => self.nested(Self::array).map(Value::Array),
            Some(b'"' | b'\'') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            _ => self.word(),
        }
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let Some(left) = self.depth_left.checked_sub(1) else {
            return Err(self.expected("less nesting"));
        };
        self.depth_left = left;
        let value = read(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    fn object(&mut self) -> Outcome<Map<String, Value>> {
        self.at += 1;
        let mut members = Map::new();
        loop {
            while self.takes(b',') {}
            if self.takes(b'}') {
                return Ok(members);
            }
            let key = self.key()?;
            if !self.takes(b':') {
                return Err(self.expected("':'"));
            }
            let value = self.value()?;
            members.insert(key, value);
            self.skip_blanks();
            if !matches!(self.peek(), Some(b',' | b'}')) {
                return Err(self.expected("',' or '}'"));
            }
        }
    }

    fn array(&mut self) -> Outcome<Vec<Value>> {
        self.at += 1;
        let mut values = Vec::new();
        loop {
            while self.takes(b',') {}
            if self.takes(b']') {
                return Ok(values);
            }
            values.push(self.value()?);
            self.skip_blanks();
            if !matches!(self.peek(), Some(b',' | b']')) {
                return Err(self.expected("',' or ']'"));
            }
        }
    }

    fn key(&mut self) -> Outcome<String> {
        self.skip_blanks();
        match self.peek() {
            Some(b'"' | b'\'') => self.string(),
            Some(b'{') => {
                let members = self.nested(Self::object)?;
                Ok(Value::Object(members).to_string())
            }
            _ => self.bare_key(),
        }
    }

    /// A number or an identifier.
    fn bare_key(&mut self) -> Outcome<String> {
        let start = self.at;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_$-.+".contains(&byte);
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.expected("a key"));
        }
        Ok(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned())
    }

    fn string(&mut self) -> Outcome<String> {
        let quote = self.bytes[self.at];
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let Some(byte) = self.peek() else { return Err(self.expected("end of string")) };
            self.at += 1;
            match byte {
                b'\\' => self.escape(&mut text)?,
                byte if byte == quote => break,
                byte => text.push(byte),
            }
        }
        Ok(match String::from_utf8(text) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Outcome<()> {
        let Some(mark) = self.peek() else { return Err(self.expected("an escape")) };
        self.at += 1;
        let c = match mark {
            b'b' => '\u{8}',
            b'f' | b'F' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{b}',
            b'0'..=b'7' => char::from(mark - b'0'),
            b'"' | b'\'' | b'\\' | b'/' => char::from(mark),
            b'x' => char::from(self.hex(2)? as u8),
            b'u' => self.unicode()?,
            _ => {
                self.at -= 1;
                return Err(self.expected("a known escape"));
            }
        };
        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// One UTF-16 unit, or a pair of them. Half a pair becomes the replacement character.
    fn unicode(&mut self) -> Outcome<char> {
        let first = self.hex(4)?;
        let is_pair = (0xd800..0xdc00).contains(&first)
            && self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u"));
        if is_pair {
            let back = self.at;
            self.at += 2;
            let second = self.hex(4)?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, count: usize) -> Outcome<u32> {
        let digits = self.bytes.get(self.at..self.at + count);
        let number = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.expected("hexadecimal digits"))?;
        self.at += count;
        Ok(number)
    }

    fn number(&mut self) -> Outcome<Number> {
        let start = self.at;
        let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        // fastjson marks a long with L.
        if self.peek() == Some(b'L') {
            self.at += 1;
        }
        text.parse().map_err(|_| FastjsonError { at: start, expected: "a number" })
    }

    fn word(&mut self) -> Outcome<Value> {
        for (word, value) in
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
        {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.expected("a value"))
    }
}

/// Whether fastjson prints this character as it is.
///
/// Source: IOUtils#specicalFlags_doubleQuotes, SerializeWriter (fastjson 1.2.76).
pub(in crate::protocol) fn is_plain(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '"' | '\\' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}')
}

/// Prints a character that is not plain.
pub(in crate::protocol) fn write_escape(c: char, mut write: impl FnMut(&[u8])) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match c {
        '"' => write(b"\\\""),
        '\\' => write(b"\\\\"),
        '\u{8}' => write(b"\\b"),
        '\u{c}' => write(b"\\f"),
        '\n' => write(b"\\n"),
        '\r' => write(b"\\r"),
        '\t' => write(b"\\t"),
        other => {
            let code = other as u32;
            let digit = |shift: u32| DIGITS[(code >> shift & 15) as usize];
            write(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_fastjson_writes_and_json_forbids_is_read() {
        let value = |text: &str| read(text.as_bytes(), 8).unwrap();
        assert_eq!(value("{0:\"a\",1:'b',}"), json!({"0": "a", "1": "b"}));
        assert_eq!(value("{a_b:[1,2,],-3:true}"), json!({"a_b": [1, 2], "-3": true}));
        assert_eq!(
            value("{\"t\":{{\"brokerName\":\"b\",\"queueId\":0}:5}}"),
            json!({"t": {"{\"brokerName\":\"b\",\"queueId\":0}": 5}})
        );
        assert_eq!(value("\"a\u{1}\\u0002\""), json!("a\u{1}\u{2}"));
        assert_eq!(value("'\\ud83d\\ude00 \\ud83d'"), json!("\u{1f600} \u{fffd}"));
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let error = |text: &str| read(text.as_bytes(), 2).unwrap_err().to_string();
        assert_eq!(error("{\"a\" 1}"), "at byte 5: ':' expected");
        assert_eq!(error("[[[]]]"), "at byte 2: less nesting expected");
        assert_eq!(error("{} x"), "at byte 3: end of text expected");
        assert_eq!(error("\"abc"), "at byte 4: end of string expected");
        assert_eq!(error(""), "at byte 0: a value expected");
        assert_eq!(error("{1 2:3}"), "at byte 3: ':' expected");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn standard_json_reads_as_serde_json_reads_it(value in any_value()) {
            let text = value.to_string();
            prop_assert_eq!(read(text.as_bytes(), 16).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes, 4);
        }
    }
}
