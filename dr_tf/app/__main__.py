"""`python -m dr_tf.app`: the same as `dr_tf app`."""

from dr_tf.cli.app import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
