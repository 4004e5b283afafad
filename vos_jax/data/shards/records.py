"""The records of prepared data sets: tf.train.Example messages, without TensorFlow.

An Example maps names to lists of bytes, integers or floats (tensorflow/core/example/example.proto).
Only lists of bytes and integers are written; lists of floats are not needed and refused.
"""

_BYTES, _INTS = 1, 3  # numbers of the fields in the message Feature


def encode_example(features):
    """Encodes a record. Equal features give equal bytes: names are written in sorted order.

    Args:
      features: dict of name -> list of bytes, or list of int from 0 on.

    Returns:
      bytes.
    """
    entries = []
    for name in sorted(features):
        values = features[name]
        if all(isinstance(value, int) for value in values):
            packed = b''.join(map(_varint, values))
            feature = _field(_INTS, _field(1, packed) if values else b'')
        else:
            feature = _field(_BYTES, b''.join(_field(1, value) for value in values))
        entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return _field(1, b''.join(entries))


def decode_example(data):
    """Decodes a record.

    Args:
      data: bytes.

    Returns:
      dict of name -> list of memoryview (parts of `data`, no copies) or of int.

    Raises:
      ValueError: where the bytes are no such record.
    """
    features = {}
    try:
        for _, part in _fields(memoryview(data)):
            for _, entry in _fields(part):
                (_, name), (_, feature) = sorted(_fields(entry), key=lambda field: field[0])
                features[str(name, 'utf-8')] = _values(feature)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f'not a tf.train.Example ({error})') from None
    return features


def _values(feature):
    for kind, part in _fields(feature):
        if kind == _BYTES:
            return [value for _, value in _fields(part)]
        if kind == _INTS:
            return [number for _, packed in _fields(part) for number in _unpack(packed)]
        raise ValueError(f'field {kind} of a feature')
    return []


def _unpack(packed):
    position = 0
    while position < len(packed):
        number, position = _read_varint(packed, position)
        yield number


def _fields(message):
    """(number, content) of the fields of a message; all that occur here have a length."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        if key & 7 != 2:
            raise ValueError(f'wire type {key & 7}')
        length, position = _read_varint(message, position)
        if position + length > len(message):
            raise ValueError('cut short')
        yield key >> 3, message[position : position + length]
        position += length


def _read_varint(message, position):
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number):
    if number < 0:
        raise ValueError(f'{number}: numbers of a record start at 0')
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)
