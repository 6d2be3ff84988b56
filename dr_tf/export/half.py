"""Copy a finished run at half its size: weights are stored as float16, and loaded as float32.

Keras and `python -m dr_tf.predict` open the copy like the run itself. Evaluate the copy: its weights are rounded, so
its metrics can differ slightly from those of the run.
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import shutil
import zipfile
from collections.abc import Sequence

import numpy as np

from dr_tf.console import UserError, exit_on_user_error
from dr_tf.files import atomic_write

_WEIGHTS = "model.weights.h5"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None means `sys.argv`."""
    parser = argparse.ArgumentParser("python -m dr_tf.export.half", description=__doc__)
    parser.add_argument("--run_dir", required=True, type=pathlib.Path, help="a finished run")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="the run directory to write")
    return parser.parse_args(arguments)


def halve_run(run_dir: pathlib.Path, output: pathlib.Path) -> None:
    """Copy a run with halved weights.

    Checkpoints, which only training needs, and the nearest neighbours, which may be larger than the network, are left
    out.

    Args:
        run_dir: A finished run.
        output: The run directory to write.

    Raises:
        UserError: The run is not finished, or a weight exceeds the range of float16.
    """
    from dr_tf.explain.colour_scale import MAP_SCALE
    from dr_tf.inference import run

    run.check_finished(run_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.gin", run.DECISION, run.GATE, run.CALIBRATION, MAP_SCALE):
        if (run_dir / name).exists():
            with atomic_write(output / name) as path:
                shutil.copyfile(run_dir / name, path)
    with atomic_write(output / run.MODEL) as path:
        halve_model(run_dir / run.MODEL, path)


def halve_model(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a `.keras` file with its float32 weights stored as float16.

    Raises:
        UserError: A weight exceeds the range of float16.
    """
    with zipfile.ZipFile(source) as original, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in original.namelist():
            data = original.read(name)
            copy.writestr(name, _halve_weights(data) if name == _WEIGHTS else data)


def _halve_weights(weights):
    import h5py

    result = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as original, h5py.File(result, "w") as copy:
        original.visititems(lambda name, item: _copy_item(name, item, copy))
        for name, value in original.attrs.items():
            copy.attrs[name] = value
    return result.getvalue()


def _copy_item(name, item, copy):
    if hasattr(item, "shape"):
        values = item[()]
        new = copy.create_dataset(name, data=_to_float16(name, values) if values.dtype == np.float32 else values)
    else:
        new = copy.require_group(name)
    for attribute, value in item.attrs.items():
        new.attrs[attribute] = value


def _to_float16(name, values):
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"the weights {name} exceed the range of float16: they cannot be halved")
    return half


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    flags = parse(arguments)
    with exit_on_user_error():
        halve_run(flags.run_dir, flags.output)
    size = sum(path.stat().st_size for path in flags.output.iterdir())
    print(f"{flags.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
