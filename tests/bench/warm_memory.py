#!/usr/bin/env python3
"""warm_memory.py: makes free memory what it is on a machine that has run for a day, until it is killed.

A virtual machine gives free blocks of memory of 2 MiB back to its host after a second or two. Whoever writes to them next
pays for their way back: 3 us a page here, ten times what the page costs otherwise and more than the messages in it. Which
server pays is chance, so the rounds of one binary differ by three times.

This uses all free memory once, and frees all of it but a page in every half MiB. What is free then is in blocks that are
too small to go back. Prints one line when it is done.
"""
import mmap
import os
import time

KEEP_EVERY = 512 << 10  # bytes; several to each block of 2 MiB, as they are not taken in order
LEAVE = 512 << 20  # bytes that stay free meanwhile, for everybody else
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE of Linux 5.14; Python has no name for it yet
PAGE = mmap.PAGESIZE


def free_bytes():
    """What is free, or what the control group still gives."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemFree:"))
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as most, \
                open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
            free = min(free, int(most.read()) - int(used.read()))
    except (OSError, ValueError):  # no group, or "max"
        pass
    return free


def drop_caches():
    """Memory that the cache of files holds now would be cold when it is free later. Only root may ask for it."""
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        pass


def main():
    drop_caches()
    size = (free_bytes() - LEAVE) // KEEP_EVERY * KEEP_EVERY
    if size <= 0:
        print("nothing to warm: less than 512 MiB are free", flush=True)
        return
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    try:
        memory.madvise(POPULATE_WRITE)
    except OSError:  # an older kernel
        for at in range(0, size, PAGE):
            memory[at] = 1
    for at in range(0, size, KEEP_EVERY):
        memory.madvise(mmap.MADV_DONTNEED, at + PAGE, KEEP_EVERY - PAGE)
    print(f"{size >> 20} MiB are warm, {size // KEEP_EVERY * PAGE >> 20} MiB stay held", flush=True)
    while True:
        time.sleep(3600)


main()
