"""TFDS builders of the data sets: features, version and description of what is prepared.

data_prep.prepare writes the shards, over all cores and with resume; the builders say what is in
them, and write the files by which TFDS reads them.
"""

import numpy as np
import tensorflow_datasets as tfds

from data_prep.builders import DATA_SETS
from data_prep.builders.files import FileTree
from data_prep.builders.videos import read_video


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One example for each video, or photograph.

    Features:
      name: of the video.
      height, width: of all its frames.
      frames: encoded images, in time order, as published (JPEG).
      frame_names: of each of them, such as '00005'.
      masks: PNG of one channel, 0 background, 1..254 object ids, 255 void.
      mask_frames: the frame of each mask; training sets have one for each frame.
      objects: id, category ('' where the set has none) and first annotated frame of each.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'Put the data set as published, folder or archives, there.'
    name = 'video'
    data_set = None

    def _info(self):
        text, number = tfds.features.Text(), tfds.features.Scalar(dtype=np.int32)
        image = tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg')
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format='png')
        features = {
            'name': text,
            'height': number,
            'width': number,
            'frames': tfds.features.Sequence(image),
            'frame_names': tfds.features.Sequence(text),
            'masks': tfds.features.Sequence(mask),
            'mask_frames': tfds.features.Sequence(text),
            'objects': tfds.features.Sequence(
                {'id': number, 'category': text, 'first_frame': text}
            ),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.data_set.description,
            features=tfds.features.FeaturesDict(features),
            homepage=self.data_set.homepage,
            license=self.data_set.licence,
            citation=self.data_set.citation,
        )

    def _split_generators(self, dl_manager):
        tree = FileTree([dl_manager.manual_dir])
        listed = {s: self.data_set.list_split(tree, s, {})[0] for s in self.data_set.splits}
        return {split: self._generate_examples(v) for split, v in listed.items() if v}

    def _generate_examples(self, videos):
        for video in videos:
            yield video.name, read_video(video)[0]


def _define(data_set):
    """The builder's class: 'youtube_vos2018' is YoutubeVos2018."""
    name = ''.join(part.capitalize() for part in data_set.name.split('_'))
    fields = {'name': data_set.name, 'data_set': data_set, '__module__': __name__}
    return type(name, (VideoBuilder,), fields, skip_registration=True)


BUILDERS = {name: _define(data_set) for name, data_set in DATA_SETS.items()}
Davis2016, Davis2017, YoutubeVos2018, YoutubeVos2019, StaticImages = BUILDERS.values()


def write_info(name, root, folder, splits):
    """Writes dataset_info.json and features.json, by which TFDS reads the shards in `folder`.

    `splits`: dict of split -> (videos of each shard, bytes of all); `root` is above the data set.
    """
    builder = BUILDERS[name](data_dir=root, file_format='array_record')
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, filetype_suffix='array_record'
    )
    infos = [
        tfds.core.SplitInfo(split, lengths, num_bytes, template.replace(split=split))
        for split, (lengths, num_bytes) in splits.items()
    ]
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(folder)


def version_folder(name, root):
    """Where TFDS looks for a data set below `root`."""
    return BUILDERS[name](data_dir=root).data_dir
