"""Write records on Apache Beam, byte for byte as a local build does.

TFDS can write on Beam itself, but there it cuts shards by ranges of hashed keys, and locally by count. Here the
position of each example in its split is computed beforehand from all keys, and shards are cut by count.
"""

from __future__ import annotations

import bisect
import collections
import functools
import pathlib
import uuid
from collections.abc import Mapping, Sequence

import apache_beam as beam
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.hashing import Hasher
from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

from tfrecords_builder.beam_crops import PIXELS, read_lines, write_lines
from tfrecords_builder.beam_runner import BeamRunner
from tfrecords_builder.crops import Crop, restore_pixels
from tfrecords_builder.records import to_example, to_pair_example


def write_splits(
    crops: Sequence[Crop],
    *,
    features: tfds.features.FeaturesDict,
    size: int,
    paired: bool,
    templates: Mapping[str, tfds.core.ShardedFileTemplate],
    writer: tfds.core.ExampleWriter,
    runner: BeamRunner,
    folder: pathlib.Path,
) -> list[tfds.core.SplitInfo]:
    """Write the shards of all splits.

    Args:
        crops: The crops without their pixels. Each has its split.
        features: The schema of a record.
        size: Side of a crop in pixels.
        paired: Whether a record holds both eyes of a patient.
        templates: File name templates of the shards of each split.
        writer: Writes the examples of a shard.
        runner: Where the pipeline runs.
        folder: The folder in which `crop_on_beam` left the pixels.

    Returns:
        The SplitInfo of each split.
    """
    ranks = _ranks(crops, paired)
    counts = {split: len(ranks[split]) for split in templates}
    write_lines(folder / "places", enumerate(_positions(crops, ranks, paired)))
    serialize = functools.partial(
        _serialize,
        features=features,
        serializer=ExampleSerializer(features.get_serialized_info()),
        make_example=functools.partial(_pair_example, size=size) if paired else _single_example,
    )
    write = functools.partial(_write_shard, templates=templates, writer=writer, folder=folder)
    with runner.pipeline() as pipeline:
        examples = pipeline | _read_crops(folder) | beam.GroupByKey() | "serialize" >> beam.MapTuple(serialize)
        _ = examples | _group_by_shard(counts) | "write" >> beam.MapTuple(write)
    return [_split_info(split, counts[split], template) for split, template in templates.items()]


def _key(crop, paired):
    """The key of a crop's example, as a local build passes it to TFDS."""
    return crop.sample.group if paired else crop.sample.image_id


def _ranks(crops, paired):
    """{split: {key: rank}} in the order of TFDS, which shuffles by sorting hashes that are salted with the split."""
    keys = collections.defaultdict(set)
    for crop in crops:
        keys[crop.sample.split].add(_key(crop, paired))
    ordered = {split: sorted(names, key=Hasher(split).hash_key) for split, names in keys.items()}
    return {split: {key: rank for rank, key in enumerate(names)} for split, names in ordered.items()}


def _positions(crops, ranks, paired):
    """Yield the (split, rank) of each crop's example, the index of the crop, and the crop without its pixels."""
    for index, crop in enumerate(crops):
        split = crop.sample.split
        yield (split, ranks[split][_key(crop, paired)]), index, crop


@beam.ptransform_fn
def _read_crops(pipeline, folder):
    """((split, rank), (index, crop)) of each crop, with its pixels."""
    pixels = pipeline | "pixels" >> read_lines(folder / f"{PIXELS}-*") | "by name" >> beam.Values()
    positions = pipeline | "places" >> read_lines(folder / "places") | beam.Map(_by_image_id)
    return (positions, pixels) | beam.CoGroupByKey() | beam.FlatMapTuple(_with_pixels)


def _by_image_id(line):
    _, position = line
    return position[-1].sample.image_id, position


def _with_pixels(image_id, positions_and_pixels):
    """Join a crop with its pixels. There is no position for a crop that the audit or the splits left out."""
    positions, pixels = positions_and_pixels
    for example, index, crop in positions:
        yield example, (index, restore_pixels(crop, *next(iter(pixels))))


def _single_example(crops):
    return to_example(crops[0])


def _pair_example(crops, size):
    return to_pair_example({crop.sample.eye: crop for crop in crops}, size)


def _serialize(position, indexed_crops, *, features, serializer, make_example):
    crops = [crop for _, crop in sorted(indexed_crops, key=lambda indexed: indexed[0])]
    return position, serializer.serialize_example(features.encode_example(make_example(crops)))


@beam.ptransform_fn
def _group_by_shard(examples, counts):
    """((split, shard, number of shards), [(rank, serialized)]). The number of shards depends on the split's bytes."""
    sizes = examples | "size" >> beam.MapTuple(_size) | beam.CombinePerKey(sum)
    placed = examples | "shard" >> beam.Map(_with_shard, counts=counts, sizes=beam.pvalue.AsDict(sizes))
    return placed | beam.GroupByKey()


def _size(position, serialized):
    return position[0], len(serialized)


def _with_shard(element, counts, sizes):
    (split, rank), serialized = element
    shards = ShardConfig().get_number_shards(sizes[split], counts[split])
    return (split, bisect.bisect_right(get_shard_boundaries(counts[split], shards), rank), shards), (rank, serialized)


def _write_shard(shard, examples, *, templates, writer, folder):
    """Write a shard to a temporary file and rename it, because a runner may give the same work to two workers.

    The temporary file of a worker that is killed is deleted with the folder.
    """
    split, index, shards = shard
    unfinished = folder / f"unfinished-{uuid.uuid4().hex}"
    writer.write(unfinished, sorted(examples))
    unfinished.rename(templates[split].sharded_filepath(shard_index=index, num_shards=shards))


def _split_info(split, count, template):
    paths = sorted(template.data_dir.glob(f"*-{split}.*"))
    ends = get_shard_boundaries(count, len(paths))
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    size = sum(path.stat().length for path in paths) - count * ShardConfig.overhead
    return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)
