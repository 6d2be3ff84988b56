"""The suite computes as the commands do: else a run that was killed in a process of its own would end with other last bits."""

from dr_tf.runtime import use_onednn

use_onednn()
