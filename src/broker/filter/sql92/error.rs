//! What can be wrong with an expression, and with a message under it.

use thiserror::Error;

/// A reason names words of the expression, which may be long. Units: characters.
const REASON_MAX: usize = 200;

/// A text that is no expression. The message begins as 4.9.3 names such errors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Invalid MessageSelector. Line {line}, column {column}: {reason}")]
pub struct CompileError {
    /// Both from 1. Units of the column: characters.
    pub line: usize,
    pub column: usize,
    pub reason: String,
}

impl CompileError {
    /// `at` is where in `text`. Units: bytes.
    pub(super) fn new(text: &str, at: usize, reason: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let mut reason = reason.into();
        if let Some((end, _)) = reason.char_indices().nth(REASON_MAX) {
            reason.truncate(end);
            reason.push('…');
        }
        CompileError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason,
        }
    }
}

/// Why an expression has no outcome for a message: 4.9.3 throws there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("a property is compared with a number and is none of its type")]
    NotANumber,
    #[error("a boolean is compared with text on its right")]
    TextAfterBoolean,
}
