#!/usr/bin/python3
"""Persistent dirty bitmaps that go back and forth between Ashlar's programs and QEMU's."""
import json
import signal

from ashlar_test import KIB, MIB, PATIENCE, check, contains, equal, main
from raw_nbd import RawNbd


def qcow2(t, name='a.qcow2', size='64M', *options):
    image = t.path(name)
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', *options, str(image), size)
    return image


def add_node(machine, image, read_only=False, name='q'):
    machine.qmp.command('blockdev-add', driver='qcow2', node_name=name, read_only=read_only,
                        file={'driver': 'file', 'filename': str(image)})


def stored(t, image):
    """name -> (granularity, flags), as qemu-img tells of an image without faults."""
    equal(t.run('qemu-img', 'check', '-q', str(image)).stdout, '', 'what qemu-img finds')
    data = json.loads(t.run('qemu-img', 'info', '--output=json', str(image)).stdout)['format-specific']['data']
    return {b['name']: (b['granularity'], b['flags']) for b in data.get('bitmaps', [])}


def dirty(t, image, bitmap, server='qemu-nbd'):
    """The dirty extents, as a server shows them."""
    if server == 'ashlar-nbd':
        ours = t.serve(image, '-r', '-B', bitmap, format='qcow2')
        text = t.run('nbdinfo', '--json', f'--map=qemu:dirty-bitmap:{bitmap}', ours.uri).stdout
        ours.stop()
    else:
        text = t.run('nbdinfo', '--json', f'--map=qemu:dirty-bitmap:{bitmap}', '--', '[', 'qemu-nbd', '-r', '-f',
                     'qcow2', '-B', bitmap, str(image), ']').stdout
    return [(e['offset'], e['length']) for e in json.loads(text) if e['type'] == 1]


def write(t, machine, node, *writes):
    path = str(t.path(f'nbd-{t.count()}.sock'))
    qmp = machine.qmp
    qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}})
    qmp.command('block-export-add', type='nbd', id='e', node_name=node, name='e', writable=True)
    with RawNbd.connected(path, b'e') as client:
        for offset, length in writes:
            equal(client.write(offset, b'x' * length), 0, 'the error of a write')
    qmp.command('nbd-server-stop')


def test_ours_are_read_by_qemu(t):
    image = qcow2(t)
    machine = t.machine()
    add_node(machine, image)
    for more in [{'name': 'a'}, {'name': 'fine', 'granularity': 512}, {'name': 'off', 'disabled': True}]:
        machine.qmp.command('block-dirty-bitmap-add', node='q', persistent=True, **more)
    machine.qmp.command('block-dirty-bitmap-add', node='q', name='transient')
    write(t, machine, 'q', (100 * KIB, 1), (64 * MIB - 512, 512))
    machine.quit()
    equal(stored(t, image), {'a': (64 * KIB, ['auto']), 'fine': (512, ['auto']), 'off': (64 * KIB, [])}, 'the bitmaps')
    for server in 'qemu-nbd', 'ashlar-nbd':
        equal(dirty(t, image, 'a', server), [(64 * KIB, 64 * KIB), (64 * MIB - 64 * KIB, 64 * KIB)], 'what is dirty')
        equal(dirty(t, image, 'fine', server), [(100 * KIB, 512), (64 * MIB - 512, 512)], 'what is dirty')
        equal(dirty(t, image, 'off', server), [], 'what is dirty')


def test_qemus_are_kept_up_to_date(t):
    image = qcow2(t)
    for options in ['--add', 'a'], ['--add', '-g', '4k', 'b'], ['--add', '--disable', 'off']:
        t.run('qemu-img', 'bitmap', options[0], *options[1:-1], str(image), options[-1])
    t.run('qemu-io', '-c', 'write 1M 64k', '-c', 'discard 2M 64k', str(image))
    before = dirty(t, image, 'a')
    equal(before, [(MIB, 64 * KIB), (2 * MIB, 64 * KIB)], 'what is dirty')
    equal(dirty(t, image, 'a', 'ashlar-nbd'), before, 'what we see of it')
    machine = t.machine()
    add_node(machine, image)
    [node] = [n for n in machine.qmp.command('query-named-block-nodes') if n['node-name'] == 'q']
    equal(sorted((b['name'], b['recording'], b['persistent'], b['count']) for b in node['dirty-bitmaps']),
          [('a', True, True, 128 * KIB), ('b', True, True, 128 * KIB), ('off', False, True, 0)], 'the bitmaps')
    write(t, machine, 'q', (3 * MIB, 4096))
    machine.qmp.command('block-dirty-bitmap-merge', node='q', target='off', bitmaps=['a'])
    machine.qmp.command('block_resize', node_name='q', size=128 * MIB)
    machine.quit()
    equal(stored(t, image), {'a': (64 * KIB, ['auto']), 'b': (4 * KIB, ['auto']), 'off': (64 * KIB, [])}, 'the bitmaps')
    equal(dirty(t, image, 'a'), [*before, (3 * MIB, 64 * KIB)], 'what is dirty')
    equal(dirty(t, image, 'b'), [*before, (3 * MIB, 4 * KIB)], 'what is dirty')
    equal(dirty(t, image, 'off'), [*before, (3 * MIB, 64 * KIB)], 'what was merged')
    t.run('qemu-img', 'bitmap', '--remove', str(image), 'b')
    t.run('qemu-img', 'bitmap', '--clear', str(image), 'a')
    machine = t.machine()
    add_node(machine, image)
    machine.qmp.command('block-dirty-bitmap-remove', node='q', name='off')
    machine.quit()
    equal(stored(t, image), {'a': (64 * KIB, ['auto'])}, 'what is left')
    equal(dirty(t, image, 'a'), [], 'what is dirty after clearing')


def test_what_a_crash_leaves_is_inconsistent(t):
    image = qcow2(t)
    t.run('qemu-img', 'bitmap', '--add', str(image), 'a')
    machine = t.machine()
    add_node(machine, image)
    machine.process.send_signal(signal.SIGKILL)
    machine.process.wait(PATIENCE)
    equal(stored(t, image), {'a': (64 * KIB, ['in-use', 'auto'])}, 'the bitmaps')
    machine = t.machine()
    add_node(machine, image)
    [node] = [n for n in machine.qmp.command('query-named-block-nodes') if n['node-name'] == 'q']
    equal(node['dirty-bitmaps'], [{'name': 'a', 'count': 0, 'granularity': 64 * KIB, 'recording': False, 'busy': False,
                                   'persistent': True, 'inconsistent': True}], 'the bitmap')
    useless = "Bitmap 'a' is inconsistent and cannot be used"
    for verb in 'clear', 'enable', 'disable':
        contains(machine.qmp.refusal(f'block-dirty-bitmap-{verb}', node='q', name='a').desc, useless)
    contains(machine.qmp.refusal('block_resize', node_name='q', size=MIB).desc, useless)
    machine.qmp.command('block-dirty-bitmap-remove', node='q', name='a')
    machine.quit()
    equal(stored(t, image), {}, 'the bitmaps')


def test_a_read_only_image_stays_as_it_is(t):
    image = qcow2(t)
    t.run('qemu-img', 'bitmap', '--add', str(image), 'a')
    before = image.read_bytes()
    machine = t.machine()
    add_node(machine, image, read_only=True)
    equal(machine.qmp.refusal('block-dirty-bitmap-remove', node='q', name='a').desc,
          "Bitmap 'a' is readonly and cannot be modified", 'why')
    path = str(t.path('nbd.sock'))
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}})
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='q', name='e', bitmaps=['a'])
    machine.quit()
    check(image.read_bytes() == before, 'nothing has been written')


def test_reopening_stores_and_goes_on(t):
    image = qcow2(t)
    t.run('qemu-img', 'bitmap', '--add', str(image), 'a')
    machine = t.machine()
    qmp = machine.qmp
    file = {'driver': 'file', 'node-name': 'f', 'filename': str(image)}

    def reopen(read_only):
        qmp.command('blockdev-reopen', options=[dict(file, **{'read-only': read_only}), {
            'driver': 'qcow2', 'node-name': 'q', 'file': 'f', 'read-only': read_only}])

    def flags():
        data = json.loads(t.run('qemu-img', 'info', '-U', '--output=json', str(image)).stdout)['format-specific']
        return data['data']['bitmaps'][0]['flags']

    qmp.command('blockdev-add', **{'driver': 'qcow2', 'node_name': 'q', 'read_only': True, 'file': file})
    equal(flags(), ['auto'], 'the flags of a read-only image')
    reopen(False)
    write(t, machine, 'q', (MIB, 1))
    equal(flags(), ['in-use', 'auto'], 'the flags of an image that is written')
    reopen(True)
    equal(flags(), ['auto'], 'the flags when it is read-only again')
    contains(qmp.refusal('block-dirty-bitmap-clear', node='q', name='a').desc, 'readonly')
    reopen(False)
    write(t, machine, 'q', (2 * MIB, 1))
    machine.quit()
    equal(stored(t, image), {'a': (64 * KIB, ['auto'])}, 'the bitmaps')
    equal(dirty(t, image, 'a'), [(MIB, 64 * KIB), (2 * MIB, 64 * KIB)], 'what is dirty')


def test_a_bitmap_of_the_backing_file_is_exported(t):
    base = qcow2(t, 'base.qcow2')
    t.run('qemu-img', 'bitmap', '--add', str(base), 'a')
    t.run('qemu-io', '-c', 'write 5M 64k', str(base))
    top = qcow2(t, 'top.qcow2', '64M', '-b', str(base), '-F', 'qcow2')
    for server in 'qemu-nbd', 'ashlar-nbd':
        equal(dirty(t, top, 'a', server), [(5 * MIB, 64 * KIB)], 'what is dirty')
    done = t.run('qemu-img', 'check', str(top))
    contains(done.stdout, 'No errors')


def test_a_bitmap_of_an_overlay_is_merged_into_its_backing_file(t):
    base, top = qcow2(t, 'base.qcow2'), t.path('top.qcow2')
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top)
    t.run('ashlar-img', 'bitmap', '--add', top, 'b')
    t.run('ashlar-io', '-c', 'write 1M 64k', top)
    t.run('ashlar-img', 'bitmap', '--add', '--merge', 'b', '-b', top, '-F', 'qcow2', base, 'b')
    equal(dirty(t, base, 'b'), [(MIB, 64 * KIB)], 'what is dirty')


# Where QEMU refuses to: what the snapshot changes is not looked for.
def test_an_applied_snapshot_makes_all_dirty_in_the_bitmaps_that_record(t):
    image = qcow2(t)
    t.run('ashlar-img', 'snapshot', '-c', 's', image)
    for more in ['on'], ['off', '--disable']:
        t.run('ashlar-img', 'bitmap', '--add', *more[1:], image, more[0])
    t.run('ashlar-img', 'snapshot', '-a', 's', image)
    equal(dirty(t, image, 'on'), [(0, 64 * MIB)], 'what is dirty in one that records')
    equal(dirty(t, image, 'off'), [], 'what is dirty in one that does not')
    failed = t.run('ashlar-img', 'amend', '-o', 'compat=0.10', image, status=1)
    contains(failed.stderr, 'Cannot downgrade an image with persistent dirty bitmaps', 'the refusal')
    equal(sorted(stored(t, image)), ['off', 'on'], 'the bitmaps')


if __name__ == '__main__':
    main()
