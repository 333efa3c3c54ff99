//! Files opened on use and closed by age, so that ten thousand queues are not ten thousand open
//! files.

use crate::disk::File;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct OpenFiles<K> {
    open: BTreeMap<K, (Arc<dyn File>, u64)>,
    uses: u64,
    count_max: usize,
}

impl<K: Ord + Clone> OpenFiles<K> {
    pub fn new(count_max: usize) -> Self {
        OpenFiles { open: BTreeMap::new(), uses: 0, count_max: count_max.max(1) }
    }

    pub fn find(&mut self, key: &K) -> Option<Arc<dyn File>> {
        self.uses += 1;
        let (file, used) = self.open.get_mut(key)?;
        *used = self.uses;
        Some(file.clone())
    }

    /// Keeps a file; the one unused for longest makes room. Who still reads it keeps it open.
    pub fn keep(&mut self, key: K, file: Arc<dyn File>) {
        if self.open.len() >= self.count_max && !self.open.contains_key(&key) {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.open.remove(&oldest);
            }
        }
        self.uses += 1;
        self.open.insert(key, (file, self.uses));
    }

    /// Forgets a file and hands it over.
    pub fn take(&mut self, key: &K) -> Option<Arc<dyn File>> {
        self.open.remove(key).map(|(file, _)| file)
    }

    pub fn close_where(&mut self, gone: impl Fn(&K) -> bool) {
        self.open.retain(|key, _| !gone(key));
    }
}
