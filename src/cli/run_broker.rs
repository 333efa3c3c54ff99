//! `hotfire broker`, `mqbroker`.

use super::args;
use super::failure::Failure;
use super::logging;
use super::say;
use super::settings::Settings;
use super::world::World;
use crate::broker::{self, driver::Broker, driver::Deps, driver::Parts};
use crate::config::{Program, resolve};
use crate::rt::coalesce::Coalesce;
use crate::{rt, store};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Runs a broker until a signal stops it. Errors: RocketMQ's own exit codes; 3 when the store can
/// no longer be trusted.
pub fn run(args: &args::Broker) -> Result<(), Failure> {
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
    let parts = parts(&settings)?;
    let coalesce = Coalesce::new(resolve::coalesce_wait(&settings.raw));
    let received = coalesce.received();
    rt::block_on_coalescing(&coalesce, serve(settings, parts, received))
}

async fn serve(settings: Settings, parts: Parts, received: Arc<AtomicU64>) -> Result<(), Failure> {
    let mut signal = pin!(rt::shutdown_signal());
    let world = World::counting(received);
    let ended = loop {
        let broker = rt::select! {
            _ = &mut signal => return Ok(()),
            started = start(&world, parts.clone()) => started?,
        };
        say::line(boot_line(&settings, broker.local_addr().port()));
        let end = rt::select! {
            _ = &mut signal => End::Asked,
            reason = broker.poisoned() => End::Poisoned(reason),
            reason = broker.restart_wanted() => End::Again(reason),
            reason = broker.fenced() => End::Fenced(reason),
        };
        let read_only = broker.read_only();
        broker.shutdown().await;
        match (end, read_only) {
            (End::Again(reason), None) => tracing::warn!("the broker starts again: {reason}"),
            (End::Poisoned(reason), _) | (_, Some(reason)) => {
                break Err(Failure::new(Failure::REFUSED, reason));
            }
            (End::Fenced(reason), None) => break Err(Failure::new(Failure::NOT_STARTED, reason)),
            (End::Asked, None) => break Ok(()),
        }
    };
    world.end().await;
    ended
}

/// Why a broker stopped.
enum End {
    Asked,
    /// Another master of this name goes on in its place.
    Fenced(String),
    Poisoned(String),
    /// A slave's log is cut back by the next start.
    Again(String),
}

/// What the configuration means for each part of a broker.
pub fn parts(settings: &Settings) -> Result<Parts, Failure> {
    let Settings { raw, machine, .. } = settings;
    let broker = resolve::broker_options(raw, machine)?;
    let owner = format!(
        "process {} ({}, broker {}, port {})",
        std::process::id(),
        machine.host_name,
        broker.topics.broker_name,
        broker.listen_port
    );
    Ok(Parts {
        store: resolve::store_options(raw, machine, &owner)?,
        server: resolve::server_options(raw),
        client: resolve::client_options(raw),
        configuration: Some(settings.live()),
        broker,
    })
}

/// Errors: -1 when another process holds the store or a port cannot be had, -3 for what is on
/// disk. Source: BrokerStartup (4.9.3).
pub async fn start(world: &World, parts: Parts) -> Result<Broker, Failure> {
    let deps = Deps {
        disk: world.disk.clone(),
        net: world.net.clone(),
        clock: world.clock.clone(),
        rng: world.rng.clone(),
    };
    Broker::start(deps, parts).await.map_err(|error| {
        let code = match &error {
            broker::Error::Store(store::Error::Locked { .. })
            | broker::Error::Fenced { .. }
            | broker::Error::Listen { .. }
            | broker::Error::Port { .. } => Failure::NOT_STARTED,
            _ => Failure::NOT_INITIALIZED,
        };
        Failure::new(code, error.to_string())
    })
}

/// Byte for byte as 4.9.3 prints it. Source: BrokerStartup#start.
pub fn boot_line(settings: &Settings, port: u16) -> String {
    let text = |name: &str| settings.text(name).unwrap_or_default();
    let mut line = format!(
        "The broker[{}, {}:{port}] boot success. serializeType={}",
        text("brokerName"),
        text("brokerIP1"),
        settings.serialize_type()
    );
    if let Some(addrs) = settings.text("namesrvAddr") {
        line.push_str(" and name server is ");
        line.push_str(&addrs);
    }
    line
}
