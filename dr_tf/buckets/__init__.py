"""Files in buckets: S3, Google Cloud Storage and other stores that fsspec reads. They are copied to a cache before use."""
