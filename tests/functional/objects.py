#!/usr/bin/python3
"""Objects: secrets, whose refusals are qemu-img's, and threads, whose polling can be tuned."""
import base64
import subprocess

from ashlar_test import MIB, check, contains, equal, main, program, qemu_in_our_place
from qemu_pair import Pair, compare_runs, neutral, words

KEY = base64.b64encode(bytes(range(32))).decode()
IV = base64.b64encode(bytes(range(16))).decode()
# `openssl enc -aes-256-cbc` of "hello" with these.
HELLO = 'f9Etr7fpWZ0LhJrYwuPCHw=='

REFUSED = words("""
secret,id=s
secret,id=s,data=x,file=k
secret,id=s,data=x,format=foo
secret,id=s,data=e*==,format=base64
secret,id=s,file=with-nul,format=base64
secret,id=s,data=x,keyid=k
secret,id=s,data=*,format=base64,keyid=k
secret,data=x
secret,id=1,data=x
nonsense,id=s
secret,id=s,data=x,foo=off
secret,id=k,data=x secret,id=s,data=x,keyid=k
secret,id=s,data=a secret,id=s,data=b
throttle-group,id=k secret,id=s,data=x,keyid=k
MASTER secret,id=s,data=x,keyid=k
MASTER secret,id=s,data=x,keyid=k,iv=AAAA
MASTER secret,id=s,data=x,keyid=k,iv=*
MASTER secret,id=s,data=x,keyid=k,iv=IV
MASTER secret,id=s,data=*,format=base64,keyid=k,iv=IV
MASTER secret,id=s,data=AAAA,format=base64,keyid=k,iv=IV
""")
ACCEPTED = words("""
secret,id=s,data=x
secret,id=s,data=
secret,id=s,data=x,format=base64
secret,id=s,data=eA==,format=base64
secret,id=s,file=with-nul
{"qom-type":"secret","id":"s","data":"x"}
MASTER secret,id=s,data=HELLO,format=base64,keyid=k,iv=IV
""".replace('"', '\\"'))


def arguments(objects):
    line = ['info', '-f', 'raw']
    for one in objects:
        one = one.replace('MASTER', f'secret,id=k,format=base64,data={KEY}').replace('=IV', f'={IV}')
        line += ['--object', one.replace('=HELLO', f'={HELLO}')]
    return line + ['a.raw']


def secret_files(t):
    pair = Pair(t)
    pair.file('a.raw', [], MIB)
    pair.file('k', [(0, b'x')])
    pair.file('with-nul', [(0, b'aGVs\0bG8=')])
    return pair


def test_secrets_are_taken_as_qemu_img_does(t):
    pair = secret_files(t)
    for objects in ACCEPTED:
        compare_runs(pair, arguments(objects), ignore=['disk size'])


def test_secrets_are_refused_as_qemu_img_does(t):
    pair = secret_files(t)
    for objects in REFUSED:
        theirs, ours = pair.both(arguments(objects))
        line = ' '.join(objects)
        equal(ours.returncode, theirs.returncode, f'{line}: the exit status ({ours.stderr})')
        equal(neutral(ours.stderr).split('\n')[0], neutral(theirs.stderr).split('\n')[0], f'{line}: what is said')
        kind, *properties = objects[-1].split(',')
        name = next((f',{one}' for one in properties if one.startswith('id=')), '')
        contains(ours.stderr, f'ashlar-img: --object {kind}{name}: ', f'{line}: what is said')


def test_what_to_do_about_an_object_is_said(t):
    image = t.image('a.raw', MIB)
    for given, said in {
        'secret,id=s,foo=1': "'--object secret,help' lists its properties.",
        'secret': "'--object secret,help' lists its properties.",
        'id=s': "'--object help' lists the types.",
        'nonsense,id=s': 'It accepts iothread, secret, throttle-group.',
        'secret,id=s,data=x,formt=raw': "did you mean 'format'?",
        'secret,id=s,data=x,keyid=k': "'keyid' is the id of a secret that has been made before",
        'secret,id=s,data=*,format=base64': "They are in 'data'",
        'throttle-group,id=t,limits.iops-total=x': '--object throttle-group,id=t: ',
        '{"qom-type":"secret","id":"s","data":1}': '--object secret,id=s: ',
        '{"qom-type"': '--object: ',
    }.items():
        failed = t.run('ashlar-img', 'info', '-f', 'raw', image, '--object', given, status=1)
        contains(failed.stderr, said, f'what is said of {given}')
    contains(t.run('ashlar', '-M', 'none', '-object', 'iothread,id=i,foo=1', status=1).stderr,
             'ashlar: -object iothread,id=i: ', 'what is said')


def test_every_program_takes_secrets_and_tells_none(t):
    image = t.image('a.raw', MIB)
    good, bad = 'secret,id=s,data=geheim', 'secret,id=s,data=geheim,keyid=none'
    for command in (['ashlar-img', 'info', '-f', 'raw', image, '--object'],
                    ['ashlar-io', '-f', 'raw', '-c', 'read 0 1k', image, '--object'],
                    ['ashlar-nbd', '-f', 'raw', '-k', t.path('s'), image, '--object'],
                    ['ashlar', '-M', 'none', '-object']):
        failed = t.run(*command, bad, status=1)
        contains(failed.stderr, "No secret with id 'none'", 'standard error')
        check('geheim' not in failed.stderr, f'the secret is told: {failed.stderr}')
        contains(t.run(*command, 'secret,help').stdout, 'keyid=<str', 'the help')
        contains(t.run(*command, 'help').stdout, '\n  secret\n', 'the list of objects')
    for command in (['ashlar-img', 'info', '-f', 'raw', image], ['ashlar-io', '-f', 'raw', '-c', 'read 0 1k', image]):
        t.run(*command, '--object', good)
    t.serve(image, '--object', good).stop()
    t.machine('-object', good).quit()


def test_a_secret_comes_through_a_pipe(t):
    image = t.image('a.raw', MIB)
    for content, status in ((HELLO, 0), ('AAAA', 1)):
        done = subprocess.run([program('ashlar-img'), *arguments(['MASTER', 'secret,id=s,file=/dev/stdin,format=base64,'
                                                                             'keyid=k,iv=IV'])],
                              cwd=image.parent, input=content.encode(), capture_output=True)
        equal(done.returncode, status, f'the status ({done.stderr})')


def test_secrets_by_QMP(t):
    qmp = t.machine().qmp
    qmp.command('object-add', qom_type='secret', id='k', data=KEY, format='base64')
    qmp.command('object-add', qom_type='secret', id='s', data=HELLO, format='base64', keyid='k', iv=IV)
    equal(qmp.refusal('object-add', qom_type='secret', id='s', data='x').desc,
          "attempt to add duplicate property 's' to object (type 'container')", 'the refusal')
    equal(qmp.refusal('object-add', qom_type='secret', id='t').desc, "Either 'file' or 'data' must be provided",
          'the refusal')
    check({'name': 's', 'type': 'child<secret>'} in qmp.command('qom-list', path='/objects'), 'it is listed')
    for name, value in (('type', 'secret'), ('format', 'base64'), ('keyid', 'k'), ('iv', IV), ('loaded', True)):
        equal(qmp.command('qom-get', path='/objects/s', property=name), value, name)
    if not qemu_in_our_place():
        contains(qmp.refusal('qom-get', path='/objects/s', property='data').desc, 'not found', 'the refusal')
    qmp.command('object-del', id='k')
    qmp.command('object-del', id='s')
    equal(qmp.refusal('object-del', id='s').desc, "object 's' not found", 'the refusal')


def test_polling_of_a_thread_is_tuned(t):
    machine = t.machine('-object', 'iothread,id=io0,poll-max-ns=5000,poll-grow=4')
    qmp = machine.qmp

    def polling(name):
        [info] = [i for i in qmp.command('query-iothreads') if i['id'] == name]
        return [info[f'poll-{what}'] for what in ('max-ns', 'grow', 'shrink')]
    equal(polling('io0'), [5000, 4, 0], 'its parameters')
    qmp.command('qom-set', path='/objects/io0', property='poll-shrink', value=8)
    equal(polling('io0'), [5000, 4, 8], 'its parameters')
    for name in ('poll-max-ns', 'poll-grow', 'poll-shrink'):
        message = f'{name} value must be in range [0, 9223372036854775807]'
        equal(qmp.refusal('qom-set', path='/objects/io0', property=name, value=-1).desc, message, 'the refusal')
        equal(qmp.refusal('object-add', qom_type='iothread', id='io1', **{name.replace('-', '_'): -1}).desc, message,
              'the refusal')
    equal(polling('io0'), [5000, 4, 8], 'its parameters')
    machine.quit()


if __name__ == '__main__':
    main()
