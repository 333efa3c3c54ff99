#!/usr/bin/env python3
"""crowd.py HOST:PORT [GROUPS] [PULLS]: groups with SQL92 filters and parked pulls, which stay until it is killed.

Every group sends a heartbeat, with a filter of its own, and parks its share of the pulls on a topic that gets no message.
Prints one line when all are parked. Exit code 1 when the broker refuses one.
"""
import json
import socket
import struct
import sys
import threading
import time

TOPIC = "Crowd"
CONNECTIONS = 20
SEND, PULL, HEART_BEAT = 310, 11, 34
SUSPEND, SUBSCRIPTION, NOT_FOUND, SUCCESS = 2, 4, 19, 0
PARK_MS = 3_600_000
BEAT_SECONDS = 20


def frame(code, opaque, ext, body=b""):
    header = {"code": code, "language": "JAVA", "version": 399, "opaque": opaque, "flag": 0, "extFields": ext}
    head = json.dumps(header).encode()
    return struct.pack(">II", 4 + len(head) + len(body), len(head)) + head + body


def read(stream):
    """The next answer; what the broker tells its clients is passed over."""
    while True:
        head = frame_of(stream)
        if head["flag"] & 1:
            return head


def frame_of(stream):
    size, head_size = struct.unpack(">II", stream.read(8))
    head = json.loads(stream.read(head_size & 0xFFFFFF))
    stream.read(size - 4 - (head_size & 0xFFFFFF))
    return head


def heartbeat(group, opaque):
    subscription = {"topic": TOPIC, "subString": f"a > {opaque} AND b IS NOT NULL", "expressionType": "SQL92",
                    "tagsSet": [], "codeSet": [], "subVersion": 1}
    data = {"groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "subscriptionDataSet": [subscription]}
    body = {"clientID": f"{group}@crowd", "consumerDataSet": [data], "producerDataSet": []}
    return frame(HEART_BEAT, opaque, {}, json.dumps(body).encode())


def pull(group, opaque):
    ext = {"consumerGroup": group, "topic": TOPIC, "queueId": "0", "queueOffset": "1", "maxMsgNums": "32",
           "sysFlag": str(SUSPEND), "commitOffset": "0", "suspendTimeoutMillis": str(PARK_MS), "subscription": "",
           "subVersion": "1", "expressionType": "SQL92"}
    return frame(PULL, opaque, ext)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    groups, pulls = (int(arg) for arg in (sys.argv[2:4] + ["1000", "10000"][len(sys.argv) - 2:]))
    sockets = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS)]
    streams = [one.makefile("rb") for one in sockets]

    def ask(at, request):
        sockets[at].sendall(request)
        answer = read(streams[at])
        if answer["code"] != SUCCESS:
            sys.exit(f"refused with code {answer['code']}: {answer.get('remark')}")

    # One message makes the topic; the pulls stand behind it.
    ask(0, frame(SEND, 1, {"a": "crowd", "b": TOPIC, "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "0", "h": "0",
                           "i": "", "j": "0", "k": "false", "m": "false"}, b"first"))
    time.sleep(1)
    names = [f"crowd_{n}" for n in range(groups)]
    for n, name in enumerate(names):
        ask(n % CONNECTIONS, heartbeat(name, n + 2))
    for n in range(pulls):
        sockets[n % groups % CONNECTIONS].sendall(pull(names[n % groups], 100_000 + n))
    time.sleep(1)
    for one, stream in zip(sockets, streams):
        one.settimeout(0.2)
        try:
            answer = read(stream)
            sys.exit(f"a pull was answered with code {answer['code']}: {answer.get('remark')}")
        except (TimeoutError, OSError):
            one.settimeout(None)
    print(f"{groups} groups, {pulls} pulls parked", flush=True)

    def drain(stream):
        while stream.read(1):
            pass

    for one in sockets:
        threading.Thread(target=drain, args=(one.makefile("rb"),), daemon=True).start()
    while True:  # a client that is silent for two minutes is forgotten
        time.sleep(BEAT_SECONDS)
        for n, name in enumerate(names):
            sockets[n % CONNECTIONS].sendall(heartbeat(name, n + 2))


if __name__ == "__main__":
    main()
