"""Where a network looked: Grad-CAM and its relatives, drawn on the original photograph, and how far to believe them."""
