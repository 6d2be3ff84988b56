"""`python -m dr_tf.data`: draw the training batches of a config."""

from dr_tf.cli.contact_sheet import main
from dr_tf.process import run_command

if __name__ == "__main__":
    run_command(main)
