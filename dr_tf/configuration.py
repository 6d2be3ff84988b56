"""The one table of what a config file may name, and how such a file becomes an experiment."""

import difflib
import inspect
import logging
import pathlib
import re
import tokenize

import absl.flags
import absl.logging
import gin
import tensorflow as tf

from dr_tf.config_files import shipped_folder
from dr_tf.console import UserError
from dr_tf.data import artifacts, augmentation, colour, rand_augment, sampling, warp
from dr_tf.data.records import open_records
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier, paired_classifier
from dr_tf.models.heads import HEADS
from dr_tf.training.experiment import Experiment
from dr_tf.training.feature_bank import FeatureBank
from dr_tf.training.grid import Grid
from dr_tf.training.optimization import Optimization

# Name in a config -> what it builds. A parameter of it is set by `name.parameter = value`.
CONFIGURABLES = {
    "train": Experiment,
    "optimization": Optimization,
    "feature_bank": FeatureBank,
    "grid": Grid,
    "backbone": build_backbone,
    "classifier": classifier,
    "paired_classifier": paired_classifier,
    "augmentation": augmentation.Augmentation,
    "warp": warp.Warp,
    "colour": colour.Colour,
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


def register():
    for name, thing in CONFIGURABLES.items():
        gin.register(name)(thing)


register()


def start():
    """What the project does goes to the terminal, a line each with its time; of others only errors."""
    tf.get_logger().setLevel(logging.ERROR)
    tf.config.list_physical_devices()  # says what it thinks of the graphics driver while greetings are held back
    ours = str(pathlib.Path(__file__).parent)
    handler = absl.logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.pathname.startswith(ours))
    logging.getLogger().addFilter(lambda record: "gin" not in record.pathname)  # it tells each place it looked in
    absl.flags.FLAGS.mark_as_parsed()  # else every first line is about flags
    absl.logging.use_absl_handler()
    if absl.flags.FLAGS["verbosity"].using_default_value:
        absl.logging.set_verbosity(absl.logging.INFO)


def parse(gin_files, bindings=()):
    """Reads config files, later ones on top, then single bindings. Forgets what was parsed before."""
    gin.clear_config()
    try:
        for path in gin_files:
            _search_beside(path)
            gin.parse_config_file(str(path))
        gin.parse_config(list(bindings))
        gin.finalize()
    except (OSError, ValueError, SyntaxError, ImportError, tokenize.TokenError) as error:
        raise UserError(f"config: {_plainly(error)}") from None


def _search_beside(path):
    """Look for included files beside the config that includes them, then in the working directory, then among the shipped ones.

    gin itself looks in the working directory first, where `include 'base.gin'` may find an unrelated file.
    """
    shipped = shipped_folder()
    folders = [pathlib.Path(path).resolve().parent, pathlib.Path(), shipped, shipped / "experiments"]
    gin.config._LOCATION_PREFIXES[:] = [str(folder) for folder in folders]


def build(name):
    """The configured object; a mistake in the config becomes one line."""
    try:
        return gin.get_configurable(name)()
    except TypeError as error:
        raise UserError(f"config: {_plainly(error)}") from error


def experiment(records_dir):
    """The configured experiment and the record set that it names."""
    described = build("train")
    return described, open_records(records_dir, described.dataset)


def operative():
    """What was really used so far, defaults included: enough to repeat the run."""
    return gin.operative_config_str()


def _plainly(error):
    """The first line of gin's message, with the names that it could have been, and the place."""
    first, *rest = str(error).splitlines()
    places = [line.strip().removeprefix("In ") for line in rest if line.strip().startswith(("In file", "In bindings"))]
    place = f" ({places[0]})" if places else ""
    if match := re.match(r"No configurable matching '(.+?)'", first):
        return f"nothing is called {match[1]!r}{place}; {_known(match[1], CONFIGURABLES)}"
    if match := re.match(r"No configurable matching reference '@(.+?)(?:\(\))?'", first):
        return f"nothing is called @{match[1]}{place}; {_known(match[1], CONFIGURABLES)}"
    if match := re.match(r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'", first):
        return f"{match[1]} has no parameter {match[2]!r}{place}; {_known(match[2], _parameters(match[1]))}"
    if match := re.match(r"No bindings specified for '(.+?)/gin.macro'", first):
        return f"%{match[1]} is not set"
    if match := re.match(r"macro\(\) missing .* in scope '(.+?)'", " ".join([first, *rest])):
        return f"%{match[1]} is not set"
    if match := re.search(r"missing .*?argument.*?: (.+)", first):
        called = re.search(r"In call to configurable '(.+?)'", str(error))
        return f"{called[1] if called else 'the config'} needs {match[1]}"
    return first + place


def _known(name, names):
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(names))}"


def _parameters(name):
    return inspect.signature(CONFIGURABLES[name]).parameters if name in CONFIGURABLES else ()
