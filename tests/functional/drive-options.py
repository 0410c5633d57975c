#!/usr/bin/python3
"""What -drive understands, and what QMP then tells of the drives and their nodes, beside qemu-system."""
import json
import re
import subprocess

from ashlar_test import MIB, PATIENCE, check, contains, equal, main, program

QEMU = 'qemu-system-riscv64'


def images(t):
    t.image('raw.img', MIB, data=False)
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', t.path('base.qcow2'), '1M')
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', t.path('top.qcow2'))


def ask(t, emulator, arguments, *commands):
    """The exit status, what is said on standard error, and the answers to the commands."""
    script = '\n'.join(json.dumps({'execute': c}) for c in ('qmp_capabilities', *commands, 'quit'))
    done = subprocess.run([program(emulator), '-M', 'none', '-nodefaults', '-display', 'none', '-qmp', 'stdio',
                           *arguments], input=script, capture_output=True, text=True, timeout=PATIENCE, cwd=t.dir)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    returned = [a['return'] for a in answers if 'return' in a]
    return done.returncode, done.stderr, returned[1:1 + len(commands)]


def summary(devices):
    """What of a device does not differ by nature."""
    wanted = ('file', 'drv', 'ro', 'cache', 'detect_zeroes', 'iops', 'iops_rd', 'iops_max', 'bps_rd', 'bps_wr', 'group')
    return [(d['device'], {k: d.get('inserted', {}).get(k) for k in wanted}) for d in devices]


ACCEPTED = [
    'if=none',
    'if=none,id=d',
    'if=none,id=d,readonly=on,detect-zeroes=on,throttling.iops-total=5',
    'if=none,id=d,file=',
    'if=none,file=raw.img,format=raw,cache.direct=on,cache.writeback=off',
    'if=none,file=raw.img,format=raw,cache=writethrough,cache.writeback=on',
    'if=none,file=raw.img,format=raw,read-only=on',
    'if=none,file=raw.img,format=raw,iops=10,bps_rd=5,iops_max=20,group=g',
    'if=none,file=raw.img,format=raw,bps_wr=7,iops_rd=8,throttling.group=g',
]
SHORT = 'if=none,file=raw.img,format=raw,readonly,nosnapshot'
REFUSED = [
    'if=none,file=raw.img,format=raw,readonly=on,read-only=off',
    'if=none,file=raw.img,format=raw,iops=10,throttling.iops-total=10',
    'if=none,file=raw.img,format=raw,iops=10,iops_rd=10',
    'if=none,file=raw.img,format=raw,iops_max=10',
    'if=none,file=raw.img,format=raw,driver=raw',
    'if=none,file=raw.img,format=raw,cache.writeback=maybe',
    'if=none,id=d,snapshot=maybe',
    'if=none,id=d,node-name=n',
]


def test_the_same_drives_come_of_the_same_options(t):
    images(t)
    for argument in ACCEPTED:
        theirs, ours = (ask(t, emulator, ['-drive', argument], 'query-block') for emulator in (QEMU, 'ashlar'))
        equal((ours[0], ours[1]), (0, ''), f'{argument}: the exit status and standard error')
        equal(theirs[0], 0, f'{argument}: the exit status of QEMU')
        equal(summary(ours[2][0]), summary(theirs[2][0]), f'{argument}: the drive')


def test_the_same_options_are_refused(t):
    images(t)
    for argument in REFUSED:
        theirs, ours = (ask(t, emulator, ['-drive', argument]) for emulator in (QEMU, 'ashlar'))
        equal(ours[0], 1, f'{argument}: the exit status')
        equal(re.sub('^ashlar:', f'{QEMU}:', ours[1]), theirs[1], f'{argument}: standard error')


def test_short_forms_are_understood_with_a_warning(t):
    images(t)
    theirs, ours = (ask(t, emulator, ['-drive', SHORT], 'query-block') for emulator in (QEMU, 'ashlar'))
    equal((ours[0], summary(ours[2][0])), (theirs[0], summary(theirs[2][0])), 'the exit status and the drive')
    contains(ours[1], "short-form boolean option 'readonly' deprecated\nPlease use readonly=on instead\n")
    contains(ours[1], "short-form boolean option 'nosnapshot' deprecated\nPlease use snapshot=off instead\n")


def test_what_is_for_a_disk_is_refused_without_one(t):
    images(t)
    status, said, _ = ask(t, 'ashlar', ['-drive', 'if=none,id=d,file=raw.img,format=raw,werror=stop'])
    equal(status, 1, 'the exit status')
    contains(said, '-device virtio-blk-device')


def test_an_empty_drive_cannot_be_exported(t):
    status, said, _ = ask(t, 'ashlar', ['-drive', 'if=none,id=d', '-nbd', f'unix:{t.path("s")},drive=d'])
    equal(status, 1, 'the exit status')
    contains(said, "Device 'd' has no medium")


def test_the_formats_are_listed(t):
    done = t.run('ashlar', '-drive', 'format=help')
    contains(done.stdout, 'Supported formats:')
    check({'file', 'qcow2', 'raw'} <= set(done.stdout.split()), 'the formats are named')


NODES = [
    '-object', '{"qom-type":"throttle-group","id":"g"}',
    '-blockdev', 'driver=file,filename=raw.img,node-name=f',
    '-blockdev', 'driver=raw,file=f,node-name=r',
    '-blockdev', 'driver=throttle,throttle-group=g,file=r,node-name=t',
    '-blockdev', 'driver=copy-on-read,file=t,node-name=c',
    '-blockdev', 'driver=null-co,node-name=n',
    '-blockdev', 'driver=raw,file=n,node-name=rn',
    '-blockdev', 'driver=file,filename=base.qcow2,node-name=bf',
    '-blockdev', 'driver=qcow2,file=bf,node-name=b',
    '-blockdev', 'driver=file,filename=top.qcow2,node-name=qf',
    '-blockdev', 'driver=qcow2,file=qf,backing=b,node-name=q',
    '-blockdev', 'driver=compress,file=q,node-name=cm',
]


def without(value, *keys):
    """A tree without some members, of which the order or the figures are each program's own."""
    if isinstance(value, dict):
        return {k: without(v, *keys) for k, v in value.items() if k not in keys}
    return [without(v, *keys) for v in value] if isinstance(value, list) else value


def test_layers_are_shown_as_qemu_shows_them(t):
    images(t)
    theirs, ours = (ask(t, emulator, NODES, 'query-named-block-nodes')[2][0] for emulator in (QEMU, 'ashlar'))
    by_name = [{n['node-name']: without(n, 'filename', 'file') for n in nodes} for nodes in (theirs, ours)]
    for name in by_name[0].keys() - {'bf', 'qf'}:  # whose length QEMU rounds up to sectors
        equal(by_name[1].get(name), by_name[0][name], f'the node {name}')


def test_a_name_says_what_the_image_does_not(t):
    images(t)
    image = 'driver=compress,node-name=cm,file.driver=qcow2,file.file.driver=file,file.file.filename=top.qcow2'
    other = ',file.backing.driver=raw,file.backing.file.driver=file,file.backing.file.filename=raw.img'
    for more in ('', other):
        names = []
        for emulator in (QEMU, 'ashlar'):
            [name] = [n['file'] for n in ask(t, emulator, ['-blockdev', image + more], 'query-named-block-nodes')[2][0]
                      if n['node-name'] == 'cm']
            names.append(json.loads(name.removeprefix('json:')))
        equal(names[1], names[0], 'the name')


def test_statistics_have_what_the_driver_counts(t):
    images(t)
    both = [ask(t, emulator, [*NODES, '-drive', 'if=none,id=d,driver=throttle,throttle-group=g,file.driver=null-co'],
                'query-blockstats') for emulator in (QEMU, 'ashlar')]
    shown = []
    for _, _, [devices] in both:
        shown.append([without(d, 'stats', 'node-name') for d in devices])
    equal(shown[1], shown[0], 'the shape of the statistics')


def test_discards_are_counted(t):
    machine = t.machine('-blockdev', f'driver=file,filename={t.image("disk", MIB)},node-name=f,discard=unmap')
    path = t.path('nbd.sock')
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(path)}})
    machine.qmp.command('nbd-server-add', device='f', writable=True)
    t.run('qemu-io', '-f', 'raw', '-d', 'unmap', '-c', 'discard 0 64k', '-c', 'discard 128k 4k',
          f'nbd+unix:///f?socket={path}')
    [stats] = [s for s in machine.qmp.command('query-blockstats', query_nodes=True) if s['node-name'] == 'f']
    equal(stats['driver-specific'], {'driver': 'file', 'discard-nb-ok': 2, 'discard-nb-failed': 0,
                                     'discard-bytes-ok': 68 << 10}, 'the counts')
    machine.quit()


main()
