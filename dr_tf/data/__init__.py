"""Records to batches: which photographs a model sees, in which order, and how they are changed on the way."""
