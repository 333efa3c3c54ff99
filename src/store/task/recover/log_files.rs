//! Reading the commit log from files at the start: record by record, and past bad places.

use crate::disk::{Disk, File};
use crate::format::message_unit::{self, BLANK_MAGIC, BLANK_SIZE, DecodeError, MAGIC, Unit};
use crate::model::PhysicalOffset;
use crate::rt::fault;
use crate::store::error::Error;
use crate::store::log_paths::LogPlaces;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// What a disk fails to read at least. Units: bytes.
const SECTOR_SIZE: u64 = 4096;

/// The log's files and a window into them.
pub struct LogFiles {
    disk: Arc<dyn Disk>,
    pub places: LogPlaces,
    pub size: u64,
    pub first: u64,
    pub end: u64,
    chunk: usize,
    open: Option<(u64, Arc<dyn File>)>,
    window_at: u64,
    window: Bytes,
    /// A long read failed: up to here only sectors are read.
    careful_until: u64,
}

/// What lies at a position.
pub enum Found {
    /// A record that ends at `end`. Its bytes are the first of `window`.
    Record {
        end: u64,
    },
    /// The log goes on in the next segment.
    Blank,
    /// Zeros.
    Nothing,
    Bad(String),
}

impl LogFiles {
    pub fn new(disk: Arc<dyn Disk>, places: LogPlaces, chunk: usize) -> Self {
        let size = places.size();
        let first = places.bases().next().unwrap_or(0);
        let end = places.bases().next_back().map_or(first, |last| last + size);
        LogFiles {
            disk,
            places,
            size,
            first,
            end,
            chunk,
            open: None,
            window_at: 0,
            window: Bytes::new(),
            careful_until: 0,
        }
    }

    pub fn base_of(&self, at: u64) -> u64 {
        at - at % self.size
    }
    pub fn path(&self, at: u64) -> String {
        self.places.path(self.base_of(at))
    }
    pub fn holds(&self, at: u64) -> bool {
        self.first <= at && at < self.end
    }

    pub fn file(&mut self, at: u64) -> io::Result<Arc<dyn File>> {
        let base = self.base_of(at);
        if let Some((open, file)) = &self.open
            && *open == base
        {
            return Ok(file.clone());
        }
        let file = self.disk.open(&self.path(at))?;
        self.open = Some((base, file.clone()));
        Ok(file)
    }

    /// At least `len` bytes from `at` on when the segment has so many, and what else the window
    /// holds.
    pub async fn bytes(&mut self, at: u64, len: usize) -> io::Result<Bytes> {
        let segment_end = self.base_of(at) + self.size;
        let len = len.min((segment_end - at) as usize);
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + len as u64 > window_end {
            self.window = self.read_window(at, len).await?;
            self.window_at = at;
        }
        Ok(self.window.slice((at - self.window_at) as usize..))
    }

    /// Reads a chunk; where that fails, the sectors that are needed alone.
    async fn read_window(&mut self, at: u64, len: usize) -> io::Result<Bytes> {
        let (base, file) = (self.base_of(at), self.file(at)?);
        let left = (base + self.size - at) as usize;
        let more = len.max(self.chunk).min(left);
        let sectors = ((at + len as u64).next_multiple_of(SECTOR_SIZE) - at) as usize;
        let sectors = sectors.min(left);
        if at >= self.careful_until || sectors >= more {
            match file.read(at - base, more).await {
                Err(_) if sectors < more => self.careful_until = at + more as u64,
                read => return read,
            }
        }
        file.read(at - base, sectors).await
    }

    /// What lies at `at`. The bytes are given back so that the caller can decode them again.
    pub async fn look(&mut self, at: u64) -> io::Result<(Found, Bytes)> {
        let segment_end = self.base_of(at) + self.size;
        let mut need = BLANK_SIZE;
        loop {
            let bytes = self.bytes(at, need).await?;
            let found = match message_unit::decode(&bytes, PhysicalOffset(at), true) {
                Ok(Unit::Record(record)) => Found::Record { end: at + record.size() as u64 },
                Ok(Unit::Blank { size }) if at + u64::from(size) == segment_end => Found::Blank,
                Ok(Unit::Blank { size }) => {
                    let left = segment_end - at;
                    Found::Bad(format!("a blank record of {size} bytes where {left} are left"))
                }
                Ok(Unit::End) => Found::Nothing,
                Err(DecodeError::Truncated { need: more, .. })
                    if more > need && at + more as u64 <= segment_end =>
                {
                    need = more;
                    continue;
                }
                Err(error) => Found::Bad(error.to_string()),
            };
            return Ok((found, bytes));
        }
    }

    /// Where the next good unit begins in `from..until`; `until` when there is none. For bad
    /// places below the durable floor. What cannot be read is passed over.
    pub async fn find_next(&mut self, from: u64, until: u64) -> u64 {
        let mut at = from;
        while at < until {
            let (candidate, next) = match self.scan_window(at).await {
                Ok(scanned) => scanned,
                Err(error) => {
                    tracing::warn!("{}: cannot read at offset {at}: {error}", self.path(at));
                    (None, (at + 1).next_multiple_of(SECTOR_SIZE))
                }
            };
            at = next;
            if let Some(candidate) = candidate.filter(|candidate| *candidate < until)
                && let Ok((Found::Record { .. } | Found::Blank, _)) = self.look(candidate).await
            {
                return candidate;
            }
        }
        until
    }

    /// The first place in the next window where a magic stands, and where to look after it.
    async fn scan_window(&mut self, at: u64) -> io::Result<(Option<u64>, u64)> {
        let segment_end = self.base_of(at) + self.size;
        if segment_end - at < BLANK_SIZE as u64 {
            return Ok((None, segment_end));
        }
        let bytes = self.bytes(at, BLANK_SIZE).await?;
        let last = bytes.len() - BLANK_SIZE;
        for skip in 0..=last {
            let magic = bytes[skip + 4..].first_chunk::<4>().map_or(0, |m| u32::from_be_bytes(*m));
            if magic == MAGIC || magic == BLANK_MAGIC {
                let found = at + skip as u64;
                return Ok((Some(found), found + 1));
            }
        }
        Ok((None, at + last as u64 + 1))
    }

    /// Whether it can be believed that the log was as far as `end`: the record at `last_at` is
    /// whole, has this checksum, and the log went on at `end` after it. A place that cannot be read
    /// counts as unchanged: who writes there makes it readable.
    pub async fn is_anchor(&mut self, last_at: u64, last_crc: u32, end: u64) -> bool {
        if last_at == end {
            return end == self.first && last_crc == 0;
        }
        if !self.holds(last_at) || end > self.end {
            return false;
        }
        let (found, bytes) = match self.look(last_at).await {
            Ok((Found::Record { end }, bytes)) => (end, bytes),
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!("{}: offset {last_at}: {error}", self.path(last_at));
                return true;
            }
        };
        if crc32fast::hash(&bytes[..(found - last_at) as usize]) != last_crc {
            return false;
        }
        if found == end {
            return true;
        }
        let blank = self.holds(found) && matches!(self.look(found).await, Ok((Found::Blank, _)));
        blank && self.base_of(found) + self.size == end
    }

    /// Whether the record at `at` can be read. Where not even that is so, nothing is.
    pub async fn reads(&mut self, at: Option<u64>) -> bool {
        match at {
            Some(at) if self.holds(at) => self.look(at).await.is_ok(),
            _ => false,
        }
    }

    /// Store time of the record at `at`.
    pub async fn stored_at(&mut self, at: u64) -> Option<crate::model::WallMillis> {
        let (_, bytes) = self.look(at).await.ok()?;
        match message_unit::decode(&bytes, PhysicalOffset(at), false) {
            Ok(Unit::Record(record)) => Some(record.store_timestamp()),
            _ => None,
        }
    }

    /// Reads everything in `from..to` and writes it again, so that pages that a failed sync left
    /// clean are dirty, then syncs. Durable on return: the range.
    pub async fn rewrite(&mut self, from: u64, to: u64) -> Result<u64, Error> {
        let (mut at, mut last) = (from, None);
        while at < to {
            let (base, path) = (self.base_of(at), self.path(at));
            let file = self.file(at).map_err(Error::io(path.clone()))?;
            if last.as_ref().is_some_and(|(old, _)| *old != base)
                && let Some((_, old)) = last.take()
            {
                sync(&old, &path).await?;
            }
            let len = (to.min(base + self.size) - at).min(self.chunk.max(4096) as u64) as usize;
            let what = format!("{path}: read {len} bytes at {}", at - base);
            let bytes = file.read(at - base, len).await.map_err(Error::io(what))?;
            file.write_at(at - base, &bytes).map_err(Error::io(path))?;
            last = Some((base, file));
            at += len as u64;
        }
        if let Some((base, file)) = last {
            sync(&file, &self.path(base)).await?;
        }
        Ok(to.saturating_sub(from))
    }

    /// Behind the last byte from `at` on, in its file, that is not zero; `at` when all are. What
    /// cannot be read counts as used: to be written may be what the device needs.
    pub async fn used_end(&mut self, at: u64) -> Result<u64, Error> {
        if !self.holds(at) {
            return Ok(at);
        }
        let (base, path) = (self.base_of(at), self.path(at));
        let file = self.file(at).map_err(Error::io(path))?;
        let (mut position, mut used_end) = (at, at);
        while position < base + self.size {
            // A segment was allocated whole and is mostly not yet written: holes cost no read.
            let data = file.next_data(position - base).unwrap_or(Some(position - base));
            let Some(data) = data.filter(|data| base + data < base + self.size) else { break };
            position = base + data;
            let len = (base + self.size - position).min(self.chunk.max(4096) as u64) as usize;
            let used = match file.read(position - base, len).await {
                Ok(bytes) => bytes.iter().rposition(|byte| *byte != 0).map(|last| last + 1),
                Err(_) => Some(len),
            };
            used_end = used.map_or(used_end, |used| position + used as u64);
            position += len as u64;
        }
        Ok(used_end)
    }

    /// Makes `at..until` zero, as far as it lies in the file of `at`, up to the end of a sector.
    /// Durable on return.
    pub async fn zero(&mut self, at: u64, until: u64) -> Result<(), Error> {
        if !self.holds(at) {
            return Ok(());
        }
        let (base, path) = (self.base_of(at), self.path(at));
        let file = self.file(at).map_err(Error::io(path.clone()))?;
        let until = until.next_multiple_of(4096).min(base + self.size);
        let mut position = at;
        while position < until {
            let len = (until - position).min(self.chunk.max(4096) as u64) as usize;
            file.write_at(position - base, &vec![0; len]).map_err(Error::io(path.clone()))?;
            position += len as u64;
        }
        fault::point("store: zeros written").await;
        sync(&file, &path).await
    }
}

async fn sync(file: &Arc<dyn File>, path: &str) -> Result<(), Error> {
    file.sync_data().await.map_err(Error::io(format!("{path}: sync")))
}
