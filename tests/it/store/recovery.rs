//! What a start does with a directory that the last process left in any state.

use super::*;

const FIRST_FILE: &str = "store/commitlog/00000000000000000000";

/// Ten messages in one queue, then the process is killed and record 6 gets a wrong body.
async fn torn_at_record_6(dir: &tempfile::TempDir, options: &Options) -> u64 {
    let mut house = open(options).await;
    let mut places = Vec::new();
    for n in 0..10 {
        places.push(house.sent("T", 0, format!("message {n}").as_bytes()).await.0);
    }
    house.kill().await;
    let torn = places[6].physical.0;
    let file = dir.path().join(FIRST_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[torn as usize + 90] ^= 0x40;
    std::fs::write(&file, &bytes).unwrap();
    torn
}

#[test]
fn zeros_behind_the_end_are_written_again_until_they_are_known_durable() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        let torn = torn_at_record_6(&dir, &options).await;
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        // The first sync is that of the records above the floor, the second that of the zeros.
        disk.fail_nth(Call::Sync, "commitlog", 2, Fault::Broken);
        let refused = try_open(Arc::new(disk.clone()), &options).await.err().unwrap();
        assert!(refused.to_string().contains("sync"), "{refused}");
        let bytes = std::fs::read(dir.path().join(FIRST_FILE)).unwrap();
        assert!(bytes[torn as usize..].iter().all(|byte| *byte == 0), "memory has zeros");
        let marker = dir.path().join("store/hotfire/zeroing");
        assert!(marker.exists());
        // Whether the device has them is not known: they are written and synced again.
        let before = (disk.count(Call::Write, "commitlog"), disk.count(Call::Sync, "commitlog"));
        let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        let after = (disk.count(Call::Write, "commitlog"), disk.count(Call::Sync, "commitlog"));
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2), "records, then zeros");
        assert!(!marker.exists());
        assert_eq!(house.bodies("T", 0).await.len(), 6);
    });
}
