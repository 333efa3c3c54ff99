"""The two sides: their servers, connections, and the state that both are given before the first request."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import generate as g
from wire import Connection, Command, binary_header, frame, json_header, poll

HERE = Path(__file__).parent
SERVERS = HERE.parent / "compat" / "servers.sh"
CONF = ["waitTimeMillsInSendQueue=60000", "waitTimeMillsInPullQueue=60000", "osPageCacheBusyTimeOutMills=60000",
        "transactionCheckInterval=86400000", "transactionTimeOut=86400000",
        "messageDelayLevel=" + " ".join(f"{n}h" for n in range(1, 19)), "flushDiskType=ASYNC_FLUSH"]
# What a client answers to the broker.
CLIENT_ANSWERS = {221: {"messageQueueTable": {}, "consumerTable": {}},
                  307: {"properties": {}, "subscriptionSet": [], "mqTable": {}, "statusTable": {}},
                  309: {"order": False, "autoCommit": True, "consumeResult": "CR_SUCCESS", "remark": "ok", "spentTimeMills": 1},
                  326: None}
GRACE = 0.4  # seconds in which an answer comes, unless the other side has one
GRACE_LONG = 8.0


def servers(*args):
    done = subprocess.run(["bash", str(SERVERS), *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"servers.sh {' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done.stdout.split()


class Side:
    """A name server and a broker of one kind."""

    def __init__(self, kind, run):
        self.kind, self.dir = kind, run / kind
        self.ns_port, self.port = map(int, servers("ports", 2))
        self.ids = []
        self.halves = []
        self.connections = {}

    def start(self):
        ns = f"127.0.0.1:{self.ns_port}"
        servers("namesrv", self.kind, self.ns_port, self.dir / "ns")
        conf = servers("conf", "broker-d", 0, self.port, ns, self.dir / "b", *CONF)[0]
        servers("broker", self.kind, conf, self.dir / "b")
        # What stands in answers and is of this side.
        self.own = [(f"127.0.0.1:{self.port}", "$BROKER"), (f"127.0.0.1:{self.port + 1}", "$HA"), (ns, "$NS"),
                    (str(self.dir), "$HOME")]
        for name in ("b", "n", "client", "nsclient"):
            self.connect(name)

    def stop(self):
        for name in ("b", "ns"):
            if (self.dir / name / "pid").exists():
                servers("kill", self.dir / name)

    def connect(self, name):
        is_ns = name.startswith("n")
        self.connections[name] = Connection(self.ns_port if is_ns else self.port)
        return self.connections[name]

    def connection(self, name):
        found = self.connections.get(name)
        return self.connect(name) if found is None or found.closed else found

    def resolve(self, value):
        if not isinstance(value, g.Ref):
            return value
        ids = self.halves if "half" in value.kind else self.ids
        offset_id, queue_offset = ids[value.at % len(ids)]
        physical = int(offset_id[16:], 16) + value.plus
        if value.kind.startswith("offsetid"):
            return f"{offset_id[:16]}{physical:016X}"
        return str(queue_offset if value.kind == "halfqueue" else physical)

    def ask(self, code, ext=None, body=b"", name="b"):
        """For the set-up: the answer, which must come."""
        connection, opaque = self.connection(name), next(Connection.opaques)
        connection.write(frame(json_header(code, opaque, ext), body if isinstance(body, bytes) else json.dumps(body).encode()))
        end = time.monotonic() + 10
        while opaque not in connection.replies and not connection.closed and time.monotonic() < end:
            self.serve(0.1)
        if opaque not in connection.replies:
            end = "closed the connection" if connection.closed else "did not answer in 10 s"
            raise RuntimeError(f"{self.kind} {end}: {code} {ext} {body!r:.200}")
        return connection.replies.pop(opaque)

    def serve(self, seconds=0.0):
        """Reads what comes, and answers what the broker asks clients. Returns what it asked."""
        poll(list(self.connections.values()), seconds)
        return self.answer_requests()

    def answer_requests(self):
        asked = []
        for connection in self.connections.values():
            for command in connection.requests:
                asked.append(command)
                if command.code in CLIENT_ANSWERS:
                    answer = CLIENT_ANSWERS[command.code]
                    content = json.dumps(answer).encode() if answer is not None else b""
                    connection.write(frame(json_header(0, command.opaque, {}, flag=1), content))
            connection.requests.clear()
        return asked

    def heartbeat(self):
        """The clients that stay, a consumer of two topics and the producers; and the brokers that do, however slow the
        run is: both name servers forget one after two minutes of silence, Java's up to ten seconds later."""
        subscriptions = [g.subscription("T1", "TagA || TagB"), g.subscription("T2"), g.subscription("%RETRY%CG")]
        body = g.heartbeat("client-1", {"CG": subscriptions}, ["PG", "PGT"])
        assert self.ask(34, None, body, "client").code == 0
        for addr in g.ADDRESSES:
            # Who asks whether the version that the name server has is the newest is alive, and changes nothing.
            ext = {"brokerName": "broker-x", "brokerAddr": addr, "clusterName": "cluster-x", "brokerId": "0"}
            known = self.ask(322, ext, {"counter": 0, "timestamp": 0}, "nsclient").body
            if known:
                assert self.ask(322, ext, known, "nsclient").code == 0

    def prepare(self):
        """The state that every request meets."""
        for name, queues, perm in [("T1", 4, 6), ("T2", 1, 6), ("S1", 4, 6), ("S2", 1, 6), ("TRO", 4, 4), ("TWO", 4, 2)] + [
                (f"D{n}", 2, 6) for n in range(g.OLD)]:
            ext = {"topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": perm,
                   "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"}
            assert self.ask(17, {k: str(v) for k, v in ext.items()}).code == 0, name
        configs = [g.group_config("CG"), g.group_config("G1"), g.group_config("GOFF", consumeEnable=False)]
        for config in configs + [g.group_config(f"DG{n}") for n in range(g.OLD)]:
            assert self.ask(200, None, config).code == 0, config
        self.heartbeat()
        for n in range(g.MESSAGES):
            topic, queue = ("T1", n % 4) if n < 8 else ("T2", 0)
            self.ids.append(self.send(topic, queue, f"TAGS\1Tag{'AB'[n % 2]}\2KEYS\1k{n % 3}\2WAIT\1true\2a\1{n % 2}", f"m{n}"))
        for n in range(g.HALVES):
            self.halves.append(self.send("T2", 0, "TRAN_MSG\1true\2PGROUP\1PGT\2WAIT\1true", f"half {n}", flag=4))
        for group, topic, queue, offset in [("CG", "T1", 0, 1), ("CG", "T2", 0, 2), ("G1", "T1", 1, 1)]:
            ext = {"consumerGroup": group, "topic": topic, "queueId": str(queue), "commitOffset": str(offset)}
            assert self.ask(15, ext).code == 0
        self.prepare_names()
        time.sleep(1.2)  # until queues and index hold all of it

    def prepare_names(self):
        for namespace, key, content in [("ns1", "k1", "v1"), ("ns1", "k2", "v2"), ("ORDER_TOPIC_CONFIG", "TORDER", "broker-x:4")]:
            assert self.ask(100, {"namespace": namespace, "key": key, "value": content}, name="nsclient").code == 0
        for n, broker in enumerate(["broker-x", "broker-y"]):
            topics = [g.topic_config(f"R{k}") for k in range(3)] + [g.topic_config(f"RD{k}") for k in range(g.OLD)]
            topics += [g.topic_config("TORDER"), g.topic_config("RU", flag=1), g.topic_config("RS", flag=2)]
            ext = {"brokerName": broker, "brokerAddr": f"10.0.0.{n + 1}:10911", "clusterName": "cluster-x", "brokerId": "0",
                   "haServerAddr": f"10.0.0.{n + 1}:10912", "compressed": "false", "bodyCrc32": "0"}
            assert self.ask(103, ext, g.register_body(topics), "nsclient").code == 0

    def send(self, topic, queue, properties, body, flag=0):
        """(message id, queue offset) of a message that was taken."""
        ext = {"a": "PG", "b": topic, "c": "TBW102", "d": "4", "e": str(queue), "f": str(flag), "g": "1700000000000",
               "h": "0", "i": properties, "j": "0", "k": "false", "m": "false"}
        answer = self.ask(310, ext, body.encode())
        assert answer.code == 0, answer.remark
        return answer.ext["msgId"], int(answer.ext["queueOffset"])

    def write(self, request):
        """Sends a request; what to wait for: (connection, opaque or None for any, what is done when it is over)."""
        if request.raw is not None:
            connection = Connection(self.ns_port if request.row["server"] == "n" else self.port)
            self.connections["odd"] = connection
            connection.write(request.raw)
            return connection, None
        connection = self.connection(request.row["server"])
        opaque = next(Connection.opaques)
        ext = None if request.ext is None else {name: self.resolve(content) for name, content in request.ext.items()}
        make = binary_header if request.binary else json_header
        header = make(request.code, opaque, ext, 2 if request.oneway else 0, request.language, request.version)
        connection.write(frame(header, request.body, 1 if request.binary else 0))
        return connection, opaque


def arrived(waiting):
    connection, opaque = waiting
    if opaque is None:
        return next(iter(connection.replies.values()), None)
    return connection.replies.get(opaque)


def exchange(sides, request):
    """Sends a request to both sides. Per side: (a Command, "closed" or "none"; what the broker asked clients)."""
    for side in sides:
        side.serve()
    waiting = [side.write(request) for side in sides]
    asked, begun = [[], []], time.monotonic()
    over = lambda w: arrived(w) is not None or w[0].closed
    while not all(map(over, waiting)):
        patience = GRACE_LONG if any(map(over, waiting)) and not request.oneway else GRACE
        left = begun + patience - time.monotonic()
        if left <= 0:
            break
        poll([c for side in sides for c in side.connections.values()], min(left, 0.1))
        for side, into in zip(sides, asked):
            into += side.answer_requests()
    wanted = request.row.get("callback")
    if wanted:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            for side, into in zip(sides, asked):
                into += side.serve(0.02)
    out = []
    for side, wait, into in zip(sides, waiting, asked):
        answer = arrived(wait)
        if answer is None:
            answer = "closed" if wait[0].closed else "none"
        elif wait[0].closed:
            side.connections.pop("odd", None)
        out.append((answer, callback_words([command for command in into if command.code == wanted])))
        wait[0].replies.clear()
        odd = side.connections.pop("odd", None)
        if odd is not None:
            odd.close()
    return out


def callback_words(commands):
    words = []
    for command in commands:
        body = re.sub(r"\d+", "N", command.body.decode("utf-8", "replace")) if command.code == 220 else bool(command.body)
        words.append(f"{command.code} {' '.join(sorted(command.ext or {}))} body={body}")
    return "; ".join(sorted(words))
