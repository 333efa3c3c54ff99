//! Expressions that were compiled lately: a pull may carry its expression in every request.
//!
//! Source: SelectorParser, PARSE_CACHE (4.9.3): 100 texts, failures too.

use super::sql92::{CompileError, Expression, Limits};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The only type of expression besides tags.
pub const SQL92: &str = "SQL92";

type Outcome = Result<Arc<Expression>, CompileError>;

/// Compiles texts, and remembers some of them.
#[derive(Debug)]
pub struct Compiled {
    limits: Limits,
    /// Units: texts.
    count_max: usize,
    /// When each was last asked for, and what it is.
    known: BTreeMap<Box<str>, (u64, Outcome)>,
    asked: u64,
}

impl Compiled {
    pub fn new(limits: Limits, count_max: usize) -> Self {
        Compiled { limits, count_max, known: BTreeMap::new(), asked: 0 }
    }

    /// Errors: the type is unknown, or the text is no expression.
    /// Differs: 4.9.3 fails with a null pointer at an unknown type.
    pub fn compile(&mut self, expression_type: &str, text: &str) -> Outcome {
        if expression_type != SQL92 {
            let reason = format!("the expression type {expression_type} is unknown");
            return Err(CompileError { line: 1, column: 1, reason });
        }
        self.asked += 1;
        if let Some((asked, outcome)) = self.known.get_mut(text) {
            *asked = self.asked;
            return outcome.clone();
        }
        let outcome = Expression::compile(text, &self.limits).map(Arc::new);
        if self.known.len() >= self.count_max {
            let oldest = self.known.iter().min_by_key(|(_, (asked, _))| *asked);
            if let Some(oldest) = oldest.map(|(text, _)| text.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(text.into(), (self.asked, outcome.clone()));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_last_is_remembered() {
        let mut compiled = Compiled::new(Limits::default(), 2);
        let first = compiled.compile(SQL92, "a = 1").unwrap();
        assert!(compiled.compile(SQL92, "a = ").is_err());
        assert!(Arc::ptr_eq(&first, &compiled.compile(SQL92, "a = 1").unwrap()));
        compiled.compile(SQL92, "a = 2").unwrap();
        assert_eq!(compiled.known.len(), 2);
        assert!(Arc::ptr_eq(&first, &compiled.compile(SQL92, "a = 1").unwrap()));
        let error = compiled.compile("XPATH", "a = 1").unwrap_err().to_string();
        assert!(error.contains("XPATH"), "{error}");
    }
}
