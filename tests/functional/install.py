#!/usr/bin/python3
"""`meson install`, and a program outside of the tree that uses what it installed."""
import os

from ashlar_test import BUILD, MIB, check, contains, equal, main, wait_until

SOURCE = BUILD.joinpath('..').resolve() if 'ASHLAR_SOURCE' not in os.environ else os.environ['ASHLAR_SOURCE']


def install(t):
    root = t.path('root')
    t.run('meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', root)
    return root


def find(root, name):
    found = sorted(root.rglob(name))
    check(found, f'{name} is installed')
    return found[0]


def test_programs_library_and_headers_are_installed(t):
    root = install(t)
    for name in ['ashlar', 'ashlar-img', 'ashlar-io', 'ashlar-nbd', 'libashlar.so', 'ashlar.pc']:
        find(root, name)
    equal(find(root, 'block_backend.h').parent.name, 'block')
    contains(t.run(find(root, 'ashlar'), '--version').stdout, 'version')


def test_a_program_outside_of_the_tree_opens_reads_and_serves_an_image(t):
    root = install(t)
    library = find(root, 'libashlar.so').parent
    pkg_config = {'PKG_CONFIG_PATH': str(find(root, 'ashlar.pc').parent), 'PKG_CONFIG_SYSROOT_DIR': str(root)}
    # The sysroot is put in front of the paths of other packages too: those are asked for without it.
    flags = t.run('pkg-config', '--cflags', '--libs', 'ashlar', env=pkg_config).stdout.split()
    flags = [flag.replace(f'{root}/usr/include/glib-2.0', '/usr/include/glib-2.0')
                 .replace(f'{root}/usr/lib/x86_64-linux-gnu/glib-2.0', '/usr/lib/x86_64-linux-gnu/glib-2.0')
             for flag in flags]
    example = t.path('serve-image')
    t.run(*os.environ['CXX'].split(), os.path.join(SOURCE, 'docs/example/serve-image.cc'), *flags, '-o', example,
          timeout=300)

    image = t.image('disk', MIB)
    socket = t.path('nbd.sock')
    log = t.path('log')
    server = t.start([example, image, f'unix:{socket}'], log=log, env={'LD_LIBRARY_PATH': str(library)})
    wait_until(lambda: 'serving' in log.read_text() or server.poll() is not None, 'it serves')
    equal(log.read_text().splitlines()[0].split(), [f'{byte:02x}' for byte in image.read_bytes()[:16]])
    t.run('nbdcopy', f'nbd+unix:///?socket={socket}', t.path('copy'))
    equal(t.path('copy').read_bytes(), image.read_bytes())
    server.terminate()
    equal(server.wait(10), 0, 'the exit status')


main()
