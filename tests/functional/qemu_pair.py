"""Command lines run by qemu-img and by ashlar-img, each in a folder of its own with the same images, and compared."""
import json
import re
import shlex
import shutil
import subprocess

from ashlar_test import check, equal, program, skip

PROGRAMS = ('qemu-img', 'ashlar-img')


class Pair:
    """Two folders with the same images, one for each program."""

    def __init__(self, test):
        self.test = test
        if not shutil.which('qemu-img'):
            skip('qemu-img is not installed')
        self.folders = {name: test.path(name) for name in PROGRAMS}
        for folder in self.folders.values():
            folder.mkdir()

    def file(self, name, content, size=None):
        for folder in self.folders.values():
            with open(folder / name, 'wb') as f:
                for offset, data in content:
                    f.seek(offset)
                    f.write(data)
                if size is not None:
                    f.truncate(size)


    def run(self, name, arguments):
        return subprocess.run([program(name), *arguments], cwd=self.folders[name], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, env=self.test.environment())

    def both(self, line):
        return [self.run(name, line) for name in PROGRAMS]


def neutral(text):
    """Without what is not the same by nature: the program's name, names of nodes, and our suggestions, and which
    object is meant."""
    text = re.sub(r'(?m)^(\S*: )--object [^ :]*: ', r'\1', text)
    text = re.sub(r' \(did you mean [^)]*\)|\nIt accepts .*|\nSpecify it with .*', '', text.rstrip('\n'))
    return re.sub(r'#block\d+', '#blockN', re.sub('ashlar-img|qemu-img', 'PROGRAM', text))


def compare_runs(pair, arguments, json_output=False, ignore=()):
    """`ignore`: members of the JSON, or lines that begin like that, in which the formats' layouts show."""
    theirs, ours = pair.both(arguments)
    line = ' '.join(arguments)
    equal(ours.returncode, theirs.returncode, f'{line}: the exit status ({ours.stderr})')
    equal(neutral(ours.stderr), neutral(theirs.stderr), f'{line}: standard error')
    if json_output:
        def load(text):
            value = json.loads(text)
            for key in ignore:
                for one in value if isinstance(value, list) else [value]:
                    one.pop(key, None)
            return value
        equal(load(ours.stdout), load(theirs.stdout), f'{line}: the JSON')
    else:
        def kept(text):
            return [one for one in text.splitlines() if not one.startswith(tuple(ignore))]
        equal(kept(ours.stdout), kept(theirs.stdout), f'{line}: standard output')


def same_contents(pair, *names):
    for name in names:
        contents = [(folder / name).read_bytes() if (folder / name).exists() else None
                    for folder in pair.folders.values()]
        check(contents[0] == contents[1], f'{name}: not the same')


def words(lines):
    return [shlex.split(line) for line in lines.strip().splitlines()]
