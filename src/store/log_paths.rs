//! Which directories hold the commit log, and which of them each file lies in.
//!
//! Source: MultiPathMappedFileQueue (4.9.3). File k of the log goes to directory k modulo n of the
//! sorted ones that may be written and are not full; where it went is found again by listing all.

use std::collections::BTreeMap;

/// `storePathCommitLog` divides its paths by this. Source: MessageStoreConfig#MULTI_PATH_SPLITTER.
const SPLITTER: char = ',';

/// The directories of the commit log; at least one may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPaths {
    /// Sorted, those for new files first.
    all: Vec<String>,
    writable: usize,
}

impl LogPaths {
    pub fn one(dir: &str) -> Self {
        LogPaths { all: vec![dir.to_owned()], writable: 1 }
    }

    /// `paths` is the value of `storePathCommitLog`, `read_only` that of
    /// `readOnlyCommitLogStorePaths`, which counts only when there are several paths.
    /// Differs: blanks around a path do not belong to it.
    /// Errors: why the values cannot be used.
    pub fn parse(paths: &str, read_only: &str) -> Result<Self, String> {
        let several = paths.contains(SPLITTER);
        let closed = if several { split(read_only) } else { Vec::new() };
        let mut all = split(paths);
        all.retain(|path| !closed.contains(path));
        let writable = all.len();
        if writable == 0 {
            return Err("no path is left for new files".into());
        }
        all.extend(closed);
        Ok(LogPaths { all, writable })
    }

    pub fn all(&self) -> &[String] {
        &self.all
    }
    /// Those for new files.
    pub fn writable(&self) -> &[String] {
        &self.all[..self.writable]
    }

    /// The directory of new file number `nth`. Full ones are passed over while another is left.
    fn for_new(&self, nth: u64, is_full: impl Fn(&str) -> bool) -> usize {
        let free: Vec<usize> = (0..self.writable).filter(|n| !is_full(&self.all[*n])).collect();
        match free.len() as u64 {
            0 => (nth % self.writable as u64) as usize,
            count => free[(nth % count) as usize],
        }
    }
}

fn split(paths: &str) -> Vec<String> {
    let trimmed = paths.split(SPLITTER).map(|path| path.trim().trim_end_matches('/'));
    let mut paths: Vec<String> = trimmed.filter(|p| !p.is_empty()).map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Where every file of the log lies.
#[derive(Clone, Debug)]
pub struct LogPlaces {
    paths: LogPaths,
    /// Units: bytes of each file.
    size: u64,
    /// Start of the file → index into the paths.
    places: BTreeMap<u64, usize>,
}

impl LogPlaces {
    pub fn new(paths: &LogPaths, size: u64) -> Self {
        LogPlaces { paths: paths.clone(), size, places: BTreeMap::new() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }
    pub fn paths(&self) -> &LogPaths {
        &self.paths
    }
    pub fn bases(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.places.keys().copied()
    }

    /// A file was found in the directory with this index. False when another has the same name.
    pub fn insert(&mut self, base: u64, dir: usize) -> bool {
        self.places.insert(base, dir).is_none()
    }
    pub fn remove(&mut self, base: u64) {
        self.places.remove(&base);
    }
    /// Chooses the directory of a file that is about to be made.
    pub fn choose(&mut self, base: u64, is_full: impl Fn(&str) -> bool) {
        let dir = self.paths.for_new(base / self.size, is_full);
        self.places.insert(base, dir);
    }

    /// The directory of the file that begins at `base`: where it is, or where it would be made.
    pub fn dir(&self, base: u64) -> &str {
        let known = self.places.get(&base).copied();
        let dir = known.unwrap_or_else(|| self.paths.for_new(base / self.size, |_| false));
        &self.paths.all[dir]
    }
    pub fn path(&self, base: u64) -> String {
        format!("{}/{}", self.dir(base), super::segment::name(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_go_round_the_sorted_paths_and_pass_over_full_ones() {
        let paths = LogPaths::parse("/c,/a/, /b", "").unwrap();
        let dirs = |is_full: fn(&str) -> bool| {
            let mut places = LogPlaces::new(&paths, 10);
            (0..4).for_each(|n| places.choose(n * 10, is_full));
            (0..4).map(|n| places.dir(n * 10).to_owned()).collect::<Vec<_>>().concat()
        };
        assert_eq!(dirs(|_| false), "/a/b/c/a");
        assert_eq!(dirs(|dir| dir == "/b"), "/a/c/a/c");
        assert_eq!(dirs(|_| true), "/a/b/c/a", "nothing is left: all count");
    }

    #[test]
    fn read_only_paths_are_read_and_get_no_new_file() {
        let paths = LogPaths::parse("/a,/b,/old", "/old,/older").unwrap();
        assert_eq!(paths.writable(), ["/a", "/b"]);
        assert_eq!(paths.all(), ["/a", "/b", "/old", "/older"]);
        let mut places = LogPlaces::new(&paths, 10);
        assert!(places.insert(0, 3));
        assert!(!places.insert(0, 1), "a file in two directories");
        places.remove(0);
        assert!(places.insert(0, 3));
        assert_eq!(places.path(0), "/older/00000000000000000000");
        assert_eq!(places.path(10), "/b/00000000000000000010");
        assert_eq!(LogPaths::parse("/a", "/old").unwrap(), LogPaths::one("/a"));
        assert!(LogPaths::parse("/a,", "/a").is_err());
    }
}
