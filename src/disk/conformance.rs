//! One suite for every `Disk`: what the rooms above may rely on, durability apart (a test cannot
//! cut the power of a real machine; the simulator can).

use super::{Disk, Fill, read_small, replace_small};
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// What went against the contract, in words.
pub type Outcome = Result<(), String>;

/// Runs every situation in a directory of its own under `root`, which must exist.
pub async fn run(disk: Arc<dyn Disk>, root: &str) -> Outcome {
    for dir in ["whole", "taken", "names", "small", "lock", "bytes", "handle", "staging", "views"] {
        did(disk.make_dir(&format!("{root}/{dir}")), "make a directory")?;
    }
    did(disk.make_dir(&format!("{root}/names")), "make a directory that exists")?;
    let at = |dir: &str| format!("{root}/{dir}");
    whole_file_reads_as_zero(&*disk, &at("whole"), &at("staging")).await?;
    whole_file_never_replaces(&*disk, &at("taken"), &at("staging")).await?;
    names_come_and_go(&*disk, &at("names")).await?;
    small_file_is_replaced(&*disk, &at("small")).await?;
    lock_has_one_owner(&*disk, &at("lock"))?;
    bytes_are_positional(&*disk, &at("bytes")).await?;
    handle_outlives_its_name(&*disk, &at("handle")).await?;
    views_show_what_was_written(&*disk, &at("views")).await?;
    let (free, all) = did(disk.free_space(root), "ask for free space")?;
    holds(free <= all && all > 0, "free space is at most all space")
}

async fn whole_file_reads_as_zero(disk: &dyn Disk, dir: &str, staging: &str) -> Outcome {
    for (n, fill) in [Fill::Sparse, Fill::Allocated, Fill::Zeroed].into_iter().enumerate() {
        let path = format!("{dir}/{n}");
        let file = did(disk.create_whole(&path, staging, 10_000, fill).await, "create_whole")?;
        same(did(file.size(), "size")?, 10_000, "the size of a new whole file")?;
        let all = did(file.read_at(0, 10_000), "read a new whole file")?;
        holds(all.iter().all(|b| *b == 0), "a new whole file reads as zero")?;
        did(file.write_at(9_990, b"0123456789"), "write the last bytes")?;
        did(file.sync_data().await, "sync_data")?;
        let again = did(disk.open(&path), "open a whole file")?;
        let tail = did(again.read(9_990, 10).await, "read the last bytes")?;
        same(&tail[..], b"0123456789", "bytes through a second handle")?;
        same(did(again.size(), "size")?, 10_000, "the size after a write inside")?;
    }
    same(did(disk.list(staging), "list staging")?.len(), 0, "files left in staging")
}

async fn whole_file_never_replaces(disk: &dyn Disk, dir: &str, staging: &str) -> Outcome {
    let path = format!("{dir}/a");
    let first = did(disk.create_whole(&path, staging, 16, Fill::Sparse).await, "create_whole")?;
    did(first.write_at(0, b"mine"), "write")?;
    let second = disk.create_whole(&path, staging, 16, Fill::Allocated).await;
    fails(second.map(|_| ()), ErrorKind::AlreadyExists, "create_whole over a file")?;
    let kept = did(did(disk.open(&path), "open")?.read_at(0, 4), "read")?;
    same(&kept[..], b"mine", "the file that was there first")?;
    same(did(disk.list(staging), "list staging")?.len(), 0, "files left in staging")
}

async fn names_come_and_go(disk: &dyn Disk, dir: &str) -> Outcome {
    fails(disk.open(&format!("{dir}/none")).map(|_| ()), ErrorKind::NotFound, "open no file")?;
    fails(disk.list(&format!("{dir}/none")).map(|_| ()), ErrorKind::NotFound, "list no dir")?;
    fails(disk.remove(&format!("{dir}/none")), ErrorKind::NotFound, "remove no file")?;
    let missing = format!("{dir}/none/file");
    fails(disk.open_or_create(&missing).map(|_| ()), ErrorKind::NotFound, "make without dir")?;
    for name in ["b", "a", "c"] {
        let file = did(disk.open_or_create(&format!("{dir}/{name}")), "make a file")?;
        did(file.write_at(0, name.as_bytes()), "write")?;
    }
    did(disk.make_dir(&format!("{dir}/d/e")), "make a directory and its parent")?;
    let names = |entries: Vec<super::Entry>| {
        entries.into_iter().map(|e| (e.name, e.is_dir, e.size)).collect::<Vec<_>>()
    };
    let seen = names(did(disk.list(dir), "list")?);
    let file = |n: &str| (n.to_owned(), false, 1);
    let want = vec![file("a"), file("b"), file("c"), ("d".to_owned(), true, 0)];
    same(seen, want, "a sorted listing")?;
    did(disk.rename(&format!("{dir}/a"), &format!("{dir}/b")), "rename over a file")?;
    let bytes = did(read_small(disk, &format!("{dir}/b"), 10), "read")?;
    same(&bytes[..], b"a", "the file that took the name")?;
    did(disk.rename(&format!("{dir}/b"), &format!("{dir}/d/e/b")), "rename across dirs")?;
    did(disk.remove(&format!("{dir}/c")), "remove")?;
    let seen = names(did(disk.list(dir), "list")?);
    same(seen, vec![("d".to_owned(), true, 0)], "the listing after all that")?;
    holds(disk.remove_dir(&format!("{dir}/d/e")).is_err(), "a full directory stays")?;
    did(disk.remove(&format!("{dir}/d/e/b")), "remove")?;
    did(disk.remove_dir(&format!("{dir}/d/e")), "remove an empty directory")?;
    did(disk.sync_dir(dir).await, "sync_dir")
}

async fn small_file_is_replaced(disk: &dyn Disk, dir: &str) -> Outcome {
    let path = format!("{dir}/state.json");
    did(replace_small(disk, &path, b"a long first version").await, "replace_small")?;
    did(replace_small(disk, &path, b"second").await, "replace_small again")?;
    same(&did(read_small(disk, &path, 100), "read_small")?[..], b"second", "the new content")?;
    same(did(disk.list(dir), "list")?.len(), 1, "names after replacing")?;
    fails(read_small(disk, &path, 5).map(|_| ()), ErrorKind::InvalidData, "a file too large")
}

fn lock_has_one_owner(disk: &dyn Disk, dir: &str) -> Outcome {
    let path = format!("{dir}/lock");
    let held = did(disk.lock(&path), "take a lock")?;
    fails(disk.lock(&path).map(|_| ()), ErrorKind::WouldBlock, "take it twice")?;
    // Closing another handle of the file must not give the lock back.
    drop(did(disk.open(&path), "open the lock file")?);
    fails(disk.lock(&path).map(|_| ()), ErrorKind::WouldBlock, "take it after a close")?;
    drop(held);
    did(disk.lock(&path), "take it after its owner let go").map(drop)
}

async fn bytes_are_positional(disk: &dyn Disk, dir: &str) -> Outcome {
    let file = did(disk.open_or_create(&format!("{dir}/a")), "make a file")?;
    same(did(file.size(), "size")?, 0, "the size of a new file")?;
    did(file.write_at(5_000, b"far"), "write past the end")?;
    same(did(file.size(), "size")?, 5_003, "the size after growing")?;
    let hole = did(file.read_at(0, 5_000), "read the hole")?;
    holds(hole.iter().all(|b| *b == 0), "a hole reads as zero")?;
    fails(file.read_at(5_000, 4).map(|_| ()), ErrorKind::UnexpectedEof, "read past the end")?;
    let late = file.read(6_000, 1).await;
    fails(late.map(|_| ()), ErrorKind::UnexpectedEof, "read after the end")?;
    same(did(file.read_at(5_003, 0), "read nothing at the end")?.len(), 0, "an empty read")?;
    did(file.write_at(5_001, b"AR!"), "write over and on")?;
    same(&did(file.read_at(5_000, 4), "read")?[..], b"fAR!", "bytes after two writes")?;
    did(file.set_size(5_001), "shorten")?;
    did(file.set_size(5_010), "lengthen")?;
    let tail = did(file.read_at(5_000, 10), "read what was cut")?;
    same(&tail[..], b"f\0\0\0\0\0\0\0\0\0", "cut bytes read as zero")?;
    holds(did(file.modified_ms(), "modified_ms")? > 0, "a file has a change time")?;
    did(file.set_modified_ms(1_700_000_000_123), "set_modified_ms")?;
    same(did(file.modified_ms(), "modified_ms")?, 1_700_000_000_123, "the time that was set")?;
    file.start_writeback(0, 5_010);
    did(file.sync_data().await, "sync_data")
}

async fn handle_outlives_its_name(disk: &dyn Disk, dir: &str) -> Outcome {
    let path = format!("{dir}/a");
    let file = did(disk.open_or_create(&path), "make a file")?;
    did(file.write_at(0, b"old"), "write")?;
    did(disk.remove(&path), "remove an open file")?;
    same(&did(file.read_at(0, 3), "read without a name")?[..], b"old", "bytes without a name")?;
    did(file.write_at(3, b"er"), "write without a name")?;
    did(file.sync_data().await, "sync without a name")?;
    let other = did(disk.open_or_create(&path), "make the name anew")?;
    same(did(other.size(), "size")?, 0, "the new file of that name")?;
    same(&did(file.read(0, 5).await, "read")?[..], b"older", "the old handle's bytes")
}

async fn views_show_what_was_written(disk: &dyn Disk, dir: &str) -> Outcome {
    let path = format!("{dir}/a");
    let file = did(disk.open_or_create(&path), "make a file")?;
    did(file.write_at(0, b"0123456789"), "write")?;
    let view = did(file.view(2, 3).await, "view")?;
    same(&view[..], b"234", "a view")?;
    same(did(file.view(4, 0).await, "an empty view")?.len(), 0, "the size of an empty view")?;
    fails(file.view(8, 4).await.map(|_| ()), ErrorKind::UnexpectedEof, "a view past the end")?;
    holds(file.view_now(8, 4).is_none(), "nothing is seen past the end")?;
    holds(file.read_now(8, 4).is_none(), "nothing is read past the end")?;
    // Growing a file moves no view, and new bytes are seen.
    did(file.write_at(9_000, b"far"), "write past the end")?;
    same(&did(file.view(9_000, 3).await, "view")?[..], b"far", "a view of new bytes")?;
    for now in [file.view_now(9_000, 3), file.read_now(9_000, 3)].into_iter().flatten() {
        same(&now[..], b"far", "what is in the page cache")?;
    }
    did(disk.remove(&path), "remove a viewed file")?;
    drop(file);
    same(&view[..], b"234", "a view of a file that is gone")
}

fn did<T>(result: io::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|e| format!("{what} failed: {e}"))
}

fn holds(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(format!("this does not hold: {what}")) }
}

fn same<A: PartialEq<B> + Debug, B: Debug>(found: A, expected: B, what: &str) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}"))
}

fn fails(result: io::Result<()>, kind: ErrorKind, what: &str) -> Outcome {
    match result {
        Ok(()) => Err(format!("{what} went through, {kind:?} was expected")),
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(format!("{what} failed with {:?} ({e}), expected {kind:?}", e.kind())),
    }
}
