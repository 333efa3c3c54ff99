//! The file that says who wrote which part of the log.

use crate::disk::{Disk, read_small, replace_small};
use crate::format::epochs::{self, Epochs};
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::shared::Shared;

fn path(options: &Options) -> String {
    format!("{}/epochs", options.own_dir())
}

/// Nothing is known without the file, or when it is broken.
pub fn read(disk: &dyn Disk, options: &Options) -> Epochs {
    let bytes = read_small(disk, &path(options), epochs::SIZE_MAX).ok();
    bytes.and_then(|bytes| Epochs::decode(&bytes)).unwrap_or_default()
}

/// Durable on return.
pub async fn write(shared: &Shared, list: Epochs) -> Result<(), Error> {
    let written = replace_small(&*shared.disk, &path(&shared.options), &list.encode()).await;
    written.map_err(Error::io("write hotfire/epochs"))?;
    crate::rt::fault::point("store: epochs written").await;
    *shared.epochs.lock() = list;
    Ok(())
}
