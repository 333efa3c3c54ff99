#!/usr/bin/env python3
"""Starts a broker and says how long it took to listen, and what it holds at idle.
measure.py LABEL PORT HOW DIR COMMAND...   HOW: stop (SIGTERM at the end) or kill (SIGKILL)"""
import os
import signal
import socket
import subprocess
import sys
import time

LIMIT_S = 1800
IDLE_S = 8


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    label, port, how, home, command = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]
    assert not listens(port), f"port {port} is in use"
    environment = dict(os.environ, HOME=home, ROCKETMQ_HOME=home)
    with open(f"{home}/{label.translate(str.maketrans(' /', '--'))}.log", "wb") as log:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while not listens(port):
            if process.poll() is not None:
                sys.exit(f"{label}: ended with {process.returncode}, see {log.name}")
            if time.monotonic() - begun > LIMIT_S:
                process.kill()
                sys.exit(f"{label}: not listening after {LIMIT_S} s")
            time.sleep(0.001)
        ms = (time.monotonic() - begun) * 1000
        time.sleep(IDLE_S)
        with open(f"/proc/{process.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        kb = {name: int(fields[name].split()[0]) for name in ("RssAnon", "RssFile", "VmHWM")}
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
        with open(f"/proc/{process.pid}/maps") as maps:
            mapped = sum(1 for line in maps if "/store/" in line)
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        stopping = time.monotonic()
        process.wait()
        print(f"| {label} | {ms:.0f} | {kb['RssAnon'] // 1024} | {kb['RssFile'] // 1024} | {files} | {mapped} | "
              f"{time.monotonic() - stopping:.1f} |", flush=True)


main()
