"""`python -m dr_tf.predict`: the same as `dr_tf predict`."""

from dr_tf.cli.predict import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
