"""The pages: what they say (always), and how they behave in a browser (where there is one)."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vos_jax.evaluation import (
    compare,
    metrics,
    output_files,
    predictions,
    protocols,
    results,
    scoring,
)
from vos_jax.evaluation.report import drawings, pages

HOSTILE = "in/a&<!--<script>'1%#?"  # would break a page that pastes it in


@pytest.fixture
def evaluated(make_davis, draw, tmp_path, save_masks):
    """Two runs with reports, and their comparison; returns the folder that holds them."""
    names = {'dog': ((1, 2), 9), HOSTILE: ((1,), 5)}
    root = make_davis({name: draw(length, ids=ids) for name, (ids, length) in names.items()})
    protocol = protocols.load('davis2017', root, need_frames=False)
    for run, speed in (('first', 3), ('second', 2)):
        for name, (ids, length) in names.items():
            save_masks(tmp_path / run / name, draw(length, ids=ids, speed=speed))
        masks = predictions.open_results(tmp_path / run)
        output_files.score_results(protocol, masks, tmp_path / 'out' / run)
    output_files.compare([tmp_path / 'out/first', tmp_path / 'out/second'], tmp_path / 'out/both')
    return tmp_path / 'out'


def page_data(path):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    return json.loads(found[1])


def test_a_page_holds_its_data_whatever_the_names(evaluated):
    data = page_data(evaluated / 'first/report/index.html')
    assert [one['name'] for one in data['sequences']] == ['dog', HOSTILE]
    assert data['kinds'] == ['frames', 'truth', 'prediction', 'errors']
    assert len(data['objects']) == 3
    assert data['scores']['J&F-Mean'] == pytest.approx(
        results.global_scores(results.read(evaluated / 'first'))['J&F-Mean']
    )


def test_pages_name_no_other_host(evaluated):
    for page in evaluated.rglob('index.html'):
        addresses = set(re.findall(r'https?://[\w./]+', page.read_text()))
        assert addresses <= {'http://www.w3.org/2000/svg'}


def test_every_scored_frame_has_its_pictures(evaluated):
    for kind in ('frames', 'truth', 'prediction', 'errors'):
        folder = evaluated / 'first/report/pictures' / kind / 'dog'
        assert len(list(folder.iterdir())) == 7
    for kind in ('frames', 'truth', 'run0', 'run1'):
        assert len(list((evaluated / 'both/pictures' / kind / 'dog').iterdir())) == 7


def test_background_of_a_mask_picture_is_transparent(evaluated):
    path = evaluated / 'first/report/pictures/truth/dog/00001.png'
    image = Image.open(path).convert('RGBA')
    alpha = np.array(image)[..., 3]
    assert set(np.unique(alpha)) == {0, 255}
    assert (alpha > 0).sum() == 200


def test_errors_are_distinguished():
    truth = np.array([[1, 1, 0, 0, 2]], np.uint8)
    pred = np.array([[1, 0, 1, 0, 1]], np.uint8)
    errors = drawings.mark_errors(pred, truth)
    assert errors.tolist() == [[0, drawings.MISSED, drawings.FALSE_ALARM, 0, drawings.CONFUSED]]


def make_results(jf, area, **about):
    """Results of one sequence with given J&F and areas, f64[n, frames]."""
    jf, area = np.array(jf, float), np.array(area, float)
    one = scoring.SequenceResult(
        'dog',
        tuple(range(1, len(jf) + 1)),
        tuple(f'{t:05d}' for t in range(1, jf.shape[1] + 1)),
        metrics.SequenceScores(jf, jf),
        area,
        (),
    )
    header = {'protocol': 'davis2017', 'split': 'val', 'mode': '480p', **about}
    return results.Results(header, (one,))


def test_scores_by_size_leave_out_frames_without_the_object():
    found = pages.scores_by_size(make_results([[1, 0.5, 0]], [[0.03, 0.03, 0]]))
    assert found == [{'low': 2, 'high': 4, 'J&F': 0.75, 'count': 2}]


def test_scores_by_frame_are_means_over_objects():
    found = pages.scores_by_frame(make_results([[1, 0.5], [0, np.nan]], [[0.1, 0.1]] * 2))
    assert [(one['frame'], one['J&F'], one['count']) for one in found] == [
        (1, 0.5, 2),
        (2, 0.5, 1),
    ]


def test_worst_frames_name_one_frame_of_each_object():
    found = pages.worst_frames(make_results([[0.9, 0.2], [0.1, 0.3]], [[0.1, 0.1]] * 2))
    assert [(one['id'], one['stem'], one['J&F']) for one in found] == [
        (2, '00001', 0.1),
        (1, '00002', 0.2),
    ]


def test_a_report_without_scores_still_shows_the_masks(make_davis, draw, tmp_path, save_masks):
    root = make_davis({'dog': draw(4)}, split='test-dev')
    for path in (root / 'Annotations/480p/dog').glob('0000[1-9].png'):
        path.unlink()
    protocol = protocols.load('davis2017', root, 'test-dev')
    save_masks(tmp_path / 'masks/dog', draw(4))
    output_files.score_results(
        protocol, predictions.open_results(tmp_path / 'masks'), tmp_path / 'out'
    )
    data = page_data(tmp_path / 'out/report/index.html')
    assert data['scores'] == {}
    assert data['kinds'] == ['frames', 'prediction']
    assert data['shown'] == [['00000', '00001', '00002', '00003']]


def test_facts_say_checkpoint_device_speed_and_memory():
    header = {
        'protocol': 'davis2017', 'workdir': '/runs/a', 'step': 400, 'device': '1 x TPU v4',
        'fps': 12.345, 'fps_includes': 'one device', 'peak_host_memory_gb': 2.5,
        'peak_device_memory_gb': None, 'seconds_of_this_command': 61.7,
    }  # fmt: skip
    facts = dict(pages.report_data(make_results([[1]], [[0.1]], **header))['facts'])
    assert facts['checkpoint of run'] == '/runs/a'
    assert facts['step'] == '400'
    assert facts['device'] == '1 x TPU v4'
    assert facts['speed'] == '12.3 FPS: one device'
    assert facts['peak memory'] == '2.50 GB on the host'
    assert facts['time of the command'] == '62 s'


def test_a_comparison_without_pictures_has_its_tables(evaluated, tmp_path):
    shutil.rmtree(evaluated / 'second/report')
    output_files.compare([evaluated / 'first', evaluated / 'second'], tmp_path / 'bare')
    data = page_data(tmp_path / 'bare/index.html')
    assert data['kinds'] == []
    assert len(data['objects']) == 3


def column(browser, table, index):
    return browser.execute_script(
        'return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]'
        '.map(row => row.cells[arguments[1]].textContent)',
        table,
        index,
    )


def move_slider(browser, value):
    browser.execute_script(
        "const slider = document.getElementById('frame'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'))",
        value,
    )


def assert_pictures_loaded(browser, count):
    """All pictures of the page are complete and not broken."""
    sizes = browser.execute_async_script(
        'const done = arguments[0]; const images = [...document.images];'
        'Promise.all(images.map(one => one.decode())).then('
        '() => done(images.map(one => one.naturalWidth)), error => done(String(error)))'
    )
    assert isinstance(sizes, list), sizes
    assert len(sizes) >= count
    assert min(sizes) > 0


@pytest.mark.browser
def test_the_report_sorts_scrubs_and_plays_in_a_browser(browser, evaluated):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get((evaluated / 'first/report/index.html').as_uri())
    assert 'davis2017 val (480p)' in browser.title
    assert column(browser, 'objects', 0)[-1] == HOSTILE

    heads = browser.find_elements(By.CSS_SELECTOR, '#objects th button')
    heads[4].click()
    scores = [float(text) for text in column(browser, 'objects', 4)]
    assert scores == sorted(scores)
    heads[4].click()
    scores = [float(text) for text in column(browser, 'objects', 4)]
    assert scores == sorted(scores, reverse=True)

    assert 'frame 00001' in browser.find_element(By.ID, 'caption').text
    move_slider(browser, 4)
    assert 'frame 00005' in browser.find_element(By.ID, 'caption').text
    assert len(browser.find_elements(By.CSS_SELECTOR, '#curves svg path')) == 4
    assert_pictures_loaded(browser, 8)

    browser.find_element(By.TAG_NAME, 'body').send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert 'frame 00007 (7 of 7)' in browser.find_element(By.ID, 'caption').text
    browser.find_element(By.TAG_NAME, 'body').send_keys(Keys.ARROW_LEFT)
    assert 'frame 00006' in browser.find_element(By.ID, 'caption').text

    browser.find_elements(By.CSS_SELECTOR, '#worst button')[0].click()
    worst = browser.find_elements(By.CSS_SELECTOR, '#worst figcaption')[0].text
    assert re.search(r'frame \d+', worst)[0] in browser.find_element(By.ID, 'caption').text

    browser.find_elements(By.CSS_SELECTOR, '#objects tbody tr')[-1].send_keys(Keys.ENTER)
    name = browser.find_elements(By.CSS_SELECTOR, '#objects tbody tr')[-1].text.split()[0]
    assert browser.find_element(By.ID, 'caption').text.startswith(name)
    assert_pictures_loaded(browser, 8)
    assert browser.get_log('browser') == []


@pytest.mark.browser
def test_masks_without_annotations_are_scrubbed_in_a_browser(
    browser, make_youtube, draw, tmp_path, save_masks
):
    from selenium.webdriver.common.by import By

    root = make_youtube({'a': (draw(4), {1: 1})})
    protocol = protocols.load('youtube_vos2019', root, need_frames=False)
    save_masks(tmp_path / 'masks/a', draw(4), step=5)
    output_files.score_results(
        protocol, predictions.open_results(tmp_path / 'masks'), tmp_path / 'out'
    )
    browser.get((tmp_path / 'out/report/index.html').as_uri())
    assert browser.find_element(By.ID, 'caption').text == 'a, frame 00005 (1 of 3).'
    move_slider(browser, 2)
    assert browser.find_element(By.ID, 'caption').text == 'a, frame 00015 (3 of 3).'
    assert_pictures_loaded(browser, 2)
    assert browser.get_log('browser') == []


@pytest.mark.browser
def test_the_comparison_shows_runs_beside_the_truth_in_a_browser(browser, evaluated):
    from selenium.webdriver.common.by import By

    browser.get((evaluated / 'both/index.html').as_uri())
    panels = browser.find_elements(By.CSS_SELECTOR, '#panels figcaption')
    assert panels[0].text == 'annotation'
    assert [panel.text.split('.')[0] for panel in panels[1:]] == ['first', 'second']

    move_slider(browser, 5)
    assert 'frame 00006' in browser.find_element(By.ID, 'caption').text
    sources = [
        image.get_attribute('src')
        for image in browser.find_elements(By.CSS_SELECTOR, '#panels img:nth-child(2)')
    ]
    kinds = [source.split('/pictures/')[1] for source in sources]
    assert kinds == ['truth/dog/00006.png', 'run0/dog/00006.png', 'run1/dog/00006.png']
    assert_pictures_loaded(browser, 6)

    browser.find_elements(By.CSS_SELECTOR, '#sequences th button')[3].click()
    changes = [float(text) for text in column(browser, 'sequences', 3)]
    assert changes == sorted(changes)
    browser.find_elements(By.CSS_SELECTOR, '#differences0 tbody tr')[0].click()
    stem = column(browser, 'differences0', 1)[0]
    assert f'frame {stem}' in browser.find_element(By.ID, 'caption').text
    assert browser.get_log('browser') == []


def test_comparison_page_data_agree_with_the_results(evaluated):
    data = page_data(evaluated / 'both/index.html')
    both = compare.compare_folders([evaluated / 'first', evaluated / 'second'])
    assert data['intervals'][0]['difference'] == both.intervals[0].difference
    assert data['runs'] == ['first', 'second']
