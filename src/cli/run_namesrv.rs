//! `hotfire namesrv`, `mqnamesrv`.

use super::args;
use super::failure::Failure;
use super::logging;
use super::say;
use super::settings::Settings;
use super::world::World;
use crate::config::{Program, resolve};
use crate::namesrv::{self, Namesrv};
use crate::rt;
use std::pin::pin;

/// Runs a name server until a signal stops it. Errors: RocketMQ's own exit codes.
pub fn run(args: &args::Namesrv) -> Result<(), Failure> {
    let settings = Settings::read(Program::Namesrv, args.config.as_deref())?;
    if args.print {
        settings.print(false);
        return Ok(());
    }
    if let Some(path) = &args.config {
        say::line(format_args!("load config properties file OK, {path}"));
    }
    logging::start(&logging::level(&settings.raw));
    settings.tell()?;
    let mut options = resolve::namesrv_options(&settings.raw, &settings.machine)?;
    options.configuration = Some(settings.live());
    let boot_line = boot_line(&settings.serialize_type());
    rt::block_on(serve(options, boot_line))
}

async fn serve(options: namesrv::Options, boot_line: String) -> Result<(), Failure> {
    let mut signal = pin!(rt::shutdown_signal());
    let world = World::new();
    let namesrv = rt::select! {
        _ = &mut signal => return Ok(()),
        started = start(&world, options) => started?,
    };
    say::line(boot_line);
    signal.await;
    namesrv.shutdown().await;
    world.end().await;
    Ok(())
}

/// Errors: -3 for what is on disk, -1 for the network. Source: NamesrvStartup (4.9.3).
pub async fn start(world: &World, options: namesrv::Options) -> Result<Namesrv, Failure> {
    let World { disk, net, clock, group, .. } = world;
    Namesrv::start(disk.clone(), net, clock, group, options).await.map_err(|error| {
        let code = match error {
            namesrv::Error::KvConfig { .. } => Failure::NOT_INITIALIZED,
            namesrv::Error::Listen { .. } => Failure::NOT_STARTED,
        };
        Failure::new(code, error.to_string())
    })
}

/// Byte for byte as 4.9.3 prints it. Source: NamesrvStartup#main0.
pub fn boot_line(serialize_type: &str) -> String {
    format!("The Name Server boot success. serializeType={serialize_type}")
}
