//! Makes selectors and messages from dice, and writes selectors as text.

use super::reference::Term;

/// `dice(n)` gives a number below `n`, which is at least 1.
pub type Dice<'a> = &'a mut dyn FnMut(u64) -> u64;

const NAMES: &[&str] = &["a", "b", "c", "TAGS", "x_1", "$y"];

/// Texts that look like numbers of each kind, like booleans, and like neither.
const VALUES: &[&str] = &[
    "5",
    "3",
    "-3",
    "0",
    "7",
    "10",
    "5.0",
    "2.5",
    "-0.0",
    "+5",
    "007",
    "3000000000",
    "1e3",
    "5d",
    "NaN",
    "-Infinity",
    " 5",
    "5 ",
    "true",
    "TRUE",
    "false",
    "x",
    "y",
    "it's",
    "\u{e9}\u{1f525}",
    "99999999999999999999",
    "-",
    ".",
    "1e",
    "tagA",
];

fn pick<'v>(dice: Dice, from: &[&'v str]) -> &'v str {
    from[dice(from.len() as u64) as usize]
}

/// The properties of one message. Some names are missing, one may come twice.
pub fn having(dice: Dice) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for name in NAMES {
        for _ in 0..[1, 1, 1, 0, 0, 2][dice(6) as usize] {
            out.push(((*name).to_owned(), pick(dice, VALUES).to_owned()));
        }
    }
    out
}

/// A message of which every value is a small number: most comparisons have an outcome.
pub fn plain_having(dice: Dice) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for name in NAMES {
        if dice(5) > 0 {
            out.push(((*name).to_owned(), dice(12).to_string()));
        }
    }
    out
}

/// A selector. Seldom it is one that does not compile.
pub fn selector(dice: Dice) -> Term {
    condition(dice, 4)
}

fn condition(dice: Dice, depth: u64) -> Term {
    let kinds = if depth == 0 { 12 } else { 22 };
    match dice(kinds) {
        0..=2 => binary(dice, depth, &["=", "<>"]),
        3..=5 => binary(dice, depth, &[">", ">=", "<", "<="]),
        6 | 7 => Term::IsNull(Box::new(operand(dice, depth)), dice(2) == 0),
        8 | 9 => {
            let list = (0..=dice(7)).map(|_| pick(dice, VALUES).to_owned()).collect();
            Term::In(Box::new(name(dice)), list, dice(2) == 0)
        }
        10 => between(dice, depth),
        11 => name(dice),
        12..=14 => Term::And(sub(dice, depth), sub(dice, depth)),
        15..=17 => Term::Or(sub(dice, depth), sub(dice, depth)),
        18 | 19 => Term::Not(sub(dice, depth)),
        20 => [Term::True, Term::False, Term::Null][dice(3) as usize].clone(),
        _ => operand(dice, depth),
    }
}

fn sub(dice: Dice, depth: u64) -> Box<Term> {
    Box::new(condition(dice, depth - 1))
}

fn binary(dice: Dice, depth: u64, signs: &[&'static str]) -> Term {
    let left = operand(dice, depth);
    let sign = pick(dice, signs);
    Term::Binary(Box::new(left), sign, Box::new(operand(dice, depth)))
}

fn between(dice: Dice, depth: u64) -> Term {
    let value = Box::new(operand(dice, depth));
    let (low, high) = (operand(dice, depth), operand(dice, depth));
    Term::Between(value, Box::new(low), Box::new(high), dice(2) == 0)
}

fn name(dice: Dice) -> Term {
    Term::Name(pick(dice, NAMES).to_owned())
}

fn operand(dice: Dice, depth: u64) -> Term {
    match dice(24) {
        0..=9 => name(dice),
        10..=14 => Term::Whole([0, 1, 3, 5, 10, 2_147_483_647, 2_147_483_648][dice(7) as usize]),
        15 | 16 => Term::Real(pick(dice, &["5.0", "2.5", ".5e1", "3.", "1e3", "0.0"]).to_owned()),
        17 | 18 => Term::Text(pick(dice, VALUES).to_owned()),
        19 => Term::Minus(Box::new(operand(dice, depth.saturating_sub(1)))),
        20 => Term::Plus(Box::new(operand(dice, depth.saturating_sub(1)))),
        21 => Term::Not(Box::new(name(dice))),
        22 => [Term::True, Term::False, Term::Null][dice(3) as usize].clone(),
        _ if depth > 0 => condition(dice, depth - 1),
        _ => name(dice),
    }
}

/// One of the texts of a selector: blanks, comments, letter case, parentheses and what follows it
/// are free.
pub fn text(selector: &Term, dice: Dice) -> String {
    let mut writer = Writer { out: String::new(), dice };
    writer.blank(false);
    writer.term(selector, OR);
    writer.blank(true);
    if (writer.dice)(8) == 0 {
        let junk = pick(writer.dice, &["junk #", ") (", "5 6", ", a", "+ 1 = 2", "'q' !"]);
        writer.out.push_str(junk);
    }
    writer.out
}

const OR: u8 = 0;
const AND: u8 = 1;
const EQUALITY: u8 = 2;
const COMPARISON: u8 = 3;
const UNARY: u8 = 4;
const PRIMARY: u8 = 5;

fn level(term: &Term) -> u8 {
    match term {
        Term::Or(..) => OR,
        Term::And(..) => AND,
        Term::Binary(_, "=" | "<>", _) | Term::IsNull(..) => EQUALITY,
        Term::Binary(..) | Term::Between(..) | Term::In(..) => COMPARISON,
        Term::Plus(_) | Term::Minus(_) | Term::Not(_) => UNARY,
        _ => PRIMARY,
    }
}

struct Writer<'a> {
    out: String,
    dice: Dice<'a>,
}

impl Writer<'_> {
    fn blank(&mut self, must: bool) {
        let blank = match (self.dice)(20) {
            0 => "\n",
            1 => "\t ",
            2 => " /* a = 1 **/ ",
            3 => " -- a = 1\n",
            4..=8 if !must => "",
            _ => " ",
        };
        self.out.push_str(blank);
    }

    fn word(&mut self, word: &str) {
        self.blank(true);
        for letter in word.chars() {
            let lower = (self.dice)(4) == 0;
            self.out.push(if lower { letter.to_ascii_lowercase() } else { letter });
        }
        self.blank(true);
    }

    fn sign(&mut self, sign: &str) {
        self.blank(false);
        self.out.push_str(sign);
        self.blank(false);
    }

    fn quoted(&mut self, text: &str) {
        self.out.push_str(&format!("'{}'", text.replace('\'', "''")));
    }

    /// Writes `term` where the grammar wants at least `wanted`.
    fn term(&mut self, term: &Term, wanted: u8) {
        if level(term) < wanted || (self.dice)(10) == 0 {
            self.sign("(");
            self.bare(term);
            self.sign(")");
        } else {
            self.bare(term);
        }
    }

    fn bare(&mut self, term: &Term) {
        match term {
            Term::Name(name) => self.out.push_str(name),
            Term::Whole(value) => {
                let suffix = ["", "", "l", "L"][(self.dice)(4) as usize];
                let suffix = if *value == 0 { "" } else { suffix };
                self.out.push_str(&format!("{value}{suffix}"));
            }
            Term::Real(text) => self.out.push_str(text),
            Term::Text(text) => self.quoted(text),
            Term::True => self.word("TRUE"),
            Term::False => self.word("FALSE"),
            Term::Null => self.word("NULL"),
            Term::Plus(inner) => self.unary("+", inner),
            Term::Minus(inner) => self.unary("-", inner),
            Term::Not(inner) => {
                self.word("NOT");
                self.term(inner, UNARY);
            }
            Term::Binary(left, sign, right) => {
                let inner = level(term);
                self.term(left, inner);
                self.sign(sign);
                self.term(right, inner + 1);
            }
            Term::And(left, right) => self.joined(left, "AND", right, AND),
            Term::Or(left, right) => self.joined(left, "OR", right, OR),
            Term::IsNull(inner, not) => {
                self.term(inner, EQUALITY);
                self.word("IS");
                self.not(*not);
                self.word("NULL");
            }
            Term::Between(value, low, high, not) => {
                self.term(value, COMPARISON);
                self.not(*not);
                self.word("BETWEEN");
                self.term(low, UNARY);
                self.word("AND");
                self.term(high, UNARY);
            }
            Term::In(inner, list, not) => {
                self.term(inner, COMPARISON);
                self.not(*not);
                self.word("IN");
                self.sign("(");
                for (at, text) in list.iter().enumerate() {
                    if at > 0 {
                        self.sign(",");
                    }
                    self.quoted(text);
                }
                self.sign(")");
            }
        }
    }

    /// A blank follows the sign: two of them might begin a comment.
    fn unary(&mut self, sign: &str, inner: &Term) {
        self.sign(sign);
        self.out.push(' ');
        self.term(inner, UNARY);
    }

    fn not(&mut self, not: bool) {
        if not {
            self.word("NOT");
        }
    }

    fn joined(&mut self, left: &Term, word: &str, right: &Term, level: u8) {
        self.term(left, level);
        self.word(word);
        self.term(right, level + 1);
    }
}
