"""From a seed and a number to one request, always the same one: every field valid, absent, wrong or over its bound."""

import json
import random
import struct
import zlib
from dataclasses import dataclass, field

from table import ROWS

TOPICS = ["T1", "T2"]
SPARE_TOPICS = ["S1", "S2"]  # take what is not quite valid, so that offsets of T1 and T2 stay equal on both sides
GROUPS = ["CG", "G1"]
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
HALVES = 120
MESSAGES = 12
ADDRESSES = ["10.0.0.1:10911", "10.0.0.2:10911", "10.0.0.9:1", "", "nowhere"]
OLD = 30


@dataclass(frozen=True)
class Ref:
    """A value that each side has its own of: made of the answer to a send of the set-up."""
    kind: str
    at: int = 0
    plus: int = 0


@dataclass
class Request:
    number: int
    row: dict
    code: int
    ext: dict | None = None
    body: object = b""
    kinds: dict = field(default_factory=dict)  # field -> how its value was made
    binary: bool = False
    oneway: bool = False
    language: str = "JAVA"
    version: int = 399
    raw: bytes | None = None  # an odd frame, on a connection of its own

    def poisons(self):
        """As listed in differs.txt, Java does this and we do not: brokers without a name, groups without a name, any
        message put back as a half message; and heartbeats and locks without a client, after which Java answers each
        heartbeat of the connection, each lock of the queue, with a null pointer. It shows in many later answers, so it comes last."""
        if self.code == 323 or self.code == 200 and b'"groupName": ""' in self.body or b"=perhaps" in self.body:
            return True
        if self.code in (34, 41) and self.kinds.get("body", "").lower().endswith("clientid"):
            return True
        words = {word for word, _ in self.words()}
        if self.code == 314 and words & {"topic=absent", "topic=blank", "topic=empty"}:
            return True
        return self.code in CHANGES and bool(words & {"<required>=absent", "<number>=unreadable"})

    def words(self):
        """What rules match on, as (word, field or None)."""
        out = {(f"version:{self.version}", None), (f"language:{self.language}", None)}
        types = {name: (kind, required) for name, kind, required, _ in self.row["fields"]}
        made = self.kinds
        if made.get("fields") == "absent":
            made = {**made, **dict.fromkeys(types, "absent")}
        for name, kind in made.items():
            kinds, names = {"absent" if kind == "left-out" else kind}, {name}
            if name in types:
                names.add(f"<{types[name][0]}>")
                if types[name][0] in ("int", "long"):
                    names.add("<number>")
                    kinds |= {"unreadable"} if kind in UNREADABLE else set()
                names.add("<required>" if types[name][1] else "<optional>")
            out |= {(f"{one}={other}", name) for one in names for other in kinds}
        for name, content in (self.ext or {}).items():
            out.add((f"{name}:{str(content)[:60]}", name))
        out |= {(word, None) for word, on in [("oneway", self.oneway), ("binary", self.binary)] if on}
        return out


# Requests that change what others ask for.
CHANGES = {11, 15, 17, 36, 100, 102, 103, 104, 205, 207, 215, 216, 314, 327}

# Values of a domain: kind -> what to draw from. The first kind is the valid one.
def domains(i):
    topics = {"valid": TOPICS, "unknown": [f"U{i}", "no-such-topic"], "long": ["t" * 128, "t" * 127 + "é", "x" * 300],
              "chars": ["a/b", "a b", "a\u0001b", "tépic", "a.b", "../x", "a\u0000b"], "empty": [""], "blank": ["  "],
              "system": ["SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "TBW102", "SELF_TEST_TOPIC", "DefaultCluster",
                         "OFFSET_MOVED_EVENT", "BenchmarkTest", "rmq_sys_x"],
              "retry": ["%RETRY%CG", f"%RETRY%none{i}", "%DLQ%CG"], "readonly": ["TRO"], "writeonly": ["TWO"]}
    groups = {"valid": GROUPS, "unknown": [f"UG{i}", "no-such-group"], "long": ["g" * 256, "g" * 128],
              "chars": ["a/b", "a b", "gröup", "a@b"], "empty": [""], "blank": ["  "], "off": ["GOFF"],
              "system": ["CID_RMQ_SYS_TRANS", "TOOLS_CONSUMER", "DEFAULT_CONSUMER"]}
    return {
        "topic": topics,
        "group": groups,
        "newtopic": {**topics, "valid": [f"N{i % 7}", "S3"]},
        "oldtopic": {**topics, "valid": [f"D{i % OLD}"]},
        "oldgroup": {**groups, "valid": [f"DG{i % OLD}"]},
        "newgroup": {**groups, "valid": [f"NG{i % 5}"]},
        "producer": {**groups, "valid": ["PG", "PG2"]},
        "txgroup": {"valid": ["PGT"], "unknown": ["PG"], "empty": [""]},
        "template": {"valid": ["TBW102"], "unknown": ["no-such-topic"], "plain": ["T1"], "empty": [""]},
        "replytopic": {"valid": ["DefaultCluster_REPLY_TOPIC"], "unknown": [f"UR{i}"], "long": ["t" * 128],
                       "chars": ["a/b"], "empty": [""], "system": ["SCHEDULE_TOPIC_XXXX"]},
        "groups": {"valid": ["G9", "G8,G9", ""], "unknown": ["no-such-group"], "long": ["g," * 500]},
        "queue": {"valid": [0, 0, 1], "negative": [-1, -(2**31)], "high": [1000, 2**31 - 1, 4]},
        "offset": {"valid": [0, 1, 2], "negative": [-1, -(2**63)], "high": [10**6, 2**63 - 1]},
        "count": {"valid": [4, 32, 1], "zero": [0], "negative": [-1], "high": [100000, 2**31 - 1]},
        "queues": {"valid": [4, 1, 8], "zero": [0], "negative": [-1], "high": [70000, 2**31 - 1]},
        "times": {"valid": [0, 1], "negative": [-1], "high": [100, 2**31 - 1]},
        "level": {"valid": [0, 3, 18], "negative": [-1], "high": [19, 2**31 - 1]},
        "number": {"valid": [0, 7], "negative": [-7], "high": [2**31 - 1]},
        "time": {"valid": [1_700_000_000_000], "zero": [0], "negative": [-1], "high": [2**63 - 1]},
        "timestamp": {"valid": [0, 1_700_000_000_000, -1], "negative": [-2], "high": [2**63 - 1, 4 * 10**12]},
        "begin": {"valid": [0], "negative": [-1], "high": [2**63 - 1]},
        "end": {"valid": [4 * 10**12, 2**63 - 1], "negative": [-1], "zero": [0]},
        "suspend": {"valid": [100, 0], "negative": [-1], "high": [2**63 - 1, 60_000]},
        "version": {"valid": [0, 1], "negative": [-1], "high": [2**63 - 1, 4 * 10**12]},
        "brokerid": {"valid": [0, 1], "negative": [-1], "high": [2**63 - 1]},
        "crc": {"valid": [0], "wrong": [1, -1]},
        "perm": {"valid": [6, 4, 2, 7], "zero": [0], "negative": [-1], "high": [255, 2**31 - 1]},
        "topicflag": {"valid": [0, 1, 2, 3], "negative": [-1], "high": [2**31 - 1]},
        "sendflag": {"valid": [0], "compressed": [1], "tags": [2], "half": [4], "commit": [8], "rollback": [12],
                     "v6": [16, 32, 48], "negative": [-1], "high": [2**31 - 1, 64]},
        "pullflag": {"valid": [4, 0, 5], "suspend": [2, 6, 7], "classfilter": [8, 12], "lite": [20, 16],
                     "negative": [-1], "high": [2**31 - 1, 64]},
        "commit": {"valid": [8, 12, 8], "unknown": [0], "wrong": [1, 4, -1]},
        "expression": {"valid": ["*", "TagA", "TagA || TagB"], "empty": [""], "blank": ["  "], "bad": ["||", "a = "],
                       "sql": ["a = '1'", "a IS NOT NULL"], "long": ["T" * 5000]},
        "exprtype": {"valid": ["TAG"], "sql": ["SQL92"], "unknown": ["XPATH", "tag"], "empty": [""]},
        "filtertype": {"valid": ["SINGLE_TAG", "MULTI_TAG"], "unknown": ["NO_TAG", "single_tag"], "empty": [""]},
        "key": {"valid": ["k1", "k2"], "unknown": ["no-such-key"], "empty": [""], "long": ["k" * 300]},
        "msgid": {"valid": ["7F0000010A2B18B4AAC20000000A0000"], "empty": [""], "unknown": ["x"]},
        "offsetid": {"valid": [Ref("offsetid", i % MESSAGES)], "half": [Ref("offsetid-half", i % HALVES)],
                     "unknown": ["x", "7F00000100002A9F00000000000FFFFF"], "empty": [""],
                     "middle": [Ref("offsetid", i % MESSAGES, 7)], "long": ["7F" * 40], "hex": ["Z" * 32]},
        "physical": {"valid": [Ref("physical", i % MESSAGES)], "middle": [Ref("physical", i % MESSAGES, 7)],
                     "negative": [-1], "high": [2**40, 2**63 - 1]},
        "halfqueue": {"valid": [Ref("halfqueue", i % HALVES)], "other": [Ref("halfqueue", (i + 1) % HALVES)],
                      "negative": [-1], "high": [2**40]},
        "halfphysical": {"valid": [Ref("halfphysical", i % HALVES)], "plain": [Ref("physical", i % MESSAGES)],
                         "negative": [-1], "high": [2**40, 2**63 - 1], "middle": [Ref("halfphysical", i % HALVES, 7)]},
        "client": {"valid": ["client-1", "hb1"], "unknown": ["no-such-client"], "empty": [""]},
        # Java forgets where client-1 is, on whatever connection it says that it leaves.
        "leaver": {"valid": ["hb1", "hb2"], "unknown": ["no-such-client"], "empty": [""]},
        "stats": {"valid": ["TOPIC_PUT_NUMS", "BROKER_PUT_NUMS", "GROUP_GET_NUMS"], "unknown": ["NO_SUCH"], "empty": [""],
                  "uncounted": ["QUEUE_PUT_NUMS", "GROUP_GET_FALL_SIZE"]},
        "statskey": {"valid": ["T1", "DefaultCluster", "T1@CG"], "unknown": ["no-such"], "empty": [""]},
        "namespace": {"valid": ["ns1", "ORDER_TOPIC_CONFIG"], "unknown": [f"ns-{i}"], "empty": [""], "chars": ["é\u0001"]},
        "kvkey": {"valid": ["k1", "TORDER", f"k{i % 9}"], "unknown": ["no-such-key"], "empty": [""], "chars": ["é\u0001"]},
        "kvvalue": {"valid": ["v1", "broker-x:4"], "empty": [""], "chars": ["é\u0001\"{"], "long": ["v" * 20000]},
        "broker": {"valid": ["broker-x", "broker-y"], "unknown": ["no-such-broker"], "empty": [""], "chars": ["é b"]},
        "addr": {"valid": ADDRESSES[:2], "unknown": ADDRESSES[2:3], "empty": [""], "chars": ADDRESSES[4:]},
        "cluster": {"valid": ["cluster-x", "cluster-y"], "unknown": ["no-such-cluster"], "empty": [""]},
        "routetopic": {"valid": ["R0", "R1", "TORDER"], "unknown": ["never-a-topic"], "empty": [""], "long": ["t" * 128],
                       "chars": ["a/b"], "system": ["TBW102"]},
        "oldroute": {"valid": [f"RD{i % OLD}"], "unknown": ["no-such-topic"], "empty": [""]},
        "false": {"valid": ["false", "true"]},
        "true": {"valid": ["true"], "off": ["false"]},
        "properties": {"valid": ["KEYS\u0001k1\u0002WAIT\u0001true", "TAGS\u0001TagA\u0002UNIQ_KEY\u0001u1"],
                       "delayed": ["DELAY\u00013", "DELAY\u000199"], "baddelay": ["DELAY\u0001x", "DELAY\u0001-1"],
                       "half": ["TRAN_MSG\u0001true\u0002PGROUP\u0001PG"], "empty": [""],
                       "junk": ["\u0001\u0002\u0001", "abc", "a\u0001", "\u0001b\u0002"], "long": ["a\u0001" + "v" * 40000],
                       "nearly": ["a\u0001" + "v" * 32700], "nul": ["a\u0001b\u0000c"], "wait": ["WAIT\u0001false"]},
        "wait": {"valid": ["WAIT\u0001true"], "delayed": ["DELAY\u00013"], "junk": ["\u0001"], "half": ["TRAN_MSG\u0001true"]},
        "replyproperties": {"valid": ["REPLY_TO_CLIENT\u0001client-1\u0002CORRELATION_ID\u0001c1\u0002MSG_TYPE\u0001reply"],
                            "unknown": ["REPLY_TO_CLIENT\u0001no-such-client"], "empty": [""], "junk": ["abc"]},
    }


NUMBERS = {"text": ["x", "0x10", "1.5", " 1", "1e3", "NaN"], "empty": [""], "over64": [str(2**63), str(-(2**70))],
           "plus": ["+0"], "zeros": ["000"]}
INTEGERS = {**NUMBERS, "over32": [str(2**31), str(-(2**31) - 1), str(2**40)]}
UNREADABLE = {"text", "empty", "over32", "over64"}
FLAGS = {"text": ["yes", "1"], "empty": [""], "case": ["TRUE", "False"]}


def value(rng, i, kind, domain, wanted):
    """(how it was made, value); the value None is absent."""
    choices = domains(i)[domain]
    if wanted:
        return "valid", rng.choice(choices["valid"])
    more = {"int": INTEGERS, "long": NUMBERS, "bool": FLAGS, "str": {}}[kind]
    odd = [name for name in choices if name != "valid"] + list(more)
    name = rng.choice(odd + ["absent"] * max(1, len(odd) // 4))
    if name == "absent":
        return name, None
    return name, rng.choice({**more, **choices}[name])


def message_body(rng, odd):
    if not odd:
        return "valid", f"body {rng.randrange(10)}".encode()
    kind = rng.choice(["empty", "over", "binary", "compressed"])
    return kind, {"empty": b"", "over": b"x" * (MESSAGE_BYTES_MAX + 1), "binary": bytes(range(256)),
                  "compressed": zlib.compress(b"hello")}[kind]


def batch_row(body, properties=b"WAIT\1true", size=None):
    size = 22 + len(body) + len(properties) if size is None else size
    return struct.pack(">iiiii", size, 0, 0, 0, len(body)) + body + struct.pack(">h", len(properties)) + properties


def batch_body(rng, odd):
    good = b"".join(batch_row(f"m{n}".encode()) for n in range(rng.randrange(1, 4)))
    if not odd:
        return "valid", good
    kind = rng.choice(["empty", "truncated", "junk", "size", "negative", "over", "inner-long", "trailing"])
    return kind, {"empty": b"", "truncated": good[:-3], "junk": b"not a batch at all", "size": batch_row(b"a", size=1000),
                  "negative": struct.pack(">iiiii", 32, 0, 0, 0, -5) + b"x" * 12, "over": batch_row(b"x" * MESSAGE_BYTES_MAX),
                  "inner-long": batch_row(b"a", b"p\1" + b"v" * 32000) * 2, "trailing": good + b"\0\0"}[kind]


def spoil_json(rng, good):
    """A JSON body that is not as it should be."""
    text = json.dumps(good)
    kind = rng.choice(["absent", "truncated", "text", "object", "array", "null", "member", "members", "type", "extra"])
    if kind in ("member", "members", "type", "extra") and isinstance(good, dict):
        spoilt, name = dict(good), rng.choice(sorted(good))
        if kind == "member":
            spoilt[name] = None
        elif kind == "members":
            del spoilt[name]
        elif kind == "type":
            spoilt[name] = {"x": 1} if isinstance(spoilt[name], (str, int)) else "x"
        else:
            spoilt["noSuchMember"] = [1, {"a": None}]
        return f"{kind}-{name}" if kind != "extra" else kind, json.dumps(spoilt).encode()
    return kind, {"absent": b"", "truncated": text[:-2].encode(), "text": b"no JSON", "object": b"{}", "array": b"[]",
                  "null": b"null"}.get(kind, b"[1]")


def subscription(topic, expression="*", kind="TAG", version=1):
    tags = [] if expression == "*" or kind != "TAG" else [tag.strip() for tag in expression.split("||")]
    return {"classFilterMode": False, "codeSet": [java_hash(tag) for tag in tags], "expressionType": kind,
            "subString": expression, "subVersion": version, "tagsSet": tags, "topic": topic}


def java_hash(text):
    number = 0
    for char in text:
        number = (31 * number + ord(char)) & 0xFFFFFFFF
    return number - 2**32 if number >= 2**31 else number


def heartbeat(client, groups, producers=()):
    rows = [{"consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "consumeType": "CONSUME_PASSIVELY", "groupName": group,
             "messageModel": "CLUSTERING", "subscriptionDataSet": subscriptions, "unitMode": False}
            for group, subscriptions in groups.items()]
    return {"clientID": client, "consumerDataSet": rows,
            "producerDataSet": [{"groupName": name} for name in producers]}


def group_config(name, **more):
    config = {"groupName": name, "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": True,
              "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
              "notifyConsumerIdsChangedEnable": True}
    return {**config, **more}


def topic_config(name, queues=4, perm=6, flag=0):
    return {"order": False, "perm": perm, "readQueueNums": queues, "topicFilterType": "SINGLE_TAG", "topicName": name,
            "topicSysFlag": flag, "writeQueueNums": queues}


def register_body(topics, counter=1):
    table = {config["topicName"]: config for config in topics}
    return {"filterServerList": [], "topicConfigSerializeWrapper": {
        "dataVersion": {"counter": counter, "timestamp": 1_700_000_000_000}, "topicConfigTable": table}}


def compressed_register(body):
    """The compact form, in one zlib stream."""
    configs = body["topicConfigSerializeWrapper"]
    rows = [f"{name} {c['readQueueNums']} {c['writeQueueNums']} {c['perm']} {c['topicFilterType']}"
            for name, c in configs["topicConfigTable"].items()]
    sized = lambda text: struct.pack(">i", len(text.encode())) + text.encode()
    parts = [sized(json.dumps(configs["dataVersion"])), struct.pack(">i", len(rows)), *map(sized, rows), sized("[]")]
    return zlib.compress(b"".join(parts))


def json_body(rng, i, name):
    if name == "heartbeat":
        expression = rng.choice([("*", "TAG"), ("TagA", "TAG"), ("a = '1'", "SQL92"), ("a = ", "SQL92"), ("x", "XPATH")])
        return heartbeat(f"hb{i % 4}", {f"HG{i % 3}": [subscription("T1", *expression, version=i)]}, [f"HP{i % 2}"])
    if name == "clientconfig":
        expression = rng.choice([("*", "TAG"), ("||", "TAG"), ("a = '1'", "SQL92"), ("a = ", "SQL92"), ("x", "XPATH")])
        return {"clientId": "client-1", "group": "CG", "subscriptionData": subscription("T1", *expression)}
    if name == "lock":
        queues = [{"topic": rng.choice(["T1", "no-such-topic"]), "brokerName": "broker-d", "queueId": n}
                  for n in range(rng.randrange(3))]
        return {"consumerGroup": rng.choice(["CG", "no-such-group"]), "clientId": f"lk{i % 3}", "mqSet": queues}
    if name == "group":
        odd = rng.choice([{}, {}, {"retryQueueNums": 0}, {"retryQueueNums": -1}, {"retryMaxTimes": -1}, {"brokerId": 7},
                          {"groupName": ""}, {"groupName": "a/b"}, {"groupName": "g" * 300}, {"groupName": "a b"},
                          {"groupName": None}, {"groupSysFlag": 1}, {"attributes": {"a": "b"}}])
        return group_config(f"NG{i % 5}", **odd)
    if name == "dataversion":
        return {"counter": rng.choice([1, 2]), "timestamp": 1_700_000_000_000}
    return register_body([topic_config(f"R{i % 3}", rng.choice([1, 4, 0, -1]))], counter=i)


PROPERTIES = {"b": ["fileReservedTime=48", "noSuchKey=1", "fileReservedTime=many", "", "brokerPermission=6", "a\nb=c",
                    "maxIndexNum=200001", "=x", "traceOn = true"],
              "n": ["orderMessageEnable=true", "noSuchKey=1", "orderMessageEnable=perhaps", "", "serverWorkerThreads=9", "junk"]}


def body(rng, i, row, odd):
    name = row["body"]
    if name is None:
        return ("extra", b"an unexpected body") if odd and rng.random() < 0.2 else ("none", b"")
    if name == "message":
        return message_body(rng, odd)
    if name == "batch":
        return batch_body(rng, odd)
    if name == "properties":
        text = rng.choice(PROPERTIES[row["server"]])
        return text.replace("\n", "\\n") or "absent", text.encode()
    good = json_body(rng, i, name)
    if odd:
        return spoil_json(rng, good)
    return "valid", json.dumps(good).encode()


ODD_FRAMES = ["serialize-type", "zero-length", "negative-length", "header-beyond", "empty-header", "empty-object", "no-json",
              "array", "over-frame-max", "single-quotes", "bare-keys", "trailing-comma", "control", "nulls", "typed-values",
              "text-numbers", "unknown-members", "reply", "no-language", "language-number", "language-unknown",
              "binary-remark-beyond", "binary-ext-beyond", "binary-short", "body-cut", "ext-null", "ext-text", "bad-utf8"]


def odd_frame(kind, is_broker):
    from wire import binary_header, frame, json_header
    code, ext = (30, {"topic": "T1", "queueId": "0"}) if is_broker else (105, {"topic": "R0"})
    fields = {"code": code, "flag": 0, "language": "JAVA", "opaque": 77, "version": 399, "extFields": ext}
    text = json.dumps(fields)
    members = ",".join(f"{name}:{json.dumps(content)}" for name, content in fields.items())
    binary = binary_header(code, 77, ext)
    return {
        "serialize-type": lambda: frame(text.encode(), kind=2),
        "zero-length": lambda: struct.pack(">i", 0) + b"\0" * 8,
        "negative-length": lambda: struct.pack(">i", -5) + text.encode(),
        "header-beyond": lambda: struct.pack(">iI", 4 + 10, 500) + b"{" * 10,
        "empty-header": lambda: frame(b""),
        "empty-object": lambda: frame(b"{}"),
        "no-json": lambda: frame(b"no json at all"),
        "array": lambda: frame(b"[1,2]"),
        "over-frame-max": lambda: struct.pack(">iI", 16 * 1024 * 1024 + 1, 20) + b"x" * 100,
        "single-quotes": lambda: frame(text.replace('"', "'").encode()),
        "bare-keys": lambda: frame(("{" + members + "}").encode()),
        "trailing-comma": lambda: frame((text[:-1] + ",}").encode()),
        "control": lambda: frame((text[:-1] + ',"remark":"a\u0001b"}').encode()),
        "nulls": lambda: frame((text[:-1] + ',"remark":null,"language":null}').encode()),
        "typed-values": lambda: frame(json.dumps({**fields, "extFields": {**ext, "queueId": 0, "x": True}}).encode()),
        "text-numbers": lambda: frame(json.dumps({**fields, "code": str(code), "opaque": "77"}).encode()),
        "unknown-members": lambda: frame((text[:-1] + ',"more":{"a":[1,2]}}').encode()),
        "reply": lambda: frame(json_header(0, 999999, None, flag=1)) + frame(text.encode()),
        "no-language": lambda: frame(json.dumps({n: c for n, c in fields.items() if n not in ("language", "version")}).encode()),
        "language-number": lambda: frame(json.dumps({**fields, "language": 4}).encode()),
        "language-unknown": lambda: frame(json.dumps({**fields, "language": "KLINGON"}).encode()),
        "binary-remark-beyond": lambda: frame(binary[:13] + struct.pack(">i", 70000) + binary[17:], kind=1),
        "binary-ext-beyond": lambda: frame(binary[:17] + struct.pack(">i", 70000) + binary[21:], kind=1),
        "binary-short": lambda: frame(binary[:9], kind=1),
        "body-cut": lambda: struct.pack(">iI", 4 + len(text) - 20, len(text)) + text.encode(),
        "ext-null": lambda: frame(json_header(code, 77, None)),
        "ext-text": lambda: frame(json.dumps({**fields, "extFields": "x"}).encode()),
        "bad-utf8": lambda: frame(text.replace("JAVA", "J\udcff").encode("utf-8", "surrogateescape")),
    }[kind]()


def request(seed, number):
    """Request `number` of a seed. The same for every run, whatever came before."""
    rng = random.Random(f"{seed}:{number}")
    row = rng.choices(ROWS, [row["weight"] for row in ROWS])[0]
    made = Request(number, row, row["code"])
    if row.get("odd"):
        kind = rng.choice(ODD_FRAMES)
        made.kinds["frame"], made.raw = kind, odd_frame(kind, row["server"] == "b")
        return made
    if row.get("unknown"):
        made.code = rng.choice(row["unknown"])
        made.kinds["code"] = str(made.code)
        made.ext = rng.choice([None, {}, {"topic": "T1"}])
    else:
        fill(rng, made)
    made.binary = rng.random() < 0.15 and -32768 <= made.code <= 32767
    made.oneway = rng.random() < 0.03
    made.language = rng.choice(["JAVA"] * 12 + ["GO", "CPP", "OTHER", "RUST"])
    made.version = rng.choice([399] * 12 + [0, 30, 120, 479, 32767])
    return made


def fill(rng, made):
    """Draws fields and body: none, one or two of them odd."""
    row, number = made.row, made.number
    names = [name for name, *_ in row["fields"]] + ["body"]
    odd = set(rng.sample(names, min(len(names), rng.choice([0, 0, 0, 1, 1, 1, 1, 2, 2]))))
    made.ext = {}
    for name, kind, required, domain in row["fields"]:
        # Optional fields are often left out by valid requests too.
        if name not in odd and not required and rng.random() < 0.3:
            made.kinds[name] = "left-out"
            continue
        how, content = value(rng, number, kind, domain, name not in odd)
        if how == "valid" and domain == "topic" and odd and row["body"] in ("message", "batch"):
            content = rng.choice(SPARE_TOPICS)
        made.kinds[name] = how
        if content is not None:
            made.ext[name] = content if isinstance(content, Ref) else str(content)
    made.kinds["body"], made.body = body(rng, number, row, "body" in odd)
    if made.code == 103 and made.ext.get("compressed") == "true" and made.kinds["body"] == "valid" and rng.random() < 0.8:
        made.kinds["body"], made.body = "compressed", compressed_register(json.loads(made.body))
    if rng.random() < 0.03:
        made.ext["noSuchField"] = "x"
    if rng.random() < 0.02 and row["fields"]:
        made.ext, made.kinds = None, {"fields": "absent", "body": made.kinds["body"]}
