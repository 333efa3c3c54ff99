//! Where log lines go.

use crate::config::RawConfig;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sends log lines of `level` and above to standard output. HOTFIRE_LOG overrides the level and
/// takes filters such as `info,hotfire::store=debug`.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_env("HOTFIRE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stdout)
        .with_ansi(std::io::stdout().is_terminal());
    // A second start in one process keeps the first.
    let _ = lines.try_init();
}

/// The level that the configuration asks for.
pub fn level(raw: &RawConfig) -> String {
    raw.text("logLevel").unwrap_or("info").to_owned()
}
