"""Fundus image processing: decoding, border detection, cropping, enhancement, gradability, synthesis."""
