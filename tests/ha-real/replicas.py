"""Brokers of one name as real processes, their name server, and how their logs stand. For loss.py and net.py."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "kill9"))
import kill9  # noqa: E402
from kill9 import Broken, Connection  # noqa: E402,F401

HA_STATUS = 60004
MAGIC, BLANK = 0xDAA320A7, 0xCBD43194
STATUSES = {0: "SEND_OK", 10: "FLUSH_DISK_TIMEOUT", 11: "SLAVE_NOT_AVAILABLE", 12: "FLUSH_SLAVE_TIMEOUT"}


def binary():
    """Builds when no HOTFIRE is given, as kill9.py does."""
    kill9.prepare("hotfire")
    return os.environ["HOTFIRE"]


class Process:
    """One server. `enter` is put before its command line (a network namespace)."""

    def __init__(self, directory, address, enter=()):
        self.directory, self.address, self.enter = directory, address, list(enter)
        self.process = None
        directory.mkdir(parents=True, exist_ok=True)

    def start(self, *arguments):
        with open(self.directory / "stdout.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.enter, os.environ["HOTFIRE"], *map(str, arguments)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, HOME=str(self.directory)))
        self.await_port()

    def await_port(self):
        begun = time.monotonic()
        while True:
            try:
                socket.create_connection(self.address, timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise Broken(f"{self.directory.name} ended with exit code {self.process.returncode}: {self.tail()}") from None
                if time.monotonic() - begun > 60:
                    raise Broken(f"{self.directory.name} did not listen within 60 s: {self.tail()}") from None
                time.sleep(0.01)

    def tail(self):
        return (self.directory / "stdout.log").read_text(errors="replace")[-1500:]

    def end(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
        if self.process:
            self.process.wait(40)
            self.process = None

    def kill(self):
        self.end(signal.SIGKILL)


class NameServer(Process):
    def start(self):
        conf = self.directory / "namesrv.conf"
        conf.write_text(f"listenPort={self.address[1]}\n")
        super().start("namesrv", "-c", conf)


class Replica(Process):
    """A broker; `keys` are those of broker.conf."""

    def __init__(self, directory, address, name_server, keys, enter=()):
        super().__init__(directory, address, enter)
        host, port = address
        store = directory / "store"
        self.log = store / "commitlog"
        self.keys = {
            "brokerClusterName": "DefaultCluster", "brokerName": "replicas", "listenPort": port, "brokerIP1": host,
            "brokerIP2": host, "namesrvAddr": "%s:%d" % name_server, "storePathRootDir": store,
            "storePathCommitLog": self.log, "mappedFileSizeConsumeQueue": 60000, "maxHashSlotNum": 5000,
            "maxIndexNum": 20000, "waitTimeMillsInSendQueue": 10000, "osPageCacheBusyTimeOutMills": 10000, **keys,
        }

    def start(self, **changed):
        self.keys.update(changed)
        conf = self.directory / "broker.conf"
        conf.write_text("".join(f"{key}={value}\n" for key, value in self.keys.items()))
        super().start("broker", "-c", conf)

    def stop(self):
        self.end(signal.SIGTERM)

    def connect(self):
        return Connection(self.address[1], self.address[0])

    def status(self, connection=None):
        """What `hotfire admin haStatus --json` prints; it asks the same."""
        one = connection or self.connect()
        one.send(HA_STATUS, {})
        header, body = one.receive()
        if connection is None:
            one.close()
        if header["code"] != 0:
            raise Broken(f"haStatus: code {header['code']}, {header.get('remark')}")
        return json.loads(body)

    def await_slaves(self, count, seconds=30):
        """Until so many slaves have all of this log."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if len(status["slaves"]) >= count and all(one["behindBytes"] == 0 for one in status["slaves"]):
                return status
            if time.monotonic() > deadline:
                raise Broken(f"not {count} slaves with all of the log after {seconds} s: {status}")
            time.sleep(0.02)

    def records(self):
        """(place, size) of every record as the files hold them, and where the log ends."""
        found, end = [], 0
        for file in sorted(one for one in self.log.iterdir() if re.fullmatch(r"\d{20}", one.name)):
            base, data, at = int(file.name), file.read_bytes(), 0
            while at + 8 <= len(data):
                size, magic = struct.unpack_from(">II", data, at)
                if magic == BLANK:
                    end = base + len(data)
                    break
                if magic != MAGIC or size <= 91 or at + size > len(data):
                    return found, end
                found.append((base + at, data[at:at + size]))
                at += size
                end = base + at
        return found, end


def equal_logs(one, other):
    """Both logs hold the same records at the same places. Returns how many."""
    mine, my_end = one.records()
    theirs, their_end = other.records()
    if my_end != their_end or mine != theirs:
        part = next((n for n, pair in enumerate(zip(mine, theirs)) if pair[0] != pair[1]), min(len(mine), len(theirs)))
        raise Broken(f"the logs of {one.directory.name} and {other.directory.name} differ at record {part} "
                     f"of {len(mine)} and {len(theirs)}; they end at {my_end} and {their_end}")
    return len(mine)


def run_directory(name):
    run = TOP / "target" / "ha-real" / f"{name}-{os.getpid()}"
    shutil.rmtree(run, ignore_errors=True)
    return run
