"""Maps of the evidence by several methods on the original image, nearest training cases, and a scorecard of the maps."""
