#!/usr/bin/env python3
"""Latency of sends while old files are deleted, against the same without: in turns, on one broker.

    retention.py [ROUNDS]            default 5; Environment: HOTFIRE (the release binary)

Each phase writes what is to be deleted first, then sends at a rate for some seconds. In the phases "with" the
broker is asked to delete its expired files (request 329; fileReservedTime=0), which are 20 of 64 MB or more.
Prints one JSON object and `N passed, M failed`: it fails when the median p99 with deletion is above 1.5 times that
without, or when fewer files went than were wanted.
"""
import json, os, pathlib, socket, statistics, struct, subprocess, sys, tempfile, time

TOP = pathlib.Path(__file__).resolve().parents[2]
HOTFIRE = os.environ.get("HOTFIRE", str(TOP / "target/release/hotfire"))
SEGMENT = 64 << 20
FILES = 20
RATE, SECONDS = 3000, 10
BODY = 4096
ROUND_MS = 300  # between two rounds of deletions


def free_ports(count):
    # A broker also takes the ports 2 below and 1 above.
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def ask_for_deletion(port):
    header = json.dumps({"code": 329, "language": "JAVA", "version": 399, "opaque": 1, "flag": 0}).encode()
    with socket.create_connection(("127.0.0.1", port)) as to:
        to.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
        size = struct.unpack(">I", to.recv(4, socket.MSG_WAITALL))[0]
        answer = to.recv(size, socket.MSG_WAITALL)
        assert json.loads(answer[4:])["code"] == 0, answer


def bench(port, *args):
    command = [HOTFIRE, "bench", "send", "-b", f"127.0.0.1:{port}", "-s", str(BODY), "--json", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def files(log):
    return len([one for one in log.iterdir() if one.name.isdigit()])


def let_requests_end(log):
    """A request is good for 20 rounds, each of which may wait 5 s for a snapshot: it must not delete
    what the next phase writes."""
    before, since = files(log), time.monotonic()
    while time.monotonic() - since < 12:
        time.sleep(1)
        if files(log) != before:
            before, since = files(log), time.monotonic()


def phase(port, log, deletes):
    count = (FILES + 3) * SEGMENT // (BODY + 200)
    bench(port, "--count", str(count), "--warmup", "0").communicate()
    time.sleep(2)  # what was written is synced, or it may not go
    before = files(log)
    run = bench(port, "--rate", str(RATE), "--seconds", str(SECONDS), "--warmup", "1", "-c", "16", "-i", "4")
    gone = 0
    if deletes:
        time.sleep(2)
        ask_for_deletion(port)
    out = json.loads(run.communicate()[0])
    if deletes:
        written = (SECONDS + 1) * RATE * (BODY + 200) // SEGMENT
        gone = before + written - files(log)
    assert out["failed"] == 0, out["failure"]
    return {"deleted": gone, "latencyMs": out["latencyMs"], "messagesPerSecond": out["messagesPerSecond"]}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(dir=os.environ.get("RETENTION_DIR")) as home:
        home = pathlib.Path(home)
        [port] = free_ports(1)
        hour = (time.localtime().tm_hour + 12) % 24
        (home / "broker.conf").write_text(
            f"listenPort={port}\nbrokerIP1=127.0.0.1\nbindAddress=127.0.0.1\nbrokerName=broker-a\n"
            f"storePathRootDir={home}/store\nstorePathCommitLog={home}/store/commitlog\n"
            f"mappedFileSizeCommitLog={SEGMENT}\nfileReservedTime=0\ndeleteWhen={hour:02}\n"
            "diskMaxUsedSpaceRatio=95\ndiskSpaceCleanForciblyRatio=99\ndiskSpaceWarningLevelRatio=99\n"
            f"cleanResourceInterval={ROUND_MS}\n"
        )
        broker = subprocess.Popen([HOTFIRE, "broker", "-c", str(home / "broker.conf")],
                                  stdout=open(home / "broker.log", "w"), stderr=subprocess.STDOUT)
        try:
            for _ in range(100):
                if "boot success" in (home / "broker.log").read_text():
                    break
                time.sleep(0.1)
            log = home / "store/commitlog"
            phase(port, log, True)  # nobody is measured cold
            results = {"without": [], "with": []}
            for _ in range(rounds):
                for name in results:
                    let_requests_end(log)
                    results[name].append(phase(port, log, name == "with"))
                    print(name, json.dumps(results[name][-1]), file=sys.stderr)
        finally:
            if broker.poll() is not None:
                print(f"the broker ended with {broker.returncode}", file=sys.stderr)
                print((home / "broker.log").read_text()[-4000:], file=sys.stderr)
            broker.terminate()
            broker.wait(30)
    p99 = {name: statistics.median(one["latencyMs"]["p99"] for one in all) for name, all in results.items()}
    fewest = min(one["deleted"] for one in results["with"])
    ratio = p99["with"] / p99["without"]
    print(json.dumps({"rate": RATE, "bodyBytes": BODY, "fileBytes": SEGMENT, "fewestDeleted": fewest,
                      "medianP99Ms": p99, "ratio": round(ratio, 2), "phases": results}))
    failed = int(ratio > 1.5) + int(fewest < FILES)
    print(f"{2 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
