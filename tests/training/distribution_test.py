"""Training on two devices and on two machines (two processes connected over the network) equals training on one device."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.heads import HEADS
from dr_tf.training import strategies
from dr_tf.training.experiment import Experiment
from dr_tf.training.optimization import Optimization
from tests import tiny
from tests.training.resume_test import wait_for
from train import main

HEADS_OF_ONE = {"grade": HEADS["softmax"]()}
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Batch norm, clipping, weight averages and rate factors are where a sum over devices can go wrong. 15 validation images
# cannot be shared evenly: batches of 14 leave one. SGD, as Adam amplifies rounding errors to whole steps.
CONFIG = """
train.dataset = 'tiny/64-plain-q95'
train.heads = {'grade': @softmax()}
train.model = @classifier
train.epochs = 4
train.batch_size = 4
train.validation_batch_size = 14
train.class_weights = 'balanced'
train.augmentation = @augmentation()
train.optimization = @optimization()
augmentation.warp = @warp()
warp.rotation = 10
classifier.backbone = @backbone()
backbone.name = 'resnet_v2'
backbone.image_size = 64
backbone.stem = 4
backbone.filters = (4, 8)
optimization.optimizer = 'sgd'
optimization.learning_rate = 0.05
optimization.momentum = 0.9
optimization.clip_norm = 0.5
optimization.ema = 0.5
optimization.backbone_rate = 0.5
"""
ON_TWO_DEVICES = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import train
train.main(sys.argv[1:])
from dr_tf.training import strategies
devices = strategies.make_strategy("mirrored").num_replicas_in_sync
assert devices == 2, f"trained on {devices} devices"
"""


class DistributionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "config.gin").write_text(CONFIG)
        tiny.records_root()

    def _arguments(self, name, *bindings):
        arguments = ["--gin_file", self.folder / "config.gin", "--records", tiny.records_root()]
        arguments += ["--run_dir", self.folder / name]
        return [str(a) for a in arguments] + [word for binding in bindings for word in ("--gin_param", binding)]

    def _one_device(self, *bindings):
        run = self.folder / f"one{len(bindings)}"
        if not run.exists():
            main(self._arguments(run.name, *bindings))
        return run

    def _two_devices(self, name, *bindings):
        arguments = self._arguments(name, "train.distribution = 'mirrored'", *bindings)
        return _started([sys.executable, "-c", ON_TWO_DEVICES, *arguments])

    def _two_machines(self, name, *bindings):
        command = [sys.executable, "train.py", *self._arguments(name, "train.distribution = 'multi_worker'", *bindings)]
        cluster = {"worker": [f"localhost:{port}" for port in _free_ports(2)]}
        tasks = [{"type": "worker", "index": i} for i in range(2)]
        return [_started(command, TF_CONFIG=json.dumps({"cluster": cluster, "task": task})) for task in tasks]

    def _assert_same(self, name, one):
        ours, theirs = _history(self.folder / name), _history(one)
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
        models = (keras.saving.load_model(run / "model.keras", compile=False) for run in (self.folder / name, one))
        for a, b in zip(*(model.weights for model in models), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4, err_msg=a.path)

    @pytest.mark.slow  # three processes that import TensorFlow: 81 s of processor time
    def test_equal_history_and_weights(self):
        processes = [self._two_devices("devices"), *self._two_machines("machines")]
        one = self._one_device()
        for process in processes:
            _finish(process)
        self._assert_same("devices", one)
        self._assert_same("machines", one)
        for part in ("train", "pictures"):  # only the chief writes
            files = (self.folder / "machines" / "tensorboard" / part).iterdir()
            self.assertEqual(len({file.name.split(".")[-3] for file in files}), 1)  # of one process

    @pytest.mark.slow
    def test_two_killed_machines_resume(self):
        bindings = ("train.epochs = 8", "train.checkpoint_every = 2")
        processes = self._two_machines("killed", *bindings)
        wait_for(lambda: _epochs(self.folder / "killed") >= 3, processes[0])
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.assertLess(_epochs(self.folder / "killed"), 8)
        for process in self._two_machines("killed", *bindings):
            _finish(process)
        self._assert_same("killed", self._one_device(*bindings))

    @pytest.mark.slow
    def test_loss_scaling_in_half_precision(self):
        half = "train.precision = 'mixed_float16'"
        process = self._two_devices("half", half)
        one = self._one_device(half)
        _finish(process)
        np.testing.assert_allclose(_history(self.folder / "half", "loss"), _history(one, "loss"), rtol=1e-2)


class RefusalTest(unittest.TestCase):
    def _refused(self, expected, batch_size=4, **options):
        experiment = Experiment("a/b", options.pop("heads", HEADS_OF_ONE), None, **options)
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope(), self.assertRaisesRegex(UserError, expected):
            strategies.check_supported(experiment, batch_size)

    def test_settings_that_several_devices_lack(self):
        self._refused("train.jit needs", jit=True)
        self._refused(
            "accumulation_steps needs train.distribution = 'one_device'",
            optimization=Optimization(accumulation_steps=2),
        )
        self._refused("a ranking loss needs train.distribution", heads={"grade": HEADS["softmax"](ranking=1.0)})
        with mock.patch.object(tf.distribute.Strategy, "num_replicas_in_sync", 3):
            self._refused("a batch of 4 examples cannot be shared evenly by 3 devices")

    def test_one_device_supports_all_settings(self):
        optimization = Optimization(accumulation_steps=2)
        strategies.check_supported(Experiment("a/b", HEADS_OF_ONE, None, jit=True, optimization=optimization), 3)

    def test_unknown_names_list_the_known_ones(self):
        with self.assertRaisesRegex(UserError, "known: one_device, mirrored, multi_worker"):
            strategies.make_strategy("two_gpus")

    def test_machines_have_to_be_named(self):
        for config in ("", "{", "{}", '{"cluster": 3}'):
            with (
                mock.patch.dict(os.environ, {"TF_CONFIG": config}),
                self.assertRaisesRegex(UserError, "TF_CONFIG, such as"),
            ):
                strategies.make_strategy("multi_worker")


def _started(command, **environment):
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish(process):
    output, _ = process.communicate(timeout=300)
    if process.returncode:
        raise AssertionError(output[-3000:])


def _free_ports(n):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _history(run, *columns):
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in columns or row] for row in rows])


def _epochs(run):
    path = run / "history.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0
