"""A first look, on a machine without an accelerator: `make demo`.

Runs the project's own commands and prints each, so that they can be run again by hand:
made-up video is written, the weights that come with the project segment it, a model is trained on
it from nothing for a few minutes, and both results are reported side by side.
"""

import shlex
import subprocess
import sys
import time

from absl import flags as absl_flags
from PIL import Image

from vos_jax.commands import flags
from vos_jax.data import layouts
from vos_jax.data.masks import read_labels
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.data.roots import data_folder
from vos_jax.errors import run_main
from vos_jax.storage.disk import prepare_folder
from vos_jax.storage.paths import local

DATA = data_folder() / 'made_up'


def define_flags():
    """Where to."""
    flags.define_out('folder of the results', default='runs/demo')


def main(argv):
    """Runs the commands of the demo, one after the other."""
    flags.refuse_arguments(argv)
    start_s, results = time.monotonic(), local(absl_flags.FLAGS.out, '--out')
    prepare_folder(results)
    data, out = shlex.quote(str(DATA)), shlex.quote(str(results))
    _say('Made-up video: 24 sequences to train on, 3 to evaluate on')
    _run(f'-m vos_jax.commands.made_up --out={data} --num_train=24 --num_val=3 --frames=12')
    _say('The weights that come with the project, trained on real video, segment it')
    evaluate = f'-m vos_jax.commands.evaluate --protocol=davis2017 --data={data}'
    _run(f'{evaluate} --weights=giel_lite --out={out}/pretrained')
    picture = _picture(results / 'pretrained')
    _say(f'After {time.monotonic() - start_s:.0f} s: look at {picture}')
    _say('A tenth of that model, trained from nothing on the made-up video')
    _run(f'-m vos_jax.commands.train --config=giel_small:tiny --workdir={out}/tiny')
    _run(f'{evaluate} --workdir={out}/tiny --out={out}/trained')
    _say('Both side by side')
    compare = f'--compare={out}/pretrained,{out}/trained --out={out}/compare'
    _run(f'-m vos_jax.commands.evaluate {compare}')
    _say(
        f'Done in {(time.monotonic() - start_s) / 60:.1f} minutes. Look at {picture}, '
        f'{out}/trained/report/index.html and {out}/compare/index.html'
    )


def _say(text):
    print(f'\n## {text}', flush=True)


def _run(arguments):
    print(f'$ python {arguments}', flush=True)
    finished = subprocess.run([sys.executable, *shlex.split(arguments)], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def _picture(results):
    """Draws the given and two predicted frames of the first sequence."""
    sequence = layouts.davis(DATA, 'val')[0]
    images = []
    for index in (0, len(sequence.frames) // 2, -1):
        stem = sequence.frames[index].stem
        found = next(results.rglob(f'{sequence.name}/{stem}.png'))
        images.append(overlay(sequence.read_frame(index), read_labels(found)))
    path = results.with_name('first_look.png')
    Image.fromarray(side_by_side(images)).save(path)
    return path


def run():
    """The command."""
    run_main(main, define_flags)


if __name__ == '__main__':
    run()
