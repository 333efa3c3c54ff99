//! The outcome of an expression for one message.
//!
//! Source: ComparisonExpression, LogicExpression, UnaryExpression (4.9.3). Every node is visited
//! once at most, and the tree is no deeper than `Limits::depth_max`.

use super::error::Fault;
use super::number;
use super::parse::{Constant, Node};
use std::cmp::Ordering;

/// `>`, `>=`, `<`, `<=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    More,
    MoreEqual,
    Less,
    LessEqual,
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Order::More => found.is_gt(),
            Order::MoreEqual => found.is_ge(),
            Order::Less => found.is_lt(),
            Order::LessEqual => found.is_le(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a [u8]),
}

impl<'a> Value<'a> {
    fn of(constant: &'a Constant) -> Self {
        match constant {
            Constant::Null => Value::Null,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Long(value) => Value::Long(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::Text(text) => Value::Text(text.as_bytes()),
        }
    }
}

/// True, false or unknown.
type Truth = Result<Option<bool>, Fault>;

/// The properties by slot; those that the message does not have are none.
type Slots<'s, 'a> = &'s [Option<&'a [u8]>];

/// The outcome of a condition.
pub fn truth<'a>(node: &'a Node, slots: Slots<'_, 'a>) -> Truth {
    match node {
        Node::All(nodes) => chain(nodes, false, slots),
        Node::Any(nodes) => chain(nodes, true, slots),
        Node::Not(node) => Ok(truth(node, slots)?.map(|outcome| !outcome)),
        Node::Cast(slot) => Ok(slots[*slot].map(|_| false)),
        Node::IsNull(node) => Ok(Some(matches!(value(node, slots)?, Value::Null))),
        Node::Equal(pair) => equal(value(&pair[0], slots)?, value(&pair[1], slots)?),
        Node::Compare(order, pair) => {
            let left = value(&pair[0], slots)?;
            compare(*order, left, &pair[1], slots)
        }
        Node::Between { not, parts } => between(*not, parts, slots),
        Node::In { not, slot, list } => Ok(slots[*slot].map(|text| is_in(list, text) != *not)),
        Node::Constant(Constant::Bool(value)) => Ok(Some(*value)),
        // The parser gives no other node as a condition.
        Node::Constant(_) | Node::Property(_) | Node::Negate(_) => Ok(None),
    }
}

fn value<'a>(node: &'a Node, slots: Slots<'_, 'a>) -> Result<Value<'a>, Fault> {
    match node {
        Node::Property(slot) => Ok(slots[*slot].map_or(Value::Null, Value::Text)),
        Node::Constant(constant) => Ok(Value::of(constant)),
        Node::Negate(node) => Ok(match value(node, slots)? {
            Value::Int(number) => Value::Int(number.wrapping_neg()),
            Value::Long(number) => Value::Long(number.wrapping_neg()),
            Value::Double(number) => Value::Double(-number),
            Value::Null | Value::Bool(_) | Value::Text(_) => Value::Null,
        }),
        condition => Ok(truth(condition, slots)?.map_or(Value::Null, Value::Bool)),
    }
}

/// AND, which `false` decides, or OR, which `true` decides.
fn chain<'a>(nodes: &'a [Node], decides: bool, slots: Slots<'_, 'a>) -> Truth {
    let mut is_unknown = false;
    for node in nodes {
        match truth(node, slots)? {
            Some(outcome) if outcome == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => is_unknown = true,
        }
    }
    Ok((!is_unknown).then_some(!decides))
}

/// Source: ComparisonExpression#doCreateEqual (4.9.3), which is not symmetric.
fn equal(left: Value, right: Value) -> Truth {
    match (left, right) {
        (Value::Null, Value::Null) => Ok(Some(true)),
        (Value::Null, _) => Ok(None),
        (_, Value::Null) => Ok(Some(false)),
        (Value::Text(left), Value::Text(right)) => Ok(Some(is_same_text(left, right))),
        (left, right) => Ok(Some(ordering(left, right)?.is_eq())),
    }
}

/// The right side is looked at only when the left one is known.
fn compare<'a>(order: Order, left: Value, right: &'a Node, slots: Slots<'_, 'a>) -> Truth {
    if matches!(left, Value::Null) {
        return Ok(None);
    }
    let found = match (left, value(right, slots)?) {
        (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Text(right)) => {
            let number = |text| number::double(text).ok_or(Fault::NotANumber);
            java_order(number(left)?, number(right)?)
        }
        (left, right) => ordering(left, right)?,
    };
    Ok(Some(order.holds(found)))
}

/// `>= low AND <= high`, or `< low OR > high`.
fn between<'a>(not: bool, [of, low, high]: &'a [Node; 3], slots: Slots<'_, 'a>) -> Truth {
    let of = value(of, slots)?;
    let (first, second) =
        if not { (Order::Less, Order::More) } else { (Order::MoreEqual, Order::LessEqual) };
    let first = compare(first, of, low, slots)?;
    if first == Some(not) {
        return Ok(first);
    }
    let second = compare(second, of, high, slots)?;
    if second == Some(not) {
        return Ok(second);
    }
    Ok((first.is_some() && second.is_some()).then_some(!not))
}

fn is_in(list: &[Box<str>], text: &[u8]) -> bool {
    match std::str::from_utf8(text) {
        Ok(text) => list.binary_search_by(|known| (**known).cmp(text)).is_ok(),
        Err(_) => list.iter().any(|known| is_same_text(known.as_bytes(), text)),
    }
}

/// Bytes that are no UTF-8 are U+FFFD, as Java decodes them.
fn is_same_text(left: &[u8], right: &[u8]) -> bool {
    let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
    left == right
        || (!(is_text(left) && is_text(right))
            && String::from_utf8_lossy(left) == String::from_utf8_lossy(right))
}

/// Two values that are not null; text is read as the type of the other side.
/// Source: ComparisonExpression#__compare (4.9.3): types that do not fit are "less".
fn ordering(left: Value, right: Value) -> Result<Ordering, Fault> {
    use Value::{Bool, Double, Int, Long, Text};
    let int = |text| number::int(text).ok_or(Fault::NotANumber);
    let long = |text| number::long(text).ok_or(Fault::NotANumber);
    let double = |text| number::double(text).ok_or(Fault::NotANumber);
    Ok(match (left, right) {
        (Bool(left), Bool(right)) => left.cmp(&right),
        (Bool(_), Text(_)) => return Err(Fault::TextAfterBoolean),
        (Text(left), Bool(right)) => left.eq_ignore_ascii_case(b"true").cmp(&right),
        (Int(left), Int(right)) => left.cmp(&right),
        (Int(left), Text(right)) => left.cmp(&int(right)?),
        (Text(left), Int(right)) => int(left)?.cmp(&right),
        (Long(left), Long(right)) => left.cmp(&right),
        (Long(left), Int(right)) => left.cmp(&i64::from(right)),
        (Int(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Text(right)) => left.cmp(&long(right)?),
        (Text(left), Long(right)) => long(left)?.cmp(&right),
        (Double(left), Double(right)) => java_order(left, right),
        (Double(left), Int(right)) => java_order(left, f64::from(right)),
        (Int(left), Double(right)) => java_order(f64::from(left), right),
        (Double(left), Long(right)) => java_order(left, right as f64),
        (Long(left), Double(right)) => java_order(left as f64, right),
        (Double(left), Text(right)) => java_order(left, double(right)?),
        (Text(left), Double(right)) => java_order(double(left)?, right),
        (Text(left), Text(right)) => left.cmp(right),
        (Bool(_) | Int(_) | Long(_) | Double(_), _) | (Text(_), Value::Null) => Ordering::Less,
        (Value::Null, _) => Ordering::Less,
    })
}

/// -0.0 is below 0.0, and NaN is above everything. Source: Double#compareTo.
fn java_order(left: f64, right: f64) -> Ordering {
    left.total_cmp(&right)
}

/// Whether the second is not below the first; `None` when they have no order.
pub fn constants_in_order(first: &Constant, second: &Constant) -> Option<bool> {
    ordering(Value::of(second), Value::of(first)).ok().map(Ordering::is_ge)
}
