"""The studio in a real browser: open, paint, follow, stop, correct, reload, save."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.studio.serving import Served
from tests.video import samples
from vos_jax.data import masks
from vos_jax.video.reader import open_video

SIZE, NUM_FRAMES = (120, 160), 90
INSIDE = (slice(14, 26), slice(10, 22))  # of the square, whatever the page's pixels

pytestmark = pytest.mark.browser


@pytest.fixture
def video(tmp_path):
    frames = [samples.draw(n, SIZE) for n in range(NUM_FRAMES)]
    return samples.write_video(tmp_path / 'clip.mp4', frames)


@pytest.fixture
def weights(tmp_path):
    return samples.write_weights(tmp_path / 'tiny.npz')


CONTRAST = (Path(__file__).parent / 'contrast.js').read_text()


# All parts of the editor at once, those that can be used now and those that cannot.
SHOW_ALL = """
for (const one of document.querySelectorAll('#editor [hidden], #alert')) one.hidden = false;
for (const one of document.querySelectorAll(':disabled')) one.disabled = false;
document.querySelector('#alert span').textContent = 'wrong';
document.getElementById('results').innerHTML = '<li><a href="x">a</a></li>';
"""


class Page:
    """What a person does on the page."""

    def __init__(self, browser, address):
        from selenium.webdriver.common import action_chains, by, keys

        self.browser, self._by, self._keys = browser, by.By, keys.Keys
        self._chain = lambda: action_chains.ActionChains(browser, duration=0)
        browser.get(address)

    def find(self, name):
        return self.browser.find_element(self._by.ID, name)

    def wait(self, condition, limit_s=120):
        end_s = time.monotonic() + limit_s
        while not (result := self.browser.execute_script(f'return {condition}')):
            assert time.monotonic() < end_s, (condition, self.text('alert'), self.text('hint'))
            time.sleep(0.05)
        return result

    def text(self, name):
        return self.browser.execute_script(
            'return document.getElementById(arguments[0]).textContent', name
        )

    def press(self, *keys):
        chain = self._chain()
        for key in keys:
            chain = chain.send_keys(getattr(self._keys, key, key))
        chain.perform()

    def press_with(self, modifier, key):
        held = getattr(self._keys, modifier)
        key = getattr(self._keys, key, key)
        self._chain().key_down(held).send_keys(key).key_up(held).perform()

    def drag(self, *points):
        """Draws through points (x, y) of the frame."""
        chain = self._move(self._chain(), points[0]).click_and_hold()
        for point in points[1:]:
            chain = self._move(chain, point)
        chain.release().perform()

    def click(self, *points):
        chain = self._chain()
        for point in points:
            chain = self._move(chain, point).click()
        chain.perform()

    def _move(self, chain, point):
        canvas = self.find('drawing')
        height, width = SIZE
        x = round((point[0] / width - 0.5) * canvas.size['width'])
        y = round((point[1] / height - 0.5) * canvas.size['height'])
        return chain.move_to_element_with_offset(canvas, x, y)

    def focus_frame(self):
        """By Tab, without a mouse; each element on the way must show its focus."""
        for _ in range(20):
            self.press('TAB')
            ring = self.browser.execute_script(f'{CONTRAST} return focusRing()')
            assert ring['contrast'] >= 3, ring
            if ring['id'] == 'drawing':
                return
        raise AssertionError('Tab does not reach the frame')

    def contrasts(self):
        found = self.browser.execute_script(f'{CONTRAST} return contrasts()')
        assert len(found) > 5
        return found

    def show(self, number):
        self.browser.execute_script(
            "const slider = document.getElementById('scrub'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'))",
            number,
        )
        self.wait(f"document.getElementById('drawing').dataset.frame === '{number}'")

    def ready(self):
        """Waits until a frame can be painted."""
        self.wait("document.getElementById('drawing').dataset.frame !== undefined")
        assert 'Draw a box around Object 1' in self.text('hint')

    def saved(self):
        self.wait("document.getElementById('saved').textContent.includes('All saved')")

    def idle(self):
        self.wait("document.getElementById('job').hidden")

    def check_console(self):
        assert self.browser.get_log('browser') == []


def read_mask(folder, number):
    return masks.read_labels(folder / 'masks' / f'{number:05d}.png', SIZE)


def test_a_video_is_marked_followed_corrected_reloaded_and_saved(
    open_browser, video, weights, tmp_path
):
    studio = Served(tmp_path / 'studio', weights)
    page = Page(open_browser((1366, 768)), studio.address)
    page.wait("!document.getElementById('start').hidden")
    page.find('file').send_keys(str(video))
    page.ready()
    folder = tmp_path / 'studio' / 'projects' / 'clip'

    # An object by the polygon, another by the brush.
    page.press('p')
    page.click((8, 12), (24, 12), (24, 28), (8, 28))
    page.press('ENTER')
    page.saved()
    np.testing.assert_array_equal(read_mask(folder, 0)[INSIDE], 1)
    assert np.count_nonzero(read_mask(folder, 0)) < 19 * 19
    page.press('n', 'b')
    page.drag((60, 60), (90, 60))
    page.saved()
    painted = read_mask(folder, 0)
    assert set(np.unique(painted)) == {0, 1, 2}
    assert painted[60, 75] == 2
    page.press_with('CONTROL', 'z')
    page.saved()
    page.wait("document.getElementById('saved').textContent.includes('All saved')")
    assert 2 not in read_mask(folder, 0)
    page.press_with('CONTROL', 'y')
    page.saved()
    np.testing.assert_array_equal(read_mask(folder, 0), painted)

    # Followed, stopped by key, corrected by eraser and fill, and continued from there.
    page.press('t')
    page.wait('Number(document.getElementById("progress").value) > 0.05')
    page.press('ESCAPE')
    page.idle()
    status = studio.ask('GET', 'api/status')[1]
    ((_, last),) = status['project']['masked']
    assert 1 <= last < NUM_FRAMES - 1
    assert status['last']['error'] is None
    page.show(last)
    before = read_mask(folder, last)
    page.press('1', 'f')
    page.click((150, 110))
    page.press_with('CONTROL', 'z')
    page.press('e')
    page.drag((5, 20), (60, 20))
    page.press('b')
    page.drag((100, 100), (104, 100))
    page.saved()
    corrected = read_mask(folder, last)
    assert not corrected[20, 6:55].any()
    assert corrected[100, 102] == 1
    assert np.any(before != corrected)
    page.press('t')
    page.wait(f'document.getElementById("number").value != "{last} / {NUM_FRAMES - 1}"')

    # The browser dies half-way; following continues, and a new browser shows all of it.
    page.check_console()
    page.browser.quit()
    studio.wait(lambda status: status['job'] is None)
    assert studio.ask('GET', 'api/status')[1]['project']['masked'] == [[0, NUM_FRAMES - 1]]
    np.testing.assert_array_equal(read_mask(folder, last), corrected)
    page = Page(open_browser((1366, 768)), studio.address)
    page.wait("document.querySelectorAll('#objects li').length == 2")
    page.find('save').click()
    page.wait("!document.getElementById('results').hidden")
    links = page.browser.execute_script(
        "return [...document.querySelectorAll('#results a')].map(a => a.getAttribute('href'))"
    )
    assert [studio.ask('GET', link)[0] for link in links] == [200] * 4
    assert len(list(open_video(folder / 'results' / 'overlay.mp4').read())) == NUM_FRAMES
    saved = masks.read_labels(folder / 'results' / 'masks' / f'{last:05d}.png', SIZE)
    np.testing.assert_array_equal(saved, corrected)

    # Back to the list, and the project opens again.
    page.find('leave').click()
    page.wait("document.querySelectorAll('#projects button').length == 1")
    page.browser.execute_script("document.querySelector('#projects button').click()")
    page.wait("!document.getElementById('editor').hidden")
    page.check_console()
    assert 'Traceback' not in studio.end()


def test_everything_can_be_done_by_keys(open_browser, video, weights, tmp_path):
    studio = Served(tmp_path / 'studio', weights, video)
    page = Page(open_browser((1366, 768)), studio.address)
    page.ready()
    page.press('b')
    page.focus_frame()
    page.press('ENTER', 'ARROW_RIGHT', 'ARROW_RIGHT', 'ENTER')  # pen down, a line, pen up
    page.press('ARROW_DOWN', 'ARROW_DOWN')
    page.saved()
    labels = read_mask(tmp_path / 'studio' / 'projects' / 'clip', 0)
    middle = (SIZE[0] // 2, SIZE[1] // 2)
    assert labels[middle] == 1
    assert labels[middle[0], middle[1] + 14] == 1
    assert not labels[middle[0] + 14, middle[1]]
    page.press('.', '.', ',')
    page.wait("document.getElementById('number').value.startsWith('1 /')")
    page.press('?')
    page.wait("document.getElementById('keys').open")
    assert 'follow forwards' in page.text('shortcuts')
    page.press('ESCAPE')
    # All buttons and fields have a name, and nothing is wider than the window.
    nameless = page.browser.execute_script(
        "return [...document.querySelectorAll('button, input, select')].filter(one => !one.hidden "
        '&& !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.title))'
        '.map(one => one.outerHTML)'
    )
    assert nameless == []
    fits = 'document.documentElement.scrollWidth <= innerWidth'
    assert page.browser.execute_script(f'return {fits}')
    page.check_console()
    assert json.loads(json.dumps(studio.ask('GET', 'api/status')[1]))['last'] is None
    studio.end()


def test_an_object_in_a_box_is_found_corrected_and_followed_by_keys_alone(
    open_browser, video, weights, tmp_path
):
    studio = Served(tmp_path / 'studio', weights, video)
    page = Page(open_browser((1366, 768)), studio.address)
    page.ready()
    folder = tmp_path / 'studio' / 'projects' / 'clip'
    truth = samples.first_mask(SIZE) == 1

    def overlap():
        found = read_mask(folder, 0) == 1
        return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)

    page.focus_frame()
    page.press('r', *['ARROW_LEFT'] * 10, *['ARROW_UP'] * 7, 'ENTER')
    page.press(*['ARROW_RIGHT'] * 4, *['ARROW_DOWN'] * 4, 'ENTER')
    page.wait("document.getElementById('said').textContent.includes('pixels in frame 0')")
    page.saved()
    assert overlap() > 0.9
    page.press_with('CONTROL', 'z')
    page.saved()
    assert page.text('said') == 'Undone'
    assert not read_mask(folder, 0).any()
    page.press_with('CONTROL', 'y')
    page.saved()
    assert overlap() > 0.9

    # A blot of the brush, and a scribble that says what is not the object.
    page.press('b', *['ARROW_RIGHT'] * 3, 'ENTER', 'ENTER')
    page.saved()
    assert overlap() < 0.9
    page.press('c')
    page.press_with('SHIFT', 'ENTER')
    page.press('ARROW_RIGHT', 'ARROW_LEFT', 'ARROW_UP', 'ENTER')
    page.wait("document.getElementById('said').textContent.includes('pixels in frame 0')")
    page.saved()
    assert overlap() > 0.9

    page.press('t')
    page.wait("document.getElementById('hint').textContent.includes('Every frame has masks')")
    assert studio.ask('GET', 'api/status')[1]['project']['masked'] == [[0, NUM_FRAMES - 1]]
    page.check_console()
    assert 'Traceback' not in studio.end()


def test_text_and_controls_stand_out_from_their_background(open_browser, video, weights, tmp_path):
    studio = Served(tmp_path / 'studio', weights)
    page = Page(open_browser((1366, 768)), studio.address)
    page.wait("!document.getElementById('start').hidden")
    scheme = page.browser.execute_script('return getComputedStyle(document.body).colorScheme')
    assert scheme == 'dark'  # the contrasts of another one would be checked too
    found = page.contrasts()
    page.find('file').send_keys(str(video))
    page.ready()
    page.browser.execute_script(SHOW_ALL)
    found += page.contrasts()
    page.browser.execute_script("document.getElementById('keys').showModal()")
    found += page.contrasts()
    assert [one for one in found if one[1] < one[2]] == []
    studio.end()


def test_the_later_of_two_tabs_gets_an_alert_and_loses_nothing(
    open_browser, video, weights, tmp_path
):
    studio = Served(tmp_path / 'studio', weights, video)
    one, two = (Page(open_browser((1366, 768)), studio.address) for _ in range(2))
    one.ready()
    two.ready()
    folder = tmp_path / 'studio' / 'projects' / 'clip'
    one.press('n', 'n', 'b')
    one.drag((20, 60), (60, 60))
    one.saved()
    first = read_mask(folder, 0)
    assert first[60, 40] == 3
    two.press('b')
    two.drag((100, 20), (140, 20))
    two.wait("document.getElementById('alert').textContent.includes('changed meanwhile')")
    np.testing.assert_array_equal(read_mask(folder, 0), first)
    two.press_with('CONTROL', 'z')
    two.saved()
    mine = read_mask(folder, 0)
    assert (mine[20, 120], mine[60, 40]) == (1, 0)
    # A list of objects that does not know of the third one does not remove it.
    two.press('n')
    two.wait("document.getElementById('alert').textContent.includes('list of objects was changed')")
    two.wait("document.querySelectorAll('#objects li').length == 3")
    assert len(studio.ask('GET', 'api/project')[1]['objects']) == 3
    studio.end()


def test_the_page_says_that_its_studio_has_ended(open_browser, video, weights, tmp_path):
    studio = Served(tmp_path / 'studio', weights, video)
    page = Page(open_browser(), studio.address)
    page.ready()
    studio.end(kill=True)
    page.wait("document.getElementById('alert').textContent.includes('Start it again')")
