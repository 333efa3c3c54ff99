//! The one table of configuration keys, by class as 4.9.3 has them.

/// Writes rows as `kind name = "default" [marks] "sentence";`.
macro_rules! keys {
    ($($kind:ident $name:ident = $default:literal [$($mark:ident $(($($arg:expr),*))?)*]
        $about:literal;)*) => {
        &[$($kind(stringify!($name), $default, $about)$(.$mark($($($arg),*)?))*),*]
    };
}

mod broker;
mod hotfire;
mod namesrv;
mod netty;
mod store;

use reason::*;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A file or directory of this machine; never settable over the wire.
    Path,
    /// `true` or `false` in any case. Differs: Java takes everything else for false.
    Flag,
    /// A decimal number within the bounds, both included.
    Number {
        min: i64,
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// What setting the key does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Used,
    /// Accepted and checked; the feature that reads it is not built yet.
    Later(&'static str),
    /// Accepted and checked, for good without effect; says why.
    Ignored(&'static str),
    /// Only the default is accepted: leaving out what was asked for would be unsafe.
    Refused(&'static str),
}

/// The class of 4.9.3 that holds the key, or our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Broker,
    Store,
    Namesrv,
    NettyServer,
    NettyClient,
    Hotfire,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As text; empty is unset.
    pub default: &'static str,
    /// The default is found at boot; `default` describes how.
    pub computed: bool,
    /// `ms`, `s`, `h`, `B`, `%` or nothing.
    pub unit: &'static str,
    /// Printed by `-m`. Source: @ImportantField (4.9.3).
    pub important: bool,
    /// May change while the broker runs.
    pub live: bool,
    /// The room whose options carry it; empty when none does.
    pub room: &'static str,
    pub effect: Effect,
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    let (computed, important, live) = (false, false, false);
    let effect = Effect::Used;
    Key { name, kind, default, computed, unit: "", important, live, room: "", effect, about }
}
const fn text(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Text, default, about)
}
const fn path(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Path, default, about)
}
const fn flag(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Flag, default, about)
}
const fn int(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Number { min: 0, max: i32::MAX as i64 }, default, about)
}
const fn long(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Number { min: 0, max: i64::MAX }, default, about)
}
const fn choice(name: &'static str, default: &'static str, about: &'static str) -> Key {
    key(name, Kind::Choice(&[]), default, about)
}

impl Key {
    const fn one_of(self, words: &'static [&'static str]) -> Key {
        Key { kind: Kind::Choice(words), ..self }
    }
    const fn range(self, min: i64, max: i64) -> Key {
        Key { kind: Kind::Number { min, max }, ..self }
    }
    const fn at_least(self, min: i64) -> Key {
        let max = if let Kind::Number { max, .. } = self.kind { max } else { i64::MAX };
        Key { kind: Kind::Number { min, max }, ..self }
    }
    /// Any number that fits 64 bits.
    const fn any(self) -> Key {
        Key { kind: Kind::Number { min: i64::MIN, max: i64::MAX }, ..self }
    }
    const fn unit(self, unit: &'static str) -> Key {
        Key { unit, ..self }
    }
    const fn computed(self) -> Key {
        Key { computed: true, ..self }
    }
    const fn important(self) -> Key {
        Key { important: true, ..self }
    }
    const fn live(self) -> Key {
        Key { live: true, ..self }
    }
    const fn used(self, room: &'static str) -> Key {
        Key { room, effect: Effect::Used, ..self }
    }
    const fn later(self, what: &'static str) -> Key {
        Key { effect: Effect::Later(what), ..self }
    }
    const fn refused(self, what: &'static str) -> Key {
        Key { effect: Effect::Refused(what), ..self }
    }
    const fn ignored(self, why: &'static str) -> Key {
        Key { effect: Effect::Ignored(why), ..self }
    }
}

const ROLES: &[&str] = &["ASYNC_MASTER", "SYNC_MASTER", "SLAVE"];
const FLUSHES: &[&str] = &["ASYNC_FLUSH", "SYNC_FLUSH"];

/// Why a key has no effect.
mod reason {
    pub const OWN_INDEX: &str = "the index keeps its own mark and goes on from there";
    pub const HA: &str = "replication";
    pub const ACL: &str = "access control is not built yet";
    pub const SLOW_READER: &str = "the guard against slow consumers";
    pub const ADDRESS_SERVER: &str = "the name server address service";
    pub const LMQ: &str = "light message queues";
    pub const DELAYS_COUNTED: &str = "delayed messages that are sent on are always counted";
    pub const STATS_GO: &str = "the statistics of a topic or group that is deleted always go";
    pub const TLS: &str = "TLS is not built yet";
    pub const HTTP: &str = "the HTTP port";
    pub const IO_THREADS: &str = "threads for sockets";
    pub const ADMIN: &str = "the configuration requests";
    pub const LOG_FILES: &str = "log files are not built yet: redirect standard output";
    pub const LIMITS: &str = "limits on requests that change the broker are not built yet";

    pub const ONE_THREAD: &str = "one thread serves all requests; there are no pools to size";
    pub const STALLS: &str = "no request waits in a queue of its kind: sends are refused when the \
        log is stalled (osPageCacheBusyTimeOutMills)";
    pub const NO_QUEUE: &str = "requests are bounded by bytes in flight, not by a queue per kind";
    pub const NO_BITMAP: &str = "an SQL92 filter is always evaluated on the message, never on a \
        bitmap beside the queue";
    pub const NOT_READ: &str = "4.9.3 does not read it either";
    pub const JAVA_PLUGIN: &str = "names Java classes or Java helper processes";
    pub const NO_MAPPING: &str = "the log is never written through a mapping: nothing to \
        pool, warm or unmap, and pulls are zero-copy from memory";
    pub const PIPELINED: &str = "deliveries of a level are always pipelined, in order";
    pub const BY_BYTES: &str = "write-back starts by size and time; there are no page counts";
    pub const DLEDGER: &str = "DLedger's on-disk format is out of scope";
    pub const RUNS: &str = "entries are written in runs: after 64 of them or 200 ms";
    pub const CRC_ALWAYS: &str = "recovery always checks bodies";
    pub const PLAIN_REGISTER: &str = "registrations are sent plain, which every name server reads";
    pub const FULL_REGISTER: &str = "every registration is full";
    pub const ALWAYS_NOTIFY: &str = "members are always told that their group changed";
    pub const DUPLICATION: &str = "an unfinished mode of 4.9.3";
    pub const HA_PORT: &str = "the HA port is listenPort+1, as mqbroker sets it";
    pub const BUFFERS: &str = "netty and socket tuning; queues here are bounded by bytes";
    pub const STDOUT: &str = "logs go to standard output";
    pub const HOME: &str = "no installation directory is needed";
    pub const CLUSTER_TEST: &str = "Alibaba's test environments only";
}

/// All keys, class by class, in the order of 4.9.3's classes. The two `writeBuffer*WaterMark` keys
/// stand twice: Java sets both objects.
pub fn all() -> impl Iterator<Item = (Class, &'static Key)> {
    of(Class::Broker)
        .chain(of(Class::NettyServer))
        .chain(of(Class::NettyClient))
        .chain(of(Class::Store))
        .chain(of(Class::Namesrv))
        .chain(of(Class::Hotfire))
}

/// The keys of one class.
pub fn of(class: Class) -> impl Iterator<Item = (Class, &'static Key)> {
    let rows = match class {
        Class::Broker => broker::BROKER,
        Class::Store => store::STORE,
        Class::Namesrv => namesrv::NAMESRV,
        Class::NettyServer => netty::NETTY_SERVER,
        Class::NettyClient => netty::NETTY_CLIENT,
        Class::Hotfire => hotfire::HOTFIRE,
    };
    rows.iter().map(move |key| (class, key))
}

impl Key {
    /// What a value of this key looks like, for error texts.
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Path => "a path of this machine".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Number { min: i64::MIN, .. } => "a whole number".to_owned(),
            Kind::Number { min, max: i64::MAX } => format!("a whole number, {min} or more"),
            Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// Errors: what is wrong with the value, for a person.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let wrong = || Err(format!("expected {}", self.expected()));
        match self.kind {
            Kind::Text => Ok(()),
            Kind::Path if is_windows_path(value) => {
                Err("this is a Windows path; expected a path of this machine, such as \
                     /var/lib/hotfire"
                    .to_owned())
            }
            Kind::Path => Ok(()),
            Kind::Flag if parse_flag(value).is_some() => Ok(()),
            Kind::Number { min, max } => match value.parse::<i64>() {
                Ok(n) if (min..=max).contains(&n) => Ok(()),
                _ => wrong(),
            },
            Kind::Choice(words) if words.contains(&value) => Ok(()),
            _ => wrong(),
        }
    }
}

/// `true` or `false` in any case.
pub fn parse_flag(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// `E:\data`, `E:/data`, `E:data` (what a properties file makes of single backslashes) or anything
/// with a backslash.
fn is_windows_path(value: &str) -> bool {
    let bytes = value.as_bytes();
    (bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':') || value.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_as_many_keys_as_in_4_9_3() {
        let count = |class| of(class).count();
        assert_eq!(count(Class::Broker), 80);
        assert_eq!(count(Class::Store), 77);
        assert_eq!(count(Class::Namesrv), 6);
        assert_eq!(count(Class::NettyServer), 14);
        assert_eq!(count(Class::NettyClient), 14);
    }

    #[test]
    fn every_literal_default_passes_its_own_check() {
        for (class, key) in all() {
            if !key.computed && !key.default.is_empty() {
                assert_eq!(key.check(key.default), Ok(()), "{class:?} {}", key.name);
            }
        }
    }

    #[test]
    fn no_name_stands_twice_in_a_class_and_every_row_has_a_sentence() {
        for class in [Class::Broker, Class::Store, Class::NettyServer, Class::Hotfire] {
            let mut names: Vec<_> = of(class).map(|(_, key)| key.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{class:?}");
        }
        assert!(all().all(|(_, key)| key.about.ends_with('.')));
        assert!(all().all(|(_, key)| (key.effect == Effect::Used) != key.room.is_empty()));
    }

    #[test]
    fn windows_paths_are_told_from_ours() {
        for path in ["E:/RocketMQ/data", "c:\\store", "E:data", "data\\store"] {
            assert!(is_windows_path(path), "{path}");
        }
        for path in ["/home/rocketmq/store", "store", "./a:b", "ab:c"] {
            assert!(!is_windows_path(path), "{path}");
        }
    }
}
