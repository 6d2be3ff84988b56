"""The viewer: a photograph beside its map, with opacity, zoom and pan, as a component of the page."""

from __future__ import annotations

import pathlib
from typing import Any

import streamlit as st

from dr_tf.app.engine import Answer
from dr_tf.app.messages import Messages
from dr_tf.app.overlays import data_uri, map_png, scale_colours

_FOLDER = pathlib.Path(__file__).parent


def show_viewer(answer: Answer, eye: str, messages: Messages, *, key: str) -> None:
    """Show the photograph of one eye beside its map.

    Args:
        answer: the answer about the case.
        eye: a key of its pictures.
        messages: the words of the page.
        key: of the component on the page.
    """
    html, css, js = ((_FOLDER / f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    component = st.components.v2.component("dr_tf_viewer", html=html, css=css, js=js)
    component(key=key, data=viewer_data(answer, eye, messages), height="content")


def viewer_data(answer: Answer, eye: str, messages: Messages) -> dict[str, Any]:
    """Return what the component draws: two pictures, the colours of the scale, and the words."""
    photograph, geometry = answer.pictures[eye], answer.decision.images[eye].geometry
    values = answer.maps.get(eye) if geometry is not None else None
    picture = None if values is None or geometry is None else map_png(values, geometry, photograph)
    names = ("opacity", "none", "full", "photograph", "overlay", "keys")
    texts = {name: messages(f"map.{name}") for name in names}
    texts |= {"in": messages("map.zoom_in"), "out": messages("map.zoom_out"), "reset": messages("map.reset")}
    texts |= {"map": messages("map.title"), "legend": _legend(answer, values, messages)}
    return {
        "photograph": data_uri(photograph),
        "map": data_uri(picture) if picture else None,
        "gradient": scale_colours(),
        "texts": texts,
    }


def _legend(answer, values, messages):
    if values is None:
        return ""
    if not values.any():
        return messages("map.empty")
    scale = "map.one_scale" if answer.one_scale else "map.own_scale"
    return f"{messages(scale)} {messages('map.caution')}"
