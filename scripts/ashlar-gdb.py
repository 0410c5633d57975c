"""Ashlar's coroutines in gdb.

    (gdb) source scripts/ashlar-gdb.py
    (gdb) ashlar coroutines         every live coroutine: frame, function, where it is suspended
    (gdb) ashlar bt                 the backtrace of every suspended chain: what it waits in, and who awaits that
    (gdb) ashlar bt FRAME           the chain that this coroutine is part of

Works on a process and on a core file. docs/devel/debugging.md explains the output.

The frames are found in the slabs of util/frame_pool.cc: the first word of a live frame is the address of the resume
function that the compiler made of the coroutine; the promise, which starts with PromiseBase (util/task.h), lies behind
that word and the one of the destroy function. Where the compiler sees that a coroutine ends before the one that awaits
it, it may put the frame of the former into that of the latter.
"""
import re

import gdb

SLAB_HEADER = 64          # util/frame_pool.cc: sizeof(Slab)
PROMISE = 16              # offset in a frame, for promises that are aligned to at most 16
CONTINUATION = PROMISE    # PromiseBase::continuation
WHERE = PROMISE + 8       # PromiseBase::where, a pointer to file, function, line and column
WORD = 8


def read_words(address, count):
    memory = gdb.selected_inferior().read_memory(address, count * WORD)
    return memoryview(bytes(memory)).cast('Q')


def read_word(address):
    return read_words(address, 1)[0]


def read_string(address):
    return gdb.Value(address).cast(gdb.lookup_type('char').pointer()).string('utf-8', 'replace') if address else ''


def resume_function(address, cache={}):
    """The demangled name of the coroutine whose resume function starts at `address`; None if there is none."""
    if address not in cache:
        symbol = gdb.execute(f'info symbol {address:#x}', to_string=True) if address >= 4096 else ''
        match = re.match(r'(.*?)(?: \[clone)? ?\.resume\]?(?: in section .*)?$', symbol.strip())
        cache[address] = match.group(1) if match else None
    return cache[address]


class Coroutine:
    def __init__(self, frame, function):
        self.frame = frame
        self.function = function
        self.continuation = read_word(frame + CONTINUATION)
        self.where = self.suspended_in()

    def suspended_in(self):
        """file:line of the co_await; empty before the first one."""
        location = read_word(self.frame + WHERE)
        if not location:
            return ''
        try:
            file, _, line_and_column = read_words(location, 3)
            path = re.sub(r'^(\.\./)+', '', read_string(file))
            return f'{path}:{line_and_column & 0xffffffff}'
        except (gdb.MemoryError, UnicodeDecodeError):
            return ''

    def __str__(self):
        return f'{self.frame:#x} {self.function} at {self.where or "its start"}'


def live_coroutines():
    """Coroutine by address of its frame."""
    try:
        slab = int(gdb.parse_and_eval("*(unsigned long *)&'ashlar::(anonymous namespace)::frame_slabs'"))
    except gdb.error:
        raise gdb.GdbError('ashlar: no frame_slabs here: not a program of Ashlar, no symbols, or a sanitizer build '
                           '(whose frames come from malloc)')
    resume_function.__defaults__[0].clear()
    found = {}
    while slab:
        following, _, size, count = read_words(slab, 4)
        words = read_words(slab + SLAB_HEADER, size * count // WORD)
        per_frame = size // WORD
        for first in range(0, count * per_frame, per_frame):
            if function := resume_function(words[first]):
                frame = slab + SLAB_HEADER + first * WORD
                found[frame] = Coroutine(frame, function)
                found.update(embedded(frame, words[first:first + per_frame], found))
        slab = following
    return found


def embedded(outer, words, found):
    """The coroutines whose frames the compiler has put into the frame `outer` of the one that awaits them."""
    inside = {outer: found[outer]}
    for i in range(2, len(words) - 3):
        function = resume_function(words[i])
        if function:
            inside[outer + i * WORD] = Coroutine(outer + i * WORD, function)
    # What is left over from an earlier use of the memory is awaited by nobody in it.
    return {frame: c for frame, c in inside.items() if frame == outer or c.continuation in inside}


def chains(coroutines):
    """Lists of coroutines from the one that waits to the root, which nobody awaits."""
    awaited_by_someone = {c.continuation for c in coroutines.values()}
    for leaf in sorted(coroutines.values(), key=lambda c: c.frame):
        if leaf.frame in awaited_by_someone:
            continue
        chain, coroutine = [], leaf
        while coroutine and coroutine not in chain:
            chain.append(coroutine)
            coroutine = coroutines.get(coroutine.continuation)
        yield chain


class Ashlar(gdb.Command):
    """Commands about Ashlar's coroutines: `ashlar coroutines`, `ashlar bt [FRAME]`."""

    def __init__(self):
        super().__init__('ashlar', gdb.COMMAND_STACK, prefix=True)


class AshlarCoroutines(gdb.Command):
    """ashlar coroutines: every live coroutine: its frame, its function, and the co_await that it is suspended in."""

    def __init__(self):
        super().__init__('ashlar coroutines', gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for coroutine in sorted(live_coroutines().values(), key=lambda c: c.frame):
            print(coroutine)


class AshlarBacktrace(gdb.Command):
    """ashlar bt [FRAME]: the backtrace of every chain of coroutines, or of the one that FRAME is part of."""

    def __init__(self):
        super().__init__('ashlar bt', gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        wanted = int(gdb.parse_and_eval(argument)) if argument else None
        coroutines = live_coroutines()
        if wanted is not None and wanted not in coroutines:
            raise gdb.GdbError(f'ashlar: {argument}: not the frame of a live coroutine (see "ashlar coroutines")')
        number = 0
        for chain in chains(coroutines):
            if wanted is not None and all(c.frame != wanted for c in chain):
                continue
            number += 1
            print(f'Coroutine {number}:')
            for level, coroutine in enumerate(chain):
                print(f'#{level:<3} {coroutine}')


Ashlar()
AshlarCoroutines()
AshlarBacktrace()
