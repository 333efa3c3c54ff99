//! Reads a configuration file and says what is odd about it.

use super::failure::Failure;
use super::{machine, say};
use crate::config::live::LiveConfig;
use crate::config::resolve::{self, Machine};
use crate::config::{Program, RawConfig, page};
use std::sync::Arc;

/// Longest configuration file. Units: bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// A checked configuration and the machine it is for.
pub struct Settings {
    pub raw: RawConfig,
    pub machine: Machine,
    /// The file that was read, as an absolute path.
    pub file: Option<String>,
}

impl Settings {
    /// Errors: -1 when the file cannot be read, as in 4.9.3; -3 when a value is refused.
    pub fn read(program: Program, file: Option<&str>) -> Result<Settings, Failure> {
        let raw = match file {
            Some(path) => RawConfig::parse(program, path, &file_bytes(path)?)?,
            None => RawConfig::new(program),
        };
        Ok(Settings { raw, machine: machine::look(), file: file.map(absolute) })
    }

    /// Logs every warning. Errors: -3 when there is one and `strictConfig=true`.
    pub fn tell(&self) -> Result<(), Failure> {
        let warnings = resolve::warnings(&self.raw, &self.machine);
        for line in &warnings {
            tracing::warn!("{line}");
        }
        let later: Vec<String> = self
            .raw
            .without_effect_yet()
            .iter()
            .map(|(key, what)| format!("{key} ({what})"))
            .collect();
        if !later.is_empty() {
            tracing::info!("accepted, without effect until it is built: {}", later.join(", "));
        }
        Ok(self.raw.check_strict(&warnings)?)
    }

    /// Prints what `-p` and `-m` print: every key with its value, then what is odd.
    pub fn print(&self, only_important: bool) {
        let found = |name: &str| match name {
            "bindAddress" | "serializeType" => self.text(name),
            _ => resolve::found(&self.machine, name),
        };
        say::line(page::print(&self.raw, only_important, &found).trim_end());
        for line in resolve::warnings(&self.raw, &self.machine) {
            say::line(format_args!("# WARN {line}"));
        }
    }

    /// The value said, the literal default, or the one found at boot.
    pub fn text(&self, name: &str) -> Option<String> {
        resolve::text(&self.raw, &self.machine, name)
    }

    /// What tools read and change while the program runs.
    pub fn live(&self) -> Arc<LiveConfig> {
        let (raw, machine) = (self.raw.clone(), self.machine.clone());
        Arc::new(LiveConfig::new(raw, machine, self.file.clone()))
    }

    /// How the boot line names the encoding of our own requests.
    pub fn serialize_type(&self) -> String {
        let said = self.raw.said("serializeType").map(str::to_owned);
        let env = machine::serialize_type().filter(|name| name == "JSON" || name == "ROCKETMQ");
        said.or(env).unwrap_or_else(|| "JSON".to_owned())
    }
}

fn absolute(path: &str) -> String {
    let path_of = std::path::absolute(path).ok();
    path_of.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| path.into())
}

#[expect(clippy::disallowed_methods, reason = "a file that a person wrote, read once at boot")]
fn file_bytes(path: &str) -> Result<Vec<u8>, Failure> {
    let refuse = |why: String| {
        let text = format!("read the configuration file {path}: {why}");
        Err(Failure::new(Failure::NOT_STARTED, text))
    };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > FILE_SIZE_MAX => {
            return refuse(format!("{} bytes, expected at most {FILE_SIZE_MAX}", found.len()));
        }
        Ok(_) => {}
        Err(error) => return refuse(error.to_string()),
    }
    std::fs::read(path).or_else(|error| refuse(error.to_string()))
}
