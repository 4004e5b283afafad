"""A clip segmented by the PyTorch twin, and its loss, as `vos_jax.inference.rollout` and losses."""

import torch
from torch.nn import functional as F

VOID = 255


def unroll(model, frames, labels, objects):
    """Segments a clip whose first frame is given; each prediction enters the memory.

    Args:
      model: giel.GIEL.
      frames: u8[B, T, H, W, 3]; labels: u8[B, T, H, W] slot labels; objects: bool[B, K].

    Returns:
      logits [B, T-1, K+1, H, W], foreground_logits [B, T-1, H, W], and propagated
      [B, T-1, K+1, P], the true labels of the memory read through the affinity.
    """
    slots = objects.shape[1]
    images = frames.permute(0, 1, 4, 2, 3).float()
    truth = label_cells(labels, slots, model.stride)
    masks = slot_masks(labels[:, 0], slots)
    foreground, memory, outputs = masks.amax(dim=1), [], []
    for time in range(1, frames.shape[1]):
        previous = images[:, time - 1]
        memory.append(model.memorise(previous, masks, foreground, objects, time - 1))
        prediction = model.segment(model.encode(images[:, time]), memory, objects, time)
        propagated = truth[:, :time].transpose(1, 2).flatten(2) @ prediction.affinity.flatten(1, 2)
        outputs.append((prediction.logits, prediction.foreground_logits, propagated))
        masks = prediction.logits.softmax(dim=1)[:, 1:]
        foreground = prediction.foreground_logits.sigmoid()
    return tuple(torch.stack(parts, dim=1) for parts in zip(*outputs))


def slot_masks(labels, slots):
    """u8[N, H, W] -> f32[N, K, H, W]."""
    numbers = torch.arange(1, slots + 1, dtype=torch.uint8, device=labels.device)
    return (labels[:, None] == numbers.view(1, -1, 1, 1)).float()


def label_cells(labels, slots, stride):
    """True label shares of the memory cells: u8[B, T, H, W] -> f32[B, T, K+1, P]."""
    flat = labels.flatten(0, 1)
    masks = slot_masks(flat, slots)
    background = 1 - masks.sum(dim=1, keepdim=True) - (flat == VOID).float()[:, None]
    masks = torch.cat([background, masks], dim=1)
    height, width = masks.shape[2:]
    masks = F.pad(masks, (0, -width % stride, 0, -height % stride))
    return F.avg_pool2d(masks, stride).flatten(2).unflatten(0, labels.shape[:2])


def clip_loss(outputs, labels, objects, weights, stride):
    """BCE of the class-agnostic map, CE, Dice and propagation, weighted (GIEL, Eq. 13).

    Args:
      outputs: of `unroll`.
      labels: u8[B, T, H, W]; objects: bool[B, K].
      weights: dict with `bce`, `ce`, `dice`, `propagation`.
      stride: pixels per memory cell.
    """
    logits, foreground_logits, propagated = (part.flatten(0, 1) for part in outputs)
    count = labels.shape[1] - 1
    labels = labels[:, 1:].flatten(0, 1)
    objects = objects.repeat_interleave(count, dim=0)
    valid = labels != VOID
    targets = labels.long().masked_fill(~valid, -100)
    union = (valid & (labels > 0)).float()
    bce = F.binary_cross_entropy_with_logits(foreground_logits[valid], union[valid])
    terms = {
        'bce': bce,
        'ce': F.cross_entropy(logits, targets),
        'dice': dice(logits, labels, objects),
        'propagation': propagation(propagated, labels, stride),
    }
    return sum(weights[name] * term for name, term in terms.items())


def dice(logits, labels, objects):
    """1 - Dice coefficient, mean over the slots in use."""
    valid = (labels != VOID)[:, None]
    targets = slot_masks(labels, objects.shape[1])
    probabilities = logits.softmax(dim=1)[:, 1:]
    product = (probabilities * targets * valid).sum(dim=(2, 3))
    total = ((probabilities + targets) * valid).sum(dim=(2, 3))
    losses = 1 - (2 * product + 1) / (total + 1)
    return losses[objects].mean()


def propagation(propagated, labels, stride):
    """Cross entropy of the labels carried through the affinity alone."""
    targets = label_cells(labels[:, None], propagated.shape[1] - 1, stride)[:, 0]
    return -(targets * propagated.clamp(1e-6, 1).log()).sum() / targets.sum()
