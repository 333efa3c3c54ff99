//! What was asked of members through a broker, and of a broker's configuration.

use super::calls::Calls;
use super::judge::Verdict;
use hotfire::rt::sim::mark;
use serde_json::Value;
use std::collections::BTreeMap;

/// A request without an answer may still be carried out within this. Units: microseconds.
const LATE_US: u64 = 8_000_000;

/// What a member is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Info,
    /// To consume the record at `at`.
    Direct {
        at: u64,
        body: Vec<u8>,
    },
}

/// One question on its way.
struct Question {
    to: String,
    kind: Kind,
    heard: u32,
    /// What the member answers; `None` while it has not heard of it, or says nothing.
    code: Option<i32>,
    /// The record that came along.
    record: Option<(u64, Vec<u8>)>,
}

/// What a member has said of where it is: numbers from 1 on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statuses {
    pub said: i64,
    /// How often it said nothing.
    pub silent: u64,
    /// When its newest answer leaves it. Units: microseconds.
    pub given_us: u64,
}

/// What became of a change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigAsked {
    Done,
    /// The answer was no: the file may have it all the same.
    Refused,
    Unknown,
}

/// One value. Units: microseconds.
struct Asked {
    asked_us: u64,
    /// It is made by then, if ever; `None` while nobody knows.
    end_us: Option<u64>,
    is_done: bool,
}

#[derive(Default)]
pub struct Questions {
    all: Vec<Question>,
    /// What each member has said of where it is.
    statuses: BTreeMap<String, Statuses>,
    /// Broker and value.
    configs: BTreeMap<usize, BTreeMap<i64, Asked>>,
}

/// The value of the key at the first start.
pub const FIRST_VALUE: i64 = 5_000;

impl Calls {
    /// A question is about to be asked. Returns its number.
    pub fn ask(&mut self, to: &str, kind: Kind) -> usize {
        let question = Question { to: to.to_owned(), kind, heard: 0, code: None, record: None };
        self.questions.all.push(question);
        self.questions.all.len() - 1
    }

    /// A member heard a question and answers with this code, or nothing.
    pub fn on_question(
        &mut self,
        id: &str,
        number: Option<usize>,
        code: Option<i32>,
        record: Option<(u64, Vec<u8>)>,
    ) -> Verdict {
        let Some(question) = number.and_then(|n| self.questions.all.get_mut(n)) else {
            return Err(format!("{id} was asked {number:?}, which nobody asks"));
        };
        if question.to != id {
            return Err(format!("{id} was asked {number:?}, which is for {}", question.to));
        }
        question.heard += 1;
        if question.heard > 1 {
            return Err(format!("{id} was asked {number:?} twice"));
        }
        (question.code, question.record) = (code, record);
        Ok(())
    }

    /// The operator has an answer: `code`, and code and body as the member said them when it is
    /// the member's. `is_calm`: the member was there all the time and nothing disturbed.
    /// `is_lost`: a power loss may have put another record in the place of the one meant.
    pub fn on_answer(
        &mut self,
        number: usize,
        code: i32,
        said: Option<(i32, Vec<u8>)>,
        is_calm: bool,
        is_lost: bool,
    ) -> Verdict {
        let question = &self.questions.all[number];
        let to = &question.to;
        match said {
            None if code == 0 => Err(format!("question {number} to {to}: a success of nobody")),
            None if is_calm && question.heard == 0 => {
                Err(format!("question {number} did not come to {to}, which is there: {code}"))
            }
            None if is_calm && question.code.is_some() => {
                Err(format!("question {number}: {to} answered, and the operator got {code}"))
            }
            None => Ok(()),
            Some((code, body)) => {
                if question.code != Some(code) || body != format!("{to}:{number}").into_bytes() {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let said = question.code;
                    return Err(format!(
                        "question {number}: {to} said {said:?}, the operator got {code}: {body}"
                    ));
                }
                mark("calls: a member answered an operator");
                match &question.kind {
                    Kind::Direct { at, body } if !is_lost => {
                        mark("calls: a member consumed a message directly");
                        match &question.record {
                            Some((found, got)) if found == at && got == body => Ok(()),
                            _ => Err(format!("{to} was to consume {at} and got another record")),
                        }
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// A member is asked where it is: it says the next number at `given_us`, or nothing.
    pub fn on_status(&mut self, id: &str, given_us: Option<u64>) -> i64 {
        let own = self.questions.statuses.entry(id.to_owned()).or_default();
        match given_us {
            Some(given_us) => {
                own.said += 1;
                own.given_us = own.given_us.max(given_us);
            }
            None => own.silent += 1,
        }
        own.said
    }

    pub fn statuses(&self, id: &str) -> Statuses {
        self.questions.statuses.get(id).copied().unwrap_or_default()
    }

    /// A table of members: each with a number that it said, `own` with one after `before`.
    /// Returns whether `own` is there.
    pub fn on_status_table(
        &self,
        table: &Value,
        own: &str,
        before: Statuses,
    ) -> Result<bool, String> {
        for (id, queues) in table.as_object().into_iter().flatten() {
            let number = queues["here"].as_i64().unwrap_or(-1);
            if !(1..=self.statuses(id).said).contains(&number) {
                return Err(format!("{id} never said that it is at {number}"));
            }
            mark("calls: a member said where it is");
        }
        match table[own]["here"].as_i64() {
            Some(number) if number <= before.said => {
                Err(format!("{own} is at {number}, which it said before it was asked"))
            }
            found => Ok(found.is_some()),
        }
    }

    /// A member is not in the table of a question at `asked_us`, and was there all the time.
    pub fn judge_absence(&self, own: &str, before: Statuses, asked_us: u64) -> Verdict {
        /// An answer that left within this had time to arrive, on a connection that is well.
        const SOON_US: u64 = 2_400_000;
        let now = self.statuses(own);
        let is_soon = now.given_us < asked_us + SOON_US;
        if now.said > before.said && now.silent == before.silent && is_soon {
            return Err(format!("{own} said where it is, and is not in the table"));
        }
        Ok(())
    }

    /// A value is about to be asked for: one that never was.
    pub fn on_config_asked(&mut self, broker: usize, asked_us: u64) -> i64 {
        let values = self.questions.configs.entry(broker).or_default();
        if values.is_empty() {
            let first = Asked { asked_us: 0, end_us: Some(0), is_done: true };
            values.insert(FIRST_VALUE, first);
        }
        let value = FIRST_VALUE + values.len() as i64;
        values.insert(value, Asked { asked_us, end_us: None, is_done: false });
        value
    }

    pub fn on_config(&mut self, broker: usize, value: i64, became: ConfigAsked, now_us: u64) {
        let Some(values) = self.questions.configs.get_mut(&broker) else { return };
        let Some(row) = values.get_mut(&value) else { return };
        let is_unknown = became == ConfigAsked::Unknown;
        row.end_us = Some(if is_unknown { now_us + LATE_US } else { now_us });
        row.is_done = became == ConfigAsked::Done;
        if row.is_done {
            mark("calls: a configuration was changed");
        }
    }

    /// Whether a value that was read may be there: it was asked for, and none that came after it
    /// was done before the read began.
    pub fn judge_config(&self, broker: usize, value: Option<i64>, read_us: u64) -> Verdict {
        let Some(values) = self.questions.configs.get(&broker) else {
            return if value == Some(FIRST_VALUE) {
                Ok(())
            } else {
                Err(format!("broker {broker} has {value:?}, which nobody asked for"))
            };
        };
        let Some((value, row)) = value.and_then(|value| Some((value, values.get(&value)?))) else {
            return Err(format!("broker {broker} has {value:?}, which nobody asked for"));
        };
        let end_us = row.end_us.unwrap_or(u64::MAX);
        let later = values.iter().find(|(_, other)| {
            other.is_done && other.asked_us > end_us && other.end_us.is_some_and(|at| at < read_us)
        });
        match later {
            None => Ok(()),
            Some((newer, _)) => Err(format!(
                "broker {broker} has {value}, although {newer} was done after it and before"
            )),
        }
    }
}
