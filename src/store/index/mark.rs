//! `hotfire/index`: how far the index was when it was last made durable.
//!
//! Ends in a CRC-32 of all bytes before. Losing it costs a check of the last index file after an
//! unclean stop. Layout: docs/formats/index_file.md.

use crate::format::index_file::{HEADER_SIZE, Header, Shape};
use crate::store::snapshot::{Cut, finish, put_u64, start};

const MAGIC: &[u8; 8] = b"HFINDEX\0";

/// Longest file that is read. Units: bytes.
pub const SIZE_MAX: u64 = 4096;

/// Up to where the log is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// All keys of records below are in the index.
    pub at: u64,
    /// And so many of the record that begins here.
    pub keys_done: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last file; 0 when there is none.
    pub name: u64,
    /// Its header, whose entries are durable and whose slots lead to them.
    pub header: Header,
    pub cursor: Cursor,
    /// Header and slots were about to be replaced by these: slots may be newer than `header`.
    /// The entries that they lead to are durable.
    pub writing: Option<Header>,
}

impl Default for Mark {
    fn default() -> Self {
        Mark { name: 0, header: Header::FIRST, cursor: Cursor::default(), writing: None }
    }
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = start(MAGIC);
        put_u64(&mut out, self.name);
        put_u64(&mut out, self.cursor.at);
        out.extend_from_slice(&self.cursor.keys_done.to_be_bytes());
        out.extend_from_slice(&self.header.encode());
        out.extend_from_slice(&u32::from(self.writing.is_some()).to_be_bytes());
        out.extend_from_slice(&self.writing.unwrap_or(Header::FIRST).encode());
        finish(out)
    }

    /// `None` for anything but what `encode` wrote about files of this shape.
    pub fn decode(bytes: &[u8], shape: &Shape) -> Option<Mark> {
        let mut cut = Cut::new(bytes, MAGIC)?;
        let name = cut.u64()?;
        let cursor = Cursor { at: cut.u64()?, keys_done: cut.u32()? };
        let header = Header::decode(&cut.take::<HEADER_SIZE>()?, shape)?;
        let is_writing = cut.u32()? != 0;
        let writing = Header::decode(&cut.take::<HEADER_SIZE>()?, shape)?;
        let writing = is_writing.then_some(writing);
        cut.is_done().then_some(Mark { name, header, cursor, writing })
    }

    /// Whether the file still is as this process's forerunner left it.
    pub fn vouches_for(&self, name: u64, found: &Header) -> bool {
        self.name == name && (self.header == *found || self.writing == Some(*found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip_and_any_change_is_noticed() {
        let shape = Shape { slots: 10, entries: 20 };
        let header = Header { count: 5, slots_used: 2, ..Header::FIRST };
        let cursor = Cursor { at: 7, keys_done: 1 };
        for writing in [None, Some(Header { count: 9, ..header })] {
            let mark = Mark { name: 20_261_129_235_319_123, header, cursor, writing };
            let bytes = mark.encode();
            assert_eq!(Mark::decode(&bytes, &shape), Some(mark));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert_eq!(Mark::decode(&other, &shape), None);
                assert_eq!(Mark::decode(&bytes[..at], &shape), None);
            }
            assert!(mark.vouches_for(mark.name, &header) && !mark.vouches_for(1, &header));
        }
        assert_eq!(Mark::decode(&Mark::default().encode(), &shape), Some(Mark::default()));
    }
}
