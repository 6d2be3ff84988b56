"""Write a finished run with an untrained network."""

import pathlib

import keras
import numpy as np

from dr_tf.inference.calibration import Calibration
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import Mode, Rule
from dr_tf.inference.run import write_decision
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.network import image_size_of

SIZE = 64


OUTPUT = "grade"


def network(head):
    keras.utils.set_random_seed(0)
    return classifier(build_backbone("resnet_v2", image_size=SIZE), {OUTPUT: head})


def write_run(folder, head_name="softmax", *, model=None, records=f"made/{SIZE}-plain-q95", threshold=0.5):
    head = HEADS[head_name]()
    model = model or network(head)
    prior = tuple(np.full(len(head.classes), 1 / len(head.classes)).tolist())
    point = OperatingPoint(threshold=threshold, guaranteed=False, note="")
    mode = Mode(Calibration(head.link), prior, {name: {"half": point} for name in head.definitions})
    rule = Rule({OUTPUT: head}, OUTPUT, prior, "uniform", "half", {PLAIN: mode}, gradable_from=0.0)
    pathlib.Path(folder).mkdir(parents=True)
    write_decision(folder, rule, Preparation.from_records_name(records, image_size_of(model)), None)
    to_plain_keras(model).save(pathlib.Path(folder) / "model.keras")
