"""Start services for tests: real servers on loopback, and photographs to send."""

import contextlib
import dataclasses
import functools
import importlib
import pathlib
import sys
import threading
import time

import httpx
import numpy as np

from dr_tf.fundus.synthesis import render_patient
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.ready import READY
from dr_tf.inference.rule import Mode, Rule
from dr_tf.inference.run import Run
from dr_tf.models.heads import HEADS
from dr_tf.serve.application import create_application
from dr_tf.serve.limits import Limits
from dr_tf.serve.server import listen, make_server, url_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
benchmark, http_clients = importlib.import_module("serve"), importlib.import_module("http_clients")


@functools.cache
def ready():
    """The Predictor of the model that comes with dr_tf."""
    return Predictor.from_run(READY)


@functools.cache
def photographs(side=500):
    """{name: bytes} of two eyes of two patients."""
    return {
        f"{seed}_{name}.jpg": eye.encode()
        for seed in range(2)
        for name, eye in zip(("left", "right"), render_patient(seed, side=side).eyes, strict=True)
    }


@contextlib.contextmanager
def serving(predictor=None, limits=None):
    """Start uvicorn in a thread; yield an HTTP client of it."""
    limits = limits or Limits()
    server, listening = (
        make_server(create_application(predictor or ready(), READY, limits), limits),
        listen("127.0.0.1", 0),
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with httpx.Client(base_url=url_of(listening), timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


class TinyNetwork:
    """A network of random features of 64 pixels, of one eye or of both.

    `before` is called with each batch: a test may wait or raise in it.
    """

    image_size, width, outputs, ensemble = 64, 3, ("labels",), False
    description, runtime = "a network of tests", "numpy"

    def __init__(self, paired=False, before=lambda images: None):
        self.paired, self.before = paired, before

    def __call__(self, images):
        self.before(images)
        eyes = [images["left"], images["right"]] if self.paired else [images]
        features = np.mean([eye.mean(axis=(1, 2)) / 255 for eye in eyes], axis=0).astype(np.float32)
        weights = np.random.default_rng(0).normal(size=(3, len(HEADS["multi_label"]().classes)))
        return {"labels": (features @ weights).astype(np.float32)}, features


def predictor_of(network):
    """The Predictor of such a network."""
    head = HEADS["multi_label"]()
    prior = tuple(np.full(len(head.classes), 0.5).tolist())
    point = OperatingPoint(threshold=0.5, guaranteed=False, note="")
    mode = Mode(Calibration(head.link), prior, {name: {"half": point} for name in head.definitions})
    rule = Rule({"labels": head}, "labels", prior, "uniform", "half", {PLAIN: mode}, gradable_from=0.0)
    return Predictor(Run(network, rule, Preparation.from_records_name("made/64-plain-q95", 64)))


def slow(seconds):
    """A Predictor whose network takes some seconds for each batch."""
    return predictor_of(TinyNetwork(before=lambda images: time.sleep(seconds)))


def limits(**changes):
    """The default limits, with changes."""
    return dataclasses.replace(Limits(), **changes)
