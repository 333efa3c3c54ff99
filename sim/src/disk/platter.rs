//! The state of one disk and what crashes do to it. No waiting happens here.

use super::views::Views;
mod habits;
mod harm;
mod removed;

use super::{PAGE, SECTOR};
pub use habits::{Habits, PowerCut, Rates};
use hotfire::disk::{Entry, parent};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
pub use removed::Removed;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};

pub type Inode = u64;

struct Node {
    cache: Vec<u8>,
    disk: Vec<u8>,
    /// Sector number → version of its newest write.
    dirty: BTreeMap<u32, u64>,
    length_is_dirty: bool,
    /// The shortest length since the length was last durable.
    cut_at: Option<usize>,
    /// Pages with blocks behind them; the others are holes.
    allocated: Vec<bool>,
    handles: u32,
    names: u32,
    modified_ms: i64,
    written_us: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Link { path: String, node: Inode },
    Unlink { path: String },
    Rename { from: String, to: String, node: Inode },
    MakeDir { path: String },
}

impl Change {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } | Change::MakeDir { path } => {
                parent(path) == dir
            }
            Change::Rename { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Dir,
    File(Inode),
}

/// The sectors a sync has promised, with their bytes when it started.
pub(super) struct Snapshot {
    sectors: Vec<(u32, u64, Vec<u8>)>,
    length: usize,
    length_is_dirty: bool,
}

pub(super) struct Platter {
    pub epoch: u64,
    pub rng: Rng,
    pub habits: Habits,
    pub rates: Rates,
    pub next_sync_fails: bool,
    /// Syncs take so many times as long.
    pub slow: u64,
    next: Inode,
    version: u64,
    nodes: BTreeMap<Inode, Node>,
    names: BTreeMap<String, Name>,
    durable: BTreeMap<String, Name>,
    pending: Vec<(u64, Change)>,
    /// The newest change of each name that is durable: an older one does not undo it.
    reached: BTreeMap<String, u64>,
    locks: BTreeMap<String, u64>,
    pub syncs: u64,
    pub stalled_until_us: u64,
    pub removed: Vec<Removed>,
    pub views: Views,
    /// A file and its bytes that cannot be read.
    pub bad: Option<(String, std::ops::Range<usize>)>,
}

fn error(kind: ErrorKind, path: &str, what: &str) -> io::Error {
    io::Error::new(kind, format!("{path}: {what}"))
}

pub(super) fn broken(path: &str) -> io::Error {
    error(ErrorKind::Other, path, "simulated I/O error")
}

fn sectors(from: usize, to: usize) -> std::ops::Range<u32> {
    (from / SECTOR) as u32..to.div_ceil(SECTOR) as u32
}

impl Node {
    fn new(size: usize, now_ms: i64) -> Self {
        Node {
            cache: vec![0; size],
            disk: Vec::new(),
            dirty: BTreeMap::new(),
            length_is_dirty: size > 0,
            cut_at: None,
            written_us: 0,
            allocated: vec![false; size.div_ceil(PAGE)],
            handles: 0,
            names: 0,
            modified_ms: now_ms,
        }
    }

    fn store(&mut self, sector: u32, bytes: &[u8]) {
        self.apply_cut();
        let from = sector as usize * SECTOR;
        let to = from + bytes.len();
        if self.disk.len() < to {
            self.disk.resize(to, 0);
        }
        self.disk[from..to].copy_from_slice(bytes);
    }

    /// What was cut off is gone from the disk before anything newer reaches it.
    fn apply_cut(&mut self) {
        if let Some(cut) = self.cut_at.take() {
            self.disk.truncate(cut);
        }
    }

    fn sector(&self, sector: u32) -> &[u8] {
        let from = (sector as usize * SECTOR).min(self.cache.len());
        &self.cache[from..(from + SECTOR).min(self.cache.len())]
    }

    fn flush_sector(&mut self, sector: u32) {
        let bytes = self.sector(sector).to_vec();
        self.store(sector, &bytes);
    }

    /// Makes the length durable.
    fn settle_length(&mut self) {
        self.apply_cut();
        self.disk.resize(self.cache.len(), 0);
        self.length_is_dirty = false;
    }
}

impl Platter {
    pub fn new(rng: Rng, habits: Habits) -> Self {
        let root = BTreeMap::from([("/".to_owned(), Name::Dir)]);
        Platter {
            epoch: 0,
            rng,
            habits,
            rates: Rates::default(),
            next_sync_fails: false,
            slow: 1,
            next: 1,
            version: 0,
            nodes: BTreeMap::new(),
            names: root.clone(),
            durable: root,
            pending: Vec::new(),
            reached: BTreeMap::new(),
            locks: BTreeMap::new(),
            syncs: 0,
            stalled_until_us: 0,
            removed: Vec::new(),
            views: Views::default(),
            bad: None,
        }
    }

    pub fn furnish(&mut self, dir: &str) {
        self.names.insert(dir.into(), Name::Dir);
        self.durable.insert(dir.into(), Name::Dir);
    }

    // ---- names ----

    fn change(&mut self, change: Change) {
        self.version += 1;
        self.pending.push((self.version, change));
    }

    /// Makes a change durable. Of two changes of one name the newer stays, whichever directory was
    /// synced first: a rename may be durable by the other directory's sync.
    fn commit(&mut self, version: u64, change: &Change) {
        let mut set = |path: &String, name: Option<Name>| {
            let reached = self.reached.entry(path.clone()).or_default();
            if *reached > version {
                return;
            }
            *reached = version;
            match name {
                Some(name) => self.durable.insert(path.clone(), name),
                None => self.durable.remove(path),
            };
        };
        match change {
            Change::Link { path, node } => set(path, Some(Name::File(*node))),
            Change::Unlink { path } => set(path, None),
            Change::Rename { from, to, node } => {
                set(from, None);
                set(to, Some(Name::File(*node)));
            }
            Change::MakeDir { path } => set(path, Some(Name::Dir)),
        }
    }

    pub fn lookup(&self, path: &str) -> io::Result<Inode> {
        match self.names.get(path) {
            Some(Name::File(node)) => Ok(*node),
            Some(Name::Dir) => Err(error(ErrorKind::IsADirectory, path, "is a directory")),
            None => Err(error(ErrorKind::NotFound, path, "no such file")),
        }
    }

    fn must_be_dir(&self, dir: &str) -> io::Result<()> {
        match self.names.get(dir) {
            Some(Name::Dir) => Ok(()),
            Some(Name::File(_)) => Err(error(ErrorKind::NotADirectory, dir, "is a file")),
            None => Err(error(ErrorKind::NotFound, dir, "no such directory")),
        }
    }

    pub fn create(&mut self, path: &str, size: usize, now_ms: i64) -> io::Result<Inode> {
        self.must_be_dir(parent(path))?;
        let node = self.next;
        self.next += 1;
        self.nodes.insert(node, Node::new(size, now_ms));
        self.bind(path, node);
        self.change(Change::Link { path: path.into(), node });
        Ok(node)
    }

    fn bind(&mut self, path: &str, node: Inode) {
        if let Some(n) = self.nodes.get_mut(&node) {
            n.names += 1;
        }
        if let Some(Name::File(old)) = self.names.insert(path.into(), Name::File(node)) {
            self.unname(old);
        }
    }

    fn unname(&mut self, node: Inode) {
        if let Some(n) = self.nodes.get_mut(&node) {
            n.names -= 1;
        }
    }

    pub fn exists(&self, path: &str) -> bool {
        self.names.contains_key(path)
    }

    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.lookup(from)?;
        self.must_be_dir(parent(to))?;
        if self.names.get(to) == Some(&Name::Dir) {
            return Err(error(ErrorKind::IsADirectory, to, "is a directory"));
        }
        if from == to {
            return Ok(());
        }
        self.names.remove(from);
        self.unname(node);
        self.bind(to, node);
        self.change(Change::Rename { from: from.into(), to: to.into(), node });
        Ok(())
    }

    pub fn remove(&mut self, path: &str) -> io::Result<()> {
        let node = self.lookup(path)?;
        self.names.remove(path);
        self.unname(node);
        self.change(Change::Unlink { path: path.into() });
        Ok(())
    }

    pub fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        self.must_be_dir(path)?;
        if self.children(path).next().is_some() {
            return Err(error(ErrorKind::DirectoryNotEmpty, path, "is not empty"));
        }
        self.names.remove(path);
        self.change(Change::Unlink { path: path.into() });
        Ok(())
    }

    pub fn make_dir(&mut self, dir: &str) -> io::Result<()> {
        if self.names.get(dir) == Some(&Name::Dir) {
            return Ok(());
        }
        if self.exists(dir) {
            return Err(error(ErrorKind::AlreadyExists, dir, "is a file"));
        }
        self.make_dir(parent(dir))?;
        self.names.insert(dir.into(), Name::Dir);
        self.change(Change::MakeDir { path: dir.into() });
        Ok(())
    }

    fn children<'a>(&'a self, dir: &str) -> impl Iterator<Item = (&'a str, Name)> + use<'a> {
        let prefix = if dir == "/" { "/".to_owned() } else { format!("{dir}/") };
        self.names
            .range(prefix.clone()..)
            .map_while(move |(path, name)| {
                let rest = path.strip_prefix(&prefix)?;
                Some((!rest.is_empty() && !rest.contains('/')).then_some((rest, *name)))
            })
            .flatten()
    }

    pub fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.must_be_dir(dir)?;
        let entry = |(name, what): (&str, Name)| match what {
            Name::Dir => Entry { name: name.into(), is_dir: true, size: 0 },
            Name::File(node) => {
                let size = self.nodes[&node].cache.len() as u64;
                Entry { name: name.into(), is_dir: false, size }
            }
        };
        let mut entries: Vec<Entry> = self.children(dir).map(entry).collect();
        entries.sort();
        Ok(entries)
    }

    /// Every file's path, in order.
    pub fn files(&self) -> Vec<String> {
        let is_file =
            |(path, name): (&String, &Name)| matches!(name, Name::File(_)).then(|| path.clone());
        self.names.iter().filter_map(is_file).collect()
    }

    /// Marks the moment a sync of a directory starts.
    pub fn names_until(&self) -> u64 {
        self.version
    }

    pub fn finish_sync_dir(&mut self, dir: &str, until: u64) {
        let mut rest = Vec::new();
        for (version, change) in std::mem::take(&mut self.pending) {
            // Later changes may ride along: the journal commits when it likes.
            let covered = version <= until || self.rng.chance(0.1);
            if !covered || !change.touches(dir) {
                rest.push((version, change));
                continue;
            }
            match change {
                Change::Rename { from, to, node } if parent(&from) != dir => {
                    // Only the new name is promised; the old one may still be there.
                    self.commit(version, &Change::Link { path: to, node });
                    rest.push((version, Change::Unlink { path: from }));
                }
                change => self.commit(version, &change),
            }
        }
        self.pending = rest;
    }

    // ---- locks and handles ----

    pub fn take_lock(&mut self, path: &str, id: u64) -> io::Result<()> {
        if self.locks.contains_key(path) {
            return Err(error(ErrorKind::WouldBlock, path, "locked by another owner"));
        }
        self.locks.insert(path.into(), id);
        Ok(())
    }

    pub fn release_lock(&mut self, path: &str, id: u64) {
        if self.locks.get(path) == Some(&id) {
            self.locks.remove(path);
        }
    }

    pub fn next_id(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub fn hold(&mut self, node: Inode) {
        self.node_mut(node).handles += 1;
    }

    pub fn let_go(&mut self, node: Inode) {
        if let Some(n) = self.nodes.get_mut(&node) {
            n.handles = n.handles.saturating_sub(1);
        }
        self.forget(node);
    }

    /// Drops a file that nothing can bring back.
    fn forget(&mut self, node: Inode) {
        let Some(n) = self.nodes.get(&node) else { return };
        if n.handles > 0 || n.names > 0 {
            return;
        }
        let named = |change: &Change| match change {
            Change::Link { node: n, .. } | Change::Rename { node: n, .. } => *n == node,
            Change::Unlink { .. } | Change::MakeDir { .. } => false,
        };
        let held = self.durable.values().any(|n| *n == Name::File(node));
        if !held && !self.pending.iter().any(|(_, c)| named(c)) {
            self.nodes.remove(&node);
        }
    }

    fn node(&self, node: Inode) -> &Node {
        &self.nodes[&node]
    }

    fn node_mut(&mut self, node: Inode) -> &mut Node {
        self.nodes.get_mut(&node).expect("a node lives as long as a handle or a name")
    }

    // ---- bytes ----

    pub fn size(&self, node: Inode) -> usize {
        self.node(node).cache.len()
    }

    pub fn modified_ms(&self, node: Inode) -> i64 {
        self.node(node).modified_ms
    }

    pub fn set_modified_ms(&mut self, node: Inode, at: i64) {
        self.node_mut(node).modified_ms = at;
    }

    /// Units: bytes with blocks behind them, of files that a process can reach.
    pub fn used(&self) -> u64 {
        let live = self.nodes.values().filter(|n| n.names > 0 || n.handles > 0);
        live.map(|n| n.allocated.iter().filter(|a| **a).count() as u64 * PAGE as u64).sum()
    }

    /// Puts blocks behind the pages of a range.
    pub fn allocate(&mut self, path: &str, node: Inode, from: usize, to: usize) -> io::Result<()> {
        let pages = from / PAGE..to.div_ceil(PAGE);
        let have = &self.node(node).allocated;
        let missing = pages.clone().filter(|p| !have.get(*p).copied().unwrap_or(false)).count();
        if missing == 0 {
            return Ok(());
        }
        if self.used() + (missing * PAGE) as u64 > self.habits.capacity {
            mark("disk: no space");
            return Err(error(ErrorKind::StorageFull, path, "no space left on the device"));
        }
        let n = self.node_mut(node);
        if n.allocated.len() < pages.end {
            n.allocated.resize(pages.end, false);
        }
        n.allocated[pages].fill(true);
        Ok(())
    }

    pub fn write(
        &mut self,
        path: &str,
        node: Inode,
        at: usize,
        data: &[u8],
        now_ms: i64,
    ) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.allocate(path, node, at, at + data.len())?;
        let mut data = data;
        let fails = self.rates.write > 0.0 && self.rng.chance(self.rates.write);
        if fails {
            mark("disk: write failed");
            // Some of it may have arrived.
            data = &data[..self.rng.below(data.len() as u64) as usize];
        }
        self.version += 1;
        let version = self.version;
        let end = at + data.len();
        let n = self.node_mut(node);
        n.modified_ms = now_ms;
        if !data.is_empty() {
            if n.cache.len() < end {
                n.cache.resize(end, 0);
                n.length_is_dirty = true;
            }
            n.cache[at..end].copy_from_slice(data);
            n.dirty.extend(sectors(at, end).map(|s| (s, version)));
        }
        self.views.on_change(path, node, &self.nodes[&node].cache);
        if self.rng.chance(self.habits.writeback) {
            self.write_back_one_page(node);
        }
        if fails { Err(broken(path)) } else { Ok(()) }
    }

    fn write_back_one_page(&mut self, node: Inode) {
        let count = self.node(node).dirty.len() as u64;
        if count == 0 {
            return;
        }
        let nth = self.rng.below(count) as usize;
        let n = self.node_mut(node);
        let Some(some) = n.dirty.keys().nth(nth).copied() else { return };
        let page = some as usize * SECTOR / PAGE * PAGE;
        for sector in sectors(page, page + PAGE) {
            if n.dirty.remove(&sector).is_some() {
                n.flush_sector(sector);
            }
        }
    }

    /// Starts and finishes write-back of a range, if the dice want it.
    pub fn hint_writeback(&mut self, node: Inode, from: usize, to: usize) {
        for sector in sectors(from, to.min(self.size(node))) {
            if self.node(node).dirty.contains_key(&sector) && self.rng.chance(0.5) {
                let n = self.node_mut(node);
                n.dirty.remove(&sector);
                n.flush_sector(sector);
            }
        }
    }

    pub fn read(&mut self, path: &str, node: Inode, at: usize, len: usize) -> io::Result<Vec<u8>> {
        if self.rates.read > 0.0 && self.rng.chance(self.rates.read) {
            mark("disk: read failed");
            return Err(broken(path));
        }
        let is_bad = |(file, bytes): &(String, std::ops::Range<usize>)| {
            file == path && at < bytes.end && bytes.start < at.saturating_add(len)
        };
        if self.bad.as_ref().is_some_and(is_bad) {
            mark("disk: bad sector");
            return Err(broken(path));
        }
        let cache = &self.node(node).cache;
        match at.checked_add(len) {
            Some(end) if end <= cache.len() => Ok(cache[at..end].to_vec()),
            _ => {
                let what = format!("{len} bytes at {at} reach past the end");
                Err(error(ErrorKind::UnexpectedEof, path, &what))
            }
        }
    }

    pub fn set_size(&mut self, node: Inode, size: usize, now_ms: i64) {
        let n = self.node_mut(node);
        if size < n.cache.len() {
            n.cut_at = Some(n.cut_at.unwrap_or(usize::MAX).min(size));
            n.dirty.split_off(&(size.div_ceil(SECTOR) as u32));
            n.allocated.truncate(size.div_ceil(PAGE));
        }
        if size != n.cache.len() {
            n.length_is_dirty = true;
        }
        n.cache.resize(size, 0);
        n.allocated.resize(size.div_ceil(PAGE), false);
        n.modified_ms = now_ms;
        self.views.on_change("a resized file", node, &self.nodes[&node].cache);
    }

    pub fn start_sync(&mut self, node: Inode) -> Snapshot {
        let n = self.node(node);
        let sectors = n.dirty.iter().map(|(s, v)| (*s, *v, n.sector(*s).to_vec())).collect();
        Snapshot { sectors, length: n.cache.len(), length_is_dirty: n.length_is_dirty }
    }

    pub fn finish_sync(&mut self, path: &str, node: Inode, taken: Snapshot) -> io::Result<()> {
        self.syncs += 1;
        let fails = std::mem::take(&mut self.next_sync_fails)
            || self.rates.sync > 0.0 && self.rng.chance(self.rates.sync);
        if fails {
            if !taken.sectors.is_empty() {
                mark("disk: sync failed");
            }
            let n = self.node_mut(node);
            for (sector, version, _) in &taken.sectors {
                if n.dirty.get(sector) == Some(version) {
                    n.dirty.remove(sector);
                }
            }
            return Err(broken(path));
        }
        for (sector, version, bytes) in taken.sectors {
            let rides_along = self.rng.chance(0.2);
            let n = self.node_mut(node);
            match n.dirty.get(&sector) {
                Some(now) if *now == version || rides_along => {
                    n.dirty.remove(&sector);
                    n.flush_sector(sector);
                }
                Some(_) => n.store(sector, &bytes),
                // Written back meanwhile, with these bytes or newer ones, or cut off.
                None => {}
            }
        }
        let n = self.node_mut(node);
        if taken.length_is_dirty {
            // A length that changed while the sync ran is durable only by a later one.
            if n.cache.len() == taken.length {
                n.settle_length();
            } else if n.disk.len() < taken.length {
                n.apply_cut();
                n.disk.resize(taken.length, 0);
            }
        }
        Ok(())
    }

    // ---- crashes ----

    /// The process is gone: its handles are dead, its locks given back, the cache stays.
    pub fn process_crash(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.views.clear();
        self.nodes.values_mut().for_each(|n| n.handles = 0);
        let all: Vec<Inode> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|node| self.forget(node));
    }

    pub fn power_loss(&mut self) -> PowerCut {
        mark("disk: power loss");
        self.epoch += 1;
        self.views.clear();
        self.locks.clear();
        let mut cut = PowerCut::default();
        self.lose_names(&mut cut);
        let reachable: BTreeSet<Inode> = self
            .names
            .values()
            .filter_map(|n| if let Name::File(node) = n { Some(*node) } else { None })
            .collect();
        self.nodes.retain(|node, _| reachable.contains(node));
        // How much of the cache had found its way down.
        let keep = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let paths: Vec<(String, Inode)> = self
            .names
            .iter()
            .filter_map(|(p, n)| if let Name::File(i) = n { Some((p.clone(), *i)) } else { None })
            .collect();
        for (_, node) in &paths {
            let n = self.node_mut(*node);
            n.names = 0;
            n.handles = 0;
        }
        let mut done = BTreeSet::new();
        for (path, node) in paths {
            self.node_mut(node).names += 1;
            if done.insert(node) {
                self.lose_sectors(&path, node, keep, &mut cut);
            }
        }
        cut
    }

    fn lose_names(&mut self, cut: &mut PowerCut) {
        let mut alive = true;
        for (version, change) in std::mem::take(&mut self.pending) {
            let keeps = self.rng.chance(0.5);
            alive = if self.habits.names_are_journalled { alive && keeps } else { keeps };
            if alive {
                self.commit(version, &change);
                continue;
            }
            cut.names_lost += 1;
            mark("disk: directory entry lost");
            if cut.examples.len() < 6 {
                cut.examples.push(match change {
                    Change::Link { path, .. } => format!("name {path} lost"),
                    Change::Unlink { path } => format!("removal of {path} undone"),
                    Change::Rename { from, to, .. } => format!("rename {from} to {to} undone"),
                    Change::MakeDir { path } => format!("directory {path} lost"),
                });
            }
        }
        self.reached.clear();
        // What stands in a directory that is not there cannot be reached.
        let dirs: BTreeSet<String> =
            self.durable.iter().filter(|(_, n)| **n == Name::Dir).map(|(p, _)| p.clone()).collect();
        let rooted = |path: &str| {
            let mut at = path;
            while at != "/" {
                at = parent(at);
                if !dirs.contains(at) {
                    return false;
                }
            }
            true
        };
        self.durable.retain(|path, _| rooted(path));
        self.names = self.durable.clone();
    }

    fn lose_sectors(&mut self, path: &str, node: Inode, keep: f64, cut: &mut PowerCut) {
        let by_sector = self.habits.sectors_are_atomic;
        let new_length = self.rng.chance(0.5);
        let mut rng = self.rng.clone();
        let n = self.node_mut(node);
        if n.length_is_dirty && new_length {
            n.settle_length();
        }
        let old_length = n.disk.len();
        // Per page: how many sectors were kept and how many dropped.
        let mut pages: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut page_keeps: BTreeMap<usize, bool> = BTreeMap::new();
        for sector in std::mem::take(&mut n.dirty).into_keys() {
            let page = sector as usize * SECTOR / PAGE;
            let keeps = if by_sector {
                rng.chance(keep)
            } else {
                *page_keeps.entry(page).or_insert_with(|| rng.chance(keep))
            };
            let seen = pages.entry(page).or_default();
            if keeps {
                n.flush_sector(sector);
                seen.0 += 1;
                cut.sectors_kept += 1;
            } else {
                seen.1 += 1;
                cut.sectors_dropped += 1;
                mark("disk: sector dropped at power loss");
                if cut.examples.len() < 6 {
                    cut.examples.push(format!("sector {sector} of {path} dropped"));
                }
            }
        }
        if pages.values().any(|(kept, dropped)| *kept > 0 && *dropped > 0) {
            mark("disk: torn page");
        }
        if n.length_is_dirty && !new_length {
            n.disk.truncate(old_length);
            if n.disk.len() != n.cache.len() {
                mark("disk: length lost at power loss");
            }
        } else {
            let length = n.cache.len();
            n.disk.resize(length, 0);
        }
        n.length_is_dirty = false;
        n.cut_at = None;
        n.cache = n.disk.clone();
        let pages = n.cache.len().div_ceil(PAGE);
        n.allocated.resize(pages, false);
        self.rng = rng;
    }

    /// A bit flips at rest.
    pub fn rot(&mut self, path: &str, at: usize, bit: u8) -> bool {
        let Ok(node) = self.lookup(path) else { return false };
        let n = self.node_mut(node);
        if at >= n.cache.len() {
            return false;
        }
        n.cache[at] ^= 1 << (bit & 7);
        if let Some(byte) = n.disk.get_mut(at) {
            *byte ^= 1 << (bit & 7);
        }
        true
    }

    pub fn peek_durable(&self, path: &str) -> Option<Vec<u8>> {
        Some(self.nodes.get(&self.lookup(path).ok()?)?.disk.clone())
    }

    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let node = self.lookup(path).ok()?;
        Some(self.node(node).cache.clone())
    }
}
