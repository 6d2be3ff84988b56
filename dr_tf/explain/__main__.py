"""`python -m dr_tf.explain`: the same as `dr_tf explain`."""

from dr_tf.cli.explain import main

if __name__ == "__main__":
    main()
