"""Retinas drawn from a seed: photographs with known grade, labels and lesions. numpy and cv2 only."""

from dr_tf.fundus.synthesis.cameras import CAMERAS, Camera
from dr_tf.fundus.synthesis.eye import Eye
from dr_tf.fundus.synthesis.patient import LESIONS, Patient, draw_grades, render_patient

__all__ = ["CAMERAS", "LESIONS", "Camera", "Eye", "Patient", "draw_grades", "render_patient"]
