#!/usr/bin/env python3
"""sync_order.py [--seconds S] [--skip-control]: no reply leaves before the sync that makes its message durable.

The release broker runs under strace with SYNC_FLUSH and many producers. From the order of system calls this shows:
1. each reply with a message id was written after a sync of its segment returned that had *started after* the write of
   the whole record returned;
2. before the first reply for a segment, the directory was synced after the segment's name appeared;
3. every other name in the store that stayed was followed by a sync of its directory, too;
4. control: a build whose data sync does nothing fails the first check.

Last line `N passed, M failed`, on failure the first reply that left early. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), CARGO.
"""

import argparse
import bisect
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "tests" / "kill9"))
import kill9  # noqa: E402  (the load and the broker are the same)

CALLS = "pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,rename,renameat,renameat2,link,linkat," \
    "openat,mkdir,mkdirat,unlink,unlinkat,rmdir"
SYNCS = ("fdatasync", "fsync")
LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>(.*)|(\w+)\((.*))$")
ON_FILE = re.compile(r"^\d+<(.*?)>")
MESSAGE_ID = re.compile(r'msgId\\":\\"([0-9A-F]{32})\\"')
SEGMENT_NAME = re.compile(r"/commitlog/(\d{20})$")
# What the control build changes: exactly one place, so that it cannot rot unseen.
SYNC_TEXT = "file.sync_data().map_err(at(&path))"
NO_SYNC_TEXT = "Ok::<(), io::Error>(drop((file.clone(), path.clone())))"


class Early(Exception):
    """A promise about the order does not hold."""


class Call:
    """A system call: the lines at which it was entered and left, its arguments, its result."""

    __slots__ = ("name", "arguments", "entered", "left", "result")

    def __init__(self, name, arguments, entered):
        self.name, self.arguments, self.entered = name, arguments, entered
        self.left, self.result = None, None


def calls(path):
    """Every call of the trace. The order of lines is the order of entries and exits over all threads."""
    open_calls, found = {}, []
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines):
            match = LINE.match(line.rstrip("\n"))
            if not match:
                continue
            thread, resumed, rest, name, text = match.groups()
            if resumed:
                call = open_calls.pop(thread, None)
                if call is None:
                    continue
                text = rest
            else:
                call = Call(name, text, number)
                found.append(call)
            if text.endswith("<unfinished ...>"):
                if not resumed:
                    call.arguments = text.removesuffix("<unfinished ...>").rstrip()
                open_calls[thread] = call
                continue
            arguments, result = re.fullmatch(r"(.*)\) += (.*)", text, re.DOTALL).groups()
            call.arguments = call.arguments + arguments if resumed else arguments
            call.left, call.result = number, result.strip()
    return found


def succeeded(call):
    return call.result is not None and not call.result.startswith("-") and "INJECTED" not in call.result


class Segment:
    """What happened to one file of the commit log."""

    def __init__(self, base):
        self.base = base
        self.writes = []  # (entered, left, from, to), offsets inside the file
        self.syncs = []  # (entered, left)
        self.named = -1  # the line after which its name was there

    def close(self):
        """Prepares `durable_after`."""
        self.syncs.sort()
        self.starts = [entered for entered, _ in self.syncs]
        self.earliest_end = [left for _, left in self.syncs]
        for at in range(len(self.syncs) - 2, -1, -1):
            self.earliest_end[at] = min(self.earliest_end[at], self.earliest_end[at + 1])

    def durable_after(self, line):
        """The line at which the first sync returned that began after `line`; None without one."""
        at = bisect.bisect_right(self.starts, line)
        return self.earliest_end[at] if at < len(self.starts) else None


def history(trace):
    """Segments by base offset, syncs of directories by path, replies as (line, physical offset)."""
    segments, directory_syncs, replies = {}, {}, []

    def segment(path):
        match = SEGMENT_NAME.search(path)
        return segments.setdefault(int(match.group(1)), Segment(int(match.group(1)))) if match else None

    for call in calls(trace):
        on = ON_FILE.match(call.arguments)
        path = on.group(1) if on else ""
        if call.name in SYNCS and succeeded(call):
            if segment(path):
                segment(path).syncs.append((call.entered, call.left))
            else:
                directory_syncs.setdefault(path, []).append((call.entered, call.left))
        elif call.name.startswith("pwrite") and segment(path) and succeeded(call):
            offset = int(call.arguments.rsplit(",", 1)[1].strip() if call.name == "pwrite64" else 0)
            if call.name != "pwrite64":
                raise Early(f"{call.name} on {path}: this check knows pwrite64 only")
            segment(path).writes.append((call.entered, call.left, offset, offset + int(call.result)))
        elif call.name.startswith(("rename", "link")) and succeeded(call):
            names = re.findall(r'"([^"]*)"', call.arguments)
            if names and segment(names[-1]):
                segment(names[-1]).named = call.left
        elif call.name == "openat" and "O_CREAT" in call.arguments and succeeded(call):
            names = re.findall(r'"([^"]*)"', call.arguments)
            if names and segment(names[-1]) and segment(names[-1]).named < 0:
                segment(names[-1]).named = call.left
        elif call.name in ("write", "writev", "sendto", "sendmsg") and path.startswith(("socket:", "TCP:")):
            for message_id in MESSAGE_ID.findall(call.arguments):
                replies.append((call.entered, int(message_id[16:], 16)))
    for one in segments.values():
        one.close()
    return segments, directory_syncs, replies


def unsynced_names(trace, store):
    """How many names of the store were made durable. Raises Early at one that stayed and whose directory was never
    synced after it came. Staging names and the lock need no durability."""
    came, directory_syncs = {}, {}
    inside = str(store) + "/"
    for call in sorted((call for call in calls(trace) if succeeded(call)), key=lambda call: call.left):
        names = [name for name in re.findall(r'"([^"]*)"', call.arguments) if name.startswith(inside)]
        if call.name in SYNCS:
            directory_syncs.setdefault(ON_FILE.match(call.arguments).group(1), []).append(call.entered)
        elif call.name.startswith(("unlink", "rmdir")) and names:
            came.pop(names[0], None)
        elif call.name.startswith("rename") and names:
            came.pop(names[0], None)
            came[names[-1]] = call.left
        elif call.name.startswith(("link", "mkdir")) and names:
            came[names[-1]] = call.left
        elif call.name == "openat" and "O_CREAT" in call.arguments and names:
            came.setdefault(names[0], call.left)
    kept = [name for name in sorted(came) if not name.startswith((f"{store}/hotfire/tmp/", f"{store}/lock"))]
    for name in kept:
        if not any(entered > came[name] for entered in directory_syncs.get(os.path.dirname(name), [])):
            raise Early(f"{name} came at line {came[name]}, and its directory was never synced after that")
    return len(kept)


def judge(trace, store, acked):
    """Raises Early at the first reply that left too soon. Returns figures."""
    segments, directory_syncs, replies = history(trace)
    bases = sorted(segments)
    if len(replies) < acked:
        raise Early(f"{acked} replies arrived, only {len(replies)} were seen in the trace")
    batches = set()
    for line, physical in sorted(replies):
        base = bases[bisect.bisect_right(bases, physical) - 1] if bases and bases[0] <= physical else None
        if base is None:
            raise Early(f"reply for offset {physical} at line {line}: no segment was written")
        segment = segments[base]
        with open(store / "commitlog" / f"{base:020d}", "rb") as file:
            file.seek(physical - base)
            size, = struct.unpack(">I", file.read(4))
        start, end = physical - base, physical - base + size
        before = [write for write in segment.writes if write[0] < line and write[2] < end and write[3] > start]
        if not before or min(w[2] for w in before) > start or max(w[3] for w in before) < end:
            raise Early(f"reply for offset {physical} left at line {line}, before its {size} bytes were written")
        written = max(write[1] for write in before)
        durable = segment.durable_after(written)
        if durable is None or durable >= line:
            raise Early(f"reply for offset {physical} left at line {line}; it was written by line {written}, "
                        f"and the first sync begun after that returned at line {durable}")
        batches.add(durable)
    names = 0
    for base, segment in segments.items():
        first = min((line for line, physical in replies if base <= physical < base + kill9.SEGMENT), default=None)
        if first is None or segment.named < 0:
            continue
        syncs = directory_syncs.get(str(store / "commitlog"), [])
        if not any(entered > segment.named and left < first for entered, left in syncs):
            raise Early(f"segment {base:020d} got its name at line {segment.named}, and its first reply left at line "
                        f"{first} without a sync of the directory between")
        names += 1
    all_names = unsynced_names(trace, store)
    return (f"{len(replies)} replies over {len(batches)} syncs in {len(segments)} segments; synced names: "
            f"{names} segments before their first reply, {all_names} in all")


def traced(binary, directory, seconds):
    """Runs a broker under strace with load; returns trace, store and the number of acknowledgements."""
    broker = kill9.Broker("hotfire", directory, "SYNC_FLUSH", kill9.free_port())
    trace = directory / "trace"
    with open(directory / "stdout.log", "ab") as log:
        process = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "1048576", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace),
             str(binary), "broker", "-c", str(broker.conf)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, HOME=str(directory)))
    try:
        begun = time.monotonic()
        while True:
            try:
                kill9.create_topic(broker.port)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() - begun > 60:
                    raise Early((directory / "stdout.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.05)
        load = kill9.Load(broker.port, "S")
        time.sleep(seconds)
        # The broker is strace's child: stop it, not strace.
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 15)
        load.join()
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
    refused = [why for why in load.refused.values() if why[0] != 14 or "the broker is stopping" not in why[1]]
    if refused:
        raise Early(f"{len(refused)} sends refused, e.g. {refused[0]}")
    return trace, directory / "store", len(load.acked)


def without_sync(run):
    """Builds the broker from a copy whose data sync does nothing."""
    copy = TOP / "target" / "no-sync" / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, target = TOP / name, copy / name
        if not source.is_file():
            continue
        data = source.read_bytes()
        if name == "src/disk/real.rs":
            text = data.decode()
            if text.count(SYNC_TEXT) != 1:
                raise Early(f"{name}: expected {SYNC_TEXT!r} once; adapt the control in {pathlib.Path(__file__).name}")
            data = text.replace(SYNC_TEXT, NO_SYNC_TEXT).encode()
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != data:  # a file that did not change keeps its time
            target.write_bytes(data)
    subprocess.run([os.environ.get("CARGO", "cargo"), "build", "-q", "--bin", "hotfire", "--target-dir",
                    str(TOP / "target" / "no-sync" / "build")], cwd=copy, check=True)
    return TOP / "target" / "no-sync" / "build" / "debug" / "hotfire"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--skip-control", action="store_true")
    options = parser.parse_args()
    kill9.CONNECTIONS = 16
    run = TOP / "target" / "sync-order" / f"run-{os.getpid()}"
    shutil.rmtree(run, ignore_errors=True)
    passed = failed = 0
    try:
        kill9.prepare("hotfire")
        try:
            figures = judge(*traced(os.environ["HOTFIRE"], run / "release", options.seconds))
            print(f"ok every reply after its sync: {figures}", flush=True)
            passed += 1
        except (Early, kill9.Broken) as early:
            print(f"FAIL every reply after its sync: {early}", flush=True)
            failed += 1
        if not options.skip_control:
            try:
                figures = judge(*traced(without_sync(run), run / "control", options.seconds))
                print(f"FAIL a build without sync must fail: expected an early reply, got {figures}")
                failed += 1
            except Early as early:
                if "the first sync begun after that" not in str(early):
                    print(f"FAIL a build without sync must fail for its reason: {early}")
                    failed += 1
                else:
                    print(f"ok a build without sync fails: {early}")
                    passed += 1
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    if failed == 0:
        shutil.rmtree(run, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
