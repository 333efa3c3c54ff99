//! A configuration that changes while its program runs.

use super::file::{Program, RawConfig};
use super::keys::Effect;
use super::resolve::{self, Machine};
use super::{page, properties};
use crate::broker::configuration::{Change, Configuration, DataVersion, Live};
use crate::model::WallMillis;
use crate::namesrv;
use crate::rt::sync::Mutex;

/// Keys of a broker that are carried into it while it runs.
pub const LIVE_BROKER: &[&str] = &[
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerPermission",
    "cleanFileForciblyEnable",
    "deleteWhen",
    "diskMaxUsedSpaceRatio",
    "fileReservedTime",
    "longPollingEnable",
    "slaveReadEnable",
    "startAcceptSendRequestTimeStamp",
    "traceOn",
    "waitTimeMillsInPullQueue",
];

/// The same for a name server.
pub const LIVE_NAMESRV: &[&str] = &["orderMessageEnable"];

/// What a program was told at its start and since then.
pub struct LiveConfig {
    raw: Mutex<RawConfig>,
    version: Mutex<DataVersion>,
    machine: Machine,
    /// The file that was read at the start, as an absolute path.
    file: Option<String>,
}

impl std::fmt::Debug for LiveConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveConfig").field("file", &self.file).finish_non_exhaustive()
    }
}

impl LiveConfig {
    pub fn new(raw: RawConfig, machine: Machine, file: Option<String>) -> Self {
        let version = Mutex::new(DataVersion::default());
        LiveConfig { raw: Mutex::new(raw), version, machine, file }
    }

    /// Holds a text against the table. Nothing is taken when one key of it is not.
    fn read(&self, text: &str) -> Result<(RawConfig, Vec<(String, String)>), String> {
        let pairs = properties::parse(text).map_err(|error| error.to_string())?;
        let mut raw = self.raw.lock().clone();
        let live = match raw.program() {
            Program::Broker => LIVE_BROKER,
            Program::Namesrv => LIVE_NAMESRV,
        };
        let mut said = Vec::new();
        let mut refused = Vec::new();
        for pair in pairs {
            let (key, value) = (pair.key, pair.value);
            match Self::refusal(&raw, live, &key, &value) {
                Some(why) => refused.push(why),
                None => match raw.set(&key, &value, "the request") {
                    Ok(()) => said.push((key, value)),
                    Err(error) => refused.push(error.to_string()),
                },
            }
        }
        if refused.is_empty() {
            return Ok((raw, said));
        }
        Err(format!("nothing was changed: {}", refused.join("; ")))
    }

    /// Why this key cannot be changed now, whatever its value.
    fn refusal(raw: &RawConfig, live: &[&str], key: &str, value: &str) -> Option<String> {
        let Some(row) = raw.program().find(key) else {
            let nearest = raw.nearest(key).map(|near| format!(", the nearest known key is {near}"));
            return Some(format!("{key} is not a key{}", nearest.unwrap_or_default()));
        };
        if live.contains(&key) || raw.text(key).unwrap_or_default() == value {
            return None;
        }
        if let Err(why) = row.check(value) {
            return Some(format!("{key} = {value:?}: {why}"));
        }
        Some(match row.effect {
            Effect::Ignored(why) => format!("{key} has no effect here: {why}"),
            Effect::Later(what) => format!("{key} has no effect yet: {what}"),
            Effect::Refused(why) => format!("{key} keeps its default: {why}"),
            Effect::Used => {
                format!("{key} needs a restart: set it in the configuration file and start again")
            }
        })
    }
}

impl Configuration for LiveConfig {
    fn text(&self) -> String {
        page::print(&self.raw.lock(), false, &|name| resolve::found(&self.machine, name))
    }

    fn version(&self) -> DataVersion {
        *self.version.lock()
    }

    fn prepare(&self, text: &str) -> Result<Change, String> {
        let (raw, said) = self.read(text)?;
        let refused = |error: super::Error| format!("nothing was changed: {error}");
        let options = resolve::broker_options(&raw, &self.machine).map_err(refused)?;
        let store = resolve::store_options(&raw, &self.machine, "").map_err(refused)?;
        Ok(Change { said, live: Live::of(&options), rules: store.retention })
    }

    fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn edited(&self, text: &str, change: &Change) -> String {
        edited(text, &change.said)
    }

    fn commit(&self, now: WallMillis, change: &Change) {
        let mut raw = self.raw.lock();
        for (key, value) in &change.said {
            let taken = raw.set(key, value, "a request");
            debug_assert!(taken.is_ok(), "it was checked");
        }
        self.version.lock().advance(now);
    }
}

impl namesrv::options::Configuration for LiveConfig {
    fn text(&self) -> String {
        Configuration::text(self)
    }

    fn prepare(&self, text: &str) -> Result<namesrv::options::Change, String> {
        let (raw, said) = self.read(text)?;
        Ok(namesrv::options::Change { said, order_message_enable: raw.flag("orderMessageEnable") })
    }

    fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn edited(&self, text: &str, change: &namesrv::options::Change) -> String {
        edited(text, &change.said)
    }

    fn commit(&self, change: &namesrv::options::Change) {
        let mut raw = self.raw.lock();
        for (key, value) in &change.said {
            let taken = raw.set(key, value, "a request");
            debug_assert!(taken.is_ok(), "it was checked");
        }
    }
}

/// The text with these keys said. A line that says one is replaced, the last one when there are
/// several: that one counts. Everything else stays.
fn edited(text: &str, said: &[(String, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in said {
        let line = format!("{key}={}", escaped(value));
        let says = |line: &String| {
            let pairs = properties::parse(line).unwrap_or_default();
            pairs.first().is_some_and(|pair| pair.key == *key)
        };
        match lines.iter().rposition(says) {
            // A value that goes on in the next lines ends with its last one.
            Some(at) => {
                let goes_on =
                    |line: &String| line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1;
                let mut end = at;
                while goes_on(&lines[end]) && end + 1 < lines.len() {
                    end += 1;
                }
                lines.splice(at..=end, [line]);
            }
            None => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

/// A value as Java properties print it.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            ' ' if out.is_empty() => out.push_str("\\ "),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    fn config(text: &str) -> LiveConfig {
        let raw = RawConfig::parse(Program::Broker, "broker.conf", text.as_bytes()).expect("ok");
        let machine = Machine { local_address: "10.0.0.7".to_owned(), ..Machine::default() };
        LiveConfig::new(raw, machine, None)
    }

    #[test]
    fn a_change_is_taken_whole_or_not_at_all_and_each_key_is_named() {
        let config = config("brokerName=a\nfileReservedTime=72");
        let change = config.prepare("fileReservedTime=24\nbrokerPermission=4").expect("live");
        assert_eq!(change.live.permission, 4);
        assert_eq!(change.rules.keep_for.as_secs(), 24 * 3600);
        config.commit(WallMillis(5), &change);
        assert_eq!(Configuration::version(&config), DataVersion { counter: 1, timestamp: 5 });
        assert!(Configuration::text(&config).contains("\nfileReservedTime=24\n"));
        for (text, wanted) in [
            ("brokerPermission=9", "brokerPermission = \"9\": expected a whole number from 0 to 7"),
            ("traceOn=yes", "traceOn = \"yes\": expected true or false"),
            ("brokerNmae=b", "brokerNmae is not a key, the nearest known key is brokerName"),
            ("brokerName=b", "brokerName needs a restart"),
            ("listenPort=x", "listenPort = \"x\": expected a whole number"),
            ("sendMessageThreadPoolNums=9", "sendMessageThreadPoolNums has no effect here"),
            ("deleteWhen=99", "deleteWhen = \"99\": expected hours of local time"),
            ("orderMessageEnable=true", "orderMessageEnable is not a key"),
        ] {
            let both = format!("traceOn=false\n{text}");
            let error = config.prepare(&both).expect_err(text);
            assert!(error.starts_with("nothing was changed: "), "{error}");
            assert!(error.contains(wanted), "{error}");
        }
        // What is said already may be said again, as tools do that send a whole file back.
        config.prepare("brokerName=a\ntraceOn=true").expect("nothing new");
    }

    #[test]
    fn a_file_keeps_its_other_lines_and_the_last_word_counts() {
        let said = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let text = "# mine\ntraceOn = false\nbrokerName=a\ntraceOn:true\n";
        let change = [said("traceOn", "false"), said("fileReservedTime", "24")];
        assert_eq!(
            edited(text, &change),
            "# mine\ntraceOn = false\nbrokerName=a\ntraceOn=false\nfileReservedTime=24\n"
        );
        let long = "deleteWhen=02;\\\n  04\nbrokerName=a";
        assert_eq!(edited(long, &[said("deleteWhen", "05")]), "deleteWhen=05\nbrokerName=a\n");
        for value in [" a", "E:\\x", "a=b"] {
            let text = edited("", &[said("k", value)]);
            let read = properties::parse(&text).expect("readable");
            assert_eq!(read[0].value, value);
        }
    }

    #[test]
    fn what_the_table_calls_live_is_carried_and_nothing_else() {
        for (_, row) in keys::all() {
            // Transactions come with keys of their own.
            if row.name.to_ascii_lowercase().contains("transaction") {
                continue;
            }
            let carried = LIVE_BROKER.contains(&row.name) || LIVE_NAMESRV.contains(&row.name);
            assert_eq!(row.live && row.effect == Effect::Used, carried, "{}", row.name);
        }
    }
}
