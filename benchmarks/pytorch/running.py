"""A video being segmented by a PyTorch twin, like `benchmarks.inference.Running`."""

import contextlib
import time

import torch

from benchmarks import inputs


def device():
    """'cuda' where PyTorch can use a GPU, else 'cpu'."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def precision(dtype):
    """Context in which PyTorch computes in 'float32' or 'bfloat16'."""
    if dtype == 'bfloat16':
        return torch.autocast(device(), torch.bfloat16)
    return contextlib.nullcontext()


def prepare(threads):
    """Settings of the process: threads, and what XLA does too."""
    torch.set_num_threads(threads)
    # Numbers below 1e-38 are slow on CPUs, and no result depends on them.
    torch.set_flush_denormal(True)


class Running:
    """Segments a made-up video; its memory is full.

    Args:
      module: twin, giel.GIEL or stm.STM.
      size: (height, width).
      num_objects: slots, all in use.
      num_memory: T, frames that are read.
      dtype: 'float32' or 'bfloat16'.
      compiled: whether a frame goes through torch.compile.

    Attributes:
      labels: u8[H, W] of the first frame after the given one.
      first_s: time of the first frame with a full memory, with its compilation.
    """

    def __init__(self, module, size, num_objects, num_memory, dtype='float32', compiled=False):
        self._device, self._dtype = device(), dtype
        self._module = module.eval().to(self._device, memory_format=torch.channels_last)
        self._frames, masks = inputs.make_video(size, num_memory + 1, num_objects)
        self._now, self._bank, self._num_memory = 0, [], num_memory
        ids = torch.arange(1, num_objects + 1, dtype=torch.uint8).view(1, -1, 1, 1)
        masks = (torch.from_numpy(masks)[None, None] == ids).float().to(self._device)
        self._masks = module.start(masks)
        self._advance = module.advance
        self.labels = self.step()
        while len(self._bank) < num_memory - 1:
            self.step()
        if compiled:
            self._advance = torch.compile(module.advance)
        start = time.perf_counter()
        self.step()
        self.first_s = time.perf_counter() - start

    def step(self):
        """Memorises the previous frame and segments the next one; gives its labels."""
        with torch.inference_mode(), precision(self._dtype):
            previous, masks = self._frame(), self._masks
            self._now = (self._now + 1) % len(self._frames)
            # The memory keeps its size: T - 1 early frames, and the previous one joins.
            logits, self._masks = self._advance(self._bank, previous, masks, self._frame())
            if len(self._bank) < self._num_memory - 1:
                self._bank.append(self._module.remember(previous, masks))
            return logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()

    def _frame(self):
        frame = torch.from_numpy(self._frames[self._now]).to(self._device)
        frame = frame.permute(2, 0, 1)[None].float()
        return frame.contiguous(memory_format=torch.channels_last)
