"""Random RISC-V programs as flat images for 0x80000000, that print all they have done.

A program is many short chunks: each loads every register from a table of its own, runs some dozens of random
instructions (traps are logged and skipped), and appends its registers and a part of the CSRs to a log. In the end the log
and the data that loads and stores worked on go out of the UART at 0x10000000, and the finisher at 0x100000 is told.
"""
import random
import struct

BASE = 0x80000000
UART = 0x10000000
FINISHER = 0x100000

# What instructions may not change: two pointers into the data, one for addresses, one for the log.
SP, DATA2, DATA, ADDRESS, LOG = 2, 8, 30, 29, 31
RESERVED = {SP, DATA2, DATA, ADDRESS, LOG}
FREE = [r for r in range(32) if r not in RESERVED]
FREE_SHORT = [r for r in FREE if 8 <= r < 16]


def r_type(f7, rs2, rs1, f3, rd, op):
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op


def i_type(imm, rs1, f3, rd, op):
    return (imm & 0xfff) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op


def s_type(imm, rs2, rs1, f3, op):
    return (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm & 31) << 7 | op


def b_type(imm, rs2, rs1, f3):
    return ((imm >> 12 & 1) << 31 | (imm >> 5 & 0x3f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm >> 1 & 15) << 8
            | (imm >> 11 & 1) << 7 | 0x63)


def j_type(imm, rd):
    return ((imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21 | (imm >> 11 & 1) << 20 | (imm >> 12 & 0xff) << 12
            | rd << 7 | 0x6f)


def csr(number, rs1, f3, rd):
    return i_type(number, rs1, f3, rd, 0x73)


def to_bytes(instruction):
    """`instruction`: bits; those of 2 bytes are known by their lowest two."""
    return struct.pack('<I' if instruction & 3 == 3 else '<H', instruction)


def pc_relative(rd, distance):
    """auipc and addi: rd = pc + distance."""
    low = (distance & 0xfff) - (distance & 0x800) * 2
    return to_bytes(((distance - low) & 0xfffff000) | rd << 7 | 0x17) + to_bytes(i_type(low, rd, 0, rd, 0x13))


def random_integer(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return rng.getrandbits(64)
    if kind == 1:
        return rng.choice([0, 1, 2, 31, 32, 63, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
                           2**64 - 2, 2**64 - 2**31, 2**64 - 2**31 - 1])
    if kind == 2:
        return rng.getrandbits(rng.randrange(1, 64))
    if kind == 3:
        return -rng.getrandbits(rng.randrange(1, 63)) & (2**64 - 1)
    return rng.getrandbits(32) - (2**31) & (2**64 - 1)


def random_float_bits(rng, exponent_bits, fraction_bits):
    sign = rng.getrandbits(1) << (exponent_bits + fraction_bits)
    top = (1 << exponent_bits) - 1
    bias = top >> 1
    fraction = rng.choice([0, 1, (1 << fraction_bits) - 1, rng.getrandbits(fraction_bits),
                           rng.getrandbits(fraction_bits), rng.getrandbits(3) << (fraction_bits - 3)])
    exponent = rng.choice([0, 1, top - 1, top, bias, rng.randrange(top + 1), bias + rng.randrange(-3, 4),
                           bias + rng.randrange(-30, 66) if exponent_bits == 8 else bias + rng.randrange(-70, 70),
                           bias + rng.randrange(-3, 4)])
    return sign | exponent << fraction_bits | fraction


def random_float(rng):
    kind = rng.randrange(8)
    if kind < 4:
        return random_float_bits(rng, 11, 52)
    boxed = 0xffffffff00000000 | random_float_bits(rng, 8, 23)
    return boxed ^ (1 << rng.randrange(32, 64)) if kind == 7 and rng.random() < 0.3 else boxed


class Mode:
    """Where a program runs, and what is protected from it: drawn once, before anything else."""

    def __init__(self, rng):
        self.privilege = rng.choice('MSSUUU')
        # 3: Sv39, 4: Sv48, 0: no translation. In M-mode it is seen by MPRV.
        self.levels = rng.choice([0, 3, 4] if self.privilege != 'M' else [0, 0, 3])
        # Pages of 4 KiB with permissions of their own, or only large ones where everything is allowed.
        self.pages = self.levels > 0 and (self.privilege == 'U' or rng.random() < 0.6)
        self.mprv = self.privilege == 'M' and self.pages
        self.pmp = rng.random() < 0.5
        self.tvm, self.tw, self.tsr = (rng.random() < 0.3 for _ in range(3))

    def __str__(self):
        paging = f'Sv{12 + 9 * self.levels}' + (' small pages' if self.pages else '') if self.levels else 'bare'
        return ' '.join([self.privilege, paging, *(['PMP'] if self.pmp else []), *(['MPRV'] if self.mprv else [])])


class Generator:
    def __init__(self, seed, chunks=150, length=40):
        self.rng = random.Random(seed)
        self.mode = Mode(self.rng)
        self.chunks = chunks
        self.length = length
        self.bases = {}  # of the chunk: where the pointers into the data point, relative to the image

    # --- Random instructions: lists of bits, that belong together.

    def rd(self):
        return self.rng.choice(FREE)

    def rs(self):
        return self.rng.randrange(32)

    def f(self):
        return self.rng.randrange(32)

    def integer(self):
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return [i_type(rng.getrandbits(12), self.rs(), rng.choice([0, 2, 3, 4, 6, 7]), self.rd(), 0x13)]
        if kind == 1:
            return [i_type(rng.getrandbits(6) | rng.choice([0, 0x400]), self.rs(), 5, self.rd(), 0x13)]
        if kind == 2:
            f3 = rng.choice([0, 1, 5])
            imm = rng.getrandbits(12) if f3 == 0 else rng.getrandbits(5) | (rng.choice([0, 0x400]) if f3 == 5 else 0)
            return [i_type(imm, self.rs(), f3, self.rd(), 0x1b)]
        if kind == 3:
            return [rng.getrandbits(20) << 12 | self.rd() << 7 | rng.choice([0x37, 0x17])]
        op = rng.choice([0x33, 0x3b])
        if kind == 4:  # M
            f3 = rng.randrange(8) if op == 0x33 else rng.choice([0, 4, 5, 6, 7])
            return [r_type(1, self.rs(), self.rs(), f3, self.rd(), op)]
        # Any function code: many are none.
        f7 = rng.choice([0, 0, 0, 0x20, 0x20, rng.getrandbits(7)])
        return [r_type(f7, self.rs(), self.rs(), rng.randrange(8), self.rd(), op)]

    def memory(self):
        rng = self.rng
        imm = rng.randrange(-2040, 2041)
        base = rng.choice([DATA, DATA, DATA2, SP])
        # What crosses into another page is one access for QEMU's PMP, and two for ours.
        if self.mode.pmp and (self.bases[base] + imm) % 4096 > 4088:
            imm -= 8
        kind = rng.randrange(4)
        if kind == 0:
            return [i_type(imm, base, rng.randrange(8), self.rd(), 0x03)]
        if kind == 1:
            return [s_type(imm, self.rs(), base, rng.randrange(4), 0x23)]
        if kind == 2:
            return [i_type(imm, base, rng.choice([2, 3]), self.f(), 0x07)]
        return [s_type(imm, self.f(), base, rng.choice([2, 3]), 0x27)]

    def atomic(self):
        rng = self.rng
        # Aligned: for others QEMU 7.2 names the cause of a load, and lets SC fail without a trap.
        imm = rng.randrange(-2048, 2041) & ~7
        f5 = rng.choice([0, 1, 2, 3, 4, 8, 12, 16, 20, 24, 28])
        f3 = rng.choice([2, 3])
        point = i_type(imm, DATA, 0, ADDRESS, 0x13)

        def make(f5):
            rs2 = 0 if f5 == 2 else self.rs()
            return r_type(f5 << 2 | rng.getrandbits(2), rs2, ADDRESS, f3, self.rd(), 0x2f)

        if f5 in (2, 3):
            # Where it may: without a reservation QEMU's SC does not look whether it might have stored.
            if self.mode.mprv:
                return [point, make(0)]
            if self.mode.pages or self.mode.pmp:
                step = i_type(0x7f0, ADDRESS, 0, ADDRESS, 0x13)
                return [i_type(0x7f0, DATA, 0, ADDRESS, 0x13), step, step, make(2), make(3), make(3)]
            return [point, make(2), make(3), make(3)]
        return [point, make(f5)]

    def floating(self):
        rng = self.rng
        f7 = rng.choice([0x00, 0x04, 0x08, 0x0c, 0x2c, 0x10, 0x14, 0x50, 0x60, 0x68, 0x70, 0x78, 0x20])
        fmt = rng.choice([0, 1])
        rm = rng.choice([0, 1, 2, 3, 4, 7, 7, rng.randrange(8)])
        if rng.random() < 0.25:
            fma = self.f() << 27 | fmt << 25
            return [fma | self.f() << 20 | self.f() << 15 | rm << 12 | self.f() << 7
                    | rng.choice([0x43, 0x47, 0x4b, 0x4f])]
        rs2 = self.f()
        rd = self.f()
        if f7 in (0x60, 0x68):
            rs2 = rng.randrange(4)
        if f7 in (0x70, 0x78, 0x2c):
            rs2 = 0
        if f7 == 0x20:
            rs2 = 1 - fmt
        if f7 in (0x10, 0x14, 0x50, 0x70, 0x78):
            rm = rng.randrange(3) if rng.random() < 0.95 else rm
        if f7 in (0x50, 0x60, 0x70):
            rd = self.rd()
        return [r_type(f7 | fmt, rs2, self.f(), rm, rd, 0x53)]

    def compressed(self):
        rng = self.rng
        rd, short = self.rd(), rng.choice(FREE_SHORT)
        imm5, hi = rng.getrandbits(5), rng.getrandbits(1) << 12
        kind = rng.randrange(9)
        if kind == 0:  # c.addi, c.addiw, c.li
            return [rng.choice([0, 1, 2]) << 13 | hi | rd << 7 | imm5 << 2 | 1]
        if kind == 1:  # c.lui
            return [3 << 13 | hi | rd << 7 | imm5 << 2 | 1]
        if kind == 2:  # c.srli, c.srai, c.andi
            return [4 << 13 | hi | rng.randrange(3) << 10 | (short - 8) << 7 | imm5 << 2 | 1]
        if kind == 3:  # c.sub and the like; some are reserved
            return [4 << 13 | hi | 3 << 10 | (short - 8) << 7 | rng.randrange(4) << 5 | rng.randrange(8) << 2 | 1]
        if kind == 4:  # c.slli
            return [0 << 13 | hi | rd << 7 | imm5 << 2 | 2]
        if kind == 5:  # c.mv, c.add, not c.jr, c.jalr; c.ebreak
            if rng.random() < 0.1:
                return [0x9002]
            return [4 << 13 | hi | rd << 7 | rng.randrange(1, 32) << 2 | 2]
        if kind == 6:  # c.addi4spn
            return [rng.getrandbits(8) << 5 | (short - 8) << 2]
        if kind == 7:  # by sp
            f3 = rng.choice([1, 2, 3, 5, 6, 7])
            return [f3 << 13 | hi | (rd if f3 < 4 and f3 != 1 else rng.getrandbits(5)) << 7 | imm5 << 2 | 2]
        f3 = rng.choice([1, 2, 3, 5, 6, 7])  # by x8
        return [f3 << 13 | rng.getrandbits(3) << 10 | (DATA2 - 8) << 7 | rng.getrandbits(2) << 5 | (short - 8) << 2]

    def system(self):
        rng = self.rng
        kind = rng.randrange(9)
        if kind == 0:
            return [rng.choice([0x00000073, 0x00100073, 0x0ff0000f, 0x0000100f, 0x12000073])]
        if kind == 8:
            return [self.forbidden()]
        if kind <= 2:  # fcsr and its parts
            return [csr(rng.choice([1, 2, 3]), self.rs(), rng.choice([1, 2, 3, 5, 6, 7]), self.rd())]
        if kind == 3:  # any value will do (not sepc: QEMU 7.2 keeps its lowest bit)
            # Nor mcause, where an AMO may have faulted.
            number = rng.choice([0x140, 0x142, 0x143, 0x343, 0x143 if self.mode.pages or self.mode.pmp else 0x342])
            return [csr(number, self.rs(),
                        rng.choice([1, 2, 3, 5, 6, 7]), self.rd())]
        if kind == 4:  # read-only, and none
            return [csr(rng.choice([0xf14, 0xf12, 0x7ff, 0x5c0, 0x9ff]), self.rs(), 1, self.rd())]
        if kind == 5:  # the fields of mstatus that change nothing here, or only what may be accessed
            field = rng.choice([1 << 1, 1 << 5, 1 << 8, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 0x6000])
            return [field & 0xfffff000 | ADDRESS << 7 | 0x37, i_type(field & 0xfff, ADDRESS, 0, ADDRESS, 0x13),
                    csr(rng.choice([0x300, 0x300, 0x100]), ADDRESS, rng.choice([2, 3]), self.rd())]
        if kind == 6:
            return [csr(rng.choice([0x303, 0x304, 0x104]), self.rs(), rng.choice([2, 3]), self.rd()),
                    csr(0x304, 0, 1, 0), csr(0x303, 0, 1, 0)]
        return [rng.choice([0, 0x0000007b, 0xffffffff, 0x0000400f, 0x00006003 | 1 << 12, 0x9c41])]

    def forbidden(self):
        """What traps in this mode: returns, fences of translations, CSRs of others."""
        rng, mode = self.rng, self.mode
        # sfence.vma of an address, of an address space, of both.
        fence = r_type(9, rng.choice([0, DATA]), rng.choice([0, DATA]), 0, 0, 0x73)
        if mode.privilege == 'M':
            return fence
        none = [0x30200073, csr(rng.choice([0x300, 0x341, 0x3a0, 0x3b0, 0xb00, 0xf14]), self.rs(), 2, self.rd()),
                csr(rng.choice([0xc00, 0xc01, 0xc02, 0xc03]), 0, 2, self.rd())]
        if mode.privilege == 'U':
            none += [0x10200073, fence, csr(rng.choice([0x100, 0x104, 0x140, 0x141, 0x144, 0x180, 0x106]), self.rs(),
                                            rng.choice([1, 2, 3, 5, 6, 7]), self.rd())]
            return rng.choice(none)
        none += [fence]
        if mode.tvm:
            none += [csr(0x180, self.rs(), rng.choice([1, 2]), self.rd())]
        if mode.tw:
            none += [0x10500073]
        if mode.tsr:
            none += [0x10200073]
        return rng.choice(none)

    def one(self):
        make = self.rng.choices([self.integer, self.memory, self.atomic, self.floating, self.compressed, self.system],
                                [25, 15, 5, 30, 20, 5])[0]
        return b''.join(map(to_bytes, make()))

    def image(self):
        return Image(self).build()


VALID, READ, WRITE, EXECUTE, USER, ACCESSED, DIRTY = 1, 2, 4, 8, 16, 64, 128
ALL = VALID | READ | WRITE | EXECUTE | ACCESSED | DIRTY


def entry(address, bits):
    return address >> 12 << 10 | bits


def pack_table(entries):
    return struct.pack('<512Q', *(entries.get(i, 0) for i in range(512)))


class Image:
    """Lays out: code, trap handler, tables, data, log. Traps are handled in M-mode."""

    TABLES, LEAVES, DATA, LOG = 0xf8000, 0x306000, 0x300000, 0x310000

    def __init__(self, generator):
        self.generator = generator
        self.rng = generator.rng

    def jumps(self, parts):
        """Puts forward jumps between the parts; their distances count what was put in later."""
        rng, g = self.rng, self.generator
        planned = {}
        for index in range(len(parts)):
            if rng.random() < 0.12:
                planned[index] = (rng.randrange(5), min(len(parts), index + 1 + rng.randrange(4)))
        size_of = {0: 4, 1: 8, 2: 2, 3: 4, 4: 4}
        after = {index: size_of[kind] for index, (kind, _) in planned.items()}
        out = []
        for index, part in enumerate(parts):
            out.append(part)
            if index not in planned:
                continue
            kind, target = planned[index]
            over = sum(len(parts[i]) + after.get(i, 0) for i in range(index + 1, target))
            if kind == 0:
                out.append(to_bytes(j_type(over + 4, g.rd())))
            elif kind == 1:
                out.append(to_bytes(0x17 | ADDRESS << 7)
                           + to_bytes(i_type(over + 8 + rng.getrandbits(1), ADDRESS, 0, g.rd(), 0x67)))
            elif kind == 2:
                d = over + 2
                short = rng.choice(FREE_SHORT) - 8
                out.append(to_bytes(rng.choice([6, 7]) << 13 | (d >> 8 & 1) << 12 | (d >> 3 & 3) << 10 | short << 7
                                    | (d >> 6 & 3) << 5 | (d >> 1 & 3) << 3 | (d >> 5 & 1) << 2 | 1))
            else:
                out.append(to_bytes(b_type(over + 4, g.rs(), g.rs(), rng.choice([0, 1, 4, 5, 6, 7]))))
        return b''.join(out)

    def page_tables(self, put):
        """What satp gets: the root's place in the image. The devices, and the memory where it is."""
        rng, mode = self.rng, self.generator.mode
        user = USER if mode.privilege == 'U' or mode.mprv else 0
        place = iter(range(self.TABLES, self.TABLES + 0x6000, 0x1000))
        gigabytes = {i: entry(i << 30, ALL | user) for i in range(4)}
        if mode.pages:
            # The data's pages, of which only some may be accessed, lie where they are printed in the end.
            leaves = {i: entry(BASE + 0x200000 + (i << 12), ALL | user) for i in range(512)}
            for page in range(0x100, 0x105):
                bits = ALL | user
                for flag, likely in ((READ, 0.85), (WRITE, 0.8), (EXECUTE, 0.6), (ACCESSED, 0.6), (DIRTY, 0.6),
                                     (VALID, 0.93)):
                    if rng.random() > likely:
                        bits &= ~flag
                if rng.random() < 0.2:
                    bits ^= USER
                if rng.random() < 0.03:
                    bits |= 1 << rng.choice([8, 9, 54, 60, 61, 63])
                leaves[page] = entry(BASE + 0x200000 + (page << 12), bits)
            put(self.LEAVES, pack_table(leaves))
            middle = next(place)
            large = {i: entry(BASE + (i << 21), ALL | user) for i in range(512)}
            large[1] = entry(BASE + self.LEAVES, VALID)
            put(middle, pack_table(large))
            gigabytes[2] = entry(BASE + middle, VALID)
        root = next(place)
        put(root, pack_table(gigabytes))
        if mode.levels == 4:
            top = next(place)
            put(top, pack_table({0: entry(BASE + root, VALID)}))
            root = top
        return root

    def protections(self):
        """Pairs of pmpaddr and pmpcfg: what the data may not be used for, and the rest may be used for everything."""
        rng, mode = self.rng, self.generator.mode
        entries = []
        while mode.pmp and len(entries) < 12:
            if rng.random() < 0.2:
                break
            # Nothing smaller: QEMU 7.2 does not see an entry that lies within a misaligned access.
            size = 1 << rng.randrange(3, 13)
            start = BASE + self.DATA + (rng.randrange(0x2000, 0x5000) & -size)
            allowed = rng.choice([0, 1, 3, 4, 5, 7])
            # Locked, it holds in M-mode, too; there the data is printed in the end, so that it may not be much.
            if mode.privilege == 'M' and size <= 64 and not mode.mprv:
                allowed |= 0x80
            kind = rng.randrange(3)
            if kind == 0:
                entries += [(start >> 2, rng.choice([0, 0, allowed & 7])),
                            ((start >> 2) + rng.randrange(2, max(3, min(size, 1024) >> 2)), allowed | 1 << 3)]
            else:
                entries += [(start >> 2 | ((size >> 3) - 1), allowed | 3 << 3)]
        return entries + [((1 << 54) - 1, 0x1f)]

    def build(self):
        g, rng = self.generator, self.rng
        mode = g.mode
        status = {'M': 0x300, 'S': 0x100, 'U': None}[mode.privilege]
        handler, tables, data, log = 0x100, 0x100000, self.DATA, self.LOG
        out = bytearray(log)

        def put(at, code):
            out[at:at + len(code)] = code
            return at + len(code)

        # The handler: logs mcause, mtval and mepc, and skips the instruction; from the last one it goes on to `end`.
        def handle(end):
            code = b''.join(map(to_bytes, [
                s_type(0, 5, LOG, 3, 0x23), s_type(8, 6, LOG, 3, 0x23),
                csr(0x342, 0, 2, 5), s_type(16, 5, LOG, 3, 0x23),
                csr(0x343, 0, 2, 5), s_type(24, 5, LOG, 3, 0x23),
                csr(0x341, 0, 2, 5), s_type(32, 5, LOG, 3, 0x23)]))
            code += pc_relative(6, end - handler - len(code))
            code += to_bytes(b_type(8, 6, 5, 1))
            code += to_bytes(j_type(end + 4 - handler - len(code), 0))
            code += b''.join(map(to_bytes, [
                i_type(0, 5, 5, 6, 0x03),                              # lhu x6, (x5)
                i_type(3, 6, 7, 6, 0x13), i_type(-3, 6, 0, 6, 0x13),   # andi 3; addi -3
                i_type(1, 6, 3, 6, 0x13),                              # sltiu x6, x6, 1: it is of 4 bytes
                i_type(1, 6, 1, 6, 0x13), i_type(2, 6, 0, 6, 0x13),    # 2 or 4
                r_type(0, 6, 5, 0, 5, 0x33), csr(0x341, 5, 1, 0),
                # mret to where it came from.
                i_type(0, LOG, 3, 5, 0x03), i_type(8, LOG, 3, 6, 0x03),
                i_type(40, LOG, 0, LOG, 0x13),
                0x30200073]))
            assert put(handler, code) <= 0x200

        at = put(0, to_bytes(j_type(0x200, 0)))
        at = put(0x200, pc_relative(5, handler - 0x200) + to_bytes(csr(0x305, 5, 1, 0)))
        at = put(at, pc_relative(LOG, log - at))
        for number, (address, config) in enumerate(self.protections()):
            # By way of the table, in whose beginning they are put.
            put(tables + 16 * number, struct.pack('<QQ', address, config << 8 * (number % 8)))
            at = put(at, pc_relative(5, tables + 16 * number - at))
            at = put(at, b''.join(map(to_bytes, [
                i_type(0, 5, 3, 6, 0x03), i_type(8, 5, 3, 5, 0x03),
                csr(0x3b0 + number, 6, 1, 0), csr(0x3a0 + number // 8 * 2, 5, 2, 0)])))
        if mode.levels:
            root = self.page_tables(put)
            # satp: the mode, and the root's page number
            at = put(at, b''.join(map(to_bytes, [i_type(5 + mode.levels, 0, 0, 5, 0x13), i_type(60, 5, 1, 5, 0x13)])))
            at = put(at, pc_relative(6, root - at))
            at = put(at, b''.join(map(to_bytes, [i_type(12, 6, 5, 6, 0x13), r_type(0, 6, 5, 6, 5, 0x33),
                                                 csr(0x180, 5, 1, 0)])))
        bits = 0x6000 | mode.tvm << 20 | mode.tw << 21 | mode.tsr << 22 if mode.privilege != 'M' else 0x6000
        bits |= {'M': 0x1800, 'S': 0x800, 'U': 0}[mode.privilege]
        at = put(at, b''.join(map(to_bytes, [
            bits + 0x800 & 0xfffff000 | 6 << 7 | 0x37, i_type(bits, 6, 0, 6, 0x13), csr(0x300, 6, 1, 0)])))
        at = put(at, pc_relative(5, 0x1000 - at))
        at = put(at, to_bytes(csr(0x341, 5, 1, 0)) + to_bytes(0x30200073))
        assert at < 0x1000
        tables += 0x1000
        at = 0x1000
        table = tables
        for _ in range(g.chunks):
            values = [random_float(rng) for _ in range(32)] + [random_integer(rng) for _ in range(32)] + \
                [rng.randrange(5) << 5 | rng.getrandbits(5)]
            put(table, struct.pack('<65Q', *values))
            # FP on; f0 to f31, fcsr, x1 to x28, the pointers.
            at = put(at, pc_relative(DATA, table - at))
            code = [0x00006000 | 5 << 7 | 0x37, csr(status, 5, 2, 0)] if status else []
            code += [i_type(8 * i, DATA, 3, i, 0x07) for i in range(32)]
            code += [i_type(8 * 64, DATA, 3, 5, 0x03), csr(3, 5, 1, 0)]
            code += [i_type(8 * (32 + i), DATA, 3, i, 0x03) for i in range(1, 30)]
            at = put(at, b''.join(map(to_bytes, code)))
            g.bases = {SP: data + 0x2800 + rng.randrange(64) * 8,
                       DATA2: data + 0x3000 + rng.randrange(0 if mode.pmp else -9, 9), DATA: data + 0x4000}
            for register, address in g.bases.items():
                at = put(at, pc_relative(register, address - at))
            # As in U-mode: that is what MPP is after a trap, and QEMU 7.2 keeps translations of what it was before.
            mprv = 0x20000
            if mode.mprv:
                at = put(at, b''.join(map(to_bytes, [
                    0x00002000 | ADDRESS << 7 | 0x37, i_type(-0x800, ADDRESS, 0, ADDRESS, 0x13),
                    csr(0x300, ADDRESS, 3, 0), mprv | ADDRESS << 7 | 0x37, csr(0x300, ADDRESS, 2, 0)])))
            at = put(at, self.jumps([g.one() for _ in range(g.length)]))
            if mode.mprv:
                at = put(at, to_bytes(mprv | ADDRESS << 7 | 0x37) + to_bytes(csr(0x300, ADDRESS, 3, 0)))
            # The record.
            code = [s_type(8 * i, i, LOG, 3, 0x23) for i in range(32)]
            if status:
                code += [csr(status, 0, 2, 5), s_type(8 * 32, 5, LOG, 3, 0x23),
                         0x00006000 | 5 << 7 | 0x37, csr(status, 5, 2, 0)]
            code += [csr(3, 0, 2, 5), s_type(8 * 33, 5, LOG, 3, 0x23), i_type(34 * 8, LOG, 0, LOG, 0x13)]
            code += [s_type(8 * i, i, LOG, 3, 0x27) for i in range(32)]
            code += [i_type(32 * 8, LOG, 0, LOG, 0x13)]
            at = put(at, b''.join(map(to_bytes, code)))
            table += 65 * 8
        # The end: in M-mode the data and the log, as bytes.
        assert at < 0xf0000 and table < data
        handle(at)
        at = put(at, to_bytes(0x00000073))
        at = put(at, pc_relative(5, data - at))
        loop = [UART & 0xfffff000 | 6 << 7 | 0x37, i_type(0, 5, 4, 7, 0x03), s_type(0, 7, 6, 0, 0x23),
                i_type(1, 5, 0, 5, 0x13), b_type(-12, LOG, 5, 1)]
        end = [FINISHER & 0xfffff000 | 6 << 7 | 0x37, 0x00005000 | 7 << 7 | 0x37, i_type(0x555, 7, 0, 7, 0x13),
               s_type(0, 7, 6, 2, 0x23), j_type(0, 0)]
        at = put(at, b''.join(map(to_bytes, loop + end)))
        put(data, bytes(rng.getrandbits(8) for _ in range(0x6000)))
        return bytes(out)
