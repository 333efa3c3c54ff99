//! `hotfire admin`: what operators ask brokers.

use super::failure::Failure;
use super::member::print;
use super::world::World;
use crate::broker::replication::Status;
use crate::protocol::Command;
use crate::protocol::body;
use crate::protocol::code::{request_code, response_code as code};
use crate::remoting::{Client, ClientOptions};
use crate::rt;
use crate::rt::time::Duration;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write;

/// A broker that does not answer within this is not there.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Admin {
    #[command(subcommand)]
    pub command: AdminCommand,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// How replication stands: role, epoch, how far each slave is, the last cut
    #[command(name = "haStatus")]
    HaStatus(HaStatus),
}

#[derive(Debug, Args)]
pub struct HaStatus {
    /// The broker's address, host:port
    #[arg(short = 'b', long = "brokerAddr", value_name = "ADDR")]
    pub broker_addr: String,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Exit code 1: the broker refused; 3: it cannot be reached.
pub fn run(args: &Admin) -> Result<(), Failure> {
    let AdminCommand::HaStatus(args) = &args.command;
    let status = rt::block_on(ask(&args.broker_addr))?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&status).unwrap_or_default() + "\n",
        false => text(&status),
    };
    print(&text).map(|_| ())
}

async fn ask(addr: &str) -> Result<Status, Failure> {
    let world = World::new();
    let options = ClientOptions::default();
    let client = Client::new(&world.net, &world.clock, &world.group, options, None);
    let request = Command::request(request_code::HOTFIRE_HA_STATUS);
    let asked = client.invoke(addr, request, TIMEOUT).await;
    let answer =
        asked.map_err(|error| Failure::new(Failure::REFUSED, format!("{addr}: {error}")))?;
    if answer.code != code::SUCCESS {
        let remark = answer.remark.unwrap_or_default();
        let what = format!("{addr} says code {}: {remark}", answer.code);
        return Err(Failure::new(Failure::NO, what));
    }
    body::decode(&answer.body).map_err(|error| Failure::new(Failure::NO, error.to_string()))
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line("role", status.role.to_string());
    line("epoch", format!("{} (began at {})", status.epoch, status.epoch_start));
    line("log", format!("written to {}, visible to {}", status.written, status.visible));
    if let Some(master) = &status.master {
        let state = if status.is_connected { "connected" } else { "not connected" };
        line("master", format!("{master}, {state}, {} bytes behind", status.behind_bytes));
    }
    if let Some(fault) = &status.fault {
        line("last fault", fault.clone());
    }
    if let Some(cut) = &status.last_cut {
        line("last cut", format!("hotfire/cut/{cut}"));
    }
    if status.slaves.is_empty() {
        return out;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["slave", "acked", "sent", "bytes behind", "ms behind"]);
    for slave in &status.slaves {
        let numbers = [slave.acked, slave.sent, slave.behind_bytes, slave.behind_ms];
        let numbers = numbers.map(|number| number.to_string());
        table.add_row(std::iter::once(slave.addr.clone()).chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out + &format!("{table}\n")
}
