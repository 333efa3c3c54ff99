//! `hotfire broker`, `mqbroker`.

use super::args::Broker;
use super::failure::Failure;
use super::logging;
use super::settings::Settings;
use crate::config::{Program, resolve};

/// Runs a broker until a signal stops it. Errors: RocketMQ's own exit codes.
pub fn run(args: &Broker) -> Result<(), Failure> {
    let mut settings = Settings::read(Program::Broker, args.config.as_deref())?;
    if let Some(addrs) = &args.namesrv_addr {
        settings.raw.set("namesrvAddr", addrs, "-n")?;
    }
    if args.print || args.print_important {
        settings.print(!args.print);
        return Ok(());
    }
    logging::start(&logging::level(&settings.raw));
    settings.tell()?;
    let _broker = resolve::broker_options(&settings.raw, &settings.machine)?;
    let _store = resolve::store_options(&settings.raw, &settings.machine, "")?;
    Err(Failure::new(Failure::NOT_STARTED, "the broker is being built"))
}
