//! The small files: JSON, checkpoint, floor, and what the scrub wrote down.

use crate::disk::{Disk, read_small};
use crate::doctor::options::Options;
use crate::doctor::report::Report;
use crate::format::checkpoint::Checkpoint;
use crate::format::floor::Floor;
use crate::protocol::body::fastjson;
use crate::store::scrub::Ledger;
use std::io;

/// Units: bytes of a state file that is still looked at.
const SIZE_MAX: u64 = 256 << 20;
const DEPTH_MAX: usize = 64;

pub fn look(disk: &dyn Disk, options: &Options, report: &mut Report) {
    json_files(disk, options, report);
    let root = &options.root;
    match read_small(disk, &format!("{root}/checkpoint"), 1 << 20) {
        Ok(bytes) if Checkpoint::decode(&bytes).is_none() => {
            let what = format!("{} bytes, at least 24 were expected", bytes.len());
            let advice = "remove it while the broker is stopped: it is made again";
            report.warn("state", &format!("{root}/checkpoint"), what, advice);
        }
        _ => {}
    }
    match read_small(disk, &format!("{root}/hotfire/floor"), 1 << 20) {
        Ok(bytes) if Floor::decode(&bytes).is_none() && bytes.iter().any(|b| *b != 0) => {
            let what = "no whole slot: a start must find the log's end without it";
            report.warn("state", &format!("{root}/hotfire/floor"), what, "");
        }
        _ => {}
    }
    let rot = read_small(disk, &format!("{root}/hotfire/rot"), SIZE_MAX);
    let ledger = rot.ok().and_then(|bytes| serde_json::from_slice::<Ledger>(&bytes).ok());
    for found in ledger.unwrap_or_default().rot {
        let advice = "copy the file from a slave or a backup while the broker is stopped, then \
                      remove hotfire/rot";
        let text = found.to_string();
        let what = text.strip_prefix(&found.path).unwrap_or(&text);
        let what = format!("found by the scrub{what}");
        report.error("rot", &found.path, what, advice);
    }
}

/// Source: ConfigManager#load (4.9.3): a broken file means its `.bak`.
fn json_files(disk: &dyn Disk, options: &Options, report: &mut Report) {
    let dir = format!("{}/config", options.root);
    for entry in disk.list(&dir).unwrap_or_default() {
        let Some(_) = entry.name.strip_suffix(".json") else { continue };
        let path = format!("{dir}/{}", entry.name);
        let Err(what) = check(read_small(disk, &path, SIZE_MAX)) else { continue };
        let backup = format!("{path}.bak");
        match check(read_small(disk, &backup, SIZE_MAX)) {
            Ok(()) => {
                let advice = format!("a start takes {backup} instead; look what is missing in it");
                report.warn("state", &path, what, &advice);
            }
            Err(also) => {
                let what = format!("{what}; its .bak: {also}");
                let advice = "bring it back from a backup before a start makes it anew";
                report.error("state", &path, what, advice);
            }
        }
    }
}

/// Errors: why it is no state file.
fn check(bytes: io::Result<bytes::Bytes>) -> Result<(), String> {
    let bytes = bytes.map_err(|error| error.to_string())?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    match fastjson::read(&bytes, DEPTH_MAX) {
        Ok(value) if value.is_object() => Ok(()),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it does not parse: {error}")),
    }
}
