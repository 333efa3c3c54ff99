//! The configuration as tools see it and change it; keys and text are another room's.

use super::options::Options;
use crate::model::WallMillis;
pub use crate::protocol::body::DataVersion;
use crate::rt::time::Duration;
use crate::store::retention::Rules;

/// What may change while the broker runs; each field as in `Options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub accept_sends_from_ms: i64,
    pub auto_create_groups: bool,
    pub auto_create_topics: bool,
    pub long_polling: bool,
    pub permission: u32,
    pub pull_read_timeout: Duration,
    pub slave_read: bool,
    pub trace_on: bool,
}

impl Live {
    pub fn of(options: &Options) -> Live {
        Live {
            accept_sends_from_ms: options.accept_sends_from_ms,
            auto_create_groups: options.groups.auto_create,
            auto_create_topics: options.topics.auto_create,
            long_polling: options.long_polling,
            permission: options.permission,
            pull_read_timeout: options.pull_read_timeout,
            slave_read: options.slave_read,
            trace_on: options.trace_on,
        }
    }
}

/// A change that was checked and is not made yet.
#[derive(Clone, Debug)]
pub struct Change {
    /// Key and value, in the order of the request.
    pub said: Vec<(String, String)>,
    pub live: Live,
    pub rules: Rules,
}

/// Source: Configuration (4.9.3).
pub trait Configuration: Send + Sync + std::fmt::Debug {
    /// `key=value` lines, every key.
    fn text(&self) -> String;

    /// Moves with each change since the start.
    fn version(&self) -> DataVersion;

    /// Reads Java properties. Changes nothing.
    /// Errors: each key that is unknown, has a bad value or needs a restart, with what to do.
    fn prepare(&self, properties: &str) -> Result<Change, String>;

    /// The file in which changes are kept, if there is one.
    fn file(&self) -> Option<&str>;

    /// The file's text with the change in it; every other line as it was.
    fn edited(&self, text: &str, change: &Change) -> String;

    /// The change is made.
    fn commit(&self, now: WallMillis, change: &Change);
}
