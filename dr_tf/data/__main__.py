"""Draws what a config really feeds its model: training batches after sampling and augmentation, beside the originals."""

import argparse
import sys

from dr_tf.console import mistakes_in_one_line
from dr_tf.runtime import starting_tensorflow


def parse(arguments):
    parser = argparse.ArgumentParser("python -m dr_tf.data", description=__doc__)
    parser.add_argument(
        "--gin_file", action="append", required=True, help="a config; more than once: later ones on top"
    )
    parser.add_argument("--gin_param", action="append", default=[], help="one binding on top of the config")
    parser.add_argument("--records", required=True, help="folder that tfrecords_builder wrote to")
    parser.add_argument("--output", required=True, help="the picture to write, .png")
    parser.add_argument("--count", type=int, default=32, help="examples to draw, filled up to whole batches")
    return parser.parse_args(arguments)


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        with starting_tensorflow():
            from dr_tf import configuration
            from dr_tf.data.contact_sheet import draw_sheet
            from dr_tf.models.network import image_size_of
            from dr_tf.training.data_roles import split_roles
            from dr_tf.training.training_data import TrainingData

            configuration.start()
        configuration.parse(flags.gin_file, flags.gin_param)
        experiment, records = configuration.experiment(flags.records)
        size = image_size_of(experiment.model(heads=experiment.heads))
        feed = TrainingData(experiment, records, split_roles(records, experiment.head), size)
        fed, originals = (
            feed.training(augmented=changed).map(lambda x, y, *weights: (x, y[experiment.output]))
            for changed in (True, False)
        )
        drawn = draw_sheet(flags.output, fed, originals, name_of=experiment.head.name_of, count=flags.count)
    print(f"{flags.output}: {drawn} of {len(feed.roles.fit)} fitted examples", file=sys.stderr)


if __name__ == "__main__":
    main()
