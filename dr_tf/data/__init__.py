"""Input pipeline: record sets, sampling, augmentation and batches for training and evaluation."""
