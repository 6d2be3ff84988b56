"""Published folders of fundus photographs -> TFRecords that can be trusted: `python -m tfrecords_builder --help`."""
