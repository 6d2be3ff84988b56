"""Render synthetic fundus photographs from a seed, with known grade, labels and lesion masks. Needs numpy and cv2 only.

`render_patient` draws both eyes of a patient: anatomy and vessels, then the lesions of a grade (`grading`, `lesions`)
and the findings of ODIR (`findings`), then the photograph that a camera takes of them (`cameras`).
"""

from dr_tf.fundus.synthesis.cameras import CAMERAS, Camera
from dr_tf.fundus.synthesis.eye import Eye
from dr_tf.fundus.synthesis.patient import LESIONS, Patient, draw_grades, render_patient

__all__ = ["CAMERAS", "LESIONS", "Camera", "Eye", "Patient", "draw_grades", "render_patient"]
