//! `hotfire/epochs`, ours alone: who wrote which part of the log.
//!
//! Each start of a broker as a writable master begins an epoch at the log's end; slaves copy the
//! list. Of two logs whose lists agree up to some epoch everything below the earlier end of that
//! epoch is the same. Layout: docs/formats/own_files.md.

use super::bytes_at;

const MAGIC: [u8; 8] = *b"HFEPOCHS";
const VERSION: u32 = 1;
const HEAD_SIZE: usize = 16;
const ROW_SIZE: usize = 24;
const CHECKSUM_SIZE: usize = 4;

/// Epochs that are kept; the oldest of more are forgotten. Each is one start of a master.
pub const COUNT_MAX: usize = 1000;
/// Units: bytes of the largest file.
pub const SIZE_MAX: u64 = (HEAD_SIZE + COUNT_MAX * ROW_SIZE + CHECKSUM_SIZE) as u64;

/// A slave that becomes the master begins the next multiple of this, and one. So it comes before a
/// master that it replaced, however often that one starts. Above the starts of any broker.
const TERM: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Grows by one with each start of a master, and with a new master to the next million.
    pub number: u64,
    /// Where the log ended when it began. Units: an offset of the log.
    pub start: u64,
    /// Drawn when it began: two masters that begin the same number are told apart.
    pub id: u64,
}

/// The epochs of a log, oldest first. What lies below the first was written by whoever was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Vec<Epoch>);

/// What two logs have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Below this both are the same, if the lists are true.
    pub end: u64,
    /// Both lists are the same.
    pub is_same: bool,
}

impl Epochs {
    pub fn rows(&self) -> &[Epoch] {
        &self.0
    }

    /// The number of the newest epoch; 0 when none is known.
    pub fn number(&self) -> u64 {
        self.0.last().map_or(0, |epoch| epoch.number)
    }

    /// Who began the newest epoch here was replaced: another list goes on behind it. A list that
    /// lacks it begins its next one no earlier: an epoch without a record leaves no row.
    fn is_followed_in(&self, other: &Epochs) -> bool {
        let Some(newest) = self.0.last() else { return false };
        let twin = other.0.iter().find(|row| row.number == newest.number);
        let goes_on = |row: &Epoch| row.number > newest.number && row.start >= newest.start;
        twin.is_none_or(|twin| twin == newest) && other.0.iter().any(goes_on)
    }

    /// How often a slave had become the master when the newest epoch began.
    fn term(&self) -> u64 {
        self.number() / TERM
    }

    /// Who began the newest epoch here is not the master any more: it was followed, or a slave
    /// became the master meanwhile, however often this one started since. A list that was lost and
    /// begun again says nothing: it shares no epoch, and begins late.
    pub fn is_replaced_in(&self, other: &Epochs) -> bool {
        let shares = self.0.iter().any(|row| other.0.contains(row));
        let is_whole = self.0.first().is_some_and(|first| first.start == 0);
        self.is_followed_in(other) || (other.term() > self.term() && (shares || is_whole))
    }

    /// The other list is that of a master that began anew, with an empty disk: no row is in both,
    /// and it does not go on behind the newest here, as a list does whose master lost a young log.
    pub fn is_of_another(&self, other: &Epochs) -> bool {
        let shares = self.0.iter().any(|row| other.0.contains(row));
        !self.0.is_empty() && !shares && other.number() <= self.number()
    }

    /// A master begins to write at `end`, the log's end. Epochs that would have begun behind it
    /// left nothing here. `is_heir`: it was a slave before.
    pub fn begin(&mut self, end: u64, id: u64, is_heir: bool) {
        let number = if is_heir { (self.term() + 1) * TERM + 1 } else { self.number() + 1 };
        self.0.retain(|epoch| epoch.start < end);
        self.0.push(Epoch { number, start: end, id });
        let excess = self.0.len().saturating_sub(COUNT_MAX);
        self.0.drain(..excess);
    }

    /// In which epoch the last record of a log that ends at `end` was written; 0 when that is not
    /// known.
    pub fn number_below(&self, end: u64) -> u64 {
        let count = self.0.partition_point(|epoch| epoch.start < end);
        self.0[..count].last().map_or(0, |epoch| epoch.number)
    }

    /// The list of a log that takes the records of another up to `end`. `None` when this list
    /// says of them what the other one does. Otherwise they are of epochs that another began: the
    /// list is the other's then, and an epoch of this log's own follows, above all of both, so
    /// that nobody who was replaced comes before this one. `id`: drawn for it.
    pub fn taking(&self, other: &Epochs, end: u64, id: u64) -> Option<Epochs> {
        let is_known = other.0.is_empty() || self.common(end, other, end).end >= end;
        if is_known {
            return None;
        }
        let mut next = Epochs(other.up_to(end).to_vec());
        next.0.retain(|epoch| epoch.start < end);
        let number = self.number().max(other.number()) + 1;
        next.0.push(Epoch { number, start: end, id });
        let excess = next.0.len().saturating_sub(COUNT_MAX);
        next.0.drain(..excess);
        Some(next)
    }

    /// The list as far as a log that ends at `end` can have it.
    fn up_to(&self, end: u64) -> &[Epoch] {
        &self.0[..self.0.partition_point(|epoch| epoch.start <= end)]
    }

    /// What a log with this list that ends at `end` has in common with another.
    pub fn common(&self, end: u64, other: &Epochs, other_end: u64) -> Common {
        let (mine, theirs) = (self.up_to(end), other.up_to(other_end));
        // What one of both has forgotten of its oldest epochs counts as the same.
        let first =
            mine.first().map_or(0, |e| e.number).max(theirs.first().map_or(0, |e| e.number));
        let from = |rows: &[Epoch]| rows.partition_point(|epoch| epoch.number < first);
        let is_cut = from(mine) > 0 || from(theirs) > 0;
        let (mine, theirs) = match is_cut && from(mine) < mine.len() && from(theirs) < theirs.len()
        {
            true => (&mine[from(mine)..], &theirs[from(theirs)..]),
            false => (mine, theirs),
        };
        let agree = mine.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let end_of = |rows: &[Epoch], end: u64| rows.get(agree).map_or(end, |epoch| epoch.start);
        Common {
            end: end_of(mine, end).min(end_of(theirs, other_end)),
            is_same: agree == mine.len() && agree == theirs.len(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_SIZE + self.0.len() * ROW_SIZE + CHECKSUM_SIZE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for epoch in &self.0 {
            for field in [epoch.number, epoch.start, epoch.id] {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// `None` when the bytes are not a list: then nothing is known.
    pub fn decode(bytes: &[u8]) -> Option<Epochs> {
        let body = bytes.get(..bytes.len().checked_sub(CHECKSUM_SIZE)?)?;
        let known = bytes_at::array::<8>(body, 0)? == MAGIC && bytes_at::u32(body, 8)? == VERSION;
        if !known || bytes_at::u32(bytes, body.len())? != crc32fast::hash(body) {
            return None;
        }
        let count = bytes_at::u32(body, 12)? as usize;
        let rows = body.get(HEAD_SIZE..)?;
        if count > COUNT_MAX || rows.len() != count * ROW_SIZE {
            return None;
        }
        let row = |row: &[u8]| {
            let field = |at| bytes_at::u64(row, at);
            Some(Epoch { number: field(0)?, start: field(8)?, id: field(16)? })
        };
        Epochs::of(rows.chunks_exact(ROW_SIZE).map(row).collect::<Option<_>>()?)
    }

    /// `None` when the rows are not in order.
    pub fn of(rows: Vec<Epoch>) -> Option<Epochs> {
        let in_order =
            |pair: &[Epoch]| pair[0].number < pair[1].number && pair[0].start <= pair[1].start;
        rows.windows(2).all(in_order).then_some(Epochs(rows))
    }

    /// As one word: `number:start:id`, divided by commas.
    pub fn to_text(&self) -> String {
        let row = |epoch: &Epoch| format!("{}:{}:{:x}", epoch.number, epoch.start, epoch.id);
        self.0.iter().map(row).collect::<Vec<_>>().join(",")
    }

    /// `None` when it is not such a word.
    pub fn parse(text: &str) -> Option<Epochs> {
        let row = |row: &str| {
            let mut fields = row.split(':');
            let epoch = Epoch {
                number: fields.next()?.parse().ok()?,
                start: fields.next()?.parse().ok()?,
                id: u64::from_str_radix(fields.next()?, 16).ok()?,
            };
            fields.next().is_none().then_some(epoch)
        };
        let rows = text.split(',').filter(|row| !row.is_empty()).take(COUNT_MAX + 1);
        Epochs::of(rows.map(row).collect::<Option<Vec<_>>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(rows: &[(u64, u64, u64)]) -> Epochs {
        let row = |&(number, start, id): &(u64, u64, u64)| Epoch { number, start, id };
        Epochs::of(rows.iter().map(row).collect()).expect("in order")
    }
    fn common(end: u64, is_same: bool) -> Common {
        Common { end, is_same }
    }

    #[test]
    fn logs_of_one_master_are_the_same_as_far_as_the_shorter_one_goes() {
        let list = epochs(&[(1, 0, 7), (2, 500, 8)]);
        assert_eq!(list.common(900, &list, 700), common(700, true));
        assert_eq!(list.common(600, &list, 900), common(600, true));
        // A slave may have the list before it has the bytes.
        assert_eq!(list.common(300, &list, 900), common(300, false));
    }

    #[test]
    fn an_old_masters_suffix_is_not_common() {
        let old = epochs(&[(1, 0, 7)]);
        let promoted = epochs(&[(1, 0, 7), (2, 500, 8)]);
        assert_eq!(old.common(900, &promoted, 800), common(500, false));
        assert_eq!(promoted.common(800, &old, 900), common(500, false));
        assert_eq!(old.common(400, &promoted, 800), common(400, false));
    }

    #[test]
    fn two_masters_of_one_number_are_told_apart() {
        let (a, b) = (epochs(&[(1, 0, 7), (2, 500, 8)]), epochs(&[(1, 0, 7), (2, 500, 9)]));
        assert_eq!(a.common(900, &b, 800), common(500, false));
    }

    #[test]
    fn what_was_before_the_first_epoch_is_believed_to_be_the_same() {
        let (none, one) = (Epochs::default(), epochs(&[(1, 500, 7)]));
        assert_eq!(none.common(300, &none, 400), common(300, true));
        assert_eq!(none.common(700, &one, 900), common(500, false));
        assert_eq!(none.common(200, &one, 900), common(200, false));
    }

    #[test]
    fn a_master_that_begins_again_forgets_what_left_nothing() {
        let mut list = epochs(&[(1, 0, 7), (2, 500, 8)]);
        list.begin(300, 9, false);
        assert_eq!(list, epochs(&[(1, 0, 7), (3, 300, 9)]));
        list.begin(300, 10, false);
        assert_eq!(list, epochs(&[(1, 0, 7), (4, 300, 10)]));
    }

    #[test]
    fn who_was_replaced_is_known_from_the_list_of_the_next_one() {
        let list = |text: &str| Epochs::parse(text).expect("a list");
        let old = list("1:0:a,2:100:b");
        assert!(old.is_followed_in(&list("1:0:a,2:100:b,3:100:c")));
        // An epoch without a record leaves no row.
        assert!(old.is_followed_in(&list("1:0:a,3:100:c")));
        assert!(!old.is_followed_in(&old) && !list("").is_followed_in(&old));
        // Two began at once: neither followed the other.
        assert!(!old.is_followed_in(&list("1:0:a,2:100:d,3:200:c")));
        // A list that was lost begins late.
        assert!(!list("1:500:c").is_followed_in(&list("1:0:a,2:300:b")));
    }

    #[test]
    fn a_slave_that_became_master_comes_before_every_start_of_the_one_it_replaced() {
        let list = |text: &str| Epochs::parse(text).expect("a list");
        let (mut old, mut new) = (list("1:0:a"), list("1:0:a"));
        new.begin(100, 7, true);
        assert_eq!(new.number(), 1_000_001);
        (0..5).for_each(|n| old.begin(200, n, false));
        assert!(old.number() == 6 && old.is_replaced_in(&new) && !new.is_replaced_in(&old));
        // What is lost says nothing, until it is known whose it was.
        assert!(!list("1:500:c").is_replaced_in(&new));
        assert!(list("4:0:d").is_replaced_in(&list("1000001:0:e")));
    }

    #[test]
    fn records_of_another_epoch_are_taken_with_the_list_that_names_them() {
        let list = |text: &str| Epochs::parse(text).expect("a list");
        let (heir, old) = (list("1000001:0:b,1000002:283:c"), list("1:0:a"));
        let taken = heir.taking(&old, 900, 7).expect("they are of epoch 1");
        assert_eq!(taken, list("1:0:a,1000003:900:7"));
        // Who has what the list said before is cut back, and nobody comes before this one.
        assert_eq!(heir.common(283, &taken, 900), common(0, false));
        assert!(heir.is_replaced_in(&taken) && !taken.is_replaced_in(&heir));
        assert!(old.is_replaced_in(&taken));
        // The newest row began behind what is taken, or the list is the same: nothing changes.
        let (more, less) = (list("1:0:a,2:900:b"), list("1:0:a"));
        assert_eq!(more.taking(&less, 900, 7), None);
        assert_eq!(more.taking(&more, 950, 7), None);
        assert_eq!(more.taking(&list(""), 950, 7), None);
        assert_eq!(more.taking(&less, 950, 7), Some(list("1:0:a,3:950:7")));
        assert_eq!(
            (heir.number_below(283), heir.number_below(284), heir.number_below(0)),
            (1_000_001, 1_000_002, 0)
        );
    }

    #[test]
    fn old_epochs_are_forgotten_and_then_not_compared() {
        let mut list = Epochs::default();
        let mut whole = Vec::new();
        for n in 0..COUNT_MAX as u64 + 5 {
            list.begin(n + 1, n, false);
            whole.push(Epoch { number: n + 1, start: n + 1, id: n });
        }
        assert_eq!((list.rows().len(), list.rows()[0].number), (COUNT_MAX, 6));
        let other = Epochs(whole[..COUNT_MAX].to_vec());
        let (end, at) = (2_000, 1_500);
        assert_eq!(list.common(end, &other, at), common(COUNT_MAX as u64 + 1, false));
    }

    proptest! {
        #[test]
        fn lists_round_trip(starts in prop::collection::vec(0..1000u64, 0..20), ids: u64) {
            let mut at = 0;
            let row = |(n, step): (usize, u64)| {
                at += step;
                Epoch { number: n as u64 + 1, start: at, id: ids ^ n as u64 }
            };
            let list = Epochs::of(starts.into_iter().enumerate().map(row).collect()).unwrap();
            prop_assert_eq!(Epochs::decode(&list.encode()), Some(list.clone()));
            prop_assert_eq!(Epochs::parse(&list.to_text()), Some(list));
        }

        #[test]
        fn a_flipped_bit_gives_no_list(bit in 0..(HEAD_SIZE + 2 * ROW_SIZE + 4) * 8) {
            let mut bytes = epochs(&[(1, 0, 7), (2, 500, 8)]).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Epochs::decode(&bytes), None);
        }

        #[test]
        fn both_sides_find_the_same_end(
            split in 0..5usize,
            steps in prop::collection::vec((1..100u64, 1..100u64), 5),
            ends in (0..600u64, 0..600u64),
        ) {
            let (mut a, mut b) = (Epochs::default(), Epochs::default());
            let (mut at_a, mut at_b) = (0, 0);
            for (n, (step_a, step_b)) in steps.into_iter().enumerate() {
                let is_shared = n < split;
                at_a += step_a;
                at_b += if is_shared { step_a } else { step_b };
                a.begin(at_a, n as u64, false);
                b.begin(at_b, if is_shared { n as u64 } else { 100 + n as u64 }, false);
            }
            let (one, other) = (a.common(ends.0, &b, ends.1), b.common(ends.1, &a, ends.0));
            prop_assert_eq!(one.end, other.end);
            prop_assert!(one.end <= ends.0.min(ends.1));
        }
    }
}
