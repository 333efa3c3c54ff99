"""What a disk may hold after a power loss, from the system calls that a process made.

A file's content is what its last sync covered, plus any part of what was written since: sectors of 512 bytes are kept
or dropped one by one. A new length may be lost or kept. Names are kept or dropped one by one, in order for the same
name; a move inside a directory is atomic, a move between two may leave the old name beside the new one. `fdatasync` of
a file covers writes that returned before it was called, and no name; `fsync` of a directory covers its names alone.
"""

import os
import re

SECTOR = 512
DIRECTORY = object()
ON_FILE = re.compile(r'^\d+<((?:[^>\\]|\\.)*)>')
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def unescape(text):
    """A string as strace prints it with -xx."""
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


class Inode:
    """One file: what is durable, and what happened since, in order."""

    def __init__(self):
        self.durable = bytearray()
        self.pending = []  # (left, offset, data) or (left, None, length)

    def length(self):
        length = len(self.durable)
        for _, offset, what in self.pending:
            length = what if offset is None else max(length, offset + len(what))
        return length

    def sync(self, before):
        kept = []
        for change in self.pending:
            if change[0] < before:
                apply(self.durable, change)
            else:
                kept.append(change)
        self.pending = kept


def apply(content, change):
    _, offset, what = change
    if offset is None:
        resize(content, what)
    else:
        resize(content, max(len(content), offset + len(what)))
        content[offset:offset + len(what)] = what


def resize(content, length):
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


class NameOp:
    """One change of names in one directory: (path, inode, DIRECTORY or None) pairs."""

    def __init__(self, left, directory, changes, needs=None):
        self.left, self.directory, self.changes, self.needs = left, directory, changes, needs


class Disk:
    """`file_syncs` and `directory_syncs` False: syncs of that kind do nothing, for the controls."""

    def __init__(self, root, file_syncs=True, directory_syncs=True):
        self.root = root
        self.file_syncs, self.directory_syncs = file_syncs, directory_syncs
        self.now, self.durable, self.pending = {}, {}, []

    def event(self, call):
        """Carries out a call that has returned. Answers whether it changed anything."""
        on = ON_FILE.match(call.arguments)
        path = unescape(on.group(1)).decode() if on else ""
        name, inode = call.name, self.now.get(path)
        if name in ("fdatasync", "fsync"):
            self.sync(path, call.entered)
        elif name == "pwrite64" or (name == "write" and inode):
            self.write(inode, path, call)
        elif name == "ftruncate" and inode:
            inode.pending.append((call.left, None, int(call.arguments.rsplit(",", 1)[1])))
        elif name == "fallocate" and inode:
            mode, start, length = (int(part, 0) for part in call.arguments.split(">", 1)[1].strip(", ").split(","))
            if mode != 0:
                raise ValueError(f"fallocate with mode {mode}: not known here")
            inode.pending.append((call.left, None, max(inode.length(), start + length)))
        elif name in ("openat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir"):
            return self.names(call)
        else:
            return False
        return True

    def write(self, inode, path, call):
        if inode is None:
            if path.startswith(self.root):
                raise ValueError(f"a write to {path}, which nobody made")
            return
        if call.name != "pwrite64":
            raise ValueError(f"{call.name} on {path}: this model knows pwrite64 only")
        data, offset = unescape(QUOTED.search(call.arguments).group(1)), int(call.arguments.rsplit(",", 1)[1])
        done = len(data) if call.result is None else int(call.result)
        inode.pending.append((call.left, offset, data[:done]))

    def names(self, call):
        paths = [unescape(text).decode() for text in QUOTED.findall(call.arguments)]
        if not paths or not paths[-1].startswith(self.root):
            return False
        old, new = paths[0], paths[-1]
        left, directory = call.left, os.path.dirname(new)
        if call.name == "openat":
            if "O_CREAT" not in call.arguments or new in self.now:
                return False
            self.change(NameOp(left, directory, [(new, Inode())]))
        elif call.name.startswith("mkdir"):
            self.change(NameOp(left, directory, [(new, DIRECTORY)]))
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            self.change(NameOp(left, directory, [(new, None)]))
        elif os.path.dirname(old) == directory:
            self.change(NameOp(left, directory, [(new, self.now[old]), (old, None)]))
        else:
            moved = NameOp(left, directory, [(new, self.now[old])])
            self.change(moved)
            self.change(NameOp(left, os.path.dirname(old), [(old, None)], moved))
        return True

    def change(self, op):
        for path, what in op.changes:
            put(self.now, path, what)
        self.pending.append(op)

    def sync(self, path, before):
        inode = self.now.get(path)
        if isinstance(inode, Inode):
            if self.file_syncs:
                inode.sync(before)
        elif self.directory_syncs:
            covered = {id(op) for op in self.pending if op.directory == path and op.left < before}
            covered |= {id(op.needs) for op in self.pending if id(op) in covered and op.needs}
            for op in self.pending:
                if id(op) in covered:
                    for changed, what in op.changes:
                        put(self.durable, changed, what)
            self.pending = [op for op in self.pending if id(op) not in covered]

    def image(self, dice, under_way=()):
        """Files and directories of one possible state: path to bytes or DIRECTORY. `under_way`: calls that had not
        returned yet; each may have had its effect."""
        how_names = dice.choice(("all", "none", "random", "random", "prefix"))
        how_data = dice.choice(("all", "none", "random", "random", "random", "prefix", "whole"))
        names = self.kept_names(dice, how_names)
        extra = {}
        for call in under_way:
            on = ON_FILE.match(call.arguments)
            inode = self.now.get(unescape(on.group(1)).decode()) if on else None
            quoted = QUOTED.search(call.arguments)
            if call.name == "pwrite64" and inode and quoted and dice.random() < 0.7:
                offset = re.search(r', (\d+)\s*$', call.arguments)
                if offset:
                    extra.setdefault(id(inode), []).append((1 << 60, int(offset.group(1)), unescape(quoted.group(1))))
        cut = dice.random()
        found = {}
        for path, what in names.items():
            if not self.is_reached(names, path):
                continue
            found[path] = what if what is DIRECTORY else self.content(what, extra.get(id(what), []), dice, how_data, cut)
        return found

    def is_reached(self, names, path):
        directory = os.path.dirname(path)
        while directory.startswith(self.root) and directory != self.root:
            if names.get(directory) is not DIRECTORY:
                return False
            directory = os.path.dirname(directory)
        return True

    def kept_names(self, dice, how):
        names, lost, dropped = dict(self.durable), set(), set()
        chance = dice.choice((0.2, 0.5, 0.8))
        end = dice.randint(0, len(self.pending))
        for at, op in enumerate(self.pending):
            keep = {"all": True, "none": False, "prefix": at < end, "random": dice.random() < chance}[how]
            # The same name goes through its states in order; a name goes only after it came elsewhere.
            keep = keep and not any(path in lost for path, _ in op.changes) and id(op.needs) not in dropped
            if keep:
                for path, what in op.changes:
                    put(names, path, what)
            else:
                dropped.add(id(op))
                lost |= {path for path, _ in op.changes}
        return names

    @staticmethod
    def content(inode, extra, dice, how, cut):
        pending = inode.pending + extra
        if not pending or how == "none":
            return bytes(inode.durable)
        content = bytearray(inode.durable)
        if how == "all":
            for change in pending:
                apply(content, change)
            return bytes(content)
        if how == "prefix":
            end = int(cut * (len(pending) + 1))
            for change in pending[:end]:
                apply(content, change)
            if end < len(pending) and pending[end][1] is not None:
                left, offset, data = pending[end]
                apply(content, (left, offset, data[:dice.randint(0, len(data) // SECTOR) * SECTOR]))
            return bytes(content)
        chance = dice.choice((0.1, 0.5, 0.9))
        for left, offset, what in pending:
            if offset is None or how == "whole":
                if dice.random() < chance:
                    apply(content, (left, offset, what))
                continue
            sectors(content, offset, what, dice, chance)
        return bytes(content)


def sectors(content, offset, data, dice, chance):
    """Writes some sectors of `data`. The disk writes whole sectors: borders are the device's."""
    at = offset
    while at < offset + len(data):
        end = min((at // SECTOR + 1) * SECTOR, offset + len(data))
        if dice.random() < chance:
            apply(content, (0, at, data[at - offset:end - offset]))
        at = end


def put(names, path, what):
    if what is None:
        names.pop(path, None)
    else:
        names[path] = what


def write_image(found, root, target):
    """Makes the image under `target`: what was `root` is there now."""
    for path in sorted(found):
        place = target + path[len(root):]
        content = found[path]
        if content is DIRECTORY:
            os.makedirs(place, exist_ok=True)
            continue
        with open(place, "wb") as file:
            file.write(content.rstrip(b"\0"))
            file.truncate(len(content))
