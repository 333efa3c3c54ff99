#!/usr/bin/env python3
"""Makes tests/fuzz/seeds from the goldens: python3 tests/fuzz/seeds.py. Small files, kept in the tree."""
import json, pathlib, re, struct
here = pathlib.Path(__file__).parent
golden = here.parent / "golden"

def hexes(name):
    text = "".join(l for l in (golden / name).read_text().splitlines() if not l.startswith("#"))
    return bytes.fromhex(re.sub(r"\s", "", text))

def put(target, name, data):
    path = here / "seeds" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

segment = hexes("commit_log_segment.hex")
put("message_unit", "segment", segment)
put("message_unit", "batch", hexes("message_batch.hex"))
put("message_unit", "properties", b"TAGS\x01TagA\x02KEYS\x01k1 k2\x02WAIT\x01true\x02")
at, n = 0, 0
while segment[at + 4:at + 8] == bytes.fromhex("daa320a7"):
    size = struct.unpack(">I", segment[at:at + 4])[0]
    put("message_unit", f"record{n}", segment[at:at + size])
    at, n = at + size, n + 1
for line in (golden / "message_ids.txt").read_text().splitlines():
    if line and not line.startswith("#"):
        put("message_unit", "id", line.split(" ")[0].encode())
put("index", "checkpoint", hexes("checkpoint.hex")[:48])
put("index", "queue", hexes("consume_queue_topictest_3.hex")[:120])
put("index", "floor", b"HFFLOOR\0" + struct.pack(">IQQQI", 1, 5, 100, 50, 7) + bytes(8))
put("index", "checksum", b"HFCRC32C" + struct.pack(">IIQQQQ", 1, 65536, 0, 65536, 1, 1) + bytes(9))
put("index", "header", struct.pack(">QQQQII", 1700000000000, 1700000001000, 0, 4096, 2, 4) + bytes(60))

send = {"code": 310, "extFields": {"a": "CG", "b": "T", "c": "TBW102", "d": "4", "e": "1", "f": "0", "g": "1700000000000",
        "h": "0", "i": "TAGS\x01TagA\x02", "j": "0", "k": "false", "m": "false"}, "flag": 0, "language": "JAVA",
        "opaque": 7, "serializeTypeCurrentRPC": "JSON", "version": 395}
pull = {"code": 11, "extFields": {"consumerGroup": "CG", "topic": "T", "queueId": "1", "queueOffset": "5",
        "maxMsgNums": "32", "sysFlag": "3", "commitOffset": "4", "suspendTimeoutMillis": "15000", "subscription": "*",
        "subVersion": "0", "expressionType": "TAG"}, "flag": 0, "language": "GO", "opaque": 8, "remark": None, "version": 395}
def binary(h):
    ext = b"".join(struct.pack(">H", len(k)) + k.encode() + struct.pack(">I", len(v)) + v.encode()
                   for k, v in h["extFields"].items())
    return struct.pack(">HBHIII", h["code"], 0, h["version"], h["opaque"], h["flag"], 0) + struct.pack(">I", len(ext)) + ext
for name, header in (("send", send), ("pull", pull)):
    text = json.dumps(header, separators=(",", ":")).encode()
    put("header", name, b"\0" + text)
    put("header", name + "_binary", b"\1" + binary(header))
    frame = struct.pack(">II", 4 + len(text) + 5, len(text)) + text + b"hello"
    put("frame", name, frame + frame)
put("header", "escapes", b'\0{"code":10,"extFields":{"a":"\\u00e9\\n","b":null,"c":1},"remark":"x\\ty"}')

bodies = {
    "topics": '{\n\t"dataVersion":{\n\t\t"counter":4,\n\t\t"timestamp":1795361703732\n\t},\n\t"topicConfigTable":{\n\t\t"T":{\n\t\t\t"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4\n\t\t}\n\t}\n}',
    "groups": '{"dataVersion":{"counter":2,"timestamp":1},"subscriptionGroupTable":{"CG1":{"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"CG1","notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}',
    "offsets": '{\n\t"offsetTable":{\n\t\t"%RETRY%CG1@CG1":{0:1\n\t\t},\n\t\t"T@CG1":{0:2,1:2,2:4,3:3\n\t\t}\n\t}\n}',
    "delay": '{\n\t"offsetTable":{1:1,3:1\n\t}\n}',
    "heartbeat": '{"clientID":"10.0.0.1@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"CG","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1,"tagsSet":["TagA"],"topic":"T"}],"unitMode":false}],"producerDataSet":[{"groupName":"PG"}]}',
    "route": '{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911"},"brokerName":"b","cluster":"c"}],"filterServerTable":{},"queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":4,"topicSynFlag":0,"writeQueueNums":4}]}',
    "cluster": '{"brokerAddrTable":{"b":{"brokerAddrs":{0:"10.0.0.1:10911"},"brokerName":"b","cluster":"c"}},"clusterAddrTable":{"c":["b"]}}',
    "kv": '{"configTable":{"ORDER_TOPIC_CONFIG":{"ordT":"broker-a:4"}}}',
    "keys": "{{\"a\":1}:{'b':[1,2.5e3,-0,null,true]},c:{}}",
    "rot": '{"passBeganMs":1,"passNext":2,"rot":[{"path":"f","base":0,"from":0,"to":9,"what":"x","records":[],"found_ms":1}],"more":0}',
}
for name, text in bodies.items():
    put("json", name, text.encode())
for n, edits in enumerate([b"", b"\0", b"\1\0\0\x10\0\3", b"\0\2\1\0\2\x20", b"\1\3\0\0\7\0", b"\1\5\0\0\3\0", b"\0\1\2\x10\6\2",
                           b"\0\0\4\0\5\x08\xda\xa3\x20\xa7\0\0\1\0"]):
    put("store_directory", f"edit{n}", edits)
