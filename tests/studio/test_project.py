"""Projects, following and saving, without the page."""

import contextlib
import json
import zipfile
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from tests.video import samples
from vos_jax.data import masks
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter
from vos_jax.studio.app import ranges
from vos_jax.studio.library import Library
from vos_jax.studio.project import Project, new_object
from vos_jax.studio.requests import Refused
from vos_jax.studio.saving import save_results
from vos_jax.studio.tracking import Tracking
from vos_jax.video.reader import open_video

NUM_FRAMES = 9
ONE = np.where(samples.first_mask() == 1, 1, 0).astype(np.uint8)
TWO = np.where(samples.first_mask() == 5, 2, 0).astype(np.uint8)


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    path = samples.write_weights(tmp_path_factory.mktemp('weights') / 'tiny.npz')
    return Segmenter.from_pretrained(path)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    return samples.write_video(path, [samples.draw(n) for n in range(NUM_FRAMES)])


@pytest.fixture
def project(tmp_path, video):
    made = Project(tmp_path / 'project', video)
    assert made.frames.wait_for(NUM_FRAMES - 1)
    yield made
    made.close()


def follow(segmenter, project, start, direction=1, stop_after=99, size=0):
    run = Tracking(segmenter, project, start, direction, size)
    done = []
    for number in run.run(lambda: len(done) >= stop_after):
        done.append(number)
    return done


def test_following_is_what_the_segmenter_does(segmenter, project):
    project.paint(0, ONE)
    assert follow(segmenter, project, 0) == [*range(1, NUM_FRAMES)]
    images = [project.frames.image(n, project.size) for n in range(NUM_FRAMES)]
    for number, wanted in enumerate(segmenter.segment(images, ONE)):
        np.testing.assert_array_equal(project.mask(number), wanted)


def test_following_backwards_is_following_the_reversed_video(segmenter, project):
    project.paint(5, ONE)
    assert follow(segmenter, project, 5, -1) == [4, 3, 2, 1, 0]
    assert project.masked == {0, 1, 2, 3, 4, 5}
    images = [project.frames.image(n, project.size) for n in (5, 4, 3)]
    *_, wanted = segmenter.segment(images, ONE)
    np.testing.assert_array_equal(project.mask(3), wanted)


def test_following_resumes_where_it_was_stopped_and_corrected(segmenter, project):
    project.paint(0, ONE)
    assert follow(segmenter, project, 0, stop_after=4) == [1, 2, 3, 4]
    before = [project.mask(n) for n in range(4)]
    correction = np.roll(ONE, 9, axis=1)
    project.paint(4, correction)
    assert follow(segmenter, project, 4) == [5, 6, 7, 8]
    np.testing.assert_array_equal(project.mask(4), correction)
    for number, labels in enumerate(before):
        np.testing.assert_array_equal(project.mask(number), labels)
    assert project.given == {0: [1], 4: [1]}


def test_what_was_painted_is_never_overwritten(segmenter, project):
    project.set_objects([new_object(1), new_object(2)])
    project.paint(0, ONE)
    project.paint(3, np.roll(ONE, 5, axis=0))
    project.paint(4, TWO)  # says nothing about object 1
    follow(segmenter, project, 0)
    np.testing.assert_array_equal(project.mask(3), np.roll(ONE, 5, axis=0))
    found = project.mask(4)
    np.testing.assert_array_equal(found == 2, TWO == 2)
    assert 1 in found
    assert 2 not in project.mask(2)


def test_an_erased_object_stays_erased_in_that_frame(segmenter, project):
    project.paint(0, ONE)
    follow(segmenter, project, 0, stop_after=3)
    project.paint(2, np.zeros_like(ONE))
    assert project.given[2] == [1]
    follow(segmenter, project, 0)
    assert not project.mask(2).any()


@pytest.mark.slow
def test_a_smaller_working_size_keeps_the_size_of_the_masks(segmenter, project):
    project.paint(0, ONE)
    project.paint(2, np.roll(ONE, 4, axis=1))
    follow(segmenter, project, 0, size=32)
    np.testing.assert_array_equal(project.mask(2), np.roll(ONE, 4, axis=1))
    assert project.mask(8).shape == samples.SIZE


def test_following_from_a_frame_without_an_object_is_refused(segmenter, project):
    project.paint(3, np.zeros_like(ONE))
    with pytest.raises(InputError, match='frame 3 shows no object'):
        follow(segmenter, project, 3)


def test_a_project_reopens_as_it_was(segmenter, project, video):
    objects = [{'id': 1, 'name': 'Ä <b>', 'colour': '#102030'}, new_object(7)]
    project.set_objects(objects)
    project.paint(0, ONE)
    follow(segmenter, project, 0, stop_after=2)
    project.close()
    again = Project(project.folder, video)
    assert (again.objects, again.given, again.masked) == (objects, {0: [1]}, {0, 1, 2})
    assert not again.frames.is_reading
    assert again.frames.names == project.frames.names
    np.testing.assert_array_equal(again.mask(2), project.mask(2))


def test_removed_objects_leave_all_masks(project):
    project.set_objects([new_object(1), new_object(2)])
    project.paint(0, np.where(TWO > 0, TWO, ONE))
    project.set_objects([new_object(2)])
    np.testing.assert_array_equal(project.mask(0), TWO)
    np.testing.assert_array_equal(project.given_mask(0)[0], TWO)
    assert project.given == {0: [2]}


def test_masks_found_later_show_nothing_of_removed_objects(project):
    project.store(1, np.where(TWO > 0, TWO, ONE))
    np.testing.assert_array_equal(project.mask(1), ONE)


WRONG_OBJECTS = {
    'twice': [new_object(1), new_object(1)],
    'id 0': [{**new_object(1), 'id': 0}],
    'colour': [{**new_object(1), 'colour': 'red'}],
    'too many': [new_object(n) for n in range(1, 100)],
}


@pytest.mark.parametrize('objects', WRONG_OBJECTS.values(), ids=WRONG_OBJECTS.keys())
def test_wrong_objects_are_refused(project, objects):
    with pytest.raises(InputError, match='object'):
        project.set_objects(objects)
    assert project.ids() == [1]


def test_masks_of_unknown_objects_or_frames_are_refused(project):
    with pytest.raises(InputError, match=r'ids \[2\], which are no objects'):
        project.paint(0, TWO)
    with pytest.raises(InputError, match='frame 99'):
        project.paint(99, ONE)
    assert not project.masked


def test_results_are_in_the_size_and_at_the_times_of_the_video(segmenter, project):
    project.set_objects([{'id': 1, 'name': 'square', 'colour': '#0000ff'}])
    project.paint(2, ONE)
    follow(segmenter, project, 2)
    assert len(list(save_results(project, lambda: False))) == NUM_FRAMES
    results = project.folder / 'results'
    with zipfile.ZipFile(results / 'masks.zip') as archive:
        assert archive.namelist() == [f'masks/{n:05d}.png' for n in range(2, NUM_FRAMES)]
    np.testing.assert_array_equal(masks.read_labels(results / 'masks' / '00002.png'), ONE)
    movie = list(open_video(results / 'overlay.mp4').read())
    assert len(movie) == NUM_FRAMES
    tint = movie[2].image[16:24, 14:20].mean(axis=(0, 1))
    assert tint[2] > tint[0] + 20, 'not in the colour of the object'
    summary = json.loads((results / 'summary.json').read_text())
    assert summary['objects']['1']['area_px'][0] == np.count_nonzero(ONE)
    assert summary['painted_frames'] == ['00002']


def test_a_stopped_saving_leaves_no_half_video(project):
    project.paint(0, ONE)
    with pytest.raises(InputError, match='nothing is lost'):
        list(save_results(project, lambda: True))
    assert not list((project.folder / 'results').glob('*.mp4'))


def test_a_wide_video_is_painted_smaller_and_saved_at_its_size(tmp_path):
    image = np.zeros((34, 2400, 3), np.uint8)
    path = samples.write_video(tmp_path / 'wide.mp4', [image] * 2)
    project = Project(tmp_path / 'project', path)
    project.frames.wait_for(1)
    assert project.size == (27, 1920)
    labels = np.zeros(project.size, np.uint8)
    labels[:, :960] = 1
    project.paint(0, labels)
    list(save_results(project, lambda: False))
    saved = masks.read_labels(project.folder / 'results' / 'masks' / '00000.png', (34, 2400))
    assert np.count_nonzero(saved) == 34 * 1200


def test_a_cut_off_video_is_used_up_to_the_damage(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, *samples.SIZE, 3), np.uint8)
    broken = samples.write_video(tmp_path / 'broken.mp4', noise)
    broken.write_bytes(broken.read_bytes()[:-50_000])
    project = Project(tmp_path / 'project', broken)
    project.frames.wait_for(10**6)
    assert 0 < project.frames.count < 20
    assert 'ends after frame' in project.frames.damage
    project.paint(0, ONE)
    assert len(list(save_results(project, lambda: False))) == project.frames.count


def test_the_library_opens_nothing_outside_of_its_folder(tmp_path, video):
    library = Library(tmp_path / 'studio', 1)
    outside = samples.write_video(tmp_path / 'secret.mp4', [samples.draw(0)] * 2)
    (library.folder / 'link.mp4').symlink_to(outside)
    for path in ('../secret.mp4', str(outside), 'link.mp4', 'videos/../../secret.mp4'):
        with pytest.raises(InputError, match='outside of'):
            library.find_video(path)
    for name in ('..', '../..', '/etc', '../videos'):
        with pytest.raises(InputError, match=r'outside of|no such project'):
            library.find_project(name)
    library.trust(outside)
    folder, video = library.find_video(str(outside))
    assert (folder, video) == (library.folder / 'projects' / 'secret', outside)
    Project(folder, video).close()
    assert library.find_video(str(outside)) == library.find_project('secret') == (folder, outside)
    assert library.listing()['projects'] == ['secret']
    assert library.listing()['videos'] == ['link.mp4']
    library.close()


@pytest.mark.parametrize(
    ('name', 'wanted'),
    [
        ('a b/../c d.mp4', 'c_d.mp4'),
        ('..\\..\\x.MOV', 'x.MOV'),
        ('.hidden.mp4', 'hidden.mp4'),
        ('Ünï.webm', 'Ünï.webm'),
        ('clip.mp4', 'clip-2.mp4'),
    ],
)
def test_uploads_get_a_plain_free_name(tmp_path, name, wanted):
    library = Library(tmp_path, 1)
    (library.folder / 'videos' / 'clip.mp4').touch()
    assert library.upload_path(name) == library.folder / 'videos' / wanted
    with pytest.raises(InputError, match='no video; known are mp4'):
        library.upload_path('page.html')
    library.close()


def test_a_damaged_project_file_is_refused(project, video):
    project.close()
    (project.folder / 'project.json').write_text('{"format": 1, "video"')
    with pytest.raises(InputError, match=r'project\.json: .*; open the video again'):
        Project(project.folder, video)


def test_a_changed_byte_is_refused_and_never_used(project, video):
    project.paint(0, ONE)
    project.close()
    image = project.frames.image(0, project.size)
    seed = np.random.default_rng(3)
    for name in ('project.json', 'masks/00000.png', 'frames/index.json', 'frames/00000.jpg'):
        path = project.folder / name
        whole = path.read_bytes()
        for at in seed.choice(len(whole), 12, replace=False):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(at) % 8]) + whole[at + 1 :])
            with contextlib.suppress(InputError), contextlib.ExitStack() as stack:
                again = Project(project.folder, video)
                stack.callback(again.close)
                again.frames.wait_for(NUM_FRAMES - 1)
                assert (again.objects, again.given) == (project.objects, project.given)
                np.testing.assert_array_equal(again.mask(0), ONE)
                np.testing.assert_array_equal(again.frames.image(0, again.size), image)
        path.write_bytes(whole)


def test_a_project_of_an_earlier_version_needs_no_checksum(project, video):
    project.close()
    path = project.folder / 'project.json'
    stored = json.loads(path.read_text())
    del stored['checksum'], stored['removed']
    path.write_text(json.dumps(stored | {'format': 1}))
    Project(project.folder, video).close()
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match='differs from its checksum'):
        Project(project.folder, video)


def test_the_later_of_two_writers_is_refused(project):
    seen = project.version_of(project.mask(0))
    project.paint(0, ONE, seen)
    project.paint(0, ONE, seen)  # again: the answer was lost
    with pytest.raises(Refused, match='changed meanwhile') as caught:
        project.paint(0, 0 * ONE, seen)
    assert caught.value.status == 409
    with pytest.raises(Refused, match='changed meanwhile'):
        project.forget(0, seen)
    np.testing.assert_array_equal(project.mask(0), ONE)
    project.forget(0, project.version_of(ONE))
    assert project.mask(0) is None


def test_of_writers_at_the_same_time_one_wins(project):
    project.set_objects([new_object(n) for n in range(1, 9)])
    seen = project.version_of(project.mask(0))

    def write(number):
        try:
            return project.paint(0, number * ONE, seen) or number
        except Refused:
            return None

    with futures.ThreadPoolExecutor(8) as threads:
        (won,) = filter(None, threads.map(write, range(1, 9)))
    np.testing.assert_array_equal(project.mask(0), won * ONE)
    assert project.given == {0: [won]}


def test_a_stale_list_erases_no_object(project):
    seen = project.version_of(project.objects)
    project.set_objects([new_object(1), new_object(2)], seen)
    project.paint(0, TWO)
    with pytest.raises(Refused, match='list of objects was changed meanwhile'):
        project.set_objects([new_object(1)], seen)
    np.testing.assert_array_equal(project.mask(0), TWO)


def test_what_is_painted_while_a_frame_is_followed_stays(project):
    found = np.roll(ONE, 7, axis=1)
    project.paint(1, ONE)
    project.store(1, found)
    np.testing.assert_array_equal(project.mask(1), ONE)


def test_a_change_that_cannot_be_written_is_undone(project):
    project.paint(0, ONE)
    (project.folder / 'project.json').unlink()
    (project.folder / 'project.json').mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match='directory'):
        project.set_objects([new_object(1), new_object(2)])
    with pytest.raises(OSError, match='directory'):
        project.forget(0)
    assert (project.ids(), project.given, project.masked) == ([1], {0: [1]}, {0})
    np.testing.assert_array_equal(project.mask(0), ONE)
    (project.folder / 'project.json').rmdir()


def test_a_killed_removal_is_completed_at_the_next_opening(project, video):
    project.set_objects([new_object(1), new_object(2)])
    project.paint(0, TWO)
    project.save([new_object(1)], removed={2})  # killed here
    project.close()
    again = Project(project.folder, video)
    assert not again.mask(0).any()
    assert json.loads((project.folder / 'project.json').read_text())['removed'] == []
    again.close()


def test_a_project_is_open_once_and_closed_for_good(project, video):
    with pytest.raises(InputError, match='in use by another process; close this project'):
        Project(project.folder, video)
    project.close()
    with pytest.raises(Refused, match='is closed'):
        project.paint(0, ONE)
    (project.folder / 'project.json').write_text('damaged')
    for _ in range(2):  # a refusal releases the folder
        with pytest.raises(InputError, match='open the video again'):
            Project(project.folder, video)


def test_frames_of_a_folder_are_upright_as_for_vos_segment(tmp_path):
    folder = tmp_path / 'frames'
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter
    for number in range(2):
        Image.fromarray(samples.draw(number)).save(folder / f'{number}.jpg', exif=exif, quality=95)
    project = Project(tmp_path / 'project', folder)
    project.frames.wait_for(1)
    assert project.size == samples.SIZE[::-1]
    shown = project.frames.image(1, project.size)
    wanted = [frame.image for frame in open_video(folder).read()][1]  # what vos-segment reads
    assert np.abs(shown.astype(int) - wanted).mean() < 4  # a JPEG of a JPEG
    np.testing.assert_allclose(np.rot90(samples.draw(1), -1)[20, 30], shown[20, 30], atol=12)
    upright = np.ascontiguousarray(np.rot90(ONE, -1))
    project.paint(0, upright)
    list(save_results(project, lambda: False))
    np.testing.assert_array_equal(
        masks.read_labels(project.folder / 'results' / 'masks' / '0.png'), upright
    )
    project.close()


def test_ranges_name_each_frame_once():
    assert ranges([]) == []
    assert ranges({5, 1, 2, 3}) == [[1, 3], [5, 5]]
