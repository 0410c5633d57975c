#!/usr/bin/python3
"""Ten thousand connections that do nothing: what they cost, and that they cost nobody else anything."""
import os
import time

from ashlar_test import KIB, MIB, check, diag, equal, main, open_files, sanitized, skip, wait_until
from raw_nbd import RawNbd

CLIENTS = 4         # processes, so that no limit of one stands in the way
PER_CONNECTION = 64 * KIB


def open_connections(server, count):
    """In another process: connects, reads once, reports on a pipe, stays until the other pipe is closed."""
    report_out, report_in = os.pipe()
    stay_out, stay_in = os.pipe()
    pid = os.fork()
    if pid:
        os.close(report_in)
        os.close(stay_out)
        return pid, report_out, stay_in
    status = 1
    try:
        os.close(stay_in)
        clients = []
        for _ in range(count):
            client = RawNbd.connected(server.address)
            client.read(0, 4096)
            clients.append(client)
        os.write(report_in, b'+')
        os.read(stay_out, 1)
        status = 0
    finally:
        os._exit(status)


def test_ten_thousand_idle_connections_are_cheap(t):
    wanted = 1000 if sanitized() else 10_000
    allowed = open_files(wanted + 500) - 500
    if allowed < 100:
        skip(f'only {allowed + 500} files may be open')
    if allowed < wanted:
        diag(f'only {allowed} connections: RLIMIT_NOFILE does not allow more')
    per_client = min(wanted, allowed) // CLIENTS
    total = per_client * CLIENTS
    server = t.serve(t.image('disk', MIB))
    RawNbd.connected(server.address).disconnect()
    before, files_before = server.memory(), server.open_files()

    clients = []
    for _ in range(CLIENTS):
        pid, report, stay = open_connections(server, per_client)
        t.adopt(pid)
        clients.append((pid, report, stay))
    for _, report, _ in clients:
        equal(os.read(report, 1), b'+', 'the report of a client process')
    each = (server.memory() - before) / total
    diag(f'{total} connections, {each / KIB:.1f} KiB each')
    check(server.open_files() > total, 'all of the connections are open at the server')
    if not sanitized():
        check(each < PER_CONNECTION, f'a connection takes {each / KIB:.1f} KiB, more than {PER_CONNECTION // KIB}')

    start = time.monotonic()
    with RawNbd.connected(server.address) as one_more:
        for i in range(100):
            one_more.read(i * 4096, 4096)
    elapsed = time.monotonic() - start
    diag(f'one more connection and 100 reads took {elapsed * 1e3:.0f} ms')

    for _, report, stay in clients:     # all before waiting for any: a child holds the pipes of those before it
        os.close(stay)
        os.close(report)
    for pid, _, _ in clients:
        os.waitpid(pid, 0)
    wait_until(lambda: server.open_files() <= files_before, 'the server has closed the connections that have gone')
    server.stop()


def test_the_server_ends_in_time_with_idle_connections(t):
    count = min(1000, open_files(1500) - 500)
    server = t.serve(t.image('disk', MIB))
    clients = [RawNbd.connected(server.address) for _ in range(count)]
    server.stop()
    for client in clients:
        check(client.is_closed_by_server(), 'each client sees the end')
        client.close()


if __name__ == '__main__':
    main()
