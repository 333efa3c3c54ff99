//! The disk suite on every implementation that touches the machine.

use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
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
