//! What a slave does with a stream that no good master sends.

use super::super::scrub::Deaf;
use super::*;
use bytes::BytesMut;
use hotfire::format::message_unit::Record;
use hotfire::ha::transfer_frame::{Header, REPORT_SIZE};
use hotfire::ha::{self, Greeted, Greeter, Ha, HaDeps, Position};
use hotfire::model::{PhysicalOffset, QueueId, QueueOffset, WallMillis};
use hotfire::rt::task::TaskGroup;
use hotfire::store::{Options, Store};
use std::pin::Pin;
use std::sync::Arc;

/// The master is a broker of 4.9.
struct OfJava;

impl Greeter for OfJava {
    fn greet(
        &self,
        _: &str,
        _: Position,
    ) -> Pin<Box<dyn Future<Output = Result<Greeted, String>> + Send>> {
        Box::pin(async { Ok(Greeted::Unknown) })
    }
}

fn record(at: usize, offset: u64, body: &[u8]) -> Vec<u8> {
    let host = ([127, 0, 0, 1], 10911).into();
    let record = Record {
        queue_id: QueueId(0),
        flag: 0,
        queue_offset: QueueOffset(offset),
        physical_offset: PhysicalOffset(at as u64),
        sys_flag: 0,
        born_timestamp: WallMillis(1),
        born_host: host,
        store_timestamp: WallMillis(2),
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic: "T",
        properties: b"",
    };
    let mut out = BytesMut::new();
    message_unit::encode(&record, &mut out);
    out.to_vec()
}

fn frame(at: usize, bytes: &[u8]) -> Vec<u8> {
    let header = Header { at: at as u64, size: bytes.len() as u32 };
    [&header.encode()[..], bytes].concat()
}

#[test]
fn records_before_a_bad_frame_are_taken_and_the_connection_ends() {
    block_on(async {
        let world = World::new();
        let options = Options::new(world.dir.path().join("slave").to_str().unwrap());
        let (disk, clock) = (world.disk.clone(), world.clock.clone());
        let group = TaskGroup::new();
        let opened = Store::open(disk, clock.clone(), &group, options, Arc::new(Deaf)).await;
        let (store, _) = opened.unwrap();
        let mut master = world.net.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let deps = HaDeps { net: world.net.clone(), clock: clock.clone(), store: store.clone() };
        let slave = Ha::follow(deps, ha::Options::default(), false, Arc::new(OfJava), &group);
        slave.set_master(Some(master.local_addr().to_string()));

        let mut stream = net::accept(&mut *master).await.unwrap();
        let mut report = BytesMut::new();
        while report.len() < REPORT_SIZE {
            net::read(&mut *stream, &mut report, REPORT_SIZE).await.unwrap();
        }
        let first = record(0, 0, b"one");
        let second = record(first.len(), 1, b"two");
        let (end, half) = (first.len() + second.len(), first.len() + 20);
        let both = [&first[..], &second[..]].concat();
        // The frames do not end where records do, and the third goes on elsewhere.
        let frames =
            [frame(0, &both[..half]), frame(half, &both[half..]), frame(end + 7, b"garbage")];
        net::write_all(&mut *stream, &frames.concat()).await.unwrap();

        let closed = async {
            while net::read(&mut *stream, &mut report, REPORT_SIZE).await.is_ok_and(|n| n > 0) {}
        };
        tokio::time::timeout(TIMEOUT, closed).await.expect("the connection ends");
        let taken = store.until(|stats| stats.written.0 == end as u64);
        tokio::time::timeout(TIMEOUT, taken).await.expect("both records are taken").unwrap();
        assert_eq!(store.stats().end.0, end as u64);
        group.shutdown(&clock, clock.mono() + TIMEOUT).await;
    });
}
