"""Config files: the table of gin names, and building an experiment from a config."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import pathlib
import re
import tokenize
from collections.abc import Callable, Collection, Sequence
from typing import Any

import absl.flags
import absl.logging
import gin
import tensorflow as tf

from dr_tf.config_files import shipped_folder
from dr_tf.console import UserError
from dr_tf.data import artifacts, augmentation, camera, colour, rand_augment, sampling, warp
from dr_tf.data.records import Records, open_records
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.cross_attention import cross_attention_classifier
from dr_tf.models.fcn_decoder import fcn_classifier
from dr_tf.models.heads import HEADS
from dr_tf.models.paired import paired_classifier
from dr_tf.parameters import checked
from dr_tf.training.experiment import Experiment
from dr_tf.training.feature_bank import FeatureBank
from dr_tf.training.grid import Grid
from dr_tf.training.lesion_masks import LesionMasks
from dr_tf.training.optimization import Optimization

# Name in a config -> class or function. Its parameters are set by `name.parameter = value`.
CONFIGURABLES: dict[str, Callable[..., Any]] = {
    "train": Experiment,
    "optimization": Optimization,
    "feature_bank": FeatureBank,
    "lesion_masks": LesionMasks,
    "grid": Grid,
    "backbone": build_backbone,
    "classifier": classifier,
    "paired_classifier": paired_classifier,
    "cross_attention_classifier": cross_attention_classifier,
    "fcn_classifier": fcn_classifier,
    "augmentation": augmentation.Augmentation,
    "warp": warp.Warp,
    "colour": colour.Colour,
    "field_of_view": camera.FieldOfView,
    "tone_curve": camera.ToneCurve,
    "resolution": camera.Resolution,
    "blur": artifacts.Blur,
    "halo": artifacts.Halo,
    "hole": artifacts.Hole,
    "spot": artifacts.Spot,
    "rand_augment": rand_augment.RandAugment,
    "shuffled": sampling.Shuffled,
    "weighted": sampling.Weighted,
    "exactly_each": sampling.ExactlyEach,
    **HEADS,
}

for _name, _configurable in CONFIGURABLES.items():
    gin.register(_name)(checked(_name, _configurable))


def set_up_logging() -> None:
    """Log the project's messages to the terminal, one line each with its time; of other packages only errors."""
    tf.get_logger().setLevel(logging.ERROR)
    tf.config.list_physical_devices()  # logs about graphics drivers now, while the caller discards such messages
    own_folder = str(pathlib.Path(__file__).parent)
    handler = absl.logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.pathname.startswith(own_folder))
    logging.getLogger().addFilter(lambda record: "gin" not in record.pathname)  # gin logs every folder it searches
    absl.flags.FLAGS.mark_as_parsed()  # otherwise absl warns about flags before the first message
    absl.logging.use_absl_handler()
    if absl.flags.FLAGS["verbosity"].using_default_value:
        absl.logging.set_verbosity(absl.logging.INFO)


def parse(gin_files: Sequence[str | os.PathLike], bindings: Sequence[str] = ()) -> None:
    """Parse config files and then single bindings. Later ones override earlier ones; what was parsed before is forgotten.

    Raises:
        UserError: a file cannot be read, or a name or a value is invalid.
    """
    gin.clear_config()
    try:
        for path in gin_files:
            _search_beside(path)
            gin.parse_config_file(str(path))
        gin.parse_config(list(bindings))
        gin.finalize()
    except (OSError, ValueError, SyntaxError, ImportError, tokenize.TokenError) as error:
        raise UserError(f"config: {_in_one_line(error)}") from None
    except RecursionError:
        raise UserError(f"config: {', '.join(map(str, gin_files))}: an included file includes itself") from None


def _search_beside(path):
    """Search included files beside the config that includes them, in the working directory, then among the shipped ones.

    gin itself searches the working directory first, where `include 'base.gin'` may find an unrelated file.
    """
    shipped = shipped_folder()
    folders = [pathlib.Path(path).resolve().parent, pathlib.Path(), shipped, shipped / "experiments"]
    gin.config._LOCATION_PREFIXES[:] = [str(folder) for folder in folders]


def build(name: str) -> Any:
    """Build the object of a name in CONFIGURABLES from the parsed config. Raises UserError if a parameter is missing."""
    try:
        return gin.get_configurable(name)()
    except TypeError as error:
        raise UserError(f"config: {_in_one_line(error)}") from error


def build_experiment(records_dir: str | os.PathLike) -> tuple[Experiment, Records]:
    """Build the experiment of the parsed config and open its record set in `records_dir`."""
    experiment = build("train")
    return experiment, open_records(records_dir, experiment.dataset)


def operative_config() -> str:
    """Return the text of all parameters that were used so far, including defaults: enough to repeat the run."""
    return gin.operative_config_str()


def _in_one_line(error):
    """The first line of gin's message in plain words, with the place and the most similar known name."""
    first, *rest = str(error).splitlines()
    places = [line.strip().removeprefix("In ") for line in rest if line.strip().startswith(("In file", "In bindings"))]
    place = f" ({places[0]})" if places else ""
    if match := re.match(r"No configurable matching '(.+?)'", first):
        return f"unknown name {match[1]!r}{place}; {_suggestion(match[1], CONFIGURABLES)}"
    if match := re.match(r"No configurable matching reference '@(.+?)(?:\(\))?'", first):
        return f"unknown name @{match[1]}{place}; {_suggestion(match[1], CONFIGURABLES)}"
    if match := re.match(r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'", first):
        return f"{match[1]} has no parameter {match[2]!r}{place}; {_suggestion(match[2], _parameters(match[1]))}"
    if match := re.match(r"No bindings specified for '(.+?)/gin.macro'", first):
        return f"%{match[1]} is not set"
    if match := re.match(r"macro\(\) missing .* in scope '(.+?)'", " ".join([first, *rest])):
        return f"%{match[1]} is not set"
    if match := re.search(r"missing .*?argument.*?: (.+)", first):
        called = re.search(r"In call to configurable '(.+?)'", str(error))
        return f"{called[1] if called else 'the config'} needs {match[1]}"
    return first + place


def _suggestion(name: str, known: Collection[str]) -> str:
    similar = difflib.get_close_matches(name, known, 1)
    return f"did you mean {similar[0]!r}?" if similar else f"known: {', '.join(sorted(known))}"


def _parameters(name):
    return inspect.signature(CONFIGURABLES[name]).parameters if name in CONFIGURABLES else ()
