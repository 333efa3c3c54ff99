//! `hotfire/cut/`: what lay behind the log's end before it was made zero, for whoever wants to
//! look. A file is called `<number>-<offset>`; the oldest go away when there is too much.

use super::log_files::LogFiles;
use crate::disk::Disk;
use crate::store::options::Options;
use std::io;
use std::sync::Arc;

/// Copies `end..used` of the log, or its first part. Durable on return. It is a courtesy: an error
/// is said, and no more.
pub async fn keep(
    disk: &Arc<dyn Disk>,
    options: &Options,
    log: &mut LogFiles,
    end: u64,
    used: u64,
) {
    if options.cut_size_max_bytes == 0 {
        return;
    }
    let used = used.min(end + options.cut_size_max_bytes);
    match copy(&**disk, options, log, end, used).await {
        Ok(path) => tracing::warn!("what was behind the log's end at {end} is kept in {path}"),
        Err(error) => tracing::warn!("what was behind the log's end at {end} is lost: {error}"),
    }
}

async fn copy(
    disk: &dyn Disk,
    options: &Options,
    log: &mut LogFiles,
    end: u64,
    used: u64,
) -> io::Result<String> {
    let dir = format!("{}/cut", options.own_dir());
    disk.make_dir(&dir)?;
    let mut kept = disk.list(&dir)?;
    let number = |name: &str| name.split('-').next().and_then(|n| n.parse::<u64>().ok());
    let next = kept.iter().filter_map(|entry| number(&entry.name)).max().unwrap_or(0) + 1;
    let mut size: u64 = kept.iter().map(|entry| entry.size).sum::<u64>() + (used - end);
    kept.reverse();
    while size > options.cut_size_max_bytes
        && let Some(oldest) = kept.pop()
    {
        disk.remove(&format!("{dir}/{}", oldest.name))?;
        size -= oldest.size;
    }
    let path = format!("{dir}/{next:06}-{end:020}");
    let copied = async {
        let (file, base) = (disk.open_or_create(&path)?, log.base_of(end));
        let mut at = end;
        while at < used {
            let len = (used - at).min(1 << 20) as usize;
            let bytes = log.file(at)?.read(at - base, len).await?;
            file.write_at(at - end, &bytes)?;
            at += len as u64;
        }
        file.sync_data().await?;
        disk.sync_dir(&dir).await?;
        disk.sync_dir(&options.own_dir()).await
    };
    match copied.await {
        Ok(()) => Ok(path),
        Err(error) => {
            disk.remove(&path)?;
            Err(error)
        }
    }
}
