"""Makes docs/pictures/studio.jpg: PYTHONPATH=. python docs/pictures/make_studio.py [--data=...]

Marks a rider and a horse by their true masks, follows them to frame 8 in a headless Chromium (the
packages chromium and chromium-driver), and takes a picture of the page.
"""

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from absl import flags
from PIL import Image
from selenium import webdriver

from vos_jax.data import masks
from vos_jax.data.roots import data_folder
from vos_jax.errors import run_main

_SHOWN, _STOP = 5, 8


def main(argv):
    """Starts the studio, does what a person would do, and takes the picture."""
    del argv
    wanted = flags.FLAGS
    data = Path(wanted.data) / 'davis_multi_240p'
    video = data / 'JPEGImages' / '240p' / 'horsejump-high'
    first = masks.read_labels(data / 'Annotations' / '240p' / 'horsejump-high' / '00000.png')
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            '-m',
            'vos_jax.commands.studio',
            str(video),
            f'--folder={folder}',
        ]
        command += [f'--folder={folder}', '--nobrowser', f'--weights={wanted.weights}']
        studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r'http://\S+', studio.stdout.readline())[0]
            _prepare(address, first)
            image = _take(address)
        finally:
            studio.terminate()
            studio.wait()
    image.convert('RGB').save(wanted.out, quality=80, optimize=True)
    print(f'{wanted.out}: {Path(wanted.out).stat().st_size // 1024} KB')


def _prepare(address, first):
    """Two named objects and their masks in the first frame, through the page's own requests."""
    objects = b"""{"objects": [{"id": 1, "name": "Horse", "colour": "#ff5252"},
                               {"id": 2, "name": "Rider", "colour": "#3ddc84"}]}"""
    for path, body in (('objects', objects), ('masks/0', first.tobytes())):
        while True:
            try:
                _put(f'{address}api/{path}', body, _seen(address, path))
                break
            except urllib.error.HTTPError:  # the frame is not read yet
                time.sleep(0.2)


def _seen(address, path):
    """The version of what is to be changed."""
    if path == 'objects':
        with urllib.request.urlopen(f'{address}api/project') as response:
            return json.load(response)['version']
    with urllib.request.urlopen(f'{address}api/{path}') as response:
        return response.headers['ETag']


def _put(url, body, seen):
    headers = {'Content-Type': 'application/json', 'If-Match': seen}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method='PUT')).close()


def _take(address):
    options = webdriver.ChromeOptions()
    for flag in ('--headless', '--no-sandbox', '--window-size=1366,911'):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get(address)
        time.sleep(3)
        browser.execute_script("document.getElementById('forwards').click()")
        done = f"return Number(document.getElementById('number').value.split(' ')[0]) >= {_STOP}"
        while not browser.execute_script(done):
            time.sleep(0.1)
        browser.execute_script(
            "const slider = document.getElementById('scrub'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'))",
            _SHOWN,
        )
        time.sleep(2)
        return Image.open(io.BytesIO(browser.get_screenshot_as_png()))
    finally:
        browser.quit()


if __name__ == '__main__':
    flags.DEFINE_string('data', str(data_folder()), 'Folder of the data sets.')
    flags.DEFINE_string('weights', 'giel_lite', 'Name or file of weights.')
    flags.DEFINE_string('out', 'docs/pictures/studio.jpg', 'The picture.')
    run_main(main)
