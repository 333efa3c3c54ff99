//! What name-server and broker machines run.

use super::cluster::{BROKER_PORT, ClusterHouse, NAME_SERVER_PORT, ip};
use super::ports::{Ports, Watcher};
use crate::oracle::court::ROOT;
use crate::plan::{MachinePlan, Role};
use crate::trace;
use crate::world::Boot;
use hotfire::broker::configuration::Configuration;
use hotfire::broker::{Broker, Deps, Options, Parts};
use hotfire::config::live::LiveConfig;
use hotfire::config::resolve::Machine;
use hotfire::config::{Program, RawConfig};
use hotfire::disk;
use hotfire::namesrv::{self, Namesrv};
use hotfire::net::Net;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::Duration;
use hotfire::{remoting, store};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub async fn name_server(house: ClusterHouse, mut boot: Boot) {
    let machine = &house.0.plan.machines[boot.machine];
    let mut rng = Rng::from_seed(machine.swarm);
    let mut options = namesrv::Options::swarm(&mut rng);
    options.listen = SocketAddr::new(ip(boot.machine), NAME_SERVER_PORT);
    options.kv_config_path = "/data/namesrv/kvConfig.json".to_owned();
    let group = TaskGroup::new();
    let started = Namesrv::start(boot.disk.clone(), &boot.net, &boot.clock, &group, options).await;
    match started {
        Ok(server) => {
            boot.stop.until(|stop| *stop).await;
            server.shutdown().await;
        }
        Err(e) => trace::tell(&boot.name, format_args!("name server does not start: {e}")),
    }
}

/// Short leases where queues are locked, short stalls where consumers stand still.
fn suit_calls(house: &ClusterHouse, boot: &Boot, options: &mut Options) {
    let plan = &house.0.plan;
    if plan.load.calls {
        let mut dice = Rng::from_seed(plan.machines[boot.machine].swarm ^ 0x000c_a115);
        options.queue_lock_lifetime = Duration::from_millis(dice.between(1_500, 6_000));
        options.stuck_queue_after = Duration::from_millis(dice.between(2_000, 5_000));
        options.limits.stuck_turn_max = 1 << dice.below(4);
        // What is not one of the numbered messages must not lie in the log.
        options.store_replies = false;
    }
    let lifetime = options.queue_lock_lifetime;
    let mut progress = house.0.progress.lock();
    progress.lock_lifetime.insert(boot.machine, lifetime);
    progress.stuck_after.insert(boot.machine, options.stuck_queue_after);
}

/// The file that operators change, made at the first start.
const CONFIGURATION: &str = "/data/broker.conf";

/// Units: bytes.
const CONFIGURATION_SIZE_MAX: u64 = 1 << 20;

async fn configuration(
    house: &ClusterHouse,
    boot: &Boot,
) -> io::Result<Option<Arc<dyn Configuration>>> {
    if !house.0.plan.load.calls {
        return Ok(None);
    }
    let text = match disk::read_small(&*boot.disk, CONFIGURATION, CONFIGURATION_SIZE_MAX) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A change must not delete anything, however full the small disk is.
            let text = "brokerName=sim\ndiskMaxUsedSpaceRatio=95\n\
                        diskSpaceCleanForciblyRatio=100\ndiskSpaceWarningLevelRatio=100\n";
            disk::replace_small(&*boot.disk, CONFIGURATION, text.as_bytes()).await?;
            text.into()
        }
        Err(e) => return Err(e),
    };
    let raw = RawConfig::parse(Program::Broker, CONFIGURATION, &text).map_err(io::Error::other)?;
    let machine = Machine { local_address: ip(boot.machine).to_string(), ..Machine::default() };
    let file = Some(CONFIGURATION.to_owned());
    Ok(Some(Arc::new(LiveConfig::new(raw, machine, file))))
}

fn suit_filters(house: &ClusterHouse, swarm: u64, options: &mut Options) {
    if !house.0.plan.load.filters {
        return;
    }
    let mut dice = Rng::from_seed(swarm ^ 0x000f_117e);
    options.filters.by_property = true;
    options.filters.scan_max = dice.between(1, 64) as usize;
    options.filters.compiled_max = dice.between(1, 4) as usize;
}

pub async fn broker(house: ClusterHouse, boot: Boot) {
    let Some(parts) = parts(&house, &boot).await else { return };
    let is_master = house.0.plan.machines[boot.machine].role == Role::Broker;
    let process = (boot.machine, boot.generation);
    let judge = Box::new(Judge(house.clone()));
    let net = Arc::new(Ports::new(boot.net.clone(), process, is_master, judge));
    if let Ok(broker) = start(&house, &boot, net, parts).await {
        live(house, boot, broker).await;
    }
}

/// Everything of a broker's process that a plan decides. `None`: it cannot start.
pub(super) async fn parts(house: &ClusterHouse, boot: &Boot) -> Option<Parts> {
    let machine = house.0.plan.machines[boot.machine].clone();
    let mut rng = Rng::from_seed(machine.swarm);
    let mut options = Options::swarm(&mut rng);
    options.root = ROOT.to_owned();
    options.advertised_ip = ip(boot.machine);
    options.ha_ip = ip(boot.machine);
    options.listen_port = BROKER_PORT;
    options.name_servers = house.name_servers();
    options.topics.broker_name = house.broker_name(boot.machine);
    options.topics.default_queues = house.0.plan.load.queues as u32;
    suit_filters(house, machine.swarm, &mut options);
    suit_calls(house, boot, &mut options);
    let mut store_options = store_options(house, &machine, &mut rng);
    check_often(house, boot.machine, &mut options);
    if house.0.plan.load.timed > 0.0 {
        options.timers = super::timers::options(machine.swarm);
    }
    super::pairs::suit(house, boot.machine, &mut options, &mut store_options);
    house.court().on_levels(boot.machine, &store_options.delay_levels_ms);
    let (slots, entries) = (store_options.index_slots, store_options.index_entries);
    house.court().on_index_shape(boot.machine, (slots, entries));
    house.0.progress.lock().save_interval.insert(boot.machine, options.offsets_save_interval);
    let configuration = match configuration(house, boot).await {
        Ok(configuration) => configuration,
        Err(e) => {
            mark("broker: could not start");
            trace::tell(&boot.name, format_args!("broker cannot read its configuration: {e}"));
            return None;
        }
    };
    Some(Parts {
        broker: options,
        store: store_options,
        server: remoting::ServerOptions::swarm(&mut rng),
        client: remoting::ClientOptions::swarm(&mut rng),
        configuration,
    })
}

/// Errors: why it does not start; it has been told.
pub(super) async fn start(
    house: &ClusterHouse,
    boot: &Boot,
    net: Arc<dyn Net>,
    parts: Parts,
) -> Result<Broker, hotfire::broker::Error> {
    // The dice of a generation differ from those of the one before.
    let dice = Rng::from_seed(house.0.plan.machines[boot.machine].swarm ^ boot.generation);
    let deps = Deps { disk: boot.disk.clone(), net, clock: boot.clock.clone(), rng: dice };
    Broker::start(deps, parts).await.inspect_err(|e| {
        mark("broker: could not start");
        trace::tell(&boot.name, format_args!("broker does not start: {e}"));
    })
}

/// How a broker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    InOrder,
    Poisoned,
    /// Another master of its name goes on.
    Fenced,
}

/// Until it is stopped, or ends by itself.
pub(super) async fn live(house: ClusterHouse, mut boot: Boot, broker: Broker) -> Ended {
    let report = broker.recovery_report();
    if report.cut_reason.is_some() {
        mark("store: recovery met a torn record");
    }
    trace::tell(&boot.name, format_args!("broker up, log ends at {}", report.end));
    hotfire::rt::select! {
        _ = boot.stop.until(|stop| *stop) => {}
        reason = broker.poisoned() => {
            mark("store: poisoned");
            trace::tell(&boot.name, format_args!("poisoned, process ends: {reason}"));
            return Ended::Poisoned;
        }
        reason = broker.fenced() => {
            trace::tell(&boot.name, format_args!("another master goes on, process ends: {reason}"));
            broker.shutdown().await;
            return Ended::Fenced;
        }
        reason = broker.restart_wanted() => {
            mark("ha: a slave starts again to cut its log back");
            trace::tell(&boot.name, format_args!("starts again: {reason}"));
        }
    }
    broker.shutdown().await;
    house.court().on_stopped(boot.machine);
    trace::tell(&boot.name, format_args!("broker stopped in order"));
    Ended::InOrder
}

fn store_options(house: &ClusterHouse, machine: &MachinePlan, rng: &mut Rng) -> store::Options {
    let mut store_options = store::Options::swarm(ROOT, rng);
    store_options.flush =
        if machine.sync_flush { store::FlushMode::Sync } else { store::FlushMode::Async };
    if !house.0.plan.load.levels_ms.is_empty() {
        store_options.delay_levels_ms = house.0.plan.load.levels_ms.clone();
    }
    let is_alone = machine.pair.is_none();
    if house.0.plan.load.timed > 0.0 && is_alone && machine.swarm & 3 > 0 {
        // Many files: then a full disk also meets deliveries that wait for the next one.
        let sectors = 16 + (machine.swarm >> 8) % 16;
        store_options.segment_size_bytes = 512 * sectors;
        store_options.record_size_max_bytes = store_options.segment_size_bytes as usize - 8;
    }
    store_options
}

/// Open transactions are asked for within a run.
fn check_often(house: &ClusterHouse, machine: usize, options: &mut Options) {
    if house.0.plan.load.transactional == 0.0 {
        return;
    }
    // All of one name ask alike: what one discards lies in the log of the next.
    let machines = &house.0.plan.machines;
    let named = machines[machine].pair.as_ref().map_or(machine, |pair| pair.master);
    options.transactions = super::transactions::options(machines[named].swarm);
    // Progress that is seldom saved is seldom ahead of anything.
    options.offsets_save_interval /= 8;
    let checks_max = options.transactions.check_max.unsigned_abs();
    house.court().on_checks_max(machine, checks_max);
    house.0.progress.lock().check_terms.insert(machine, options.transactions.clone());
}

/// Judges what a start left: after recovery, and what a master took from its slaves.
struct Judge(ClusterHouse);

impl Watcher for Judge {
    fn on_ready(&self, ports: &Ports) {
        let (court, machine) = (self.0.court(), ports.machine);
        let wait = super::pairs::catch_up_wait(&self.0, machine);
        court.on_comeback(machine, ports.started_us, wait.as_micros() as u64);
        let ends = court.on_open(machine, ports.generation);
        let mut progress = self.0.0.progress.lock();
        progress.recoveries.entry(machine).or_default().push(ends.clone());
        let end_of =
            |topic: &str, queue| ends.get(&(topic.to_owned(), queue)).copied().unwrap_or(0);
        self.0.0.filters.lock().on_recovered(machine, end_of);
        for (reading, to) in &mut progress.read_to {
            if reading.1 == machine {
                let end = ends.get(&(reading.2.clone(), reading.3)).copied().unwrap_or(0);
                *to = (*to).min(end);
            }
        }
    }

    fn on_listening(&self, ports: &Ports) {
        self.0.court().on_listening(ports.machine, ports.generation);
    }
}
