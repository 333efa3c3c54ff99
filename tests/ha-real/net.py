#!/usr/bin/env python3
"""net.py [--markdown] [--only links|masters]: a SYNC_MASTER and two slaves on machines of their own, whose links are cut and delayed.

Needs root, `ip` and /dev/net/tun (see wire.py). A client sends all the time; each phase counts statuses and takes times:
  both slaves: SEND_OK; one away: SEND_OK through the other; both away: FLUSH_SLAVE_TIMEOUT after slaveTimeout, and once
  haHousekeepingInterval has passed SLAVE_NOT_AVAILABLE at once; links back: SEND_OK again, and the logs are the same; slow links:
  an answer takes as long as there and back. A link is cut in both directions, in one, or its device is down. At last the master is
  cut off from everybody, a slave is promoted, and the old master comes back: it must end, and as a slave give up what only it has.

One line per phase, a table with --markdown, last `N passed, M failed`. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), CARGO.
"""

import argparse
import collections
import shutil
import statistics
import subprocess
import sys
import threading
import time

import replicas
from replicas import Broken, NameServer, Replica, kill9
from wire import Unable, Wire

TIMEOUT, HOUSEKEEPING, HEARTBEAT = 1.0, 3.0, 0.5  # slaveTimeout, haHousekeepingInterval, haSendHeartbeatInterval
SLACK = 0.4  # of a busy machine
BACK_WITHIN = 15.0  # a dial that is under way when the link comes back ends after 5 s, and the next pause is 5 s at most
THREADS = 8
PAUSE = 0.02
OK, NONE, LATE = "SEND_OK", "SLAVE_NOT_AVAILABLE", "FLUSH_SLAVE_TIMEOUT"


class Client:
    """Sends one after another on each of a few connections, all the time."""

    def __init__(self, master):
        self.master, self.results, self.ends = master, [], False
        self.errors = []
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        try:
            connection = self.master.connect()
            serial = 0
            while not self.ends:
                identity = f"{id(self)}C{number}N{serial}"
                fields = {
                    "a": "net", "b": kill9.TOPIC, "c": "TBW102", "d": kill9.QUEUES, "e": number % kill9.QUEUES, "f": 0,
                    "g": int(time.time() * 1000), "h": 0, "j": 0, "k": "false", "m": "false", "i": f"UNIQ_KEY\x01{identity}\x02",
                }
                begun = time.monotonic()
                connection.send(kill9.SEND, fields, kill9.body_of(identity))
                header, _ = connection.receive()
                status = replicas.STATUSES.get(header["code"], f"code {header['code']}")
                self.results.append((begun, time.monotonic() - begun, status))
                serial += 1
                time.sleep(PAUSE)
        except OSError as error:
            self.errors.append(str(error))

    def end(self):
        self.ends = True
        for thread in self.threads:
            thread.join(30)


class Report:
    def __init__(self):
        self.rows, self.passed, self.failed = [], 0, 0

    def row(self, name, results, wanted, least=0.0, most=None):
        """All answers have one of the statuses; the median latency is between `least` and `most` seconds."""
        counts = collections.Counter(status for _, _, status in results)
        latencies = [latency for _, latency, _ in results]
        median, largest = (statistics.median(latencies), max(latencies)) if latencies else (0.0, 0.0)
        counted = ", ".join(f"{status} {count}" for status, count in sorted(counts.items())) or "no answers"
        figures = f"{counted}; median {median * 1000:.1f} ms, largest {largest * 1000:.1f} ms"
        why = []
        if not results or any(status not in wanted for status in counts):
            why.append(f"expected {' or '.join(wanted)}")
        if median < least or (most is not None and median > most):
            why.append(f"expected a median between {least * 1000:.0f} and {(most or 0) * 1000:.0f} ms")
        self.rows.append((name, counted, median * 1000, largest * 1000))
        self.line(name, figures, why)

    def line(self, name, figures, why=()):
        if why:
            self.failed += 1
            print(f"FAIL {name}: {figures}; {'; '.join(why)}", flush=True)
        else:
            self.passed += 1
            print(f"ok {name}: {figures}", flush=True)

    def markdown(self):
        print("\n| links | answers | median ms | largest ms |\n| --- | --- | ---: | ---: |")
        for name, counted, median, largest in self.rows:
            print(f"| {name} | {counted} | {median:.1f} | {largest:.1f} |")
        print()


class Town:
    def __init__(self, run, wire):
        self.wire, self.report = wire, Report()
        wire.go_to("home")
        home = (wire.address["home"], 9876)
        keys = {"flushDiskType": "ASYNC_FLUSH", "mappedFileSizeCommitLog": 4 << 20, "slaveTimeout": int(TIMEOUT * 1000),
                "haHousekeepingInterval": int(HOUSEKEEPING * 1000), "haSendHeartbeatInterval": int(HEARTBEAT * 1000),
                "registerNameServerPeriod": 10000}

        def replica(name, **more):
            return Replica(run / name, (wire.address[name], 10911), home, {**keys, **more}, wire.enter(name))

        self.name_server = NameServer(run / "home", home, wire.enter("home"))
        self.master = replica("master", brokerRole="SYNC_MASTER", brokerId=0)
        self.slaves = [replica("one", brokerRole="SLAVE", brokerId=1), replica("two", brokerRole="SLAVE", brokerId=2)]
        self.client = None

    def everybody(self):
        return [self.name_server, self.master, *self.slaves]

    def kill(self):
        for one in self.everybody():
            one.kill()

    def take(self, seconds, since=None):
        """What was sent and answered in the next seconds."""
        begun = since or time.monotonic()
        time.sleep(seconds)
        until = time.monotonic()
        return [one for one in self.client.results if begun <= one[0] and one[0] + one[1] <= until]

    def phase(self, name, seconds, wanted, least=0.0, most=None):
        self.report.row(name, self.take(seconds), wanted, least, most)

    def both_away(self, name, cut, mend):
        """From SEND_OK over FLUSH_SLAVE_TIMEOUT to SLAVE_NOT_AVAILABLE, and back."""
        cut()
        begun = time.monotonic()
        time.sleep(0.05)  # what was under way
        results = self.take(HOUSEKEEPING + TIMEOUT + SLACK + 2)
        late = [one for one in results if one[2] == LATE]
        none = [one for one in results if one[2] == NONE]
        odd = [one for one in results if one[2] not in (LATE, NONE)]
        self.report.row(f"{name}, at first", late + odd, [LATE], TIMEOUT - 0.05, TIMEOUT + SLACK)
        if late and max(one[1] for one in late) > TIMEOUT + 2 * SLACK:
            self.report.line(f"{name}, longest", f"{max(one[1] for one in late):.3f} s", [f"expected at most {TIMEOUT + 2 * SLACK} s"])
        self.report.row(f"{name}, then", [one for one in none if one[0] > begun + HOUSEKEEPING + SLACK], [NONE], 0.0, 0.1)
        # The first answer without a slave tells when the master gave them up.
        given_up = min((one[0] + one[1] for one in none), default=begun + 99) - begun
        why = [] if given_up < HOUSEKEEPING + TIMEOUT + SLACK else [f"expected at most {HOUSEKEEPING + TIMEOUT + SLACK} s"]
        self.report.line(f"{name}, given up", f"after {given_up:.1f} s", why)
        self.back(name, mend)

    def back(self, name, mend):
        mend()
        begun = time.monotonic()
        while not any(one[2] == OK for one in self.client.results[-THREADS:]) and time.monotonic() < begun + BACK_WITHIN:
            time.sleep(0.01)
        took = time.monotonic() - begun
        time.sleep(0.5)
        self.same(name, took)

    def same(self, name, took):
        """The client pauses; both slaves must have all, and the same."""
        self.client.end()
        try:
            self.master.await_slaves(2, 20)
            time.sleep(0.3)  # what they were told to be there is written
            records = [replicas.equal_logs(self.master, slave) for slave in self.slaves]
            why = [] if took < BACK_WITHIN else [f"expected SEND_OK within {BACK_WITHIN} s"]
            self.report.line(f"{name}, links back", f"SEND_OK after {took:.1f} s, {records[0]} records in all three logs", why)
        except Broken as broken:
            self.report.line(f"{name}, links back", f"SEND_OK after {took:.1f} s", [str(broken)])
        if self.client.errors:
            self.report.line(f"{name}, client", self.client.errors[0], ["expected no error"])
        self.client = Client(self.master)
        time.sleep(0.3)

    def each(self, **state):
        for name in ("one", "two"):
            self.wire.set(name, **state)

    def run(self, only):
        self.name_server.start()
        self.master.start()
        kill9.create_topic(self.master.address[1], self.master.address[0])
        self.client = Client(self.master)
        time.sleep(0.3)
        self.phase("no slave yet", 1, [NONE], 0, 0.1)
        for slave in self.slaves:
            slave.start()
        self.back("slaves start", lambda: None)
        self.phase("both there", 2, [OK], 0, 0.1)
        if only in (None, "links"):
            self.links()
        if only in (None, "masters"):
            self.masters()

    def links(self):
        wire = self.wire
        wire.set("one", to=False, back=False)
        time.sleep(0.05)
        self.phase("one cut", HOUSEKEEPING + 2, [OK], 0, 0.1)
        self.back("one cut", lambda: wire.set("one"))
        self.both_away("both cut", lambda: self.each(to=False, back=False), self.each)
        self.both_away("cut towards both", lambda: self.each(to=False), self.each)
        self.both_away("cut from both", lambda: self.each(back=False), self.each)
        self.both_away("both devices down", lambda: [wire.plug(name, False) for name in ("one", "two")],
                       lambda: [wire.plug(name, True) for name in ("one", "two")])
        for delay in (0.05, 0.2):
            label = f"{delay * 1000:.0f} ms each way"
            wire.set("one", delay=delay)
            time.sleep(3 * delay)
            self.phase(f"one with {label}", 2, [OK], 0, 0.1)
            wire.set("two", delay=delay)
            time.sleep(3 * delay)
            self.phase(f"both with {label}", 4, [OK], 2 * delay, 2 * delay + 0.1)
            self.each()
            self.same(f"both with {label}", 0)

    def masters(self):
        self.lost_tail()
        self.successor()

    def lost_tail(self):
        """The master's disk forgets what was written last: it is there again before the master writes."""
        self.client.end()
        self.master.await_slaves(2)
        earlier = self.master.directory.with_name("earlier")
        shutil.copytree(self.master.directory, earlier)
        self.client = Client(self.master)
        time.sleep(1)
        self.client.end()
        self.master.await_slaves(2)
        least, before = self.master.records()[1], self.master.directory
        self.master.kill()
        shutil.rmtree(before)
        earlier.rename(before)
        kept = self.master.records()[1]
        begun = time.monotonic()
        self.master.start()
        took, end = time.monotonic() - begun, self.master.records()[1]
        self.report.line("the master's disk forgot the tail", f"{end - kept} of {least - kept} bytes are there again, listening after {took:.1f} s",
                         [] if end >= least else ["expected all"])
        self.client = Client(self.master)
        self.back("the master's disk forgot the tail", lambda: None)

    def successor(self):
        """The master is cut off from everybody and takes messages all the same; a slave is promoted; then the link is back."""
        self.client.end()
        old, (new, third) = self.master, self.slaves
        self.wire.set("master", to=False, back=False)
        stored = []
        sender = threading.Thread(target=self.send_there, args=(old, stored), daemon=True)
        sender.start()
        new.stop()
        new.start(brokerRole="SYNC_MASTER", brokerId=0)
        self.master = new
        self.client = Client(new)
        begun = time.monotonic()
        while not any(one[2] == OK for one in self.client.results) and time.monotonic() < begun + 40:
            time.sleep(0.01)
        took = time.monotonic() - begun
        self.report.line("promotion while the old master is cut off", f"SEND_OK with the other slave {took:.1f} s after the start",
                         [] if took < 40 else ["expected SEND_OK within 40 s"])
        sender.join(30)
        self.phase("the new master and one slave", 2, [OK], 0, 0.1)
        self.wire.set("master")
        begun = time.monotonic()
        try:
            code = old.process.wait(40)
        except subprocess.TimeoutExpired:
            code = "none"
        took = time.monotonic() - begun
        self.report.line("the old master's link is back", f"it ended with exit code {code} after {took:.1f} s, {stored.count(NONE)} "
                         f"answers SLAVE_NOT_AVAILABLE and {stored.count(LATE)} FLUSH_SLAVE_TIMEOUT since the cut, {stored.count(OK)} SEND_OK",
                         [] if code == 255 and OK not in stored else ["expected exit code 255, and no SEND_OK"])
        old.kill()
        try:
            old.start()
            why = ["expected that it ends"]
        except Broken as broken:
            ended = str(broken)
            why = [] if "exit code 255" in ended and "be the master beside" in ended else [ended]
        self.report.line("the old master starts as master", "it is refused" if not why else "it is not refused as it should be", why)
        old.kill()
        old.start(brokerRole="SLAVE", brokerId=1)
        self.slaves = [old, third]
        self.same("the old master is a slave", 0)
        kept = sum(file.stat().st_size for file in (old.log.parent / "hotfire" / "cut").glob("*"))
        self.report.line("what it gave up", f"{kept} bytes in hotfire/cut", [] if kept else ["expected some"])

    def send_there(self, master, stored):
        """From the machine of the master itself."""
        self.wire.go_to("master")  # this thread only
        connection = master.connect()
        for serial in range(8):
            identity = f"cutN{serial}"
            connection.send(kill9.SEND, {
                "a": "net", "b": kill9.TOPIC, "c": "TBW102", "d": kill9.QUEUES, "e": 0, "f": 0, "g": int(time.time() * 1000), "h": 0,
                "j": 0, "k": "false", "m": "false", "i": f"UNIQ_KEY\x01{identity}\x02"}, kill9.body_of(identity))
            stored.append(replicas.STATUSES.get(connection.receive()[0]["code"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="the table, for docs/OPERATING.md")
    parser.add_argument("--only", choices=["links", "masters"])
    options = parser.parse_args()
    try:
        replicas.binary()
        wire = Wire(["home", "master", "one", "two"])
    except (Unable, subprocess.CalledProcessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    run = replicas.run_directory("net")
    town = Town(run, wire)
    report = town.report
    try:
        town.run(options.only)
    except (Broken, OSError, subprocess.SubprocessError) as error:
        report.line("the run itself", "ended early", [str(error)])
    finally:
        town.kill()
        wire.close()
    if options.markdown:
        report.markdown()
    if report.failed == 0:
        shutil.rmtree(run, ignore_errors=True)
    else:
        print(f"logs are in {run.relative_to(replicas.TOP)}")
    print(f"{report.passed} passed, {report.failed} failed")
    return 0 if report.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
