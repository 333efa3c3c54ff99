//! SQL92 filters against a second implementation, and against Java 4.9.3's answers.

#![allow(clippy::unwrap_used)] // a test that cannot go on may stop here
#![allow(clippy::disallowed_methods)] // it reads the golden, on the host

#[path = "sql92/generate.rs"]
mod generate;
#[path = "sql92/reference.rs"]
mod reference;

use hotfire::broker::filter::sql92::{Expression, Limits};
use proptest::prelude::*;
use reference::Outcome;
use std::collections::BTreeMap;

/// What the product says.
fn outcome(text: &str, properties: &[u8]) -> Outcome {
    let Ok(expression) = Expression::compile(text, &Limits::default()) else {
        return Outcome::Illegal;
    };
    let outcome = expression.evaluate(properties);
    assert_eq!(expression.matches(properties), outcome == Ok(Some(true)));
    match outcome {
        Ok(Some(true)) => Outcome::True,
        Ok(Some(false)) => Outcome::False,
        Ok(None) => Outcome::Null,
        Err(_) => Outcome::Fault,
    }
}

/// Dice whose throws are these numbers, and then zeros: what fails becomes small by itself.
fn dice(throws: &[u16]) -> impl FnMut(u64) -> u64 {
    let mut throws = throws.iter();
    move |n| throws.next().map_or(0, |throw| u64::from(*throw) % n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn generated_selectors_mean_what_the_reference_says(
        tree in proptest::collection::vec(any::<u16>(), 0..200),
        ink in proptest::collection::vec(any::<u16>(), 0..400),
        values in proptest::collection::vec(any::<u16>(), 0..40),
        plain in any::<bool>(),
    ) {
        let selector = generate::selector(&mut dice(&tree));
        let text = generate::text(&selector, &mut dice(&ink));
        let having = match plain {
            true => generate::plain_having(&mut dice(&values)),
            false => generate::having(&mut dice(&values)),
        };
        let expected = reference::outcome(&selector, &having);
        let found = outcome(&text, &generate::property_string(&having));
        prop_assert_eq!(found, expected, "{} with {:?}", text, having);
    }

    #[test]
    fn any_text_compiles_or_is_refused_and_never_panics(
        text in "\\PC{0,200}", properties in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let _ = outcome(&text, &properties);
    }

    #[test]
    fn any_row_of_words_compiles_or_is_refused_and_never_panics(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60),
        properties in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let _ = outcome(&words.join(" "), &properties);
        let _ = outcome(&words.concat(), b"a\x015\x02b\x01x");
    }
}

const WORDS: &[&str] = &[
    "a",
    "b",
    "(",
    ")",
    "NOT",
    "AND",
    "OR",
    "BETWEEN",
    "IN",
    "IS",
    "NULL",
    "TRUE",
    "FALSE",
    "=",
    "<>",
    ">",
    ">=",
    "<",
    "<=",
    "+",
    "-",
    ",",
    "5",
    "5.5",
    "9999999999999999999",
    "0.0",
    "'x'",
    "'",
    "''",
    "--",
    "\n",
    "/*",
    "*/",
    "\u{e9}",
    "5e",
    ".",
    "$",
];

/// The tests above would prove little if everything had one outcome.
#[test]
fn generated_selectors_reach_every_outcome() {
    let mut rng = hotfire::rt::rng::Rng::from_seed(1);
    let mut counts: BTreeMap<Outcome, u32> = BTreeMap::new();
    for _ in 0..2_000 {
        let mut dice = |n| rng.below(n);
        let selector = generate::selector(&mut dice);
        let having = generate::having(&mut dice);
        *counts.entry(reference::outcome(&selector, &having)).or_default() += 1;
    }
    assert!(counts.len() == 5 && counts.values().all(|count| *count > 100), "{counts:?}");
}
