# SPDX-License-Identifier: GPL-2.0
"""A bar chart of ratios, as SVG, for light and for dark pages."""
from xml.sax.saxutils import escape

ROW, HEAD, TOP, GAP = 17, 26, 50, 24
# Of a column: the names, what the base takes, nothing, the bars, a number for each ratio
NAME, BASE, PAD, BARS, NUMBER = 190, 62, 16, 120, 48
FIRST, LAST, ONE = 0.5, 1.25, 1.0
TICKS = (0.5, 0.75, 1.0, 1.25)

STYLE = '''
text { font: 11px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 } .right { text-anchor: end } .middle { text-anchor: middle }
.weak { fill: #656d76 }
line { stroke: #afb8c1 } .one { stroke: #1f2328 }
.less { fill: #1a7f37 } .more { fill: #bc4c00 } .other { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .weak { fill: #8d96a0 }
  line { stroke: #484f58 } .one { stroke: #e6edf3 }
  .less { fill: #3fb950 } .more { fill: #db6d28 } .other { fill: #6e7681 }
}'''


def text(x, y, what, kind=''):
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(what)}</text>'


def at(ratio):
    """Where a ratio is, from the start of the bars; what is too far off is at the edge."""
    return (min(max(ratio, FIRST), LAST) - FIRST) / (LAST - FIRST) * BARS


def bar(x, y, height, ratio, kind):
    start, end = sorted((at(ONE), at(ratio)))
    return (f'<rect x="{x + start - 0.5:.1f}" y="{y:g}" width="{max(end - start, 1):.1f}" '
            f'height="{height}" class="{kind}"/>')


def panel(x, y, title, rows, kernels):
    """A heading, and a line for each row: (name, what the base takes, [ratio of each kernel])"""
    out = [text(x, y + 16, title, 'head')]
    bars = x + NAME + BASE + PAD
    bottom = y + HEAD + ROW * len(rows)
    for tick in TICKS:
        kind = ' class="one"' if tick == ONE else ''
        out.append(f'<line x1="{bars + at(tick):g}" x2="{bars + at(tick):g}" y1="{y + HEAD - 3}" '
                   f'y2="{bottom}"{kind}/>')
    for nr, (name, base, ratios) in enumerate(rows):
        line = y + HEAD + ROW * nr
        out += [text(x + 8, line + 11, name), text(x + NAME + BASE, line + 11, base, 'weak right')]
        for i, ratio in enumerate(ratios):
            if ratio is None:
                continue
            more = round(ratio, 3) > ONE
            kind = 'other' if i else 'more' if more else 'less'
            height = (ROW - 5) // (1 if len(kernels) == 1 else 2)
            out.append(bar(bars, line + 2 + i * (height + 1), height, ratio, kind))
            out.append(text(bars + BARS + NUMBER * (i + 1), line + 11, f'{ratio:.3f}',
                            'weak right' if i else 'right'))
    return out, bottom


def picture(title, groups, kernels):
    """groups: [(heading, rows)], in two columns; kernels: names of those with a ratio"""
    width = NAME + BASE + PAD + BARS + NUMBER * len(kernels)
    half = sum(HEAD + ROW * len(rows) for _, rows in groups) / 2
    out, x, y, lowest, used = [], GAP, TOP, 0, 0
    heads = []
    for heading, rows in groups:
        size = HEAD + ROW * len(rows)
        if x == GAP and used and used + size / 2 > half:
            x, y = 2 * GAP + width, TOP
        if y == TOP:
            bars = x + NAME + BASE + PAD
            heads += [text(bars + at(tick), TOP - 4, f'{tick:g}', 'weak middle') for tick in TICKS]
            heads.append(text(x + NAME + BASE, TOP - 4, 'base', 'weak right'))
            heads += [text(bars + BARS + NUMBER * (i + 1), TOP - 4, kernel, 'weak right')
                      for i, kernel in enumerate(kernels)]
        drawn, y = panel(x, y, heading, rows, kernels)
        out += drawn
        used += size
        y += 6
        lowest = max(lowest, y)
    total = 3 * GAP + 2 * width
    return '\n'.join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{lowest + 10}" '
                      f'viewBox="0 0 {total} {lowest + 10}" role="img">',
                      f'<title>{escape(title)}</title>', f'<style>{STYLE}</style>',
                      text(GAP, 20, title, 'head'), *heads, *out, '</svg>']) + '\n'
