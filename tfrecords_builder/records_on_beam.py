"""Records written as work of Apache Beam, byte for byte those of a local build.

TFDS would write them on Beam itself, but there it cuts shards by ranges of hashed keys, and locally by count. Here the
caller, who knows all keys, says which place in its split each example has, and shards are cut by count.
"""

import bisect
import collections
import functools
import uuid

import apache_beam as beam
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.hashing import Hasher
from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

from tfrecords_builder.beam_crops import PIXELS, read_lines, write_lines
from tfrecords_builder.crops import with_pixels
from tfrecords_builder.records import to_example, to_pair


def write_splits(crops, *, features, size, paired, templates, writer, runner, folder):
    """Writes the shards of all splits; returns TFDS's note of each. `folder` is where `crop_on_beam` left the pixels."""
    ranks = _ranks(crops, paired)
    counts = {split: len(ranks[split]) for split in templates}
    write_lines(folder / "places", enumerate(_places(crops, ranks, paired)))
    serialize = functools.partial(
        _serialize,
        features=features,
        serializer=ExampleSerializer(features.get_serialized_info()),
        to_example=functools.partial(_pair, size=size) if paired else _single,
    )
    write = functools.partial(_write, templates=templates, writer=writer, folder=folder)
    with runner.pipeline() as pipeline:
        examples = pipeline | _crops(folder) | beam.GroupByKey() | "serialize" >> beam.MapTuple(serialize)
        _ = examples | _shards(counts) | "write" >> beam.MapTuple(write)
    return [_split_info(split, counts[split], template) for split, template in templates.items()]


def _key(crop, paired):
    """The key of a crop's example, as a local build gives it to TFDS."""
    return crop.sample.group if paired else crop.sample.image_id


def _ranks(crops, paired):
    """{split: {key: rank}} in the order of TFDS: it shuffles by sorting hashes that are salted with the split."""
    keys = collections.defaultdict(set)
    for crop in crops:
        keys[crop.sample.split].add(_key(crop, paired))
    ordered = {split: sorted(names, key=Hasher(split).hash_key) for split, names in keys.items()}
    return {split: {key: rank for rank, key in enumerate(names)} for split, names in ordered.items()}


def _places(crops, ranks, paired):
    """(split, rank in it) of each crop's example, the crop's number, and the crop without its pixels."""
    for number, crop in enumerate(crops):
        split = crop.sample.split
        yield (split, ranks[split][_key(crop, paired)]), number, crop


@beam.ptransform_fn
def _crops(pipeline, folder):
    """((split, rank), (number, crop)), whole again."""
    pixels = pipeline | "pixels" >> read_lines(folder / f"{PIXELS}-*") | "by name" >> beam.Values()
    places = pipeline | "places" >> read_lines(folder / "places") | beam.Map(_by_image_id)
    return (places, pixels) | beam.CoGroupByKey() | beam.FlatMapTuple(_joined)


def _by_image_id(line):
    _, place = line
    return place[-1].sample.image_id, place


def _joined(image_id, found):
    """Nothing for a crop that the audit or the splits left out."""
    places, pixels = found
    for example, number, crop in places:
        yield example, (number, with_pixels(crop, *next(iter(pixels))))


def _single(crops):
    return to_example(crops[0])


def _pair(crops, size):
    return to_pair({crop.sample.eye: crop for crop in crops}, size)


def _serialize(example, numbered, *, features, serializer, to_example):
    crops = [crop for _, crop in sorted(numbered, key=lambda n: n[0])]
    return example, serializer.serialize_example(features.encode_example(to_example(crops)))


@beam.ptransform_fn
def _shards(examples, counts):
    """((split, shard, number of shards), [(rank, serialized)]); the number follows from the bytes in the split."""
    sizes = examples | "size" >> beam.MapTuple(_size) | beam.CombinePerKey(sum)
    placed = examples | "shard" >> beam.Map(_in_shard, counts=counts, sizes=beam.pvalue.AsDict(sizes))
    return placed | beam.GroupByKey()


def _size(example, serialized):
    return example[0], len(serialized)


def _in_shard(element, counts, sizes):
    (split, rank), serialized = element
    shards = ShardConfig().get_number_shards(sizes[split], counts[split])
    return (split, bisect.bisect_right(get_shard_boundaries(counts[split], shards), rank), shards), (rank, serialized)


def _write(shard, examples, *, templates, writer, folder):
    """In one rename, as a runner may give the same work to two workers; what a killed one leaves goes with the folder."""
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
