//! What SQL92 filters mean, written a second time and without a parser: over trees of terms, with
//! the values Java would have. `generate` makes the trees and their texts.
//!
//! Source: the classes of org.apache.rocketmq.filter.expression (4.9.3), method by method.

/// A term as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    Name(String),
    Whole(i64),
    /// Its text; it has a point or an exponent.
    Real(String),
    Text(String),
    True,
    False,
    Null,
    Plus(Box<Term>),
    Minus(Box<Term>),
    Not(Box<Term>),
    /// `=` or `<>`, `>`, `>=`, `<`, `<=`.
    Binary(Box<Term>, &'static str, Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    /// The flag says NOT.
    IsNull(Box<Term>, bool),
    Between(Box<Term>, Box<Term>, Box<Term>, bool),
    In(Box<Term>, Vec<String>, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    True,
    False,
    Null,
    /// An exception at evaluation.
    Fault,
    /// It does not compile.
    Illegal,
}

/// The properties of a message; the last of a name counts.
pub type Having = [(String, String)];

/// What Java 4.9.3 makes of the whole selector.
pub fn outcome(selector: &Term, having: &Having) -> Outcome {
    if !is_legal(selector) || !is_condition_or_name(selector) {
        return Outcome::Illegal;
    }
    match condition(selector, having) {
        Err(Thrown) => Outcome::Fault,
        Ok(Object::Null) => Outcome::Null,
        Ok(Object::Boolean(true)) => Outcome::True,
        Ok(_) => Outcome::False,
    }
}

struct Thrown;

#[derive(Clone, Debug, PartialEq)]
enum Object {
    Null,
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    String(String),
}

/// BooleanExpression.
fn is_condition(term: &Term) -> bool {
    match term {
        Term::Name(_) | Term::Whole(_) | Term::Real(_) | Term::Text(_) | Term::Minus(_) => false,
        Term::Plus(inner) => is_condition(inner),
        _ => true,
    }
}

fn is_condition_or_name(term: &Term) -> bool {
    is_condition(term) || is_name(term)
}

/// PropertyExpression. A plus is no expression of its own.
fn is_name(term: &Term) -> bool {
    match term {
        Term::Plus(inner) => is_name(inner),
        term => matches!(term, Term::Name(_)),
    }
}

/// ConstantExpression.
fn constant(term: &Term) -> Option<&Term> {
    match term {
        Term::Plus(inner) => constant(inner),
        Term::Whole(_) | Term::Real(_) | Term::Text(_) | Term::True | Term::False | Term::Null => {
            Some(term)
        }
        _ => None,
    }
}

fn is_number(term: &Term) -> bool {
    matches!(term, Term::Whole(_) | Term::Real(_))
}

/// checkLessThanOperand.
fn has_order(term: &Term) -> bool {
    match constant(term) {
        Some(constant) => is_number(constant),
        None => !is_condition(term),
    }
}

/// Everything that 4.9.3 refuses while it builds the tree.
fn is_legal(term: &Term) -> bool {
    match term {
        Term::Name(_) | Term::Text(_) | Term::True | Term::False | Term::Null => true,
        Term::Whole(value) => *value >= 0,
        Term::Real(text) => {
            let value: f64 = text.parse().unwrap_or(f64::INFINITY);
            value.is_finite() && value > 0.0
        }
        Term::Plus(inner) | Term::Minus(inner) | Term::IsNull(inner, _) => is_legal(inner),
        Term::Not(inner) => is_legal(inner) && is_condition_or_name(inner),
        Term::And(left, right) | Term::Or(left, right) => {
            [left, right].iter().all(|side| is_legal(side) && is_condition_or_name(side))
        }
        Term::Binary(left, sign, right) => {
            let sides = is_legal(left) && is_legal(right);
            sides
                && match *sign {
                    "=" | "<>" => may_be_equal(left, right),
                    _ => has_order(left) && has_order(right),
                }
        }
        Term::Between(value, low, high, not) => {
            let all = [value, low, high];
            let parts = all.iter().all(|part| is_legal(part) && has_order(part));
            parts && (*not || in_order(low, high))
        }
        Term::In(inner, list, _) => is_name(inner) && !list.is_empty(),
    }
}

/// checkEqualOperand and checkEqualOperandCompatability.
fn may_be_equal(left: &Term, right: &Term) -> bool {
    let (first, second) = (constant(left), constant(right));
    if first == Some(&Term::Null) || second == Some(&Term::Null) {
        return false;
    }
    match (first, second) {
        (Some(first), Some(second)) => !is_condition(first) || is_condition(second),
        _ => true,
    }
}

fn in_order(low: &Term, high: &Term) -> bool {
    let (Some(low), Some(high)) = (constant(low), constant(high)) else { return true };
    match (evaluate(low, &[]), evaluate(high, &[])) {
        (Ok(low), Ok(high)) => matches!(compare(high, low), Ok(sign) if sign >= 0),
        _ => false,
    }
}

/// A bare name in the place of a condition: createBooleanCast.
fn condition(term: &Term, having: &Having) -> Result<Object, Thrown> {
    let value = evaluate(term, having)?;
    if is_name(term) && value != Object::Null {
        return Ok(Object::Boolean(false));
    }
    Ok(value)
}

fn evaluate(term: &Term, having: &Having) -> Result<Object, Thrown> {
    Ok(match term {
        Term::Name(name) => {
            let found = having.iter().rev().find(|(known, _)| known == name);
            found.map_or(Object::Null, |(_, value)| Object::String(value.clone()))
        }
        Term::Whole(value) => match i32::try_from(*value) {
            Ok(small) => Object::Integer(small),
            Err(_) => Object::Long(*value),
        },
        Term::Real(text) => Object::Double(text.parse().unwrap_or(f64::NAN)),
        Term::Text(text) => Object::String(text.clone()),
        Term::True => Object::Boolean(true),
        Term::False => Object::Boolean(false),
        Term::Null => Object::Null,
        Term::Plus(inner) => evaluate(inner, having)?,
        Term::Minus(inner) => match evaluate(inner, having)? {
            Object::Integer(value) => Object::Integer(0i32.wrapping_sub(value)),
            Object::Long(value) => Object::Long(0i64.wrapping_sub(value)),
            Object::Double(value) => Object::Double(-value),
            _ => Object::Null,
        },
        Term::Not(inner) => negated(condition(inner, having)?),
        Term::And(left, right) => both(condition(left, having)?, || condition(right, having))?,
        Term::Or(left, right) => {
            let left = negated(condition(left, having)?);
            // De Morgan holds for three values.
            negated(both(left, || Ok(negated(condition(right, having)?)))?)
        }
        Term::IsNull(inner, not) => {
            Object::Boolean((evaluate(inner, having)? == Object::Null) != *not)
        }
        Term::Binary(left, "=", right) => equals(left, right, having)?,
        Term::Binary(left, "<>", right) => negated(equals(left, right, having)?),
        Term::Binary(left, sign, right) => ordered(left, sign, right, having)?,
        Term::Between(value, low, high, false) => {
            let first = ordered(value, ">=", low, having)?;
            both(first, || ordered(value, "<=", high, having))?
        }
        Term::Between(value, low, high, true) => {
            let first = negated(ordered(value, "<", low, having)?);
            negated(both(first, || Ok(negated(ordered(value, ">", high, having)?)))?)
        }
        Term::In(inner, list, not) => match evaluate(inner, having)? {
            Object::String(value) => Object::Boolean(list.contains(&value) != *not),
            _ => Object::Null,
        },
    })
}

fn negated(value: Object) -> Object {
    match value {
        Object::Boolean(value) => Object::Boolean(!value),
        _ => Object::Null,
    }
}

/// AND, which does not look at its right side when the left one is false.
fn both(left: Object, right: impl FnOnce() -> Result<Object, Thrown>) -> Result<Object, Thrown> {
    if left == Object::Boolean(false) {
        return Ok(left);
    }
    let right = right()?;
    if right == Object::Boolean(false) {
        return Ok(right);
    }
    Ok(if left == Object::Null { left } else { right })
}

fn equals(left: &Term, right: &Term, having: &Having) -> Result<Object, Thrown> {
    let (left, right) = (evaluate(left, having)?, evaluate(right, having)?);
    Ok(match (&left, &right) {
        (Object::Null, Object::Null) => Object::Boolean(true),
        (Object::Null, _) => Object::Null,
        (_, Object::Null) => Object::Boolean(false),
        _ => Object::Boolean(compare(left, right)? == 0),
    })
}

fn ordered(left: &Term, sign: &str, right: &Term, having: &Having) -> Result<Object, Thrown> {
    let mut left = evaluate(left, having)?;
    if left == Object::Null {
        return Ok(left);
    }
    let mut right = evaluate(right, having)?;
    if right == Object::Null {
        return Ok(right);
    }
    if let (Object::String(first), Object::String(second)) = (&left, &right) {
        (left, right) = (Object::Double(double(first)?), Object::Double(double(second)?));
    }
    let found = compare(left, right)?;
    Ok(Object::Boolean(match sign {
        ">" => found > 0,
        ">=" => found >= 0,
        "<" => found < 0,
        _ => found <= 0,
    }))
}

/// __compare: below, at or above zero.
fn compare(left: Object, right: Object) -> Result<i32, Thrown> {
    use Object::{Boolean, Double, Integer, Long, String};
    let sign = |order: std::cmp::Ordering| order as i32;
    let doubles = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        // Two zeros differ by their signs.
        (false, false) if a == b && a != 0.0 => 0,
        (false, false) if a == b => {
            i32::from(b.is_sign_negative()) - i32::from(a.is_sign_negative())
        }
        (false, false) => {
            if a < b {
                -1
            } else {
                1
            }
        }
        (a, b) => i32::from(a) - i32::from(b),
    };
    Ok(match (left, right) {
        // The type of the other side is what a text is read as.
        (String(text), Boolean(b)) => sign((text.to_lowercase() == "true").cmp(&b)),
        (String(text), Integer(_)) if integer(&text).is_err() => return Err(Thrown),
        (Integer(_), String(text)) if integer(&text).is_err() => return Err(Thrown),
        (String(text), Integer(b)) => sign(integer(&text)?.cmp(&b)),
        (Integer(a), String(text)) => sign(a.cmp(&integer(&text)?)),
        (String(text), Long(b)) => sign(long(&text)?.cmp(&b)),
        (Long(a), String(text)) => sign(a.cmp(&long(&text)?)),
        (String(text), Double(b)) => doubles(double(&text)?, b),
        (Double(a), String(text)) => doubles(a, double(&text)?),
        (Boolean(_), String(_)) => return Err(Thrown),
        (String(a), String(b)) => sign(a.cmp(&b)),
        (Boolean(a), Boolean(b)) => sign(a.cmp(&b)),
        (Integer(a), Integer(b)) => sign(a.cmp(&b)),
        (Integer(a), Long(b)) => sign(i64::from(a).cmp(&b)),
        (Long(a), Integer(b)) => sign(a.cmp(&i64::from(b))),
        (Long(a), Long(b)) => sign(a.cmp(&b)),
        (Double(a), Double(b)) => doubles(a, b),
        (Integer(a), Double(b)) => doubles(f64::from(a), b),
        (Double(a), Integer(b)) => doubles(a, f64::from(b)),
        (Long(a), Double(b)) => doubles(a as f64, b),
        (Double(a), Long(b)) => doubles(a, b as f64),
        _ => -1,
    })
}

/// For the digits that `generate` writes Rust's integers are Java's.
fn integer(text: &str) -> Result<i32, Thrown> {
    text.parse().map_err(|_| Thrown)
}

fn long(text: &str) -> Result<i64, Thrown> {
    text.parse().map_err(|_| Thrown)
}

/// The same without hexadecimal digits, which `generate` does not write.
fn double(text: &str) -> Result<f64, Thrown> {
    let text = text.trim_matches(|c| c <= ' ');
    let bare = text.trim_start_matches(['+', '-']);
    if text.len() - bare.len() <= 1 && (bare == "NaN" || bare == "Infinity") {
        let size = if bare == "NaN" { f64::NAN } else { f64::INFINITY };
        return Ok(if text.starts_with('-') { -size } else { size });
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    if number.chars().any(|c| !c.is_ascii_digit() && !".eE+-".contains(c)) {
        return Err(Thrown);
    }
    number.parse().map_err(|_| Thrown)
}
