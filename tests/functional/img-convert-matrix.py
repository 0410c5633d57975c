#!/usr/bin/env python3
"""Conversions between raw and every kind of qcow2, in both directions, of files and over NBD, by Ashlar's tools and by
QEMU's: the contents are the same bytes everywhere, and no image that comes of it has a fault."""
from ashlar_test import KIB, MIB, Server, check, digest, equal, main, sanitized

# name: what `create -o` is told, and `convert` besides
KINDS = {
    'version-2': ('compat=0.10',),
    'version-2-compressed': ('compat=0.10', '-c'),
    'version-3': ('compat=1.1',),
    'clusters-of-512': ('cluster_size=512',),
    'clusters-of-4k-counts-of-2': ('cluster_size=4k,refcount_bits=2',),
    'clusters-of-2m': ('cluster_size=2M',),
    'counts-of-1': ('refcount_bits=1',),
    'counts-of-8-compressed': ('refcount_bits=8', '-c'),
    'counts-of-64': ('refcount_bits=64,cluster_size=16k',),
    'lazy': ('lazy_refcounts=on',),
    'subclusters': ('extended_l2=on',),
    'subclusters-of-512': ('extended_l2=on,cluster_size=16k',),
    'subclusters-compressed': ('extended_l2=on,cluster_size=128k', '-c'),
    'zlib': ('compression_type=zlib', '-c'),
    'zstd': ('compression_type=zstd', '-c'),
    'zstd-clusters-of-512': ('compression_type=zstd,cluster_size=512', '-c'),
    'metadata-allocated': ('preallocation=metadata',),
    'fully-allocated': ('preallocation=full',),
    'data-file': ('data_file=DATA',),
    'data-file-subclusters': ('data_file=DATA,extended_l2=on',),
    'raw-data-file': ('data_file=DATA,data_file_raw=on',),
}
IMG = 'ashlar-img', 'qemu-img'
# Clusters of 512 bytes, compressed one by one on a busy machine.
SLOW = 240
# Not whole clusters of any size.
SIZE = 3 * MIB + 200 * KIB + 512


class Matrix:
    def __init__(self, t):
        self.t, self.random = t, t.random
        self.source = t.path('source.raw')
        self.source.write_bytes(b''.join(self.piece() for _ in range(SIZE // 512 // 16 + 1))[:SIZE])
        self.hash = digest(self.source)

    def piece(self):
        """8 KiB: random ones, ones that can be compressed, zeroes, and some of each."""
        kind = self.random.randrange(6)
        if kind == 0:
            return self.random.randbytes(8 * KIB)
        if kind == 1:
            return self.random.randbytes(2 * KIB) + bytes(6 * KIB)
        if kind == 2:
            return bytes([self.random.randrange(256)]) * 8 * KIB
        return bytes(8 * KIB)

    def path(self, name):
        return self.t.path(f'{self.t.count()}-{name}')

    def options(self, kind):
        options, *more = KINDS[kind]
        return ['-o', options.replace('DATA', str(self.path('data')))], more

    def how(self, more):
        return [*more, *self.random.choice([[], ['-S', '0'], ['-m', '1'], ['-m', '16'],
                                            [] if '-c' in more else ['-W', '-m', '4']])]

    def convert(self, tool, from_format, from_, to_format, to, *more):
        self.t.run(tool, 'convert', '-f', from_format, '-O', to_format, *more, from_, to, timeout=SLOW)

    def verify(self, image):
        for tool in IMG:
            self.t.run(tool, 'check', '-q', '-f', 'qcow2', image)
        self.t.run(self.random.choice(IMG), 'compare', '-q', '-f', 'raw', '-F', 'qcow2', self.source, image)
        raw = self.path('back.raw')
        for tool in IMG:
            self.convert(tool, 'qcow2', image, 'raw', raw)
            equal(digest(raw), self.hash, f'the hash of what {tool} has made of {image.name}')
            raw.unlink()

    def files(self, kind):
        """raw to qcow2 and on to another kind; both tools read what comes of it."""
        for tool in IMG:
            options, more = self.options(kind)
            image = self.path(f'{kind}.qcow2')
            self.convert(tool, 'raw', self.source, 'qcow2', image, *options, *self.how(more))
            self.verify(image)
        another = self.random.choice(list(KINDS))
        options, more = self.options(another)
        last = self.path(f'{another}.qcow2')
        self.convert('ashlar-img', 'qcow2', image, 'qcow2', last, *options, *self.how(more))
        self.verify(last)

    def serve(self, server, image, *options, format='qcow2'):
        if server == 'ashlar-nbd':
            return self.t.serve(image, *options, format=format)
        return Server(self.t, ['-t', '-e', '0', '-f', format, *options, image], name=server,
                      socket_path=self.path('nbd.sock'))

    def over_nbd(self, kind, server):
        """Into an image behind a server, and out of it, and from one server to another."""
        options, more = self.options(kind)
        image, back = self.path(f'{kind}.qcow2'), self.path('back.raw')
        self.t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', *options, image, SIZE)
        target = self.serve(server, image)
        self.convert('ashlar-img', 'raw', self.source, 'raw', target.uri, '-n', *self.how([]))
        self.t.run('ashlar-img', 'compare', '-q', '-f', 'raw', '-F', 'raw', self.source, target.uri)
        self.convert('ashlar-img', 'raw', target.uri, 'raw', back)
        equal(digest(back), self.hash, 'the hash of what was read')
        if more:        # nobody writes compressed clusters over NBD
            packed = self.path(f'{kind}-packed.qcow2')
            self.convert('ashlar-img', 'raw', self.source, 'qcow2', packed, *self.options(kind)[0], *self.how(more))
            source = self.serve(server, packed, '-r')
            back.unlink()
            self.convert('ashlar-img', 'raw', source.uri, 'raw', back)
            source.stop()
            equal(digest(back), self.hash, 'the hash of what was read of compressed clusters')
        options, more = self.options(self.random.choice(list(KINDS)))
        local = self.path('local.qcow2')
        self.convert('ashlar-img', 'raw', target.uri, 'qcow2', local, *options, *self.how(more))
        copy = self.path('copy.raw')
        with open(copy, 'wb') as f:
            f.truncate(SIZE)
        other = self.serve(self.random.choice(['ashlar-nbd', 'qemu-nbd']), copy, format='raw')
        self.convert('ashlar-img', 'raw', target.uri, 'raw', other.uri, '-n', *self.how([]))
        target.stop()
        other.stop()
        equal(digest(copy), self.hash, 'the hash of what went from one server to the other')
        self.verify(image)
        self.verify(local)


def chosen(t):
    """Every kind, but a few of them for a sanitizer."""
    kinds = list(KINDS)
    return t.random.sample(kinds, 3) if sanitized() else kinds


def test_files_of_every_kind(t):
    matrix = Matrix(t)
    for kind in chosen(t):
        matrix.files(kind)


def test_every_kind_behind_a_server(t):
    matrix = Matrix(t)
    for kind in chosen(t):
        matrix.over_nbd(kind, t.random.choice(['ashlar-nbd', 'qemu-nbd']))


def test_a_compressed_image_is_smaller(t):
    matrix = Matrix(t)
    plain, compressed = matrix.path('plain.qcow2'), matrix.path('compressed.qcow2')
    matrix.convert('ashlar-img', 'raw', matrix.source, 'qcow2', plain)
    matrix.convert('ashlar-img', 'raw', matrix.source, 'qcow2', compressed, '-c')
    check(compressed.stat().st_size < plain.stat().st_size, f'{compressed.stat().st_size} of {plain.stat().st_size}')


if __name__ == '__main__':
    main()
