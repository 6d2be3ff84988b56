"""A vision transformer with fewer tokens: how much time ONNX Runtime saves on the CPU, and how far the features move.

ViT-B/16 at 224 pixels, the architecture of CLIP's image tower, with random weights: only speed and cosine similarity mean
anything here. A crop is black beyond the circle of the retina, so some of its 196 patches never change. Contestants:

    full              197 tokens
    dropped           without the 24 patches that lie wholly outside of the circle (173 tokens)
    dropped, merged   and in each block MERGED tokens are merged with the most similar one (Bolya et al., ToMe, ICLR 2023)

each in float32 and in int8 (the settings of `dr_tf export --quantize int8`), and in OpenVINO where it is installed. The
aim is half of the time of `full` in float32. Rounds alternate between the contestants. Times are processor milliseconds
per image, which a busy machine disturbs less than elapsed ones. Quantizing 86 million weights takes minutes for each file.

    python benchmarks/vit_tokens.py [--rounds 5] [--merged 12] [--blocks 12] [--only full dropped] [--kinds float32 int8]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import processor
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dr_tf.inference.onnx_network import open_session

SIDE, PATCH, WIDTH, HEADS, HIDDEN = 224, 16, 768, 12, 3072
GRID, DEPTH = SIDE // PATCH, WIDTH // HEADS
_LARGE = np.float32(1e9)


class Tower:
    """An ONNX graph of the tower for one image.

    Args:
        blocks: the number of transformer blocks.
        kept: the patches that become tokens.
        merged: tokens that are merged in each block; 0 for none.
    """

    def __init__(self, blocks: int, kept: np.ndarray, merged: int = 0):
        self._rng = np.random.default_rng(0)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        x, tokens, sizes = self._embed(kept), 1 + len(kept), None
        for _ in range(blocks):
            x, sizes, tokens = self._block(x, sizes, tokens, merged)
        first = self.op("Gather", x, self.constant(np.array(0)), axis=1)
        self.op("Identity", self.norm(first), output="features")

    def constant(self, values: Any) -> str:
        """Add a constant; return its name."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, output: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or the names of several."""
        names = [output or f"x{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, name=f"n{len(self._nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """Add a dense layer with random weights."""
        weights = self._rng.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        bias = self._rng.normal(0, 0.02, outputs).astype(np.float32)
        return self.op("Add", self.op("MatMul", x, self.constant(weights)), self.constant(bias))

    def norm(self, x: str) -> str:
        """Add a layer normalization."""
        one, zero = self.constant(np.ones(WIDTH, np.float32)), self.constant(np.zeros(WIDTH, np.float32))
        return self.op("LayerNormalization", x, one, zero, axis=-1, epsilon=1e-5)

    def _embed(self, kept: np.ndarray) -> str:
        scaled = self.op("Div", self.op("Cast", "images", to=TensorProto.FLOAT), self.constant(np.float32(64)))
        grid = self.op("Reshape", scaled, self.constant(np.array([GRID, PATCH, GRID, PATCH, 3])))
        grid = self.op("Transpose", grid, perm=[0, 2, 1, 3, 4])
        patches = self.op("Reshape", grid, self.constant(np.array([1, GRID**2, PATCH**2 * 3])))
        positions = self._rng.normal(0, 0.3, (1, 1 + GRID**2, WIDTH)).astype(np.float32)
        if len(kept) < GRID**2:
            patches = self.op("Gather", patches, self.constant(kept), axis=1)
        x = self.op("Add", self.dense(patches, PATCH**2 * 3, WIDTH), self.constant(positions[:, 1 + kept]))
        return self.norm(self.op("Concat", self.constant(positions[:, :1]), x, axis=1))

    def _heads(self, x: str, tokens: int, *perm: int) -> str:
        shape = self.constant(np.array([1, tokens, HEADS, DEPTH]))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=perm)

    def _block(self, x: str, sizes: str | None, tokens: int, merged: int) -> tuple[str, str | None, int]:
        normalized = self.norm(x)
        query, key, value = (self.dense(normalized, WIDTH, WIDTH) for _ in range(3))
        scores = self.op("MatMul", self._heads(query, tokens, 0, 2, 1, 3), self._heads(key, tokens, 0, 2, 3, 1))
        scores = self.op("Mul", scores, self.constant(np.float32(DEPTH**-0.5)))
        if sizes is not None:  # a merged token weighs as much as its parts
            scores = self.op("Add", scores, self.op("Transpose", self.op("Log", sizes), perm=[0, 2, 1]))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), self._heads(value, tokens, 0, 2, 1, 3))
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.op("Reshape", mixed, self.constant(np.array([1, tokens, WIDTH])))
        x = self.op("Add", x, self.dense(mixed, WIDTH, WIDTH))
        if merged:
            x, sizes = self._merge(x, sizes, key, tokens, merged)
            tokens -= merged
        hidden = self.dense(self.norm(x), WIDTH, HIDDEN)
        gate = self.op("Sigmoid", self.op("Mul", hidden, self.constant(np.float32(1.702))))  # CLIP's QuickGELU
        return self.op("Add", x, self.dense(self.op("Mul", hidden, gate), HIDDEN, WIDTH)), sizes, tokens

    def _merge(self, x: str, sizes: str | None, key: str, tokens: int, merged: int) -> tuple[str, str]:
        """Merge each of the `merged` tokens of even number that are most like one of odd number with that one."""
        even, odd = np.arange(0, tokens, 2), np.arange(1, tokens, 2)
        per_head = self.op("Reshape", key, self.constant(np.array([1, tokens, HEADS, DEPTH])))
        metric = self.op("ReduceMean", per_head, axes=[2], keepdims=0)
        metric = self.op("LpNormalization", metric, axis=-1, p=2)
        left, right = (self.op("Gather", metric, self.constant(rows), axis=1) for rows in (even, odd))
        alike = self.op("MatMul", left, self.op("Transpose", right, perm=[0, 2, 1]))
        not_class = np.zeros((1, len(even), 1), np.float32)
        not_class[0, 0] = -_LARGE  # the class token is never merged, and stays the first
        alike = self.op("Squeeze", self.op("Add", alike, self.constant(not_class)), self.constant(np.array([0])))
        best, partner = self.op("ReduceMax", alike, axes=[1], keepdims=0), self.op("ArgMax", alike, axis=1, keepdims=0)
        _, order = self.op("TopK", best, self.constant(np.array([len(even)])), outputs=2, largest=0)
        split = self.constant(np.array([len(even) - merged, merged]))
        stay, go = self.op("Split", order, split, outputs=2, axis=0)
        to = self.op("Gather", partner, go, axis=0)
        if sizes is None:
            sizes = self.constant(np.ones((1, tokens, 1), np.float32))
        weighted = [self._moved(v, even, odd, stay, go, to) for v in (self.op("Mul", x, sizes), sizes)]
        return self.op("Div", *weighted), weighted[1]

    def _moved(self, x: str, even: np.ndarray, odd: np.ndarray, stay: str, go: str, to: str) -> str:
        left, right = (self.op("Gather", x, self.constant(rows), axis=1) for rows in (even, odd))
        moving = self.op("Gather", left, go, axis=1)
        index = self.op("Unsqueeze", to, self.constant(np.array([0, 2])))
        index = self.op("Expand", index, self.op("Shape", moving))
        sums = self.op("ScatterElements", right, index, moving, axis=1, reduction="add")
        return self.op("Concat", self.op("Gather", left, stay, axis=1), sums, axis=1)

    def save(self, path: pathlib.Path) -> None:
        """Write the ONNX file."""
        value = helper.make_tensor_value_info
        images, features = value("images", TensorProto.UINT8, [1, SIDE, SIDE, 3]), value("features", 1, [1, WIDTH])
        graph = helper.make_graph(self._nodes, "tower", [images], [features], self._weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(made.SerializeToString())


def patches_of_the_circle() -> np.ndarray:
    """The patches that the circle in a square crop touches."""
    edges = np.arange(GRID + 1) - GRID / 2
    nearest = np.maximum(np.maximum(edges[:-1], -edges[1:]), 0)  # distance of a row of patches from the centre
    return np.flatnonzero(np.hypot(nearest[:, None], nearest).ravel() < GRID / 2)


def crops(count: int) -> np.ndarray:
    """Synthetic retinas as the network gets them."""
    from dr_tf.fundus.prepare import prepare, resize_square
    from dr_tf.fundus.synthesis import render_patient

    eyes = [eye for seed in range(-(-count // 2)) for eye in render_patient(seed, side=512).eyes]
    return np.stack([resize_square(prepare(eye.encode(), size=SIDE).image, SIDE) for eye in eyes[:count]])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The least cosine similarity of two sets of features."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def contestants(folder: pathlib.Path, args: argparse.Namespace, images: np.ndarray) -> dict[str, Any]:
    """Build every file and open it; {name: function of one image}."""
    circle, every = patches_of_the_circle(), np.arange(GRID**2)
    print(f"{len(circle)} of {GRID**2} patches touch the circle", file=sys.stderr)
    towers = {"full": (every, 0), "dropped": (circle, 0), "dropped, merged": (circle, args.merged)}
    runs = {}
    for name in args.only or towers:
        path = folder / f"{name}.onnx"
        Tower(args.blocks, *towers[name]).save(path)
        for kind in args.kinds:
            runs[f"{name}, {kind}"] = KINDS[kind](path, images)
    return runs


def float32(path: pathlib.Path, images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Open a file in ONNX Runtime."""
    del images
    session = open_session(path)
    return lambda image: session.run(["features"], {"images": image})[0]


def int8(path: pathlib.Path, images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Quantize a file, with ranges from one image, and open it in ONNX Runtime."""
    from dr_tf.export.quantize import quantize_onnx  # imports TensorFlow

    quantized = path.with_suffix(".int8.onnx")
    quantize_onnx(path, quantized, [{"images": images[:1]}])
    return float32(quantized, images)


def in_openvino(path: pathlib.Path, images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a file for OpenVINO."""
    import openvino

    del images
    network = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": os.cpu_count() or 1})
    return lambda image: network({"images": image})[0]


KINDS = {"float32": float32, "int8": int8, "openvino": in_openvino}


def main() -> None:
    """Measure and print the table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--merged", type=int, default=12, help="tokens that are merged in each block")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--only", nargs="+", help="some of the contestants, full among them (default: all)")
    has_openvino = importlib.util.find_spec("openvino") is not None
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS)[: 2 + has_openvino])
    args = parser.parse_args()
    images = crops(args.images)
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(pathlib.Path(folder), args, images)
    features = {name: np.concatenate([run(image[None]) for image in images]) for name, run in runs.items()}
    used: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.rounds):
        for name, run in runs.items():
            before = time.process_time()
            run(images[number % len(images)][None])
            used[name].append(1e3 * (time.process_time() - before))
    figures = {}
    reference = statistics.median(used["full, float32"])
    print(f"{'':28}{'processor ms':>14}{'of full':>9}{'least cosine':>14}")
    for name, times in used.items():
        of_full = statistics.median(times) / reference
        alike = cosine(features[name], features["full, float32"])
        figures[name] = {
            "ms": round(statistics.median(times), 1),
            "of_full": round(of_full, 3),
            "cosine": round(alike, 5),
        }
        print(f"{name:28}{figures[name]['ms']:14.1f}{of_full:9.3f}{alike:14.5f}")
    print(json.dumps({"processor": processor(), "load": os.getloadavg()[0], **vars(args), "figures": figures}))


if __name__ == "__main__":
    main()
