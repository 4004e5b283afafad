"""Whether a video file is whole, by what its container says of its own length."""

import os
import struct

_EBML, _SEGMENT = b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'
_ASF = bytes.fromhex('3026b2758e66cf11a6d900aa0062ce6c')
_ASF_PROPERTIES = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
_PACK = b'\0\0\1\xba'
_TS_PACKETS = (188, 0), (192, 4), (204, 0)  # length, and where the packet of 188 bytes starts
_HEAD = 1 << 16
_TAIL = 4 << 20
_STREAMED = (0, 2**32 - 1)  # lengths of a RIFF that was never gone back to


def is_whole(path):
    """Says whether a file has the length that its container states; None where it states none.

    Durations cannot tell: the last picture may be held for long, and a cut file's be estimated. Of
    AVI, FLV, Matroska, WebM, WebP, WMV, GIF, MPEG-TS and PS it is known.
    """
    with open(path, 'rb') as file:
        head, size = file.read(_HEAD), os.fstat(file.fileno()).st_size
        if head[:4] == b'RIFF':
            return _is_riff_whole(file, size)
        if head[:3] == b'FLV':
            return _is_flv_whole(file, size)
        if head[:3] == b'GIF':
            return _ends_with(file, size, b';')
        if head[:4] == _PACK:
            return _is_program_whole(file, size)
        for length, start in _TS_PACKETS:
            if head[start : start + 5 * length : length] == b'G' * 5:
                return size % length == 0 and _is_transport_whole(file, size, length, start)
    if head[:4] == _EBML:
        return _is_matroska_whole(head, size)
    if head[:16] == _ASF:
        return _is_asf_whole(head, size)
    return None


def _is_riff_whole(file, size):
    """Chunks of up to 1 GB each, in a row; whatever follows them belongs to nobody."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        name, length = struct.unpack('<4sI', file.read(8))
        if name != b'RIFF':
            break
        if length in _STREAMED:
            return None
        start += 8 + length
    return start <= size + 1  # an odd chunk ends with a byte that some leave out


def _is_flv_whole(file, size):
    """Each tag is followed by its length: so must be the last one."""
    if size < 28:
        return False
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), 'big')
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    tag = file.read(4)
    return tag[0] & 31 in (8, 9, 18) and int.from_bytes(tag[1:], 'big') == length - 11


def _is_transport_whole(file, size, length, start):
    """Whether the last picture is: its last packet is filled up, since the next would start anew.

    One of 184 whole files ends in a picture that happens to fill its packet, which no one can tell.
    """
    file.seek(max(size - _TAIL // length * length, 0))
    tail = file.read()
    last = {}
    for at in range(start, len(tail), length):
        number = int.from_bytes(tail[at + 1 : at + 3], 'big') & 0x1FFF
        extra = tail[at + 4 : at + 5 + tail[at + 4]] if tail[at + 3] & 0x20 else b''
        payload = tail[at + 4 + len(extra) : at + 8 + len(extra)]
        is_start = tail[at + 1] & 0x40 and payload[:3] == b'\0\0\1' and payload[3] & 0xF0 == 0xE0
        if is_start or number in last:
            last[number] = extra
    return all(map(_is_filled_up, last.values()))


def _is_filled_up(extra):
    """Whether the field before the content of a packet has more than its flags ask for."""
    if len(extra) < 2:
        return bool(extra)
    flags = extra[1]
    used = 2 + 6 * bool(flags & 0x10) + 6 * bool(flags & 8) + bool(flags & 4)
    return bool(flags & 3) or len(extra) > used


def _is_program_whole(file, size):
    """Packets from the last pack on, each with its length; False where one leads beyond the end."""
    file.seek(max(size - _TAIL, 0))
    tail = file.read()
    at = tail.rfind(_PACK)
    while 0 <= at < len(tail) - 6:
        if tail[at : at + 3] != b'\0\0\1' or tail[at + 3] == 0xB9:
            return None
        if tail[at + 3] == 0xBA:
            at += 14 + (tail[at + 13] & 7) if len(tail) > at + 13 and tail[at + 4] >> 6 == 1 else 12
        else:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6], 'big')
    return None if at == len(tail) else False


def _ends_with(file, size, mark):
    file.seek(max(size - 64, 0))
    return file.read().rstrip(b'\0\r\n').endswith(mark)


def _is_matroska_whole(head, size):
    at = head.find(_SEGMENT)
    if at < 0 or at + 12 > len(head):
        return None
    length, num_bytes = _read_length(head, at + 4)
    return None if length is None else at + 4 + num_bytes + length <= size


def _read_length(data, at):
    """(value, bytes it takes) of a length of EBML; None for one that is not known."""
    num_bytes = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + num_bytes], 'big') & ((1 << 7 * num_bytes) - 1)
    return (None if value == (1 << 7 * num_bytes) - 1 else value), num_bytes


def _is_asf_whole(head, size):
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or at + 48 > len(head):
        return None
    stated = int.from_bytes(head[at + 40 : at + 48], 'little')
    return stated <= size if stated else None
