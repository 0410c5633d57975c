#!/usr/bin/python3
"""The manual pages say what the programs say: every option, every command and every event, and nothing else."""
import re
from pathlib import Path

from ashlar_test import check, contains, equal, main

MAN = Path(__file__).resolve().parent.parent.parent / 'docs' / 'man'


def rendered(t, page):
    """The page as text, which man must have nothing to say about."""
    done = t.run('man', '-l', '--warnings', '-E', 'UTF-8', '-P', 'cat', MAN / page,
                 env={'LC_ALL': 'C.UTF-8', 'MANWIDTH': '120', 'MAN_KEEP_FORMATTING': '', 'GROFF_NO_SGR': '1'})
    equal(done.stderr, '', f'what man says about {page}')
    return re.sub('.\b', '', done.stdout)


def entries_of(t, page):
    """The options that the page has an entry for: what begins with them after an empty line or a heading."""
    options, previous = set(), ''
    for line in rendered(t, page).splitlines():
        if not previous.startswith('     ') and line.startswith('     -'):
            options |= set(re.findall(r'(?:^ {5}|, )(--?[A-Za-z][-A-Za-z]*)', line))
        previous = line
    return options


def test_the_manual_pages_are_well_formed(t):
    for page in sorted(path.name for path in MAN.glob('*.[1-8]')):
        contains(rendered(t, page), 'DESCRIPTION')


def test_every_option_of_ashlar_nbd_has_its_entry_and_the_reverse(t):
    options = set()
    for line in t.run('ashlar-nbd', '--help').stdout.splitlines():
        if match := re.match(r' {2,6}(-[A-Za-z], |)(--[-a-z]+)', line):
            options |= {match[2]} | ({match[1][:2]} if match[1] else set())
    check(len(options) > 30, f'the help has options: {options}')
    entries = entries_of(t, 'ashlar-nbd.1')
    equal(sorted(options - entries), [], 'the options that the manual page lacks')
    equal(sorted(entries - options), [], 'the options that only the manual page has')


def test_every_option_of_ashlar_img_has_its_entry_and_the_reverse(t):
    commands = re.findall(r'^  ([a-z]+) [(\[-]', t.run('ashlar-img', '--help').stdout, re.M)
    check(len(commands) > 12, f'the help has commands: {commands}')
    text = rendered(t, 'ashlar-img.1')
    options = {'-h', '--help', '-V', '--version', '-T', '--trace'}
    for command in commands:
        contains(text, f'\n   {command} ')
        for line in t.run('ashlar-img', command, '--help').stdout.splitlines():
            if match := re.match(r' {2,6}(-[A-Za-z])?(?:, )?(--[-a-z]+)?', line):
                options |= {o for o in match.groups() if o}
    entries = entries_of(t, 'ashlar-img.1')
    equal(sorted(options - entries), [], 'the options that the manual page lacks')
    equal(sorted(entries - options), [], 'the options that only the manual page has')


def test_every_option_of_ashlar_has_its_entry_and_the_reverse(t):
    options = set()
    for line in t.run('ashlar', '-help').stdout.splitlines():
        if match := re.match(r'(-[A-Za-z]\b)?(?:, )?(-[a-z][-a-z]+)?', line):
            options |= {o for o in match.groups() if o}
    check(len(options) > 15, f'the help has options: {options}')
    entries = entries_of(t, 'ashlar.1')
    equal(sorted(options - entries), [], 'the options that the manual page lacks')
    equal(sorted(entries - options), [], 'the options that only the manual page has')


def test_every_option_and_command_of_ashlar_io_has_its_entry_and_the_reverse(t):
    options = set()
    for line in t.run('ashlar-io', '--help').stdout.splitlines():
        if match := re.match(r' {2,6}(-[A-Za-z], |)(--[-a-z]+)', line):
            options |= {match[2]} | ({match[1][:2]} if match[1] else set())
    check(len(options) > 25, f'the help has options: {options}')
    equal(sorted(entries_of(t, 'ashlar-io.1')), sorted(options), 'the options that the manual page has')
    text = (MAN / 'ashlar-io.1').read_text()
    commands = re.findall(r'^(\w+) .*-- ', t.run('ashlar-io', '-c', 'help').stdout, flags=re.M)
    entries = re.findall(r'^\.It Cm (\w+)', text, flags=re.M)
    equal(sorted(entries), sorted(commands), 'the commands that the manual page has')


def test_every_command_and_event_is_in_ashlar_qmp(t):
    machine = t.machine()
    schema = machine.qmp.command('query-qmp-schema')
    declared = {e['name'] for e in schema if e['meta-type'] in ('command', 'event')}
    text = (MAN / 'ashlar-qmp.7').read_text()
    entries = set()
    for line in text.splitlines():
        if line.startswith('.It Cm '):
            entries |= set(line.removeprefix('.It Cm ').split(' , '))
    equal(sorted(declared - entries), [], 'what the manual page lacks')
    equal(sorted(entries - declared), [], 'what only the manual page has')
    machine.quit()


if __name__ == '__main__':
    main()
