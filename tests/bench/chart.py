"""Draws the figures of nbd-bench as an SVG: one panel a case, one bar a server, the CPU time beside it."""
from html import escape

WIDTH = 980
MARGIN = 24
GAP = 28
COLUMN = (WIDTH - 2 * MARGIN - GAP) // 2
ROW = 21
BAR = 13
LABEL = 132             # width of the servers' names
FIGURES = 124           # width of the numbers on the right
PANEL_HEAD = 44

INK, FAINT, RULE, PAPER = '#1f2933', '#66727f', '#d9dee3', '#ffffff'
OURS_COLOUR, PEER_COLOUR, CEILING_COLOUR = '#0b7a75', '#a9b4c0', '#e8ebee'


def text(x, y, content, size=12, colour=INK, anchor='start', weight='normal'):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def panel(x, y, result, number, ours, ceiling):
    parts = [text(x, y + 14, result['title'], 13, weight='600')]
    better = 'lower is better' if result['lower_is_better'] else 'higher is better'
    parts.append(text(x, y + 31, f'{result["unit"]}, {better}; server CPU time for each request', 11, FAINT))
    right = x + COLUMN
    parts.append(text(right - 56, y + 31, result['unit'], 11, FAINT, 'end'))
    parts.append(text(right, y + 31, 'CPU µs', 11, FAINT, 'end'))
    left, room = x + LABEL, COLUMN - LABEL - FIGURES
    top = max(f['value'] for f in result['servers'].values())
    for i, (server, f) in enumerate(result['servers'].items()):
        row = y + PANEL_HEAD + i * ROW
        base = row + BAR - 2
        weight = '600' if server == ours else 'normal'
        parts.append(text(left - 8, base, server, 12, FAINT if server == ceiling else INK, 'end', weight))
        colour = OURS_COLOUR if server == ours else CEILING_COLOUR if server == ceiling else PEER_COLOUR
        edge = f' stroke="{FAINT}" stroke-width="0.8" stroke-dasharray="3 2"' if server == ceiling else ''
        parts.append(f'<rect x="{left}" y="{row}" width="{max(1, f["value"] / top * room):.1f}" height="{BAR}" rx="2" '
                     f'fill="{colour}"{edge}/>')
        low, high = (left + f[end] / top * room for end in ('low', 'high'))
        if high - low > 1:      # the range over the rounds
            parts.append(f'<path d="M{low:.1f} {row + BAR / 2}H{min(high, left + room + 6):.1f}" stroke="{INK}" '
                         f'stroke-opacity="0.45" stroke-width="1.2"/>')
        parts.append(text(right - 56, base, number(f['value'], result['unit']), 12, INK, 'end', weight))
        parts.append(text(right, base, number(f['server_us']), 12, FAINT, 'end', weight))
    parts.append(f'<path d="M{left} {y + PANEL_HEAD - 4}V{y + PANEL_HEAD + len(result["servers"]) * ROW - 4}" '
                 f'stroke="{RULE}"/>')
    return parts


def draw(report, number, ours, ceiling):
    results = [r for r in report['results'] if r['transport'] == 'unix'] or report['results']
    rows = max((len(r['servers']) for r in results), default=0)
    panel_height = PANEL_HEAD + rows * ROW + GAP
    head = 74
    height = head + (len(results) + 1) // 2 * panel_height + 26
    transport = 'a Unix socket' if results and results[0]['transport'] == 'unix' else 'TCP'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        text(MARGIN, 34, f'NBD servers, one raw file of {report["size"] >> 20} MiB in the page cache, over {transport}',
             17, weight='600'),
        text(MARGIN, 54, f'{report["machine"]}. Median of {report["rounds"]} interleaved rounds; the line in a bar is '
             f'their range.', 12, FAINT),
    ]
    for i, result in enumerate(results):
        parts += panel(MARGIN + i % 2 * (COLUMN + GAP), head + i // 2 * panel_height, result, number, ours, ceiling)
    parts.append(text(MARGIN, height - 14, f'{ceiling}: a bare loop over a map of the file, without event loop or block '
                      f'layer, for scale. Drawn by tests/bench/nbd-bench.', 11, FAINT))
    return '\n'.join(parts + ['</svg>\n'])
