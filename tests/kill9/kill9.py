#!/usr/bin/env python3
"""kill9.py ROUNDS [--seed N] [--server hotfire|java]: a real broker, killed under load, must keep what it acknowledged.

Rounds alternate between two stores, SYNC_FLUSH and ASYNC_FLUSH, that live on from round to round. A round loads the
broker over plain sockets, kills it with SIGKILL at a random moment (sometimes once more while it recovers), starts it
again, and pulls everything there is. It fails when a message that was acknowledged in any round so far is missing,
is there twice, has another body or another offset than its answer said, or when a message appears that nobody sent.
Every sixth message has a time of its own, up to 1.5 s ahead, so that such messages wait when the broker dies: each comes
once it is due, and at most one per kill a second time (ADR-0024). Java's broker knows no such times.

One line per round, last `N passed, M failed`. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), COMPAT_KIT for `--server java`.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

TOP = pathlib.Path(__file__).resolve().parents[2]
SERVERS = TOP / "tests" / "compat" / "servers.sh"
TOPIC = "Kill9"
QUEUES = 4
CONNECTIONS = 8
WINDOW = 4
SEGMENT = 1 << 20
PULL_BATCH = 32
TIMED = 6  # every so many messages have a time of their own
DELAY_MS_MAX = 1500

SEND, PULL, MAX_OFFSET, MIN_OFFSET, CREATE_TOPIC = 310, 11, 30, 31, 17
NOT_FOUND_CODES = (19, 20)


class Broken(Exception):
    """The round shows that the broker broke its promise."""


class Connection:
    """One socket that speaks remoting commands with JSON headers."""

    def __init__(self, port, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.opaque = 0

    def send(self, code, fields, body=b""):
        self.opaque += 1
        header = json.dumps({
            "code": code, "language": "PYTHON", "version": 399, "opaque": self.opaque, "flag": 0,
            "extFields": {key: str(value) for key, value in fields.items()},
        }).encode()
        length = 4 + len(header) + len(body)
        self.socket.sendall(struct.pack(">II", length, len(header)) + header + body)
        return self.opaque

    def receive(self):
        head = self.file.read(8)
        if len(head) < 8:
            raise ConnectionError("closed")
        length, header_length = struct.unpack(">II", head)
        rest = self.file.read(length - 4)
        if len(rest) < length - 4:
            raise ConnectionError("closed inside a frame")
        header_length &= 0xFFFFFF
        return json.loads(rest[:header_length]), rest[header_length:]

    def ask(self, code, fields):
        self.send(code, fields)
        return self.receive()

    def close(self):
        self.file.close()
        self.socket.close()


def body_of(identity):
    """The body is a function of the id, so that what comes back can be judged without a table of bodies."""
    digest = hashlib.sha256(identity.encode()).digest()
    length = 16 + int.from_bytes(digest[:2], "big") % 3000
    return (identity.encode() + b"|" + digest * (length // 32 + 1))[:length + len(identity)]


class Broker:
    def __init__(self, kind, directory, flush, port):
        self.kind, self.directory, self.flush, self.port = kind, directory, flush, port
        self.process = None
        directory.mkdir(parents=True)
        self.conf = directory / "broker.conf"
        store = directory / "store"
        self.conf.write_text(f"""brokerClusterName=DefaultCluster
brokerName=kill9
brokerId=0
listenPort={port}
brokerIP1=127.0.0.1
brokerIP2=127.0.0.1
storePathRootDir={store}
storePathCommitLog={store}/commitlog
brokerRole=ASYNC_MASTER
flushDiskType={flush}
mappedFileSizeCommitLog={SEGMENT}
mappedFileSizeConsumeQueue=60000
maxHashSlotNum=5000
maxIndexNum=20000
waitTimeMillsInSendQueue=10000
osPageCacheBusyTimeOutMills=10000
""")

    def spawn(self):
        """Starts the process without waiting for it."""
        with open(self.directory / "stdout.log", "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["HOTFIRE"], "broker", "-c", str(self.conf)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, HOME=str(self.directory)))

    def start(self):
        """Returns the milliseconds until it listened."""
        begun = time.monotonic()
        if self.kind == "java":
            subprocess.run(["bash", str(SERVERS), "broker", "java", str(self.conf), str(self.directory)],
                           check=True, stdout=subprocess.DEVNULL)
        else:
            self.spawn()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return int((time.monotonic() - begun) * 1000)
            except OSError:
                if self.process and self.process.poll() is not None:
                    tail = (self.directory / "stdout.log").read_text(errors="replace")[-2000:]
                    raise Broken(f"the broker ended with exit code {self.process.returncode}: {tail}") from None
                if time.monotonic() - begun > 60:
                    raise Broken("the broker did not listen within 60 s") from None
                time.sleep(0.01)

    def kill(self):
        if self.kind == "java":
            os.kill(int((self.directory / "pid").read_text()), signal.SIGKILL)
            time.sleep(0.2)
        elif self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Load:
    """Threads that send until their connection breaks; what they know afterwards is what counts."""

    def __init__(self, port, round_name, with_times=False):
        self.with_times = with_times
        self.timed = set()
        self.sent = set()
        self.acked = {}
        self.refused = {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(port, f"{round_name}C{number}", number), daemon=True)
                        for number in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def run(self, port, name, number):
        sent, timed, acked, refused, waiting = set(), set(), {}, {}, {}
        try:
            connection = Connection(port)
            serial = 0
            while True:
                while len(waiting) < WINDOW:
                    identity = f"{name}N{serial}"
                    more = ""
                    if self.with_times and serial % TIMED == 0:
                        timed.add(identity)
                        more = f"TIMER_DELAY_MS\x01{100 + serial * 37 % (DELAY_MS_MAX - 100)}\x02"
                    fields = {
                        "a": "kill9", "b": TOPIC, "c": "TBW102", "d": QUEUES, "e": (number + serial) % QUEUES, "f": 0,
                        "g": int(time.time() * 1000), "h": serial, "j": 0, "k": "false", "m": "false",
                        "i": f"UNIQ_KEY\x01{identity}\x02TAGS\x01t{serial % 3}\x02{more}",
                    }
                    sent.add(identity)
                    waiting[connection.send(SEND, fields, body_of(identity))] = identity
                    serial += 1
                header, _ = connection.receive()
                identity = waiting.pop(header["opaque"])
                if header["code"] == 0:
                    reply = header["extFields"]
                    acked[identity] = (int(reply["queueId"]), int(reply["queueOffset"]))
                else:
                    refused[identity] = (header["code"], header.get("remark"))
        except OSError:
            pass
        with self.lock:
            self.sent |= sent
            self.timed |= timed
            self.acked.update(acked)
            self.refused.update(refused)

    def join(self):
        for thread in self.threads:
            thread.join(30)
            if thread.is_alive():
                raise Broken("a connection stayed open after the kill")


def units(body):
    """(queue, offset, topic, body, properties) of each message unit of a pull's answer."""
    at = 0
    while at < len(body):
        total, _, crc, queue, _, offset, _, sys_flag = struct.unpack_from(">IIIIIQQI", body, at)
        born = 20 if sys_flag & 0x10 else 8
        store = 20 if sys_flag & 0x20 else 8
        place = at + 40 + 8 + born + 8 + store + 4 + 8
        length, = struct.unpack_from(">I", body, place)
        content = body[place + 4:place + 4 + length]
        place += 4 + length
        topic_length = body[place]
        topic = body[place + 1:place + 1 + topic_length].decode()
        place += 1 + topic_length
        properties_length, = struct.unpack_from(">H", body, place)
        text = body[place + 2:place + 2 + properties_length].decode()
        if zlib.crc32(content) & 0x7FFFFFFF != crc:
            raise Broken(f"queue {queue} offset {offset}: body CRC {crc:#x} does not fit the body")
        properties = dict(pair.partition("\x01")[::2] for pair in text.split("\x02") if pair)
        yield queue, offset, topic, content, properties
        at += total


def pull_all(port, torn=None, host="127.0.0.1", unread=frozenset()):
    """Every message of the topic: id to (queue, offset); the ids found twice. Given `torn`, records with a NUL in
    their properties are put there instead: 4.9.3 takes a record that the power tore for whole when its body is (W-04).
    What lies at the (queue, offset) in `unread` is not asked for."""
    found, twice = {}, []
    connection = Connection(port, host)
    for queue in range(QUEUES):
        place = {"topic": TOPIC, "queueId": queue}
        end = int(connection.ask(MAX_OFFSET, place)[0]["extFields"]["offset"])
        offset = int(connection.ask(MIN_OFFSET, place)[0]["extFields"]["offset"])
        while offset < end:
            if (queue, offset) in unread:
                offset += 1
                continue
            header, body = connection.ask(PULL, {
                "consumerGroup": "kill9", "topic": TOPIC, "queueId": queue, "queueOffset": offset,
                "maxMsgNums": PULL_BATCH, "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0,
                "subscription": "*", "subVersion": 0, "expressionType": "TAG"})
            if header["code"] != 0:
                raise Broken(f"queue {queue} offset {offset} of {end}: code {header['code']}, {header.get('remark')}")
            for queue_id, at, topic, content, properties in units(body):
                if torn is not None and any("\0" in name + value for name, value in properties.items()):
                    torn.append((queue, at))
                    offset += 1
                    continue
                identity = properties["UNIQ_KEY"]
                if (queue_id, at, topic) != (queue, offset, TOPIC):
                    raise Broken(f"queue {queue} offset {offset}: found {topic} queue {queue_id} offset {at}")
                if content != body_of(identity):
                    raise Broken(f"{identity}: the body is not what was sent")
                if identity in found:
                    twice.append(identity)
                found[identity] = (queue, at)
                offset += 1
                if (queue, offset) in unread:
                    break
    connection.close()
    return found, twice


def settle(port):
    """The Java broker fills its queues a moment after it has started to listen."""
    last = None
    for _ in range(200):
        connection = Connection(port)
        ends = [connection.ask(MAX_OFFSET, {"topic": TOPIC, "queueId": queue})[0]["extFields"]["offset"]
                for queue in range(QUEUES)]
        connection.close()
        if ends == last:
            return
        last = ends
        time.sleep(0.25)


class Store:
    """One store directory, and all that was ever sent to it."""

    def __init__(self, broker):
        self.broker = broker
        self.sent, self.acked = set(), {}
        # Those with a time of their own; how many of them were acknowledged, and how often the broker was killed.
        self.timed, self.promised, self.kills = set(), set(), 0

    def round(self, name, dice):
        load = Load(self.broker.port, name, self.broker.kind != "java")
        life = dice.uniform(0.2, 2.0)
        time.sleep(life)
        self.broker.kill()
        load.join()
        last_due = time.monotonic() + DELAY_MS_MAX / 1000
        self.sent |= load.sent
        self.timed |= load.timed
        self.promised |= load.acked.keys() & load.timed
        # The answer to one with a time of its own names the place where it waits.
        self.acked.update((identity, place) for identity, place in load.acked.items() if identity not in load.timed)
        if load.refused:
            raise Broken(f"{len(load.refused)} sends refused, e.g. {next(iter(load.refused.values()))}")
        again = 0
        while self.broker.kind != "java" and dice.random() < 0.3 and again < 3:
            self.broker.spawn()  # killed once more, perhaps in the middle of its recovery
            time.sleep(dice.uniform(0.0, 0.15))
            self.broker.kill()
            again += 1
        booted = self.broker.start()
        self.kills += 1 + again
        if self.broker.kind == "java":
            settle(self.broker.port)
        found, twice = self.found(last_due)
        again_timed = [identity for identity in twice if identity in self.timed]
        twice = [identity for identity in twice if identity not in self.timed]
        missing = [identity for identity in [*self.acked, *self.promised] if identity not in found]
        moved = [identity for identity, place in self.acked.items() if found.get(identity, place) != place]
        strange = [identity for identity in found if identity not in self.sent]
        figures = (f"killed after {int(life * 1000)} ms and {again} times in recovery, acked {len(load.acked)} "
                   f"(in all {len(self.acked) + len(self.promised)}, {len(self.promised)} with a time), found {len(found)}, "
                   f"missing {len(missing)}, duplicates {len(twice)} and {len(again_timed)} after {self.kills} kills, "
                   f"listening after {booted} ms")
        if len(again_timed) > self.kills:
            raise Broken(f"{figures}; e.g. {again_timed[0]}")
        if missing or twice or moved or strange or not load.acked:
            raise Broken(f"{figures}, moved {len(moved)}, never sent {len(strange)}; "
                         f"e.g. {(missing + twice + moved + strange + ['nothing was acknowledged'])[0]}")
        return figures


    def found(self, last_due):
        """All that is there once everything is due: a busy machine has some seconds more."""
        time.sleep(max(0.0, last_due - time.monotonic()) if self.timed else 0.0)
        for _ in range(20):
            found, twice = pull_all(self.broker.port)
            if self.promised <= found.keys():
                break
            time.sleep(0.25)
        return found, twice


def free_port():
    return int(subprocess.run(["bash", str(SERVERS), "ports", "1"], check=True, capture_output=True).stdout)


def create_topic(port, host="127.0.0.1"):
    connection = Connection(port, host)
    header, _ = connection.ask(CREATE_TOPIC, {
        "topic": TOPIC, "defaultTopic": "TBW102", "readQueueNums": QUEUES, "writeQueueNums": QUEUES, "perm": 6,
        "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"})
    connection.close()
    if header["code"] != 0:
        raise Broken(f"create topic: code {header['code']}, {header.get('remark')}")


def prepare(kind):
    if kind == "java":
        os.environ.setdefault("COMPAT_KIT", str(TOP / "target" / "compat" / "kit"))
    elif "HOTFIRE" not in os.environ:
        subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--release", "--bin", "hotfire"], cwd=TOP, check=True)
        os.environ["HOTFIRE"] = str(TOP / "target" / "release" / "hotfire")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--server", choices=["hotfire", "java"], default="hotfire")
    options = parser.parse_args()
    try:
        prepare(options.server)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    dice = random.Random(options.seed)
    print(f"seed {options.seed} (when to kill; the load itself is the host's)")
    run = TOP / "target" / "kill9" / f"run-{os.getpid()}"
    shutil.rmtree(run, ignore_errors=True)
    stores, passed, failed = {}, 0, 0
    try:
        for number in range(options.rounds):
            flush = "SYNC_FLUSH" if number % 2 == 0 else "ASYNC_FLUSH"
            try:
                if flush not in stores:
                    broker = Broker(options.server, run / flush, flush, free_port())
                    broker.start()
                    create_topic(broker.port)
                    stores[flush] = Store(broker)
                print(f"ok round {number} {flush}: {stores[flush].round(f'R{number}', dice)}", flush=True)
                passed += 1
            except (Broken, OSError, subprocess.CalledProcessError) as broken:
                print(f"FAIL round {number} {flush}: {broken}", flush=True)
                failed += 1
                break  # the stores go on from round to round: what follows would only repeat it
    finally:
        for store in stores.values():
            store.broker.kill()
    if failed == 0:
        shutil.rmtree(run, ignore_errors=True)
    else:
        print(f"the stores are in {run.relative_to(TOP)}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed == options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
