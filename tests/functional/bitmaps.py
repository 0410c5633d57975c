#!/usr/bin/python3
"""Dirty bitmaps by QMP, and as NBD clients see them."""
import json

from ashlar_test import KIB, MIB, check, contains, equal, main, program, qemu_in_our_place, skip
from raw_nbd import (CMD_BLOCK_STATUS, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, FLAG_REQ_ONE, OPT_LIST_META_CONTEXT,
                     REP_ACK, RawNbd, meta_query)

B = b'qemu:dirty-bitmap:'
CLEAN, DIRTY = 0, 1


def add_disk(t, machine, name='disk0', size=4 * MIB, **more):
    image = t.image(name, size)
    machine.qmp.command('blockdev-add', driver='raw', node_name=name, file={'driver': 'file', 'filename': str(image)},
                        **more)


def start_server(t, machine):
    path = str(t.path('nbd.sock'))
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}})
    return path


def bitmap(machine, verb, node, name, **more):
    return machine.qmp.command(f'block-dirty-bitmap-{verb}', node=node, name=name, **more)


def shown(machine, node='disk0'):
    """What query-named-block-nodes says of the node's bitmaps."""
    [found] = [n for n in machine.qmp.command('query-named-block-nodes') if n['node-name'] == node]
    return found.get('dirty-bitmaps')


def connect(path, export, *contexts):
    client = RawNbd(path)
    client.greet()
    client.negotiate_structured()
    equal(sorted(client.set_contexts(export, *contexts).values()), sorted(contexts), 'the selected contexts')
    client.go(export)
    return client


def test_what_is_written_is_counted(t):
    machine = t.machine()
    add_disk(t, machine, discard='unmap')
    path = start_server(t, machine)
    equal(shown(machine), None, 'the bitmaps of a node without any')
    bitmap(machine, 'add', 'disk0', 'a', granularity=4 * KIB)
    bitmap(machine, 'add', 'disk0', 'b', disabled=True)
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', name='e', writable=True)
    with RawNbd.connected(path, b'e') as client:
        equal(client.write(4095, b'x' * 2), 0, 'the error of a write')
        equal(client.request(CMD_WRITE_ZEROES, MIB, 64 * KIB).error, 0, 'the error of writing zeroes')
        equal(client.request(CMD_TRIM, 2 * MIB, 64 * KIB).error, 0, 'the error of a trim')
        equal(shown(machine), [
            {'name': 'b', 'count': 0, 'granularity': 64 * KIB, 'recording': False, 'busy': False, 'persistent': False},
            {'name': 'a', 'count': 136 * KIB, 'granularity': 4 * KIB, 'recording': True, 'busy': False,
             'persistent': False},
        ], 'the bitmaps')
        bitmap(machine, 'clear', 'disk0', 'a')
        bitmap(machine, 'enable', 'disk0', 'b')
        client.write(3 * MIB, b'y')
        equal([b['count'] for b in shown(machine)], [64 * KIB, 4 * KIB], 'what is dirty after clearing')
        bitmap(machine, 'disable', 'disk0', 'a')
        client.write(0, b'y')
        equal([b['count'] for b in shown(machine)], [128 * KIB, 4 * KIB], 'what is dirty after disabling one')
    machine.qmp.command('block-dirty-bitmap-merge', node='disk0', target='a',
                        bitmaps=['b', {'node': 'disk0', 'name': 'a'}])
    equal([b['count'] for b in shown(machine)], [128 * KIB, 128 * KIB], 'what is dirty after merging')
    bitmap(machine, 'remove', 'disk0', 'b')
    equal([b['name'] for b in shown(machine)], ['a'], 'the bitmaps that are left')
    machine.quit()


def test_refusals_are_qemus(t):
    machine = t.machine()
    qmp = machine.qmp
    add_disk(t, machine)
    add_disk(t, machine, 'disk1', MIB)

    def refused(verb, text, node='disk0', **more):
        equal(qmp.refusal(f'block-dirty-bitmap-{verb}', node=node, **more).desc, text, f'why {verb} is refused')

    bitmap(machine, 'add', 'disk0', 'a')
    bitmap(machine, 'add', 'disk1', 'a')
    refused('add', "Cannot find device='x' nor node-name='x'", node='x', name='a')
    refused('add', 'Bitmap already exists: a', name='a')
    refused('add', 'Bitmap name cannot be empty', name='')
    refused('add', 'Granularity must be power of 2 and at least 512', name='b', granularity=1000)
    refused('add', "Can't store persistent bitmaps to disk0: Operation not supported", name='b', persistent=True)
    for verb in 'remove', 'clear', 'enable', 'disable':
        refused(verb, "Node 'x' not found", node='x', name='a')
        refused(verb, "Dirty bitmap 'x' not found", name='x')
    refused('merge', "Node 'x' not found", target='a', bitmaps=[{'node': 'x', 'name': 'a'}])
    refused('merge', "Dirty bitmap 'x' not found", target='a', bitmaps=['x'])
    refused('merge', 'Bitmaps are of different sizes (destination size is 4194304, source size is 1048576) '
            "and can't be merged", target='a', bitmaps=[{'node': 'disk1', 'name': 'a'}])

    start_server(t, machine)
    busy = "Bitmap 'a' is currently in use by another operation and cannot be used"
    wrong = [("Bitmap 'x' is not found", {'bitmaps': ['x']}),
             ("Enabled bitmap 'a' incompatible with readonly export", {'bitmaps': ['a']})]
    if not qemu_in_our_place():     # which offers it twice
        wrong.append(("Bitmap 'a' is named twice", {'bitmaps': ['a', 'a'], 'writable': True}))
    for text, more in wrong:
        equal(qmp.refusal('block-export-add', type='nbd', id='e', node_name='disk0', **more).desc, text, 'why')
    equal([b['busy'] for b in shown(machine)], [False], 'what refused exports leave')
    qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', bitmaps=['a'], writable=True)
    equal(qmp.refusal('block-export-add', type='nbd', id='f', node_name='disk1',
                      bitmaps=[{'node': 'disk0', 'name': 'a'}]).desc, busy, 'why')
    for verb in 'remove', 'clear', 'enable', 'disable':
        refused(verb, busy, name='a')
    refused('merge', busy, target='a', bitmaps=['a'])
    equal([b['busy'] for b in shown(machine)], [True], 'that the bitmap is in use')
    qmp.command('block-export-del', id='e')
    qmp.event('BLOCK_EXPORT_DELETED')
    bitmap(machine, 'disable', 'disk0', 'a')
    qmp.command('nbd-server-add', device='disk0', bitmap='a')
    machine.quit()


def test_an_export_shows_its_bitmaps(t):
    machine = t.machine()
    add_disk(t, machine)
    path = start_server(t, machine)
    for name in 'a', 'b':
        bitmap(machine, 'add', 'disk0', name, granularity=64 * KIB)
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', name='e', writable=True,
                        bitmaps=['a', {'node': 'disk0', 'name': 'b'}])
    a, b = B + b'a', B + b'b'
    with connect(path, b'e', a, b, b'base:allocation') as client:
        for offset, length in (MIB, 1), (MIB + 64 * KIB, 64 * KIB), (3 * MIB, 512):
            equal(client.write(offset, b'z' * length), 0, 'the error of a write')
        extents = [(MIB, CLEAN), (128 * KIB, DIRTY), (2 * MIB - 128 * KIB, CLEAN), (64 * KIB, DIRTY),
                   (MIB - 64 * KIB, CLEAN)]
        reply = client.request(CMD_BLOCK_STATUS, 0, 4 * MIB)
        equal(reply.extents[a], extents, 'the status of the bitmap')
        equal(reply.extents[b], extents, 'the status of the other')
        check(b'base:allocation' in reply.extents, 'the allocation is there')
        reply = client.request(CMD_BLOCK_STATUS, MIB + 4096, MIB, flags=FLAG_REQ_ONE)
        equal(reply.extents[a], [(124 * KIB, DIRTY)], 'the status of one extent')

    def listed(*queries):
        client = RawNbd(path)
        client.greet()
        client.negotiate_structured()
        *found, last = client.option(OPT_LIST_META_CONTEXT, meta_query(b'e', *queries))
        equal(last.type, REP_ACK, 'the last reply')
        return sorted(reply.data[4:] for reply in found)

    every = [b'base:allocation', a, b]
    for queries, contexts in [((), every), ((b'qemu:',), [a, b]), ((B,), [a, b]), ((b,), [b]), ((b'base:',), every[:1]),
                              ((B + b'x',), []), ((b'',), []), ((b'qemu:dirty',), [])]:
        equal(listed(*queries), sorted(contexts), f'what is listed for {queries}')

    uri = f'nbd+unix:///e?socket={path}'
    listing = json.loads(t.run('nbdinfo', '--list', '--json', uri).stdout)
    equal(sorted(listing['exports'][0]['contexts']), ['base:allocation', a.decode(), b.decode()],
          "nbdinfo's contexts")
    mapped = json.loads(t.run('nbdinfo', '--json', f'--map={a.decode()}', uri).stdout)
    equal([(e['offset'], e['length'], e['type']) for e in mapped],
          [(0, MIB, 0), (MIB, 128 * KIB, 1), (MIB + 128 * KIB, 2 * MIB - 128 * KIB, 0), (3 * MIB, 64 * KIB, 1),
           (3 * MIB + 64 * KIB, MIB - 64 * KIB, 0)], "nbdinfo's map")
    machine.quit()


def test_the_option_nbd_offers_a_bitmap(t):
    if qemu_in_our_place():
        skip('QEMU has no -nbd')
    done = t.run(program('ashlar'), '-M', 'none', '-drive', f'file={t.image("d", MIB)},format=raw',
                 '-nbd', f'unix:{t.path("x.sock")},bitmap=nope', status=1)
    contains(done.stderr, "Bitmap 'nope' is not found")
    done = t.run(program('ashlar-nbd'), '-k', str(t.path('y.sock')), '-f', 'raw', '-B', 'nope', t.image('e', MIB), status=1)
    contains(done.stderr, "Bitmap 'nope' is not found")


def test_the_hash_is_that_of_qemu(t):
    machine = t.machine()
    add_disk(t, machine, size=MIB)
    bitmap(machine, 'add', 'disk0', 'a')
    equal(bitmap_hash(machine), 'af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc', 'the hash')
    machine.quit()


def bitmap_hash(machine):
    return machine.qmp.command('x-debug-block-dirty-bitmap-sha256', node='disk0', name='a')['sha256']


def actions(*steps):
    """(VERB, NAME, ...) of disk0's bitmaps; ('abort',)"""
    def action(verb, name=None, **more):
        if verb == 'abort':
            return {'type': 'abort', 'data': {}}
        key = 'target' if verb == 'merge' else 'name'
        return {'type': f'block-dirty-bitmap-{verb}', 'data': {'node': 'disk0', key: name, **more}}
    return [action(*step[:2], **(step[2] if len(step) > 2 else {})) for step in steps]


def state(machine):
    return {b['name']: (b['recording'], b['busy'], b['persistent'], b['count']) for b in shown(machine) or []}


def test_a_transaction_is_all_or_nothing(t):
    machine = t.machine()
    qmp = machine.qmp
    image = t.path('disk.qcow2')
    t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', image, '4M')
    qmp.command('blockdev-add', driver='qcow2', node_name='disk0', file={'driver': 'file', 'filename': str(image)})
    path = start_server(t, machine)
    qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', name='e', writable=True)

    def done(*steps):
        qmp.command('transaction', actions=actions(*steps))

    def refused(reason, *steps, **more):
        before = state(machine)
        equal(qmp.refusal('transaction', actions=actions(*steps), **more).desc, reason, 'the refusal')
        equal(state(machine), before, f'the bitmaps after {steps}')

    done()
    done(('add', 'a'), ('add', 'b', {'disabled': True}), ('add', 'p', {'persistent': True}))
    with RawNbd.connected(path, b'e') as client:
        client.write(0, b'x')
        client.write(MIB, b'x')
    refused('Bitmap already exists: a', ('add', 'c'), ('add', 'a'))
    aborted = 'Transaction aborted using Abort action'
    refused(aborted, ('abort',))
    refused(aborted, ('add', 'c'), ('remove', 'a'), ('remove', 'p'), ('enable', 'b'), ('disable', 'c'), ('abort',))
    refused(aborted, ('merge', 'b', {'bitmaps': ['a']}), ('clear', 'a'), ('clear', 'p'), ('abort',))
    refused(aborted, ('clear', 'a'), ('clear', 'a'), ('merge', 'a', {'bitmaps': ['p']}), ('abort',))
    in_use = "Bitmap 'a' is currently in use by another operation and cannot be used"
    refused(in_use, ('remove', 'a'), ('remove', 'a'))
    refused(in_use, ('remove', 'a'), ('clear', 'a'))
    refused('Bitmap already exists: a', ('remove', 'a'), ('add', 'a'))
    refused("Dirty bitmap 'none' not found", ('disable', 'a'), ('merge', 'a', {'bitmaps': ['b', 'none']}))
    refused("Action 'block-dirty-bitmap-clear' does not support Transaction property completion-mode = grouped",
            ('clear', 'a'), properties={'completion-mode': 'grouped'})
    equal(state(machine)['a'], (True, False, False, 128 * KIB), "a's state")

    done(('add', 'm', {'disabled': True}), ('merge', 'm', {'bitmaps': ['a', 'b']}), ('clear', 'a'), ('remove', 'b'),
         ('disable', 'a'))
    equal(state(machine), {'a': (False, False, False, 0), 'm': (False, False, False, 128 * KIB),
                           'p': (True, False, True, 128 * KIB)}, 'the bitmaps')
    done(('add', 'c'), ('remove', 'c'))
    done(('enable', 'a'))
    qmp.command('block-export-del', id='e')
    qmp.event('BLOCK_EXPORT_DELETED')
    machine.quit()
    # The one that an aborted transaction had removed was stored; and is removed for good by one that succeeds.
    def stored():
        info = json.loads(t.run('qemu-img', 'info', '--output=json', image).stdout)
        return [b['name'] for b in info['format-specific']['data'].get('bitmaps', [])]

    equal(stored(), ['p'], 'the bitmaps in the image')
    machine = t.machine('-blockdev', f'qcow2,node-name=disk0,file.driver=file,file.filename={image}')
    machine.qmp.command('transaction', actions=actions(('remove', 'p')))
    machine.quit()
    equal(stored(), [], 'the bitmaps in the image')


def test_a_transactions_arguments_are_checked(t):
    qmp = t.machine().qmp
    for arguments, part in (({}, "'actions' is missing"), ({'actions': [{'type': 'abort'}]}, "data' is missing"),
                            ({'actions': [{'data': {}}]}, "type' is missing"),
                            ({'actions': [{'type': 'nope', 'data': {}}]}, "does not accept value 'nope'"),
                            ({'actions': [{'type': 'abort', 'data': {'x': 1}}]}, "'actions[0].data.x' is unexpected"),
                            ({'actions': [], 'properties': {'completion-mode': 'x'}}, "does not accept value 'x'")):
        contains(qmp.refusal('transaction', **arguments).desc, part, 'the refusal')
    contains(qmp.refusal('transaction', actions=actions(('add', 'a'))).desc, 'disk0', 'the refusal')


if __name__ == '__main__':
    main()
