"""The settings of one build: crop options, split shares, and the folders that it reads and writes."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable

from dr_tf.buckets.urls import join
from tfrecords_builder.beam_runner import BeamRunner

VERSION = "1.0.0"  # of the record schema: the last folder of a record set's path


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that determine how an image becomes a record.

    The field names are stored in the fingerprint of each record set, so renaming one makes every record set stale.
    """

    image_size: int = 512
    enhancement: str = "plain"
    quality: int = 95  # of the JPEG
    max_megapixels: float = 200
    paired: bool = False
    audit: str = "on"  # on, strict or off

    @property
    def config_name(self) -> str:
        """The TFDS config name, e.g. 512-plain-q95 or 512-plain-q95-paired."""
        return f"{self.image_size}-{self.enhancement}-q{self.quality}" + ("-paired" if self.paired else "")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a build needs besides the listing of images.

    Attributes:
        name: Name of the record set.
        source: Folder of the published data set.
        records: Folder below which record sets are written.
        bucket: URL of the folder in a bucket that the finished record set is uploaded to; "" for none.
        options: How an image becomes a record.
        shares: Share of each split, for images without a published split. The shares sum to 1.
        seed: Seed of the splits and folds.
        folds: Number of cross-validation folds in folds.csv.
        workers: Number of worker processes.
        overwrite: Whether to replace a record set that exists.
        beam_runner: The Apache Beam runner that crops and writes, instead of local worker processes.
        starting: Returns the context manager in which TensorFlow is imported for the first time.
    """

    name: str
    source: pathlib.Path
    records: pathlib.Path
    options: Options
    shares: dict[str, float]
    seed: int = 0
    folds: int = 5
    bucket: str = ""
    workers: int = 2
    overwrite: bool = False
    beam_runner: BeamRunner | None = None
    starting: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    @property
    def target(self) -> pathlib.Path:
        """The folder of the finished record set: RECORDS/NAME/CONFIG/VERSION."""
        return self.records / self.name / self.options.config_name / VERSION

    @property
    def address(self) -> str:
        """Where the finished record set is for its user: the target, or its URL in the bucket."""
        parts = self.name, self.options.config_name, VERSION
        return join(self.bucket, *parts) if self.bucket else str(self.target)

    @property
    def staging(self) -> pathlib.Path:
        """The hidden folder that holds everything until the build is complete."""
        return self.records / f".building-{self.name}-{self.options.config_name}"

    @property
    def beam_folder(self) -> pathlib.Path:
        """The folder through which Apache Beam workers and this process exchange files."""
        return self.staging / "beam"

    @property
    def replaced(self) -> pathlib.Path:
        """The hidden folder that holds the old record set while the new one moves into place."""
        return self.records / f".replaced-{self.name}-{self.options.config_name}"
