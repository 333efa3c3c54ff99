//! What changes on a disk without any process having a hand in it.

use super::{Change, Name, Platter};
use hotfire::disk::parent;
use std::collections::BTreeSet;

impl Platter {
    /// Bytes change behind the system's back: in the page cache and on the device.
    pub fn deface(&mut self, path: &str, at: usize, bytes: &[u8]) {
        let Ok(node) = self.lookup(path) else { return };
        let n = self.node_mut(node);
        for copy in [&mut n.cache, &mut n.disk] {
            let end = (at + bytes.len()).min(copy.len());
            if at < end {
                copy[at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
    }

    /// A file is there that nobody made.
    pub fn plant(&mut self, path: &str, bytes: &[u8]) {
        if self.make_dir(parent(path)).is_ok()
            && let Ok(node) = self.create(path, bytes.len(), 0)
        {
            let n = self.node_mut(node);
            n.cache.copy_from_slice(bytes);
            n.disk = bytes.to_vec();
            n.length_is_dirty = false;
        }
    }

    /// A file is gone for good, whatever was pending: also one whose removal could be undone yet.
    pub fn erase(&mut self, path: &str) {
        self.pending.retain(|(_, change)| match change {
            Change::Link { path: to, .. } | Change::Rename { to, .. } => to != path,
            Change::Unlink { .. } | Change::MakeDir { .. } => true,
        });
        if let Some(Name::File(node)) = self.durable.get(path).copied() {
            self.durable.remove(path);
            self.forget(node);
        }
        if let Some(Name::File(node)) = self.names.get(path).copied() {
            self.names.remove(path);
            self.unname(node);
            self.forget(node);
        }
    }

    /// Files that are there, or would be after a power loss.
    pub fn all_files(&self) -> Vec<String> {
        let files = self.names.iter().chain(&self.durable);
        let files = files.filter(|(_, name)| matches!(name, Name::File(_)));
        let files: BTreeSet<&String> = files.map(|(path, _)| path).collect();
        files.into_iter().cloned().collect()
    }
}
