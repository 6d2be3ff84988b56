"""Speed of one training step of system 1's network at 256 px and batch 16, compared with the same network in PyTorch.

Ours: with Keras' batch norm and with the fused one, each eager, as a graph (tf.function, which `fit` runs) and compiled by
XLA. PyTorch: eager and compiled by Inductor, channels-first and channels-last, with its fused Adam. All in float32:
forward pass, backward pass and Adam on one batch of uint8 images in memory, with the loss read after each step. Before
the timing the PyTorch network takes our weights, and its logits and the gradient of its first kernel are compared with
ours. For this check it pads as TensorFlow does, for the timing as PyTorch does by default.

The limit is the network's convolutions alone, with max pooling but without batch norm, ReLU and rescaling.

The contestants take turns in short rounds, each framework in its own process; the best round of each counts. Core time is
the processor time of all threads of a process per step. On a machine that others use, TensorFlow's threads, which sleep
between operations, end up on one core, and PyTorch's, which wait in a loop, waste theirs. Then the ratios mean nothing,
and a line of the output says so. The published original of this network went from 11.92 s to 7.18 s per epoch with
AutoGraph; the ratio of our eager step to our graph is printed beside it.

Needs benchmarks/requirements.txt and a C++ compiler for Inductor.

    python benchmarks/train_step.py [--rounds 20] [--steps 2] [--image_size 256] [--batch_size 16]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from dr_tf.runtime import ONEDNN, use_onednn  # noqa: E402

if TYPE_CHECKING:
    import keras
    import torch

Step = Callable[[], float]  # runs one training step and returns the loss
Run = Callable[[str, int], tuple[float, float]]  # (name, steps) -> (seconds, core-seconds) per step

CLASSES, OUTPUT = 5, "grade"
ORIGINAL_SECONDS = (11.92, 7.18)  # per epoch without and with AutoGraph, as its author reported


def random_batch(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and grades."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3), np.uint8), rng.integers(0, CLASSES, count)


# Ours


def our_network(size: int) -> keras.Model:
    """Build system 1's network with the fused batch norm."""
    import keras

    from dr_tf.models.backbones import build_backbone
    from dr_tf.models.classifier import classifier
    from dr_tf.models.heads.softmax import Softmax

    keras.utils.set_random_seed(0)
    return classifier(build_backbone("resnet_v2", image_size=size), {OUTPUT: Softmax()})


def with_keras_batch_norm(model: keras.Model) -> keras.Model:
    """Clone the network with Keras' batch norm."""
    import keras

    def clone(layer):
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer_class = keras.layers.BatchNormalization if is_batch_norm else type(layer)
        return layer_class.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=clone)


def convolutions_alone(model: keras.Model) -> keras.Model:
    """Clone the network without batch norm, ReLU and rescaling."""
    import keras

    left_out = (keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Rescaling)

    def clone(layer):
        made = keras.layers.Identity if isinstance(layer, left_out) else type(layer)
        return made.from_config({"name": layer.name} if made is keras.layers.Identity else layer.get_config())

    return keras.models.clone_model(
        model, clone_function=clone, call_function=lambda layer, *inputs, **_: layer(*inputs)
    )


def our_step(model: keras.Model, images: np.ndarray, grades: np.ndarray, **compile_options: bool) -> Step:
    """Compile the network and return its training step."""
    import tensorflow as tf

    from dr_tf.models.heads.softmax import Softmax

    head = Softmax()
    model.compile("adam", {OUTPUT: head.loss()}, **compile_options)
    batches = tf.data.Dataset.from_tensors((images, {OUTPUT: head.targets({"grade": grades})})).repeat()
    batches = iter(batches.prefetch(2))
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def ours(size: int, count: int) -> tuple[dict[str, Step], dict[str, Any]]:
    """Return {name: training step}, and the versions, GPUs and reference values of our network."""
    import keras
    import tensorflow as tf

    images, grades = random_batch(size, count)
    networks = {"fused": lambda: our_network(size), "Keras": lambda: with_keras_batch_norm(our_network(size))}
    compile_options = {
        "eager": {"run_eagerly": True, "jit_compile": False},
        "graph": {"jit_compile": False},
        "XLA": {"jit_compile": True},
    }
    steps = {
        f"{kind} batch norm, {way}": our_step(build(), images, grades, **options)
        for kind, build in networks.items()
        for way, options in compile_options.items()
    }
    steps["limit: convolutions"] = our_step(convolutions_alone(our_network(size)), images, grades, jit_compile=False)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    gpus = [tf.config.experimental.get_device_details(d)["device_name"] for d in tf.config.list_physical_devices("GPU")]
    return steps, {"versions": versions, "gpus": gpus, "reference": reference(our_network(size), images, grades)}


def reference(model: keras.Model, images: np.ndarray, grades: np.ndarray) -> dict[str, Any]:
    """Return weights, logits and the gradient of the first kernel, which the PyTorch network has to reproduce."""
    import tensorflow as tf

    kernels = {v.path: v.numpy() for v in model.trainable_variables}
    with tf.GradientTape() as tape:
        logits = model(images, training=True)[OUTPUT]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(grades, logits)
        loss = tf.reduce_mean(losses)
    gradient = tape.gradient(loss, model.get_layer("stem_conv").kernel.value)
    return {"weights": kernels, "logits": logits.numpy(), "gradient": gradient.numpy()}


# PyTorch


def torch_network() -> torch.nn.Module:
    """Build the same network in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    def conv(inputs, outputs, side, stride):
        return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)

    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.pre_bn, self.conv1 = norm(inputs), conv(inputs, outputs, 3, 2)
            self.mid_bn, self.conv2 = norm(outputs), conv(outputs, outputs, 3, 1)
            self.skip_bn, self.skip_conv = norm(inputs), conv(inputs, outputs, 1, 2)

        def forward(self, x):
            skip = self.skip_conv(self.skip_bn(x))
            x = self.conv1(functional.relu(self.pre_bn(x)))
            return self.conv2(functional.relu(self.mid_bn(x))) + skip

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem_conv, self.stem_bn = conv(3, 16, 7, 2), norm(16)
            self.stem_pool = nn.MaxPool2d(3, 2, 1)
            widths = [16, 16, 32, 64]
            self.stacks = nn.ModuleList(Block(*pair) for pair in itertools.pairwise(widths))
            self.logits = nn.Linear(64, CLASSES)

        def forward(self, x):
            x = self.stem_conv(x.float() / 127.5 - 1)
            x = functional.relu(self.stem_pool(self.stem_bn(x)))
            for stack in self.stacks:
                x = stack(x)
            return self.logits(torch.relu(x).mean((2, 3)))

    return Network()


def pad_like_tensorflow(network: torch.nn.Module) -> torch.nn.Module:
    """Pad one pixel more at the end, as TensorFlow does if padding is odd; PyTorch pads both sides equally."""
    import torch
    from torch.nn import functional

    def padded(module, inputs):
        side = module.kernel_size if isinstance(module.kernel_size, int) else module.kernel_size[0]
        before, after = (side - 2) // 2, side - 2 - (side - 2) // 2
        fill = -torch.inf if isinstance(module, torch.nn.MaxPool2d) else 0.0
        return functional.pad(inputs[0], (before, after, before, after), value=fill)

    for module in network.modules():
        if getattr(module, "stride", None) in (2, (2, 2)) and module.kernel_size not in (1, (1, 1)):
            module.padding = 0 if isinstance(module.padding, int) else (0, 0)
            module.register_forward_pre_hook(padded)
    return network


def set_torch_weights(network: torch.nn.Module, weights: Mapping[str, np.ndarray]) -> bool:
    """Set our weights; return whether the networks have equally many."""
    import torch

    names = {name.replace("stacks.", "stack").replace("weight", ""): p for name, p in network.named_parameters()}
    for path, value in weights.items():
        layer, kind = path.split("/")
        parameter = names[_torch_name(layer, kind)]
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        parameter.data = torch.tensor(np.ascontiguousarray(value))
    return len(names) == len(weights)


def _torch_name(layer, kind):
    """stack1_block1_pre_bn/beta -> stack0.pre_bn.bias."""
    if layer.startswith("stack"):
        layer = f"stack{int(layer[5]) - 1}.{layer.split('_block1_')[1]}"
    return f"{layer}." + ("bias" if kind in ("beta", "bias") else "")


def differences(expected: Mapping[str, Any], images: np.ndarray, grades: np.ndarray) -> dict[str, float]:
    """Return the largest difference of the logits, and of the first kernel's gradient relative to its maximum."""
    import torch

    network = pad_like_tensorflow(torch_network())
    assert set_torch_weights(network, expected["weights"])
    logits = network(torch.tensor(images.transpose(0, 3, 1, 2)))
    torch.nn.functional.cross_entropy(logits, torch.tensor(grades)).backward()
    gradient = network.stem_conv.weight.grad.numpy().transpose(2, 3, 1, 0)
    scale = np.abs(expected["gradient"]).max()
    return {
        "logits": float(np.abs(logits.detach().numpy() - expected["logits"]).max()),
        "gradient": float(np.abs(gradient - expected["gradient"]).max() / scale),
    }


def torch_step(images: np.ndarray, grades: np.ndarray, *, layout: torch.memory_format, compiled: bool) -> Step:
    """Build the PyTorch network and return its training step."""
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = torch_network().to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    x = torch.tensor(images.transpose(0, 3, 1, 2)).to(device).contiguous(memory_format=layout)
    y = torch.tensor(grades).to(device)
    forward = torch.compile(network) if compiled else network

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch(size: int, count: int, expected: Mapping[str, Any]) -> tuple[dict[str, Step], dict[str, Any]]:
    """Return {name: training step}, and the version, number of parameters and differences from our network."""
    import torch

    images, grades = random_batch(size, count)
    layouts = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
    steps = {
        f"PyTorch {layout}, {'compiled' if compiled else 'eager'}": torch_step(
            images, grades, layout=memory_format, compiled=compiled
        )
        for layout, memory_format in layouts.items()
        for compiled in (False, True)
    }
    parameters = sum(p.numel() for p in torch_network().parameters())
    about = {"versions": {"torch": torch.__version__}, "parameters": parameters}
    return steps, about | {"differences": differences(expected, images, grades)}


# The contest


def serve(connection: Any, make: Callable, *arguments: Any) -> None:
    """Build the steps in this process, then run the requested ones and send back their time per step."""
    steps, about = make(*arguments)
    connection.send((list(steps), about))
    while (request := connection.recv()) is not None:
        name, count = request
        start, worked = time.perf_counter(), time.process_time()
        for _ in range(count):
            loss = steps[name]()
        connection.send(((time.perf_counter() - start) / count, (time.process_time() - worked) / count))
        assert np.isfinite(loss)


@contextlib.contextmanager
def in_own_process(make: Callable, *arguments: Any) -> Iterator[tuple[dict[str, Run], dict[str, Any]]]:
    """Serve the steps of `make` from a new process; yield ({name: function that runs it}, what `make` reports)."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, make, *arguments), daemon=True)
    process.start()
    there.close()
    names, about = here.recv()

    def run(name, count):
        here.send((name, count))
        return here.recv()

    yield dict.fromkeys(names, run), about
    here.send(None)
    process.join()


def contest(runs: Mapping[str, Run], *, rounds: int, steps: int) -> dict[str, tuple[float, float]]:
    """Time all steps in turns; return {name: (least seconds, least core-seconds) per step}."""
    times = {name: [run(name, 1) for _ in range(3)] for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run(name, steps))
    return {name: tuple(map(min, zip(*pairs, strict=True))) for name, pairs in times.items()}


def print_table(best: Mapping[str, tuple[float, float]], fastest_peer: float) -> None:
    """Print the time of each step, relative to the fastest peer."""
    for name, (seconds, core_seconds) in best.items():
        print(f"  {name:33s} {seconds * 1e3:8.1f} ms {fastest_peer / seconds:6.2f} x {core_seconds * 1e3:10.1f} ms")


def ratios(seconds: Mapping[str, float], peers: Mapping[str, Run]) -> dict[str, float]:
    """Return speed ratios: of the first one named relative to the second."""
    ours = seconds["fused batch norm, graph"]
    return {
        "ours_against_pytorch_best": min(seconds[name] for name in peers) / ours,
        "fused_against_keras_batch_norm": seconds["Keras batch norm, graph"] / ours,
        "graph_against_eager": seconds["fused batch norm, eager"] / ours,
        "original_autograph": ORIGINAL_SECONDS[0] / ORIGINAL_SECONDS[1],
        "xla_against_graph": ours / seconds["fused batch norm, XLA"],
        "xla_against_graph_keras_batch_norm": seconds["Keras batch norm, graph"] / seconds["Keras batch norm, XLA"],
        "limit_against_ours": ours / seconds["limit: convolutions"],
    }


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of timing")
    parser.add_argument("--steps", type=int, default=2, help="steps per round")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=16)
    flags = parser.parse_args()
    use_onednn()  # as train.py does, unless TF_ENABLE_ONEDNN_OPTS says otherwise
    size, count = flags.image_size, flags.batch_size
    with contextlib.ExitStack() as stack:
        own, about_own = stack.enter_context(in_own_process(ours, size, count))
        expected = about_own.pop("reference")
        peers, about_torch = stack.enter_context(in_own_process(pytorch, size, count, expected))
        best = contest(own | peers, rounds=flags.rounds, steps=flags.steps)
    wall, work = ({name: pair[i] for name, pair in best.items()} for i in (0, 1))
    wall_ratios, work_ratios = ratios(wall, peers), ratios(work, peers)

    deviation = about_torch["differences"]
    parameters = sum(w.size for w in expected["weights"].values())
    assert parameters == about_torch["parameters"] and max(deviation.values()) < 1e-2, (parameters, about_torch)
    print(
        f"\none step of {parameters:,} parameters, {count} images of {size} px; x: speed relative to PyTorch's best; core time"
    )
    print_table(best, min(wall[name] for name in peers))
    print(
        f"  PyTorch's logits differ from ours by {deviation['logits']:.1e}, its gradient by {deviation['gradient']:.1e} of the largest"
    )
    print(
        f"  eager to graph {wall_ratios['graph_against_eager']:.2f} x; the original's AutoGraph {wall_ratios['original_autograph']:.2f} x"
    )
    both_cores = work["fused batch norm, graph"] > 1.5 * wall["fused batch norm, graph"]
    if not both_cores and not about_own["gpus"]:
        print("  the machine was busy: our steps never had two cores, so the ratios mean nothing")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor(), "gpus": about_own["gpus"],
                    "onednn": os.environ.get(ONEDNN)},
        "versions": {"python": platform.python_version(), **about_own["versions"], **about_torch["versions"]},
        "image_size": size, "batch_size": count, "parameters": parameters,
        "ms": {name: round(value * 1e3, 2) for name, value in wall.items()},
        "core_ms": {name: round(value * 1e3, 2) for name, value in work.items()},
        "ratios": {name: round(value, 3) for name, value in wall_ratios.items()},
        "ratios_of_core_time": {name: round(value, 3) for name, value in work_ratios.items()},
        "differences": deviation, "had_two_cores": bool(both_cores),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
