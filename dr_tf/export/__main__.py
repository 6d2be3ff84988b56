"""`python -m dr_tf.export`: the same as `dr_tf export`."""

from dr_tf.cli.export import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
