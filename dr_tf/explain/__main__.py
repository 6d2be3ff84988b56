"""`python -m dr_tf.explain`: the same as `dr_tf explain`."""

from dr_tf.cli.explain import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
