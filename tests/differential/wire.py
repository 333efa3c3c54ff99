"""The remoting protocol as a client speaks it: frames, both header forms, and the lenient JSON of Java's bodies."""

import itertools
import json
import select
import socket
import struct
import time

LANGUAGES = ["JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS"]


def frame(header, body=b"", kind=0):
    """One frame; `kind` is the serialize type."""
    return struct.pack(">iI", 4 + len(header) + len(body), kind << 24 | len(header)) + header + body


def json_header(code, opaque, ext, flag=0, language="JAVA", version=399, remark=None):
    fields = {"code": code, "flag": flag, "language": language, "opaque": opaque, "version": version,
              "serializeTypeCurrentRPC": "JSON"}
    if ext is not None:
        fields["extFields"] = ext
    if remark is not None:
        fields["remark"] = remark
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def binary_header(code, opaque, ext, flag=0, language="JAVA", version=399, remark=None):
    number = LANGUAGES.index(language) if language in LANGUAGES else 12
    text = (remark or "").encode()
    fields = b""
    for key, value in (ext or {}).items():
        key, value = key.encode(), str(value).encode("utf-8", "surrogatepass")
        fields += struct.pack(">h", len(key)) + key + struct.pack(">i", len(value)) + value
    start = struct.pack(">hBhii", code, number, version, opaque, flag)
    return start + struct.pack(">i", len(text)) + text + struct.pack(">i", len(fields)) + fields


class Command:
    """A frame that came in."""

    def __init__(self, header, body, kind):
        self.kind, self.body = kind, body
        if kind == 0:
            fields = json.loads(header)
            self.code, self.opaque, self.flag = fields["code"], fields["opaque"], fields["flag"]
            self.remark, self.ext = fields.get("remark"), fields.get("extFields")
            self.version, self.language = fields.get("version"), fields.get("language")
        else:
            self.code, language, self.version, self.opaque, self.flag, size = struct.unpack(">hBhiii", header[:17])
            self.language = LANGUAGES[language] if language < len(LANGUAGES) else str(language)
            at = 17 + size
            self.remark = header[17:at].decode() or None
            end = at + 4 + struct.unpack_from(">i", header, at)[0]
            at += 4
            self.ext = {}
            while at < end:
                size = struct.unpack_from(">h", header, at)[0]
                key = header[at + 2:at + 2 + size].decode()
                at += 2 + size
                size = struct.unpack_from(">i", header, at)[0]
                self.ext[key] = header[at + 4:at + 4 + size].decode()
                at += 4 + size

    @property
    def is_reply(self):
        return self.flag & 1 != 0


class Connection:
    """One connection; what comes is kept until it is asked for."""

    opaques = itertools.count(1)

    def __init__(self, port):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.closed = False
        self.replies = {}
        self.requests = []

    def write(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def read(self):
        """Takes what is there; call it when the socket is readable."""
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self.buffer += data
        while len(self.buffer) >= 4:
            size = struct.unpack(">i", self.buffer[:4])[0]
            if len(self.buffer) < 4 + size:
                return
            mark = struct.unpack(">I", self.buffer[4:8])[0]
            end = 8 + (mark & 0xFFFFFF)
            command = Command(self.buffer[8:end], self.buffer[end:4 + size], mark >> 24)
            self.buffer = self.buffer[4 + size:]
            if command.is_reply:
                self.replies[command.opaque] = command
            else:
                self.requests.append(command)

    def close(self):
        self.closed = True
        self.socket.close()


def poll(connections, seconds):
    """Reads what arrives at any of the connections within the time; returns after the first arrivals."""
    alive = [connection for connection in connections if not connection.closed]
    ready, _, _ = select.select(alive_sockets := [c.socket for c in alive], [], [], max(0, seconds))
    for connection, sock in zip(alive, alive_sockets):
        if sock in ready:
            connection.read()
    if not alive and seconds > 0:
        time.sleep(seconds)


class Lenient:
    """A parser for fastjson's output: keys that are numbers or objects, and what JSON has besides."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def parse(self):
        value = self.value()
        self.space()
        if self.at != len(self.text):
            raise ValueError(f"more text at {self.at}")
        return value

    def space(self):
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1

    def peek(self):
        self.space()
        if self.at >= len(self.text):
            raise ValueError("ends early")
        return self.text[self.at]

    def value(self):
        first = self.peek()
        if first == "{":
            self.at += 1
            pairs = []
            while self.peek() != "}":
                key = self.value()
                if self.peek() != ":":
                    raise ValueError(f"no colon at {self.at}")
                self.at += 1
                pairs.append((key, self.value()))
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
            return Object(pairs)
        if first == "[":
            self.at += 1
            items = []
            while self.peek() != "]":
                items.append(self.value())
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
            return items
        value, self.at = json.JSONDecoder(strict=False).raw_decode(self.text, self.at)
        return value


class Object:
    """A JSON object whose keys may be anything."""

    def __init__(self, pairs):
        self.pairs = pairs

    def is_record(self):
        return all(isinstance(key, str) for key, _ in self.pairs)


def message_units(body):
    """The stored messages of a body as dictionaries. Raises ValueError when it is none."""
    units, at = [], 0
    while at < len(body):
        try:
            size, magic = struct.unpack_from(">iI", body, at)
            if magic != 0xDAA320A7 or size < 91 or at + size > len(body):
                raise ValueError(f"no message at {at}")
            _, _, _, queue, flag, offset, physical, sys_flag, born = struct.unpack_from(">iIiiiqqiq", body, at)
            cursor = at + 48 + (20 if sys_flag & 16 else 8) + 8 + (20 if sys_flag & 32 else 8)
            times, prepared, length = struct.unpack_from(">iqi", body, cursor)
            cursor += 16
            content = body[cursor:cursor + length]
            cursor += length
            length = body[cursor]
            topic = body[cursor + 1:cursor + 1 + length].decode()
            cursor += 1 + length
            length = struct.unpack_from(">h", body, cursor)[0]
            properties = body[cursor + 2:cursor + 2 + length].decode()
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from error
        units.append({"topic": topic, "queue": queue, "flag": flag, "offset": offset, "physical": physical,
                      "sysFlag": sys_flag, "times": times, "body": content.hex(),
                      "properties": sorted(pair for pair in properties.split("\2") if pair)})
        at += size
    return units
