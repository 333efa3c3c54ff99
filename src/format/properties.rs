//! The property string of a message: `name 0x01 value 0x02 name 0x01 value …`.
//!
//! Works on bytes and allocates nothing unless it says so. Items without a name, without a value
//! or without 0x01 do not count; of two items with one name the later one counts.
//! Source: MessageDecoder#string2messageProperties, #messageProperties2String (4.9.3).
//! Layout: docs/formats/message_unit.md.

use crate::model::property;
use std::collections::BTreeMap;

/// Between name and value.
pub const NAME_END: u8 = 1;
/// Between items. Written by older clients after the last item too.
pub const ITEM_END: u8 = 2;
/// The most bytes a record can hold: the length is a signed short.
pub const SIZE_MAX: usize = i16::MAX as usize;

/// With up to this many items a duplicate name is looked for by comparing; above it, by a map.
const PAIRWISE_COUNT_MAX: usize = 16;

/// Every item that counts, in order of appearance, duplicates included.
pub fn iter(raw: &[u8]) -> Items<'_> {
    Items { raw, at: 0, has_nul: false }
}

/// The items of a property string; see `iter`.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    raw: &'a [u8],
    at: usize,
    has_nul: bool,
}

impl<'a> Iterator for Items<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.raw.len() {
            let start = self.at;
            let (mut name_end, mut at) = (None, start);
            let end = loop {
                at = next_control(self.raw, at);
                match self.raw.get(at) {
                    Some(&NAME_END) => name_end = name_end.or(Some(at)),
                    Some(0) => self.has_nul = true,
                    _ => break at,
                }
                at += 1;
            };
            self.at = end + 1;
            if let Some(name_end) = name_end.filter(|at| *at > start && *at + 1 < end) {
                return Some((&self.raw[start..name_end], &self.raw[name_end + 1..end]));
            }
        }
        None
    }
}

/// The position of the next byte that is NUL, 0x01 or 0x02, from `at` on; the length when there is
/// none. Looks at eight bytes at a time.
fn next_control(raw: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let Some(eight) = raw.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        // The top bit of a byte of `found` is set where the byte is below 3; above the first such
        // byte it may also be set wrongly.
        let found = word.wrapping_sub(3 * ONES) & !word & (0x80 * ONES);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while raw.get(at).is_some_and(|byte| *byte > ITEM_END) {
        at += 1;
    }
    at.min(raw.len())
}

/// The value of `name`.
pub fn get<'a>(raw: &'a [u8], name: &str) -> Option<&'a [u8]> {
    iter(raw).filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
}

/// The value of `name` when it is text.
pub fn get_str<'a>(raw: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(get(raw, name)?).ok()
}

/// Appends an item, putting 0x02 before it when `out` is not empty and does not end in one.
pub fn append(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    append_item(out, name.as_bytes(), value);
}

fn append_item(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    make_room(out, name.len() + value.len() + 2);
    if out.last().is_some_and(|byte| *byte != ITEM_END) {
        out.push(ITEM_END);
    }
    out.extend_from_slice(name);
    out.push(NAME_END);
    out.extend_from_slice(value);
}

fn make_room(out: &mut Vec<u8>, more: usize) {
    if out.capacity() - out.len() < more {
        out.reserve(more.max(256));
    }
}

/// Takes every item called `name` out of `raw`; the rest keeps its order. Items that do not count
/// vanish.
pub fn remove(raw: &mut Vec<u8>, name: &str) {
    let mut kept = Vec::with_capacity(raw.len());
    for (found, value) in iter(raw).filter(|(found, _)| *found != name.as_bytes()) {
        append_item(&mut kept, found, value);
    }
    *raw = kept;
}

/// What a broker wants to know about the properties of a message that was just sent; each is the
/// last value of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent<'a> {
    pub delay: Option<&'a [u8]>,
    pub keys: Option<&'a [u8]>,
    pub tags: Option<&'a [u8]>,
    pub transaction_prepared: Option<&'a [u8]>,
    pub unique_key: Option<&'a [u8]>,
    pub wait: Option<&'a [u8]>,
    /// An item has a name that begins with TIMER_: those that ask for a time of its own do.
    pub has_timer: bool,
    /// True when the string holds a NUL, which a stored record must not (design 1.2).
    pub has_nul: bool,
}

impl Sent<'_> {
    /// Whether the producer waits for flush and replication. Source: Message#isWaitStoreMsgOK.
    pub fn waits(&self) -> bool {
        self.wait.is_none_or(is_true)
    }
    /// Source: Boolean#parseBoolean(TRAN_MSG).
    pub fn is_half(&self) -> bool {
        self.transaction_prepared.is_some_and(is_true)
    }
    /// DELAY, 0 when there is none. `None` when it is not a number: 4.9.3 then fails the send with
    /// code 1. Source: Message#getDelayTimeLevel.
    pub fn delay_level(&self) -> Option<i32> {
        match self.delay {
            Some(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            None => Some(0),
        }
    }
}

fn is_true(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"true")
}

/// Writes to `out` what 4.9.3 stores for a single plain send: every item once (the last value of
/// a name), without WAIT, with `CLUSTER=cluster` at the end; and says what the broker acts on.
/// Source: SendMessageProcessor#asyncSendMessage (4.9.3).
/// Differs: 4.9.3 writes the items in Java's hash order, we keep the sender's.
pub fn store_form<'a>(raw: &'a [u8], cluster: &str, out: &mut Vec<u8>) -> Sent<'a> {
    rewrite(raw, cluster, false, out)
}

/// Like `store_form`, but WAIT stays: what 4.9.3 stores for half and delayed messages, whose
/// string is made again after WAIT was put back.
pub fn store_form_with_wait<'a>(raw: &'a [u8], cluster: &str, out: &mut Vec<u8>) -> Sent<'a> {
    rewrite(raw, cluster, true, out)
}

/// What the broker acts on, without writing anything.
pub fn look_at(raw: &[u8]) -> Sent<'_> {
    let mut sent = Sent::default();
    let mut items = iter(raw);
    for (name, value) in items.by_ref() {
        note(&mut sent, name, value);
    }
    sent.has_nul = items.has_nul;
    sent
}

fn note<'a>(sent: &mut Sent<'a>, name: &[u8], value: &'a [u8]) {
    let slot = match name {
        b"UNIQ_KEY" => &mut sent.unique_key,
        b"WAIT" => &mut sent.wait,
        b"TAGS" => &mut sent.tags,
        b"KEYS" => &mut sent.keys,
        b"DELAY" => &mut sent.delay,
        b"TRAN_MSG" => &mut sent.transaction_prepared,
        _ => {
            sent.has_timer |= name.starts_with(b"TIMER_");
            return;
        }
    };
    *slot = Some(value);
}

fn rewrite<'a>(raw: &'a [u8], cluster: &str, keep_wait: bool, out: &mut Vec<u8>) -> Sent<'a> {
    make_room(out, raw.len() + cluster.len() + 10);
    let mut sent = Sent::default();
    let mut few: [(&[u8], &[u8]); PAIRWISE_COUNT_MAX] = [(&[], &[]); PAIRWISE_COUNT_MAX];
    let mut count = 0;
    let mut items = iter(raw);
    for (name, value) in items.by_ref() {
        note(&mut sent, name, value);
        if name == property::CLUSTER.as_bytes() || (name == b"WAIT" && !keep_wait) {
            continue;
        }
        if let Some(slot) = few.get_mut(count) {
            *slot = (name, value);
        }
        count += 1;
    }
    sent.has_nul = items.has_nul;
    let start = out.len();
    if count <= PAIRWISE_COUNT_MAX {
        let few = &few[..count];
        for (position, (name, value)) in few.iter().enumerate() {
            if !few[position + 1..].iter().any(|(later, _)| later == name) {
                push_item(out, start, name, value);
            }
        }
    } else {
        let last: BTreeMap<_, _> =
            iter(raw).enumerate().map(|(at, (name, _))| (name, at)).collect();
        for (position, (name, value)) in iter(raw).enumerate() {
            let dropped = name == property::CLUSTER.as_bytes() || (name == b"WAIT" && !keep_wait);
            if !dropped && last.get(name) == Some(&position) {
                push_item(out, start, name, value);
            }
        }
    }
    push_item(out, start, property::CLUSTER.as_bytes(), cluster.as_bytes());
    sent
}

/// Appends an item to a string that begins at `start` of `out` and does not end in 0x02.
fn push_item(out: &mut Vec<u8>, start: usize, name: &[u8], value: &[u8]) {
    if out.len() > start {
        out.push(ITEM_END);
    }
    out.extend_from_slice(name);
    out.push(NAME_END);
    out.extend_from_slice(value);
}

/// What 4.9.3 stores for one member of a batch: the member's string as sent, then the batch's own
/// items and `CLUSTER=cluster`. A name may then appear twice.
/// Source: SendMessageProcessor#asyncSendBatchMessage, MessageExtBatchEncoder#encode (4.9.3).
pub fn batch_member_form(member: &[u8], batch: &[u8], cluster: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(member);
    if !member.is_empty() && out.last() != Some(&ITEM_END) {
        out.push(ITEM_END);
    }
    rewrite(batch, cluster, true, out);
}

/// Java's `String#hashCode` of text in UTF-8: over UTF-16 units, `h = 31 h + unit`, wrapping.
/// Bytes that are no UTF-8 count as U+FFFD, as Java decodes them.
pub fn java_hash(text: &[u8]) -> i32 {
    java_hash_on(0, text)
}

/// The hash of a text that begins with one of hash `start` and goes on with `text`.
pub fn java_hash_on(start: i32, text: &[u8]) -> i32 {
    if text.is_ascii() {
        return ascii_hash_on(start, text);
    }
    let mut hash = start;
    for chunk in text.utf8_chunks() {
        hash = chunk.valid().encode_utf16().fold(hash, step);
        if !chunk.invalid().is_empty() {
            hash = step(hash, 0xFFFD);
        }
    }
    hash
}

/// Four steps at a time: each would wait for the product of the one before.
fn ascii_hash_on(start: i32, text: &[u8]) -> i32 {
    const POWERS: [i32; 4] = [31 * 31 * 31 * 31, 31 * 31 * 31, 31 * 31, 31];
    let (fours, rest) = text.as_chunks::<4>();
    let hash = fours.iter().fold(start, |hash, four| {
        let [a, b, c, d] = four.map(i32::from);
        // At most 255 * (29791 + 961 + 31 + 1): no overflow.
        let added = a * POWERS[1] + b * POWERS[2] + c * POWERS[3] + d;
        hash.wrapping_mul(POWERS[0]).wrapping_add(added)
    });
    rest.iter().fold(hash, |hash, byte| step(hash, u16::from(*byte)))
}

fn step(hash: i32, unit: u16) -> i32 {
    hash.wrapping_mul(31).wrapping_add(i32::from(unit))
}

/// The third field of a queue unit: the hash of TAGS, 0 without tags.
/// Source: MessageExtBrokerInner#tagsString2tagsCode (4.9.3).
pub fn tags_code(raw: &[u8]) -> i64 {
    get(raw, property::TAGS).map_or(0, |tags| i64::from(java_hash(tags)))
}

/// An owned property list for the rare paths that change messages: retry, delay, transactions.
/// Names are unique; order is the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// Reads a property string; bytes that are no UTF-8 become U+FFFD.
    pub fn parse(raw: &[u8]) -> Self {
        let mut index: BTreeMap<&[u8], usize> = BTreeMap::new();
        let mut items: Vec<(String, String)> = Vec::new();
        for (name, value) in iter(raw) {
            let value = String::from_utf8_lossy(value).into_owned();
            match index.get(name) {
                Some(at) => items[*at].1 = value,
                None => {
                    index.insert(name, items.len());
                    items.push((String::from_utf8_lossy(name).into_owned(), value));
                }
            }
        }
        Properties(items)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(found, _)| found == name) {
            Some(item) => item.1 = value,
            None => self.0.push((name.to_string(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(at).1)
    }

    /// The property string. Items with an empty name or value are left out: no reader would see
    /// them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in self.iter().filter(|(n, v)| !n.is_empty() && !v.is_empty()) {
            append(&mut out, name, value.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn items_that_do_not_count_are_skipped_and_the_last_value_wins() {
        let raw = b"A\x011\x02B\x01\x02\x01x\x02junk\x02A\x012\x02";
        assert_eq!(iter(raw).collect::<Vec<_>>(), [(&b"A"[..], &b"1"[..]), (b"A", b"2")]);
        assert_eq!(get(raw, "A"), Some(&b"2"[..]));
        assert_eq!(get(raw, "B"), None);
    }

    #[test]
    fn a_value_may_hold_0x01() {
        assert_eq!(get(b"A\x01x\x01y", "A"), Some(&b"x\x01y"[..]));
    }

    #[test]
    fn a_plain_send_loses_wait_and_gains_cluster() {
        let mut out = Vec::new();
        let sent = store_form(b"WAIT\x01false\x02TAGS\x01a\x02TAGS\x01b\x02", "C", &mut out);
        assert_eq!(out, b"TAGS\x01b\x02CLUSTER\x01C");
        assert!(!sent.waits());
        assert_eq!(sent.tags, Some(&b"b"[..]));
        let mut out = Vec::new();
        assert!(store_form(b"", "C", &mut out).waits());
        assert_eq!(out, b"CLUSTER\x01C");
    }

    #[test]
    fn a_batch_member_keeps_its_text_and_gains_the_batch_items() {
        let mut out = Vec::new();
        batch_member_form(b"K\x01v\x02", b"WAIT\x01true", "C", &mut out);
        assert_eq!(out, b"K\x01v\x02WAIT\x01true\x02CLUSTER\x01C");
        out.clear();
        batch_member_form(b"K\x01v", b"", "C", &mut out);
        assert_eq!(out, b"K\x01v\x02CLUSTER\x01C");
    }

    #[test]
    fn hashes_are_java_s() {
        assert_eq!(java_hash(b"TagA"), 0x0027_A807);
        assert_eq!(java_hash(b""), 0);
        assert_eq!(java_hash("\u{1F525}".as_bytes()), 0xD83D_i32 * 31 + 0xDD25);
        assert_eq!(java_hash(b"polygenelubricants"), i32::MIN);
    }

    #[test]
    fn many_items_take_the_map_and_give_the_same_answer() {
        let raw: Vec<String> = (0..4000).map(|i| format!("k{}\u{1}{i}", i % 7)).collect();
        let mut out = Vec::new();
        store_form(raw.join("\u{2}").as_bytes(), "C", &mut out);
        assert_eq!(iter(&out).count(), 8);
        assert_eq!(get(&out, "k2"), Some(&b"3999"[..]));
    }

    proptest! {
        #[test]
        fn what_is_stored_reads_as_what_was_sent(raw in proptest::collection::vec(
            prop_oneof![Just(1u8), Just(2), 65u8..70, any::<u8>()], 0..200)) {
            let mut out = Vec::new();
            store_form(&raw, "C", &mut out);
            for (name, _) in iter(&raw) {
                let name = std::str::from_utf8(name).unwrap_or("A");
                if name != "WAIT" && name != "CLUSTER" {
                    prop_assert_eq!(get(&out, name), get(&raw, name));
                }
            }
            prop_assert_eq!(get(&out, "CLUSTER"), Some(&b"C"[..]));
        }

        #[test]
        fn items_are_those_of_a_plain_split(raw in proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(2), 3u8..6, any::<u8>()], 0..80)) {
            let plain: Vec<_> = raw.split(|byte| *byte == ITEM_END).filter_map(|item| {
                let at = item.iter().position(|byte| *byte == NAME_END)?;
                (at > 0 && at + 1 < item.len()).then(|| (&item[..at], &item[at + 1..]))
            }).collect();
            prop_assert_eq!(iter(&raw).collect::<Vec<_>>(), plain);
            prop_assert_eq!(look_at(&raw).has_nul, raw.contains(&0));
        }

        #[test]
        fn ascii_and_wide_hash_agree(start in any::<i32>(), text in "[ -~]{0,40}") {
            let wide = text.encode_utf16().fold(start, step);
            prop_assert_eq!(java_hash_on(start, text.as_bytes()), wide);
        }

        #[test]
        fn owned_lists_round_trip(items in proptest::collection::btree_map(
            "[A-Z]{1,5}", "[a-z]{1,5}", 0..10)) {
            let mut properties = Properties::default();
            for (name, value) in &items {
                properties.set(name, value.clone());
            }
            prop_assert_eq!(Properties::parse(&properties.encode()), properties);
        }
    }
}
