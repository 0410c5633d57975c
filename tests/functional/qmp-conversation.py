#!/usr/bin/python3
"""How one talks to the monitor: greeting, negotiation, framing, ids, errors, several clients."""
import json

from ashlar_test import check, contains, equal, main
from qmp import QmpClosed


def test_the_greeting_names_the_version_and_the_capabilities(t):
    machine = t.machine()
    greeting = machine.qmp.greeting
    check(isinstance(greeting['version']['qemu']['major'], int), 'a version is in the greeting')
    check(isinstance(greeting['capabilities'], list), 'capabilities are in the greeting')
    machine.quit()


def test_nothing_is_done_before_negotiation(t):
    machine = t.machine()
    client = machine.connect(negotiate=False)
    error = client.refusal('query-version')
    equal(error.kind, 'CommandNotFound', 'the class of the error')
    contains(error.desc, 'qmp_capabilities')
    equal(client.command('qmp_capabilities'), {}, 'the answer')
    client.command('query-version')
    equal(client.refusal('qmp_capabilities').kind, 'CommandNotFound', 'the class of the error the second time')
    client.close()
    machine.quit()


def test_an_id_of_any_kind_comes_back(t):
    machine = t.machine()
    for number in (1, 'one', None, [1, {'a': 2.5}], {'x': []}, True):
        machine.qmp.send({'execute': 'query-version', 'id': number})
        equal(machine.qmp.answer()['id'], number, 'the id')
        machine.qmp.send({'execute': 'nonsense', 'id': number})
        equal(machine.qmp.answer()['id'], number, 'the id of an error')
    machine.quit()


def test_commands_need_no_framing_and_no_waiting(t):
    machine = t.machine()
    command = '{"execute":"query-version","id":%d}'
    machine.qmp.send(''.join(command % i for i in range(200)).encode())
    equal([machine.qmp.answer()['id'] for i in range(200)], list(range(200)), 'the ids')
    for byte in (command % 7 + '\n \t' + command % 8).encode():
        machine.qmp.send(bytes([byte]))
    equal([machine.qmp.answer()['id'] for i in range(2)], [7, 8], 'the ids')
    machine.quit()


def test_what_is_wrong_is_answered_and_forgotten(t):
    machine = t.machine()
    for text, kind in [
        (b'{"execute": "nonsense"}', 'CommandNotFound'),
        (b'{"execute": "query-version", "arguments": {"x": 1}}', 'GenericError'),
        (b'{"execute": "query-version", "arguments": 5}', 'GenericError'),
        (b'{"execute": "query-version", "surprise": 1}', 'GenericError'),
        (b'{"execute": 5}', 'GenericError'),
        (b'{}', 'GenericError'),
        (b'[]', 'GenericError'),
        (b'{"execute": "nbd-server-add", "arguments": {}}', 'GenericError'),
        (b'{"execute": "nbd-server-add", "arguments": {"device": 5}}', 'GenericError'),
    ]:
        machine.qmp.send(text)
        equal(machine.qmp.answer()['error']['class'], kind, f'the class of the error of {text}')
        machine.qmp.command('query-version')
    machine.quit()


def test_garbage_is_answered_and_the_next_command_understood(t):
    machine = t.machine()
    for garbage in (b'{"execute" }\n', b'nonsense\n', b'{]\n', b'"\x01"\n', b'\xff\n'):
        client = machine.connect()
        client.send(garbage)
        contains(client.answer()['error']['desc'], 'JSON', f'the error of {garbage}')
        # 0xff ends whatever the parser thought that it was in.
        client.send(b'\xff' + json.dumps({'execute': 'query-version', 'id': 'x'}).encode())
        while client.answer().get('id') != 'x':
            pass
        client.close()
    machine.quit()


def test_several_clients_are_served_and_all_see_the_end(t):
    machine = t.machine()
    clients = [machine.connect() for _ in range(5)]
    for client in clients:
        client.command('query-version')
    machine.qmp.command('quit')
    for client in [machine.qmp, *clients]:
        check(client.event('SHUTDOWN')['guest'] is False, 'it is the host that ends it')
    equal(machine.process.wait(60), 0, 'the exit status')


def test_the_commands_are_listed_and_in_the_schema(t):
    machine = t.machine()
    commands = {c['name'] for c in machine.qmp.command('query-commands')}
    needed = {'query-version', 'query-commands', 'query-status', 'query-name', 'query-iothreads', 'query-block',
              'query-blockstats', 'query-named-block-nodes', 'query-block-exports', 'query-qmp-schema', 'blockdev-add',
              'blockdev-del', 'blockdev-reopen', 'block_resize', 'nbd-server-start', 'nbd-server-stop', 'nbd-server-add',
              'nbd-server-remove', 'block-export-add', 'block-export-del', 'object-add', 'object-del',
              'block_set_io_throttle', 'quit'}
    equal(sorted(needed - commands), [], 'the list of missing commands')
    schema = machine.qmp.command('query-qmp-schema')
    described = {e['name'] for e in schema if e['meta-type'] == 'command'}
    equal(sorted(commands - described), [], 'the list of commands without a schema')
    names = {e['name'] for e in schema}
    for entry in schema:
        for key in ('arg-type', 'ret-type', 'element-type'):
            check(key not in entry or entry[key] in names, f'{entry.get(key)} is described')
        for member in entry.get('members', []):
            if isinstance(member, dict) and 'type' in member:
                check(member['type'] in names, f'{member["type"]} is described')
    machine.quit()


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(t):
    machine = t.machine()
    for text in (b'', b'{', b'{"execute": "query-ver', b'{"execute": "query-version"}' * 1000):
        client = machine.connect()
        client.send(text)
        client.close()
    machine.qmp.command('query-version')
    machine.quit()


def test_deep_nesting_and_long_input_are_bounded(t):
    machine = t.machine()
    client = machine.connect()
    try:
        client.send(b'[' * 2_000_000)
        check('error' in client.answer(), 'deep nesting is an error')
    except (QmpClosed, BrokenPipeError, ConnectionResetError):
        pass
    client.close()
    machine.qmp.command('query-version')
    machine.quit()


if __name__ == '__main__':
    main()
