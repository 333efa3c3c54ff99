//! What an oracle must know of files that processes removed.

use super::{Inode, Name, Node, Platter};
use hotfire::disk::parent;

/// A file that a process removed, as the disk was right before.
#[derive(Clone, Debug)]
pub struct Removed {
    pub path: String,
    pub at_us: u64,
    pub written_us: u64,
    /// Whether it held anything but zeros.
    pub has_data: bool,
    /// The files of its directory, with it, and whether they held anything.
    pub beside: Vec<(String, bool)>,
    /// Units: bytes.
    pub used: u64,
    pub capacity: u64,
}

impl Platter {
    /// Keeps what an oracle must know of a file that is about to lose its name.
    pub fn note_removal(&mut self, path: &str, at_us: u64) {
        let Ok(node) = self.lookup(path) else { return };
        let holds = |node: &Node| node.cache.iter().any(|byte| *byte != 0);
        let beside = self.names.iter().filter_map(|(other, name)| match name {
            Name::File(inode) if parent(other) == parent(path) => {
                Some((other.clone(), holds(self.node(*inode))))
            }
            _ => None,
        });
        let removed = Removed {
            path: path.to_owned(),
            at_us,
            written_us: self.node(node).written_us,
            has_data: holds(self.node(node)),
            beside: beside.collect(),
            used: self.used(),
            capacity: self.habits.capacity,
        };
        self.removed.push(removed);
    }

    pub fn stamp(&mut self, node: Inode, at_us: u64) {
        self.node_mut(node).written_us = at_us;
    }
}
