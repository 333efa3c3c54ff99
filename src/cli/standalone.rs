//! `hotfire standalone`: name server and broker in one process, without a configuration.

use super::args::Standalone;
use super::failure::Failure;
use super::settings::Settings;
use super::world::World;
use super::{logging, run_broker, run_namesrv, say};
use crate::config::{Program, RawConfig, resolve};
use crate::rt::coalesce::Coalesce;
use crate::{disk, namesrv, rt};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What keeps the output of a first try readable: the two boot lines and a hint.
const LOG_LEVEL: &str = "warn";

/// Longest text of who holds a store. Units: bytes.
const OWNER_SIZE_MAX: u64 = 4096;

/// Runs both until a signal stops them. Errors: 1 when another process runs on the same data,
/// else as `broker` and `namesrv`.
pub fn run(args: &Standalone) -> Result<(), Failure> {
    logging::start(LOG_LEVEL);
    let addr = args.advertise.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
    let bind = if args.advertise.is_some() { "0.0.0.0" } else { "127.0.0.1" };
    let data = args.data.trim_end_matches('/');
    let names = settings(
        Program::Namesrv,
        &[
            ("bindAddress", bind),
            ("listenPort", &args.namesrv_port.to_string()),
            ("kvConfigPath", &format!("{data}/namesrv/kvConfig.json")),
        ],
    )?;
    let broker = settings(
        Program::Broker,
        &[
            ("bindAddress", bind),
            ("listenPort", &args.port.to_string()),
            ("brokerName", "broker-a"),
            ("brokerIP1", &addr),
            ("brokerIP2", &addr),
            ("storePathRootDir", &format!("{data}/store")),
            ("storePathCommitLog", &format!("{data}/store/commitlog")),
        ],
    )?;
    let mut options = resolve::namesrv_options(&names.raw, &names.machine)?;
    options.configuration = Some(names.live());
    let coalesce = Coalesce::new(resolve::coalesce_wait(&broker.raw));
    let received = coalesce.received();
    rt::block_on_coalescing(&coalesce, serve(broker, options, data, received))
}

fn settings(program: Program, said: &[(&str, &str)]) -> Result<Settings, Failure> {
    let mut raw = RawConfig::new(program);
    for (name, value) in said {
        raw.set(name, value, "standalone")?;
    }
    Ok(Settings { raw, machine: super::machine::look(), file: None })
}

async fn serve(
    mut settings: Settings,
    options: namesrv::Options,
    data: &str,
    received: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut signal = pin!(rt::shutdown_signal());
    let world = World::counting(received);
    check_free(&world, &resolve::store_root(&settings.raw, &settings.machine))?;
    let names = rt::select! {
        _ = &mut signal => return Ok(()),
        started = run_namesrv::start(&world, options) => started?,
    };
    let port = names.local_addr().map_or(0, |addr| addr.port());
    settings.raw.set("namesrvAddr", &format!("127.0.0.1:{port}"), "standalone")?;
    let parts = run_broker::parts(&settings)?;
    let addr = parts.broker.advertised_ip;
    let broker = rt::select! {
        _ = &mut signal => return Ok(()),
        started = run_broker::start(&world, parts) => started?,
    };
    say::line(run_namesrv::boot_line(&settings.serialize_type()));
    say::line(run_broker::boot_line(&settings, broker.local_addr().port()));
    say::line(format_args!(
        "Data is in {data}. Try: hotfire produce -n {addr}:{port} -t Hello 'hello, world'"
    ));
    let poison = rt::select! {
        _ = signal => None,
        reason = broker.poisoned() => Some(reason),
    };
    let poison = poison.or_else(|| broker.read_only());
    broker.shutdown().await;
    names.shutdown().await;
    world.end().await;
    poison.map_or(Ok(()), |reason| Err(Failure::new(Failure::REFUSED, reason)))
}

/// Says who runs on this directory before a port that is in use says less.
/// Errors: 1 when another process holds it.
fn check_free(world: &World, root: &str) -> Result<(), Failure> {
    let lock = format!("{root}/lock");
    if world.disk.open(&lock).is_err() {
        return Ok(());
    }
    match world.disk.lock(&lock) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        _ => return Ok(()),
    }
    let path = format!("{root}/hotfire/owner");
    let owner = disk::read_small(&*world.disk, &path, OWNER_SIZE_MAX).map_or_else(
        |_| "another process".into(),
        |text| String::from_utf8_lossy(&text).into_owned(),
    );
    Err(Failure::new(
        Failure::NO,
        format!(
            "{root} is in use by {}.\nStop that one first, or choose another place: \
             hotfire standalone --data DIR --port PORT --namesrv-port PORT",
            owner.trim()
        ),
    ))
}
