"""Networks: backbones, layers, heads, and the Keras models built from them."""
