"""Writes the shards of a data set: each whole or not at all, each the same whoever writes it.

Which videos a shard holds follows from the names and sizes of the published files alone, and its
bytes from their content. So any number of processes, or Apache Beam, give equal files, and a run
that was killed resumes with the shards that are missing.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from data_prep.builders.videos import Video, read_video
from vos_jax.data import prepared
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.atomic import remove_leftovers, temporary_path, write_bytes
from vos_jax.storage.json_files import read_json, write_json

SHARD_BYTES = 64 * 2**20
_MIN_SHARDS = 16  # of a split, so that small sets use all cores too
_OPTIONS = 'group_size:1,uncompressed'  # JPEG does not shrink; prepared.py reads parts of records
PLAN = 'plan.json'
_RECORD = {'file': str, 'bytes': int, 'videos': [dict]}


@dataclasses.dataclass(frozen=True)
class Job:
    """One shard to write."""

    path: Path
    videos: tuple[Video, ...]

    @property
    def record(self):
        """File that says that the shard is done, and what is in it."""
        return self.path.with_name(f'{self.path.name}.json')


def make_jobs(folder, name, splits):
    """Deals the videos of each split, in the order of their names, to shards: Jobs by split."""
    jobs = {}
    for split, videos in splits.items():
        groups = deal(videos)
        jobs[split] = [
            Job(folder / f'{name}-{split}.array_record-{i:05d}-of-{len(groups):05d}', tuple(group))
            for i, group in enumerate(groups)
        ]
    return jobs


def deal(videos):
    """Groups of neighbours of about equal bytes."""
    total = sum(video.num_bytes + 1 for video in videos)
    count = min(max(_MIN_SHARDS, -(-total // SHARD_BYTES)), len(videos))
    groups, seen = [[] for _ in range(count)], 0
    for position, video in enumerate(videos):
        # Never so late that a shard would stay empty.
        floor = position - (len(videos) - count)
        number = max(seen * count // total, floor, 0)
        groups[min(number, count - 1)].append(video)
        seen += video.num_bytes + 1
    return [group for group in groups if group]


def plan_of(jobs, options):
    """What must be equal for a run to resume where another ended: text of JSON."""
    shards = {
        job.path.name: hashlib.sha256(
            '\n'.join(f'{v.name} {v.num_bytes} {len(v.frames)} {len(v.masks)}' for v in job.videos)
            .encode()
        ).hexdigest()[:16]
        for group in jobs.values()
        for job in group
    }  # fmt: skip
    return json.dumps({'format': prepared.FORMAT, 'options': options, 'shards': shards}, indent=1)


def write_shard(job, report=lambda num_videos: None):
    """Writes one shard and its record, unless both are there; calls report(1) for each video."""
    from array_record.python import array_record_module

    if job.record.is_file() and job.path.is_file():
        report(len(job.videos))
        return
    part = temporary_path(job.path)
    try:
        writer = array_record_module.ArrayRecordWriter(str(part), _OPTIONS)
        entries = []
        for video in job.videos:
            example, _ = read_video(video)
            writer.write(encode_example(flatten(example)))
            entries.append(example | {'shard': job.path.name})
            report(1)
        writer.close()
        _find_parts(part, entries)
        num_bytes = part.stat().st_size
        os.replace(part, job.path)
    finally:
        part.unlink(missing_ok=True)
    record = {'file': job.path.name, 'bytes': num_bytes, 'videos': entries}
    write_json(job.record, record, indent=None)


def flatten(example):
    """Lists of bytes and integers by name, as TFDS stores the example."""
    objects = example['objects']
    return {
        'name': [example['name'].encode()],
        'height': [example['height']],
        'width': [example['width']],
        'frames': example['frames'],
        'frame_names': [name.encode() for name in example['frame_names']],
        'masks': example['masks'],
        'mask_frames': [name.encode() for name in example['mask_frames']],
        'objects/id': [item['id'] for item in objects],
        'objects/category': [item['category'].encode() for item in objects],
        'objects/first_frame': [item['first_frame'].encode() for item in objects],
    }


def encode_example(features):
    """Encodes a record as tf.train.Example; equal features give equal bytes.

    Args:
      features: dict of name -> list of bytes, or list of int.
    """
    # Here: slow to load, and listing a data set does without.
    from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

    example = Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        is_of_ints = all(isinstance(value, int) for value in values)
        (feature.int64_list if is_of_ints else feature.bytes_list).value.extend(values)
    return example.SerializeToString(deterministic=True)


def decode_example(data):
    """Decodes a record: dict of name -> list of bytes or int; ValueError where it is none."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

    try:
        features = Example.FromString(bytes(data)).features.feature
    except DecodeError as error:
        raise ValueError(f'not a tf.train.Example ({error})') from None
    return {
        name: list((part.bytes_list if part.HasField('bytes_list') else part.int64_list).value)
        for name, part in features.items()
    }


def _find_parts(path, entries):
    """Turns the examples into entries of the index: places of frames and masks for their bytes."""
    content, position = prepared.without_headers(path.read_bytes()), 0
    for number, example in enumerate(entries):
        entry = {name: example[name] for name in ('name', 'shard', 'height', 'width')}
        entry |= {'frames': example['frame_names'], 'masks': example['mask_frames']}
        for kind in ('frame', 'mask'):  # the order of their names in the record
            where = f'{path}: {kind} of {example["name"]}'
            places = _places(content, position, example[f'{kind}s'], where)
            position = sum(places[-1][:2]) if places else position
            entry[f'{kind}_parts'] = places
        entries[number] = entry | {'objects': example['objects']}


def _places(content, position, parts, where):
    """(position, length, CRC-32) of byte strings that follow one another from a position on."""
    places = []
    for data in parts:
        position = content.find(data, position)
        if position < 0:
            raise RuntimeError(f'{where} not found in it')
        places.append((position, len(data), checksum.of_bytes(data)))
        position += len(data)
    return places


def finish(name, root, work, folder, jobs, options):
    """Writes what describes the whole set, and renames its folder `work` to `folder`.

    Args:
      name: of the data set.
      root: folder above that of the data set.
      jobs: dict of split -> Jobs.
      options: of the preparation, kept for later runs.

    Returns:
      content of videos.json.
    """
    from data_prep.builders import tfds_builders

    index = {'format': prepared.FORMAT, 'name': name, 'options': options, 'splits': {}}
    lengths = {}
    for split, group in jobs.items():
        remedy = f'delete {work} to start again'
        records = [read_json(job.record, _RECORD, remedy) for job in group]
        for record in records:
            prepared.check_shard_size(work / record['file'], record['bytes'])
        index['splits'][split] = {
            'shards': [{'file': r['file'], 'bytes': r['bytes']} for r in records],
            'videos': [video for record in records for video in record['videos']],
        }
        lengths[split] = [len(r['videos']) for r in records], sum(r['bytes'] for r in records)
    tfds_builders.write_info(name, root, work, lengths)
    prepared.write_index(work, index)
    for group in jobs.values():
        for job in group:
            job.record.unlink()
    (work / PLAN).unlink(missing_ok=True)
    remove_leftovers(work)  # of a process that ended later than the run that was killed
    os.replace(work, folder)
    return index


def open_work(work, plan):
    """Begins in the working folder, or resumes there; refuses one of another `plan_of`."""
    path = work / PLAN
    if path.is_file() and path.read_text() != plan:
        raise InputError(
            f'{work}: begun from other files or with other settings; delete this folder to start '
            'again'
        )
    remove_leftovers(work)
    write_bytes(path, plan.encode())
