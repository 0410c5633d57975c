#!/usr/bin/python3
"""A Linux of our own boots on the machine, uses its devices, and powers it off."""
import os
import signal
import struct
import time

from ashlar_test import MIB, check, contains, equal, main, qemu_in_our_place, skip
from linux_guest import Console, check_ext4, disk, initrd, kernel, linux, make_ext4, run, said
from qmp import Qmp

OPENSBI = '/usr/lib/riscv64-linux-gnu/opensbi/generic'
USES_EXT4 = ['mount /dev/vda /mnt', 'write /mnt/f 7 9000', 'verify /mnt/f 7 9000', 'umount /mnt', 'echo well',
             'poweroff']


def test_it_boots_uses_a_file_system_and_powers_off(t):
    image = make_ext4(t, 'disk', 64 * MIB)
    text = run(t, *linux(USES_EXT4), '-drive', f'if=virtio,format=raw,file={image}')
    equal(said(text)[-2:], ['started', 'well'], 'what init says')
    check_ext4(t, image)


def test_it_boots_by_each_firmware(t):
    for firmware in ('fw_dynamic.bin', 'fw_jump.bin', 'fw_dynamic.elf', 'fw_jump.elf'):
        path = f'{OPENSBI}/{firmware}'
        if not os.path.exists(path):
            skip('opensbi is not installed')
        text = run(t, *linux(['echo well', 'poweroff']), '-bios', path)
        equal(said(text), ['started', 'well'], f'what init says after {firmware}')


def test_virtio_of_version_1(t):
    image = make_ext4(t, 'disk', 64 * MIB)
    text = run(t, *linux(USES_EXT4), '-drive', f'if=virtio,format=raw,file={image}',
               '-global', 'virtio-mmio.force-legacy=true')
    equal(said(text)[-1], 'well', 'what init says')
    check_ext4(t, image)


def test_several_disks_of_several_formats_are_in_order(t):
    names = [('a', 20), ('b', 30), ('c', 40)]
    drives, script = [], []
    for index, (name, size) in enumerate(names):
        image = make_ext4(t, name, size * MIB)
        if name == 'b':
            t.run('ashlar-img', 'convert', '-f', 'raw', '-O', 'qcow2', image, t.path('b.qcow2'))
            drives += ['-drive', f'if=virtio,format=qcow2,file={t.path("b.qcow2")}']
        else:
            drives += ['-drive', f'if=virtio,format=raw,file={image}']
        device = f'vd{"abc"[index]}'
        script += [f'cat /sys/block/{device}/size', f'mount /dev/{device} /{name}', f'write /{name}/f {index} 5000',
                   f'verify /{name}/f {index} 5000', f'umount /{name}']
    text = run(t, *linux([*script, 'poweroff']), '-object', 'iothread,id=io0', *drives)
    equal(said(text)[1:], [str(size * 2048) for _, size in names], 'the sizes')
    t.run('ashlar-img', 'check', t.path('b.qcow2'))
    t.run('ashlar-img', 'convert', '-O', 'raw', t.path('b.qcow2'), t.path('b'))
    for name, _ in names:
        check_ext4(t, t.path(name))


def test_a_disk_on_a_thread_of_its_own_with_several_queues(t):
    image = make_ext4(t, 'disk', 64 * MIB)
    text = run(t, *linux(USES_EXT4), '-smp', '2', '-object', 'iothread,id=io0',
               '-drive', f'if=none,id=d,format=raw,file={image}',
               '-device', 'virtio-blk-device,drive=d,iothread=io0,num-queues=2')
    equal(said(text)[-1], 'well', 'what init says')
    check_ext4(t, image)


def test_all_harts_work(t):
    text = run(t, *linux(['on-all-cpus 200', 'poweroff']), '-smp', '8')
    equal(said(text), ['started', '8 processors'], 'what init says')


def test_the_console_is_a_virtio_one(t):
    # hvc0 is the firmware's.
    console = Console(t, *linux(append='console=hvc1'), '-device', 'virtio-serial-device',
                      '-device', 'virtconsole,chardev=console', virtio=True)
    console.expect('init: ready')
    word = ''.join(t.random.choice('abcdefghij') for _ in range(200))
    for _ in range(5):
        equal(console.do(f'echo {word}'), [word], 'what comes back')
    console.type('poweroff\n')
    console.wait()


def test_entropy_clock_and_timer(t):
    text = run(t, *linux(['entropy /dev/hwrng', 'sleep 50', 'cat /sys/class/rtc/rtc0/since_epoch', 'poweroff']),
               '-device', 'virtio-rng-device')
    seconds = int(said(text)[1])
    now = int(time.time())
    check(abs(now - seconds) < 1000, f'the guest has the time {seconds}, and it is {now}')


def test_a_kernel_whose_timer_is_the_firmware(t):
    if qemu_in_our_place():
        skip("sv48 is not a property of that QEMU's")
    text = run(t, *linux(['sleep 50', 'cat /proc/cpuinfo', 'poweroff']), '-cpu', 'rv64,sstc=off,sv48=off,pmp=off')
    lines = [line.replace('\t', ' ').split() for line in said(text)]
    check(['isa', ':', 'rv64imafdc'] in lines and ['mmu', ':', 'sv39'] in lines, text)


def test_a_reset_boots_again_and_ends_with_no_reboot(t):
    text = run(t, *linux(['echo once', 'reboot']))
    equal(said(text), ['started', 'once'], 'what init says with -no-reboot')
    console = Console(t, *linux())
    for _ in range(3):
        console.expect('init: ready')
        console.type('reboot\n')
    console.expect('init: ready')
    console.type('poweroff\n')
    console.wait()


def test_stop_cont_and_reset_by_qmp(t):
    socket = t.path('qmp')
    console = Console(t, *linux(), '-qmp', f'unix:{socket},server=on,wait=off', '-smp', '2')
    console.expect('init: ready')
    qmp = Qmp(socket)
    equal(qmp.command('query-status')['status'], 'running', 'the state')
    equal([cpu['cpu-index'] for cpu in qmp.command('query-cpus-fast')], [0, 1], 'the harts')
    began = time.monotonic()
    before = float(console.do('cat /proc/uptime')[0].split()[0])
    qmp.command('stop')
    qmp.event('STOP')
    equal(qmp.command('query-status'), {'running': False, 'singlestep': False, 'status': 'paused'}, 'the status')
    stopped = time.monotonic()
    console.type('echo typed\n')
    time.sleep(1)
    stood = time.monotonic() - stopped
    qmp.command('cont')
    qmp.event('RESUME')
    console.expect('init: typed')
    console.expect('init: done')
    after = float(console.do('cat /proc/uptime')[-1].split()[0])
    # Its clock tells hundredths of a second.
    check(after - before < time.monotonic() - began - stood + 0.02,
          f'the guest does not see that it stood still: {before} to {after}')
    qmp.command('system_reset')
    equal(qmp.event('RESET'), {'guest': False, 'reason': 'host-qmp-system-reset'}, 'the event')
    console.expect('init: ready')
    qmp.command('system_powerdown')
    qmp.event('POWERDOWN')
    console.type('poweroff\n')
    equal(qmp.event('SHUTDOWN'), {'guest': True, 'reason': 'guest-shutdown'}, 'the event')
    console.wait()


def test_what_is_typed_arrives_whole(t):
    console = Console(t, *linux())
    console.expect('init: ready')
    word = ''.join(t.random.choice('abcdefghij') for _ in range(200))
    for _ in range(20):
        equal(console.do(f'echo {word}'), [word], 'what comes back')
    console.type('poweroff\n')
    console.wait()


def test_an_image_is_in_order_after_a_kill(t):
    image = make_ext4(t, 'disk', 64 * MIB)
    console = Console(t, *linux(), '-drive', f'if=virtio,format=raw,file={image}')
    console.expect('init: ready')
    console.do('mount /dev/vda /mnt')
    console.do('write /mnt/safe 1 3000')
    console.type('write /mnt/f 2 30000\nwrite /mnt/g 3 10000\n')
    time.sleep(t.random.random() / 2)
    console.process.send_signal(signal.SIGKILL)
    console.process.wait()
    done = t.run('e2fsck', '-f', '-p', image, status=None)
    check(done.returncode in (0, 1), f'e2fsck: {done.stdout}')
    text = run(t, *linux(['mount /dev/vda /mnt', 'verify /mnt/safe 1 3000', 'echo there', 'poweroff']),
               '-drive', f'if=virtio,format=raw,file={image}')
    equal(said(text), ['started', 'there'], 'what was synced')


def test_u_boot_boots_it_from_the_disk(t):
    uboot = '/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf'
    if not os.path.exists(uboot):
        skip('u-boot-qemu is not installed')
    tree = t.path('tree')
    (tree / 'extlinux').mkdir(parents=True)
    for source, name in ((kernel(), 'Image'), (initrd(), 'initrd')):
        (tree / name).write_bytes(open(source, 'rb').read())
    (tree / 'extlinux/extlinux.conf').write_text(
        'timeout 1\ndefault l\nlabel l\n kernel /Image\n initrd /initrd\n'
        ' append console=ttyS0 quiet script=echo+booted;poweroff\n')
    # One partition, which is marked as the one to boot from.
    partition, image = t.path('partition'), t.path('disk')
    with open(partition, 'wb') as f:
        f.truncate(32 * MIB)
    t.run('mkfs.ext4', '-q', '-F', '-d', tree, partition)
    entry = struct.pack('<B3xB3xII', 0x80, 0x83, MIB // 512, 32 * MIB // 512)
    image.write_bytes((bytes(446) + entry + bytes(48) + b'\x55\xaa').ljust(MIB, b'\0') + partition.read_bytes())
    text = run(t, '-kernel', uboot, *disk(image), '-m', '256')
    equal(said(text), ['started', 'booted'], 'what init says')


if __name__ == '__main__':
    main()
