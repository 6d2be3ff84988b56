"""Many patients on the page: a table that sorts and filters, its downloads, and the patient to open."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dr_tf.app.engine import Engine, PatientAnswer
from dr_tf.app.tables import csv_file, json_file, table_rows
from dr_tf.app.wording import Wording
from dr_tf.inference.decision import ACTIONS
from dr_tf.safe_names import printable

_ROW, _MOST_ROWS = 56, 12  # pixels, rows of the table before it scrolls


def show_batch(answers: Sequence[PatientAnswer], engine: Engine, wording: Wording) -> int | None:
    """Show the table of a batch.

    Returns:
        The number of the patient to open; None for none.
    """
    t = wording.messages
    words = {action: t(f"action.{action}") for action in reversed(ACTIONS)}
    rows = table_rows(answers, wording)
    st.subheader(_title(rows, words, wording), anchor=False)
    shown = st.pills(
        t("batch.filter"), list(words), format_func=lambda one: words[one], selection_mode="multi", key="filter"
    )
    kept = [row for row in rows if not shown or row["action"] in [words[action] for action in shown]]
    st.dataframe(
        kept,
        hide_index=True,
        height=min(len(kept), _MOST_ROWS) * _ROW + 40,
        row_height=_ROW,
        column_config=_columns(wording),
        placeholder="–",
        key="table",
    )
    with st.container(horizontal=True):
        rule = engine.predictor.rule
        st.download_button(
            t("batch.csv"), lambda: csv_file(answers, rule), "dr_tf.csv", "text/csv", on_click="ignore", key="csv"
        )
        st.download_button(
            t("batch.json"), lambda: json_file(answers), "dr_tf.json", "application/json", on_click="ignore", key="json"
        )
    return st.selectbox(
        t("batch.open"),
        range(len(answers)),
        index=None,
        placeholder=t("batch.choose"),
        format_func=lambda number: _label(answers[number], rows[number]),
        key="open",
    )


def _title(rows, words, wording):
    counts = {word: sum(row["action"] == word for row in rows) for word in words.values()}
    parts = ", ".join(f"{word}: {count}" for word, count in counts.items() if count)
    return f"{wording.messages('batch.title', count=len(rows))}: {parts}"


def _label(answer, row):
    return f"{printable(answer.patient)}: {row['action'] or row['remark']}"


def _columns(wording):
    t, config = wording.messages, st.column_config
    return {
        "photograph": config.ImageColumn(t("batch.photograph"), width="small"),
        "patient": config.TextColumn(t("batch.patient")),
        "action": config.TextColumn(t("batch.action")),
        "probability": config.NumberColumn(t("batch.probability"), format="%.0f %%"),
        "grade": config.NumberColumn(t("batch.grade"), format="%d"),
        "remark": config.TextColumn(t("batch.remark"), width="large"),
    }
