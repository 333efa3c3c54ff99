//! Old files go in order, a full disk is survived.

use super::*;
use hotfire::store::Cut;

const HOUR: Duration = Duration::from_secs(3600);
const SEGMENT: u64 = 16 << 10;

/// Looks all the time, and deletes nothing that is not told otherwise.
fn hurried() -> Rules {
    let ms = Duration::from_millis;
    Rules {
        delete_hours: (0..24).collect(),
        keep_for: HOUR,
        check_interval: ms(10),
        first_check_after: ms(0),
        log_file_pause: ms(1),
        queue_pause: ms(1),
        probe_interval: ms(10),
        retry_interval: ms(30),
        ..Rules::never()
    }
}
fn told(dir: &tempfile::TempDir, retention: Rules) -> Options {
    Options { retention, ..options(dir) }
}

fn names(dir: &str) -> Vec<String> {
    let entries = RealDisk::new().list(dir).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

impl House {
    /// Fills queue 0 of T with so many messages of 3,000 bytes: five fit a segment.
    async fn fill(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.sent("T", 0, &[b'x'; 3000]).await.1, Outcome::Durable);
        }
    }
    async fn until_min(&self, min: u64) {
        let store = self.store.clone();
        self.until(|| store.stats().min.0 >= min, "a deletion").await;
        assert_eq!(self.store.stats().min.0, min);
    }
    /// Gives a deletion that must not come its time.
    async fn wait_ms(&self, ms: u64) {
        self.clock.sleep_until(self.clock.mono() + Duration::from_millis(ms)).await;
    }
}

#[test]
fn what_waits_for_files_that_cannot_be_made_takes_no_file_from_the_disk() {
    run(async {
        let dir = temp();
        let told = told(&dir, Rules { log_bytes_max: 5 * SEGMENT, ..hurried() });
        // Only the log makes files.
        let checkpoint_interval = Duration::from_millis(10);
        let options =
            Options { queue_file_entries: 1000, index_enabled: false, checkpoint_interval, ..told };
        let faulty = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
        house.fill(6).await;
        house.wait_ms(100).await;
        faulty.hold(Call::Create);
        let body = vec![7; SEGMENT as usize / 4];
        let end = |house: &House| house.store.stats().end.0;
        while end(&house) < 9 * SEGMENT {
            house.send("T", 0, &body).unwrap();
        }
        house.wait_ms(600).await;
        assert_eq!(house.store.stats().min.0, 0);
        faulty.release();
        house.stop().await;
    });
}

#[test]
fn the_oldest_files_go_while_the_log_is_too_large_and_queues_begin_where_it_does() {
    run(async {
        let dir = temp();
        let options = told(&dir, Rules { log_bytes_max: 3 * SEGMENT, ..hurried() });
        let mut house = open(&options).await;
        house.sent("Old", 3, b"alone").await;
        house.fill(50).await;
        let files = || names(&options.commit_log.all()[0]).len();
        let min = 7 * SEGMENT;
        house.until_min(min).await;
        let told = || house.heard.0.lock().deleted.iter().map(|d| d.files).sum::<usize>();
        house.until(|| told() == 7, "the end of the rounds").await;
        assert!(files() <= 4);
        let (old, queue) = (key("Old", 3), key("T", 0));
        assert_eq!((house.store.min_offset(&old).0, house.store.max_offset(&old).0), (1, 1));
        let first = house.store.min_offset(&queue).0;
        assert!(first > 20);
        let below = house.read("T", 0, first - 1).await;
        assert_eq!((below.status, below.next.0), (ReadStatus::OffsetTooSmall, first));
        assert_eq!(house.bodies("T", 0).await.len() as u64, 50 - first);
        let cuts: Vec<Cut> =
            house.heard.0.lock().deleted.iter().flat_map(|d| d.queues.clone()).collect();
        assert_eq!(
            cuts.iter().find(|cut| cut.key == old).map(|c| (c.from.0, c.to.0)),
            Some((0, 1))
        );
        let lost = |cut: &&Cut| cut.key == queue;
        assert_eq!(cuts.iter().filter(lost).map(|c| c.to.0 - c.from.0).sum::<u64>(), first);
        // Queue files follow, but for the one that holds the min.
        let queue_dir = format!("{}/consumequeue/T/0", options.root);
        let wanted = format!("{:020}", first / 10 * 200);
        house.until(|| names(&queue_dir)[0] == wanted, "deletion of queue files").await;
        assert_eq!(names(&format!("{}/consumequeue/Old/3", options.root)).len(), 1);
        for killed in [true, false] {
            if killed {
                house.kill().await
            } else {
                house.stop().await
            }
            let calm = Options { retention: Rules::never(), ..options.clone() };
            house = open(&calm).await;
            assert!(house.report.cut_reason.is_none(), "{:?}", house.report);
            assert_eq!((house.report.min.0, house.store.min_offset(&queue).0), (min, first));
            assert_eq!(house.store.min_offset(&old).0, 1);
            assert_eq!(house.bodies("T", 0).await.len() as u64, 50 - first);
        }
        assert_eq!(house.sent("Old", 3, b"again").await.0.queue_offset.0, 1);
        assert_eq!(house.bodies("Old", 3).await, [b"again"]);
    });
}

#[test]
fn files_go_when_they_are_expired_and_not_before_but_for_the_newest() {
    run(async {
        let dir = temp();
        let mut house = open(&told(&dir, hurried())).await;
        house.fill(12).await;
        house.wait_ms(100).await;
        assert_eq!(house.store.stats().min.0, 0);
        house.stop().await;
        let at_once = Rules { keep_for: Duration::ZERO, ..hurried() };
        let hourless = Rules { delete_hours: Vec::new(), ..at_once.clone() };
        let house = open(&told(&dir, hourless)).await;
        house.wait_ms(100).await;
        assert_eq!(house.store.stats().min.0, 0, "it is not the hour");
        house.store.delete_expired();
        house.until_min(2 * SEGMENT).await;
        assert_eq!(house.bodies("T", 0).await.len(), 2);
        house.stop().await;
        let house = open(&told(&dir, at_once)).await;
        house.wait_ms(50).await;
        assert_eq!(house.bodies("T", 0).await.len(), 2, "the newest file stays");
        assert_eq!(house.store.stats().files_deleted, 0);
    });
}

#[test]
fn a_disk_that_is_too_full_refuses_appends_with_its_cause_until_it_has_room() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        disk.set_space(50, 100);
        let rules = Rules { used_percent_full: 90, may_force: false, ..hurried() };
        let mut house = try_open(Arc::new(disk.clone()), &told(&dir, rules)).await.unwrap();
        house.fill(12).await;
        disk.set_space(9, 100);
        let store = house.store.clone();
        house.until(|| store.stats().full.is_some(), "the probe").await;
        let refused = house.send("T", 0, b"more").unwrap_err();
        let AppendError::DiskFull(_) = &refused else { panic!("{refused:?}") };
        let text = refused.to_string();
        assert!(text.starts_with("disk full: 91 % of "), "{text}");
        assert!(text.ends_with("/commitlog used, limit 90 %"), "{text}");
        assert_eq!(house.bodies("T", 0).await.len(), 12, "reading goes on");
        assert_eq!(house.store.stats().min.0, 0, "what is not expired stays");
        disk.set_space(10, 100);
        house.until(|| store.stats().full.is_none(), "room").await;
        house.fill(1).await;
        assert_eq!(house.bodies("T", 0).await.len(), 13);
    });
}

#[test]
fn a_disk_that_is_nearly_full_takes_the_oldest_files_only_where_that_is_allowed() {
    run(async {
        for may_force in [false, true] {
            let dir = temp();
            let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
            disk.set_space(50, 100);
            let rules = Rules { used_percent_force: 85, may_force, ..hurried() };
            let options = told(&dir, rules);
            let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
            house.fill(17).await;
            disk.set_space(14, 100);
            if may_force {
                house.until_min(3 * SEGMENT).await;
            } else {
                house.wait_ms(100).await;
                assert_eq!(house.store.stats().min.0, 0);
            }
        }
    });
}

#[test]
fn a_file_that_cannot_be_deleted_holds_back_those_behind_it_and_is_tried_again() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let rules = Rules { keep_for: Duration::ZERO, ..hurried() };
        let options = told(&dir, rules);
        disk.fail_always(Call::Remove, "commitlog", Fault::NotAllowed);
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        let files = || names(&options.commit_log.all()[0]);
        house.fill(23).await;
        house.until_min(SEGMENT).await;
        house.wait_ms(100).await;
        assert_eq!((house.store.stats().min.0, files()[0].as_str()), (SEGMENT, &*"0".repeat(20)));
        assert_eq!(house.store.min_offset(&key("T", 0)).0, 5);
        assert!(disk.count(Call::Remove, "commitlog") > 1);
        disk.heal();
        house.until_min(4 * SEGMENT).await;
        house.until(|| files()[0] == format!("{:020}", 4 * SEGMENT), "their names go").await;
        assert_eq!(house.bodies("T", 0).await.len(), 3);
    });
}

#[test]
fn a_reader_of_a_deleted_file_goes_on_and_the_checksums_go_with_the_file() {
    run(async {
        let dir = temp();
        let options = told(&dir, Rules { delete_hours: Vec::new(), ..hurried() });
        let options = Options { tail_cache_size_bytes: 0, ..options };
        let options = Options {
            retention: Rules { keep_for: Duration::ZERO, ..options.retention.clone() },
            scrub_rate_bytes: 0,
            flush: FlushMode::Sync,
            ..options
        };
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        house.fill(12).await;
        let sums = format!("{}/hotfire/checksum/{:020}", options.root, 0);
        std::fs::create_dir_all(std::path::Path::new(&sums).parent().unwrap()).unwrap();
        std::fs::write(&sums, b"x").unwrap();
        let limits = ReadLimits { count: 3 };
        disk.hold(Call::Read); // it is not in the page cache
        let planned = house.store.read(&key("T", 0), QueueOffset(1), &limits, &|_| true);
        let Read::Cold(planned) = planned else { panic!("it was in memory") };
        disk.release();
        house.store.delete_expired();
        house.until_min(2 * SEGMENT).await;
        let gone = planned.run(&|_| true).await.unwrap();
        assert_eq!((gone.status, gone.next.0), (ReadStatus::OffsetTooSmall, 10));
        house.until(|| !std::path::Path::new(&sums).exists(), "removal of checksums").await;
        assert_eq!(house.store.stats().derived_errors, 0);
        assert_eq!(house.bodies("T", 0).await.len(), 2);
    });
}

/// The last `close` of a removed file frees its pages and blocks, which takes many milliseconds.
#[test]
fn a_deleted_file_is_never_closed_on_the_broker_thread_not_even_by_the_scrub() {
    run(async {
        let dir = temp();
        let rules = Rules { delete_hours: Vec::new(), keep_for: Duration::ZERO, ..hurried() };
        let options = Options {
            // A pause of half a second behind the only block of a segment, with the file open.
            scrub_rate_bytes: 2 * SEGMENT,
            scrub_look_interval: Duration::from_millis(5),
            flush: FlushMode::Sync,
            ..told(&dir, rules)
        };
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        house.fill(12).await;
        let first = format!("commitlog/{:020}", 0);
        house.until(|| disk.count(Call::Read, &first) > 0, "the scrub").await;
        house.store.delete_expired();
        house.until_min(2 * SEGMENT).await;
        // Those of who appends, who deletes and who scrubs.
        house.until(|| disk.closed_by(&first).len() == 3, "the file is closed").await;
        let here = std::thread::current().id();
        assert!(disk.closed_by(&first).iter().all(|by| *by != here));
    });
}
