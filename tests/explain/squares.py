"""Synthetic retinas with bright squares as lesions, their masks, and networks that use nothing but these squares."""

import functools
import tempfile
import types

import keras
import numpy as np

from dr_tf.data.records import open_records
from dr_tf.models.heads import HEADS
from dr_tf.models.paired import paired_classifier
from tests.data import sets

SIZE = 64
DATASET = f"squares/{SIZE}-plain-q95"
PAIRS = f"{DATASET}-paired"
ABSENT = {4: "right", 6: "right", 8: "left"}


def lesion_at(number):
    """The mask of a square of 8 pixels; every third image has none."""
    lesion = np.zeros((SIZE, SIZE, 1), np.uint8)
    if number % 3:
        row, column = 16 + 8 * (number % 4), 16 + 8 * (number // 4 % 4)
        lesion[row : row + 8, column : column + 8] = 1
    return lesion


def example(number):
    retina = np.hypot(*(np.mgrid[:SIZE, :SIZE] - 31.5))[..., None] < 31
    lesion = lesion_at(number)
    image = np.where(lesion > 0, np.uint8((90, 230, 40)), np.where(retina, np.uint8((150, 90, 40)), np.uint8(0)))
    masks = [{"lesion": "media_haze", "mask": retina.astype(np.uint8)}]
    masks += [{"lesion": "drawn", "mask": lesion}] if lesion.any() else []
    return sets.eye_fields(
        number, size=SIZE, image=image, grade=2 * int(lesion.any()), masks=masks, source="full_circle"
    )


def eyes_of(number):
    """{eye: number of its image} of a pair; in the test split only pair 6 has no lesion."""
    both = {"left": number, "right": 2 * number + 1}
    return {eye: image for eye, image in both.items() if ABSENT.get(number) != eye}


def pair(number):
    eyes = {eye: example(image) for eye, image in eyes_of(number).items()}
    return sets.pair_fields(number, absent=ABSENT.get(number), size=SIZE) | eyes


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory()  # lives as long as the tests


@functools.cache
def records_root():
    splits = {"validation": [example(i) for i in range(6)], "test": [example(i) for i in range(6, 18)]}
    sets.write_set(_folder().name, splits, name="squares", config=DATASET.split("/")[1], size=SIZE)
    return _folder().name


UNGRADED = f"ungraded/{SIZE}-plain-q95"


@functools.cache
def ungraded_root():
    """The folder of records with lesion masks and any retinopathy known, but without grades."""
    unknown = {"grade": -1, "any_dr": 1}
    splits = {"train": range(1, 3), "validation": range(4, 6), "test": range(7, 18)}
    examples = {split: [example(i) | unknown for i in numbers if i % 3] for split, numbers in splits.items()}
    sets.write_set(_folder().name, examples, name="ungraded", config=UNGRADED.split("/")[1], size=SIZE)
    return _folder().name


def records():
    return open_records(records_root(), DATASET)


@functools.cache
def pairs():
    splits = {"validation": [pair(i) for i in range(4)], "test": [pair(i) for i in range(4, 16)]}
    sets.write_set(_folder().name, splits, name="squares", config=PAIRS.split("/")[1], paired=True, size=SIZE)
    return open_records(_folder().name, PAIRS)


def green_counter():
    """The evidence is 2 for a lesion of 64 pixels, else -1, and depends only on the green channel."""
    body = _green()
    x = keras.layers.Identity(name="features")(body.output)
    return _with_output_weights(keras.Model(body.input, {"grade": keras.layers.Dense(1, name="grade")(x)}))


def green_counter_of_pairs():
    """The same for both eyes: the mean over the eyes that are present."""
    body = _green()
    backbone = types.SimpleNamespace(model=keras.Model(body.input, {"pooled": body.output}), name="green_of_an_eye")
    return _with_output_weights(paired_classifier(backbone, {"grade": HEADS["binary"]()}))


def _green():
    image = keras.Input((SIZE, SIZE, 3))
    green = keras.layers.Conv2D(2, 1, activation="relu", name="green")
    x = keras.layers.AveragePooling2D(8, name="map")(green(image))
    kernel = np.array([[0, 0], [1 / 40, 0], [0, 0.01]], np.float32)[None, None]
    green.set_weights([kernel, np.array([-190 / 40, 0], np.float32)])
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x))


def _with_output_weights(model):
    model.get_layer("grade").set_weights([np.array([[192], [0]], np.float32), np.array([-1], np.float32)])
    return model
