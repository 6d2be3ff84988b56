"""Minimal NumPy heads with the attributes that inference needs."""

import numpy as np

from dr_tf.models.links import score_count, scores_to_probabilities

GRADES = ("0", "1", "2", "3", "4")


class Head:
    exclusive = True
    from_class = 2

    def __init__(self, classes=GRADES, positive="referable"):
        self.classes, self.positive = tuple(classes), positive

    def get_config(self):
        return {"classes": list(self.classes), "positive": self.positive}

    @property
    def outputs(self):
        return score_count(self.link, len(self.classes))

    @property
    def definitions(self):
        return (self.positive,)

    def probabilities(self, logits):
        return scores_to_probabilities(self.link, logits, len(self.classes))

    def definition_probabilities(self, probabilities):
        return np.asarray(probabilities)[:, self.from_class :].sum(axis=1, keepdims=True)

    def p_positive(self, probabilities):
        return self.definition_probabilities(probabilities)[:, self.definitions.index(self.positive)]

    def grade(self, probabilities):
        return np.asarray(probabilities).argmax(axis=1)


class Softmax(Head):
    name = link = "softmax"


class Coral(Head):
    name = link = "coral"


class Corn(Head):
    name = link = "corn"


class Regression(Head):
    """The grade as one continuous score."""

    name = link = "regression"
    outputs = 1


class Binary(Head):
    name = link = "binary"
    from_class = 1

    def __init__(self, classes=("no", "yes"), positive="referable"):
        super().__init__(classes, positive)

    def grade(self, probabilities):
        return None


class Edema(Head):
    """The risk of edema, beside the grade."""

    name, link = "edema", "softmax"

    def __init__(self, classes=("none", "elsewhere", "near"), positive="referable_dme"):
        super().__init__(classes, positive)

    def grade(self, probabilities):
        return None


class MultiLabel(Head):
    """Independent labels."""

    name, link, exclusive = "multi_label", "labels", False

    def __init__(self, classes=("N", "D", "G"), positive="odir_D"):
        super().__init__(classes, positive)

    @property
    def definitions(self):
        return tuple(f"odir_{label}" for label in self.classes)

    def definition_probabilities(self, probabilities):
        return np.asarray(probabilities)

    def grade(self, probabilities):
        return None


HEADS = {head.name: head for head in (Softmax, Coral, Corn, Regression, Binary, Edema, MultiLabel)}
