"""`python -m dr_tf.data`: draw the training batches of a config."""

from dr_tf.cli.contact_sheet import main

if __name__ == "__main__":
    main()
