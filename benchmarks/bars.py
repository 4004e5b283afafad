"""Bars of times and memory, as an SVG file that any browser shows."""

from xml.sax import saxutils

from vos_jax.storage.atomic import write_bytes

QUANTITIES = {'ms': 'time, ms', 'peak_mb': 'largest memory, MB', 'first_s': 'first call, s'}
COLOURS = ('#2a6fbb', '#c65b29', '#8a8a8a')
ROW, LABEL, WIDTH = 18, 190, 420  # pixels


def write(path, title, rows):
    """Writes the plot: a group of bars for each part and quantity, a bar for each code.

    Args:
      path: *.svg.
      title: one line.
      rows: list of dicts with `part`, `code` and the quantities.
    """
    shapes, top = [_text(4, 16, title, 12)], 40
    parts = dict.fromkeys(row['part'] for row in rows)
    for part in parts:
        group = [row for row in rows if row['part'] == part]
        for key, name in QUANTITIES.items():
            shapes.append(_text(4, top, f'{part}: {name}', 12))
            longest = max(row[key] for row in group) or 1.0
            for index, row in enumerate(group):
                y = top + 6 + index * ROW
                shapes.append(_text(16, y + 12, row['code'], 11))
                length = WIDTH * row[key] / longest
                colour = COLOURS[index % len(COLOURS)]
                shapes.append(
                    f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{ROW - 4}" '
                    f'fill="{colour}"/>'
                )
                shapes.append(_text(LABEL + length + 4, y + 12, f'{row[key]:,.1f}', 11))
            top += len(group) * ROW + 34
    size = f'width="{LABEL + WIDTH + 90}" height="{top}"'
    body = '\n'.join(shapes)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    write_bytes(path, f'{head}\n{body}\n</svg>\n'.encode())


def _text(x, y, text, size):
    escaped = saxutils.escape(text)
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}">{escaped}</text>'
