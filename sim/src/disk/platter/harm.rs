//! What changes on a disk without any process having a hand in it.

use super::{Change, Name, Platter};
use hotfire::disk::parent;

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

    /// A file is gone for good, whatever was pending.
    pub fn erase(&mut self, path: &str) {
        let Some(Name::File(node)) = self.names.remove(path) else { return };
        self.unname(node);
        self.durable.remove(path);
        self.pending.retain(|(_, change)| match change {
            Change::Link { path: to, .. } | Change::Rename { to, .. } => to != path,
            Change::Unlink { .. } | Change::MakeDir { .. } => true,
        });
        self.forget(node);
    }
}
