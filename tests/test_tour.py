"""docs/tour.ipynb: its code runs, and what the page shows was printed by this code."""

import runpy
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

nbformat = pytest.importorskip('nbformat', reason='nbclient is not installed')

TOUR, MAKE = REPOSITORY / 'docs/tour.ipynb', REPOSITORY / 'docs/make_tour.py'


def outputs(book):
    """Texts and pictures of each cell of code."""
    cells = (cell for cell in book.cells if cell.cell_type == 'code')
    return [[output.get('text', 'picture') for output in cell.outputs] for cell in cells]


def mean_jaccard(printed):
    """J of the last line, `J 81.0, F 75.2`."""
    return float(''.join(printed).rpartition('J ')[2].partition(',')[0])


def test_what_the_page_shows_was_printed_by_its_code():
    book = nbformat.read(TOUR, as_version=4)
    checksum = runpy.run_path(str(MAKE))['checksum']
    assert book.metadata.code == checksum(book), 'python docs/make_tour.py'
    assert TOUR.stat().st_size < 300_000


@pytest.mark.slow
def test_the_cells_run_and_print_as_on_the_page(tmp_path):
    made = subprocess.run(
        [sys.executable, MAKE, tmp_path / 'tour.ipynb'], capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stderr
    found, kept = (
        outputs(nbformat.read(path, as_version=4)) for path in (tmp_path / 'tour.ipynb', TOUR)
    )
    assert [len(cell) for cell in found] == [len(cell) for cell in kept]
    assert mean_jaccard(found[3]) == pytest.approx(mean_jaccard(kept[3]), abs=0.5)  # percent
