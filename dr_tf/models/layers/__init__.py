"""Layers that replace layers of Keras, for speed or for correct gradients."""
