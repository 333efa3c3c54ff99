//! What the broker does between its clients: replies that it passes on, resets that it announces,
//! locks that it gives.

use super::judge::Verdict;
use super::questions::Questions;
use hotfire::rt::sim::mark;
use std::collections::BTreeMap;

/// One reply on its way.
struct Reply {
    to: String,
    body: String,
    taken: u32,
    /// What the asker answered the broker.
    code: i32,
}

/// Who may have a lock. Units: microseconds since the run began.
#[derive(Default)]
struct Holding {
    /// It certainly has it from here until there, unless its broker dies.
    from: u64,
    until: u64,
    /// The lives of the broker when it was asked for.
    lives: (u64, u64),
    /// It may have it until then.
    maybe_until: u64,
    /// It has asked and has no answer yet.
    is_asking: bool,
}

/// A lock request and its answer. Units: microseconds since the run began.
pub struct Asked {
    pub asked_us: u64,
    pub answered_us: u64,
    /// The broker's lives before and after.
    pub lives: ((u64, u64), (u64, u64)),
    pub lifetime_us: u64,
}

/// Whether a name server that could be told knows a topic when its maker has the answer.
pub fn judge_route(topic: &str, is_there: bool) -> Verdict {
    is_there.then_some(()).ok_or_else(|| format!("{topic} is made, and has no route"))
}

/// Whether a broker may name a queue of this group as stuck, or must.
pub fn judge_stuck(group: &str, is_named: bool, must: bool) -> Verdict {
    match (is_named, must) {
        (false, true) => Err(format!("{group} stands still, and the broker does not say so")),
        (true, false) => Err(format!("{group} goes on, and the broker calls it stuck")),
        _ => Ok(()),
    }
}

/// Everything that was asked and told.
#[derive(Default)]
pub struct Calls {
    pub(super) questions: Questions,
    replies: Vec<Reply>,
    /// Client ids that wait for replies, with the machine and generation of their process.
    askers: BTreeMap<String, (usize, u64)>,
    /// Broker and client.
    locks: BTreeMap<usize, BTreeMap<String, Holding>>,
}

impl Calls {
    pub fn on_asker(&mut self, id: &str, machine: usize, generation: u64) {
        self.askers.insert(id.to_owned(), (machine, generation));
    }

    pub fn askers(&self) -> Vec<(String, usize, u64)> {
        let row = |(id, (machine, generation)): (&String, &(usize, u64))| {
            (id.clone(), *machine, *generation)
        };
        self.askers.iter().map(row).collect()
    }

    /// A reply is about to be sent; its number is its correlation id.
    pub fn on_reply(&mut self, to: &str) -> (usize, String) {
        let number = self.replies.len();
        let body = format!("reply {number} to {to}");
        self.replies.push(Reply { to: to.to_owned(), body: body.clone(), taken: 0, code: 0 });
        (number, body)
    }

    /// A reply was pushed to `id`, which answers with this code.
    pub fn on_pushed(&mut self, id: &str, number: &str, body: &[u8], code: i32) -> Verdict {
        let known = number.parse::<usize>().ok().and_then(|n| self.replies.get_mut(n));
        let Some(reply) = known else {
            return Err(format!("{id} was pushed the reply {number:?}, which nobody sent"));
        };
        if reply.to != id {
            return Err(format!("{id} was pushed reply {number}, which is for {}", reply.to));
        }
        if reply.body.as_bytes() != body {
            return Err(format!("reply {number} came to {id} with another body"));
        }
        if reply.taken > 0 {
            return Err(format!("reply {number} was pushed to {id} twice"));
        }
        (reply.taken, reply.code) = (1, code);
        Ok(())
    }

    /// The broker told the sender what became of its reply.
    pub fn on_reply_answered(&mut self, number: usize, code: i32) -> Verdict {
        let reply = &self.replies[number];
        if code != 0 {
            return Ok(());
        }
        if reply.taken == 0 {
            return Err(format!(
                "reply {number} counts as pushed, and {} has not got it",
                reply.to
            ));
        }
        if reply.code != 0 {
            return Err(format!("reply {number} counts as taken, and {} refused it", reply.to));
        }
        mark("calls: a reply came to who asked");
        Ok(())
    }

    /// A client asks for a lock: it may have it before it knows.
    pub fn on_lock_asked(&mut self, broker: usize, client: &str) {
        let all = self.locks.entry(broker).or_default();
        all.entry(client.to_owned()).or_default().is_asking = true;
    }

    /// A client got a lock, or was refused one.
    pub fn on_lock(&mut self, broker: usize, client: &str, is_given: bool, at: &Asked) -> Verdict {
        let all = self.locks.entry(broker).or_default();
        let is_one_life = at.lives.0 == at.lives.1;
        all.entry(client.to_owned()).or_default().is_asking = false;
        let others = all.iter().filter(|(name, _)| *name != client);
        if is_given {
            for (name, held) in others {
                let is_inside = held.from < at.asked_us && at.answered_us < held.until;
                if is_inside && is_one_life && held.lives == at.lives.0 {
                    return Err(format!(
                        "{client} got a lock at {} us that {name} has from {} to {} us",
                        at.answered_us, held.from, held.until
                    ));
                }
            }
            mark("calls: a queue was locked");
            let held = Holding {
                from: at.answered_us,
                until: if is_one_life { at.asked_us + at.lifetime_us } else { 0 },
                lives: at.lives.0,
                maybe_until: at.answered_us + at.lifetime_us,
                is_asking: false,
            };
            all.insert(client.to_owned(), held);
            return Ok(());
        }
        let is_free = |held: &Holding| !held.is_asking && held.maybe_until < at.asked_us;
        if others.clone().all(|(_, held)| is_free(held)) {
            return Err(format!(
                "{client} was refused a lock at {} us, nobody has it",
                at.asked_us
            ));
        }
        mark("calls: a lock was refused, another has it");
        Ok(())
    }

    /// A request for a lock has no answer: it may have been given.
    pub fn on_lock_unknown(&mut self, broker: usize, client: &str, maybe_until: u64) {
        let all = self.locks.entry(broker).or_default();
        let held = all.entry(client.to_owned()).or_default();
        held.is_asking = false;
        held.maybe_until = held.maybe_until.max(maybe_until);
    }

    /// A client is about to give its lock back, or did by then.
    pub fn on_unlock(&mut self, broker: usize, client: &str, done_us: Option<u64>) {
        let all = self.locks.entry(broker).or_default();
        let Some(held) = all.get_mut(client) else { return };
        held.until = 0;
        if let Some(done_us) = done_us {
            held.maybe_until = done_us;
        }
    }
}
