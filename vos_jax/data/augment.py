"""One warp per frame: crop, scale, rotation, shear, flip and jitter in a single affine matrix.

A matrix maps a pixel of the crop to a pixel of the frame, `source = A (x - middle) + centre`, both
counted from the middle of the first pixel. It is applied once, by OpenCV for frames and masks alike
(Pillow counts pixels from their corners, so mixing the two would shift masks by half a pixel).
"""

import cv2
import numpy as np

from vos_jax.data.cache import scratch
from vos_jax.storage.palette import VOID

# Where a crop reaches over the border, frame and mask are mirrored alike: the labels there are true
# for what is seen there. Constant colour would need void labels, and teaches where the border was.
_BORDER = cv2.BORDER_REFLECT_101


def draw_linear(rng, settings, size, scale=None):
    """Draws the linear part of a clip's warp.

    Args:
      settings: DataSpec; crop, scale, scale_of, stretch, rotation, shear and flip are used.
      size: (height, width) of the frames.
      scale: range of enlargement instead of the setting's.

    Returns:
      f64[2, 2], from steps in the crop to steps in the frame, as (x, y).
    """
    low, high = np.log(scale or settings.scale)
    enlarge = np.exp(rng.uniform(low, high))
    if settings.scale_of == 'cover':
        enlarge *= max(settings.crop[0] / size[0], settings.crop[1] / size[1])
    stretch = np.sqrt(_factor(rng, settings.stretch))
    rotation, shear = _degrees(rng, settings.rotation), _degrees(rng, settings.shear)
    flip = -1.0 if rng.random() < settings.flip else 1.0
    scales = np.diag([flip / (enlarge * stretch), stretch / enlarge])
    return _rotate(rotation) @ _shear(shear) @ scales


def draw_centre(rng, linear, size, crop, target=None):
    """Draws where in the frame the middle of the crop is, f64[2], (x, y).

    The crop stays inside the frame as far as its size allows (rotation left aside). `target`: a
    pixel (x, y) of the frame that the crop shall show; None: anywhere.
    """
    reach = np.hypot(linear[0], linear[1]) * np.array(crop)[::-1] / 2  # half a crop, in the frame
    extent = np.array(size)[::-1]
    low = np.minimum(reach, extent / 2) - 0.5
    high = extent - 1 - low
    if target is None:
        return rng.uniform(low, high)
    offset = rng.uniform(-0.4, 0.4, size=2) * np.array(crop)[::-1]
    return np.clip(np.asarray(target) - linear @ offset, low, high)


def draw_matrices(rng, crop, jitter, linear, centre, length):
    """Composes the clip's warp, f64[2, 2] and centre (x, y), with the jitter of each frame.

    Returns:
      f64[T, 2, 3], pixel of the crop to pixel of the frame.
    """
    crop = np.array(crop)[::-1]
    middle = (crop - 1) / 2
    matrices = np.empty((length, 2, 3))
    for t in range(length):
        change, shift = _draw_jitter(rng, jitter, crop)
        matrices[t, :, :2] = linear @ change
        matrices[t, :, 2] = centre + linear @ shift - matrices[t, :, :2] @ middle
    return matrices


def warp_frame(frame, matrix, out):
    """Warps u8[H, W, 3] or padded u8[H, W, 4] into `out`, u8[h, w, 3]; bilinear."""
    warped = out if frame.shape[2] == 3 else scratch('warped', (*out.shape[:2], 4))
    cv2.warpAffine(
        frame,
        matrix,
        out.shape[1::-1],
        dst=warped,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDER,
    )
    if warped is not out:
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)


def warp_labels(labels, matrix, out, *, mirror=True):
    """Warps u8[H, W] into `out`, u8[h, w]; nearest only. Without `mirror`, 0 is outside."""
    cv2.warpAffine(
        labels,
        matrix,
        out.shape[::-1],
        dst=out,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDER if mirror else cv2.BORDER_CONSTANT,
        borderValue=0,
    )


def change_colours(rng, frames, colour):
    """Changes brightness, contrast and saturation of u8[T, H, W, 3] in place, by one matrix."""
    if not (colour.brightness or colour.contrast or colour.saturation or colour.grey):
        return
    brightness = 1 + rng.uniform(-1, 1) * colour.brightness
    contrast = 1 + rng.uniform(-1, 1) * colour.contrast
    saturation = 1 + rng.uniform(-1, 1) * colour.saturation
    if rng.random() < colour.grey:
        saturation = 0.0
    luma = np.array([0.299, 0.587, 0.114])
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * luma)
    offset = np.full((3, 1), brightness * (1 - contrast) * (frames[0].mean(axis=(0, 1)) @ luma))
    rows = frames.reshape(-1, *frames.shape[2:])
    cv2.transform(rows, np.hstack([matrix, offset]), dst=rows)


def _draw_jitter(rng, jitter, crop):
    rotation, shear = _degrees(rng, jitter.rotation), _degrees(rng, jitter.shear)
    change = _rotate(rotation) @ _shear(shear) / _factor(rng, jitter.scale)
    return change, rng.uniform(-1, 1, size=2) * jitter.shift * crop


def _degrees(rng, limit):
    return np.deg2rad(rng.uniform(-limit, limit))


def _factor(rng, limit):
    return np.exp(rng.uniform(-1, 1) * np.log1p(limit))


def _rotate(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _shear(angle):
    return np.array([[1.0, np.tan(angle)], [0.0, 1.0]])


def paste_object(frames, labels, donor_frames, donor_masks, new_id, *, behind=False):
    """Pastes an object, with its motion, over a clip.

    The object covers what is under it, or goes behind the objects of the clip; the labels say
    what is seen. Its edge is softened by one pixel inwards, so that no colour of its old
    background comes along.

    Args:
      frames: u8[T, H, W, 3], changed in place.
      labels: u8[T, H, W] ids, changed in place.
      donor_frames: u8[T, H, W, 3].
      donor_masks: bool[T, H, W], the object in them.
      new_id: id the object gets; must not occur in `labels`.
      behind: the objects of the clip stay in front.
    """
    for t, mask in enumerate(donor_masks):
        if behind:
            mask = mask & ((labels[t] == 0) | (labels[t] == VOID))
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        if not width:
            continue
        box = (slice(y, y + height), slice(x, x + width))
        _blend(frames[t][box], donor_frames[t][box], mask[box])
        labels[t][box][mask[box]] = new_id


def free_id(labels):
    """Smallest id that no pixel of the clip has."""
    return next(number for number in range(1, VOID) if not np.any(labels == number))


def _blend(frame, donor, mask):
    """Lays donor over frame where mask is set; weights run from about 2/3 at its edge to 1."""
    outside = cv2.BORDER_CONSTANT  # the box ends where the object does
    weights = cv2.blur(mask.astype(np.float32), (3, 3), borderType=outside) * mask
    mixed = frame + weights[..., None] * (donor.astype(np.float32) - frame)
    frame[...] = np.rint(mixed).astype(np.uint8)
