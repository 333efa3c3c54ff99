#!/usr/bin/env python3
"""loss.py ROUNDS [--seed N] [--rate N]: a master's machine and disk are gone under load; what does its slave have?

A round starts a master and a slave that is 5 ms away, each in a network namespace (wire.py; needs root, otherwise all run side by
side), and sends RATE (5000) messages a second. At a random moment it cuts the master's link with all that is under way in it,
kills the master with SIGKILL and takes its directory away. It promotes the slave as docs/OPERATING.md says, and pulls
everything from it. Rounds alternate between ASYNC_MASTER and SYNC_MASTER.
  ASYNC_MASTER: prints the messages and bytes that were acked and are lost. They must be the log's tail, in no more bytes than
  were in flight: what the master had written when it died, less what the slave had reported in the last haStatus before
  that (every 10 ms), and one batch (haTransferBatchSize). They may not be more than one second's messages either.
  SYNC_MASTER: nothing that was answered SEND_OK may be lost.
In both nothing may be there twice, have another body or place than its answer said, or be there that nobody sent.

One line per round, last `N passed, M failed`. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), CARGO.
"""

import argparse
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

import replicas
from replicas import Broken, NameServer, Replica, kill9
from wire import Unable, Wire

WINDOW = 4000
BATCH = 32768
SAMPLE_SECONDS = 0.01
AWAY_SECONDS = 0.005  # the slave, in each direction


def end(connection):
    """A machine that is lost closes no connection."""
    try:
        connection.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Load:
    """Sends at a rate over two connections until they break; a thread each sends and receives."""

    def __init__(self, master, name, rate):
        self.name, self.rate = name, rate
        self.sent, self.acked, self.others = {}, {}, {}
        self.threads, self.connections = [], []
        for number in range(2):
            connection, waiting = master.connect(), {}
            self.connections.append(connection)
            for target in (self.send, self.receive):
                self.threads.append(threading.Thread(target=target, args=(connection, waiting, number), daemon=True))
        self.begun = time.monotonic()
        for thread in self.threads:
            thread.start()

    def send(self, connection, waiting, number):
        serial = 0
        try:
            while True:
                due = int((time.monotonic() - self.begun) * self.rate / 2)
                while serial < due and len(waiting) < WINDOW:
                    identity = f"{self.name}C{number}N{serial}"
                    body = kill9.body_of(identity)
                    fields = {
                        "a": "loss", "b": kill9.TOPIC, "c": "TBW102", "d": kill9.QUEUES, "e": serial % kill9.QUEUES, "f": 0,
                        "g": int(time.time() * 1000), "h": serial, "j": 0, "k": "false", "m": "false",
                        "i": f"UNIQ_KEY\x01{identity}\x02TAGS\x01t{serial % 3}\x02",
                    }
                    self.sent[identity] = len(body)
                    waiting[connection.opaque + 1] = identity
                    connection.send(kill9.SEND, fields, body)
                    serial += 1
                time.sleep(0.001)
        except OSError:
            pass

    def receive(self, connection, waiting, number):
        try:
            while True:
                header, _ = connection.receive()
                identity = waiting.pop(header["opaque"])
                status = replicas.STATUSES.get(header["code"], str(header["code"]))
                if header["code"] == 0:
                    reply = header["extFields"]
                    # The message id ends in the place of the record in the log.
                    self.acked[identity] = (int(reply["queueId"]), int(reply["queueOffset"]), int(reply["msgId"][16:], 16))
                else:
                    self.others[status] = self.others.get(status, 0) + 1
        except (OSError, ValueError):
            pass

    def join(self):
        for connection in self.connections:
            end(connection)
        for thread in self.threads:
            thread.join(30)
            if thread.is_alive():
                raise Broken("a connection stayed open after the kill")


class Watch(threading.Thread):
    """Asks for haStatus until the master is gone; the last answer is what was known before the end."""

    def __init__(self, master):
        super().__init__(daemon=True)
        self.master, self.last, self.behind = master, None, []
        self.connection = master.connect()
        self.start()

    def end(self):
        end(self.connection)
        self.join(10)

    def run(self):
        try:
            while True:
                self.last = self.master.status(self.connection)
                self.behind.append(max([one["behindBytes"] for one in self.last["slaves"]], default=0))
                time.sleep(SAMPLE_SECONDS)
        except (OSError, ValueError, Broken):
            pass


def settle(slave):
    """What was in the sockets is taken, and nothing more comes."""
    last = None
    while last != (now := slave.status()["written"]):
        last = now
        time.sleep(0.2)


class Machines:
    """Where the servers run: each on a machine of its own, so that what is in the sockets of the one that is lost is lost with it;
    or, where network namespaces are not to be had, all on this one, whose kernel still sends what a killed process left."""

    def __init__(self):
        try:
            self.wire = Wire(["home", "master", "slave"])
            self.wire.go_to("home")
        except Unable as error:
            print(f"note all on one machine, so that what the master's sockets held still arrives: {error}")
            self.wire = None

    def address(self, name, port):
        return (self.wire.address[name] if self.wire else "127.0.0.1", port)

    def enter(self, name):
        return self.wire.enter(name) if self.wire else ()

    def away(self, seconds):
        """How far the slave is, in each direction."""
        if self.wire:
            self.wire.set("slave", delay=seconds)

    def lose(self, master):
        if self.wire:
            self.wire.set("master", to=False, back=False)
        master.kill()

    def bring(self):
        if self.wire:
            self.wire.set("master")
            self.wire.set("slave")

    def close(self):
        if self.wire:
            self.wire.close()


def round_of(machines, role, run, name, dice, rate):
    # A broker takes the port above its own, and tries the one 2 below.
    ports = [int(port) for port in subprocess.run(["bash", str(kill9.SERVERS), "ports", "3"], check=True, capture_output=True).stdout.split()]
    home = machines.address("home", ports[0])
    name_server = NameServer(run / "ns", home, machines.enter("home"))
    keys = {"mappedFileSizeCommitLog": 16 << 20, "flushDiskType": "ASYNC_FLUSH"}
    master = Replica(run / "master", machines.address("master", ports[1]), home, {**keys, "brokerRole": role, "brokerId": 0}, machines.enter("master"))
    slave = Replica(run / "slave", machines.address("slave", ports[2]), home, {**keys, "brokerRole": "SLAVE", "brokerId": 1}, machines.enter("slave"))
    everybody = (name_server, master, slave)
    machines.bring()
    try:
        for one in everybody:
            one.start()
        kill9.create_topic(ports[1], master.address[0])
        master.await_slaves(1)
        machines.away(AWAY_SECONDS)
        return lose(machines, master, slave, role, name, dice, rate)
    finally:
        for one in everybody:
            one.kill()


def lose(machines, master, slave, role, name, dice, rate):
    watch = Watch(master)
    load = Load(master, name, rate)
    life = dice.uniform(1.5, 4.0)
    time.sleep(life)
    took = time.monotonic() - load.begun
    machines.lose(master)
    load.join()
    watch.end()
    records, end = master.records()
    shutil.rmtree(master.directory)
    settle(slave)
    slave.stop()
    kept = slave.records()[1]
    machines.bring()
    begun = time.monotonic()
    slave.start(brokerRole="ASYNC_MASTER", brokerId=0)
    promoted = time.monotonic() - begun
    found, twice = kill9.pull_all(slave.address[1], host=slave.address[0])

    sizes = {place: len(record) for place, record in records}
    lost = {identity: place for identity, (_, _, place) in load.acked.items() if identity not in found}
    lost_bytes = sum(sizes.get(place, 0) for place in lost.values())
    inside = [identity for identity, place in lost.items() if place < kept]
    moved = [identity for identity, place in load.acked.items() if found.get(identity, place[:2]) != place[:2]]
    strange = [identity for identity in found if identity not in load.sent]
    reported = min([one["acked"] for one in watch.last["slaves"]], default=0)
    bound = end - reported + BATCH
    figures = (f"killed after {life:.1f} s at {len(load.sent) / took:.0f} sends/s, acked {len(load.acked)}, others {load.others}, "
               f"lost {len(lost)} messages, {lost_bytes} bytes; log at the master {end}, at the slave {kept}, in flight and one "
               f"batch {bound} bytes (behind in haStatus: median {int(statistics.median(watch.behind))}, largest {max(watch.behind)}), "
               f"promoted in {promoted * 1000:.0f} ms")
    wrong = twice + moved + strange + inside
    if wrong:
        raise Broken(f"{figures}; duplicates {len(twice)}, moved {len(moved)}, never sent {len(strange)}, "
                     f"lost below the slave's end {len(inside)}, e.g. {wrong[0]}")
    if not load.acked or len(load.sent) / took < rate * 0.5:
        raise Broken(f"{figures}; this machine did not send {rate} messages a second")
    if role == "SYNC_MASTER" and lost:
        raise Broken(f"{figures}; expected: none lost, e.g. {next(iter(lost))}")
    if lost_bytes > bound or len(lost) > rate:
        raise Broken(f"{figures}; more is lost than was in flight")
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--rate", type=int, default=5000)
    options = parser.parse_args()
    try:
        replicas.binary()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    dice = random.Random(options.seed)
    print(f"seed {options.seed} (when to kill; the load itself is the host's)")
    run = replicas.run_directory("loss")
    machines = Machines()
    passed, failed = 0, 0
    for number in range(options.rounds):
        role = "ASYNC_MASTER" if number % 2 == 0 else "SYNC_MASTER"
        try:
            print(f"ok round {number} {role}: {round_of(machines, role, run / str(number), f'R{number}', dice, options.rate)}", flush=True)
            passed += 1
            shutil.rmtree(run / str(number), ignore_errors=True)
        except (Broken, OSError, subprocess.SubprocessError) as broken:
            print(f"FAIL round {number} {role}: {broken}", flush=True)
            failed += 1
    machines.close()
    if failed == 0:
        shutil.rmtree(run, ignore_errors=True)
    else:
        print(f"logs are in {run.relative_to(replicas.TOP)}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
