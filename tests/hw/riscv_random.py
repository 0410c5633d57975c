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


class Generator:
    def __init__(self, seed, chunks=150, length=40):
        self.rng = random.Random(seed)
        self.chunks = chunks
        self.length = length

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
        imm = rng.randrange(-2048, 2041)
        base = rng.choice([DATA, DATA, DATA2, SP])
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
        kind = rng.randrange(8)
        if kind == 0:
            return [rng.choice([0x00000073, 0x00100073, 0x0ff0000f, 0x0000100f, 0x12000073])]
        if kind <= 2:  # fcsr and its parts
            return [csr(rng.choice([1, 2, 3]), self.rs(), rng.choice([1, 2, 3, 5, 6, 7]), self.rd())]
        if kind == 3:  # any value will do (not sepc: QEMU 7.2 keeps its lowest bit)
            return [csr(rng.choice([0x140, 0x142, 0x143, 0x342, 0x343]), self.rs(),
                        rng.choice([1, 2, 3, 5, 6, 7]), self.rd())]
        if kind == 4:  # read-only, and none
            return [csr(rng.choice([0xf14, 0xf12, 0x7ff, 0x5c0, 0x9ff]), self.rs(), 1, self.rd())]
        if kind == 5:  # the fields of mstatus that change nothing here: FS, SUM, MXR, SPP, SPIE, SIE, TVM, TW, TSR
            field = rng.choice([1 << 1, 1 << 5, 1 << 8, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 0x6000])
            return [field & 0xfffff000 | ADDRESS << 7 | 0x37, i_type(field & 0xfff, ADDRESS, 0, ADDRESS, 0x13),
                    csr(rng.choice([0x300, 0x300, 0x100]), ADDRESS, rng.choice([2, 3]), self.rd())]
        if kind == 6:
            return [csr(rng.choice([0x303, 0x304, 0x104]), self.rs(), rng.choice([2, 3]), self.rd()),
                    csr(0x304, 0, 1, 0), csr(0x303, 0, 1, 0)]
        return [rng.choice([0, 0x0000007b, 0xffffffff, 0x0000400f, 0x00006003 | 1 << 12, 0x9c41])]

    def one(self):
        make = self.rng.choices([self.integer, self.memory, self.atomic, self.floating, self.compressed, self.system],
                                [25, 15, 5, 30, 20, 5])[0]
        return b''.join(map(to_bytes, make()))

    def image(self):
        return Image(self).build()


def pack_table(first, table, is_table):
    """A page table for the first GiBs where they are, or whose first entry is another table."""
    if is_table:
        return struct.pack('<512Q', (BASE + table) >> 12 << 10 | 1, *([0] * 511))
    return struct.pack('<512Q', *((first + (i << 30)) >> 12 << 10 | 0xcf if i < 4 else 0 for i in range(512)))


class Image:
    """Lays out: code, trap handler, tables, data, log. It runs in M-mode, or in S-mode with Sv39 or Sv48."""

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

    def build(self):
        g, rng = self.generator, self.rng
        levels = rng.choice([0, 3, 4])
        supervisor = levels > 0
        status = 0x100 if supervisor else 0x300
        page_table = 0xf8000
        handler, tables, data, log = 0x100, 0x100000, 0x300000, 0x310000
        out = bytearray(0x310000)

        def put(at, code):
            out[at:at + len(code)] = code
            return at + len(code)

        # The handler: logs mcause, mtval and mepc, and skips the instruction.
        at = handler
        code = b''.join(map(to_bytes, [
            s_type(0, 5, LOG, 3, 0x23), s_type(8, 6, LOG, 3, 0x23),
            csr(0x342, 0, 2, 5), s_type(16, 5, LOG, 3, 0x23),
            csr(0x343, 0, 2, 5), s_type(24, 5, LOG, 3, 0x23),
            csr(0x341, 0, 2, 5), s_type(32, 5, LOG, 3, 0x23),
            i_type(0, 5, 5, 6, 0x03),                              # lhu x6, (x5)
            i_type(3, 6, 7, 6, 0x13), i_type(-3, 6, 0, 6, 0x13),   # andi 3; addi -3
            i_type(1, 6, 3, 6, 0x13),                              # sltiu x6, x6, 1: it is of 4 bytes
            i_type(1, 6, 1, 6, 0x13), i_type(2, 6, 0, 6, 0x13),    # 2 or 4
            r_type(0, 6, 5, 0, 5, 0x33), csr(0x341, 5, 1, 0),
            # mret to where it came from.
            i_type(0, LOG, 3, 5, 0x03), i_type(8, LOG, 3, 6, 0x03),
            i_type(40, LOG, 0, LOG, 0x13),
            0x30200073]))
        assert put(at, code) <= 0x200

        start = pc_relative(5, handler) + to_bytes(csr(0x305, 5, 1, 0))
        start += to_bytes(0x00006000 | 5 << 7 | 0x37) + to_bytes(csr(0x300, 5, 2, 0))
        start += pc_relative(LOG, log - len(start))
        if supervisor:
            # PMP lets everything pass; Sv39 or Sv48 with one large page for each GiB; MRET to S-mode.
            put(page_table, pack_table(0, page_table + 0x1000, levels == 4))
            put(page_table + 0x1000, pack_table(0, 0, False))
            root = page_table if levels == 4 else page_table + 0x1000
            start += b''.join(map(to_bytes, [
                i_type(-1, 0, 0, 5, 0x13), csr(0x3b0, 5, 1, 0), i_type(0x1f, 0, 0, 5, 0x13), csr(0x3a0, 5, 1, 0),
                # satp: the mode, and the root's page number
                i_type(5 + levels, 0, 0, 5, 0x13), i_type(60, 5, 1, 5, 0x13)]))
            start += pc_relative(6, root - len(start))
            start += b''.join(map(to_bytes, [
                i_type(12, 6, 5, 6, 0x13), r_type(0, 6, 5, 6, 5, 0x33), csr(0x180, 5, 1, 0),
                0x00001000 | 6 << 7 | 0x37, i_type(-0x800, 6, 0, 6, 0x13), csr(0x300, 6, 2, 0)]))
            start += pc_relative(5, 0x1000 - len(start))
            start += to_bytes(csr(0x341, 5, 1, 0)) + to_bytes(0x30200073)
        assert put(0, start) < handler
        at = len(start)
        put(at, to_bytes(j_type(0x1000 - at, 0)))
        at = 0x1000
        table = tables
        for _ in range(g.chunks):
            values = [random_float(rng) for _ in range(32)] + [random_integer(rng) for _ in range(32)] + \
                [rng.randrange(5) << 5 | rng.getrandbits(5)]
            put(table, struct.pack('<65Q', *values))
            # FP on; f0 to f31, fcsr, x1 to x28, the pointers.
            at = put(at, pc_relative(DATA, table - at))
            code = [0x00006000 | 5 << 7 | 0x37, csr(status, 5, 2, 0)]
            code += [i_type(8 * i, DATA, 3, i, 0x07) for i in range(32)]
            code += [i_type(8 * 64, DATA, 3, 5, 0x03), csr(3, 5, 1, 0)]
            code += [i_type(8 * (32 + i), DATA, 3, i, 0x03) for i in range(1, 30)]
            at = put(at, b''.join(map(to_bytes, code)))
            at = put(at, pc_relative(SP, data + 0x2800 + rng.randrange(64) * 8 - at))
            at = put(at, pc_relative(DATA2, data + 0x3000 + rng.randrange(-9, 9) - at))
            at = put(at, pc_relative(DATA, data + 0x4000 - at))
            at = put(at, self.jumps([g.one() for _ in range(g.length)]))
            # The record.
            code = [s_type(8 * i, i, LOG, 3, 0x23) for i in range(32)]
            code += [csr(status, 0, 2, 5), s_type(8 * 32, 5, LOG, 3, 0x23),
                     0x00006000 | 5 << 7 | 0x37, csr(status, 5, 2, 0),
                     csr(3, 0, 2, 5), s_type(8 * 33, 5, LOG, 3, 0x23), i_type(34 * 8, LOG, 0, LOG, 0x13)]
            code += [s_type(8 * i, i, LOG, 3, 0x27) for i in range(32)]
            code += [i_type(32 * 8, LOG, 0, LOG, 0x13)]
            at = put(at, b''.join(map(to_bytes, code)))
            table += 65 * 8
        # The end: the data and the log, as bytes.
        assert at < 0xf0000 and table < data
        at = put(at, pc_relative(5, data - at))
        loop = [UART & 0xfffff000 | 6 << 7 | 0x37, i_type(0, 5, 4, 7, 0x03), s_type(0, 7, 6, 0, 0x23),
                i_type(1, 5, 0, 5, 0x13), b_type(-12, LOG, 5, 1)]
        end = [FINISHER & 0xfffff000 | 6 << 7 | 0x37, 0x00005000 | 7 << 7 | 0x37, i_type(0x555, 7, 0, 7, 0x13),
               s_type(0, 7, 6, 2, 0x23), j_type(0, 0)]
        at = put(at, b''.join(map(to_bytes, loop + end)))
        put(data, bytes(rng.getrandbits(8) for _ in range(0x6000)))
        return bytes(out)
