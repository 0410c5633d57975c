#!/usr/bin/env python3
"""scripts/ashlar-gdb.py shows the coroutines of a stopped program: gdb-coroutines.py GDB SCRIPT PROGRAM SOURCE"""
import re
import subprocess
import sys

gdb, script, program, source = sys.argv[1:]
line_of = {}
for number, line in enumerate(open(source), 1):
    if match := re.search(r'// (\w+)$', line):
        line_of[match.group(1)] = number

commands = ['set pagination off', 'set debuginfod enabled off', 'set confirm off', 'handle SIGTRAP stop nopass',
            f'source {script}', 'run', 'echo === coroutines\\n', 'ashlar coroutines', 'echo === bt\\n', 'ashlar bt',
            'echo === end\\n', 'ashlar bt 1', 'kill']
output = subprocess.run([gdb, '--batch', '-nx'] + [a for c in commands for a in ('-ex', c)] + [program],
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120).stdout
parts = dict(re.findall(r'^=== (\w+)\n(.*?)(?=^===|\Z)', output, re.M | re.S))
# Every backtrace as the list of its (function without parameters, line of the nest's source).
frame = re.compile(r'^#\d+ +0x[0-9a-f]+ ([\w:]+)(?:\(.*?\))?(?: .*)? at (\S+?):(\d+)$', re.M)
backtraces = [[(function, int(line) if file.endswith('coroutine_nest.cc') else None)
               for function, file, line in frame.findall(text)]
              for text in re.split(r'^Coroutine \d+:\n', parts.get('bt', ''), flags=re.M)[1:]]

failed = 0


def ok(number, what, condition):
    global failed
    print(f'{"ok" if condition else "not ok"} {number} {what}')
    failed += not condition


print('1..5')
chain = [('nest::innermost', line_of['leaf']), ('nest::middle', line_of['middle']), ('nest::middle', line_of['again']),
         ('nest::middle', line_of['again']), ('nest::outer', line_of['outer'])]
ok(1, '/gdb/a-chain-is-shown-from-what-it-waits-in-to-its-root',
   any(b[:5] == chain and len(b) == 6 and b[5][0].endswith('ScopeRoot::run') for b in backtraces))
ok(2, '/gdb/a-sleeping-coroutine-is-shown-with-what-it-called',
   any([f for f, _ in b[:2]] == ['ashlar::co_sleep', 'nest::sleeper'] and b[1][1] == line_of['sleeper']
       for b in backtraces))
ok(3, '/gdb/every-chain-is-shown-once', len(backtraces) == 3)
listed = parts.get('coroutines', '').splitlines()
ok(4, '/gdb/every-coroutine-is-listed-once',
   len(listed) == len(set(listed)) == sum(len(b) for b in backtraces) > 0)
ok(5, '/gdb/a-wrong-frame-is-refused', 'not the frame of a live coroutine' in parts.get('end', ''))
if failed:
    for text in output.splitlines():
        print(f'# {text}')
sys.exit(failed != 0)
