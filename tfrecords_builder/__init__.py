"""Convert published fundus-image data sets to TFRecords: `python -m tfrecords_builder --help`."""
