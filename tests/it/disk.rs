//! The disk suite on every implementation that touches the machine.

use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::overlay::Overlay;
use hotfire::disk::real::{RealDisk, is_locked};
use hotfire::disk::{Disk, Fill, conformance};
use hotfire::rt::block_on;
use std::io::ErrorKind;
use std::sync::Arc;

fn run_suite(disk: Arc<dyn Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    block_on(conformance::run(disk, root)).unwrap();
}

#[test]
fn real_disk_keeps_the_contract() {
    run_suite(Arc::new(RealDisk::new()));
}

#[test]
fn real_disk_without_mappings_keeps_the_contract() {
    run_suite(Arc::new(RealDisk::without_mappings()));
}

#[test]
fn a_view_of_a_file_cut_short_is_an_error_and_not_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let disk = RealDisk::new();
    let file = disk.open_or_create(path.to_str().unwrap()).unwrap();
    file.write_at(0, &[7; 100_000]).unwrap();
    block_on(async {
        assert_eq!(file.view(50_000, 4).await.unwrap()[..], [7; 4]);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8192).unwrap();
        // The length is looked at, and would be too late if it changed after that.
        assert!(file.view_now(50_000, 4).is_none());
        let e = file.view(50_000, 4).await.unwrap_err();
        assert!(e.to_string().contains("4 bytes at 50000"), "{e}");
        assert_eq!(file.view(8_000, 100).await.unwrap()[..], [7; 100]);
    });
}

#[test]
fn faulty_disk_without_a_script_keeps_the_contract() {
    run_suite(Arc::new(FaultyDisk::new(Arc::new(RealDisk::new()))));
}

#[test]
fn an_overlay_keeps_the_contract_and_leaves_the_disk_below_as_it_is() {
    let overlay = |now| Arc::new(Overlay::new(Arc::new(RealDisk::read_only()), now, 1 << 20));
    run_suite(overlay(1));
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let below = dir.path().join("file");
    std::fs::write(&below, [7; 10_000]).unwrap();
    let disk = overlay(1);
    let file = disk.open(&format!("{root}/file")).unwrap();
    file.write_at(4000, &[8; 200]).unwrap();
    file.write_at(9000, &[7; 100]).unwrap();
    assert_eq!(disk.bytes_used(), 8192, "what is the same takes no memory");
    file.set_size(5000).unwrap();
    file.set_size(10_000).unwrap();
    let read = disk.open(&format!("{root}/file")).unwrap().read_at(0, 10_000).unwrap();
    let expected = [vec![7; 4000], vec![8; 200], vec![7; 800], vec![0; 5000]].concat();
    assert_eq!(read, expected);
    disk.remove(&format!("{root}/file")).unwrap();
    assert!(disk.list(root).unwrap().is_empty());
    assert_eq!(std::fs::read(&below).unwrap(), [7; 10_000]);
    let full = file.write_at(0, &vec![9; 2 << 20]).err().unwrap();
    assert_eq!(full.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn a_lock_is_seen_without_being_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock").to_string_lossy().into_owned();
    assert_eq!(is_locked(&path).err().unwrap().kind(), ErrorKind::NotFound);
    let held = RealDisk::new().lock(&path).unwrap();
    assert!(is_locked(&path).unwrap());
    assert!(is_locked(&path).unwrap());
    drop(held);
    assert!(!is_locked(&path).unwrap());
}

#[test]
fn errors_name_the_path() {
    let e = RealDisk::new().open("/no/such/file").err().unwrap();
    assert!(e.to_string().contains("/no/such/file"), "{e}");
}

#[test]
fn an_allocation_that_cannot_be_met_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let disk = RealDisk::new();
    disk.make_dir(&format!("{root}/tmp")).unwrap();
    let path = format!("{root}/segment");
    let made = disk.create_whole(&path, &format!("{root}/tmp"), 1 << 60, Fill::Allocated);
    let e = block_on(made).err().unwrap();
    assert!(matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{e}");
    assert!(disk.list(&format!("{root}/tmp")).unwrap().is_empty());
    assert_eq!(disk.open(&path).err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn only_the_scripted_sync_of_the_scripted_file_fails() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap().to_owned();
    let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
    disk.fail_nth(Call::Sync, "log", 2, Fault::Broken);
    block_on(async {
        let log = disk.open_or_create(&format!("{root}/log")).unwrap();
        let other = disk.open_or_create(&format!("{root}/state")).unwrap();
        log.sync_data().await.unwrap();
        other.sync_data().await.unwrap();
        log.sync_data().await.unwrap_err();
        log.sync_data().await.unwrap();
    });
    assert_eq!(disk.count(Call::Sync, "log"), 3);
}

#[test]
fn an_unreadable_range_fails_only_reads_that_touch_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{}/a", dir.path().to_str().unwrap());
    let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
    let file = disk.open_or_create(&path).unwrap();
    file.write_at(0, &[7; 100]).unwrap();
    disk.set_unreadable("a", 40..50);
    file.read_at(0, 40).unwrap();
    file.read_at(50, 50).unwrap();
    file.read_at(39, 2).unwrap_err();
    disk.set_no_space(true);
    assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    disk.heal();
    file.read_at(0, 100).unwrap();
}

#[test]
fn a_whole_file_is_made_on_another_file_system_than_its_staging_directory() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let (staging, dir) = (here.path().to_str().unwrap(), there.path().to_str().unwrap());
    let (disk, path) = (RealDisk::new(), format!("{dir}/00000000000000000000"));
    for fill in [Fill::Zeroed, Fill::Sparse] {
        let file = block_on(disk.create_whole(&path, staging, 10_000, fill)).unwrap();
        assert_eq!(file.read_at(0, 10_000).unwrap(), vec![0; 10_000]);
        let again = block_on(disk.create_whole(&path, staging, 10_000, fill)).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.list(dir).unwrap().len(), 1);
        disk.remove(&path).unwrap();
    }
    assert!(disk.list(staging).unwrap().is_empty());
}
