"""Photograph -> logits: a backbone's pooled features, hidden layers, a head."""

import keras


def classifier(backbone, head, *, hidden=(), dropout=0.0):
    """One graph from RGB 0-255 to logits. `dropout` follows each of the `hidden` layers; without any, the features."""
    x = backbone.model.output["pooled"]
    for i, units in enumerate(hidden, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"hidden{i}")(x)
        x = _dropped(x, dropout, f"hidden{i}_dropout")
    if not hidden:
        x = _dropped(x, dropout, "dropout")
    return keras.Model(backbone.model.input, head.logits(x), name=f"{backbone.name}_{head.name}")


def _dropped(x, rate, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
