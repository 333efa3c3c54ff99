//! Bytes of the commit log that cannot be read, under a consumer that comes back for them: only
//! its pulls fail, and the process goes on.

use super::broker::{Caller, World};
use hotfire::broker::Parts;
use hotfire::disk::faulty::FaultyDisk;
use hotfire::disk::real::RealDisk;
use hotfire::protocol::Command;
use hotfire::protocol::code::response_code as code;
use hotfire::rt::block_on;
use std::sync::Arc;

/// Sends and pulls that must succeed meanwhile, of each kind.
const OTHERS: i64 = 500;

/// Nothing is served from memory, and segments are small.
fn cold(world: &World) -> Parts {
    let mut parts = world.parts();
    parts.store.tail_cache_size_bytes = 0;
    parts.store.segment_size_bytes = 256 << 10;
    parts
}

/// Where the record lies in the log, by the offset id of its answer.
fn physical(answer: &Command) -> u64 {
    let id = answer.get("msgId").unwrap();
    u64::from_str_radix(&id[16..], 16).unwrap()
}

/// Sends `count` messages to queues 0 and 1 in turns; where those of queue 0 lie.
async fn fill(caller: &Caller, count: i64) -> Vec<u64> {
    let body = "x".repeat(3000);
    let mut places = Vec::new();
    for _ in 0..count {
        let answer = caller.send("T", 0, "", &body).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        places.push(physical(&answer));
        assert_eq!(caller.send("T", 1, "", &body).await.code, code::SUCCESS);
    }
    places
}

/// Message `bad` of queue 0 cannot be read, those before and after it can.
async fn only_its_pulls_fail(caller: &Caller, bad: i64) {
    let answer = caller.pull("T", 0, 0, 0).await;
    assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
    assert_eq!(answer.get("nextBeginOffset"), Some(bad.to_string().as_str()));
    for number in 0..OTHERS {
        let answer = caller.pull("T", 0, bad, 0).await;
        assert_eq!(answer.code, code::SYSTEM_ERROR, "{answer:?}");
        let remark = answer.remark.unwrap();
        assert!(remark.contains("commitlog/00000000000000000000: "), "{remark}");
        assert!(remark.contains(" bytes at "), "{remark}");
        let answer = caller.send("T", 1, "", "another").await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        let answer = caller.pull("T", 1, number % bad, 0).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
    }
}

#[test]
fn a_bad_sector_fails_the_pulls_of_its_record_and_nothing_else() {
    block_on(async {
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
        let world = World::on(disk.clone());
        let broker = world.start(cold(&world)).await;
        let caller = world.caller(&broker);
        let places = fill(&caller, 30).await;
        disk.set_unreadable("commitlog", places[20] + 512..places[20] + 1024);
        only_its_pulls_fail(&caller, 20).await;
        assert_eq!(caller.pull("T", 0, 21, 0).await.code, code::SUCCESS);
        // One of the other queue, with the bad sector between two of its records.
        let answer = caller.pull("T", 1, 0, 0).await;
        assert_eq!(answer.get("nextBeginOffset"), Some("32"), "{answer:?}");
        disk.heal();
        assert_eq!(caller.pull("T", 0, 20, 0).await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

#[test]
fn a_mapped_file_cut_short_fails_the_pulls_of_what_is_gone_and_nothing_else() {
    block_on(async {
        let world = World::new();
        let broker = world.start(cold(&world)).await;
        let caller = world.caller(&broker);
        // The first file is full, so that nobody writes to it any more.
        let places = fill(&caller, 60).await;
        let answer = caller.pull("T", 0, 30, 0).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        let bad = places.partition_point(|at| *at < 100 << 10);
        let cut = places[bad].next_multiple_of(4096);
        let path = world.dir.path().join("commitlog/00000000000000000000");
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(cut).unwrap();
        only_its_pulls_fail(&caller, bad as i64).await;
        broker.shutdown().await;
    });
}
