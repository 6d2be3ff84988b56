"""Class-activation maps (Grad-CAM and relatives), drawn on the original image, and a scorecard of their reliability."""
