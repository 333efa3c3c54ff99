//! From what was said to what is meant: defaults that depend on the machine.

use super::file::RawConfig;

/// What the process found out about its machine and environment at boot.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// HOME; Java's `user.home`.
    pub home: String,
    pub host_name: String,
    /// The address that other machines most likely reach us at.
    pub local_address: String,
    /// NAMESRV_ADDR, when set.
    pub namesrv_addr: Option<String>,
}

/// The value of a key whose default is found at boot; `None` when it stays unset.
pub fn found(machine: &Machine, name: &str) -> Option<String> {
    let home = machine.home.trim_end_matches('/');
    match name {
        "namesrvAddr" => machine.namesrv_addr.clone(),
        "brokerIP1" | "brokerIP2" => Some(machine.local_address.clone()),
        "brokerName" => Some(machine.host_name.clone()),
        "storePathRootDir" => Some(format!("{home}/store")),
        "storePathCommitLog" => Some(format!("{home}/store/commitlog")),
        "kvConfigPath" => Some(format!("{home}/namesrv/kvConfig.json")),
        "configStorePath" => Some(format!("{home}/namesrv/namesrv.properties")),
        _ => None,
    }
}

/// The value said, the literal default, or the one found at boot.
pub fn text(raw: &RawConfig, machine: &Machine, name: &str) -> Option<String> {
    raw.text(name).map(str::to_owned).or_else(|| found(machine, name))
}

/// Directory of everything but the commit log, without a slash at its end.
pub fn store_root(raw: &RawConfig, machine: &Machine) -> String {
    let root = text(raw, machine, "storePathRootDir").unwrap_or_default();
    match root.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}
