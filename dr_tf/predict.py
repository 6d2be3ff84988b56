"""`python -m dr_tf.predict`: the same as `dr_tf predict`."""

from dr_tf.cli.predict import main

if __name__ == "__main__":
    main()
