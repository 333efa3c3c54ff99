//! The files of the commit log: which exist, what they are called, which are open.
//!
//! Source: MappedFileQueue, MappedFile (4.9.3). All files have one size; names are their start.

use super::log_paths::LogPlaces;
use super::open_files::OpenFiles;
use crate::disk::{Disk, File};
use std::io;
use std::sync::Arc;

pub struct Segments {
    places: LogPlaces,
    /// Start of the first file.
    first: u64,
    /// End of the last file that exists.
    end: u64,
    open: OpenFiles<u64>,
    /// The file before `first`: no longer read, and not yet deleted.
    doomed: Option<u64>,
}

/// A file that left the table. Readers that hold it can go on; nobody else opens it.
pub struct Dropped {
    pub path: String,
    /// `None` when it was not open.
    pub file: Option<Arc<dyn File>>,
}

impl Segments {
    pub fn new(places: LogPlaces, first: u64, end: u64, open_max: usize) -> Self {
        let size = places.size();
        assert!(first.is_multiple_of(size), "segments begin at multiples of their size");
        assert!(end.is_multiple_of(size), "segments end at multiples of their size");
        Segments { places, first, end, open: OpenFiles::new(open_max), doomed: None }
    }

    pub fn first(&self) -> u64 {
        self.first
    }
    /// Units: bytes; the end of the last file that exists.
    pub fn end(&self) -> u64 {
        self.end
    }
    pub fn size(&self) -> u64 {
        self.places.size()
    }
    pub fn base_of(&self, at: u64) -> u64 {
        at - at % self.size()
    }
    pub fn holds(&self, at: u64) -> bool {
        self.first <= at && at < self.end
    }
    pub fn path(&self, base: u64) -> String {
        self.places.path(base)
    }
    /// Units: directories that new files may go to.
    pub fn writable_dirs(&self) -> usize {
        self.places.paths().writable().len()
    }
    /// Chooses where the next file will lie.
    pub fn choose_next(&mut self, is_full: impl Fn(&str) -> bool) {
        self.places.choose(self.end, is_full);
    }

    /// Takes the oldest file out of the table, for it is to be deleted. The one place that forgets
    /// a file: whatever keeps it open or mapped goes with it.
    pub fn drop_first(&mut self) -> Dropped {
        assert!(self.doomed.is_none(), "one file at a time is deleted");
        assert!(self.first + self.size() < self.end, "the last file is never deleted");
        let base = self.first;
        self.first += self.size();
        self.doomed = Some(base);
        Dropped { path: self.path(base), file: self.open.take(&base) }
    }

    /// The file that was dropped and whose name is still there.
    pub fn doomed(&self) -> Option<u64> {
        self.doomed
    }

    /// Its name is gone.
    pub fn on_deleted(&mut self) {
        if let Some(base) = self.doomed.take() {
            self.places.remove(base);
        }
    }

    /// The only file, which is empty, is to be deleted: the log begins at `base` instead.
    pub fn begin_at(&mut self, base: u64) -> Option<Dropped> {
        assert!(base.is_multiple_of(self.size()), "segments begin at multiples of their size");
        let made = (self.end > self.first)
            .then(|| Dropped { path: self.path(self.first), file: self.open.take(&self.first) });
        self.places.remove(self.first);
        (self.first, self.end) = (base, base);
        made
    }

    /// A new last file appeared.
    pub fn grow(&mut self, file: Arc<dyn File>) {
        self.open.keep(self.end, file);
        self.end += self.size();
    }

    /// The file that holds `at`, opened when it is not.
    pub fn file(&mut self, disk: &dyn Disk, at: u64) -> io::Result<Arc<dyn File>> {
        let base = self.base_of(at);
        if let Some(file) = self.open.find(&base) {
            return Ok(file);
        }
        let file = disk.open(&self.path(base))?;
        self.open.keep(base, file.clone());
        Ok(file)
    }
}

/// Source: UtilAll#offset2FileName (4.9.3).
pub fn name(base: u64) -> String {
    format!("{base:020}")
}

/// The start that a file's name says; `None` for a name that is not 20 digits.
pub fn base(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()))
        .then(|| name.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_twenty_digits() {
        assert_eq!(super::name(1 << 30), "00000000001073741824");
        assert_eq!(super::base("00000000001073741824"), Some(1 << 30));
        for other in
            ["", "1", "0000000000107374182x", "000000000010737418240", "99999999999999999999"]
        {
            assert_eq!(super::base(other), None, "{other}");
        }
    }
}
