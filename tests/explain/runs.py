"""A finished run whose network was never trained."""

import pathlib

import keras
import numpy as np

from dr_tf.inference.calibration import Calibration
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import PLAIN, Mode, Rule
from dr_tf.inference.run import write_decision
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from dr_tf.models.layers.exchange import plain

SIZE = 64


def network(head):
    keras.utils.set_random_seed(0)
    return classifier(build_backbone("resnet_v2", image_size=SIZE), head)


def write_run(folder, head_name="softmax", *, model=None, records=f"made/{SIZE}-plain-q95", threshold=0.5):
    head = HEADS[head_name]()
    prior = tuple(np.full(len(head.classes), 1 / len(head.classes)).tolist())
    point = OperatingPoint(threshold=threshold, guaranteed=False, note="")
    rule = Rule(head, prior, "uniform", "half", {PLAIN: Mode(Calibration(), prior, {"half": point})}, gradable_from=0.0)
    pathlib.Path(folder).mkdir(parents=True)
    write_decision(folder, rule, Preparation.of_records(records, SIZE), None)
    (model or plain(network(head))).save(pathlib.Path(folder) / "model.keras")
