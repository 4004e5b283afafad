"""What documents and docstrings cite exists, and their tables are those of the measurements."""

import hashlib
import io
import re
import tokenize
from pathlib import Path

import pytest

from benchmarks import tables

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / 'docs'
PAGES = sorted(
    [
        *REPOSITORY.glob('*.md'),
        *REPOSITORY.glob('docs/*.md'),
        *REPOSITORY.glob('examples/*.md'),
        *REPOSITORY.glob('vos_jax/pretrained/*.md'),
    ]
)
FOLDERS = ('vos_jax', 'data_prep', 'benchmarks', 'configs', 'examples', 'tests')
CODE = sorted(
    {
        *REPOSITORY.glob('*.py'),
        *(path for name in FOLDERS for path in (REPOSITORY / name).rglob('*.py')),
    }
    - {Path(__file__).resolve()}
)
# What programs and installations write, by names that a text may give.
WRITTEN = {'vos_jax/recipes'}
LINK = re.compile(r'\]\(([^)\s]+)\)')
CITED = re.compile(r'(?<![\w/{}*.:-])((?:[\w-]+/)*[\w-]+\.md)\b')
OWN = r'(?:vos_jax|data_prep|benchmarks|configs|docs|tests|examples)'
FILE = re.compile(rf'(?<![\w/.-])({OWN}/[\w./-]*\w)')


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def anchors(text):
    """The names that a page's headings get, as GitHub gives them."""
    heads = re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S), re.M)
    return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in heads}


def prose(path, strings=True):
    """Text of a module's comments, docstrings and, unless told otherwise, other strings."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return '\n'.join(
        token.string
        for token in tokens
        if token.type == tokenize.COMMENT
        or (token.type == tokenize.STRING and (strings or token.string.startswith('"""')))
    )


def missing_pages(text, beside):
    """Names of pages in a text that are neither in the repository, in docs nor in a folder."""
    cited = set(CITED.findall(text)) - WRITTEN
    return sorted(
        name
        for name in cited
        if not any((root / name).exists() for root in (REPOSITORY, DOCS, beside))
    )


def missing_files(text):
    """Names of files of this repository in a text that it does not have."""
    placeholder = re.compile(r'/[A-Z]+\b')  # models/NAME
    found = {name for name in FILE.findall(text) if not placeholder.search(name)} - WRITTEN
    return sorted(name for name in found if not (REPOSITORY / name).exists())


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        target, _, anchor = link.partition('#')
        if '://' in link or link.startswith('mailto:'):
            continue
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    if page.name == 'CHANGELOG.md':  # tells of files that are gone
        text = text.partition('\n## 0.')[0]
    text = LINK.sub('', text)
    assert missing_pages(text, page.parent) == []
    assert missing_files(text) == []


def test_pages_and_files_that_the_code_cites_exist():
    missing = {}
    for path in CODE:
        pages = missing_pages(prose(path), path.parent)
        missing[name_of(path)] = pages + missing_files(prose(path, strings=False))
    assert {name: names for name, names in missing.items() if names} == {}


def test_a_page_that_does_not_exist_is_found():
    assert missing_pages('see docs/nowhere.md, section 2', REPOSITORY) == ['docs/nowhere.md']
    assert missing_pages('see docs/data.md and README.md', REPOSITORY) == []
    assert missing_files('in `vos_jax/no/such.py`.') == ['vos_jax/no/such.py']
    assert missing_files('vos_jax/ops/cpu/winograd.py, docs/measurements.') == []


@pytest.mark.parametrize('page', tables.pages(), ids=name_of)
def test_tables_are_those_of_the_measurements(page):
    assert tables.rendered(page) == page.read_text(), 'make tables writes them again'


def test_a_stale_table_is_written_again(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('Before.\n<!-- table: scoring_cpu -->\nold\n<!-- end -->\nAfter.\n')
    text = tables.rendered(page)
    assert '| 1,376 frames | s | s of CPU time |' in text
    assert 'old' not in text
    assert text.startswith('Before.')
    assert text.endswith('<!-- end -->\nAfter.\n')


def test_cells_have_commas_and_say_what_was_not_measured():
    text = tables.markdown(['', 'ms'], [['a', 1234.5], ['b', None]])
    assert text.splitlines() == [
        '| | ms |',
        '| --- | --- |',
        '| a | 1,234.5 |',
        '| b | not measured |',
    ]


def test_each_record_is_shown_or_cited():
    text = ''.join(page.read_text() for page in tables.pages())
    names = [path.name for path in tables.MEASUREMENTS.glob('*.json')]
    assert [name for name in names if f'measurements/{name}' not in text] == []


def test_dates_are_in_the_records_and_not_in_the_pages():
    date = re.compile(r'\b20\d\d-\d\d-\d\d\b')
    assert [name_of(page) for page in tables.pages() if date.search(page.read_text())] == []


def test_checksums_are_those_of_the_weights():
    rows = [row for row in tables.read('results')['rows'] if 'sha256' in row]
    assert rows
    for row in rows:
        name = row['model'].split('`')[1]
        data = (REPOSITORY / 'vos_jax' / 'pretrained' / f'{name}.npz').read_bytes()
        assert hashlib.sha256(data).hexdigest() == row['sha256']


def defined_flags():
    """Names of all flags that the commands define, as they are typed."""
    text = ''.join(path.read_text() for path in (REPOSITORY / 'vos_jax').rglob('*.py'))
    names = re.findall(r"(?:DEFINE_\w+|\bdefine)\(\s*'([\w-]+)'", text)
    return {*names, *(f'no{name}' for name in names), 'config', 'help'}


def flags_of_commands(text):
    """(line, flag) of the project's own commands in the blocks of a page."""
    blocks = re.findall(r'^```\n(.*?)^```', text, re.M | re.S)
    lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
    own = re.compile(r'\bvos-\w+|vos_jax\.commands\.|\b(train|evaluate)\.py')
    for line in filter(own.search, lines):
        for flag in re.findall(r' --([\w-]+)', line.partition('#')[0]):
            yield line, flag


def test_commands_of_the_pages_have_the_flags_they_are_given():
    known = defined_flags()
    used = [pair for page in PAGES for pair in flags_of_commands(page.read_text())]
    assert len(used) > 50
    others = {'zone', 'worker', 'command', 'cluster', 'workload', 'max-restarts'}  # of cloud tools
    others |= {'tpu-type', 'docker-image', 'nodes', 'ntasks-per-node', 'gpus-per-node'}
    assert [pair for pair in used if pair[1] not in known | others] == []
