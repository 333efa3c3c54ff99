//! Java's `.properties` syntax.
//!
//! Source: java.util.Properties.load. Differs: the bytes are UTF-8 (ISO-8859-1 when they are not
//! valid UTF-8), and blanks at the end of a value are cut off and reported; Java keeps them, so
//! that `brokerRole=SLAVE ` means nothing to it.

/// One `key=value` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    /// Units: lines, from 1: where the pair begins.
    pub line: usize,
    /// Blanks stood at the end of the value.
    pub trailing_blanks: bool,
}

/// What cannot be read as properties.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {found:?} is not an escape; expected \\u and four hexadecimal digits")]
pub struct SyntaxError {
    pub line: usize,
    pub found: String,
}

/// The text of a file's bytes.
pub fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
    }
}

/// All pairs in the order of the text. Blank lines and comments (`#`, `!`) are left out.
pub fn parse(text: &str) -> Result<Vec<Pair>, SyntaxError> {
    let mut pairs = Vec::new();
    let mut lines = text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l)).enumerate();
    while let Some((at, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_open(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(is_blank));
        }
        pairs.push(pair(&logical, at + 1)?);
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes at the end continues the line.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn pair(logical: &str, line: usize) -> Result<Pair, SyntaxError> {
    let mut escaped = false;
    let end = logical.find(|c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = c == '\\';
        is_blank(c) || c == '=' || c == ':'
    });
    let (key, rest) = logical.split_at(end.unwrap_or(logical.len()));
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    let value = unescape(rest, line)?;
    let trimmed = value.trim_end_matches(is_blank);
    Ok(Pair {
        key: unescape(key, line)?,
        trailing_blanks: trimmed.len() != value.len(),
        value: trimmed.to_owned(),
        line,
    })
}

fn unescape(text: &str, line: usize) -> Result<String, SyntaxError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    let mut high: Option<u16> = None;
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let Some(unit) = unit else {
                    return Err(SyntaxError { line, found: format!("\\u{digits}") });
                };
                push_unit(&mut out, &mut high, unit);
            }
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// Joins the two halves of a surrogate pair.
fn push_unit(out: &mut String, high: &mut Option<u16>, unit: u16) {
    if (0xD800..0xDC00).contains(&unit) {
        *high = Some(unit);
        return;
    }
    let units: Vec<u16> = high.take().into_iter().chain([unit]).collect();
    out.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let pairs = parse(text).expect("a readable text");
        pairs.into_iter().map(|p| (p.key, p.value)).collect()
    }
    fn one(text: &str) -> (String, String) {
        read(text).pop().expect("one pair")
    }
    fn own(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_three_separators_and_blanks_round_them() {
        for text in ["a=b", "a:b", "a b", " a = b", "a\t:\tb", "a  b", "a\u{c}=b"] {
            assert_eq!(one(text), own("a", "b"), "{text:?}");
        }
        assert_eq!(one("a==b"), own("a", "=b"));
        assert_eq!(one("a"), own("a", ""));
        assert_eq!(one("n=10.0.0.1:9876;h:1"), own("n", "10.0.0.1:9876;h:1"));
    }

    #[test]
    fn comments_blank_lines_and_crlf() {
        let text = "# 自动创建Topic\r\n\r\n  ! note\r\na=1\r\n#b=2\r\nc = 3\r\n";
        assert_eq!(read(text), [own("a", "1"), own("c", "3")]);
    }

    #[test]
    fn escapes_and_continued_lines() {
        assert_eq!(one("a\\=b=c\\:d"), own("a=b", "c:d"));
        assert_eq!(one("a=\\u4e2d\\uD83D\\uDE00"), own("a", "中😀"));
        assert_eq!(one("a=x\\\n   y\\\n z"), own("a", "xyz"));
        assert_eq!(one("a=x\\\\\nb=1"), own("b", "1"));
        assert_eq!(one("a=E:\\store"), own("a", "E:store"));
        assert!(parse("ok=1\na=\\u12g4").is_err_and(|e| e.line == 2));
    }

    #[test]
    fn trailing_blanks_are_cut_and_reported() {
        let pairs = parse("brokerRole=SLAVE \nb=1").expect("readable");
        assert_eq!((pairs[0].value.as_str(), pairs[0].trailing_blanks), ("SLAVE", true));
        assert!(!pairs[1].trailing_blanks);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_latin_1() {
        assert_eq!(text_of(b"a=\xe9"), "a=é");
        assert_eq!(text_of("\u{feff}a=中".as_bytes()), "a=中");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
