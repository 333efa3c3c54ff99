//! SQL92 filters: any text, and any property string under it. The two are separated by a NUL.
#![no_main]

use hotfire::broker::filter::sql92::{Expression, Limits};

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, rest) = data.split_at(at);
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Expression::compile(text, &Limits::default()) {
        Ok(expression) => {
            let outcome = expression.evaluate(rest);
            assert_eq!(expression.matches(rest), outcome == Ok(Some(true)));
            assert_eq!(expression.evaluate(rest), outcome, "the same twice");
        }
        Err(error) => assert!(error.to_string().len() < 2_000, "an error has a bound"),
    }
}));
