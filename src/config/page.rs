//! The table for people: `-p`, `-m` and docs/CONFIG.md.

use super::file::{Program, RawConfig};
use super::keys::{self, Class, Effect, Key, Kind};
use std::fmt::Write;

/// `key=value` of every key of the program, class by class, as `-p` prints them; with
/// `only_important` as `-m` does. `found` gives values that are found at boot.
pub fn print(
    raw: &RawConfig,
    only_important: bool,
    found: &dyn Fn(&str) -> Option<String>,
) -> String {
    let mut out = String::new();
    for &class in raw.program().classes() {
        for (_, key) in keys::of(class).filter(|(_, key)| !only_important || key.important) {
            let value = raw.said(key.name).map(str::to_owned).or_else(|| found(key.name));
            let default = raw.program().default_of(key).unwrap_or_default();
            let _ = writeln!(out, "{}={}", key.name, value.as_deref().unwrap_or(default));
        }
    }
    out
}

/// The page docs/CONFIG.md, which a test compares with the file.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    for (class, title, about) in SECTIONS {
        let _ = write!(out, "\n## {title}\n\n{about}\n\n{HEAD}");
        for (_, key) in keys::of(*class) {
            row(&mut out, key);
        }
    }
    out
}

fn row(out: &mut String, key: &Key) {
    let default = match (key.default, key.computed) {
        ("", _) => "unset".to_owned(),
        (text, true) => text.to_owned(),
        (text, false) => format!("`{text}`"),
    };
    let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
    let live = if key.live { "yes" } else { "" };
    let effect = match key.effect {
        Effect::Used => key.room.to_owned(),
        Effect::Later(what) => format!("not yet: {what}"),
        Effect::Ignored(why) => format!("none: {why}"),
        Effect::Refused(why) => format!("refused unless the default: {why}"),
    };
    let (name, about) = (key.name, key.about);
    let _ = writeln!(
        out,
        "| `{name}` | {} | {default}{unit} | {live} | {effect} | {about} |",
        kind(key)
    );
}

fn kind(key: &Key) -> String {
    match key.kind {
        Kind::Text => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Flag => "flag".to_owned(),
        Kind::Number { min: 0, max } if max >= i64::from(i32::MAX) => "number".to_owned(),
        Kind::Number { min: i64::MIN, .. } => "number, may be negative".to_owned(),
        Kind::Number { min, max } if max >= i64::from(i32::MAX) => format!("number ≥ {min}"),
        Kind::Number { min, max } => format!("number {min}–{max}"),
        Kind::Choice(words) => words.join(", "),
    }
}

const HEAD: &str = "| key | kind | default | live | effect | what it says |\n\
    | --- | --- | --- | --- | --- | --- |\n";

const SECTIONS: &[(Class, &str, &str)] = &[
    (Class::Broker, "BrokerConfig", "Read from broker.conf."),
    (
        Class::Store,
        "MessageStoreConfig",
        "Read from broker.conf. `storePathCommitLog` is not derived from `storePathRootDir`: as in \
         4.9.3, set both (a warning says so when only the root is set).",
    ),
    (
        Class::NettyServer,
        "NettyServerConfig",
        "Read from broker.conf and from namesrv.conf, where `listenPort` is 9876.",
    ),
    (Class::NettyClient, "NettyClientConfig", "Read from broker.conf."),
    (Class::Namesrv, "NamesrvConfig", "Read from namesrv.conf."),
    (
        Class::Hotfire,
        "Hotfire's own",
        "Read from both files; RocketMQ ignores them, so that one file can feed either.",
    ),
];

const INTRODUCTION: &str = "# Configuration keys

<!-- Generated from src/config/keys.rs: UPDATE_EXPECT=1 cargo test config::page -->

Files are Java properties in UTF-8: `key=value`, `#` begins a comment, blanks round `=` are allowed.

* A key that RocketMQ 4.9.3 does not know is ignored, with one warning that names the nearest key
  that exists. `strictConfig=true` turns every warning into exit code -3.
* A known key whose value does not parse ends the start with exit code -3 and a line that names the
  key, the value and what was expected. (RocketMQ takes the default without a word.)
* Blanks at the end of a value are cut off, with a warning. (RocketMQ keeps them, so that
  `brokerRole=SLAVE ` starts a master.)
* Paths are paths of this machine; a Windows path is an error that says so.

*live* says whether the key may change while the program runs, by `mqadmin updateBrokerConfig` or
`updateNamesrvConfig`: the change is written into the file that was read at the start. A request
that names another key, or a bad value, is refused as a whole. *effect* names the room of the code
that uses the key, or says that it has no effect and why. Units: ms, s, h (hours), B (bytes), %.
";

/// The keys that a program knows, for tests and tools.
pub fn known(program: Program) -> Vec<&'static str> {
    let rows = program.classes().iter().flat_map(|&class| keys::of(class));
    rows.map(|(_, key)| key.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the page is a file of the source tree")]
    fn docs_config_md_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
        let wanted = markdown();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &wanted).expect("the page can be written");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == wanted,
            "docs/CONFIG.md is stale: UPDATE_EXPECT=1 cargo test config::page"
        );
    }

    #[test]
    fn p_prints_every_key_once_per_class_and_m_the_important_ones() {
        let mut raw = RawConfig::new(Program::Broker);
        raw.set("brokerName", "b7", "test").expect("known");
        let page = print(&raw, false, &|name| (name == "brokerIP1").then(|| "10.0.0.7".into()));
        assert_eq!(page.lines().count(), known(Program::Broker).len());
        assert!(page.contains("\nbrokerName=b7\n") && page.contains("\nbrokerIP1=10.0.0.7\n"));
        assert!(page.contains("\nflushDiskType=ASYNC_FLUSH\n"));
        assert_eq!(print(&raw, true, &|_| None).lines().count(), 34);
    }
}
