"""Damage to files: of their bytes, and of their parts with the checksums set right again."""

import copy
import io
import json
import struct
import tarfile
import zipfile
import zlib

from hypothesis import strategies as st

# Numbers at which readers break: signs, limits of types, sizes no memory has.
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
VALUES = (
    *(None, True, False, 0, -1, 1, 255, 256, 10**20, -(10**20), 0.5, 1e308, float('nan')),
    *('', 'x', '..', '/etc', 'a/b', 'a\0b', '\ud800', 'x' * 300, '9' * 5000, '²'),
    *([], {}, [[]], [None], {'': None}, {'x': {}}, [0] * 20),
)
_EDITS = ('flip', 'set', 'number', 'cut', 'drop', 'repeat', 'insert')


@st.composite
def damaged(draw, data):
    """Bytes with one to four edits."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if data:
            _edit(draw, data)
    return bytes(data)


def _edit(draw, data):
    kind = draw(st.sampled_from(_EDITS))
    at = draw(st.integers(0, len(data) - 1))
    size = draw(st.sampled_from((1, 2, 4, 8, 64, 512)))
    if kind == 'flip':
        data[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == 'set':
        data[at] = draw(st.sampled_from((0, 1, 0x2F, 0x30, 0x7F, 0x80, 0xFF)))
    elif kind == 'number':
        width, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(('little', 'big')))
        value = draw(st.sampled_from(NUMBERS)) % 256**width
        data[at : at + width] = value.to_bytes(width, order)
    elif kind == 'cut':
        del data[at:]
    elif kind == 'drop':
        del data[at : at + size]
    elif kind == 'repeat':
        data[at:at] = data[at : at + size]
    else:
        data[at:at] = draw(st.binary(min_size=1, max_size=16))


@st.composite
def damaged_png(draw, data):
    """A PNG with a damaged or foreign chunk whose checksum is right."""
    start, chunks = data[:8], []
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], 'big')
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = draw(st.integers(0, len(chunks) - 1))
    kind, content = chunks[number]
    what = draw(st.sampled_from(('content', 'inflated', 'kind', 'drop', 'twice', 'bomb')))
    if what == 'inflated' and kind == b'IDAT':
        content = zlib.compress(draw(damaged(zlib.decompress(content))))
    elif what == 'kind':
        kind = draw(
            st.sampled_from((b'IHDR', b'PLTE', b'tRNS', b'zTXt', b'iCCP', b'acTL', b'eXIf'))
        )
    elif what == 'content' and content:
        content = draw(damaged(content))
    chunks[number] = kind, content
    if what == 'drop':
        del chunks[number]
    elif what == 'twice':
        chunks.insert(number, chunks[number])
    elif what == 'bomb':
        text = draw(st.sampled_from((b'a\0\0', b'a\0\0\0\0\0\0'))) + zlib.compress(bytes(2**24))
        chunks.insert(1, (draw(st.sampled_from((b'zTXt', b'iCCP', b'iTXt'))), text))
    return start + b''.join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind, content):
    body = kind + content
    return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))


@st.composite
def damaged_zip(draw, data):
    """A whole zip archive in which members are damaged, renamed, left out or packed otherwise."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = draw(st.integers(0, len(members) - 1))
    name, content = members[number]
    what = draw(st.sampled_from(('content', 'content', 'name', 'drop', 'method')))
    if what == 'content' and content:
        content = draw(damaged(content))
    elif what == 'name':
        name = draw(st.sampled_from(('x', '../x', '/x', 'x.npy', 'a/b.npy', 'x' * 300, name)))
    members[number] = name, content
    if what == 'drop':
        del members[number]
    method = zipfile.ZIP_STORED
    if what == 'method':
        method = draw(st.sampled_from((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', method) as archive:
        for member in members:
            archive.writestr(*member)
    return buffer.getvalue()


@st.composite
def damaged_tar(draw, data):
    """A tar with a damaged header whose checksum is right."""
    data = bytearray(data)
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as archive:
        starts = [info.offset for info in archive.getmembers()]
    start = draw(st.sampled_from(starts))
    header = bytearray(draw(damaged(data[start : start + 512]))[:512].ljust(512, b'\0'))
    if draw(st.booleans()):
        header[156] = draw(st.sampled_from(b'0123456789xgKLS'))
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    data[start : start + 512] = header
    return bytes(data)


@st.composite
def damaged_values(draw, values):
    """Plain values in which one to three are replaced, left out or nested deeply."""
    values = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(values))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        what = draw(st.sampled_from(('value', 'value', 'value', 'drop', 'deep')))
        if what == 'drop':
            del holder[key]
        elif what == 'value':
            holder[key] = copy.deepcopy(VALUES[draw(st.integers(0, len(VALUES) - 1))])
        else:
            holder[key] = _nested(draw(st.sampled_from((10, 500, 900))))
    return values


def _places(values):
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in list(pairs):
        yield values, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _nested(depth):
    value = None
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def damaged_files(draw, files):
    """Files, {name: bytes}, of which one is damaged, lost, empty or in the place of another."""
    names, files = sorted(files), dict(files)
    name = draw(st.sampled_from(names))
    what = draw(st.sampled_from(('bytes', 'bytes', 'bytes', 'drop', 'empty', 'swap')))
    if what == 'bytes':
        files[name] = draw(damaged(files[name]))
    elif what == 'drop':
        del files[name]
    elif what == 'empty':
        files[name] = b''
    else:
        other = draw(st.sampled_from(names))
        files[name], files[other] = files[other], files[name]
    return files
