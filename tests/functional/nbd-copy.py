#!/usr/bin/python3
"""nbdcopy both ways over several connections: every byte arrives."""
import json

from ashlar_test import MIB, digest, equal, main


def copy_out(t, tcp):
    image = t.image('disk', 300 * MIB)
    server = t.serve(image, tcp=tcp)
    t.run('nbdcopy', '--connections=4', '--requests=64', server.uri, t.path('copy'))
    server.stop()
    equal(digest(t.path('copy')), digest(image), 'the digest of the copy')


def copy_in(t, tcp):
    source = t.image('source', 300 * MIB)
    # What is there already must be overwritten, also by what is zero in the source.
    target = t.path('target')
    with open(target, 'wb') as f:
        for _ in range(300):
            f.write(b'\xa5' * MIB)
    server = t.serve(target, tcp=tcp)
    t.run('nbdcopy', '--flush', '--connections=4', '--requests=64', source, server.uri)
    server.stop()
    equal(digest(target), digest(source), 'the digest of the copy')


def test_out_over_a_unix_socket(t):
    copy_out(t, tcp=False)


def test_out_over_tcp(t):
    copy_out(t, tcp=True)


def test_in_over_a_unix_socket(t):
    copy_in(t, tcp=False)


def test_in_over_tcp(t):
    copy_in(t, tcp=True)


def test_from_one_server_to_another(t):
    source, target = t.image('source', 64 * MIB), t.image('target', 64 * MIB, data=False)
    here, there = t.serve(source), t.serve(target)
    t.run('nbdcopy', '--connections=4', '--destination-is-zero', here.uri, there.uri)
    here.stop()
    there.stop()
    equal(digest(target), digest(source), 'the digest of the copy')


def test_holes_are_copied_as_holes(t):
    image = t.image('disk', 64 * MIB, data=False)
    with open(image, 'r+b') as f:
        f.seek(32 * MIB)
        f.write(b'x' * MIB)
    server = t.serve(image)
    t.run('nbdcopy', server.uri, t.path('copy'))
    extents = json.loads(t.run('nbdinfo', '--map', '--json', server.uri).stdout)
    server.stop()
    equal([e['length'] // MIB for e in extents], [32, 1, 31], 'the extents')
    equal(digest(t.path('copy')), digest(image), 'the digest of the copy')
    equal(t.path('copy').stat().st_blocks * 512 <= 2 * MIB, True, 'the copy is sparse: this')


if __name__ == '__main__':
    main()
