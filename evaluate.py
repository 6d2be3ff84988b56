"""Evaluate a finished run on data that it was not trained on: `python evaluate.py --help`. The same as `dr_tf evaluate`."""

from absl import app

from dr_tf.cli.evaluate import main, parse, run
from dr_tf.process import run_command

__all__ = ["main"]

if __name__ == "__main__":
    run_command(lambda: app.run(run, flags_parser=lambda argv: parse(argv[1:])))
