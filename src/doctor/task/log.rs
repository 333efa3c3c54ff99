//! The records of the log, and the checksums of its sealed segments.

use super::layout::Shape;
use crate::disk::{Disk, File, read_small};
use crate::doctor::driver::Progress;
use crate::doctor::options::Options;
use crate::doctor::report::Report;
use crate::format::checksum::{self, BLOCK_SIZE, Checksums};
use crate::model::WallMillis;
use crate::rt::task::yield_now;
use crate::store::segment_name;
use crate::store::walk::{BadPlace, Walk};
use std::io;
use std::sync::Arc;

const ADVICE: &str = "bring the file back from a slave or a backup while the broker is stopped; \
                      until then consumers pass over what cannot be read";

/// With `deep` every segment, otherwise the newest: the one that a start did not scan in full.
pub async fn look(
    disk: &dyn Disk,
    options: &Options,
    shape: &Shape,
    report: &mut Report,
    progress: &dyn Progress,
) {
    let (size, end) = (shape.segment_size, report.log.end);
    for base in shape.segments.keys() {
        let path = format!("{}/hotfire/checksum/{}", options.root, segment_name(*base));
        report.log.segments_with_checksums += u64::from(disk.open(&path).is_ok());
    }
    let used: Vec<(&u64, &String)> = shape.segments.range(..end).collect();
    let skip = if options.deep { 0 } else { used.len().saturating_sub(1) };
    let used = &used[skip..];
    progress.begin("checking records", used.len() as u64 * size);
    for (n, (base, path)) in used.iter().copied().enumerate() {
        let began = n as u64 * size;
        let looked = match disk.open(path) {
            Ok(file) => {
                segment(disk, options, (*base, size, end), (path, &file), report, &|at| {
                    progress.at(began + at);
                })
                .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            report.error("unreadable", path, error.to_string(), ADVICE);
        }
    }
}

async fn segment(
    disk: &dyn Disk,
    options: &Options,
    (base, size, end): (u64, u64, u64),
    (path, file): (&str, &Arc<dyn File>),
    report: &mut Report,
    did: &dyn Fn(u64),
) -> io::Result<()> {
    let known = known(disk, options, base, size, file)?;
    report.log.segments_compared += u64::from(known.is_some());
    let mut walk = Walk::new(base, size);
    let (mut at, mut bad, mut records) = (0, Vec::<BadPlace>::new(), 0);
    let mut differ: Option<(u64, u64)> = None;
    while at < size && base + at < end {
        let len = (size - at).min(BLOCK_SIZE as u64) as usize;
        let bytes = file.read_at(at, len)?;
        let block = (at / BLOCK_SIZE as u64) as usize;
        let good = known.as_ref().and_then(|known| known.blocks[block]);
        if good.is_some_and(|good| good != checksum::crc(&bytes)) {
            differ =
                Some(differ.map_or((at, at + len as u64), |(from, _)| (from, at + len as u64)));
        } else if let Some(run) = differ.take() {
            differs(path, run, report);
        }
        walk.feed(&bytes, &mut bad, &mut |_, is_good| records += u64::from(is_good));
        at += len as u64;
        did(at);
        yield_now().await;
    }
    if let Some(run) = differ {
        differs(path, run, report);
    }
    walk.finish(&mut bad);
    report.log.records_checked += records;
    for place in bad.into_iter().filter(|place| place.range.start < end) {
        let (from, to) = (place.range.start, place.range.end);
        let what = format!("no good record from offset {from} to {to}: {}", place.what);
        report.error("rot", path, what, ADVICE);
    }
    Ok(())
}

fn differs(path: &str, (from, to): (u64, u64), report: &mut Report) {
    let what = format!("bytes {from} to {to} are not those whose checksum was made");
    report.error("rot", path, what, ADVICE);
}

/// The checksums that speak about the file as it is.
fn known(
    disk: &dyn Disk,
    options: &Options,
    base: u64,
    size: u64,
    file: &Arc<dyn File>,
) -> io::Result<Option<Checksums>> {
    let path = format!("{}/hotfire/checksum/{}", options.root, segment_name(base));
    let modified = WallMillis(file.modified_ms()?);
    let bytes = read_small(disk, &path, checksum::SIZE_MAX).ok();
    let known = bytes.and_then(|bytes| Checksums::decode(&bytes, base, size));
    Ok(known.filter(|known| known.modified == modified))
}
