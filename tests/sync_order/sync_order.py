#!/usr/bin/env python3
"""sync_order.py [--messages N] [--keep DIR]: no answer leaves before the sync that makes it true.

Runs the release broker with SYNC_FLUSH and small segments under strace, loads it over many connections, stops it, and
reads the trace: for each SEND_OK that went out, its record had been written, and a sync of its file *that began after
that write returned* had returned. Every new name in the store was followed by a sync of its directory; a commit log
segment's before the first answer for a record in it. Then the same with a build whose sync does nothing, which must
be caught.

One line per check, last `N passed, M failed`. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (otherwise `cargo build --release`), HOTFIRE_BROKEN (otherwise a debug build with the feature
`sync-does-nothing`).
"""

import argparse
import bisect
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
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
TOPIC = "SyncOrder"
CONNECTIONS = 16
WINDOW = 4
SEGMENT = 1 << 20
SEND = 310
SYSCALLS = ("openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
            "pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,sync_file_range")


# ---- load

class Connection:
    """One socket that speaks remoting commands with JSON headers."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.opaque = 0

    def send(self, queue, body):
        self.opaque += 1
        fields = {"a": "p", "b": TOPIC, "c": "TBW102", "d": 4, "e": queue, "f": 0, "g": int(time.time() * 1000),
                  "h": 0, "i": "", "j": 0, "k": "false", "l": 16, "m": "false"}
        header = json.dumps({
            "code": SEND, "language": "PYTHON", "version": 399, "opaque": self.opaque, "flag": 0,
            "extFields": {key: str(value) for key, value in fields.items()},
        }).encode()
        self.socket.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)

    def receive(self):
        head = self.file.read(8)
        if len(head) < 8:
            raise ConnectionError("the broker closed the connection")
        length, header_length = struct.unpack(">II", head)
        return json.loads(self.file.read(length - 4)[:header_length & 0xFFFFFF])


def load(port, messages):
    """Returns how many sends were answered with SEND_OK."""
    warm = Connection(port)
    warm.send(0, b"the topic is made by the first send")
    first = warm.receive()
    if first["code"] != 0:
        raise RuntimeError(f"the first send was answered with {first}")
    oks, errors = [1], []

    def produce(number):
        try:
            connection, done = Connection(port), 0
            each = messages // CONNECTIONS
            for sent in range(each):
                connection.send(number % 4, b"%d-%d-" % (number, sent) + b"x" * (sent * 37 % 1500))
                if sent >= WINDOW:
                    done += connection.receive()["code"] == 0
            for _ in range(min(WINDOW, each)):
                done += connection.receive()["code"] == 0
            oks.append(done)
        except (OSError, ValueError) as error:
            errors.append(error)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(f"a producer failed: {errors[0]}")
    return sum(oks)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_traced(binary, directory, messages):
    """Runs one broker under strace from its start to its clean end. Returns the store, the trace, the SEND_OKs."""
    store, trace, port = directory / "store", directory / "trace", free_port()
    (directory / "broker.conf").write_text(f"""brokerName=sync-order
listenPort={port}
brokerIP1=127.0.0.1
storePathRootDir={store}
storePathCommitLog={store}/commitlog
flushDiskType=SYNC_FLUSH
mappedFileSizeCommitLog={SEGMENT}
mappedFileSizeConsumeQueue=60000
maxHashSlotNum=5000
maxIndexNum=20000
waitTimeMillsInSendQueue=10000
syncFlushTimeout=20000
""")
    pid_file = directory / "pid"
    script = f'echo $$ > "{pid_file}"; exec "{binary}" broker -c "{directory / "broker.conf"}"'
    command = ["strace", "-f", "-qq", "-y", "-xx", "-s", "4000000", "-e", f"trace={SYSCALLS}", "-o", str(trace),
               "sh", "-c", script]
    with open(directory / "stdout", "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, HOME=str(directory)))
    try:
        await_boot(process, port, directory)
        oks = load(port, messages)
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        if process.poll() is None:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
            process.wait(timeout=10)
    return store, trace, oks


def await_boot(process, port, directory):
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "stdout").read_text(errors="replace")[-2000:]) from None
            time.sleep(0.05)


# ---- trace

STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
FD = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
UNFINISHED, RESUMED = " <unfinished ...>", re.compile(r"<\.\.\. (\w+) resumed>")


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Call:
    """One system call. `begun` and `ended` are line numbers: the order in which strace saw things happen."""

    def __init__(self, begun, ended, text):
        self.begun, self.ended = begun, ended
        self.name, rest = text.split("(", 1)
        self.args, result = rest.rsplit(") = ", 1) if ") = " in rest else rest.rsplit(")", 1)
        number = re.match(r"\s*=?\s*(-?\d+)", result)
        self.result = int(number.group(1)) if number else -1
        self.result_path = next((unhex(path).decode() for _, path in FD.findall(result)), None)

    def fd(self):
        found = FD.match(self.args)
        return (found.group(1), unhex(found.group(2)).decode()) if found else ("", "")

    def data(self):
        """What was written: all strings, cut to what the kernel took."""
        parts = []
        for text, cut in STRING.findall(self.args):
            if cut:
                raise RuntimeError("strace cut a string: raise its -s")
            parts.append(unhex(text))
        return b"".join(parts)[:self.result]

    def paths(self):
        """The names a call was given, each made absolute by the directory before it."""
        out, base = [], ""
        for match in re.finditer(FD.pattern + "|" + STRING.pattern, self.args):
            if match.group(3) is None:
                base = unhex(match.group(2)).decode()
            else:
                name = unhex(match.group(3)).decode()
                out.append(os.path.normpath(os.path.join(base, name)))
        return out


def read_calls(trace):
    """All finished calls, by the line on which they ended."""
    calls, open_calls = [], {}
    with open(trace, encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines):
            pid, _, text = line.rstrip("\n").partition(" ")
            text = text.lstrip()
            if text.startswith(("+++", "---")) or "(" not in text and "resumed>" not in text:
                continue
            if text.endswith(UNFINISHED):
                open_calls[pid] = (number, text[:-len(UNFINISHED)])
                continue
            begun, resumed = number, RESUMED.match(text)
            if resumed:
                begun, start = open_calls.pop(pid, (number, resumed.group(1) + "("))
                text = start + text[resumed.end():]
            if "?" not in text.rsplit("=", 1)[-1]:
                calls.append(Call(begun, number, text))
    return calls


class Trace:
    def __init__(self, calls, store):
        self.store = str(store)
        self.writes = {}   # path -> [(offset, data, ended)]
        self.syncs = {}    # path -> [(begun, ended)]
        self.names = []    # (path, ended, kind)
        self.gone = {}     # path -> line of its last removal or renaming
        self.answers = []  # (begun, remoting header)
        streams, known = {}, set()
        for call in calls:
            if call.result < 0:
                continue
            if call.name == "pwrite64":
                path, offset = call.fd()[1], int(call.args.rsplit(",", 1)[1])
                if path.startswith(self.store):
                    self.writes.setdefault(path, []).append((offset, call.data(), call.ended))
            elif call.name in ("fdatasync", "fsync"):
                self.syncs.setdefault(call.fd()[1], []).append((call.begun, call.ended))
            elif call.name in ("write", "writev", "sendto", "sendmsg"):
                fd = call.fd()
                if fd[1].startswith("socket:"):
                    self.feed(streams.setdefault(fd, []), call)
            else:
                self.take_name(call, known)

    def take_name(self, call, known):
        paths = [path for path in call.paths() if path.startswith(self.store + "/")]
        if not paths:
            return
        if call.name in ("openat", "open", "creat"):
            if "O_CREAT" in call.args and paths[0] not in known:
                self.names.append((paths[0], call.ended, "made"))
        elif call.name in ("mkdir", "mkdirat"):
            self.names.append((paths[0], call.ended, "made"))
        elif call.name.startswith("rename") and len(paths) == 2:
            self.gone[paths[0]] = call.ended
            known.discard(paths[0])
            self.names.append((paths[1], call.ended, "renamed"))
        elif call.name.startswith("link"):
            self.names.append((paths[-1], call.ended, "linked"))
        elif call.name.startswith("unlink"):
            self.gone[paths[0]] = call.ended
            known.discard(paths[0])
        known.update(path for path in paths if path not in self.gone or self.gone[path] != call.ended)

    def feed(self, stream, call):
        """Cuts what went out on one connection into frames; a frame leaves when its first byte does."""
        stream.append((call.begun, call.data()))
        while True:
            joined = b"".join(data for _, data in stream)
            if len(joined) < 8:
                return
            length, header_length = struct.unpack(">II", joined[:8])
            if len(joined) < 4 + length:
                return
            header = joined[8:8 + (header_length & 0xFFFFFF)]
            self.answers.append((stream[0][0], json.loads(header)))
            size = 4 + length
            while stream and size >= len(stream[0][1]):
                size -= len(stream.pop(0)[1])
            if size:
                stream[0] = (stream[0][0], stream[0][1][size:])


# ---- checks

class Failure(Exception):
    """What went against the promise."""


def physical_offset(message_id):
    """Of an offset message id: address, port and offset in hex."""
    return int(message_id[-16:], 16)


def record_written(log, at):
    """When the record at `at` was whole in the page cache, and its file. `log` is [(base, path, writes)] by base."""
    segment = bisect.bisect_right([base for base, _, _ in log], at) - 1
    if segment < 0:
        raise Failure(f"offset {at} is answered but no segment holds it")
    base, path, writes = log[segment]
    place = at - base
    head = next((w for w in writes if w[0] <= place and place + 4 <= w[0] + len(w[1])), None)
    if head is None:
        raise Failure(f"offset {at} is answered but was never written to {path}")
    size = struct.unpack_from(">i", head[1], place - head[0])[0]
    whole = [w for w in writes if w[0] < place + size and place < w[0] + len(w[1])]
    reach = place
    for offset, data, _ in sorted(whole, key=lambda w: w[0]):
        if offset <= reach:
            reach = max(reach, offset + len(data))
    if reach < place + size:
        raise Failure(f"offset {at} is answered but only {reach - place} of its {size} bytes were written")
    return max(ended for _, _, ended in whole), path


def check_answers(trace):
    """Every SEND_OK left after a sync that began after its record's write returned. Returns the numbers to print."""
    log = sorted((int(os.path.basename(path)), path, writes) for path, writes in trace.writes.items()
                 if re.fullmatch(r"\d{20}", os.path.basename(path)) and "/commitlog/" in path)
    checked, first_answer = 0, {}
    for left, header in trace.answers:
        message_id = (header.get("extFields") or {}).get("msgId")
        if header["code"] != 0 or not message_id:
            continue
        at = physical_offset(message_id)
        written, path = record_written(log, at)
        syncs = [s for s in trace.syncs.get(path, []) if s[0] > written]
        if not any(ended < left for _, ended in syncs):
            when = f"the next one returned on line {syncs[0][1]}" if syncs else "none came later either"
            raise Failure(f"the answer for offset {at} left on line {left}; its record was written on line {written}, "
                          f"and no sync of {os.path.basename(path)} began and returned between: {when}")
        first_answer.setdefault(path, left)
        checked += 1
    return checked, first_answer, sum(len(trace.syncs.get(path, [])) for _, path, _ in log)


def is_exempt(trace, path, ended):
    """Staging names and names that did not stay need no durability; neither does the lock."""
    inside = path[len(trace.store) + 1:]
    return inside.startswith("hotfire/tmp/") or inside == "lock" or trace.gone.get(path, -1) > ended


def check_names(trace, first_answer):
    """Every new name was followed by a sync of its directory, a segment's before the first answer from it."""
    checked = 0
    for path, ended, kind in trace.names:
        if is_exempt(trace, path, ended):
            continue
        syncs = [s for s in trace.syncs.get(os.path.dirname(path), []) if s[0] > ended]
        if not syncs:
            raise Failure(f"{path} was {kind} on line {ended} and its directory was never synced after that")
        left = first_answer.get(path)
        if left is not None and not any(done < left for _, done in syncs):
            raise Failure(f"{path} was {kind} on line {ended}, and the first answer from it left on line {left} before "
                          f"its directory was synced")
        checked += 1
    return checked


def judge(binary, directory, messages):
    directory.mkdir()
    store, path, oks = run_traced(binary, directory, messages)
    trace = Trace(read_calls(path), store)
    checked, first_answer, syncs = check_answers(trace)
    if checked != oks:
        raise Failure(f"producers saw {oks} answers, the trace holds {checked}")
    if len(first_answer) < 2:
        raise Failure("the log never went on to a second segment: the run was too short to judge")
    return checked, syncs, len(first_answer), check_names(trace, first_answer)


def build(arguments, binary):
    cargo = os.environ.get("CARGO", "cargo")
    subprocess.run([cargo, "build", "-q", *arguments], cwd=TOP, check=True)
    return TOP / "target" / binary / "hotfire"


def binaries(directory):
    """The release build, and a copy of one whose sync does nothing."""
    broken = os.environ.get("HOTFIRE_BROKEN")
    if not broken:
        broken = directory / "broken"
        shutil.copy(build(["--features", "sync-does-nothing"], "debug"), broken)
        # The name belongs to the ordinary build.
        (TOP / "target" / "debug" / "hotfire").unlink()
    return os.environ.get("HOTFIRE") or build(["--release"], "release"), broken


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=3200)
    options.add_argument("--keep", type=pathlib.Path, help="leave store and trace in this directory")
    options = options.parse_args()
    if not shutil.which("strace"):
        print("strace is not installed", file=sys.stderr)
        return 2
    directory = options.keep or pathlib.Path(tempfile.mkdtemp(prefix="sync-order-"))
    directory.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    try:
        binary, broken = binaries(directory)
        try:
            answers, syncs, segments, names = judge(binary, directory / "sound", options.messages)
            print(f"ok    no answer before its sync: {answers} answers, {syncs} syncs, {segments} segments")
            print(f"ok    every new name was synced: {names} names")
            passed += 2
        except Failure as failure:
            print(f"FAIL  {failure}")
            failed += 1
        try:
            judge(broken, directory / "broken-run", options.messages)
            print("FAIL  a build whose sync does nothing was not noticed")
            failed += 1
        except Failure as failure:
            print(f"ok    a build whose sync does nothing is caught: {failure}")
            passed += 1
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"sync-order could not run: {error}", file=sys.stderr)
        return 2
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
