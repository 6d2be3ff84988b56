"""Heads: one per task, registered by name. `HEADS[head.name](**head.get_config())` builds an equal head."""

from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.coral import Coral
from dr_tf.models.heads.corn import Corn
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.prototypes import Prototypes
from dr_tf.models.heads.regression import Regression
from dr_tf.models.heads.softmax import Softmax

HEADS = {head.name: head for head in (Softmax, Coral, Corn, Regression, Prototypes, Binary, MultiLabel, Edema)}
