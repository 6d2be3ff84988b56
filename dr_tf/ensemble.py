"""`python -m dr_tf.ensemble`: the same as `dr_tf ensemble`."""

from dr_tf.cli.ensemble import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
