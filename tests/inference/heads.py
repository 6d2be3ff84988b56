"""Heads in numpy, as small as the contract allows: what inference asks of a head."""

import numpy as np

from dr_tf.inference.calibration import sigmoid


class Head:
    exclusive = True
    from_class = 2

    def __init__(self, classes=("0", "1", "2", "3", "4"), positive="referable"):
        self.classes, self.positive = tuple(classes), positive

    def get_config(self):
        return {"classes": list(self.classes), "positive": self.positive}

    def p_positive(self, probabilities):
        return np.asarray(probabilities)[:, self.from_class :].sum(axis=1)

    def grade(self, probabilities):
        return np.asarray(probabilities).argmax(axis=1)


class Softmax(Head):
    name = calibration = "softmax"

    @property
    def outputs(self):
        return len(self.classes)

    def probabilities(self, logits):
        e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def from_cumulative(above):
    above = np.hstack([np.ones((len(above), 1)), above, np.zeros((len(above), 1))])
    return above[:, :-1] - above[:, 1:]


class Coral(Head):
    name = calibration = "coral"

    @property
    def outputs(self):
        return len(self.classes) - 1

    def above(self, logits):
        return sigmoid(logits)

    def probabilities(self, logits):
        return from_cumulative(self.above(logits))


class Corn(Coral):
    name = calibration = "corn"

    def above(self, logits):
        return np.cumprod(sigmoid(logits), axis=1)


class Binary(Head):
    name, calibration, outputs, from_class = "binary", "sigmoid", 1, 1

    def __init__(self, classes=("no", "yes"), positive="referable"):
        super().__init__(classes, positive)

    def probabilities(self, logits):
        p = sigmoid(logits)
        return np.hstack([1 - p, p])

    def grade(self, probabilities):
        return None


class MultiLabel(Head):
    name, calibration, exclusive = "multi_label", "sigmoid", False

    def __init__(self, classes=("N", "D", "G"), positive="odir_D"):
        super().__init__(classes, positive)

    @property
    def outputs(self):
        return len(self.classes)

    def probabilities(self, logits):
        return sigmoid(logits)

    def p_positive(self, probabilities):
        return np.asarray(probabilities)[:, self.classes.index(self.positive[-1])]

    def grade(self, probabilities):
        return None


HEADS = {head.name: head for head in (Softmax, Coral, Corn, Binary, MultiLabel)}
