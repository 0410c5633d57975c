#!/usr/bin/python3
"""ashlar-img convert: nothing that is not whole is left behind, and what is going on can be seen."""
import re
import signal
import subprocess
import time

from ashlar_test import MIB, check, contains, digest, equal, main, program, skip, wait_until


def img(t, *arguments, **more):
    return t.run('ashlar-img', *arguments, **more)


def start_slowly(t, target, *options):
    """A conversion of 64 MiB at 4 MiB a second, under way."""
    source = t.image('source.raw', 64 * MIB)
    process = subprocess.Popen([program('ashlar-img'), 'convert', '-r', '4M', '-S', '0', '-f', 'raw', '-O', 'raw', *options,
                                str(source), str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               stdin=subprocess.DEVNULL, text=True, cwd=t.dir)
    t.at_end(lambda: process.poll() is None and process.kill())
    wait_until(lambda: target.exists() and target.stat().st_size == 64 * MIB and target.stat().st_blocks > 0,
               'it has begun to write')
    return process


def interrupt(t, number):
    target = t.path('target.raw')
    process = start_slowly(t, target)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    equal(process.returncode, -number, f'how it ended ({out}{err})')
    check(not target.exists(), 'a part of the target was left')


def test_an_interrupted_conversion_leaves_no_target_SIGINT(t):
    interrupt(t, signal.SIGINT)


def test_an_interrupted_conversion_leaves_no_target_SIGTERM(t):
    interrupt(t, signal.SIGTERM)


def test_an_interrupted_conversion_leaves_no_target_SIGHUP(t):
    interrupt(t, signal.SIGHUP)


def test_a_full_disk_is_told_and_leaves_no_target(t):
    source = t.image('source.raw', 8 * MIB)
    disk = t.path('disk')
    disk.mkdir()
    script = f'mount -t tmpfs -o size=4m tmpfs {disk} || exit 77\n' \
             f'{program("ashlar-img")} convert -S 0 -f raw -O raw {source} {disk}/target.raw; echo "status $?"; ls {disk}'
    done = subprocess.run(['unshare', '-m', 'sh', '-c', script], capture_output=True, text=True, timeout=60)
    if 'status' not in done.stdout:
        skip(f'no small disk can be made here: {done.stderr}')
    equal(done.stdout, 'status 1\n', 'what is there afterwards')
    contains(done.stderr, 'error while writing at byte')
    contains(done.stderr, 'No space left on device')


def test_a_source_that_cannot_be_read_is_told_and_leaves_no_target(t):
    source = t.path('source.raw')
    source.write_bytes(t.random.randbytes(4 * MIB))     # without holes, which are not read
    target = t.path('target.raw')
    options = ('driver=raw,file.driver=blkdebug,file.image.driver=file,'
               f'file.image.filename={source},file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,'
               'file.inject-error.0.sector=4096,file.inject-error.0.iotype=read')
    done = img(t, 'convert', '--image-opts', '-O', 'raw', options, target, status=1)
    contains(done.stderr, 'error while reading at byte')
    contains(done.stderr, 'Input/output error')
    check(not target.exists(), 'a part of the target was left')


def test_salvage_takes_what_cannot_be_read_for_zeroes(t):
    source = t.path('source.raw')
    data = t.random.randbytes(4 * MIB)
    source.write_bytes(data)
    target = t.path('target.raw')
    options = ('driver=raw,file.driver=blkdebug,file.image.driver=file,'
               f'file.image.filename={source},file.inject-error.0.event=none,file.inject-error.0.errno=5,'
               'file.inject-error.0.sector=4096,file.inject-error.0.iotype=read')
    done = img(t, 'convert', '--salvage', '--image-opts', '-O', 'raw', options, target)
    contains(done.stderr, f'error while reading offset {4096 * 512}: Input/output error')
    expected = data[:4096 * 512] + bytes(512) + data[4097 * 512:]
    check(target.read_bytes() == expected, 'the target')


def test_progress_is_shown_with_p(t):
    source = t.image('source.raw', 8 * MIB)
    out = img(t, 'convert', '-p', '-f', 'raw', '-O', 'raw', source, t.path('target.raw'), text=False).stdout.decode()
    check(re.fullmatch(r'(    \(\d+\.\d\d/100%\)\r)+\n', out), repr(out))
    check(out.startswith('    (0.00/100%)\r') and out.endswith('    (100.00/100%)\r\n'), repr(out))


def test_SIGUSR1_asks_for_the_progress(t):
    process = start_slowly(t, t.path('target.raw'))
    process.send_signal(signal.SIGUSR1)
    line = process.stderr.readline()
    check(re.fullmatch(r'    \(\d+\.\d\d/100%\)\n', line), repr(line))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def test_a_rate_limit_is_kept(t):
    source = t.image('source.raw', 3 * MIB)
    began = time.monotonic()
    img(t, 'convert', '-r', '2M', '-S', '0', '-f', 'raw', '-O', 'raw', source, t.path('target.raw'))
    check(time.monotonic() - began > 0.2, 'it took no time')


def test_holes_and_zeroes_stay_holes(t):
    source = t.path('source.raw')
    with open(source, 'wb') as f:
        f.truncate(64 * MIB)
        f.seek(8 * MIB)
        f.write(t.random.randbytes(MIB))
        f.write(bytes(8 * MIB))
    for options in [], ['-W'], ['-C']:
        target = t.path('target.raw')
        img(t, 'convert', *options, '-f', 'raw', '-O', 'raw', source, target)
        equal(digest(target), digest(source), 'the contents')
        if options != ['-C']:
            check(target.stat().st_blocks * 512 < 2 * MIB, f'{target.stat().st_blocks} blocks')


def test_a_target_over_NBD_is_written_zeroes_and_all(t):
    source = t.image('source.raw', 4 * MIB)
    server = t.serve(t.image('export.raw', 4 * MIB))
    img(t, 'convert', '-n', '-f', 'raw', '-O', 'raw', source, server.uri)
    img(t, 'compare', '-f', 'raw', '-F', 'raw', source, server.uri)
    back = t.path('back.raw')
    img(t, 'convert', '-f', 'raw', '-O', 'raw', server.uri, back)
    server.stop()
    equal(digest(back), digest(source), 'the contents')
    equal(digest(t.path('export.raw')), digest(source), 'the contents of the export')


if __name__ == '__main__':
    main()
