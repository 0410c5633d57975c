#!/usr/bin/python3
"""ashlar-io beside qemu-io: the same commands on equal images give the same output, exit status and image.

Both are called by the name `io`, so that their messages begin alike. Times and rates are masked.
"""
import os
import pty
import re
import select
import time

from ashlar_test import MIB, PATIENCE, check, contains, digest, equal, main, program, skip

RAW = ['-f', 'raw']
BLKDEBUG = ['--image-opts']
BLKDEBUG_IMAGE = 'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=disk'


def masked(text):
    text = re.sub(r'; [^;\n]* \([^()\n]*/sec and [^()\n]* ops/sec\)', '; TIME', text)
    text = re.sub(r'^(\d+,1),\d+:\d\d:\d\d\.\d\d,[\d.]+,[\d.]+$', r'\1,TIME', text, flags=re.M)
    return re.sub(r" \(did you mean '[^']*'\?\)", '', text)


class Pair:
    """A folder for each program, with the program in it and its own copy of every file."""

    def __init__(self, t):
        self.t = t
        self.folders = []
        for name in ('qemu-io', 'ashlar-io'):
            folder = t.path(name)
            folder.mkdir(exist_ok=True)
            link = folder / 'io'
            if not link.exists():
                link.symlink_to(program(name))
            self.folders.append(folder)

    def raw(self, size=MIB, name='disk'):
        data = self.t.random.randbytes(size // 2) + bytes(size - size // 2)
        for folder in self.folders:
            (folder / name).write_bytes(data)

    def make(self, *arguments):
        """qemu-img in both folders."""
        for folder in self.folders:
            self.t.run('env', '-C', folder, program('qemu-img'), *arguments)

    def run(self, commands, options=RAW, image='disk', input=None, stderr=True):
        results = []
        for folder in self.folders:
            arguments = [word for command in commands for word in ('-c', command)]
            images = [image] if image else []
            done = self.t.run('env', '-C', folder, './io', *options, *arguments, *images, status=None, input=input)
            results.append((done.returncode, masked(done.stdout), masked(done.stderr) if stderr else ''))
        theirs, ours = results
        if ours != theirs:
            raise AssertionError(f'{commands} with {options}:\nqemu-io: {theirs[0]}\n{theirs[1]}{theirs[2]}'
                                 f'ashlar-io: {ours[0]}\n{ours[1]}{ours[2]}')
        return ours

    def check_equal(self, name='disk'):
        equal(digest(self.folders[1] / name), digest(self.folders[0] / name), 'what is in the image')

    def check_contents(self, name, format):
        """The same guest data in both, and no fault in ours."""
        self.t.run('qemu-img', 'compare', '-f', format, '-F', format, *(folder / name for folder in self.folders))
        self.t.run('qemu-img', 'check', '-f', format, self.folders[1] / name)


def compare(t, cases, **more):
    pair = Pair(t)
    for case in cases:
        pair.raw()
        pair.run([case] if isinstance(case, str) else case, **more)
        pair.check_equal()


def test_reads(t):
    compare(t, ['read 0 4096', 'read 0x200 1.5k', 'read  3   100 ', 'read 0 0', 'read 1M 512', 'read 512k 512k',
                'read -P 0 512k 4k', 'read -P 1 0 512', ['write -P 7 10 20', 'read -P 7 -s 2 -l 4 8 16',
                                                        'read -P 7 -s 1 -l 4 8 16'],
                'read -v 0 40', ['write -P 0x41 0 17', 'read -v 0 20'], ['write -P 0x21 5 1', 'read -v 4 3'],
                'read -C 0 512', 'read -q 0 512', 'read -qv 0 512', 'read -Cq 0 1', 'read -p 0 512', 'read 0 512 -q',
                'read -- 0 512', 'read -P0 512k 512', 'read 010 0x10', 'r 0 1'])


def test_reads_that_are_refused(t):
    compare(t, ['read', 'read 0', 'read 0 1 2 3', 'read -Z 0 1', 'read x 1', 'read 0 x', 'read -1 1', 'read 0 16E',
                'read 0 8E', 'read 0 3G', 'read 0 2G', 'read 1.5 1', 'read 0 1kk', 'read 0 1KiB', 'read -P 300 0 512',
                'read -P -1 0 512', 'read -P 0x 0 512', 'read -P 0x1z 0 1', "read -P '1' 0 1", 'read -s 10 0 512',
                'read -l 10 0 512', 'read -P 0 -l 513 0 512', 'read -P 0 -s 513 0 512', 'read -P 0 -s 500 -l 13 0 512',
                'read -P 0 -s -1 0 512', 'read -P 0 -l x 0 512', 'read -b 0 512', 'read -b 1 512', 'read -b 0 100',
                'read "0" 512', 'read 0\t512', 'read -a 0 512'])


def test_writes(t):
    compare(t, ['write 0 512', 'write -P 1 512 512', 'write -P 0x12 3 1', 'write 0 1M', 'write 1M 1', 'write -f 0 512',
                'write -q 0 512', 'write -C 0 512', 'write -p 0 1', 'write 512 0', 'write -fq 1 1000', 'w 0 1',
                ['write -P 1 0 4k', 'write -P 2 1k 1k', 'read -v 1000 100', 'flush', 'read -P 2 1k 1k']])


def test_writes_that_are_refused(t):
    compare(t, ['write', 'write 0', 'write 0 1 2', 'write -i 0 1', 'write -x 0 1', 'write -P 256 0 1', 'write -P x 0 1',
                'write 0 2G', 'write -z 0 4G', 'write -u 0 512', 'write -n 0 512', 'write -z -P 3 0 512', 'write -s',
                'write -c 0 512', 'write -c 1 512', 'write -c 0 3', 'write -cf 0 512', 'write -b 0 512',
                'write -bz 0 512', 'write -bf 0 512', 'write -bc 0 512', 'write -bu 0 512', 'write -b 1 512',
                'write -b 0 513', 'write -q -P', 'write 1x 1', 'write -n -z 0 4G'])


def test_zeroes(t):
    compare(t, ['write -z 0 512', 'write -uz 0 64k', 'write -nz 0 512', 'write -z 3 513', 'write -zn 4096 4096',
                'write -f -z 0 512', 'write -cz 0 512', 'write -z 0 1M', 'write -qz 0 1k', 'write -z 1M 1'])


def test_pattern_files(t):
    pair = Pair(t)
    for folder in pair.folders:
        (folder / 'pattern').write_bytes(b'abc')
        (folder / 'empty').write_bytes(b'')
    for case in [['write -s pattern 0 10', 'read -v 0 10'], ['write -s pattern 7 1000'], ['write -s pattern 0 2'],
                 ['write -s empty 0 10'], ['write -s missing 0 10'], ['write -s pattern -P 1 0 10'],
                 ['write -s pattern -z 0 10'], ['write -s . 0 10']]:
        pair.raw()
        pair.run(case)
        pair.check_equal()


def test_vectors(t):
    compare(t, ['readv 0 512 512', 'readv -v 0 5 11 20', 'readv -P 0 512k 512 1k 3', 'readv -P 1 4 8 8', 'readv -q 0 1',
                'readv -C 0 1 1', 'readv 0 0', 'readv 1M 1 1', 'readv 0', 'readv -s 1 0 1', 'readv 0 1 2G', 'readv x 1',
                'readv 0 1G 1G', 'readv -P x 0 1', 'readv 0 1 x', 'writev 0 512 512', 'writev -P 3 0 512 1k 3',
                'writev 0', 'writev 0 x', 'writev -z 0 1', 'writev -q 0 1', 'writev -f 0 1', 'writev 1M 1 1',
                'writev 0 0', 'writev -P x 0 1', 'writev 1Mx 1', 'writev -C 7 9 9'])


def test_asynchronous_requests(t):
    compare(t, ['aio_read 0 512', ['aio_read 0 512', 'aio_flush'], ['aio_read -P 7 0 512', 'aio_flush', 'length'],
                ['aio_read -v 512k 10 10', 'aio_flush'], ['aio_write -P 5 0 512 512', 'aio_flush', 'read -P 5 0 1k'],
                ['aio_write -z 0 1k', 'aio_flush'], 'aio_write -z 0 1k 1k', 'aio_write -z -P 1 0 1', 'aio_write -u 0 1',
                ['aio_write -uz 0 512', 'aio_flush'], ['aio_write -i 0 512', 'aio_flush'],
                ['aio_read -i 0 512', 'aio_flush'], ['aio_write -f 0 512', 'aio_flush'],
                ['aio_write -q 0 512', 'aio_flush'], ['aio_write -C 0 512', 'aio_flush'],
                ['aio_read 1M 512', 'aio_flush'], ['aio_write 1M 512', 'aio_flush'], 'aio_read', 'aio_read 0',
                'aio_write 0', 'aio_read x 1', 'aio_read 0 x', 'aio_write x 1', 'aio_read -P x 0 1', 'aio_write -c 0 1',
                ['aio_read -q 0 512', 'sleep 20', 'aio_flush'], 'aio_flush 1'])


def test_discard_length_flush(t):
    compare(t, [['discard 0 512', 'discard -q 0 1', 'discard -C 0 1'], 'discard 1M 1', 'discard 0 1M', 'discard 0',
                'discard x 1', 'discard 0 x', 'discard 0 3G', 'discard -x 0 1', 'discard 0 0', 'd 0 1', 'length',
                'length x', 'l', 'flush', 'f', 'flush x'], options=['-f', 'raw', '-d', 'unmap'])


def test_alloc_and_map_of_a_raw_image(t):
    compare(t, ['alloc 0', 'alloc 0 512', 'alloc 0 1M', 'alloc 0 1025', 'alloc 1 512', 'alloc 1M 512', 'alloc 2M',
                'alloc x', 'alloc 0 x', 'alloc', 'alloc 0 1 2', 'alloc 0 2M', 'a 512k', 'map', 'map x'])


def test_truncate(t):
    compare(t, [['truncate 2M', 'length'], ['truncate -m off 3M', 'length'], 'truncate', 'truncate x',
                'truncate -m foo 1M', ['truncate -m falloc 3M', 'length'], ['truncate -m full 2M', 'length'],
                ['truncate 512k', 'length', 'map'], 'truncate -x 1', ['truncate 512 2', 'length'], 'truncate 1 2 3 4',
                'truncate 16E', 'truncate 8E', ['t 2M', 'l']])
    compare(t, ['truncate -m metadata 5M', 'truncate -m falloc 512k'], stderr=False)


def test_sleep_signals_and_quitting(t):
    compare(t, ['sleep', 'sleep x', 'sleep 10', 'sleep -1', 'sleep 1 2', 'sleep 0x5', 'sleep 5k', 'sigraise',
                'sigraise x', 'sigraise 0', 'sigraise 999', 'sigraise 1 2', ['length', 'sigraise 15', 'length'],
                'sigraise 9', 'abort', 'abort x', 'quit', 'quit x', ['foo', 'quit', 'bar'], ['q', 'foo'],
                ['length', 'foo', 'length'], '', '   ', '#'])


def test_commands_without_an_image(t):
    pair = Pair(t)
    for command in ['read', 'read 0 1', 'foo', 'length', 'close', 'flush', 'info', 'aio_flush', 'map', 'reopen', 'open',
                    'open -x', 'open a b', 'sleep 1', 'open missing', 'open -t bad disk', 'open -d bad disk',
                    'open -i bad disk', 'sigraise x', 'break a b', 'truncate 1', 'quit']:
        pair.run([command], options=[], image=None)


def test_opening_and_closing(t):
    pair = Pair(t)
    pair.raw()
    for commands in [['open -o driver=raw disk', 'length', 'close', 'length'], ['open -r -o driver=raw disk', 'write 0 1'],
                     ['open -ro driver=raw disk', 'write -z 0 1', 'discard 0 1', 'truncate 2M', 'flush', 'writev 0 1',
                      'aio_write 0 1', 'aio_flush', 'read -q 0 1'],
                     ['open -o driver=raw,file.filename=disk', 'length'],
                     ['open -o driver=raw,file.driver=file,file.filename=disk disk', 'length'],
                     ['open -n -o driver=raw disk', 'write 0 512', 'write 1 1'], ['open -nk -o driver=raw disk', 'length'],
                     ['open -k -o driver=raw disk', 'length'], ['open -U -o driver=raw disk', 'length'],
                     ['open -rU -o driver=raw disk', 'length'], ['open -t none -o driver=raw disk', 'length'],
                     ['open -d unmap -o driver=raw disk', 'length'], ['open -i threads -o driver=raw disk', 'length'],
                     ['open -o driver=raw -o offset=512 disk', 'length'], ['open -o driver=foo disk'],
                     ['open -o driver=raw disk', 'open -o driver=raw b.img', 'length'], ['open -t'],
                     ['open -o driver=raw disk', 'close x', 'c', 'o'],
                     ['open json:{"driver":"raw","file":{"driver":"file","filename":"disk"}}', 'info']]:
        pair.run(commands, options=[], image=None)
        pair.check_equal()
    pair.run(['open -o driver=raw'], options=[], image=None, stderr=False)
    pair.run(['open missing'])
    pair.run([], image='missing')
    pair.run(['length', 'info'], options=['--image-opts'], image='driver=raw,file.filename=disk')
    pair.run(['length'], options=['--image-opts'], image='foo=bar', stderr=False)
    pair.run(['length'], options=['--image-opts', '-f', 'raw'], image='driver=file,filename=disk')


def test_options_of_the_command_line(t):
    pair = Pair(t)
    pair.raw()
    for options in [['-r'], ['-n'], ['-m'], ['-n', '-m'], ['-n', '-k'], ['-k'], ['-U'], ['-r', '-U'], ['-t', 'none'],
                    ['-t', 'writethrough'], ['-t', 'unsafe'], ['-t', 'foo'], ['-d', 'unmap'], ['-d', 'foo'],
                    ['-i', 'threads'], ['-i', 'io_uring'], ['-i', 'foo'], ['-n', '-i', 'native'], ['--read-only'],
                    ['--cache=directsync'], ['--misalign'], ['--nocache'], ['--discard=on'], ['--native-aio']]:
        pair.run(['length', 'write -P 3 1 100', 'read -v 0 40', 'info'], options=[*RAW, *options])
        pair.check_equal()
    pair.run(['length'], options=['-f', 'foo'])
    pair.run(['length'], options=[*RAW, '--object', 'throttle-group,id=g'])
    # qemu-io prints its usage then, we where to find it.
    for options in [['-Z'], ['--foo'], ['-c'], [*RAW, 'disk', 'other']]:
        theirs, ours = (t.run('env', '-C', folder, './io', *options, status=1) for folder in pair.folders)
        contains(masked(ours.stderr), theirs.stderr.removeprefix('./').rstrip(), 'the message')
        contains(ours.stderr, "Try `io --help' for more information.")
    for folder in pair.folders:
        for option in ('-h', '--help'):
            text = t.run('env', '-C', folder, './io', option).stdout
            contains(text, 'Usage: io [OPTIONS]... [-c STRING]... [file]\n')
            contains(text, "See 'io -c help' for information on available commands.")
        contains(t.run('env', '-C', folder, './io', '-V').stdout, 'io version ')


def test_every_option_of_qemu_io_is_known(t):
    def options(name):
        text = t.run(name, '--help').stdout
        return set(re.findall(r'(?:^ {2,6}|, )(-[A-Za-z]|--[a-z][-a-z]+)', text, flags=re.M))
    theirs = options('qemu-io')
    check(len(theirs) > 25, f'the help has options: {theirs}')
    equal(sorted(theirs - options('ashlar-io')), [], 'the options of qemu-io that ashlar-io does not have')


def test_the_help_is_the_same(t):
    pair = Pair(t)
    _, text, _ = pair.run(['help'], options=[], image=None)
    commands = re.findall(r'^(\w+) .*-- ', text, flags=re.M)
    check(len(commands) > 24, f'there are commands: {commands}')
    for command in [*commands, '?', 'w', 'q', 'nothing', 'read write']:
        pair.run([f'help {command}'], options=[], image=None)
    for command in commands:
        if command not in ('abort', 'help', 'quit', 'sleep', 'sigraise', 'open'):
            pair.run([command], options=[], image=None)


def test_commands_come_from_standard_input(t):
    pair = Pair(t)
    for text in ['length\nread 0 512\nfoo\nopen x\nquit\nlength\n', 'length', '', 'foo\n', '\n\n', 'read 0 1\n  length  \n',
                 'aio_read 0 512\naio_flush\nwrite -P 9 0 9\n', 'length\nsigraise 9\n']:
        pair.raw()
        pair.run([], input=text)
        pair.check_equal()


def test_reopening(t):
    pair = Pair(t)
    pair.raw()
    for commands in [['reopen'], ['reopen -r', 'write 0 512', 'reopen -w', 'write 0 512'], ['reopen -rw'],
                     ['reopen -r -r'], ['reopen -c none', 'write 1 1'], ['reopen -c bad'], ['reopen a b'], ['reopen -x'],
                     ['reopen -o offset=512', 'length', 'read -q 0 1', 'reopen -o offset=1024', 'length'],
                     ['reopen -r -o read-only=on'], ['reopen -w -o read-only=on'], ['reopen -o driver=qcow2'],
                     ['reopen -c none -o cache.direct=on'], ['reopen -o cache.direct=on', 'read 1 1'],
                     ['reopen -c writethrough', 'write 0 1', 'reopen -c unsafe', 'write 0 1', 'flush'], ['reopen -c'],
                     ['write 0 1', 'reopen -r', 'read -q 0 1', 'write 0 1']]:
        pair.run(commands)
        pair.check_equal()
    # The name of a node, and the wording.
    pair.run(['reopen -o read-only=on', 'write 0 1'], stderr=False)
    pair.run(['reopen -o foo=bar', 'write 0 1'], stderr=False)
    # What a child was opened with stays, unless it is named.
    tree = 'driver=raw,file.driver=file,file.filename=disk'
    for more, commands in ((',file.read-only=on,read-only=on', ['reopen -o file.cache.direct=on', 'write 0 512']),
                           (',file.cache.direct=on', ['reopen -o file.discard=unmap', 'read -q 0 1']),
                           ('', ['reopen -o file.cache.direct=on', 'write 1 1', 'reopen -r', 'write 0 1', 'reopen -w',
                                 'write 5 1'])):
        pair.run(commands, ['--image-opts'], tree + more, stderr=False)
        pair.check_equal()


def test_a_last_block_that_is_not_whole(t):
    pair = Pair(t)
    tree = 'driver=blkdebug,align=4096,image.driver=file,image.filename=disk'
    pair.raw(5120)
    for options, commands in ((BLKDEBUG, ['write 4k 512']), ([*BLKDEBUG, '-r'], ['read 4k 1k', 'length'])):
        pair.run(commands, options, tree)
        pair.check_equal()
    pair.raw(8192)
    pair.run(['write 4k 512', 'write -P 5 8191 1'], BLKDEBUG, tree)
    pair.check_equal()


def test_breakpoints(t):
    pair = Pair(t)
    pair.raw()
    pair.run(['break read_aio A', 'resume A', 'remove_break A', 'break', 'resume', 'wait_break', 'remove_break'])
    for commands in [['break foo A', 'break read_aio A', 'resume A', 'remove_break A'],
                     ['break read_aio A', 'aio_read 0 512', 'wait_break A', 'length', 'resume A', 'aio_flush',
                      'resume A', 'remove_break A'],
                     ['break read_aio A', 'remove_break A', 'remove_break B', 'read 0 1'],
                     ['break read_aio D', 'aio_read -q 0 512', 'remove_break E', 'resume D', 'aio_flush'],
                     ['break write_aio A', 'aio_write -P 8 0 512', 'wait_break A', 'aio_write -q -P 9 512 512', 'sleep 50',
                      'resume A', 'aio_flush', 'read -P 8 0 512', 'read -P 9 512 512']]:
        pair.run(commands, options=BLKDEBUG, image=BLKDEBUG_IMAGE)
        pair.check_equal()


def test_what_is_suspended_goes_on_at_the_end(t):
    image = t.image('disk', MIB)
    for last in ('quit', 'close', 'aio_flush'):
        done = t.run('ashlar-io', '--image-opts', '-c', 'break write_aio A', '-c', 'aio_write -P 7 0 512', '-c',
                     'wait_break A', '-c', last, BLKDEBUG_IMAGE.replace('=disk', f'={image}'))
        contains(done.stdout, 'wrote 512/512 bytes at offset 0')
        equal(image.read_bytes()[:512], b'\7' * 512, 'what was written')


def test_qcow2_images(t):
    pair = Pair(t)
    qcow2 = ['-f', 'qcow2']
    script = ['write -P 2 64k 64k', 'write -z 256k 64k', 'write -P 2 1M 512', 'map', 'alloc 0', 'alloc 0 1M',
              'alloc 64k', 'alloc 0 2M', 'alloc 128k 1M', 'read -P 1 0 64k', 'read -P 3 64k 100', 'length',
              'write -c 0 3', 'read -b -v 512 16', 'write -c -P 9 512k 64k', 'write -c 0 512', 'write -c 1k 512',
              'write -c 512k 65k', 'write -c -P 5 768k 128k', 'read -P 5 768k 128k', 'discard 512k 64k', 'info',
              'truncate -m foo 5M', 'truncate 3M', 'map', 'write -P 4 65000 2000',
              'write -zu 0 1M', 'map', 'aio_write -P 6 2M 100k', 'aio_flush', 'aio_write -P 7 500k 1000', 'aio_flush', 'map', 'flush',
              'write -b 0 512', 'read -b -P 0xcd 0 512', 'read -b 1M 512', 'write -b -P 3 4G 1k', 'read -b -v 4G 512']
    for size, options in [(2 * MIB, []), (2 * MIB, ['-o', 'cluster_size=4k']), (2 * MIB, ['-o', 'extended_l2=on'])]:
        pair.raw(MIB, 'base')
        pair.make('create', '-q', '-f', 'qcow2', *options, '-b', 'base', '-F', 'raw', 'disk', str(size))
        pair.run(script, options=qcow2)
        pair.check_contents('disk', 'qcow2')
    pair.make('create', '-q', '-f', 'qcow2', 'disk', '300M')
    pair.run(['map', 'alloc 0 300M', 'write -zn 0 100M', 'write -n -z 0 4G'], options=qcow2)
    pair.check_contents('disk', 'qcow2')


def test_copy_on_read_and_temporary_overlays(t):
    pair = Pair(t)
    pair.raw(2 * MIB, 'base')
    commands = ['write -P 5 100k 64k', 'read -q 1M 64k', 'read -P 5 100k 64k', 'alloc 1M', 'map', 'info', 'length']
    for option in ('-C', '-s'):
        pair.make('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'disk', '2M')
        before = digest(pair.folders[1] / 'disk')
        pair.run(commands, options=['-f', 'qcow2', option])
        equal(digest(pair.folders[1] / 'disk') == before, option == '-s', 'that the image is as it was')
        pair.check_contents('disk', 'qcow2')
        pair.run(['map'], options=['-f', 'qcow2'])
    for command in ('open -s -o driver=qcow2 disk', 'open -C -o driver=qcow2 disk'):
        pair.run([command, *commands], options=[], image=None)
    pair.raw()
    pair.run(commands, options=[*RAW, '-s'])
    pair.check_equal()
    pair.run(['length'], options=[*RAW, '-r', '-C'], stderr=False)


# --- line editing ---

class Terminal:
    def __init__(self, t, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ['TERM'] = 'vt100'
            os.execv(command[0], list(map(str, command)))
        t.adopt(self.pid)
        self.seen = ''

    def wait_for(self, text, times=1):
        deadline = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            if time.monotonic() > deadline or not select.select([self.fd], [], [], 1)[0]:
                if time.monotonic() > deadline:
                    raise AssertionError(f'no {text!r} in {self.seen!r}')
                continue
            self.seen += os.read(self.fd, 4096).decode()

    def type(self, text):
        os.write(self.fd, text.encode())

    def ends_well(self):
        deadline = time.monotonic() + PATIENCE
        while (done := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            check(time.monotonic() < deadline, f'it has not ended after {self.seen!r}')
            time.sleep(0.01)
        equal(os.waitstatus_to_exitcode(done[1]), 0, 'the exit status')


def test_lines_are_edited_and_repeated_on_a_terminal(t):
    image = t.image('disk', MIB)
    ashlar_io = program('ashlar-io')
    if 'libedit' not in t.run('ldd', ashlar_io).stdout:
        skip('built without libedit')
    terminal = Terminal(t, ashlar_io, '-f', 'raw', image)
    terminal.wait_for('ashlar-io> ')
    terminal.type('lengtX\x7fh\n')              # with a backspace
    terminal.wait_for('1 MiB')
    terminal.wait_for('ashlar-io> ', 2)
    terminal.type('\x1b[A\n')                   # the line before
    terminal.wait_for('1 MiB', 2)
    terminal.wait_for('ashlar-io> ', 3)         # typed before the prompt, an end of input is the kernel's and is lost
    terminal.type('\x04')
    terminal.ends_well()


def test_requests_complete_while_somebody_thinks(t):
    image = t.image('disk', MIB)
    terminal = Terminal(t, program('ashlar-io'), '-f', 'raw', image)
    terminal.wait_for('ashlar-io> ')
    terminal.type('aio_read 0 4k\n')
    terminal.wait_for('read 4096/4096 bytes at offset 0')
    terminal.type('quit\n')
    terminal.ends_well()


if __name__ == '__main__':
    main()
