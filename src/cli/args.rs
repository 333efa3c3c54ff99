//! What can be typed.

use super::admin::Admin;
use super::bench::Bench;
use super::consume::Consume;
use super::doctor::Doctor;
use super::produce::Produce;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::sync::LazyLock;

/// A message broker that speaks Apache RocketMQ 4.9.
#[derive(Debug, Parser)]
#[command(name = "hotfire", version = version(), arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// Version, commit (given to the build as HOTFIRE_COMMIT), and the RocketMQ version that goes into
/// every header.
pub fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let commit = option_env!("HOTFIRE_COMMIT").unwrap_or("unknown");
        format!("{} (commit {commit}, RocketMQ V4_9_3)", env!("CARGO_PKG_VERSION"))
    });
    &TEXT
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Name server and broker in one process; needs no configuration
    Standalone(Standalone),
    /// A name server; also when called as mqnamesrv
    Namesrv(Namesrv),
    /// A broker; also when called as mqbroker
    Broker(Broker),
    /// Stops brokers or name servers of this machine; also when called as mqshutdown
    Shutdown(Shutdown),
    /// Sends messages and prints one line per send: status, message id, queue, offset
    Produce(Produce),
    /// Prints messages, one per line, and commits what it printed
    Consume(Consume),
    /// Load against any RocketMQ broker, and the servers that set the limit
    Bench(Bench),
    /// Asks a broker how it stands
    Admin(Admin),
    /// Looks at a store directory, stopped or in use, ours or RocketMQ's, and touches nothing
    Doctor(Doctor),
}

#[derive(Debug, ClapArgs)]
pub struct Standalone {
    /// Directory of everything that is kept
    #[arg(long, value_name = "DIR", default_value = "./hotfire-data")]
    pub data: String,
    /// The broker's port
    #[arg(long, default_value_t = 10911)]
    pub port: u16,
    /// The name server's port
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    pub namesrv_port: u16,
    /// Listen on every address and tell clients to dial this one; without it, loopback only
    #[arg(long, value_name = "IP")]
    pub advertise: Option<std::net::IpAddr>,
}

/// Source: NamesrvStartup#buildCommandlineOptions (4.9.3).
#[derive(Debug, ClapArgs)]
pub struct Namesrv {
    /// Name server config properties file
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config: Option<String>,
    /// Print all config items
    #[arg(short = 'p', long = "printConfigItem")]
    pub print: bool,
    /// Taken and not used, as in RocketMQ
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRS", hide = true)]
    pub namesrv_addr: Option<String>,
}

/// Source: BrokerStartup#buildCommandlineOptions, ServerUtil (4.9.3).
#[derive(Debug, ClapArgs)]
pub struct Broker {
    /// Broker config properties file
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config: Option<String>,
    /// Name server address list, eg: 192.168.0.1:9876;192.168.0.2:9876
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRS")]
    pub namesrv_addr: Option<String>,
    /// Print all config item
    #[arg(short = 'p', long = "printConfigItem")]
    pub print: bool,
    /// Print important config item
    #[arg(short = 'm', long = "printImportantConfig")]
    pub print_important: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Shutdown {
    /// What to stop
    #[arg(value_parser = ["broker", "namesrv"])]
    pub what: String,
    /// Only these processes
    #[arg(value_name = "PID")]
    pub pids: Vec<i32>,
}

/// Puts the command that the binary's name stands for in front of the arguments.
pub fn with_command_of_name(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|path| Path::new(path).file_name());
    let command = match name.and_then(|name| name.to_str()) {
        Some("mqnamesrv") => "namesrv",
        Some("mqbroker") => "broker",
        Some("mqshutdown") => "shutdown",
        _ => return args,
    };
    args.insert(1, command.into());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        let args = line.split(' ').map(OsString::from).collect();
        Args::try_parse_from(with_command_of_name(args)).expect("legal").command
    }

    #[test]
    fn the_names_of_rocketmq_stand_for_commands() {
        let Command::Broker(broker) = parse("/opt/bin/mqbroker -n a:1;b:2 -c b.conf -p") else {
            panic!("not the broker");
        };
        assert_eq!(broker.namesrv_addr.as_deref(), Some("a:1;b:2"));
        assert!(broker.print && !broker.print_important);
        assert!(matches!(parse("mqnamesrv"), Command::Namesrv(_)));
        let Command::Shutdown(shutdown) = parse("bin/mqshutdown broker") else {
            panic!("not the shutdown");
        };
        assert_eq!(shutdown.what, "broker");
    }

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
