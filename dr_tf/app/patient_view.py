"""One patient on the page: the decision, each photograph beside its map, the probabilities, and the reports."""

from __future__ import annotations

import streamlit as st

from dr_tf.app.engine import Answer, Engine, PatientAnswer
from dr_tf.app.messages import Messages
from dr_tf.app.report import html_report, make_report
from dr_tf.app.report_pdf import pdf_report
from dr_tf.app.settings import current_settings
from dr_tf.app.uploads import PatientCases
from dr_tf.app.viewer import show_viewer
from dr_tf.app.wording import Wording, short_name
from dr_tf.console import UserError
from dr_tf.explain.captions import target_name
from dr_tf.explain.explanation import POSITIVE
from dr_tf.rendering import render
from dr_tf.safe_names import file_stem

_EXPLAINED = "explained"


def show_patient(cases: PatientCases, answer: PatientAnswer, engine: Engine, wording: Wording, *, key: str) -> None:
    """Show one patient.

    Args:
        cases: what was decided about.
        answer: the answer, with maps of the default target and method.
        engine: the model.
        wording: the words.
        key: of this patient in this upload.
    """
    t = wording.messages
    if answer.decision is None:
        alert = t("remark.unused", names=", ".join(map(short_name, answer.unused)))
        st.html(render("app_part.html", alert=alert))  # not st.error: a name is no Markdown
        return
    st.html(render("app_part.html", summary=wording.patient(answer)))
    if any(one.maps for _, one in answer.answers):
        answer = _explained_anew(cases, answer, engine, wording, key)
    several = len(answer.answers) > 1
    for first in range(0, len(answer.answers), 2):
        places = st.columns(2, gap="large") if several else [st.container()]
        for number, (place, (eye, one)) in enumerate(zip(places, answer.answers[first:], strict=False), first):
            with place:
                _show_photograph(one, eye, engine, wording, key=f"{key}/{number}", is_one_of_several=several)
    _show_downloads(answer, engine, wording)


def _explained_anew(
    cases: PatientCases, answer: PatientAnswer, engine: Engine, wording: Wording, key: str
) -> PatientAnswer:
    """The answer with maps of the target and method that the visitor chooses."""
    messages = wording.messages
    st.subheader(messages("map.title"), anchor=False)
    left, right, _ = st.columns([2, 2, 3])
    names = {target: _target(target, engine, wording) for target in engine.targets}
    target = left.selectbox(messages("map.target"), engine.targets, format_func=lambda one: names[one], key="target")
    method = right.selectbox(
        messages("map.method"), engine.methods, format_func=lambda name: messages.name("method", name), key="method"
    )
    wanted = key, target, method
    if (target, method) == (POSITIVE, engine.methods[0]):
        return answer
    if st.session_state.get(_EXPLAINED, (None,))[0] != wanted:
        try:
            with st.spinner(messages("upload.working")):
                anew = engine.answer(cases, target, method, seconds=current_settings().limits.seconds)
        except UserError as error:
            st.warning(str(error))
            return answer
        except TimeoutError:
            st.warning(messages("limits.time", count=1))
            return answer
        st.session_state[_EXPLAINED] = wanted, anew
    return st.session_state[_EXPLAINED][1]


def _target(target: str, engine: Engine, wording: Wording) -> str:
    if target == POSITIVE:
        return wording.messages("target.positive")
    words = wording.class_name(target)
    return words if words != target else target_name(target, engine.predictor.rule.head.positive)


def _show_photograph(
    answer: Answer, eye: str, engine: Engine, wording: Wording, *, key: str, is_one_of_several: bool
) -> None:
    t = wording.messages
    summary = wording.decision(answer.decision, t(f"eye.{eye}"))
    if is_one_of_several:
        st.subheader(f"{summary.title}: {summary.word}", anchor=False)
        lines = filter(None, (summary.probability, summary.grade, *summary.advice))
        st.html(render("app_part.html", text=" ".join(lines)))
    pictures = list(answer.pictures)
    for column, of_eye in zip(st.columns(max(1, len(pictures)), gap="large"), pictures, strict=False):
        with column:
            if engine.paired:
                st.markdown(f"**{t(f'eye.{of_eye}')}**")
            show_viewer(answer, of_eye, t, key=f"viewer/{key}/{of_eye}")
    if summary.charts:
        st.html(render("app_part.html", charts=summary.charts))
    _show_similar(answer, engine, t)


def _show_similar(answer: Answer, engine: Engine, messages: Messages) -> None:
    if answer.similar:
        lines = [
            messages("similar.case", name=one.name or "", label=one.label, distance=f"{one.distance:.1f}")
            for one in answer.similar
        ]
        st.markdown(f"**{messages('similar.title')}**")
        st.text("\n".join(lines))


def _show_downloads(answer: PatientAnswer, engine: Engine, wording: Wording) -> None:
    t = wording.messages
    stem = file_stem(f"dr_tf_{short_name(answer.patient)}", 100)
    with st.container(horizontal=True):
        st.download_button(
            t("report.pdf"),
            lambda: pdf_report(make_report(answer, engine, wording)),
            f"{stem}.pdf",
            "application/pdf",
            on_click="ignore",
            type="primary",
            key="pdf",
        )
        st.download_button(
            t("report.html"),
            lambda: html_report(make_report(answer, engine, wording)),
            f"{stem}.html",
            "text/html",
            on_click="ignore",
            key="html",
        )
