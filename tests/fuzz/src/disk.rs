//! A disk in memory: an overlay over nothing.

use hotfire::disk::overlay::Overlay;
use hotfire::disk::{BoxFuture, Disk, Entry, File, Fill, LockGuard};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Has one directory, `/`, and nothing in it.
struct Nothing;

fn none<T>() -> io::Result<T> {
    Err(ErrorKind::NotFound.into())
}

impl Disk for Nothing {
    fn open(&self, _: &str) -> io::Result<Arc<dyn File>> {
        none()
    }
    fn open_or_create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        none()
    }
    fn create_whole(
        &self,
        _: &str,
        _: &str,
        _: u64,
        _: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        Box::pin(async { none() })
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        none()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        none()
    }
    fn remove_dir(&self, _: &str) -> io::Result<()> {
        none()
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        if dir == "/" { Ok(Vec::new()) } else { none() }
    }
    fn make_dir(&self, _: &str) -> io::Result<()> {
        none()
    }
    fn sync_dir(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn lock(&self, _: &str) -> io::Result<Box<dyn LockGuard>> {
        none()
    }
    fn free_space(&self, _: &str) -> io::Result<(u64, u64)> {
        Ok((1 << 30, 1 << 31))
    }
}

pub fn memory() -> Arc<dyn Disk> {
    Arc::new(Overlay::new(Arc::new(Nothing), 1_700_000_000_000, 32 << 20))
}

/// Every file below a directory, with its bytes.
pub fn files(disk: &dyn Disk, dir: &str, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in disk.list(dir).unwrap_or_default() {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir {
            files(disk, &path, into);
        } else {
            let bytes = disk.open(&path).and_then(|file| file.read_at(0, entry.size as usize));
            into.push((path, bytes.map(|bytes| bytes.to_vec()).unwrap_or_default()));
        }
    }
}

/// A disk with these files.
pub fn with_files(files: &[(String, Vec<u8>)]) -> Arc<dyn Disk> {
    let disk = memory();
    for (path, bytes) in files {
        let _ = disk.make_dir(hotfire::disk::parent(path));
        if let Ok(file) = disk.open_or_create(path) {
            let _ = file.write_at(0, bytes);
        }
    }
    disk
}
