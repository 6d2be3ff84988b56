"""The service: decisions over HTTP, the same that `dr_tf predict` prints. It needs the extra `serve`."""
