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

/// As a stored message has them.
fn property_string(having: &[(String, String)]) -> Vec<u8> {
    let items: Vec<String> =
        having.iter().map(|(name, value)| format!("{name}\u{1}{value}")).collect();
    items.join("\u{2}").into_bytes()
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
        let found = outcome(&text, &property_string(&having));
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

/// Texts that `generate` does not make: number formats, cut comments and strings, odd tokens.
const BY_HAND: &[(&str, &str)] = &[
    ("a = 5.0", "a\x010x1.4p2"),
    ("a = 5.0", "a\x010x1.4p2f"),
    ("a = 5.0", "a\x010x5"),
    ("a = 5.0", "a\x01 5D "),
    ("a = 5.0", "a\x01\u{85}5"),
    ("a = 5.0", "a\x01\u{3}5\u{1f}"),
    ("a = 5.0", "a\x01\u{665}"),
    ("a = 5", "a\x01\u{665}"),
    ("a = 5", "a\x01\u{ff15}"),
    ("a = 5", "a\x01\u{1d7d3}"),
    ("a = 5", "a\x01\u{a9f5}"),
    ("a = 5", "a\x01\u{1a95}"),
    ("a = 5", "a\x01\u{abf5}"),
    ("a = 5", "a\x01+\u{0de6}5"),
    ("a = 5", "a\x01++5"),
    ("a = 5", "a\x01\u{2212}5"),
    ("a = 3000000000", "a\x01\u{663}000000000"),
    ("a = 3000000000", "a\x013e9"),
    ("a = 3000000000", "a\x01-9223372036854775808"),
    ("a >= b", "a\x01NaN\x02b\x01NaN"),
    ("a >= b", "a\x01-NaN\x02b\x01Infinity"),
    ("a > b", "a\x011e400\x02b\x011.7976931348623157e308"),
    ("a > b", "a\x014.9e-324\x02b\x010x0.8p-1074"),
    ("a > b", "a\x010x1.00000000000018p0\x02b\x011.0000000000000002"),
    ("a > b", "a\x010x.1p1\x02b\x01."),
    ("a > b", "a\x011e5e5\x02b\x011"),
    ("a > b", "a\x01Infinity \x02b\x01+infinity"),
    ("a = TRUE", "a\x01tRuE"),
    ("a = TRUE", "a\x01 true"),
    ("a = FALSE", "a\x01no"),
    ("a <> TRUE", "a\x01no"),
    ("TRUE = TRUE", ""),
    ("TRUE <> FALSE", ""),
    ("TRUE = 'x'", ""),
    ("TRUE = (1 = 1)", ""),
    ("TRUE = (a = 1)", ""),
    ("(a = 1) = (b = 1)", ""),
    ("(a = 1) = NULL", ""),
    ("5 = TRUE", ""),
    ("'x' = TRUE", ""),
    ("'true' = TRUE", ""),
    ("- - 5 = 5", ""),
    ("--5\n = 5", ""),
    ("a --5\r= 5", "a\x015"),
    ("a --5\r\n= 5", "a\x015"),
    ("-TRUE IS NULL", ""),
    ("-'5' IS NULL", ""),
    ("-NULL IS NULL", ""),
    ("-(a = 1) IS NULL", "a\x011"),
    ("-a", "a\x011"),
    ("+a", "a\x011"),
    ("NOT +a", "a\x011"),
    ("+a IN ('1')", "a\x011"),
    ("-a IN ('1')", "a\x011"),
    ("-2147483648 = a", "a\x01-2147483648"),
    ("-9223372036854775807 = a", "a\x01-9223372036854775807"),
    ("-9223372036854775808 = a", "a\x01-9223372036854775808"),
    ("a BETWEEN -5 AND -6", "a\x01-5"),
    ("a BETWEEN 5 AND 5.0", "a\x015"),
    ("a BETWEEN 3000000000 AND 1e9", "a\x015"),
    ("a BETWEEN 'a' AND 'b'", "a\x01a"),
    ("a BETWEEN TRUE AND 'b'", "a\x01a"),
    ("a BETWEEN NULL AND b", "a\x01a"),
    ("a NOT BETWEEN NULL AND b", "a\x01a"),
    ("'a' BETWEEN 1 AND 2", ""),
    ("1.5 BETWEEN 1 AND 2", ""),
    ("a BETWEEN b AND c AND d", "a\x011\x02b\x010\x02c\x012"),
    ("a BETWEEN 1 AND 2 BETWEEN 3 AND 4", "a\x011"),
    ("a IN ('1') IN ('2')", "a\x011"),
    ("a IN ('1') = TRUE", "a\x011"),
    ("a IN ('1',)", "a\x011"),
    ("a IN ('1' '2')", "a\x011"),
    ("a IN '1'", "a\x011"),
    ("a NOT NOT IN ('1')", "a\x011"),
    ("a IS NOT NOT NULL", "a\x011"),
    ("a IS NULL = TRUE", ""),
    ("a IS NULL IS NOT NULL", ""),
    ("a = b = c", "a\x011\x02b\x011\x02c\x01true"),
    ("a = b = c", ""),
    ("a > b > c", "a\x011"),
    ("a > (b) ", "a\x012\x02b\x011"),
    ("a > -b", "a\x012\x02b\x011"),
    ("a > NOT b", "a\x012\x02b\x011"),
    ("a = NOT b", "a\x01true\x02b\x011"),
    ("NOT a = b", "a\x01true\x02b\x011"),
    ("NOT NOT a", "a\x01true"),
    ("NOT 5", ""),
    ("NOT 'x'", ""),
    ("NOT TRUE", ""),
    ("TRUE AND NULL", ""),
    ("FALSE OR NULL", ""),
    ("'x' OR TRUE", ""),
    ("a AND TRUE", "a\x01true"),
    ("((((a))))", "a\x01true"),
    ("a = 'it''s'", "a\x01it's"),
    ("a = ''''", "a\x01'"),
    ("a = ''", "a\x01x"),
    ("a = 'x'' '", "a\x01x"),
    ("a = 'x''", "a\x01x"),
    ("a = 5 'x''y", "a\x015"),
    ("a = 5 'x", "a\x015"),
    ("a = 'line\nline'", "a\x01line\nline"),
    ("a = \"x\"", "a\x01x"),
    ("a /**/ = 5", "a\x015"),
    ("a /***/ = 5", "a\x015"),
    ("a /*/ = 5", "a\x015"),
    ("a /* x */ /* y */ = 5", "a\x015"),
    ("a = 5 /*", "a\x015"),
    ("a = 5 /", "a\x015"),
    ("a = 5 --", "a\x015"),
    ("a = 5 --\n", "a\x015"),
    ("a = 5 --\nAND b = 5", "a\x015"),
    ("a = 5L", "a\x015"),
    ("a = 0L", "a\x010"),
    ("a = 00", "a\x010"),
    ("a = 05", "a\x010"),
    ("a = 5.5.5", "a\x015.5"),
    ("a = 5..5", "a\x015"),
    ("a = .", "a\x015"),
    ("a = .e5", "a\x015"),
    ("a = 5e+", "a\x015"),
    ("a = 5E-1", "a\x010.5"),
    ("a = 05.5", "a\x015.5"),
    ("a = 5.5L", "a\x015.5"),
    ("a = 5.5f", "a\x015.5"),
    ("a = 0x5", "a\x010"),
    ("a = 1e-400", "a\x010"),
    ("a = 4.9e-324", "a\x014.9e-324"),
    ("a = 1.7976931348623159e308", "a\x015"),
    ("a=5AND b=6", "a\x015\x02b\x016"),
    ("a=5e AND b=6", "a\x015\x02b\x016"),
    ("a<>5", "a\x016"),
    ("a>=<5", "a\x016"),
    ("a=>5", "a\x016"),
    ("a==5", "a\x016"),
    ("a;b", "a\x016"),
    ("a\u{b}= 5", "a\x015"),
    ("a\u{c}= 5", "a\x015"),
    ("a\u{a0}= 5", "a\x015"),
    ("\u{feff}a = 5", "a\x015"),
    ("$ = 5", "$\x015"),
    ("_a1$ = 5", "_a1$\x015"),
    ("1a = 5", "a\x015"),
    ("a-b = 5", "a-b\x015"),
    ("NOTa = 5", "NOTa\x015"),
    ("Not(a = 5)", "a\x016"),
    ("iS = 5", ""),
    ("a LIKE 'x'", "a\x01x"),
    ("a CONTAINS 'x'", "a\x01x"),
    ("a STARTSWITH 'x'", "a\x01x"),
    ("NULL", ""),
    ("NULL IS NOT NULL", ""),
    ("NULL = NULL", ""),
    ("NULL <> a", ""),
    (" ", ""),
    ("(", ""),
    ("()", ""),
    (")", ""),
    ("AND", ""),
    ("a AND", ""),
    ("a OR OR b", ""),
    ("a = 5 IS", "a\x015"),
    ("a = 5 NOT", "a\x015"),
    ("a = 5 BETWEEN", "a\x015"),
    ("a = 5 = ", "a\x015"),
    ("a = 5 (", "a\x015"),
    ("a = 5 ,", "a\x015"),
    ("a = 5 NULL", "a\x015"),
    ("a = 5 'x'", "a\x015"),
    ("a = 5 5", "a\x015"),
    ("a = 5 +", "a\x015"),
];

fn cases() -> Vec<(String, String)> {
    let own = |(text, having): &(&str, &str)| ((*text).to_owned(), (*having).to_owned());
    let mut cases: Vec<_> = BY_HAND.iter().map(own).collect();
    let mut rng = hotfire::rt::rng::Rng::from_seed(92);
    for turn in 0..600 {
        let mut dice = |n| rng.below(n);
        let selector = generate::selector(&mut dice);
        let mut text = generate::text(&selector, &mut dice);
        let having = match dice(2) {
            0 => generate::having(&mut dice),
            _ => generate::plain_having(&mut dice),
        };
        if turn % 4 == 0 {
            // A letter more or less.
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let at = starts[dice(starts.len() as u64) as usize];
            if dice(2) == 0 {
                text.remove(at);
            } else {
                text.insert_str(at, WORDS[dice(WORDS.len() as u64) as usize]);
            }
        }
        let properties = String::from_utf8(property_string(&having)).unwrap();
        cases.push((text, properties));
    }
    cases
}

/// Writes the cases when it is told where, for `tests/golden/GoldenSql92.java`.
#[test]
fn cases_are_written_for_java() {
    let escaped = |text: &str| {
        let json = serde_json::to_string(text).unwrap();
        json[1..json.len() - 1].to_owned()
    };
    let lines: String = cases()
        .iter()
        .map(|(text, having)| format!("{}\t{}\n", escaped(text), escaped(having)))
        .collect();
    if let Ok(path) = std::env::var("SQL92_CASES") {
        std::fs::write(path, &lines).unwrap();
    }
    assert!(lines.lines().count() > 700);
}

#[test]
fn outcomes_are_those_of_java() {
    let path = format!("{}/tests/golden/sql92.txt", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(path).unwrap();
    let unescaped = |text: &str| serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap();
    let mut wrong = Vec::new();
    let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &lines {
        let mut parts = line.splitn(3, '\t');
        let (expected, text, having) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let found = match outcome(&unescaped(text), unescaped(having).as_bytes()) {
            Outcome::True => "true",
            Outcome::False => "false",
            Outcome::Null => "null",
            Outcome::Fault => "fault",
            Outcome::Illegal => "illegal",
        };
        if found != expected {
            wrong.push(format!("{line}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
    assert!(lines.len() > 700);
}
