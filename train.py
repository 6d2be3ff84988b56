"""Train the model that a config describes, and write a run directory: `python train.py --help`. The same as `dr_tf train`."""

from absl import app

from dr_tf.cli.train import main, parse, run
from dr_tf.process import run_command

__all__ = ["main"]

if __name__ == "__main__":
    run_command(lambda: app.run(run, flags_parser=lambda argv: parse(argv[1:])))
