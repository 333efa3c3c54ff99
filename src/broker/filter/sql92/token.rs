//! Cuts the text of an expression into tokens.
//!
//! Source: SelectorParser.jj, the token definitions (4.9.3): the longest token wins. A token is cut
//! when the parser asks for it, so what stands after a complete expression may be anything.

use super::error::CompileError;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    /// Digits, and an `l` that says nothing.
    Integer(&'a str),
    Float(&'a str),
    /// What stands between the quotes; a quote inside is doubled.
    Text(&'a str),
    Name(&'a str),
    Equal,
    NotEqual,
    More,
    MoreEqual,
    Less,
    LessEqual,
    Open,
    Comma,
    Close,
    Plus,
    Minus,
    End,
}

const KEYWORDS: [(&str, Token<'static>); 9] = [
    ("NOT", Token::Not),
    ("AND", Token::And),
    ("OR", Token::Or),
    ("BETWEEN", Token::Between),
    ("IN", Token::In),
    ("TRUE", Token::True),
    ("FALSE", Token::False),
    ("NULL", Token::Null),
    ("IS", Token::Is),
];

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = match self {
            Token::Integer(text) | Token::Float(text) | Token::Name(text) => text,
            Token::Text(text) => return write!(f, "'{text}'"),
            Token::Equal => "=",
            Token::NotEqual => "<>",
            Token::More => ">",
            Token::MoreEqual => ">=",
            Token::Less => "<",
            Token::LessEqual => "<=",
            Token::Open => "(",
            Token::Comma => ",",
            Token::Close => ")",
            Token::Plus => "+",
            Token::Minus => "-",
            Token::End => "the end",
            word => KEYWORDS.iter().find(|(_, token)| token == word).map_or("", |(name, _)| name),
        };
        f.write_str(fixed)
    }
}

pub struct Tokens<'a> {
    text: &'a str,
    /// Units: bytes.
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Self {
        Tokens { text, at: 0 }
    }

    /// The next token and where it begins. Units: bytes.
    /// Errors: no token begins there.
    pub fn next(&mut self) -> Result<(Token<'a>, usize), CompileError> {
        self.skip_blanks();
        let at = self.at;
        let rest = &self.text[at..];
        let (token, size) = match cut(rest) {
            Some(found) => found,
            None => {
                let found = rest.chars().next().unwrap_or_default();
                let reason = format!("no word, number or operator begins with {found:?}");
                return Err(CompileError::new(self.text, at, reason));
            }
        };
        self.at += size;
        Ok((token, at))
    }

    /// White space, `-- … line end` and `/* … */`.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            let comment = match trimmed.get(..2) {
                // Without a line end these are two signs.
                Some("--") => trimmed.find(['\n', '\r']).map(|end| end + 1),
                Some("/*") => trimmed[2..].find("*/").map(|end| end + 4),
                _ => None,
            };
            match comment {
                Some(size) => self.at += size,
                None => return,
            }
        }
    }
}

/// The longest token at the start of `rest`, and its size in bytes.
fn cut(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let Some(first) = bytes.first() else { return Some((Token::End, 0)) };
    let second = bytes.get(1);
    let one = |token| Some((token, 1));
    match first {
        b'=' => one(Token::Equal),
        b'<' if second == Some(&b'>') => Some((Token::NotEqual, 2)),
        b'<' if second == Some(&b'=') => Some((Token::LessEqual, 2)),
        b'<' => one(Token::Less),
        b'>' if second == Some(&b'=') => Some((Token::MoreEqual, 2)),
        b'>' => one(Token::More),
        b'(' => one(Token::Open),
        b',' => one(Token::Comma),
        b')' => one(Token::Close),
        b'+' => one(Token::Plus),
        b'-' => one(Token::Minus),
        b'\'' => cut_text(rest),
        b'.' | b'0'..=b'9' => cut_number(rest),
        b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'$' => {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte);
            let size = bytes.iter().take_while(|byte| is_part(byte)).count();
            let word = &rest[..size];
            let keyword = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            Some((keyword.map_or(Token::Name(word), |(_, token)| *token), size))
        }
        _ => None,
    }
}

/// A text ends at a quote that no second one follows; when none does, at the last that may end it.
fn cut_text(rest: &str) -> Option<(Token<'_>, usize)> {
    let (mut end, mut at) = (None, 1);
    while let Some(quote) = rest[at..].find('\'') {
        end = Some(at + quote);
        at += quote + 1;
        if rest.as_bytes().get(at) != Some(&b'\'') {
            break;
        }
        at += 1;
    }
    let end = end?;
    Some((Token::Text(&rest[1..end]), end + 1))
}

fn cut_number(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let digits = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let exponent = |at: usize| {
        let has_e = bytes.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e'));
        let sign = usize::from(bytes.get(at + 1).is_some_and(|byte| b"+-".contains(byte)));
        let count =
            if has_e { bytes.get(at + 1 + sign..).map_or(0, |_| digits(at + 1 + sign)) } else { 0 };
        if count > 0 { 1 + sign + count } else { 0 }
    };
    let is_point = bytes.get(whole) == Some(&b'.');
    let float_size = if is_point {
        let part = digits(whole + 1);
        let mantissa = whole + 1 + part;
        if whole + part > 0 { mantissa + exponent(mantissa) } else { 0 }
    } else if whole > 0 && exponent(whole) > 0 {
        whole + exponent(whole)
    } else {
        0
    };
    if float_size > 0 {
        return Some((Token::Float(&rest[..float_size]), float_size));
    }
    if whole == 0 {
        return None;
    }
    if bytes[0] == b'0' {
        return Some((Token::Integer("0"), 1));
    }
    let suffix = bytes.get(whole).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'l'));
    Some((Token::Integer(&rest[..whole]), whole + usize::from(suffix)))
}
