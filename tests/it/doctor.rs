//! An examination of store directories of every kind, and that it leaves no trace in any.

use super::scrub::{fill, flip, open, options, segment, until};
use hotfire::disk::Disk;
use hotfire::disk::real::RealDisk;
use hotfire::doctor::{Level, Options, Progress, Report, examine};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

struct Silent;
impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64) {}
}

/// Every name with its time of change and its bytes; of a directory the time alone.
fn picture(dir: &Path, into: &mut BTreeMap<String, (SystemTime, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let modified = path.metadata().unwrap().modified().unwrap();
        let bytes = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
        into.insert(path.to_string_lossy().into_owned(), (modified, bytes));
        if path.is_dir() {
            picture(&path, into);
        }
    }
}

/// Examines, and checks that nothing changed.
async fn look(root: &str, deep: bool) -> Report {
    let mut before = BTreeMap::new();
    picture(Path::new(root), &mut before);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::read_only());
    let options = Options { deep, ..Options::new(root) };
    let report = examine(&disk, &Clock::new(), &options, &Silent).await.unwrap();
    let mut after = BTreeMap::new();
    picture(Path::new(root), &mut after);
    assert!(before == after, "the directory changed");
    report
}

fn whats(report: &Report, level: Level) -> Vec<String> {
    let of = report.findings.iter().filter(|finding| finding.level == level);
    of.map(|finding| format!("{}: {}", finding.place, finding.what)).collect()
}

/// A stopped store of four segments with checksums.
async fn stopped(dir: &Path) -> store::Options {
    let (options, group) = (options(dir), TaskGroup::new());
    let store = open(&group, &options).await;
    fill(&store, 600).await;
    let made = || (0..3).all(|n| checksums(&options, n).exists());
    until(made).await;
    store.shutdown().await.unwrap();
    store::Options { scrub_rate_bytes: 0, ..options }
}

fn checksums(options: &store::Options, n: u64) -> std::path::PathBuf {
    let name = format!("{:020}", n * super::scrub::SEGMENT);
    Path::new(&options.root).join("hotfire/checksum").join(name)
}

#[tokio::test]
async fn a_healthy_directory_is_said_to_be_so_in_figures() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    for deep in [false, true] {
        let report = look(&options.root, deep).await;
        assert!(report.is_healthy(), "{:?}", report.findings);
        assert_eq!((report.queues.count, report.queues.entries), (3, 600));
        assert_eq!(report.log.segments, 4);
        assert_eq!(report.start.end, report.log.end);
        assert_eq!((report.start.unclean, report.start.queue_entries_repaired), (false, 0));
        if deep {
            assert_eq!((report.log.records_checked, report.log.segments_compared), (600, 3));
            assert_eq!(report.queues.entries_checked, 600);
        }
    }
}

#[tokio::test]
async fn a_torn_tail_is_told_with_what_a_start_would_cut() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    std::fs::write(Path::new(&options.root).join("abort"), "").unwrap();
    std::fs::remove_file(Path::new(&options.root).join("hotfire/floor")).unwrap();
    std::fs::remove_file(Path::new(&options.root).join("hotfire/queues")).unwrap();
    let end = look(&options.root, false).await.log.end;
    let file = std::fs::File::options().write(true).open(segment(&options, 3)).unwrap();
    file.write_all_at(&[9; 50], end - 3 * super::scrub::SEGMENT - 200).unwrap();
    let report = look(&options.root, false).await;
    let warnings = whats(&report, Level::Warning);
    assert!(warnings.iter().any(|what| what.contains("torn tail")), "{warnings:?}");
    assert_eq!(report.start.end, end - 1109);
    assert!(report.start.zeroed > 1000, "{:?}", report.start);
    let real = open(&TaskGroup::new(), &options).await;
    assert_eq!(real.stats().end.0, report.start.end, "a start does what was said");
}

#[tokio::test]
async fn rot_is_found_by_checksum_and_by_record() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    flip(&segment(&options, 1), 1109 * 60 + 60); // a store time: only the checksum sees it
    flip(&segment(&options, 0), 1109 * 100 + 500); // a body
    let shallow = look(&options.root, false).await;
    assert!(shallow.is_healthy(), "{:?}", shallow.findings);
    let report = look(&options.root, true).await;
    let errors = whats(&report, Level::Error).join("\n");
    let first = segment(&options, 0).to_string_lossy().into_owned();
    let second = segment(&options, 1).to_string_lossy().into_owned();
    assert!(errors.contains(&format!("{second}: bytes 65536 to 131072")), "{errors}");
    assert!(errors.contains(&format!("{first}: no good record from offset 110900")), "{errors}");
    assert_eq!(report.log.records_checked, 599);
}

#[tokio::test]
async fn queue_entries_that_do_not_fit_their_records_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    let queue = Path::new(&options.root).join("consumequeue/TopicTest/1/00000000000000000000");
    let file = std::fs::File::options().read(true).write(true).open(queue).unwrap();
    let mut entry = [0; 20];
    file.read_exact_at(&mut entry, 20 * 7).unwrap();
    file.write_all_at(&entry, 20 * 9).unwrap();
    file.write_all_at(&[0; 20], 20 * 11).unwrap();
    let report = look(&options.root, true).await;
    let warnings = whats(&report, Level::Warning).join("\n");
    assert!(
        warnings.contains("TopicTest/1: entry 9 leads to the record of offset 7"),
        "{warnings}"
    );
    assert!(warnings.contains("TopicTest/1: entry 11 is empty"), "{warnings}");
    assert_eq!(report.queues.mismatches, 2);
}

#[tokio::test]
async fn broken_state_files_foreign_files_and_holes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    let root = Path::new(&options.root);
    std::fs::create_dir(root.join("config")).unwrap();
    std::fs::write(root.join("config/topics.json"), "{\"a\":").unwrap();
    std::fs::write(root.join("config/topics.json.bak"), "{}").unwrap();
    std::fs::write(root.join("config/consumerOffset.json"), "").unwrap();
    let odd = root.join("consumequeue/TopicTest/0/lost");
    std::fs::write(&odd, "x").unwrap();
    let index = root.join("index");
    std::fs::create_dir_all(&index).unwrap();
    std::fs::write(index.join("20260101000000000"), [0xff; 4000]).unwrap();
    let report = look(&options.root, false).await;
    let (errors, warnings) = (whats(&report, Level::Error), whats(&report, Level::Warning));
    let has = |what: &str| warnings.iter().any(|warning| warning.contains(what));
    assert!(has("topics.json: it does not parse"), "{warnings:?}");
    assert!(has("20260101000000000: its header holds numbers"), "{warnings:?}");
    assert!(errors.iter().any(|what| what.contains("consumerOffset.json: it is empty")));
    assert!(errors.iter().any(|what| what.contains("lost: a name that no store file has")));
    assert!(report.start.error.unwrap().contains("lost"));
    std::fs::remove_file(odd).unwrap();
    std::fs::remove_file(segment(&options, 1)).unwrap();
    let errors = whats(&look(&options.root, false).await, Level::Error).join("\n");
    assert!(
        errors.contains(&format!(
            "no file holds {0} to {1}",
            super::scrub::SEGMENT,
            2 * super::scrub::SEGMENT
        )),
        "{errors}"
    );
}

#[tokio::test]
async fn a_directory_as_java_leaves_it_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = stopped(dir.path()).await;
    std::fs::remove_dir_all(Path::new(&options.root).join("hotfire")).unwrap();
    let report = look(&options.root, true).await;
    assert!(report.is_healthy(), "{:?}", report.findings);
    assert_eq!(report.written_by, "RocketMQ 4.x");
    assert_eq!(report.start.scanned_records, 600);
}

#[tokio::test]
async fn a_live_store_is_looked_at_without_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (mut options, group) = (options(dir.path()), TaskGroup::new());
    options.scrub_rate_bytes = 0;
    options.floor_interval = Duration::from_secs(3600);
    options.checkpoint_interval = Duration::from_secs(3600);
    let store = open(&group, &options).await;
    fill(&store, 600).await;
    until(|| store.stats().entries_unwritten == 0).await;
    let report = look(&options.root, true).await;
    assert!(report.is_healthy(), "{:?}", report.findings);
    assert_eq!(report.log.end, store.stats().end.0);
    fill(&store, 30).await;
    store.shutdown().await.unwrap();
}
