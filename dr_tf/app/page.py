"""The page: from an upload, or a sample, to the decision on each patient."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Hashable, Sequence

import streamlit as st

from dr_tf.app.batch_view import show_batch
from dr_tf.app.engine import Engine, PatientAnswer, open_engine
from dr_tf.app.limits import Limits
from dr_tf.app.messages import DEFAULT_LANGUAGE, Messages, languages
from dr_tf.app.model_facts import model_facts, validated
from dr_tf.app.patient_view import show_patient
from dr_tf.app.settings import Settings, current_settings
from dr_tf.app.uploads import PatientCases, Photograph, group_by_patient
from dr_tf.app.wording import Wording
from dr_tf.rendering import render

# Sample -> {the name it is uploaded under: its file in dr_tf/app/samples}. All are drawn by dr_tf.fundus.synthesis.
SAMPLES = {
    "no_retinopathy": {"no_retinopathy.jpg": "no_retinopathy.jpg"},
    "moderate": {"moderate.jpg": "moderate.jpg"},
    "proliferative": {"proliferative.jpg": "proliferative.jpg"},
    "not_gradable": {"not_gradable.jpg": "not_gradable.jpg"},
    "both_eyes": {"sample_left.jpg": "moderate.jpg", "sample_right.jpg": "no_retinopathy.jpg"},
}
_FOLDER = pathlib.Path(__file__).parent
_STATE = "upload"
_LANGUAGE = "lang"  # in the address of the page


@dataclasses.dataclass
class _Upload:
    """The current upload of a visitor; the next one replaces it."""

    key: Hashable
    cases: Sequence[PatientCases]
    answers: list[PatientAnswer]
    is_complete: bool = False


def show_page() -> None:
    """Draw the page. Streamlit calls it anew at each click of a visitor."""
    settings = current_settings()
    messages = Messages(_language())
    st.set_page_config(messages("page.title"), page_icon=str(_FOLDER / "icon.png"), layout="wide", menu_items={})
    engine = open_engine(settings.run_dir)
    _show_head(engine, messages)
    photographs, key = _ask_for_photographs(settings.limits, messages)
    if photographs:
        upload = _answered(photographs, key, engine, settings.limits, messages)
        if upload.answers:
            _show_answers(upload, engine, settings, messages)
    else:
        st.session_state.pop(_STATE, None)
    _show_foot(engine, settings.limits, messages)


def warm_up() -> None:
    """Decide on a sample, so that the first visitor need not wait for what is done once."""
    engine = open_engine(current_settings().run_dir)
    [cases] = group_by_patient(_sample("both_eyes"), paired=engine.paired)
    with contextlib.suppress(TimeoutError):
        engine.answer(cases, seconds=60)


def _language() -> str:
    chosen = st.session_state.get("language", st.query_params.get(_LANGUAGE, DEFAULT_LANGUAGE))
    return chosen if chosen in languages() else DEFAULT_LANGUAGE


def _show_head(engine: Engine, messages: Messages) -> None:
    st.title(messages("page.title"), anchor=False)
    st.html(
        render("app_part.html", style=True, caution=messages("page.caution"), validated=validated(engine, messages))
    )


def _ask_for_photographs(limits: Limits, messages: Messages) -> tuple[list[Photograph], Hashable]:
    """The files of the visitor, else the chosen sample, and what tells this upload from another."""
    whole_folder = st.session_state.get("folder", False)
    files = st.file_uploader(
        messages("upload.label"),
        accept_multiple_files="directory" if whole_folder else True,
        max_upload_size=limits.file_mb,
        help=limits.announcement(messages),
        key=f"photographs_{'folder' if whole_folder else 'files'}",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption(messages("upload.hint"), width="stretch")
        st.toggle(messages("upload.folder"), key="folder")
    sample = st.pills(
        messages("upload.samples"), list(SAMPLES), format_func=lambda one: messages(f"sample.{one}"), key="sample"
    )
    if not files:
        return _sample(sample), ("sample", sample)
    if problem := limits.problem([file.size for file in files], messages):
        st.error(problem)
        return [], None
    return [Photograph(file.name, file.getvalue()) for file in files], tuple(file.file_id for file in files)


def _sample(name: str | None) -> list[Photograph]:
    return [
        Photograph(shown, (_FOLDER / "samples" / file).read_bytes())
        for shown, file in SAMPLES.get(name or "", {}).items()
    ]


def _answered(
    photographs: Sequence[Photograph], key: Hashable, engine: Engine, limits: Limits, messages: Messages
) -> _Upload:
    """The upload with its answers, which are made once, however often the page is drawn."""
    upload: _Upload | None = st.session_state.get(_STATE)
    if upload is None or upload.key != key or not upload.is_complete:
        upload = _Upload(key, group_by_patient(photographs, paired=engine.paired), [])
        st.session_state[_STATE] = upload
        _answer(upload, engine, limits, messages)
    missing = len(upload.cases) - len(upload.answers)
    if missing:
        st.error(messages("limits.time", count=missing))
    return upload


def _answer(upload: _Upload, engine: Engine, limits: Limits, messages: Messages) -> None:
    count = len(upload.cases)
    bar = st.progress(0.0, messages("upload.working"))
    with contextlib.suppress(TimeoutError):  # what was answered is shown
        for answer in engine.answers(upload.cases, seconds=limits.seconds):
            upload.answers.append(answer)
            done = len(upload.answers)
            bar.progress(done / count, messages("upload.progress", done=done, count=count))
    upload.is_complete = True
    bar.empty()


def _show_answers(upload: _Upload, engine: Engine, settings: Settings, messages: Messages) -> None:
    result = st.container()
    prevalence = _ask_for_prevalence(engine, settings, messages)
    wording = Wording(messages, engine.predictor.rule, prevalence)
    with result:
        number = show_batch(upload.answers, engine, wording) if len(upload.cases) > 1 else 0
        if number is not None:
            show_patient(upload.cases[number], upload.answers[number], engine, wording, key=f"{upload.key}/{number}")


def _ask_for_prevalence(engine: Engine, settings: Settings, messages: Messages) -> float:
    rule = engine.predictor.rule
    definition = messages.name("definition", rule.head.positive)
    value = st.number_input(
        messages("prevalence.label"),
        min_value=0.1,
        max_value=99.0,
        value=100 * settings.prevalence,
        step=1.0,
        format="%.1f",
        help=messages("prevalence.help", definition=definition, prevalence=messages.percent(rule.prevalence)),
        key="prevalence",
        width=320,
    )
    return value / 100


def _show_foot(engine: Engine, limits: Limits, messages: Messages) -> None:
    st.divider()
    with st.expander(messages("about.title")):
        st.html(render("app_part.html", facts=model_facts(engine, messages)))
    st.caption(f"{limits.announcement(messages)} {messages('upload.private')}")
    known = languages()
    st.selectbox(
        messages("page.language"),
        list(known),
        index=list(known).index(messages.language),
        format_func=lambda one: known[one],
        key="language",
        width=200,
    )
