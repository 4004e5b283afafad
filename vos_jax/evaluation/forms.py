"""Forms of masks that other programs write and that are read on request.

The usual form, one PNG of ids per frame, is read by `vos_jax.data.masks`. Nothing here guesses:
what is not exactly of the named form is refused.
"""

import functools
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vos_jax.data import listing, masks, pictures
from vos_jax.errors import InputError
from vos_jax.storage.names import as_number
from vos_jax.storage.npz_files import read_npy, read_npz
from vos_jax.storage.palette import PALETTE, VOID

_WHITE = 0xFFFFFF
_MOST_BYTES = 2**33  # of the labels of one sequence, which are packed by a few hundred


def read_colours(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a colour image whose colours are exactly those of a palette: u8[H, W] ids.

    Both palettes in use are tried as a whole (protocol notes: that of the official tools, and the
    one with 191 instead of 192 and greys from 22 on); no colour is rounded to another.
    """
    codes = _codes(_open_colours(path))
    check_size(path, codes.shape, size)
    used = np.unique(codes)
    if _WHITE in used and np.isin(used, (0, _WHITE)).all():
        raise InputError(f'{path}: white on black, no colours of ids; read it with --form=binary')
    for palette in (PALETTE, _second_palette()):
        colour_codes, ids = np.unique(_codes(palette), return_index=True)
        if np.isin(used, colour_codes).all():
            return ids[np.searchsorted(colour_codes, codes)].astype(np.uint8)
    strange = [f'#{code:06x}' for code in np.setdiff1d(used, _codes(PALETTE))]
    raise InputError(
        f'{path}: {len(strange)} colours are not in the palette ({", ".join(strange[:4])}); '
        'write object ids instead of colours'
    )


def read_objects(
    folder: Path, stem: str, size: tuple[int, int], overlap: str, absent: Collection[int]
) -> np.ndarray:
    """Merges `<folder>/<id>/<stem>.png`, one binary mask for each object: u8[H, W] ids.

    Args:
      overlap: 'error', or which id keeps a pixel that two of them claim: 'first' or 'last'.
      absent: ids of the objects that need no mask in this frame, since they are not there yet.
    """
    labels = np.zeros(size, np.uint8)
    for object_id, (own, files) in list_objects(folder).items():
        found = listing.find_stem(stem, files)
        if found is None and object_id in absent:
            continue
        if found is None:
            raise InputError(f'{own / stem}.png: this mask is missing; add it')
        mask = masks.read_object(files[found], size)
        claimed = mask & (labels > 0)
        if overlap == 'error' and claimed.any():
            raise InputError(
                f'{files[found]}: {np.count_nonzero(claimed)} pixels belong to an earlier object '
                'too; say who keeps them with --overlap=first or --overlap=last'
            )
        labels[mask & ~claimed if overlap == 'first' else mask] = object_id
    return labels


def read_array(path: Path, stem: str, stems: tuple[str, ...], size: tuple[int, int]) -> np.ndarray:
    """Reads one frame of a file [T, H, W] of ids.

    Args:
      path: `.npy` or `.npz`; an npz holds one array of masks and may hold `frames`, their names.
      stem: the frame wanted.
      stems: the names of the frames, where the file has none.
    """
    labels, names = _load_array(path)
    names = stems if names is None else names
    if len(names) != len(labels):
        raise InputError(
            f'{path}: {len(labels)} masks for {len(names)} frames; '
            'add their names as the array `frames` of an npz'
        )
    check_shift(path, stems, names)
    found = listing.find_stem(stem, dict.fromkeys(names))
    if found is None:
        raise InputError(f'{path}: no mask named {stem}; add it')
    check_size(path, labels.shape[1:], size)
    frame = labels[names.index(found)]
    if frame.min() < 0 or frame.max() > VOID:
        raise InputError(f'{path}: ids must be in 0..255, frame {stem} has others; correct it')
    return frame.astype(np.uint8)


def check_shift(folder: Path, stems: Sequence[str], found: Sequence[str]) -> None:
    """Refuses as many masks as frames that are numbered from another first frame on."""
    frames, masks_of = ([as_number(stem) for stem in names] for names in (stems, found))
    if len(frames) != len(masks_of) or None in frames + masks_of or frames[0] == masks_of[0]:
        return
    if frames[0] in masks_of or masks_of[0] in frames:
        raise InputError(
            f'{folder}: {len(found)} masks from {found[0]} to {found[-1]} for frames from '
            f'{stems[0]} to {stems[-1]}; name each mask as its frame'
        )


def find_array(root: Path, name: str) -> Path:
    """Gives the file of a sequence: `<name>.npz` or `<name>.npy`, which may not both be there."""
    packed, plain = root / f'{name}.npz', root / f'{name}.npy'
    if packed.is_file() and plain.is_file():
        raise InputError(f'{packed}: {plain.name} is there too; remove one of them')
    return packed if packed.is_file() else plain


def _open_colours(path):
    data = pictures.read_file(path, 'mask')
    if pictures.form_of(data) not in ('', 'PNG'):
        raise InputError(
            f'{path}: {pictures.form_of(data)} file, --form=rgb reads opaque RGB PNG; write such '
            'files'
        )
    with pictures.opened(data, path, 'mask') as image:
        if image.mode == 'RGBA' and image.getextrema()[-1] == (255, 255):
            image = image.convert('RGB')
        if image.mode == 'P':
            image = image.convert('RGB')
        if image.mode != 'RGB':
            raise InputError(
                f'{path}: PNG image of mode {image.mode}, --form=rgb reads opaque RGB PNG; write '
                'such files'
            )
        return np.array(image)


def _codes(colours):
    """One number for each colour: u8[..., 3] -> i64[...]."""
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _second_palette():
    palette = PALETTE.copy()
    palette[palette == 192] = 191
    palette[22:] = np.arange(22, 256)[:, None]
    return palette


def list_objects(folder: Path) -> dict[int, tuple[Path, dict[str, Path]]]:
    """{id: (its folder, {stem: file})} of a sequence, ids ascending."""
    times = [folder.stat().st_mtime_ns]
    times += [(folder / name).stat().st_mtime_ns for name in listing.folders_in(folder)]
    return _list_objects(folder, tuple(times))


@functools.lru_cache(maxsize=4)  # a sequence is read frame after frame
def _list_objects(folder, _):
    found = {}
    names = listing.folders_in(folder)
    strange = [name for name in names if not re.fullmatch('0*[1-9][0-9]{0,2}', name)]
    strange += [name for name in names if name not in strange and int(name) >= VOID]
    if strange or not names:
        raise InputError(
            f'{folder / strange[0] if strange else folder}: need one folder for each object, named '
            'by its id 1..254; see docs/evaluation.md#masks-of-another-program'
        )
    for name in sorted(names, key=int):
        if int(name) in found:
            raise InputError(
                f'{folder / name}: object {int(name)} has the folder {found[int(name)][0].name} '
                'too; remove one'
            )
        files = listing.list_files(folder / name, ('.png',))
        if not files:
            raise InputError(f'{folder / name}: no masks (.png) in it; add or remove it')
        found[int(name)] = folder / name, files
    return found


@functools.lru_cache(maxsize=2)
def _load_array(path):
    """(labels [T, H, W], names or None) of a file."""
    what, remedy = 'a whole array', 'write it again'
    if path.suffix == '.npy':
        arrays = {'masks': read_npy(path, what, remedy)}
    else:
        arrays = read_npz(path, what, remedy, most_bytes=_MOST_BYTES)
    names = arrays.pop('frames', None)
    if len(arrays) != 1:
        raise InputError(f'{path}: arrays {", ".join(arrays) or "none"}; need one of masks')
    (labels,) = arrays.values()
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f'{path}: {labels.dtype}{list(labels.shape)}, need integer ids [T, H, W]; '
            'probabilities must be turned into ids by the program that made them'
        )
    if labels.size and labels.max() == VOID and not np.any((labels > 0) & (labels < VOID)):
        raise InputError(f'{path}: only 0 and 255 in it, need ids; write 1 instead of 255')
    return labels, None if names is None else tuple(str(name) for name in names)


def check_size(path: Path, found: Sequence, size: Sequence) -> None:
    """Refuses a mask (H, W) of another size than its annotation."""
    if tuple(found) != tuple(size):
        raise InputError(
            f'{path}: mask of size {found[1]}x{found[0]}, its annotation is {size[1]}x{size[0]}; '
            'write masks in the size of the annotation'
        )
