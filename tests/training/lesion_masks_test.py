"""Training on lesion masks: the loss by hand, masks that follow their images, and runs on drawn photographs."""

import contextlib
import csv
import io
import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import train
from dr_tf import configuration
from dr_tf.console import UserError
from dr_tf.data.artifacts import Halo, Spot
from dr_tf.data.augmentation import Augmentation, Warp
from dr_tf.data.colour import Colour
from dr_tf.data.mask_targets import MaskTargets
from dr_tf.data.records import open_records
from dr_tf.data.sampling import Shuffled, with_more
from dr_tf.explain.explainer import Explainer
from dr_tf.models.backbones import build_backbone
from dr_tf.models.fcn_decoder import fcn_classifier, with_map_output
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.losses import DiceLoss
from dr_tf.training.data_roles import Roles, split_roles
from dr_tf.training.example_names import fitted_example_names
from dr_tf.training.feature_bank import split_at_frozen_part
from dr_tf.training.training_data import TrainingData
from tests.data.sets import eye_fields, photograph, write_set

SIZE = 64
CONFIG = """
train.dataset = ['lesions/64-plain-q95', 'graded/64-plain-q95']
train.heads = {'grade': @softmax()}
train.masks = @lesion_masks()
train.model = @fcn_classifier
fcn_classifier.backbone = @backbone()
fcn_classifier.filters = (8, 8)
fcn_classifier.coarsest = 16
fcn_classifier.reduction = 4
backbone.name = 'resnet_v2'
backbone.image_size = 64
backbone.stem = 4
backbone.filters = (4, 8, 8)
backbone.trainable_from = 'none'
train.epochs = 2
train.batch_size = 5
train.modes = ()
train.augmentation = @augmentation()
augmentation.warp = @warp()
warp.rotation = 20
warp.flip_horizontal = 0.5
"""


def network():
    keras.utils.set_random_seed(0)
    backbone = build_backbone("resnet_v2", image_size=SIZE, stem=4, filters=(4, 8, 8))
    model = fcn_classifier(backbone, {"grade": Softmax()}, filters=(8, 8), coarsest=16, reduction=4)
    model.get_layer("grade").bias.assign(np.linspace(-1, 1, 5))
    return model


def images(n=3):
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


class DiceLossTest(tf.test.TestCase):
    def test_value_by_hand(self):
        """p = 3/4, 1/2, 1/4, 1/2 and t = 1, 0, 0, 1/2: both is 1, the sums are 2 and 3/2."""
        logits = np.log([3.0, 1.0, 1 / 3, 1.0]).reshape(1, 2, 2)
        target = np.array([1.0, 0.0, 0.0, 0.5]).reshape(1, 2, 2)
        self.assertAllClose(DiceLoss()(target, logits), 1 - 2 * 1 / 3.5)

    def test_a_perfect_map_has_no_loss(self):
        target = np.eye(4, dtype=np.float32)[None]
        self.assertAllClose(DiceLoss()(target, 60 * target - 30), 0, atol=1e-6)


class MapTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.model = network()
        self.with_map = with_map_output(self.model, "grade", Softmax(), "lesion_map")

    def test_it_is_the_map_that_explanations_show(self):
        maps = self.with_map(images())["lesion_map"].numpy()
        self.assertEqual(maps.shape, (3, 16, 16))
        explained = Explainer(self.model, Softmax(), method="hires_cam")
        shown = explained._computer(tf.constant(images()), tf.constant(explained.target_indices("positive", 3)))
        # Of the sum over places; the map is of the mean.
        self.assertAllClose(np.maximum(maps, 0), 256 * shown.maps[None].numpy(), rtol=1e-4, atol=1e-5)

    def test_weights_are_those_of_the_model(self):
        self.assertEqual([v.path for v in self.with_map.weights], [v.path for v in self.model.weights])

    def test_an_example_without_masks_has_no_gradient(self):
        target = np.zeros((3, 16, 16), np.float32)
        target[:, 4:8, 4:8] = 1
        variables = self.model.trainable_variables
        moved = []
        for weights in ([0, 0, 0], [0, 1, 0]):
            with tf.GradientTape() as tape:
                maps = self.with_map(images())["lesion_map"]
                loss = DiceLoss()(target, maps, sample_weight=np.float32(weights))
            gradients = tape.gradient(loss, [*variables, maps])
            moved.append(max(float(tf.reduce_max(abs(g))) for g in gradients if g is not None))
            self.assertAllClose(gradients[-1][0], np.zeros((16, 16)))
        self.assertEqual(moved[0], 0)
        self.assertGreater(moved[1], 0)


class MaskTargetsTest(tf.test.TestCase):
    def test_shares_of_places_by_hand(self):
        mask = np.zeros((8, 8), bool)
        mask[0:2, 0:3] = True
        targets = MaskTargets({1: mask}, count=3, side=2)
        self.assertEqual(targets.shape, (3, 2, 2))
        self.assertEqual(targets.known.tolist(), [False, True, False])
        self.assertAllClose(targets.of_batch([0, 1]), [np.zeros((2, 2)), [[6 / 16, 0], [0, 0]]])

    def test_a_mask_follows_its_image(self):
        """All steps are on; the light square of the photograph is its mask."""
        augmentation = Augmentation(
            warp=Warp(rotation=30, shift=0.1, zoom=(0.8, 1.2), shear=0.1, flip_horizontal=0.5, flip_vertical=0.5),
            colour=Colour(hue=5),
            halo=Halo(probability=0.5, strength=(0, 0.01)),
            spot=Spot(probability=0.5, strength=(0, 0.01)),
        )
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[10:30, 20:50] = 200
        for seed in range(20):
            moved = augmentation.augment(image, np.random.default_rng(seed))[..., 0] > 100
            mask = augmentation.augment_mask((image[..., 0] > 100).astype(np.uint8) * 255, np.random.default_rng(seed))
            self.assertGreater((moved & (mask > 127)).sum() / (moved | (mask > 127)).sum(), 0.95)

    def test_added_examples_take_turns(self):
        order = with_more(Shuffled().plan(np.arange(6) % 2, batch_size=3, seed=0), 2, first=6, examples=3, seed=0)
        self.assertEqual((order.steps, order.batch_size, order.prior), (2, 5, (0.5, 0.5)))
        epochs = np.concatenate([order.epoch(i) for i in range(3)])
        self.assertEqual(sorted(epochs[:2, :3].ravel().tolist()), list(range(6)))
        self.assertEqual(sorted(epochs[:, 3:].ravel().tolist()), [6] * 4 + [7] * 4 + [8] * 4)


def _lesion_fields(number, grade):
    """A photograph whose light square is its lesion."""
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[SIZE // 4 : SIZE // 2, SIZE // 4 : SIZE // 2] = 255
    masks = [{"lesion": "hard_exudates", "mask": mask}]
    image = photograph(number, SIZE)
    return eye_fields(number, size=SIZE, image=image, grade=grade, any_dr=1, masks=masks)


class RunTest(tf.test.TestCase):
    """Forty graded photographs, two of them with masks, and a set of six ungraded ones with masks, one of them to test."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        graded = [_lesion_fields(i, i % 5) if i in (4, 8) else eye_fields(i, size=SIZE) for i in range(40)]
        splits = {"train": graded[:20], "validation": graded[20:30], "calibration": graded[30:]}
        write_set(cls.folder, splits, name="graded", config="64-plain-q95", size=SIZE)
        lesions = [_lesion_fields(100 + i, -1) for i in range(6)]
        write_set(
            cls.folder, {"train": lesions[:5], "test": lesions[5:]}, name="lesions", config="64-plain-q95", size=SIZE
        )

    def _train(self, name, *bindings, config=CONFIG):
        (self.folder / "config.gin").write_text(config)
        arguments = ["--gin_file", self.folder / "config.gin", "--records", self.folder, "--audit", "off"]
        arguments += ["--run_dir", self.folder / name, *(part for b in bindings for part in ("--gin_param", b))]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            train.main([str(argument) for argument in arguments])
        return self.folder / name

    def _bank(self, name):
        bank = ["train.feature_bank = @feature_bank()", "feature_bank.views = 1"]
        return [*bank, f"feature_bank.directory = '{self.folder}/{name}'"]

    @pytest.mark.slow
    def test_a_run_on_graded_and_ungraded_masks(self):
        run = self._train("bank", *self._bank("of_run"))
        self.assertEqual(list(keras.saving.load_model(run / "model.keras").output), ["grade"])
        with open(run / "history.csv", newline="") as file:
            history = list(csv.DictReader(file))
        self.assertLess(float(history[1]["lesion_map_loss"]), float(history[0]["lesion_map_loss"]))
        self.assertIn("val_grade_quadratic_kappa", history[0])
        names = fitted_example_names(run).tolist()
        added = sorted(name for name in names if name.startswith("lesions"))
        self.assertEqual(added, [f"lesions/p{100 + i}" for i in range(5)])
        self.assertLen(names, 25)

    def test_masks_of_the_bank_are_those_of_the_images(self):
        (self.folder / "config.gin").write_text(CONFIG)
        configuration.parse([self.folder / "config.gin"], self._bank("of_batches"))
        experiment, records = configuration.build_experiment(self.folder)
        roles = split_roles(records, experiment.head)
        self.assertLen(roles.unlabelled, 5)
        model = experiment.model(heads=experiment.heads)
        masks = experiment.masks.targets(records, roles, model=model, augmentation=experiment.augmentation)
        known = ["graded/p004", "graded/p008", *(f"lesions/p{i}" for i in range(100, 105))]
        self.assertEqual(sorted(records.columns["image_id"][masks.known].tolist()), known)
        data = TrainingData(experiment, records, roles, SIZE, masks=masks)
        _, stored = split_at_frozen_part(model, data, experiment=experiment, roles=roles)
        stored.fill()
        found = set()
        for (_, y, weights), (_, other, _) in zip(data.training_batches(), stored.training_batches(), strict=True):
            self.assertAllEqual(y["lesion_map"], other["lesion_map"])
            self.assertEqual(weights["grade"].numpy().tolist(), [1] * 5 + [0] * 2)
            self.assertAllEqual(weights["lesion_map"], tf.reduce_any(y["lesion_map"] > 0, axis=(1, 2)))
            found |= {mask.tobytes() for mask in y["lesion_map"].numpy()[5:]}
        self.assertGreater(len(found), 5)  # all of them have the same mask, which is warped in every second view

    def test_mistakes_are_one_line(self):
        graded = CONFIG.replace("['lesions/64-plain-q95', 'graded/64-plain-q95']", "'graded/64-plain-q95'")
        for expected, config in {
            "needs the evidence map of train.model = @fcn_classifier": CONFIG.replace("fcn_classifier", "classifier")
            .replace("classifier.filters = (8, 8)", "").replace("classifier.coarsest = 16", "")
            .replace("classifier.reduction = 4", ""),
            "cannot follow rand_augment.geometric": CONFIG
            + "augmentation.policy = @rand_augment()\nrand_augment.geometric = True\n",
            "an output cannot be called 'lesion_map': the name is taken": graded.replace("'grade'", "'lesion_map'"),
        }.items():  # fmt: skip
            with self.subTest(expected), self.assertRaisesRegex(SystemExit, expected):
                self._train("refused", config=config)
        records = open_records(self.folder, "graded/64-plain-q95")
        (self.folder / "config.gin").write_text(graded)
        configuration.parse([self.folder / "config.gin"])
        experiment = configuration.build("train")
        roles = split_roles(records, experiment.head)
        fit = roles.fit[~np.isin(records.columns["image_id"][roles.fit], ["p004", "p008"])]
        roles = Roles(fit, roles.select, roles.calibrate)
        with self.assertRaisesRegex(UserError, "no training example of graded/64-plain-q95 has lesion masks"):
            experiment.masks.targets(records, roles, model=network(), augmentation=None)


if __name__ == "__main__":
    tf.test.main()
