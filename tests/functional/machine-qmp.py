#!/usr/bin/python3
"""The program `ashlar` around QMP: its sockets, its start and its end, its events."""
import errno
import json
import os
import signal
import socket
import subprocess
import time

from ashlar_test import (MIB, PATIENCE, check, contains, equal, free_port, main, program, qemu_in_our_place, skip,
                         wait_until)
from qmp import Qmp, QmpClosed
from raw_nbd import CMD_READ, RawNbd

NOTHING = ['-M', 'none', '-display', 'none', '-nodefaults']


def greeting_and_version(file_in, send):
    """What a client sees that speaks line by line."""
    contains(file_in.readline(), 'QMP')
    send('{"execute": "qmp_capabilities"}')
    equal(json.loads(file_in.readline()), {'return': {}}, 'the answer')
    send('{"execute": "query-version", "id": 5}')
    answer = json.loads(file_in.readline())
    equal(answer['id'], 5, 'the id')
    return answer['return']


def ends_with(process, number=signal.SIGTERM):
    process.send_signal(number)
    equal(process.wait(PATIENCE), 0, 'the exit status')


def test_standard_input_and_output(t):
    process = subprocess.Popen([program('ashlar'), *NOTHING, '-qmp', 'stdio'], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, bufsize=1)
    t.at_end(lambda: process.poll() is None and process.kill())

    def send(line):
        process.stdin.write(line + '\n')

    check('qemu' in greeting_and_version(process.stdout, send), 'the version has QEMU\'s shape')
    send('{"execute": "quit"}')
    contains(process.stdout.read(), 'SHUTDOWN')
    equal(process.wait(PATIENCE), 0, 'the exit status')
    process.stdin.close()
    process.stdout.close()


def test_standard_input_may_be_a_file(t):
    script = t.path('script')
    script.write_text('{"execute": "qmp_capabilities"}\n{"execute": "query-name", "id": 1}\n{"execute": "quit"}')
    with open(script) as commands:
        done = subprocess.run([program('ashlar'), *NOTHING, '-name', 'foo', '-qmp', 'stdio'], stdin=commands,
                              capture_output=True, text=True, timeout=PATIENCE)
    equal(done.returncode, 0, 'the exit status')
    contains(done.stdout, '{"return": {"name": "foo"}, "id": 1}')
    contains(done.stdout, 'SHUTDOWN')


def test_a_tcp_socket(t):
    port = free_port()
    process = t.start([program('ashlar'), *NOTHING, '-qmp', f'tcp:127.0.0.1:{port},server,nowait'], log=t.path('log'))

    def connect():
        try:
            return socket.create_connection(('127.0.0.1', port), PATIENCE)
        except ConnectionRefusedError:
            return None
    with wait_until(connect, 'somebody listens') as s, s.makefile('r') as lines:
        greeting_and_version(lines, lambda line: s.sendall(line.encode()))
    ends_with(process)


def test_connecting_instead_of_listening(t):
    path = str(t.path('q'))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(PATIENCE)
        process = t.start([program('ashlar'), *NOTHING, '-qmp', f'unix:{path}'], log=t.path('log'))
        with listener.accept()[0] as s, s.makefile('r') as lines:
            s.settimeout(PATIENCE)
            greeting_and_version(lines, lambda line: s.sendall(line.encode()))
    ends_with(process)


def test_starting_waits_for_a_client_if_told_to(t):
    path, pid_file = t.path('q'), t.path('pid')
    process = t.start([program('ashlar'), *NOTHING, '-qmp', f'unix:{path},server=on', '-pidfile', pid_file],
                      log=t.path('log'))
    wait_until(path.exists, 'it listens')
    check(not pid_file.exists(), 'it does not say that it is ready before a client has come')
    qmp = Qmp(path)
    wait_until(lambda: pid_file.exists() and pid_file.read_text() == f'{process.pid}\n', 'it says that it is ready')
    qmp.send({'execute': 'quit'})
    equal(process.wait(PATIENCE), 0, 'the exit status')


def test_waiting_for_a_client_can_be_ended(t):
    if qemu_in_our_place():
        skip('QEMU is not ended by a signal there')
    path = t.path('q')
    process = t.start([program('ashlar'), *NOTHING, '-qmp', f'unix:{path},server=on'], log=t.path('log'))
    wait_until(path.exists, 'it listens')
    ends_with(process)
    check(not path.exists(), 'the socket is removed')


def test_netcat_is_a_client(t):
    machine = t.machine()
    commands = '{"execute": "qmp_capabilities"}{"execute": "query-status", "id": "s"}'
    out = t.run('nc', '-N', '-U', machine.sockets[-1], input=commands).stdout
    answers = [json.loads(line) for line in out.splitlines()]
    check('QMP' in answers[0], 'there is a greeting')
    equal(answers[2]['return']['running'], True, 'whether it runs')
    equal(answers[2]['id'], 's', 'the id')
    machine.quit()


def test_each_signal_ends_it_in_order(t):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        image = t.image('disk', MIB)
        machine = t.machine('-blockdev', f'driver=file,node-name=f,filename={image}')
        nbd = str(t.path('s'))
        machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': nbd}})
        machine.qmp.command('block-export-add', type='nbd', id='e', node_name='f', name='', writable=True)
        with RawNbd.connected(nbd) as client:
            equal(client.write(0, b'x' * 512), 0, 'the error of a write')
            machine.process.send_signal(number)
            equal(machine.qmp.event('SHUTDOWN'), {'guest': False, 'reason': 'host-signal'}, 'the event')
            equal(machine.process.wait(PATIENCE), 0, 'the exit status')
            check(client.is_closed_by_server(), 'the NBD client is disconnected')
        check(not os.path.exists(nbd), 'the NBD socket is removed')
        if not qemu_in_our_place():
            check(not machine.sockets[0].exists(), 'the QMP socket is removed')
        equal(image.read_bytes()[:512], b'x' * 512, 'what was written')


def test_clients_are_told_why_it_ends_and_what_is_gone(t):
    image = t.image('disk', MIB)
    machine = t.machine('-blockdev', f'driver=file,node-name=f,filename={image}')
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(t.path('s'))}})
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='f')
    machine.qmp.send({'execute': 'quit'})
    messages = []
    try:
        while True:
            messages.append(machine.qmp.recv())
    except QmpClosed:
        pass
    events = {m['event']: m.get('data') for m in messages if 'event' in m}
    equal(events['SHUTDOWN'], {'guest': False, 'reason': 'host-qmp-quit'}, 'the event')
    equal(events['BLOCK_EXPORT_DELETED'], {'id': 'e'}, 'the other event')
    equal([m for m in messages if 'event' not in m], [{'return': {}}], 'the answer')
    equal(machine.process.wait(PATIENCE), 0, 'the exit status')


def test_an_io_error_is_an_event_at_most_once_a_second(t):
    if qemu_in_our_place():
        skip('QEMU has no such event for exports')
    image = t.path('disk')
    image.write_bytes(b'x' * MIB)
    machine = t.machine('-object', 'iothread,id=io0', '-blockdev',
                        f'driver=raw,node-name=n,file.driver=blkdebug,file.image.driver=file,'
                        f'file.image.filename={image},file.inject-error.0.event=read_aio,'
                        f'file.inject-error.0.iotype=read,file.inject-error.0.errno=28')
    nbd = str(t.path('s'))
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': nbd}})
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='n', name='', iothread='io0')
    began = time.monotonic()
    with RawNbd.connected(nbd) as client:
        for i in range(20):
            equal(client.request(CMD_READ, i * 512, 512).error, errno.ENOSPC, 'the error that the client has')
    took = time.monotonic() - began
    expected = {'device': '', 'node-name': 'n', 'operation': 'read', 'action': 'report', 'nospace': True,
                'reason': 'No space left on device'}
    equal(machine.qmp.event('BLOCK_IO_ERROR'), expected, 'the first event')
    equal(machine.qmp.event('BLOCK_IO_ERROR'), expected, 'the last event')
    machine.qmp.command('query-version')
    further = sum(e['event'] == 'BLOCK_IO_ERROR' for e in machine.qmp.events)
    check(further <= took, f'{further} further events in {took} s')
    machine.quit()


def test_limits_can_be_changed_while_they_hold(t):
    machine = t.machine('-object', 'throttle-group,id=g,limits.iops-total=5', '-object', 'iothread,id=io0')
    qmp = machine.qmp
    equal(qmp.command('qom-get', path='/objects/g', property='limits')['iops-total'], 5, 'the limit')
    qmp.command('qom-set', path='g', property='limits', value={'iops-total': 7})
    equal(qmp.command('qom-get', path='g', property='limits')['iops-total'], 7, 'the limit')
    qmp.command('qom-set', path='io0', property='poll-max-ns', value=1234)
    equal(qmp.command('query-iothreads')[0]['poll-max-ns'], 1234, 'the limit of an I/O thread')
    equal(qmp.refusal('qom-get', path='absent', property='x').kind, 'DeviceNotFound', 'the class of the error')
    contains(qmp.refusal('qom-get', path='g', property='absent').desc, 'absent')
    machine.quit()


def test_a_drive_is_throttled_for_its_exports(t):
    if qemu_in_our_place():
        skip('in QEMU the limits of a drive do not hold for its exports')
    image, nbd = t.image('disk', MIB), str(t.path('s'))
    machine = t.machine('-drive', f'id=d,format=raw,file={image},throttling.iops-total=1000', '-nbd', f'unix:{nbd}')
    limits = dict.fromkeys(('bps', 'bps_rd', 'bps_wr', 'iops_rd', 'iops_wr'), 0)
    arguments = {'device': 'd', 'iops': 10, **limits}
    machine.qmp.send({'execute': 'block_set_io_throttle', 'arguments': arguments})
    equal(machine.qmp.answer(), {'return': {}}, 'the answer')
    [device] = machine.qmp.command('query-block')
    equal(device['inserted']['iops'], 10, 'the limit')
    with RawNbd.connected(nbd) as client:
        start = os.times().elapsed
        for i in range(15):
            client.read(i * 512, 512)
        elapsed = os.times().elapsed - start
    check(elapsed > 0.3, f'15 requests at 10 per second take only {elapsed:.2f} s')
    machine.quit()


def test_the_requests_of_an_export_are_counted(t):
    if qemu_in_our_place():
        skip('QEMU does not show what exports do')
    image, nbd = t.image('disk', MIB), str(t.path('s'))
    machine = t.machine('-drive', f'id=d,format=raw,file={image}', '-nbd', f'unix:{nbd},writable=on')
    with RawNbd.connected(nbd) as client:
        for i in range(10):
            client.read(i * 4096, 4096)
        equal(client.write(65536, b'x' * 512), 0, 'the error of a write')
        equal(client.write(4096, b'x' * 512), 0, 'the error of a write')
    [export] = [s for s in machine.qmp.command('query-blockstats') if s.get('qdev') == 'nbd0']
    expected = {'rd_operations': 10, 'rd_bytes': 40960, 'wr_operations': 2, 'wr_bytes': 1024, 'wr_highest_offset': 66048,
                'failed_rd_operations': 0, 'failed_wr_operations': 0}
    equal({key: export['stats'][key] for key in expected}, expected, 'the statistics')
    machine.quit()


def test_the_schema_agrees_with_that_of_qemu(t):
    """What both have has the same members, apart from what we lack and say so."""
    ours = t.machine()
    schema = {e['name']: e for e in ours.qmp.command('query-qmp-schema')}
    theirs_path = str(t.path('theirs'))
    t.start([program('qemu-system-x86_64'), *NOTHING, '-qmp', f'unix:{theirs_path},server=on,wait=off'],
            log=t.path('theirs.log'))
    client = Qmp(theirs_path)
    theirs = {e['name']: e for e in client.command('query-qmp-schema')}
    client.send({'execute': 'quit'})

    def members(types, name):
        return {m['name']: m for m in types[name].get('members', [])}

    def kind(types, name):
        return types[name].get('json-type', types[name]['meta-type'])

    # Younger than QEMU 7.2, or (qdev: of exports) our own.
    younger = {'nbd-server-start': {'handshake-max-seconds'}}
    for name, entry in schema.items():
        if entry['meta-type'] not in ('command', 'event'):
            continue
        check(name in theirs, f'QEMU has {name}')
        equal(entry['meta-type'], theirs[name]['meta-type'], f'what {name} is')
        for part in ('arg-type', 'ret-type'):
            if part not in entry:
                continue
            equal(kind(schema, entry[part]), kind(theirs, theirs[name][part]), f'the {part} of {name}')
            mine, other = members(schema, entry[part]), members(theirs, theirs[name][part])
            if schema[entry[part]]['meta-type'] == 'array':
                mine = members(schema, schema[entry[part]]['element-type'])
                other = members(theirs, theirs[theirs[name][part]]['element-type'])
            unknown = set(mine) - set(other) - younger.get(name, set())
            equal(sorted(unknown), [], f'the members of the {part} of {name} that QEMU does not have')
            for member in set(mine) & set(other):
                equal(kind(schema, mine[member]['type']), kind(theirs, other[member]['type']), f'{name}: {member}')
    ours.quit()


def test_unknown_options_are_named_with_what_was_meant(t):
    for arguments, part in [(['-drvie', 'x'], "'-drive'"), (['--daemonise'], "'-daemonize'"),
                            (['-qmp', 'unix:/x,server=on,wiat=off'], "'wait'"),
                            (['-drive', 'file=a.img,formt=raw'], "unexpected (did you mean 'format'?)"),
                            (['-object', 'iothraed,id=x'], "'iothread'"),
                            (['-qmp'], 'requires an argument'), (['image'], '-drive'), (['-M', 'pc'], 'machine')]:
        contains(t.run('ashlar', *arguments, status=1).stderr, part, f'what is said to {arguments}')


if __name__ == '__main__':
    main()
