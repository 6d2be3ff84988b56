"""A decision as a structured report: TID 1500 of DICOM PS3.16 in a Comprehensive 3D SR.

The grade of one eye is coded by LOINC (71490-7, 71491-5 and their answers). LOINC's terms name ophthalmoscopy as the method; the
algorithm identification says that software graded a photograph. What no standard code says is coded by the private scheme 99DRTF.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dr_tf.dicom_reports.source import MANUFACTURER, Algorithm, Source, check_one_study
from dr_tf.grades import GRADES
from dr_tf.inference.decision import Decision

if TYPE_CHECKING:
    import highdicom
    import pydicom

SCHEME = "99DRTF"
# Of an eye: the LOINC code and meaning of its severity level.
SEVERITY = {
    "left": ("71490-7", "Left eye Diabetic retinopathy severity level by Ophthalmoscopy"),
    "right": ("71491-5", "Right eye Diabetic retinopathy severity level by Ophthalmoscopy"),
}
# Of grades 0 to 4: the LOINC answer and its meaning.
SEVERITY_ANSWERS = (
    ("LA18643-9", "No apparent retinopathy"),
    ("LA18644-7", "Mild non-proliferative retinopathy"),
    ("LA18645-4", "Moderate non-proliferative retinopathy"),
    ("LA18646-2", "Severe non-proliferative retinopathy"),
    ("LA18648-8", "Proliferative retinopathy"),
)
_ACTIONS = {"refer": "Refer", "clear": "No referral", "retake": "Retake the photograph"}
_DEVICE_UID = "2.25.227650716903245983254136427190268357201"  # of dr_tf as an observer
_CODE_LENGTH = 16


def structured_report(decision: Decision, sources: Sequence[Source], algorithm: Algorithm) -> pydicom.Dataset:
    """Make the structured report of a decision.

    Args:
        decision: The decision.
        sources: Its photographs, of one study.
        algorithm: What decided.

    Raises:
        BadImageError: The photographs are of two studies.
    """
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    check_one_study(sources)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_DEVICE_UID, name=algorithm.name, manufacturer_name=MANUFACTURER, model_name=algorithm.version
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=_private("PHOTOGRAPHY", "Fundus photography"),
        imaging_measurements=[_measurements(decision, sources, algorithm)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values of the photograph's header, which they quote
        return sr.Comprehensive3DSR(
            evidence=[source.header for source in sources],
            content=content,
            series_instance_uid=highdicom.UID(),
            series_number=1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            device_serial_number="none",
            is_complete=True,
            is_verified=False,
            series_description="dr_tf decision",
        )


def _measurements(decision: Decision, sources: Sequence[Source], algorithm: Algorithm) -> Any:
    """The template's group: the site, the source images, the algorithm, and everything decided."""
    from highdicom import sr

    eye = sources[0].eye if len(sources) == 1 else ""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identifier="dr_tf decision"),
        algorithm_id=sr.AlgorithmIdentification(algorithm.name, algorithm.version, list(algorithm.parameters)),
        finding_sites=[_site(eye)],
        measurements=_probabilities(decision),
        qualitative_evaluations=list(_evaluations(decision, eye)),
        source_images=[
            sr.SourceImageForMeasurementGroup(
                source.header.SOPClassUID, source.header.SOPInstanceUID, [source.frame] if source.frame else None
            )
            for source in sources
        ],
    )


def _site(eye: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.FindingSite(codes.SCT.Retina, {"left": codes.SCT.Left, "right": codes.SCT.Right}.get(eye))


def _evaluations(decision: Decision, eye: str) -> Iterator[Any]:
    from highdicom import sr

    yield sr.QualitativeEvaluation(
        _private("ACTION", "Recommended action"), _private(decision.action.upper(), _ACTIONS[decision.action])
    )
    if decision.grade is not None:
        yield sr.QualitativeEvaluation(_severity(eye), _loinc(*SEVERITY_ANSWERS[decision.grade]))


def _severity(eye: str) -> highdicom.sr.CodedConcept:
    if eye in SEVERITY:
        return _loinc(*SEVERITY[eye])
    return _private("SEVERITY", f"Diabetic retinopathy severity level, {GRADES[0]} to {GRADES[-1]}, of an unknown eye")


def _probabilities(decision: Decision) -> list[Any]:
    """The probability and the threshold of each definition, such as `referable`."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return [
        sr.Measurement(_private(f"{code}_{name}", f"{meaning} {name.replace('_', ' ')}"), value, codes.UCUM.NoUnits)
        for name, label in decision.label_decisions.items()
        for code, meaning, value in (
            ("P", "Calibrated probability of", label.probability),
            ("T", "Decision threshold on the probability of", label.threshold),
        )
    ]


def _private(code: str, meaning: str) -> highdicom.sr.CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.upper()[:_CODE_LENGTH], SCHEME, meaning[:64])


def _loinc(code: str, meaning: str) -> highdicom.sr.CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code, "LN", meaning)
