"""CFBI's matchings in plain PyTorch, for a comparison of speed and memory.

Written as one would first write them: global matching holds the distances of a chunk of queries to
all references, and takes a minimum for each slot; local matching holds the distances to all offsets
of the largest window.
"""

import numpy as np
import torch
from torch.nn import functional as F

FAR = 5e4
CHUNKS = 4  # of the queries, in evaluation; 20 in training


def match_globally(query, reference, labels, num_slots, chunks=CHUNKS):
    """query [Q, C], reference [P, C], labels [P] -> [S, Q], squared distances."""
    masks = torch.stack([labels == slot for slot in range(num_slots)])
    norms = reference.square().sum(dim=1)
    parts = []
    for part in query.chunk(chunks):
        distances = part.square().sum(dim=1)[:, None] + norms - 2 * part @ reference.T
        low = [torch.where(mask, distances, distances + FAR).amin(dim=1) for mask in masks]
        parts.append(torch.stack(low))
    return torch.cat(parts, dim=1)


def match_locally(current, previous, labels, num_slots, windows):
    """current, previous [h, w, C], labels [h, w] -> [W, S, h, w], squared distances."""
    height, width, channels = current.shape
    radius = max(windows)
    side = 2 * radius + 1
    padded = F.pad(previous.permute(2, 0, 1)[None], (radius,) * 4)
    around = F.unfold(padded, side).view(channels, side, side, height, width)
    x = current.permute(2, 0, 1)
    norms = x.square().sum(dim=0) + around.square().sum(dim=0)
    distances = norms - 2 * torch.einsum('chw,cijhw->ijhw', x, around)
    seen = F.pad(labels[None, None].float(), (radius,) * 4, value=-1)
    seen = F.unfold(seen, side).view(side, side, height, width)
    maps = []
    for window in windows:
        inner = slice(radius - window, radius + window + 1)
        near, near_seen = distances[inner, inner], seen[inner, inner]
        low = [
            torch.where(near_seen == slot, near, near.new_tensor(FAR)).amin(dim=(0, 1))
            for slot in range(num_slots)
        ]
        maps.append(torch.stack(low))
    return torch.stack(maps)


def runner(kind, part, arrays, num_slots, windows, *, compiled=False):
    """Function without arguments that runs one matching.

    Args:
      kind: 'global' or 'local'.
      part: 'forward' or 'gradient' (of the sum of the proxies).
      arrays: NumPy arrays of two embeddings f32[1, h, w, C] and labels i32[1, h, w].
      num_slots, windows: as for the functions above.
      compiled: whether the matching goes through torch.compile.

    Returns:
      Function that gives NumPy arrays: distances, or the loss and both gradients.
    """
    query, reference, labels = arrays
    first, second = (torch.tensor(x[0]) for x in (query, reference))
    seen = torch.tensor(np.asarray(labels[0], np.int64))

    def forward(first, second):
        if kind == 'local':
            return match_locally(first, second, seen, num_slots, windows)
        flat = [x.reshape(-1, x.shape[-1]) for x in (first, second)]
        chunks = CHUNKS if part == 'forward' else 20
        return match_globally(*flat, seen.reshape(-1), num_slots, chunks)

    if compiled:
        forward = torch.compile(forward)

    def run():
        if part == 'forward':
            with torch.no_grad():
                return forward(first, second).numpy()
        leaves = [x.clone().requires_grad_() for x in (first, second)]
        loss = torch.tanh(0.5 * forward(*leaves)).sum()
        loss.backward()
        return [loss.detach().numpy(), *(x.grad.numpy() for x in leaves)]

    return run
