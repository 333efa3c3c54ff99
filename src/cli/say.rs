//! Lines for people on standard output.

use std::fmt::Display;
use std::io::Write;

/// Prints a line. A reader that went away is no reason to fall over.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
