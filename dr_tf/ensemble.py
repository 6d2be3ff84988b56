"""`python -m dr_tf.ensemble`: the same as `dr_tf ensemble`."""

from dr_tf.cli.ensemble import main

if __name__ == "__main__":
    main()
