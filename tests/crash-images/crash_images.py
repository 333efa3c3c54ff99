#!/usr/bin/env python3
"""crash_images.py [--images N] [--broker N] [--java N] [--seed N] [--keep]: what a power loss may leave is opened.

A real broker runs under strace with SYNC_FLUSH, small files, many producers, new topics and committed offsets; it is
killed in the middle and started again. From the recorded calls directory images are made: a point of the trace, and
of all that was not synced there any part (disk_model.py says which parts). Every image is opened by the real store
(open_images.rs), twice; samples of them by the real broker and by the Java broker.

An image fails when a message that was acknowledged before its point is missing or elsewhere, when queue offsets have
gaps, when a body is there that nobody sent, when the second opening finds something else than the first, when a topic
that was answered or an offset that was durable is gone, or when an offset lies beyond its queue.
Controls: the same trace without its syncs of files, and without its syncs of directories, must lose something.

Last line `N images, 0 acked lost`. Exit 0, 1, or 2 when it could not run.
Environment: HOTFIRE (a binary to record; otherwise `cargo build --release`), CARGO, COMPAT_KIT for Java, TMPDIR.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(TOP / "tests" / name) for name in ("kill9", "sync-order", "crash-images")]
import disk_model  # noqa: E402
import kill9  # noqa: E402
from sync_order import calls, succeeded  # noqa: E402

CALLS = "pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,rename,renameat,renameat2,link,linkat," \
    "openat,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate,fallocate,copy_file_range,mmap"
SEGMENT = 256 << 10
QUEUE_ENTRIES = 500
ENTRY = 20
CONNECTIONS, WINDOW = 4, 3
PACE_SECONDS = 0.005
GROUP = "images"
COMMIT_OFFSET, QUERY_OFFSET = 15, 14
SIDE_OPAQUE = 1_000_000
MESSAGE_ID = re.compile(rb'"msgId":"([0-9A-F]{32})"')
OPAQUE = re.compile(rb'"opaque":(\d{7,})')
SECONDS = 1.5
CONTROL_IMAGES = 60


class Lost(Exception):
    """An image does not hold what was promised."""

    def __init__(self, what, acked_lost=0):
        super().__init__(what)
        self.acked_lost = acked_lost


class Load:
    """Producers on one topic, and one client that makes topics, sends into them and commits offsets."""

    def __init__(self, port, name, first_topic):
        self.sent, self.acked, self.topics, self.failed = set(), {}, {}, []
        self.ends = [0] * kill9.QUEUES
        self.lock = threading.Lock()
        runs = [(self.produce, (port, f"{name}C{number}", number)) for number in range(CONNECTIONS)]
        runs.append((self.side, (port, name, first_topic)))
        self.threads = [threading.Thread(target=self.guarded, args=run, daemon=True) for run in runs]
        for thread in self.threads:
            thread.start()

    def guarded(self, run, arguments):
        try:
            run(*arguments)
        except OSError:
            pass  # the broker is gone
        except Exception as error:  # told by `join`
            self.failed.append(error)

    def ask_to_send(self, connection, topic, queue, identity):
        body = kill9.body_of(identity)
        with self.lock:
            self.sent.add(zlib.crc32(body))
        return connection.send(kill9.SEND, {
            "a": GROUP, "b": topic, "c": "TBW102", "d": kill9.QUEUES, "e": queue, "f": 0, "g": int(time.time() * 1000),
            "h": 0, "j": 0, "k": "false", "m": "false", "i": f"UNIQ_KEY\x01{identity}\x02KEYS\x01{identity}\x02"}, body)

    def note(self, identity, topic, header):
        """False when the broker is stopping."""
        if header["code"] == 14:
            return False
        if header["code"] != 0:
            raise kill9.Broken(f"{identity}: code {header['code']}, {header.get('remark')}")
        reply = header["extFields"]
        queue, offset = int(reply["queueId"]), int(reply["queueOffset"])
        with self.lock:
            self.acked[int(reply["msgId"][16:], 16)] = (topic, queue, offset, zlib.crc32(kill9.body_of(identity)), identity)
            if topic == kill9.TOPIC:
                self.ends[queue] = max(self.ends[queue], offset + 1)
        return True

    def produce(self, port, name, number):
        connection, waiting, serial = kill9.Connection(port), {}, 0
        while True:
            while len(waiting) < WINDOW:
                identity = f"{name}N{serial}"
                waiting[self.ask_to_send(connection, kill9.TOPIC, (number + serial) % kill9.QUEUES, identity)] = identity
                serial += 1
            header, _ = connection.receive()
            if not self.note(waiting.pop(header["opaque"]), kill9.TOPIC, header):
                return
            time.sleep(PACE_SECONDS)

    def side(self, port, name, first_topic):
        connection = kill9.Connection(port)
        connection.opaque = SIDE_OPAQUE + first_topic * 1000
        for serial in range(first_topic, first_topic + 100):
            topic = f"Side{serial}"
            header, _ = connection.ask(kill9.CREATE_TOPIC, {
                "topic": topic, "defaultTopic": "TBW102", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6,
                "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"})
            if header["code"] != 0:
                return
            self.topics[header["opaque"]] = topic
            self.ask_to_send(connection, topic, 0, f"{name}S{serial}")
            if not self.note(f"{name}S{serial}", topic, connection.receive()[0]):
                return
            for queue in range(kill9.QUEUES):
                connection.ask(COMMIT_OFFSET, {"consumerGroup": GROUP, "topic": kill9.TOPIC, "queueId": queue,
                                               "commitOffset": self.ends[queue]})
            time.sleep(0.1)

    def join(self):
        for thread in self.threads:
            thread.join(30)
        if self.failed:
            raise self.failed[0]


def broker_in(directory, kind, port):
    broker = kill9.Broker(kind, directory, "SYNC_FLUSH", port)
    text = broker.conf.read_text().replace("mappedFileSizeConsumeQueue=60000", f"mappedFileSizeConsumeQueue={QUEUE_ENTRIES * 20}")
    broker.conf.write_text(text + "maxMessageSize=131072\nflushConsumeQueueThoroughInterval=1000\nflushConsumerOffsetInterval=500\n")
    return broker


def traced(broker, trace, name, first_topic, kill):
    """One life of the broker under strace, with load; ended by SIGKILL or SIGTERM."""
    with open(broker.directory / "stdout.log", "ab") as log:
        process = subprocess.Popen(
            ["strace", "-f", "-y", "-xx", "-s", "4194304", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace),
             os.environ["HOTFIRE"], "broker", "-c", str(broker.conf)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, HOME=str(broker.directory)))
    try:
        begun = time.monotonic()
        while True:
            try:
                kill9.create_topic(broker.port)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() - begun > 60:
                    raise kill9.Broken((broker.directory / "stdout.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.05)
        load = Load(broker.port, name, first_topic)
        time.sleep(SECONDS)
        for child in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL if kill else signal.SIGTERM)
        process.wait(30)
        load.join()
        return load
    finally:
        if process.poll() is None:
            process.kill()


class Recording:
    """Two lives of one broker: every call in order, and at which line each answer left."""

    def __init__(self, directory):
        broker = broker_in(directory / "broker", "hotfire", kill9.free_port())
        self.root = str(broker.directory)
        self.sent, self.acked, topics, self.calls = set(), {}, {}, []
        first_line = 0
        for number, kill in enumerate((True, False)):
            trace = directory / f"trace{number}"
            load = traced(broker, trace, f"L{number}", number * 100, kill)
            self.sent |= load.sent
            self.acked.update(load.acked)
            topics.update(load.topics)
            found = calls(trace)
            last = first_line
            for call in found:
                call.entered += first_line
                # A killed process's call had its effect, or was about to have it; nothing waits for it.
                call.left = call.left + first_line if call.left is not None else None
                last = max(last, call.entered, call.left or 0)
            for call in found:
                if call.left is None:
                    call.left, call.result = (last, None) if call.name == "pwrite64" else (last, "-1 killed")
            self.calls += found
            first_line = last + 1
            trace.unlink()
        self.calls.sort(key=lambda call: call.left)
        self.last_line = first_line
        self.replies, self.topic_replies = [], []
        for call in self.calls:
            if call.name in ("sendto", "write", "writev", "sendmsg") and "msgId".encode().hex(" ").replace(" ", "\\x") in call.arguments:
                text = b"".join(disk_model.unescape(part) for part in disk_model.QUOTED.findall(call.arguments))
                self.replies += [(call.entered, int(found.decode()[16:], 16)) for found in MESSAGE_ID.findall(text)]
            elif call.name in ("sendto", "write", "writev", "sendmsg"):
                text = b"".join(disk_model.unescape(part) for part in disk_model.QUOTED.findall(call.arguments))
                self.topic_replies += [(call.entered, topics[int(opaque)]) for opaque in OPAQUE.findall(text) if int(opaque) in topics]
        self.replies = sorted(reply for reply in self.replies if reply[1] in self.acked)
        if len(self.replies) < len(self.acked):
            raise kill9.Broken(f"{len(self.acked)} messages were acknowledged, {len(self.replies)} replies were seen")

    def points(self, count, dice):
        """Lines of the trace: anywhere, and right before and after syncs and new names."""
        edges = [call for call in self.calls if call.name in ("fdatasync", "fsync", "renameat2", "rename", "ftruncate", "mkdir")]
        points = [dice.randint(0, self.last_line) for _ in range(count // 2)]
        while len(points) < count:
            call = dice.choice(edges)
            points.append(dice.choice((call.entered, call.left, call.left + 1)))
        return sorted(points)


class Image:
    def __init__(self, number, line, acked, topics, offsets):
        self.number, self.line, self.acked, self.topics, self.offsets = number, line, acked, topics, offsets


def images(recording, count, dice, file_syncs=True, directory_syncs=True):
    """(Image, files) at `count` points."""
    disk = disk_model.Disk(recording.root, file_syncs, directory_syncs)
    events, replies, topics = iter(recording.calls), iter(recording.replies), iter(recording.topic_replies)
    event, reply, topic = next(events, None), next(replies, None), next(topics, None)
    acked, answered = [], []
    at_entry = sorted(recording.calls, key=lambda call: call.entered)
    entered, began = [], 0
    for number, line in enumerate(recording.points(count, dice)):
        while event and event.left < line:
            if succeeded(event) or event.result is None:
                disk.event(event)
            event = next(events, None)
        while reply and reply[0] < line:
            acked.append(reply[1])
            reply = next(replies, None)
        while topic and topic[0] < line:
            answered.append(topic[1])
            topic = next(topics, None)
        while began < len(at_entry) and at_entry[began].entered < line:
            entered.append(at_entry[began])
            began += 1
        entered = [call for call in entered if call.left >= line]
        image = Image(number, line, len(acked), list(answered), durable_offsets(disk))
        image.ids = acked
        yield image, disk.image(dice, entered)


def parsed(content):
    """JSON as fastjson writes it, with bare integer keys; None when it is broken or empty."""
    try:
        return json.loads(re.sub(rb'([{,])\s*(\d+):', rb'\1"\2":', content))
    except ValueError:
        return None


def state(files, name):
    """What a broker takes: the newest generation that can be read."""
    for path in (name, name + ".bak"):
        found = parsed(files[path]) if path in files else None
        if found is not None:
            return found
    return None


def offsets_of(table):
    found = (table or {}).get("offsetTable", {}).get(f"{kill9.TOPIC}@{GROUP}", {})
    return {int(queue): offset for queue, offset in found.items()}


def durable_offsets(disk):
    """The offsets in the newest file whose content and name were synced."""
    inode = disk.durable.get(disk.root + "/store/config/consumerOffset.json")
    return offsets_of(parsed(bytes(inode.durable))) if inode else {}


class Opener:
    """A process that opens stores; one at a time."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary, str(SEGMENT), str(QUEUE_ENTRIES)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def open(self, how, directory):
        self.process.stdin.write(f"{how} {directory}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Lost("the process that opens images ended")
        answer = json.loads(line)
        if "error" in answer:
            raise Lost(f"the store does not open: {answer['error']}")
        return answer["queues"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def judge(recording, image, files, opener, directory, dice):
    """Opens one image twice. Returns where the records of the topic are by (queue, offset). Raises Lost."""
    disk_model.write_image(files, recording.root, directory)
    store = directory + "/store"
    first = opener.open(dice.choice(("stop", "drop")), store)
    found, ends = {}, {}
    for topic, queue, low, high, messages in first:
        ends[topic, queue] = high
        offsets = [message[0] for message in messages]
        if offsets != list(range(low, high)) or low != 0:
            raise Lost(f"{topic} queue {queue}: offsets {low} to {high}, read {offsets[:3]}..{offsets[-3:]}")
        for offset, physical, crc in messages:
            found[physical] = (topic, queue, offset, crc)
            if crc not in recording.sent:
                raise Lost(f"{topic} queue {queue} offset {offset}: a body that nobody sent")
    lost = [physical for physical in image.ids[:image.acked] if found.get(physical) != recording.acked[physical][:4]]
    if lost:
        raise Lost(f"{len(lost)} of {image.acked} acked lost, e.g. {recording.acked[lost[0]]} at {lost[0]}, "
                   f"found {found.get(lost[0])}", len(lost))
    judge_state(recording, image, files, ends)
    second = opener.open("stop", store)
    if second != first:
        raise Lost("the second opening found something else than the first")
    return {(queue, offset): physical for topic, queue, _, _, messages in first if topic == kill9.TOPIC
            for offset, physical, _ in messages}


def torn_entries(recording, files, places):
    """(queue, offset) of the entries that lie in two sectors of which the power left one: they name another record, and
    4.9.3 believes them (W-23)."""
    torn = set()
    for queue in range(kill9.QUEUES):
        start = f"{recording.root}/store/consumequeue/{kill9.TOPIC}/{queue}/"
        for path in (path for path in files if path.startswith(start)):
            first = int(path.removeprefix(start)) // ENTRY
            for at in range(0, len(files[path]) - ENTRY + 1, ENTRY):
                place = (queue, first + at // ENTRY)
                entry = files[path][at:at + ENTRY]
                if at // disk_model.SECTOR == (at + ENTRY - 1) // disk_model.SECTOR or not any(entry):
                    continue
                if place in places and int.from_bytes(entry[:8], "big") != places[place]:
                    torn.add(place)
    return torn


def judge_state(recording, image, files, ends):
    config = recording.root + "/store/config/"
    topics = (state(files, config + "topics.json") or {}).get("topicConfigTable", {})
    missing = [topic for topic in image.topics if topic not in topics]
    if missing:
        raise Lost(f"topics that were answered are gone: {missing}")
    offsets = offsets_of(state(files, config + "consumerOffset.json"))
    for queue, durable in image.offsets.items():
        if offsets.get(queue, -1) < durable:
            raise Lost(f"queue {queue}: offset {durable} was durable, {offsets.get(queue)} is there")
    for queue, offset in offsets.items():
        if offset > ends.get((kill9.TOPIC, queue), 0):
            raise Lost(f"queue {queue}: offset {offset} is beyond the end {ends.get((kill9.TOPIC, queue), 0)}")


def by_broker(recording, image, files, directory, kind, places):
    """Opens one image with a real broker and pulls everything; `places` is where each record is by (queue, offset).
    Returns how many acked messages were there."""
    directory = pathlib.Path(directory)
    broker = broker_in(directory, kind, kill9.free_port())
    disk_model.write_image({path: content for path, content in files.items() if path.startswith(recording.root + "/store")},
                           recording.root, str(directory))
    try:
        broker.start()
        if kind == "java":
            kill9.settle(broker.port)
        torn = [] if kind == "java" else None
        unread = torn_entries(recording, files, places) if kind == "java" else set()
        if unread:
            print(f"note image {image.number}: java is not asked for torn queue entries {sorted(unread)} (W-23)", flush=True)
        found, twice = kill9.pull_all(broker.port, torn, unread=unread)
        if torn:
            print(f"note image {image.number}: java takes {len(torn)} torn records for whole (W-04)", flush=True)
        acked = [recording.acked[physical] for physical in image.ids[:image.acked]]
        acked = [one for one in acked if one[0] == kill9.TOPIC and (one[1], one[2]) not in unread]
        lost = [one for one in acked if found.get(one[4]) != (one[1], one[2])]
        if lost or twice:
            raise Lost(f"{kind}: {len(lost)} of {len(acked)} acked lost, {len(twice)} twice, e.g. {(lost + twice)[0]}", len(lost))
        return len(acked)
    except kill9.Broken as broken:
        raise Lost(f"{kind}: {broken}") from None
    finally:
        broker.kill()


def run_images(recording, options, opener, scratch, dice):
    """Returns failures and acked lost."""
    failures, lost, checked = 0, 0, 0
    sample = {kind: set(dice.sample(range(options.images // 20, options.images), count))
              for kind, count in (("hotfire", options.broker), ("java", options.java))}
    samples = {kind: [0, 0] for kind in sample}
    for image, files in images(recording, options.images, dice):
        directory = f"{scratch}/image{image.number}"
        try:
            os.makedirs(directory)
            places = judge(recording, image, files, opener, directory, dice)
            for kind, numbers in sample.items():
                if image.number in numbers:
                    samples[kind][1] += by_broker(recording, image, files, f"{directory}-{kind}", kind, places)
                    samples[kind][0] += 1
            checked += image.acked
        except Lost as error:
            failures, lost = failures + 1, lost + error.acked_lost
            print(f"FAIL image {image.number} at line {image.line} with {image.acked} acked: {error}", flush=True)
            if options.keep:
                disk_model.write_image(files, recording.root, f"{directory}-kept")
        for made in (directory, f"{directory}-hotfire", f"{directory}-java"):
            shutil.rmtree(made, ignore_errors=True)
    print(f"ok every image opened twice: {checked} acked messages looked for" if failures == 0 else f"{failures} images failed")
    for kind, (count, acked) in samples.items():
        print(f"note opened by the {kind} broker: {count} of {len(sample[kind])} images, {acked} acked messages, 0 lost"
              if count == len(sample[kind]) else f"FAIL {kind}: only {count} of {len(sample[kind])} images passed")
    return failures, lost


def control(recording, opener, scratch, dice, name, **syncs):
    """Images of a disk without such syncs must lose something. True when they do."""
    lost, failed, example = 0, 0, ""
    for image, files in images(recording, CONTROL_IMAGES, dice, **syncs):
        directory = f"{scratch}/control{image.number}"
        os.makedirs(directory)
        try:
            judge(recording, image, files, opener, directory, dice)
        except Lost as error:
            failed, lost, example = failed + 1, lost + error.acked_lost, example or str(error)
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{'ok' if lost else 'FAIL'} a build without syncs of {name} fails: {failed} of {CONTROL_IMAGES} images, "
          f"{lost} acked lost, e.g. {example}", flush=True)
    return lost > 0


def build_opener():
    subprocess.run([os.environ.get("CARGO", "cargo"), "build", "-q", "--example", "open_images"], cwd=TOP, check=True)
    return str(TOP / "target" / "debug" / "examples" / "open_images")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--broker", type=int, default=20)
    parser.add_argument("--java", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="keep the images that fail")
    options = parser.parse_args()
    kill9.SEGMENT = SEGMENT
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="crash-images-"))
    try:
        kill9.prepare("hotfire")
        if options.java:
            kill9.prepare("java")
        binary = build_opener()
        dice = random.Random(options.seed)
        recording = Recording(scratch)
        print(f"seed {options.seed} (which images; the recorded run is the host's)\nrecorded {len(recording.calls)} calls, "
              f"{len(recording.acked)} acked messages, {len(recording.topic_replies)} new topics", flush=True)
        opener = Opener(binary)
        failures, lost = run_images(recording, options, opener, scratch, dice)
        controls = [control(recording, opener, scratch, dice, "files", file_syncs=False),
                    control(recording, opener, scratch, dice, "directories", directory_syncs=False)]
        opener.close()
    except (subprocess.CalledProcessError, OSError, kill9.Broken) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"{options.images} images, {lost} acked lost" + (f", {failures} images failed" if failures else ""))
    return 0 if failures == 0 and all(controls) else 1


if __name__ == "__main__":
    sys.exit(main())
