"""Clips segmented by the PyTorch twins, their loss and its train step."""

import torch
from torch.nn import functional as F

from vos_jax.models.stm.model import STM

VOID = 255


def unroll_of(model):
    """The function below that unrolls the twin of a model of ours."""
    return unroll_stm if isinstance(model, STM) else unroll_giel


def unroll_giel(model, frames, labels, objects):
    """Segments a clip whose first frame is given; each prediction enters the memory.

    Args:
      model: giel.GIEL.
      frames: u8[B, T, H, W, 3]; labels: u8[B, T, H, W] slot labels; objects: bool[B, K].

    Returns:
      Dict: `logits` [B, T-1, K+1, H, W], `foreground_logits` [B, T-1, H, W], and `propagated`
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
    parts = (torch.stack(parts, dim=1) for parts in zip(*outputs))
    return dict(zip(('logits', 'foreground_logits', 'propagated'), parts))


def unroll_stm(model, frames, labels, objects):
    """The same for stm.STM, which takes one clip at a time, of sides that are multiples of 16.

    Args:
      model: stm.STM.
      frames, labels, objects: as for `unroll_giel`; all slots are in use.

    Returns:
      Dict: `logits` [B, T-1, K+1, H, W].
    """
    logits = []
    for clip, truth in zip(frames.permute(0, 1, 4, 2, 3).float(), labels):
        masks, memory = slot_masks(truth[:1], objects.shape[1])[0], []
        for time in range(1, len(clip)):
            memory.append(model.memorise(clip[time - 1 : time], masks[:, None]))
            keys, values = (torch.stack(parts, dim=2) for parts in zip(*memory))
            logits.append(model.segment(clip[time : time + 1], keys, values))
            masks = logits[-1].softmax(dim=0)[1:]
    return {'logits': torch.stack(logits).unflatten(0, (len(frames), -1))}


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
      outputs: of `unroll_giel` or `unroll_stm`.
      labels: u8[B, T, H, W]; objects: bool[B, K].
      weights: dict of the weights of `bce`, `ce`, `dice`, `propagation`; those of 0 are left out.
      stride: pixels per memory cell.
    """
    outputs = {name: part.flatten(0, 1) for name, part in outputs.items()}
    count = labels.shape[1] - 1
    labels = labels[:, 1:].flatten(0, 1)
    objects = objects.repeat_interleave(count, dim=0)
    terms = {
        'bce': lambda: foreground_cross_entropy(outputs['foreground_logits'], labels),
        'ce': lambda: F.cross_entropy(outputs['logits'], labels.long(), ignore_index=VOID),
        'dice': lambda: dice(outputs['logits'], labels, objects),
        'propagation': lambda: propagation(outputs['propagated'], labels, stride),
    }
    return sum(weights[name] * term() for name, term in terms.items() if weights[name])


def foreground_cross_entropy(logits, labels):
    """BCE of the class-agnostic map [N, H, W] against the union of the objects."""
    valid = labels != VOID
    union = (valid & (labels > 0)).float()
    return F.binary_cross_entropy_with_logits(logits[valid], union[valid])


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


class Training:
    """The train step: clip, loss, gradients and Adam.

    Args:
      model: giel.GIEL or stm.STM, in the mode it is trained in.
      unroll: `unroll_giel` or `unroll_stm`.
      weights: of the loss, see `clip_loss`.
      learning_rate: fixed.
      compiled: whether clip and loss go through torch.compile.
    """

    def __init__(self, model, unroll, weights, learning_rate, compiled=False):
        def loss_of(frames, labels, objects):
            outputs = unroll(model, frames, labels, objects)
            return clip_loss(outputs, labels, objects, weights, model.stride)

        trained = [value for value in model.parameters() if value.requires_grad]
        self._optimizer = torch.optim.Adam(trained, learning_rate)
        self._loss_of = torch.compile(loss_of) if compiled else loss_of

    def step(self, frames, labels, objects):
        """One step; u8[B, T, H, W, 3], u8[B, T, H, W], bool[B, K] -> the loss before it."""
        self._optimizer.zero_grad()
        loss = self._loss_of(frames, labels, objects)
        loss.backward()
        self._optimizer.step()
        return loss.item()
