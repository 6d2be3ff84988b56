"""`python -m dr_tf`: the `dr_tf` command."""

from dr_tf.cli.main import main

if __name__ == "__main__":
    main()
