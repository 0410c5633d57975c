#!/usr/bin/python3
"""Makes the guest's initial RAM disk: make-initrd.py INIT OUTPUT. A cpio archive (newc) with /init and /dev/console."""
import sys


def entry(name, mode, data=b'', major=0, minor=0):
    fields = [entry.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0]
    entry.inode += 1
    header = b'070701' + b''.join(b'%08x' % field for field in fields) + name.encode() + b'\0'
    return pad(header) + pad(data)


def pad(data):
    return data + bytes(-len(data) % 4)


entry.inode = 1
with open(sys.argv[1], 'rb') as f:
    init = f.read()
archive = (entry('dev', 0o040755) + entry('dev/console', 0o020600, major=5, minor=1) +
           entry('init', 0o100755, init) + entry('TRAILER!!!', 0))
with open(sys.argv[2], 'wb') as f:
    f.write(archive)
