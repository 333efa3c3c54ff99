//! The expressions of `MessageSelector.bySql`, as 4.9.3 understands them.
//!
//! `token` cuts the text, `parse` builds the tree and checks what 4.9.3 checks, `evaluate` gives
//! true, false, unknown or a fault for the properties of one message, `number` reads numbers as
//! Java does. A message matches when the outcome is true; unknown and faults are no match.
//!
//! Kept from 4.9.3, because clients see it: what follows a complete expression is not looked at;
//! `0.0` is no constant; a comparison reads a property as the type of its other side, and faults
//! when it does not look so; `NOT a = b` is `(NOT a) = b`.
//! Differs: size, depth and count of nodes are bounded, see `Limits`.
//! Source: SelectorParser.jj, ComparisonExpression, LogicExpression, UnaryExpression (4.9.3).

mod error;
mod evaluate;
mod number;
mod parse;
mod token;

#[cfg(test)]
mod tests;

pub use error::{CompileError, Fault};

use crate::format::properties;
use parse::Node;

/// What an expression may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Units: bytes of the text. A list of some thousand ids fits; compiling takes about 1 ms.
    pub size_max: usize,
    /// Nested parentheses, signs and NOTs, and levels of the tree: compiling and evaluating use
    /// the stack.
    pub depth_max: usize,
    /// Operators, operands and lists: an evaluation visits each once at most, on the broker's
    /// thread.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { size_max: 64 << 10, depth_max: 100, nodes_max: 1_000 }
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The properties it looks at, sorted, and the slot of each.
    names: Vec<(Box<str>, usize)>,
    root: Node,
}

/// Properties are found without an allocation up to so many names.
const FEW: usize = 8;

impl Expression {
    /// Errors: the text is no expression, or one that 4.9.3 refuses; says where and why.
    /// Source: SqlFilter#compile, SelectorParser#parse (4.9.3).
    pub fn compile(text: &str, limits: &Limits) -> Result<Expression, CompileError> {
        parse::parse(text, limits)
    }

    /// Whether a message with this property string is wanted.
    /// Source: ExpressionMessageFilter#isMatchedByCommitLog (4.9.3).
    pub fn matches(&self, properties: &[u8]) -> bool {
        self.evaluate(properties) == Ok(Some(true))
    }

    /// `None` is SQL's unknown. The last value of a name counts.
    /// Errors: 4.9.3 throws there; the message does not match.
    pub fn evaluate(&self, properties: &[u8]) -> Result<Option<bool>, Fault> {
        if self.names.len() <= FEW {
            let mut slots = [None; FEW];
            self.find(properties, &mut slots);
            evaluate::truth(&self.root, &slots)
        } else {
            let mut slots = vec![None; self.names.len()];
            self.find(properties, &mut slots);
            evaluate::truth(&self.root, &slots)
        }
    }

    fn find<'a>(&self, properties: &'a [u8], slots: &mut [Option<&'a [u8]>]) {
        for (name, value) in properties::iter(properties) {
            if let Ok(at) = self.names.binary_search_by(|(known, _)| known.as_bytes().cmp(name)) {
                slots[self.names[at].1] = Some(value);
            }
        }
    }
}
