"""A finished run at half its size: weights as float16 on disk, and as float32 as soon as they are read.

Keras and `python -m dr_tf.predict` open it as they open the run. What evaluation says of it is of these very weights.
"""

import argparse
import io
import pathlib
import shutil
import zipfile

import numpy as np

from dr_tf.console import UserError, mistakes_in_one_line
from dr_tf.files import appearing

_WEIGHTS = "model.weights.h5"


def parse(arguments):
    parser = argparse.ArgumentParser("python -m dr_tf.export.half", description=__doc__)
    parser.add_argument("--run_dir", required=True, type=pathlib.Path, help="a finished run")
    parser.add_argument(
        "--output", required=True, type=pathlib.Path, help="the folder to write to; a run directory again"
    )
    return parser.parse_args(arguments)


def halve_run(run_dir, output):
    """Without what only training needs (checkpoints) and what may be larger than the network (the neighbours' bank)."""
    from dr_tf.explain.colour_scale import MAP_SCALE
    from dr_tf.inference import run

    run.check_finished(run_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.gin", run.DECISION, run.GATE, run.CALIBRATION, MAP_SCALE):
        if (run_dir / name).exists():
            with appearing(output / name) as path:
                shutil.copyfile(run_dir / name, path)
    with appearing(output / run.MODEL) as path:
        halve_model(run_dir / run.MODEL, path)


def halve_model(source, target):
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as write:
        for name in read.namelist():
            data = read.read(name)
            write.writestr(name, _halved(data) if name == _WEIGHTS else data)


def _halved(weights):
    import h5py

    result = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as read, h5py.File(result, "w") as write:
        read.visititems(lambda name, thing: _copy(name, thing, write))
        for name, value in read.attrs.items():
            write.attrs[name] = value
    return result.getvalue()


def _copy(name, thing, write):
    if hasattr(thing, "shape"):
        values = thing[()]
        made = write.create_dataset(name, data=_half(name, values) if values.dtype == np.float32 else values)
    else:
        made = write.require_group(name)
    for attribute, value in thing.attrs.items():
        made.attrs[attribute] = value


def _half(name, values):
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"the weights {name} are beyond what float16 holds")
    return half


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        halve_run(flags.run_dir, flags.output)
    size = sum(path.stat().st_size for path in flags.output.iterdir())
    print(f"{flags.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
