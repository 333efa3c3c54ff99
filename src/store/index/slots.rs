//! The slots of the file that is written: loaded by page when they are needed, written in runs.
//!
//! The table is one block of zeros; the kernel gives memory only to what is touched.

use crate::format::index_file::{HEADER_SIZE, SLOT_SIZE, Shape};
use std::ops::Range;

/// Units: bytes. Pages of slots are pages of the file: the first holds the header too.
const PAGE_SIZE: u32 = 4096;
const PAGE_SLOTS: u32 = PAGE_SIZE / SLOT_SIZE as u32;
const HEADER_SLOTS: u32 = (HEADER_SIZE / SLOT_SIZE) as u32;

/// The longest run that is written at once. Units: slots.
const RUN_SLOTS: u32 = 64 << 10;

pub struct Slots {
    values: Vec<u32>,
    loaded: Vec<bool>,
    dirty: Vec<bool>,
    /// Something changed since `take_used`.
    used: bool,
}

pub fn page_of(slot: u32) -> u32 {
    (slot + HEADER_SLOTS) / PAGE_SLOTS
}

/// The slots of a page.
pub fn slots_of(page: u32, shape: &Shape) -> Range<u32> {
    let first = (page * PAGE_SLOTS).saturating_sub(HEADER_SLOTS);
    first..((page + 1) * PAGE_SLOTS - HEADER_SLOTS).min(shape.slots)
}

impl Slots {
    fn filled(shape: &Shape, loaded: bool) -> Self {
        let pages = page_of(shape.slots - 1) as usize + 1;
        Slots {
            values: vec![0; shape.slots as usize],
            loaded: vec![loaded; pages],
            dirty: vec![false; pages],
            used: false,
        }
    }

    /// Of a new file.
    pub fn empty(shape: &Shape) -> Self {
        Self::filled(shape, true)
    }

    /// Of a file that was there; nothing is loaded.
    pub fn unloaded(shape: &Shape) -> Self {
        Self::filled(shape, false)
    }

    /// Its newest entry, 0 for none; `None` when its page is not loaded.
    pub fn find(&self, slot: u32) -> Option<u32> {
        self.loaded[page_of(slot) as usize].then(|| self.values[slot as usize])
    }

    pub fn set(&mut self, slot: u32, entry: u32) {
        self.values[slot as usize] = entry;
        self.dirty[page_of(slot) as usize] = true;
        self.used = true;
    }

    /// The page's bytes were read from the file.
    pub fn load(&mut self, page: u32, shape: &Shape, bytes: &[u8]) {
        for (slot, value) in slots_of(page, shape).zip(decode(bytes)) {
            self.values[slot as usize] = value;
        }
        self.loaded[page as usize] = true;
    }

    /// Runs of slots that are not in the file as they are here, encoded.
    pub fn dirty_runs(&self, shape: &Shape) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for page in (0_u32..).zip(&self.dirty).filter(|(_, dirty)| **dirty).map(|(page, _)| page) {
            let slots = slots_of(page, shape);
            match runs.last_mut() {
                Some(run) if run.end == slots.start && slots.end - run.start <= RUN_SLOTS => {
                    run.end = slots.end;
                }
                _ => runs.push(slots),
            }
        }
        runs
    }

    pub fn encode(&self, run: &Range<u32>) -> Vec<u8> {
        let values = &self.values[run.start as usize..run.end as usize];
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    /// Everything is in the file.
    pub fn on_written(&mut self) {
        self.dirty.fill(false);
    }

    /// Whether slots changed since it was last asked.
    pub fn take_used(&mut self) -> bool {
        std::mem::take(&mut self.used)
    }
}

pub fn decode(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks::<SLOT_SIZE>().0.iter().map(|value| u32::from_be_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { slots: 3000, entries: 10 };

    #[test]
    fn pages_of_slots_are_pages_of_the_file() {
        assert_eq!((slots_of(0, &SHAPE), slots_of(1, &SHAPE)), (0..1014, 1014..2038));
        assert_eq!(slots_of(2, &SHAPE), 2038..3000);
        for slot in [0, 1013, 1014, 2037, 2038, 2999] {
            assert!(slots_of(page_of(slot), &SHAPE).contains(&slot));
        }
        assert_eq!(SHAPE.slot_at(1014), 4096);
    }

    #[test]
    fn what_changed_is_written_in_runs_and_read_back() {
        let mut slots = Slots::empty(&SHAPE);
        assert!(slots.dirty_runs(&SHAPE).is_empty());
        slots.set(5, 1);
        slots.set(1500, 2);
        slots.set(2999, 3);
        let whole = 0..3000;
        assert_eq!(slots.dirty_runs(&SHAPE), [whole]);
        let bytes = slots.encode(&(0..3000));
        slots.on_written();
        assert!(slots.dirty_runs(&SHAPE).is_empty() && slots.take_used() && !slots.take_used());
        let mut again = Slots::unloaded(&SHAPE);
        assert_eq!(again.find(1500), None);
        again.load(1, &SHAPE, &bytes[1014 * 4..2038 * 4]);
        assert_eq!((again.find(1500), again.find(5)), (Some(2), None));
    }
}
