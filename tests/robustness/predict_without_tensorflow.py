"""`dr_tf predict` as a process of its own, with a network of random numbers: it starts without TensorFlow, in a second."""

import numpy as np

from dr_tf import process
from dr_tf.cli import predict
from dr_tf.inference import run
from dr_tf.models.links import score_count


class RandomNetwork:
    """Has the sizes and the outputs of the model that comes with dr_tf."""

    paired, ensemble, description, runtime = False, False, "random numbers", "NumPy"

    def __init__(self, folder):
        rule, preparation = run.read_rule(folder / run.DECISION, run.HEADS)
        self.image_size, self._heads = preparation.image_size, rule.heads
        self.outputs = tuple(rule.heads)
        with np.load(folder / run.GATE) as arrays:
            self.width = len(arrays["mean"])

    def __call__(self, images):
        rng = np.random.default_rng(0)
        logits = {name: rng.normal(size=(len(images), _scores(head))) for name, head in self._heads.items()}
        return logits, rng.normal(size=(len(images), self.width))

    def members(self, features):
        return None


def _scores(head):
    return score_count(head.link, len(head.classes))


def main():
    run.load_network = lambda folder, *, keras: RandomNetwork(folder)
    process.run_command(predict.main)


if __name__ == "__main__":
    main()
