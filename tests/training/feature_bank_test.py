"""Training on cached features equals training on images, and stale features are never used."""

import contextlib
import io
import pathlib
import shutil
import tempfile
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import train
from dr_tf import configuration
from dr_tf.console import UserError
from dr_tf.data.cache import DiskCache
from dr_tf.data.features import FeatureStore, ordered_feature_batches
from dr_tf.grades import EYES
from dr_tf.models import stages
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.fcn_decoder import fcn_classifier
from dr_tf.models.heads.softmax import Softmax
from dr_tf.training import feature_bank
from dr_tf.training.data_roles import split_roles
from dr_tf.training.training_data import TrainingData
from tests import tiny, tiny_pairs

CONFIG = (
    tiny.CONFIG
    + """
train.epochs = 4
train.modes = ()
train.keep = 'last'
train.optimization = @optimization()
optimization.learning_rate = 1e-2
train.augmentation = @augmentation()
augmentation.warp = @warp()
warp.rotation = 20
warp.flip_horizontal = 0.5
backbone.trainable_from = 'none'
classifier.hidden = (8,)
classifier.dropout = 0.3
train.feature_bank = @feature_bank()
feature_bank.views = 2
"""
)


SLOW = "feature_bank.stored = False"
PAIRED = (
    tiny_pairs.CONFIG
    + """
train.epochs = 3
train.modes = ()
train.keep = 'last'
train.optimization = @optimization()
optimization.learning_rate = 1e-2
train.augmentation = @augmentation()
augmentation.warp = @warp()
warp.rotation = 20
warp.flip_horizontal = 0.5
backbone.trainable_from = 'none'
paired_classifier.fuse = 'concatenate'
paired_classifier.hidden = (8,)
train.feature_bank = @feature_bank()
feature_bank.views = 1
"""
)


def _trained(folder, records, name, *bindings):
    """The model of a run by the config in `folder`."""
    arguments = ["--gin_file", folder / "config.gin", "--records", records, "--run_dir", folder / name]
    arguments += [part for b in bindings for part in ("--gin_param", b)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.main([str(argument) for argument in arguments])
    return keras.saving.load_model(folder / name / "model.keras")


class FeatureBankTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "config.gin").write_text(CONFIG + f"feature_bank.directory = '{self.folder / 'bank'}'\n")

    def _train(self, name, *bindings):
        return _trained(self.folder, tiny.records_root(), name, *bindings)

    def _refused(self, expected, *bindings):
        with self.assertRaisesRegex(SystemExit, expected):
            self._train("refused", *bindings)

    def _banks(self):
        return sorted((self.folder / "bank").iterdir())

    @pytest.mark.slow
    def test_training_without_cache_gives_equal_weights(self):
        quick, slow = self._train("quick"), self._train("slow", "feature_bank.stored = False")
        before = quick.get_layer("grade").kernel
        self.assertAllClose(before, slow.get_layer("grade").kernel, rtol=0, atol=2e-3)
        for one, other in zip(quick.variables, slow.variables, strict=True):
            self.assertAllClose(one, other, rtol=0, atol=2e-3, msg=one.path)  # features are float16
        shorter = self._train("shorter", "train.epochs = 1").get_layer("grade").kernel
        self.assertNotAllClose(before, shorter, rtol=0, atol=1e-2)  # training changes them by more than the tolerance

    def _bank(self, *bindings):
        """The cache files that a run with these bindings adds."""
        configuration.parse([self.folder / "config.gin"], bindings)
        experiment, records = configuration.build_experiment(tiny.records_root())
        keras.utils.set_random_seed(0)
        model = experiment.model(heads=experiment.heads)
        before = set((self.folder / "bank").glob("*"))
        roles = split_roles(records, experiment.head)
        data = TrainingData(experiment, records, roles, 64)
        feature_bank.split_at_frozen_part(model, data, experiment=experiment, roles=roles)
        return set((self.folder / "bank").glob("*")) - before

    @pytest.mark.slow
    def test_a_cache_is_used_again_unless_it_is_stale(self):
        self.assertLen(self._bank(), 1)
        for change in ("optimization.learning_rate = 1e-3", "classifier.hidden = ()", "train.epochs = 9"):
            self.assertEmpty(self._bank(change), change)
        for change in (
            "warp.rotation = 30", "feature_bank.views = 1", "train.seed = 5", "backbone.stem = 8",
            "backbone.trainable_from = 'stack2'",
        ):  # fmt: skip
            self.assertLen(self._bank(change), 1, change)
        with mock.patch.object(keras.initializers.HeNormal, "__call__", lambda *a, **k: keras.ops.ones(a[1])):
            self.assertLen(self._bank(), 1, "other weights")

    def test_without_augmented_views_the_augmentation_does_not_matter(self):
        self.assertLen(self._bank("feature_bank.views = 0"), 1)
        self.assertEmpty(self._bank("feature_bank.views = 0", "warp.rotation = 1", "train.seed = 1"))

    @pytest.mark.slow
    def test_a_complete_cache_is_not_computed_again(self):
        self._train("first", "train.epochs = 1")
        with mock.patch.object(feature_bank.StoredFeatureData, "_compute") as computed:
            self._train("again", "train.epochs = 1", "optimization.learning_rate = 1e-3")
        computed.assert_not_called()

    @pytest.mark.slow
    def test_a_killed_computation_continues(self):
        class KilledError(Exception):
            pass

        put, count = DiskCache.put, iter(range(20))

        def dies(cache, row, pixels):
            if next(count) == 12:
                raise KilledError
            return put(cache, row, pixels)

        with mock.patch.object(DiskCache, "put", dies), self.assertRaises(KilledError):
            self._train("run")
        with mock.patch.object(DiskCache, "put", autospec=True, side_effect=put) as stored:
            self._train("run")
        self.assertEqual(stored.call_count, 15 * 3 + 15 - 12)

    @pytest.mark.slow
    def test_top_stages_train_on_feature_maps_of_frozen_ones(self):
        bindings = "backbone.trainable_from = 'stack2'", "train.epochs = 1"
        trained = self._train("stage", *bindings)
        untrained = self._train("untrained", *bindings, "optimization.learning_rate = 0.0")
        for name, equal in (("stem_conv", True), ("stack1_block1_conv2", True), ("stack2_block1_conv2", False)):
            kernels = [model.get_layer(name).kernel.numpy() for model in (trained, untrained)]
            self.assertEqual(np.array_equal(*kernels), equal, name)

    def test_errors_are_one_line(self):
        self._refused("set backbone.trainable_from", "backbone.trainable_from = 'all'")
        self._refused("feature_bank.views must be an integer, at least 0, not -1", "feature_bank.views = -1")
        self._refused("cannot be cached in .*config.gin", f"feature_bank.directory = '{self.folder / 'config.gin'}'")

    def test_features_beyond_float16_are_refused(self):
        features = FeatureStore(2, 0, [(3,)], directory=self.folder, key="x")
        features.reserve(np.array([0, 1]), np.array([0, 0]))
        features.put(0, 0, [1, 2, 65504])
        self.assertAllEqual(features.read(0, 0), [[1, 2, 65504]])
        self.assertAllEqual(features.missing(np.array([0, 1]), 0), [False, True])
        with self.assertRaisesRegex(UserError, "out of the range of the feature bank"):
            features.put(1, 0, [1, 2, 70000])


class FeatureStoreTest(tf.test.TestCase):
    """A store of two maps per view, of 4 and of 2 values."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def _store(self, rows=3, shapes=((2, 2, 1), (1, 1, 2)), **options):
        return FeatureStore(rows, 0, shapes, directory=self.folder, key="x", **options)

    def test_maps_of_several_strides_are_batched_in_the_order_of_the_rows(self):
        store, rows = self._store(), np.array([2, 0])
        store.reserve(rows, np.zeros(2, int))
        for row in rows:
            store.put(row, 0, 10 * row + np.arange(6))
        targets = {"grade": np.float32([5, 6, 7])}
        (x, y), *others = ordered_feature_batches(store, targets, rows=rows, batch_size=2)
        self.assertEmpty(others)
        self.assertAllEqual(x[0], [[[[20], [21]], [[22], [23]]], [[[0], [1]], [[2], [3]]]])
        self.assertAllEqual(x[1], [[[[24, 25]]], [[[4, 5]]]])
        self.assertAllEqual([part.dtype for part in x], [tf.float16] * 2)
        self.assertAllEqual(y["grade"], [7, 5])

    def test_only_reserved_rows_take_space(self):
        store, megabyte = self._store(rows=100, shapes=[(1024, 512)]), 1 << 20
        self.assertEqual(store.view_bytes, megabyte)
        store.reserve(np.array([3, 70]), np.zeros(2, int))
        (path,) = self.folder.iterdir()
        self.assertBetween(512 * path.stat().st_blocks, 2 * megabyte, 2.5 * megabyte)
        self.assertAllEqual(store.missing(np.array([3, 70]), 0), [True, True])

    def test_too_little_space_is_one_line_before_anything_is_written(self):
        store = self._store(rows=1000, shapes=[(1000, 1000)])
        full = mock.patch.object(shutil, "disk_usage", lambda path: mock.Mock(free=3e9))
        with full, self.assertRaisesRegex(UserError, r"has 3.00 GB free, 4.00 GB are needed: name another folder"):
            store.reserve(np.repeat(np.arange(1000), 2), np.zeros(2000, int))
        (path,) = self.folder.iterdir()
        self.assertLess(512 * path.stat().st_blocks, 1e6)


class FrozenOutputsTest(tf.test.TestCase):
    def _shapes(self, build, trainable_from="none", **options):
        backbone = build_backbone("resnet_v2", image_size=64, stem=4, filters=(4, 8, 8), trainable_from=trainable_from)
        tensors = stages.frozen_outputs(build(backbone, {"grade": Softmax()}, **options))
        return [tensor.shape[1:] for tensor in tensors]

    def test_what_the_rest_takes(self):
        self.assertEqual(self._shapes(classifier), [(8,)])
        self.assertEqual(self._shapes(classifier, "stack2"), [(8, 8, 4)])
        decoder = {"filters": (8, 8), "reduction": 4}
        self.assertEqual(self._shapes(fcn_classifier, **decoder), [(8, 8, 4), (4, 4, 8), (2, 2, 8)])
        self.assertEqual(self._shapes(fcn_classifier, skips=False, **decoder), [(2, 2, 8)])
        self.assertEqual(self._shapes(fcn_classifier, "stack3", **decoder), [(8, 8, 4), (4, 4, 8)])
        for build in (classifier, fcn_classifier):
            self.assertEqual(self._shapes(build, "all"), [])


class PairsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "config.gin").write_text(PAIRED + f"feature_bank.directory = '{self.folder / 'bank'}'\n")

    def _train(self, name, *bindings):
        return _trained(self.folder, tiny_pairs.records_root(), name, *bindings)

    @pytest.mark.slow
    def test_training_without_cache_gives_equal_weights(self):
        for shared in (True, False):
            with self.subTest(same_for_both_eyes=shared):
                same = f"augmentation.same_for_both_eyes = {shared}"
                quick, slow = self._train(f"quick_{shared}", same), self._train(f"slow_{shared}", same, SLOW)
                for one, other in zip(quick.variables, slow.variables, strict=True):
                    self.assertAllClose(one, other, rtol=0, atol=2e-3, msg=one.path)  # features are float16
        kernels = [model.get_layer("labels").kernel for model in (slow, self._train("untrained", "train.epochs = 1"))]
        self.assertNotAllClose(*kernels, rtol=0, atol=1e-2)  # training changes them by more than the tolerance
        self.assertLen(list((self.folder / "bank").iterdir()), 2)  # views of both eyes alike, and views that differ

    def test_a_view_is_missing_unless_both_eyes_are_stored(self):
        features = FeatureStore(2, 1, [(3,)], directory=self.folder, key="x", eyes=EYES)
        features.reserve(np.array([1, 1]), np.array([0, 1]))
        for number, eye, value in ((0, "left", 1), (0, "right", 2), (1, "left", 3)):
            features.put(1, number, [value] * 3, eye)
        self.assertAllEqual(features.missing(np.array([0, 1, 1]), np.array([0, 0, 1])), [True, False, True])
        self.assertAllEqual(features.read(1, 0, "left"), [[1, 1, 1]])
        self.assertAllEqual(features.read(1, 0, "right"), [[2, 2, 2]])

    @pytest.mark.slow
    def test_a_partly_frozen_network_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "of a paired model needs a completely frozen backbone"):
            self._train("refused", "backbone.trainable_from = 'stack2'")


if __name__ == "__main__":
    tf.test.main()
