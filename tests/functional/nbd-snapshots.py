#!/usr/bin/python3
"""ashlar-nbd -s and -l: what is written for a while only, and what an image was at a snapshot."""
import os

from ashlar_test import MIB, CommandFailed, check, contains, digest, equal, main, qemu_in_our_place


def image_with_snapshots(t):
    """A qcow2 image with the snapshots 'one', id 1, and '1', id 2 (an id goes before a name); a raw copy of each, and of the image now."""
    image, copies = t.path('disk.qcow2'), {}
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', image, str(2 * MIB))
    for pattern, name in [(1, 'one'), (2, '1'), (3, None)]:
        t.run('qemu-io', '-f', 'qcow2', '-c', f'write -q -P {pattern} {pattern * 64}k 300k', image)
        copies[name] = t.path(f'copy-{pattern}')
        t.run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, copies[name])
        if name:
            t.run('qemu-img', 'snapshot', '-c', name, image)
    return image, copies


def exported(t, server):
    copy = t.path(f'exported-{t.count()}')
    t.run('nbdcopy', server.uri, copy)
    return digest(copy)


def test_a_snapshot_is_exported_by_name_or_id(t):
    image, copies = image_with_snapshots(t)
    before = digest(image)
    for argument, name in [('one', 'one'), ('snapshot.name=one', 'one'), ('snapshot.id=1', 'one'), ('1', 'one'), ('2', '1'),
                           ('snapshot.id=2,snapshot.name=1', '1')]:
        server = t.serve(image, '-l', argument, format='qcow2')
        equal(exported(t, server), digest(copies[name]), f'what -l {argument} exports')
        done = t.run('qemu-io', '-f', 'raw', '-c', 'write 0 512', server.uri, status=1)
        contains(done.stderr, 'Permission denied')
        server.stop()
    server = t.serve(image, '-r', format='qcow2')
    equal(exported(t, server), digest(copies[None]), 'what is exported without -l')
    server.stop()
    equal(digest(image), before, 'the image')


def test_snapshots_that_are_not_there_are_refused_as_by_qemu_nbd(t):
    image, _ = image_with_snapshots(t)
    raw = t.image('disk.raw', MIB)
    for options in [['-l', 'two', '-f', 'qcow2', image], ['-l', 'snapshot.id=9', '-f', 'qcow2', image],
                    ['-l', 'snapshot.name=x,snapshot.id=1', '-f', 'qcow2', image], ['-l', 'a', '-f', 'raw', raw],
                    ['-s', '-l', 'one', '-f', 'qcow2', image], ['-L', '-l', 'one'], ['-L', '-s']]:
        theirs, ours = (t.run(name, *options, '-k', t.path('socket'), status=1).stderr.split(': ', 1)[1]
                        for name in ('qemu-nbd', 'ashlar-nbd'))
        if '-L' in options and 'incompatible' not in theirs:
            continue    # it tries to connect
        equal(ours, theirs, f'the message for {options}')


def test_what_is_written_to_a_temporary_overlay_is_read_and_then_gone(t):
    raw = t.image('disk.raw', 2 * MIB)
    qcow2, _ = image_with_snapshots(t)
    temporary = t.path('tmp')
    temporary.mkdir()
    os.environ['TMPDIR'] = str(temporary)
    t.at_end(lambda: os.environ.pop('TMPDIR'))
    for image, format in [(raw, 'raw'), (qcow2, 'qcow2')]:
        before = digest(image)
        server = t.serve(image, '-s', format=format)
        first = exported(t, server)
        t.run('qemu-io', '-f', 'raw', '-c', 'write -P 7 100k 300k', '-c', 'write -z 1M 64k', '-c', 'flush', server.uri)
        t.run('qemu-io', '-f', 'raw', '-c', 'read -P 7 100k 300k', '-c', 'read -P 0 1M 64k', server.uri)
        check(exported(t, server) != first, 'the export has changed')
        equal(list(temporary.iterdir()), [], 'what has a name in the temporary folder')
        server.stop()
        equal(digest(image), before, 'the image')
    if not qemu_in_our_place():
        os.environ['TMPDIR'] = str(t.path('missing'))
        try:
            t.serve(raw, '-s')
        except AssertionError as error:
            contains(str(error), 'temporary')
        else:
            raise CommandFailed('an overlay in a folder that is not there')


if __name__ == '__main__':
    main()
