//! Views that processes hold: the bytes are the page cache's own, so a change below a live view
//! reaches a reader that was told they stay. Nobody may make one.

use super::device::Shared;
use super::platter::Inode;
use hotfire::rt::sim::mark;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Range {
    node: Inode,
    from: usize,
    /// What the cache held there when the view was made.
    bytes: Arc<[u8]>,
}

#[derive(Default)]
pub(super) struct Views {
    next: u64,
    live: BTreeMap<u64, Range>,
    /// The first change below a view.
    broken: Option<String>,
}

impl Views {
    fn add(&mut self, node: Inode, from: usize, bytes: Arc<[u8]>) -> u64 {
        self.next += 1;
        self.live.insert(self.next, Range { node, from, bytes });
        self.next
    }

    /// The process that held them is gone.
    pub fn clear(&mut self) {
        self.live.clear();
    }

    /// The cache of a file is now `cache`; `path` is for the story.
    pub fn on_change(&mut self, path: &str, node: Inode, cache: &[u8]) {
        for view in self.live.values().filter(|view| view.node == node) {
            let to = view.from + view.bytes.len();
            if cache.get(view.from..to) != Some(&view.bytes[..]) && self.broken.is_none() {
                let (from, len) = (view.from, view.bytes.len());
                self.broken = Some(format!("{path} changed below a view of {len} bytes at {from}"));
            }
        }
    }

    pub fn broken(&self) -> Option<String> {
        self.broken.clone()
    }
}

/// One live view.
pub(super) struct View {
    shared: Arc<Shared>,
    id: u64,
    bytes: Arc<[u8]>,
}

impl View {
    pub fn new(shared: &Arc<Shared>, node: Inode, from: usize, bytes: Vec<u8>) -> Self {
        mark("disk: view of the page cache");
        let bytes: Arc<[u8]> = bytes.into();
        let id = shared.platter.lock().views.add(node, from, bytes.clone());
        View { shared: shared.clone(), id, bytes }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.shared.platter.lock().views.live.remove(&self.id);
    }
}
