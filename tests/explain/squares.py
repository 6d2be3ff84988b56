"""Drawn retinas with bright squares for lesions, their masks, and a network that is known to look at nothing else."""

import functools
import tempfile

import keras
import numpy as np

from dr_tf.data.records import open_records
from tests.data import sets

SIZE = 64
DATASET = f"squares/{SIZE}-plain-q95"


def lesion_at(number):
    """A square of 8 pixels; every third photograph has none."""
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


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory()  # lives as long as the tests


@functools.cache
def records_root():
    splits = {"validation": [example(i) for i in range(6)], "test": [example(i) for i in range(6, 18)]}
    sets.write_set(_folder().name, splits, name="squares", config=DATASET.split("/")[1], size=SIZE)
    return _folder().name


def records():
    return open_records(records_root(), DATASET)


def green_counter():
    """evidence = 2 where there is a lesion of 64 pixels, else -1: it sees nothing but green."""
    photograph = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(2, 1, activation="relu", name="green")(photograph)
    x = keras.layers.AveragePooling2D(8, name="map")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Identity(name="features")(x)
    model = keras.Model(photograph, {"grade": keras.layers.Dense(1, name="grade")(x)})
    kernel = np.array([[0, 0], [1 / 40, 0], [0, 0.01]], np.float32)[None, None]
    model.get_layer("green").set_weights([kernel, np.array([-190 / 40, 0], np.float32)])
    model.get_layer("grade").set_weights([np.array([[192], [0]], np.float32), np.array([-1], np.float32)])
    return model
