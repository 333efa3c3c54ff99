#!/usr/bin/env python3
"""The C++ client through its Python binding (package `rocketmq`) against the servers that run.sh has started.

Environment: NAMESRV (host:port), ONLY (run the checks whose name starts so), BROKER_PORT. Prints one line for each check
and last `note done`. A message of the binding lives only as long as its callback, so each is copied there.
"""

import collections
import ctypes
import itertools
import os
import pathlib
import sys
import threading
import time

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage
from rocketmq.ffi import MSG_CALLBACK_FUNC, MessageModel, dll

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "kill9"))
from kill9 import MAX_OFFSET, Connection  # noqa: E402

NAMESRV = os.environ["NAMESRV"]
ONLY = os.environ.get("ONLY", "")
LIMIT_SECONDS = 90
CONSUME_SUCCESS, RECONSUME_LATER = 0, 1
instances = itertools.count()

Got = collections.namedtuple("Got", "id content body queue offset times born stored size")


def require(expected, got, what):
    if expected != got:
        raise AssertionError(f"{what}: expected {expected}, got {got}")


def wait_for(what, seconds, holds, count=None):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"expected within {seconds} s: {what}" + (f", got {count()}" if count else ""))
        time.sleep(0.02)


def same(expected, got, what):
    missing = [key for key in expected if key not in got]
    different = [key for key in expected if key in got and got[key] != expected[key]]
    surplus = [key for key in got if key not in expected]
    if missing or different or surplus:
        example = (different and f"{expected[different[0]]} became {got[different[0]]}") or (missing + surplus)[0]
        raise AssertionError(f"{what}: expected {len(expected)} messages, got {len(got)}: {len(missing)} missing, "
                             f"{len(different)} different, {len(surplus)} unexpected, e.g. {example}")


def text(value):
    return (value or b"").decode()


def copied(message):
    content = "|".join((text(message.tags), text(message.keys), text(message.get_property("p-number")),
                        text(message.get_property("p-text")), text(message.body)))
    return Got(text(message.get_property("UNIQ_KEY")) or message.id, content, text(message.body), message.queue_id,
               message.queue_offset, message.reconsume_times, message.born_timestamp, message.store_timestamp,
               message.store_size)


def new_producer(group):
    made = Producer(group, max_message_size=4 << 20)
    made.set_namesrv_addr(NAMESRV)
    dll.SetProducerInstanceName(made._handle, f"py{next(instances)}".encode())
    made.start()
    return made


def new_message(topic, tag, at, body):
    """The message, and what must come back of it."""
    message = Message(topic)
    message.set_tags(tag)
    message.set_keys(f"k{at} shared")
    message.set_property("p-number", str(at))
    message.set_property("p-text", f"Grüße 你好 {at}")
    message.set_body(body)
    return message, f"{tag}|k{at} shared|{at}|Grüße 你好 {at}|{body}"


def send(made, topic, tag, count):
    sent = {}
    for at in range(count):
        message, content = new_message(topic, tag, at, f"{topic} {tag} message {at}")
        result = made.send_sync(message)
        require(0, int(result.status), "status")
        sent[result.msg_id] = content
    require(count, len(sent), "message ids")
    return sent


class Member:
    """A push consumer and all that it was given, in order."""

    def __init__(self, group, topic, expression="*", orderly=False, model=MessageModel.CLUSTERING, refuses=None):
        self.got = []
        self.refuses = refuses
        self.consumer = PushConsumer(group, orderly=orderly, message_model=model)
        self.consumer.set_namesrv_addr(NAMESRV)
        self.consumer.set_instance_name(f"py{next(instances)}")
        self.consumer.set_thread_count(4)
        if hasattr(dll, "SetPushConsumerMessageTrace"):  # 2.1.0 crashes at its shutdown without
            dll.SetPushConsumerMessageTrace.argtypes = [ctypes.c_void_p, ctypes.c_int]
            dll.SetPushConsumerMessageTrace(self.consumer._handle, 0)
        # A callback of the binding that throws loses its status, so the library is given one of its own.
        self.callback = MSG_CALLBACK_FUNC(self.take)
        dll.Subscribe(self.consumer._handle, topic.encode(), expression.encode())
        (dll.RegisterMessageCallbackOrderly if orderly else dll.RegisterMessageCallback)(self.consumer._handle, self.callback)
        self.consumer.start()

    def take(self, _, message):
        own = copied(RecvMessage(message))
        self.got.append(own)
        return RECONSUME_LATER if self.refuses and self.refuses(own) else CONSUME_SUCCESS

    def contents(self):
        return {one.id: one.content for one in list(self.got)}

    def arrive(self, count, seconds=60):
        wait_for(f"{count} deliveries", seconds, lambda: len(self.got) >= count, lambda: len(self.got))
        time.sleep(0.5)
        require(count, len(self.got), "deliveries")

    def close(self):
        self.consumer.shutdown()
        self.consumer._handle = None  # the binding would shut it down once more


def received(topic, count, **how):
    reader = Member(topic + "_reader", topic, **how)
    reader.arrive(count)
    reader.close()
    return reader


def dense(messages):
    following = collections.Counter()
    for one in messages:
        require(following[one.queue], one.offset, f"next offset of queue {one.queue}")
        following[one.queue] += 1


def send_sync():
    sent = send(new_producer("py_sync"), "PySend", "TagA", 100)
    reader = received("PySend", 100)
    same(sent, reader.contents(), "PySend")
    require(4, len({one.queue for one in reader.got}), "queues used")
    return "100 sent to 4 queues and read back: body, tag, keys, properties"


def send_async_oneway():
    made, failed = new_producer("py_async"), []
    sent = send(made, "PyAsync", "First", 1)  # an async send of the library fails while its connection is being made
    for at in range(50):
        message, content = new_message("PyAsync", "T", at, f"async {at}")

        def done(result, content=content):
            sent[result.msg_id] = content
        made.send_async(message, done, lambda error: failed.append(str(error)))
    wait_for("50 callbacks", 20, lambda: len(sent) + len(failed) == 51, lambda: len(sent))
    require([], failed, "failures")
    oneway = []
    for at in range(50, 100):
        message, content = new_message("PyAsync", "T", at, f"oneway {at}")
        made.send_oneway(message)
        oneway.append(content)
    reader = received("PyAsync", 101)
    found = reader.contents()
    same(sent, {key: found[key] for key in found if key in sent}, "async")
    require(sorted(oneway), sorted(content for key, content in found.items() if key not in sent), "oneway contents")
    return "50 by callback and 50 oneway"


def send_batch():
    """This version of the library does not mark a batch: each is one message, at Java 4.9.3 too."""
    made = new_producer("py_batch")
    for batch in range(3):
        pairs = [new_message("PyBatch", "T", at, f"member {at}") for at in range(batch * 20, batch * 20 + 20)]
        require(0, int(made.send_batch([message for message, _ in pairs]).status), "status")
    reader = received("PyBatch", 3, orderly=True)
    dense(reader.got)
    return "3 batches of 20 taken and given back, each as one message"


def send_compressed():
    made, sent = new_producer("py_big"), {}
    for at in range(3):
        message, content = new_message("PyBig", "T", at, f"body {at} " * (10_000 * (at + 1)))
        sent[made.send_sync(message).msg_id] = content
    reader = received("PyBig", 3)
    same(sent, reader.contents(), "PyBig")
    for one in reader.got:
        if one.size > len(one.body) / 10:
            raise AssertionError(f"expected a body that is stored compressed, got {one.size} bytes for {len(one.body)}")
    return "3 bodies of 70 to 210 KB, stored compressed"


def ordered():
    made, lock = new_producer("py_ordered"), threading.Lock()
    queue_of_key = {}
    for at in range(100):
        message, _ = new_message("PyOrdered", "T", at, str(at))
        require(0, int(made.send_orderly(message, at % 5).status), "status")
    refused = set()

    def refuses(one):
        with lock:
            if int(one.body) % 25 == 12 and one.body not in refused:
                refused.add(one.body)
                return True
            queue_of_key.setdefault(int(one.body) % 5, []).append((one.queue, int(one.body)))
            return False
    reader = Member("py_ordered", "PyOrdered", orderly=True, refuses=refuses)
    reader.arrive(104)
    reader.close()
    for key, places in queue_of_key.items():
        require([(key % 4, at) for at in range(key, 100, 5)], places, f"queue and order of key {key}")
    require((5, 4), (len(queue_of_key), len(refused)), "keys and refusals")
    return "20 of each of 5 keys in order, 4 that were refused once came again at once"


def delay():
    made, wanted = new_producer("py_delay"), {}
    for at in range(10):
        message, _ = new_message("PyDelay", "T", at, f"delayed {at}")
        message.set_delay_time_level(at % 2 + 1)
        wanted[made.send_sync(message).msg_id] = 1000 * (at % 2 + 1)
    reader = received("PyDelay", 10)
    for one in reader.got:
        took = one.stored - one.born
        if not wanted[one.id] - 20 <= took <= wanted[one.id] + 2000:
            raise AssertionError(f"{one.body}: expected after {wanted[one.id]} ms, got after {took} ms")
    return "5 after 1 s and 5 after 2 s"


def two_members():
    made = new_producer("py_two")
    one, two = Member("py_two", "PyTwo"), Member("py_two", "PyTwo")
    sent, rounds, end = {}, 0, time.monotonic() + 60
    # The client rebalances by its timer too, and what is under way then may come to both: until both had their share.
    while True:
        this_round = send(made, "PyTwo", f"R{rounds}", 80)
        sent.update(this_round)
        rounds += 1

        def shares():
            return tuple(len(this_round.keys() & member.contents().keys()) for member in (one, two))
        wait_for("a round's end", 20, lambda: sum(shares()) >= 80, shares)
        if shares() == (40, 40):
            break
        if time.monotonic() > end:
            raise AssertionError(f"expected a round that both share, got {shares()} after {rounds} rounds")
        time.sleep(1)
    same(sent, {**one.contents(), **two.contents()}, "PyTwo")
    one.close()
    two.close()
    return f"{len(sent)} of {80 * rounds}, the last 80 shared 40 to 40"


def resumes():
    made = new_producer("py_resumes")
    first = send(made, "PyResumes", "T", 40)
    same(first, received("PyResumes", 40).contents(), "first start")
    second = send(made, "PyResumes", "T", 30)
    same(second, received("PyResumes", 30).contents(), "second start")
    return "40, and 30 more after a restart"


def broadcast():
    made = new_producer("py_broadcast")
    members = [Member("py_broadcast", "PyBroadcast", model=MessageModel.BROADCASTING) for _ in range(2)]
    time.sleep(3)
    sent = send(made, "PyBroadcast", "T", 60)
    for member in members:
        member.arrive(60)
        same(sent, member.contents(), "a member")
        member.close()
    return "60 at each of two members"


def tags():
    made, sent = new_producer("py_tags"), {}
    reader = Member("py_tags", "PyTags", "TagA || TagC")
    for tag in ("TagA", "TagB", "TagC"):
        more = send(made, "PyTags", tag, 30)
        sent.update(more if tag != "TagB" else {})
    reader.arrive(60)
    same(sent, reader.contents(), "PyTags")
    reader.close()
    return "60 of 90, each once"


def retry():
    """A message that is refused takes those along that were pulled with it, so the refusals are no exact number."""
    sent = send(new_producer("py_retry"), "PyRetry", "T", 5)
    reader = Member("py_retry", "PyRetry", refuses=lambda one: one.times < 2)

    def done():
        return [one for one in list(reader.got) if one.times >= 2]
    wait_for("5 third tries", 80, lambda: len(done()) >= 5, lambda: len(done()))
    time.sleep(3)
    reader.close()
    require([2] * 5, [one.times for one in done()], "reconsume times of the last tries")
    same(sent, {one.id: one.content for one in done()}, "last tries")
    for one in reader.got:
        require(sent[one.id], one.content, "content of a try")
    connection = Connection(int(os.environ["BROKER_PORT"]))
    header, _ = connection.ask(MAX_OFFSET, {"topic": "%RETRY%py_retry", "queueId": 0})
    require("10", header["extFields"]["offset"], "messages in the retry topic")
    return "5 messages sent back twice each, then taken, the same content"


def pull():
    sent, got = send(new_producer("py_pull"), "PyPull", "T", 80), []
    consumer = PullConsumer("py_pull")
    consumer.set_namesrv_addr(NAMESRV)
    consumer.start()
    end = time.monotonic() + 10
    while len(got) < 80 and time.monotonic() < end:  # Java fills its queues a moment after it has answered the sender
        for message in consumer.pull("PyPull", "*", 7):
            got.append(copied(message))
    consumer.shutdown()
    require(80, len(got), "messages pulled")
    same(sent, {one.id: one.content for one in got}, "PyPull")
    dense(got)
    return "80 from 4 queues"


def transaction():
    """Only newer libraries than the packaged one can: run.sh tells which."""
    execute_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    dll.CreateTransactionProducer.argtypes = [ctypes.c_char_p, execute_type, ctypes.c_void_p]
    dll.CreateTransactionProducer.restype = ctypes.c_void_p
    dll.SendMessageTransaction.argtypes = [ctypes.c_void_p, ctypes.c_void_p, execute_type, ctypes.c_void_p, ctypes.c_void_p]
    asked, commit, rollback, unknown = [], 0, 1, 2

    def ends(_, message, __):
        kind = dll.GetMessageBody(message).decode().split()[0]
        return {"commit": commit, "rollback": rollback}.get(kind, unknown)

    def answers(_, message, __):
        body = dll.GetMessageBody(message).decode()
        asked.append(body)
        return commit if body.startswith("ask-commit") else rollback
    execute, check = execute_type(ends), execute_type(answers)
    producer = dll.CreateTransactionProducer(b"py_transaction", check, None)
    dll.SetProducerNameServerAddress(producer, NAMESRV.encode())
    dll.SetProducerInstanceName(producer, f"py{next(instances)}".encode())
    require(0, int(dll.StartProducer(producer)), "start")
    wanted, kinds = [], ("commit", "rollback", "ask-commit", "ask-rollback")
    for at in range(20):
        message, content = new_message("PyTransaction", "T", at, f"{kinds[at % 4]} {at}")
        result = ctypes.create_string_buffer(1024)
        require(0, int(dll.SendMessageTransaction(producer, message, execute, None, result)), "send")
        wanted += [content] if at % 2 == 0 else []
    reader = Member("py_transaction_reader", "PyTransaction")
    wait_for("10 deliveries", 75, lambda: len(reader.got) >= 10, lambda: len(reader.got))
    time.sleep(3)
    require(sorted(wanted), sorted(one.content for one in reader.got), "contents")
    require(10, len(set(asked)), "transactions asked for")
    reader.close()
    dll.ShutdownProducer(producer)
    return "5 committed, 5 rolled back, 5 and 5 when asked"


CHECKS = {
    "send-sync": send_sync, "send-async-oneway": send_async_oneway, "send-batch": send_batch,
    "send-compressed": send_compressed, "ordered": ordered, "delay": delay, "push-two-members": two_members,
    "push-resumes": resumes, "push-broadcast": broadcast, "push-tags": tags, "retry": retry, "pull": pull,
}


def report(name, check):
    begun = time.monotonic()
    try:
        figures = check()
        print(f"ok python-{name}: {figures} ({(time.monotonic() - begun) * 1000:.0f} ms)", flush=True)
    except BaseException as error:  # what a check throws is its result
        what = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__} {error}"
        print(f"FAIL python-{name}: {' '.join(what.split())[:600]}", flush=True)


def main():
    checks = dict(CHECKS)
    if hasattr(dll, "CreateTransactionProducer"):
        checks["transaction"] = transaction
    else:
        print("note not run: python-transaction: the packaged library has no transactions for C", flush=True)
    threads = []
    for name, check in checks.items():
        if f"python-{name}".startswith(ONLY):
            thread = threading.Thread(target=report, args=(name, check), name=name, daemon=True)
            thread.start()
            threads.append(thread)
    end = time.monotonic() + LIMIT_SECONDS
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
        if thread.is_alive():
            print(f"FAIL python-{thread.name}: expected an end within {LIMIT_SECONDS} s, got none", flush=True)
    print("note done", flush=True)
    os._exit(0)  # the library's threads end with the process


main()
