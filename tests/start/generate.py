#!/usr/bin/env python3
"""Writes a store directory as RocketMQ 4.9.3 leaves it when its derived files are lost: a commit log of 1 KB messages over
many queues, topics, one subscription group and its committed offsets. generate.py DIR GIGABYTES QUEUES OFFSETS"""
import os
import struct
import sys
import time
import zlib

SEGMENT = 1 << 30
PER_TOPIC = 8
BODY = b"x" * 1024
CRC = zlib.crc32(BODY) & 0x7FFFFFFF


def template(topic, queue, now):
    host = bytes([127, 0, 0, 1]) + struct.pack(">i", 10911)
    name = topic.encode()
    properties = b"UNIQ_KEY\x01" + b"0" * 32 + b"\x02CLUSTER\x01DefaultCluster\x02TAGS\x01TagA"
    head = struct.pack(">IiiqqiQ", CRC, queue, 0, 0, 0, 0, now) + host
    head += struct.pack(">Q", now) + host + struct.pack(">iqi", 0, 0, len(BODY))
    rest = head + BODY + bytes([len(name)]) + name + struct.pack(">h", len(properties)) + properties
    record = struct.pack(">II", 8 + len(rest), 0xDAA320A7) + rest
    return record, record.index(b"UNIQ_KEY") + 9


def main():
    root, size, queues, offsets = sys.argv[1], int(float(sys.argv[2]) * 1e9), int(sys.argv[3]), int(sys.argv[4])
    os.makedirs(f"{root}/commitlog")
    os.makedirs(f"{root}/config")
    now = int(time.time() * 1000)
    topics = [f"start-{n:05}" for n in range((queues + PER_TOPIC - 1) // PER_TOPIC)]
    keys = [(topics[n // PER_TOPIC], n % PER_TOPIC) for n in range(queues)]
    made = [template(topic, queue, now) for topic, queue in keys]
    templates, unique_at = [bytearray(record) for record, _ in made], made[0][1]
    length = len(templates[0])
    written = count = 0
    put, put_key = struct.Struct(">qq").pack_into, b"%016x"
    base = 0
    while written < size:
        buffer = bytearray(SEGMENT)
        at = 0
        while at + length + 8 <= SEGMENT and written < size:
            record = templates[count % queues]
            put(record, 20, count // queues, base + at)
            record[unique_at:unique_at + 16] = put_key % (count * 0x9E3779B97F4A7C15 & (2**64 - 1))
            buffer[at:at + length] = record
            at += length
            written += length
            count += 1
        if written < size:
            struct.pack_into(">II", buffer, at, SEGMENT - at, 0xCBD43194)
        with open(f"{root}/commitlog/{base:020}", "wb") as out:
            # The last file is mostly not yet written, as a broker leaves it.
            out.write(memoryview(buffer)[:at if written >= size else SEGMENT])
            out.truncate(SEGMENT)
        base += SEGMENT
    version = '"dataVersion":{"counter":1,"timestamp":%d}' % now
    rows = ",".join(f'"{t}":{{"order":false,"perm":6,"readQueueNums":{PER_TOPIC},"topicFilterType":"SINGLE_TAG",'
                    f'"topicName":"{t}","topicSysFlag":0,"writeQueueNums":{PER_TOPIC}}}' for t in topics)
    write(root, "topics.json", '{%s,"topicConfigTable":{%s}}' % (version, rows))
    write(root, "subscriptionGroup.json", '{%s,"subscriptionGroupTable":{}}' % version)
    table, left, group = [], offsets, 0
    while left > 0:
        for topic in topics:
            taken = list(range(PER_TOPIC))[:left]
            if taken:
                table.append('"%s@group-%d":{%s}' % (topic, group, ",".join(f"{q}:{count // queues // 2}" for q in taken)))
                left -= len(taken)
        group += 1
    write(root, "consumerOffset.json", '{"offsetTable":{%s}}' % ",".join(table))
    print(f"{count} messages of {length} bytes in {queues} queues of {len(topics)} topics, {offsets} offsets of {group} groups")


def write(root, name, text):
    with open(f"{root}/config/{name}", "w") as out:
        out.write(text)


main()
