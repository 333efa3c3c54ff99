#!/usr/bin/env python3
"""topics.py BROKER_PORT NAMESRV_PORT TOPIC:QUEUES...: creates topics and waits until the name server routes them.

The clients under test cannot do it, or refuse to start when a topic has no route. Exit 1 with a line when it fails.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "kill9"))
from kill9 import Connection  # noqa: E402

CREATE_TOPIC, GET_ROUTE = 17, 105
WAIT_SECONDS = 30


def main():
    broker, name_server = (Connection(int(port)) for port in sys.argv[1:3])
    for name, queues in (pair.split(":") for pair in sys.argv[3:]):
        header, _ = broker.ask(CREATE_TOPIC, {
            "topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": 6,
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"})
        if header["code"] != 0:
            sys.exit(f"create {name}: code {header['code']}, {header.get('remark')}")
        end = time.monotonic() + WAIT_SECONDS
        while name_server.ask(GET_ROUTE, {"topic": name})[0]["code"] != 0:
            if time.monotonic() > end:
                sys.exit(f"no route of {name} within {WAIT_SECONDS} s")
            time.sleep(0.02)


main()
