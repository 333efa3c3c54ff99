//! What a simulated power loss must and must not do: the half of the disk's contract that no
//! test on a real machine can see.

use super::{Habits, Rates, SECTOR, SimDisk};
use hotfire::disk::conformance::Outcome;
use hotfire::disk::{File, Fill};
use hotfire::rt::rng::Rng;
use hotfire::rt::time::Clock;
use std::io;
use std::sync::Arc;

pub async fn run(seed: u64) -> Outcome {
    synced_bytes_survive(seed).await?;
    a_sync_covers_only_what_was_written_before_it(seed).await?;
    names_need_their_own_directory(seed).await?;
    an_old_removal_does_not_undo_a_newer_name(seed).await?;
    a_failed_sync_leaves_cache_and_platter_apart(seed).await?;
    a_crash_kills_handles_and_frees_locks(seed).await?;
    allocated_files_find_space(seed).await?;
    an_erased_file_stays_away(seed).await?;
    a_flipped_bit_stays(seed)
}

fn disk(seed: u64, habits: Habits) -> SimDisk {
    let disk = SimDisk::new("m", Clock::new(), Rng::from_seed(seed), habits);
    disk.furnish("/d");
    disk
}

fn lazy() -> Habits {
    Habits { writeback: 0.0, ..Habits::default() }
}

fn ok<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|e| format!("unexpected error: {e}"))
}

fn holds(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}

async fn durable_file(disk: &SimDisk, path: &str) -> Result<Arc<dyn File>, String> {
    let process = disk.process();
    let file = ok(process.open_or_create(path))?;
    ok(file.set_size(4 * SECTOR as u64))?;
    ok(file.sync_data().await)?;
    ok(process.sync_dir("/d").await)?;
    Ok(file)
}

async fn synced_bytes_survive(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let file = durable_file(&disk, "/d/a").await?;
    ok(file.write_at(100, &[7; 1_000]))?;
    ok(file.sync_data().await)?;
    disk.power_loss();
    let bytes = disk.peek("/d/a").ok_or("a synced name is gone")?;
    holds(bytes[100..1_100].iter().all(|b| *b == 7), "synced bytes are gone")
}

async fn a_sync_covers_only_what_was_written_before_it(seed: u64) -> Outcome {
    // Over some seeds a late write must be lost at least once, an early one never.
    let mut lost = false;
    for n in 0..20 {
        let disk = disk(seed * 100 + n, lazy());
        let file = durable_file(&disk, "/d/a").await?;
        ok(file.write_at(0, &[1; SECTOR]))?;
        let sync = file.sync_data();
        ok(file.write_at(SECTOR as u64, &[2; SECTOR]))?;
        ok(sync.await)?;
        disk.power_loss();
        let bytes = disk.peek("/d/a").ok_or("a synced name is gone")?;
        holds(bytes[0] == 1, "a write before the sync is gone")?;
        lost |= bytes[SECTOR] != 2;
    }
    holds(lost, "a sync covered every write made while it ran: too kind")
}

async fn names_need_their_own_directory(seed: u64) -> Outcome {
    let (mut lost_file, mut lost_dir) = (false, false);
    for n in 0..20 {
        let disk = disk(seed * 100 + n, lazy());
        let process = disk.process();
        ok(process.make_dir("/d/x"))?;
        let file = ok(process.open_or_create("/d/x/a"))?;
        ok(file.sync_data().await)?;
        // The directory's own name is not covered by its sync.
        ok(process.sync_dir("/d/x").await)?;
        ok(process.open_or_create("/d/b").map(drop))?;
        disk.power_loss();
        lost_dir |= disk.peek("/d/x/a").is_none();
        lost_file |= disk.peek("/d/b").is_none();
    }
    holds(lost_file, "a name survived without a directory sync: too kind")?;
    holds(lost_dir, "a new directory survived without its parent's sync: too kind")?;
    let disk = disk(seed, lazy());
    let process = disk.process();
    let staged = process.create_whole("/d/whole", "/d", 5_000, Fill::Zeroed).await;
    ok(staged.map(drop))?;
    disk.power_loss();
    let whole = disk.peek("/d/whole").ok_or("a whole file's name is gone")?;
    holds(whole.len() == 5_000, "a whole file has another length after power loss")
}

/// The staging directory is synced first: that makes the rename durable before the removal.
async fn an_old_removal_does_not_undo_a_newer_name(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    disk.furnish("/s");
    let process = disk.process();
    durable_file(&disk, "/d/a").await?;
    ok(process.remove("/d/a"))?;
    let file = ok(process.open_or_create("/s/new"))?;
    ok(file.set_size(SECTOR as u64))?;
    ok(file.sync_data().await)?;
    ok(process.rename("/s/new", "/d/a"))?;
    ok(process.sync_dir("/s").await)?;
    ok(process.sync_dir("/d").await)?;
    disk.power_loss();
    let size = disk.peek("/d/a").map(|bytes| bytes.len());
    holds(size == Some(SECTOR), "a name that was given again and synced is gone")
}

async fn a_failed_sync_leaves_cache_and_platter_apart(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let file = durable_file(&disk, "/d/a").await?;
    ok(file.write_at(0, &[9; SECTOR]))?;
    disk.set_rates(Rates { sync: 1.0, ..Rates::default() });
    holds(file.sync_data().await.is_err(), "a sync did not fail")?;
    disk.set_rates(Rates::default());
    ok(file.sync_data().await)?;
    holds(ok(file.read_at(0, 1))?[0] == 9, "reads after a failed sync return the cache")?;
    disk.power_loss();
    let bytes = disk.peek("/d/a").ok_or("a synced name is gone")?;
    holds(bytes[0] == 0, "a page of a failed sync reached the platter by the next sync")
}

async fn a_crash_kills_handles_and_frees_locks(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let process = disk.process();
    let file = ok(process.open_or_create("/d/a"))?;
    ok(file.write_at(0, b"kept"))?;
    let lock = ok(process.lock("/d/lock"))?;
    disk.process_crash();
    holds(file.write_at(0, b"late").is_err(), "a dead process wrote")?;
    holds(process.open("/d/a").is_err(), "a dead process opened a file")?;
    let next = disk.process();
    ok(next.lock("/d/lock").map(drop))?;
    drop(lock);
    let bytes = ok(next.open("/d/a"))?;
    holds(&ok(bytes.read_at(0, 4))?[..] == b"kept", "the cache did not survive the process")
}

async fn allocated_files_find_space(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let process = disk.process();
    let made = process.create_whole("/d/a", "/d", 40_000, Fill::Allocated).await;
    let allocated = ok(made)?;
    let sparse = ok(process.create_whole("/d/b", "/d", 40_000, Fill::Sparse).await)?;
    disk.leave_space(4_096);
    ok(allocated.write_at(0, &[1; 40_000]))?;
    ok(sparse.write_at(0, &[1; 100]))?;
    holds(sparse.write_at(8_192, &[1]).is_err(), "a sparse write found space on a full disk")?;
    let late = process.create_whole("/d/c", "/d", 40_000, Fill::Allocated).await;
    holds(late.is_err(), "an allocation found space on a full disk")?;
    holds(ok(process.list("/d"))?.len() == 2, "a failed allocation left a file behind")
}

/// Whatever changes of its names a power loss would have undone.
async fn an_erased_file_stays_away(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let process = disk.process();
    for path in ["/d/removed", "/d/renamed", "/d/synced"] {
        durable_file(&disk, path).await?;
    }
    ok(process.open_or_create("/d/new").map(drop))?;
    ok(process.remove("/d/removed"))?;
    ok(process.rename("/d/renamed", "/d/again"))?;
    disk.erase_tree("/d");
    holds(disk.files().is_empty(), "an erased file is there")?;
    disk.power_loss();
    holds(disk.files().is_empty(), "an erased file came back with a power loss")
}

fn a_flipped_bit_stays(seed: u64) -> Outcome {
    let disk = disk(seed, lazy());
    let file = ok(disk.process().open_or_create("/d/a"))?;
    ok(file.write_at(0, &[0; 10]))?;
    holds(disk.rot("/d/a", 3, 1), "no bit to flip")?;
    holds(ok(file.read_at(3, 1))?[0] == 2, "a flipped bit is not read")
}
