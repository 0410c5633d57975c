#!/usr/bin/python3
"""fio's nbd engine: random writes, every block of which is read again and verified."""
import json

from ashlar_test import MIB, equal, main


def fio(t, server, *options):
    out = t.run('fio', '--name=verify', '--ioengine=nbd', f'--uri={server.uri}', '--output-format=json',
                f'--randseed={t.random.randrange(1 << 32)}', '--verify_fatal=1', *options, timeout=120).stdout
    job = json.loads(out[out.index('{'):])['jobs'][0]
    equal(job['error'], 0, "fio's error")
    return job


def test_random_writes_of_one_job_are_verified(t):
    server = t.serve(t.image('disk', 64 * MIB))
    job = fio(t, server, '--rw=randwrite', '--bs=4k', '--iodepth=64', '--verify=crc32c')
    equal(job['write']['total_ios'], 64 * MIB // 4096, 'the number of writes')
    equal(job['read']['total_ios'], 64 * MIB // 4096, 'the number of verified blocks')
    server.stop()


def test_large_writes_over_tcp_are_verified(t):
    server = t.serve(t.image('disk', 64 * MIB), tcp=True)
    job = fio(t, server, '--rw=randwrite', '--bs=64k', '--iodepth=32', '--verify=xxhash')
    equal(job['read']['total_ios'], MIB // 1024, 'the number of verified blocks')
    server.stop()


def test_four_jobs_write_and_verify_their_parts_at_once(t):
    server = t.serve(t.image('disk', 64 * MIB))
    fio(t, server, '--rw=randrw', '--bs=4k', '--iodepth=16', '--verify=crc32c', '--numjobs=4', '--size=16M',
        '--offset_increment=16M', '--group_reporting=1', '--thread')
    server.stop()


def test_everything_trimmed_is_zero(t):
    image = t.image('disk', 32 * MIB)
    server = t.serve(image, '--discard=unmap')
    fio(t, server, '--rw=randtrim', '--bs=64k', '--iodepth=16')
    server.stop()
    equal(image.read_bytes() == bytes(32 * MIB), True, 'all of the disk is zero: this')
    equal(image.stat().st_blocks, 0, 'the number of its blocks')


if __name__ == '__main__':
    main()
