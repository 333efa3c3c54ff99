//! Holds a configuration text against the table.

use super::keys::{self, Class, Effect, Key};
use super::properties;
use std::collections::BTreeMap;

/// Which program reads the file: it decides which keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Broker,
    Namesrv,
}

impl Program {
    /// The classes that one file of this program feeds, in the order of `-p`.
    pub fn classes(self) -> &'static [Class] {
        match self {
            Program::Broker => &[
                Class::Broker,
                Class::NettyServer,
                Class::NettyClient,
                Class::Store,
                Class::Hotfire,
            ],
            Program::Namesrv => &[Class::Namesrv, Class::NettyServer, Class::Hotfire],
        }
    }

    /// The literal default, which differs between the programs for one key.
    /// Source: BrokerStartup, NamesrvStartup (4.9.3): both set listenPort before the file is read.
    pub fn default_of(self, key: &Key) -> Option<&'static str> {
        match (self, key.name) {
            (Program::Namesrv, "listenPort") => Some("9876"),
            _ => (!key.computed && !key.default.is_empty()).then_some(key.default),
        }
    }

    pub(super) fn find(self, name: &str) -> Option<&'static Key> {
        let mut rows = self.classes().iter().flat_map(|&class| keys::of(class));
        rows.find(|(_, key)| key.name == name).map(|(_, key)| key)
    }
}

/// Why a configuration is refused. Every variant ends the start with RocketMQ's exit code -3.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{source_name}: {error}")]
    Syntax { source_name: String, error: properties::SyntaxError },
    /// Each text names key, value and what was expected.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
    #[error("strictConfig=true, and there were warnings:\n{}", .0.join("\n"))]
    Strict(Vec<String>),
}

#[derive(Clone, Debug)]
struct Said {
    value: String,
    /// `broker.conf line 3`, `-n`.
    place: String,
}

/// What a file and the command line said, checked key by key.
#[derive(Clone, Debug)]
pub struct RawConfig {
    program: Program,
    said: BTreeMap<&'static str, Said>,
    unknown: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl RawConfig {
    /// Nothing said: every key has its default.
    pub fn new(program: Program) -> Self {
        let (said, unknown, warnings) = Default::default();
        RawConfig { program, said, unknown, warnings }
    }

    /// Reads the bytes of a `.properties` file. `source_name` appears in every text.
    /// Errors: every value that does not parse, in one error.
    pub fn parse(program: Program, source_name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let pairs = properties::parse(&properties::text_of(bytes))
            .map_err(|error| Error::Syntax { source_name: source_name.to_owned(), error })?;
        let mut raw = RawConfig::new(program);
        let mut refused = Vec::new();
        for pair in pairs {
            let place = format!("{source_name} line {}", pair.line);
            if pair.trailing_blanks {
                let what = "blanks at the end of the value are cut off; RocketMQ 4.9.3 keeps them";
                raw.warnings.push(format!("{place}: {}: {what}", pair.key));
            }
            let Some(key) = program.find(&pair.key) else {
                raw.unknown.push((pair.key, place));
                continue;
            };
            if let Some(earlier) = raw.said.get(key.name) {
                let what = format!("said before at {}; the last one counts", earlier.place);
                raw.warnings.push(format!("{place}: {}: {what}", pair.key));
            }
            refused.extend(raw.take(key, pair.value, place).err());
        }
        if refused.is_empty() { Ok(raw) } else { Err(Error::Values(refused)) }
    }

    /// Says one key from elsewhere than the file; it wins. `place` appears in error texts.
    pub fn set(&mut self, name: &str, value: &str, place: &str) -> Result<(), Error> {
        match self.program.find(name) {
            Some(key) => self
                .take(key, value.to_owned(), place.to_owned())
                .map_err(|text| Error::Values(vec![text])),
            None => Err(Error::Values(vec![format!("{place}: {name} is not a key")])),
        }
    }

    fn take(&mut self, key: &'static Key, value: String, place: String) -> Result<(), String> {
        let text = |why: String| format!("{place}: {} = {value:?}: {why}", key.name);
        // Java leaves an empty text as it is and cannot parse an empty number.
        key.check(&value).map_err(text)?;
        if let Effect::Refused(what) = key.effect
            && value != key.default
        {
            let expected = if key.default.is_empty() { "nothing" } else { key.default };
            return Err(text(format!("expected {expected}: {what}")));
        }
        self.said.insert(key.name, Said { value, place });
        Ok(())
    }

    pub fn program(&self) -> Program {
        self.program
    }

    /// The value that was said, or `None`.
    pub fn said(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(|said| said.value.as_str())
    }

    /// The value said, else the literal default; `None` when unset or found at boot.
    pub fn text(&self, name: &str) -> Option<&str> {
        if let Some(value) = self.said(name) {
            return (!value.is_empty()).then_some(value);
        }
        let key = self.program.find(name);
        debug_assert!(key.is_some(), "{name} is not in the table");
        key.and_then(|key| self.program.default_of(key))
    }

    /// A number that stands in the table with a literal default.
    pub fn number(&self, name: &str) -> i64 {
        let value = self.text(name).and_then(|value| value.parse().ok());
        debug_assert!(value.is_some(), "{name} has no number");
        value.unwrap_or_default()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.text(name).and_then(keys::parse_flag).unwrap_or_default()
    }

    /// One line per thing that a person should know: keys that 4.9.3 does not know, keys without
    /// effect. `root` is the store's directory as resolved.
    pub fn warnings(&self, root: &str) -> Vec<String> {
        let mut lines = self.warnings.clone();
        lines.extend(self.unknown.iter().map(|(key, place)| self.about_unknown(key, place, root)));
        for (name, said) in &self.said {
            let Some(key) = self.program.find(name) else { continue };
            if let Effect::Ignored(why) = key.effect
                && said.value != key.default
            {
                lines.push(format!("{}: {name} has no effect here: {why}", said.place));
            }
        }
        lines
    }

    /// Keys said whose feature is not built yet, each with the feature's name.
    pub fn without_effect_yet(&self) -> Vec<(&'static str, &'static str)> {
        let keys = self.said.keys().filter_map(|name| self.program.find(name));
        let later = |key: &Key| match key.effect {
            Effect::Later(what) => Some((key.name, what)),
            _ => None,
        };
        keys.filter_map(later).collect()
    }

    /// Errors: `Strict`, when `strictConfig=true` and there is a warning.
    pub fn check_strict(&self, warnings: &[String]) -> Result<(), Error> {
        if self.flag("strictConfig") && !warnings.is_empty() {
            return Err(Error::Strict(warnings.to_vec()));
        }
        Ok(())
    }

    fn about_unknown(&self, key: &str, place: &str, root: &str) -> String {
        let mut line = format!("{place}: unknown key {key} is ignored, as RocketMQ 4.9.3 does");
        if keys::all().any(|(_, known)| known.name == key) {
            line.push_str(match self.program {
                Program::Broker => "; it is a key of the name server",
                Program::Namesrv => "; it is a key of the broker",
            });
        } else if let Some(nearest) = self.nearest(key) {
            line.push_str(&format!("; nearest known key: {nearest}"));
        }
        if let Some((_, what, at)) = INSTEAD.iter().find(|(name, ..)| *name == key)
            && self.program == Program::Broker
        {
            line.push_str(&format!("; {what} {root}/{at}"));
        }
        line
    }

    /// The known key with the fewest edits, when it is near enough to be meant.
    pub fn nearest(&self, key: &str) -> Option<&'static str> {
        let wanted = key.to_ascii_lowercase();
        let names = self.program.classes().iter().flat_map(|&class| keys::of(class));
        let scored =
            names.map(|(_, known)| (edits(&wanted, &known.name.to_ascii_lowercase()), known.name));
        let (edits, name) = scored.min()?;
        (edits <= (key.len() / 2).max(2)).then_some(name)
    }
}

/// Keys of many guides that no class of 4.9.3 has: where the thing is, whatever they say.
const INSTEAD: &[(&str, &str, &str)] = &[
    ("storePathConsumeQueue", "consume queues are always in", "consumequeue"),
    ("storePathIndex", "index files are always in", "index"),
    ("storeCheckpoint", "the checkpoint file is always", "checkpoint"),
    ("abortFile", "the abort file is always", "abort"),
];

/// Levenshtein distance. Units: bytes inserted, removed or replaced.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let kept = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAPTER: &str = "brokerName = broker-a\n# 存储路径\nbrokerRole = ASYNC_MASTER\n\
        storePathRootDir=/data/hf\nstorePathConsumeQueue=/data/hf/consumequeue\n\
        storePathIndex=/data/hf/index\nstoreCheckpoint=/data/hf/checkpoint\n\
        abortFile=/data/hf/abort\ndeleteWhen = 04\n";

    fn broker(text: &str) -> Result<RawConfig, Error> {
        RawConfig::parse(Program::Broker, "broker.conf", text.as_bytes())
    }

    #[test]
    fn the_four_unknown_keys_of_the_chapter_give_one_warning_each_that_says_where_the_thing_is() {
        let raw = broker(CHAPTER).expect("accepted");
        let warnings = raw.warnings("/data/hf");
        assert_eq!(warnings.len(), 4, "{warnings:#?}");
        assert_eq!(
            warnings[0],
            "broker.conf line 5: unknown key storePathConsumeQueue is ignored, as RocketMQ 4.9.3 \
             does; nearest known key: storePathCommitLog; consume queues are always in \
             /data/hf/consumequeue"
        );
        assert!(warnings[3].ends_with("the abort file is always /data/hf/abort"));
        assert!(raw.without_effect_yet().is_empty());
        assert_eq!(raw.text("brokerName"), Some("broker-a"));
    }

    #[test]
    fn strict_config_refuses_what_else_is_a_warning() {
        let raw = broker("strictConfig=true\nbrokerNmae=a").expect("accepted");
        let warnings = raw.warnings("/r");
        assert!(warnings[0].ends_with("nearest known key: brokerName"), "{warnings:?}");
        assert_eq!(raw.check_strict(&warnings), Err(Error::Strict(warnings.clone())));
        assert_eq!(raw.check_strict(&[]), Ok(()));
    }

    #[test]
    fn a_value_that_does_not_parse_is_refused_with_key_value_and_what_was_expected() {
        let text = "listenPort=109x1\nbrokerRole=MASTER\nautoCreateTopicEnable=yes\nbrokerId=\n";
        let Err(Error::Values(lines)) = broker(text) else { panic!("accepted") };
        assert_eq!(
            lines,
            [
                "broker.conf line 1: listenPort = \"109x1\": expected a whole number from 0 to \
                 65535",
                "broker.conf line 2: brokerRole = \"MASTER\": expected one of ASYNC_MASTER, \
                 SYNC_MASTER, SLAVE",
                "broker.conf line 3: autoCreateTopicEnable = \"yes\": expected true or false",
                "broker.conf line 4: brokerId = \"\": expected a whole number",
            ]
        );
    }

    #[test]
    fn a_windows_path_is_an_error_that_says_so() {
        let Err(error) = broker("storePathRootDir=E:/RocketMQ/data") else { panic!("accepted") };
        let text = error.to_string();
        assert!(text.contains("storePathRootDir") && text.contains("Windows path"), "{text}");
    }

    #[test]
    fn what_would_be_unsafe_to_ignore_is_refused() {
        let Err(error) = broker("aclEnable=true") else { panic!("accepted") };
        assert!(error.to_string().contains("access control is not built yet"), "{error}");
        assert!(broker("aclEnable=false").is_ok());
    }

    #[test]
    fn a_trailing_blank_is_cut_and_a_key_said_twice_counts_last() {
        let raw = broker("brokerRole=SYNC_MASTER \nbrokerName=a\nbrokerName=b").expect("accepted");
        assert_eq!(raw.text("brokerRole"), Some("SYNC_MASTER"));
        assert_eq!(raw.text("brokerName"), Some("b"));
        assert_eq!(raw.warnings("/r").len(), 2);
    }

    #[test]
    fn keys_without_effect_warn_unless_they_repeat_the_default() {
        let raw = broker("transientStorePoolEnable=true\nwarmMapedFileEnable=false").expect("ok");
        let warnings = raw.warnings("/r");
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("transientStorePoolEnable has no effect here"));
    }

    #[test]
    fn a_key_of_the_other_program_is_named_as_such() {
        let raw = RawConfig::parse(Program::Namesrv, "n.conf", b"brokerName=a").expect("accepted");
        assert!(raw.warnings("/r")[0].ends_with("it is a key of the broker"));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let mut raw = broker("namesrvAddr=a:1").expect("accepted");
        raw.set("namesrvAddr", "b:2", "-n").expect("accepted");
        assert_eq!(raw.text("namesrvAddr"), Some("b:2"));
        assert!(raw.set("listenPort", "x", "--port").is_err());
    }

    #[test]
    fn the_files_in_conf_are_accepted_without_a_warning() {
        let broker = include_bytes!("../../conf/broker.conf");
        let namesrv = include_bytes!("../../conf/namesrv.conf");
        for (program, bytes) in
            [(Program::Broker, broker.as_slice()), (Program::Namesrv, namesrv.as_slice())]
        {
            let raw = RawConfig::parse(program, "conf", bytes).expect("accepted");
            assert_eq!(raw.warnings("/r"), Vec::<String>::new(), "{program:?}");
        }
    }

    #[test]
    fn edit_distance() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "ab"), 2);
        assert_eq!(edits("ab", "ab"), 0);
    }
}
