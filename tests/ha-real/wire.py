"""Machines on one wire: network namespaces, joined by a switch in user space that cuts and delays what goes to or comes from
one of them. Not every kernel has netem; TAP devices are everywhere. Needs root and `ip`."""

import ctypes
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 9000  # the switch is slow per frame, not per byte


class Unable(Exception):
    """This machine does not let us do it."""


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unable(f"ip {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")


class Wire:
    """`names` get the addresses 10.99.77.1, .2, ... in this order."""

    def __init__(self, names):
        self.names, self.spaces, self.child = names, {}, None
        self.address = {name: f"10.99.77.{number + 1}" for number, name in enumerate(names)}
        taps = {}
        try:
            for number, name in enumerate(names):
                taps[name] = self.machine(name, f"hf{os.getpid() % 100000}-{number}")
        except OSError as error:
            self.close()
            raise Unable(f"/dev/net/tun: {error}") from error
        except Unable:
            self.close()
            raise
        self.control, theirs = os.pipe()[::-1]
        self.child = os.fork()
        if self.child == 0:
            try:
                os.close(self.control)
                switch([taps[name] for name in names], theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        for tap in taps.values():
            os.close(tap)

    def machine(self, name, label):
        space = f"{label}-{name}"
        ip("netns", "add", space)
        self.spaces[name] = space
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", label.encode(), IFF_TAP | IFF_NO_PI))
        ip("link", "set", label, "netns", space, "name", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "address", "add", f"{self.address[name]}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "mtu", str(MTU), "up")
        return tap

    def enter(self, name):
        """What stands before a command that runs there."""
        return ["ip", "netns", "exec", self.spaces[name]]

    def go_to(self, name):
        """This thread, and threads it starts from now on, open their sockets there."""
        with open(f"/var/run/netns/{self.spaces[name]}", "rb") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET) != 0:
                raise Unable(f"setns: {os.strerror(ctypes.get_errno())}")

    def set(self, name, to=True, back=True, delay=0.0):
        """Whether frames to it and from it pass, and how many seconds each needs in each direction."""
        line = json.dumps([self.names.index(name), to, back, delay]) + "\n"
        os.write(self.control, line.encode())

    def plug(self, name, is_in):
        """The link itself, as when somebody pulls the cable."""
        ip("-n", self.spaces[name], "link", "set", "eth0", "up" if is_in else "down")

    def close(self):
        if self.child:
            os.close(self.control)
            os.waitpid(self.child, 0)
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def switch(taps, control):
    """Passes frames between TAP devices until the control pipe closes."""
    state = [(True, True, 0.0) for _ in taps]
    places, waiting, count, rest = {}, [], 0, b""
    for tap in taps:
        os.set_blocking(tap, False)
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([control, *taps], [], [], pause)
        if control in ready:
            data = os.read(control, 4096)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                number, *new = json.loads(line)
                state[number] = tuple(new)
        for number, tap in enumerate(taps):
            if tap not in ready:
                continue
            for _ in range(64):
                try:
                    frame = os.read(tap, 65536)
                except OSError:  # nothing more, or the link is down
                    break
                places[frame[6:12]] = number
                known = places.get(frame[:6])
                for target in [known] if known is not None else range(len(taps)):
                    if target == number or not state[number][1] or not state[target][0]:
                        continue
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + state[number][2] + state[target][2], count, number, target, frame))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, source, target, frame = heapq.heappop(waiting)
            if state[source][1] and state[target][0]:  # a cut takes what is under way
                try:
                    os.write(taps[target], frame)
                except OSError:
                    pass
