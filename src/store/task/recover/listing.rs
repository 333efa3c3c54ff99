//! Which files are there. A file that cannot be ours stops the start: it is named, and left alone.
//!
//! Source: MappedFileQueue#doLoad (4.9.3), which refuses the same files.
//! Differs: a last file without a byte is what Java leaves when it dies between making a file and
//! giving it its length (W-06): it goes away.

use crate::disk::{Disk, Entry, parent};
use crate::store::error::Error;
use crate::store::log_paths::LogPlaces;
use crate::store::options::Options;
use crate::store::segment;

/// What a listing is of, for its errors.
#[derive(Clone, Copy)]
pub enum Of {
    Log,
    Queue,
}

impl Of {
    fn size_key(self) -> &'static str {
        match self {
            Of::Log => "mappedFileSizeCommitLog",
            Of::Queue => "mappedFileSizeConsumeQueue",
        }
    }
}

/// A file that was found, and in which of the directories.
struct Found {
    base: u64,
    dir: usize,
    size: u64,
}

/// Where the files of the log lie, which has no gap. `removed` are files without a byte.
/// Errors: `Foreign`.
pub async fn log(
    disk: &dyn Disk,
    options: &Options,
    removed: &mut Vec<String>,
) -> Result<LogPlaces, Error> {
    let size = options.segment_size_bytes;
    let paths = &options.commit_log;
    let mut places = LogPlaces::new(paths, size);
    let mut found = Vec::new();
    for (dir, path) in paths.all().iter().enumerate() {
        if dir >= paths.writable().len() && is_missing(disk, path) {
            tracing::warn!("{path} of readOnlyCommitLogStorePaths is not there");
            continue;
        }
        found.extend(named(disk, (dir, path), size)?);
    }
    found.sort_by_key(|file| file.base);
    drop_empty(disk, &mut found, paths.all(), removed).await?;
    for file in &found {
        let path = format!("{}/{}", paths.all()[file.dir], segment::name(file.base));
        check_size(file, &path, size, Of::Log)?;
        if !places.insert(file.base, file.dir) {
            let what = "another directory of storePathCommitLog has this file too: move the one \
                that is not of this log away";
            return Err(Error::Foreign { path, what: what.into() });
        }
    }
    if let Some(pair) = found.windows(2).find(|pair| pair[0].base + size != pair[1].base) {
        let missing = places.path(pair[0].base + size);
        let what = format!(
            "the file before it is missing: {missing}. Bring it back; or move this file and all \
             after it away, and the log ends at {}",
            pair[0].base + size
        );
        return Err(Error::Foreign { path: places.path(pair[1].base), what });
    }
    Ok(places)
}

fn is_missing(disk: &dyn Disk, dir: &str) -> bool {
    disk.list(dir).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// The starts of a queue's files, ascending. Errors: `Foreign`.
pub async fn queue(
    disk: &dyn Disk,
    dir: &str,
    size: u64,
    removed: &mut Vec<String>,
) -> Result<Vec<u64>, Error> {
    let mut found = named(disk, (0, dir), size)?;
    drop_empty(disk, &mut found, &[dir.to_owned()], removed).await?;
    for file in &found {
        check_size(file, &format!("{dir}/{}", segment::name(file.base)), size, Of::Queue)?;
    }
    Ok(found.iter().map(|file| file.base).collect())
}

pub fn entries(disk: &dyn Disk, dir: &str) -> Result<Vec<Entry>, Error> {
    disk.list(dir).map_err(Error::io(format!("list {dir}")))
}

/// The files in `dir`, which all have a name that is a multiple of `size`.
fn named(disk: &dyn Disk, (nth, dir): (usize, &str), size: u64) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for entry in entries(disk, dir)? {
        let base = segment::base(&entry.name).filter(|base| base % size == 0);
        let what = match base {
            Some(base) if !entry.is_dir => {
                found.push(Found { base, dir: nth, size: entry.size });
                continue;
            }
            Some(_) => "a directory".to_owned(),
            None => "not a file of RocketMQ".to_owned(),
        };
        let what = format!(
            "{what}: only files named by 20 digits, a multiple of {size}, belong here; move it \
             away (RocketMQ would refuse to start too)"
        );
        return Err(Error::Foreign { path: format!("{dir}/{}", entry.name), what });
    }
    Ok(found)
}

fn check_size(file: &Found, path: &str, size: u64, of: Of) -> Result<(), Error> {
    if file.size == size {
        return Ok(());
    }
    let (has, base, key) = (file.size, file.base, of.size_key());
    let what = format!(
        "the file has {has} bytes at offset {base}, {size} were expected: give {key} the value \
         that the directory was made with, or move the file away"
    );
    Err(Error::Foreign { path: path.to_owned(), what })
}

/// Durable on return: that the last files are gone that have no byte.
async fn drop_empty(
    disk: &dyn Disk,
    found: &mut Vec<Found>,
    dirs: &[String],
    removed: &mut Vec<String>,
) -> Result<(), Error> {
    while let Some(last) = found.pop_if(|file| file.size == 0) {
        let path = format!("{}/{}", dirs[last.dir], segment::name(last.base));
        crate::rt::probe!("store: recovery removed an empty file");
        tracing::warn!("{path} has no byte, a process died while making it: removing it");
        disk.remove(&path).map_err(Error::io(format!("remove {path}")))?;
        let dir = parent(&path);
        disk.sync_dir(dir).await.map_err(Error::io(format!("sync {dir}")))?;
        removed.push(path);
    }
    Ok(())
}
