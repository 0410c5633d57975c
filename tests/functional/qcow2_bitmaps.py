"""Reads the dirty bitmaps out of a qcow2 image, by the format's specification and nothing else."""
import struct
from dataclasses import dataclass

EXTENSION = 0x23852875
FLAGS = {1: 'in-use', 2: 'auto'}


@dataclass
class StoredBitmap:
    granularity: int
    flags: list
    granules: set       # the numbers of those that are dirty


def extension(image):
    """(offset, length, number of bitmaps) of the directory, or None."""
    header = image.read(112)
    version, = struct.unpack_from('>I', header, 4)
    if version < 3 or not struct.unpack_from('>Q', header, 88)[0] & 1:
        return None
    image.seek(struct.unpack_from('>I', header, 100)[0])
    while True:
        kind, length = struct.unpack('>II', image.read(8))
        data = image.read(-(-length // 8) * 8)
        if kind == EXTENSION:
            number, _, size, offset = struct.unpack_from('>IIQQ', data)
            return offset, size, number
        if kind == 0:
            raise AssertionError('the bitmaps feature bit is set, and there is no extension')


def bits(data):
    return {byte * 8 + bit for byte, value in enumerate(data) if value for bit in range(8) if value >> bit & 1}


def read_granules(image, cluster, table, granules):
    found = set()
    for i, entry in enumerate(table):
        first = i * cluster * 8
        here = min(cluster * 8, granules - first)
        offset = entry & 0x00fffffffffffe00
        if offset:
            image.seek(offset)
            found |= {first + bit for bit in bits(image.read(cluster))}
        elif entry & 1:
            found |= set(range(first, first + here))
    if found and max(found) >= granules:
        raise AssertionError(f'bit {max(found)} of {granules} is set')
    return found


def stored_bitmaps(path):
    """name -> StoredBitmap."""
    result = {}
    with open(path, 'rb') as image:
        place = extension(image)
        if not place:
            return result
        offset, size, number = place
        image.seek(20)
        cluster_bits, disk = struct.unpack('>IQ', image.read(12))
        image.seek(offset)
        directory = image.read(size)
        at = 0
        for _ in range(number):
            table_at, entries, flags, kind, granularity_bits, name_size, extra = struct.unpack_from('>QIIBBHI', directory,
                                                                                                    at)
            if kind != 1:
                raise AssertionError(f'a bitmap of type {kind}')
            name = directory[at + 24 + extra:at + 24 + extra + name_size].decode()
            at += -(-(24 + extra + name_size) // 8) * 8
            image.seek(table_at)
            table = struct.unpack(f'>{entries}Q', image.read(entries * 8))
            result[name] = StoredBitmap(1 << granularity_bits, [text for bit, text in FLAGS.items() if flags & bit],
                                        read_granules(image, 1 << cluster_bits, table,
                                                      -(-disk // (1 << granularity_bits))))
    return result
