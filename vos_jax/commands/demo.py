"""A first look, on a machine without an accelerator: `make demo`.

Runs the project's own commands and prints each, so that they can be run again by hand: the weights
that come with the project segment a real clip; made-up video is drawn, a model is trained on it
from scratch for a minute or two, and evaluated.
"""

import functools
import shlex
import subprocess
import sys
import time
from pathlib import Path

from absl import flags as absl_flags
from PIL import Image

from vos_jax.commands import flags
from vos_jax.data import frames
from vos_jax.data.masks import read_labels
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.data.roots import data_folder
from vos_jax.errors import InputError, run_main
from vos_jax.storage.disk import prepare_folder
from vos_jax.storage.paths import local

DATA = data_folder() / 'made_up'
# Two small sequences of DAVIS, which tests read as well.
CLIP = Path('tests/parity/records/cfbi_e2e/DAVIS')
FRAMES = CLIP / 'JPEGImages/480p/dog'
FIRST_MASK = CLIP / 'Annotations/480p/dog/00000.png'


def define_flags():
    absl_flags.DEFINE_string('out', 'runs/demo', 'folder of the results')


def main(argv):
    flags.refuse_arguments(argv)
    start_s, results = time.monotonic(), local(absl_flags.FLAGS.out, '--out')
    prepare_folder(results)
    if not FRAMES.is_dir():
        raise InputError(f'{FRAMES}: no such folder; run make demo at the root of a checkout')
    data, out = shlex.quote(str(DATA)), shlex.quote(str(results))
    _say('A clip of DAVIS, segmented by the weights that come with the project')
    _run(f'-m vos_jax.commands.segment {FRAMES} --masks={FIRST_MASK} --out={out}/dog')
    picture = _picture(results / 'dog/masks')
    _say(f'After {time.monotonic() - start_s:.0f} s: look at {picture}')
    _say('Made-up video: 24 sequences to train on, 3 to evaluate on')
    _run(f'-m vos_jax.commands.made_up --out={data} --num_train=24 --num_val=3 --frames=12')
    _say('A tenth of that model, trained from scratch on the made-up video')
    tiny = f'--config=giel_small:tiny --workdir={out}/tiny'
    _run(f'-m vos_jax.commands.train {tiny} --config.training.evaluate_every=0')
    _say('and evaluated on sequences that it has not seen')
    evaluate = f'--protocol=davis2017 --data={data} --workdir={out}/tiny --out={out}/trained'
    _run(f'-m vos_jax.commands.evaluate {evaluate}')
    _say(f'Done in {(time.monotonic() - start_s) / 60:.1f} minutes. Look at')
    for what in (picture, results / 'dog/overlay.mp4', results / 'trained/report/index.html'):
        print(f'  {what}', flush=True)


def _say(text):
    print(f'\n## {text}', flush=True)


def _run(arguments):
    print(f'$ python {arguments}', flush=True)
    finished = subprocess.run([sys.executable, *shlex.split(arguments)], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def _picture(masks):
    """Draws the given and three predicted masks."""
    paths = sorted(FRAMES.iterdir())
    drawn = [
        overlay(frames.read_frame(paths[index]), read_labels(masks / f'{paths[index].stem}.png'))
        for index in (0, 2, 5, 7)
    ]
    path = masks.with_name('first_look.png')
    Image.fromarray(side_by_side(drawn)).save(path)
    return path


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
