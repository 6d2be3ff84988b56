"""The service over HTTP: the answers of predict, every kind of bad input, limits, and the pages."""

import contextlib
import json
import os
import pathlib
import tempfile
import threading
import unittest

import httpx
import numpy as np

from dr_tf.cli import predict
from dr_tf.inference.case import pairs
from dr_tf.inference.formats import as_json
from dr_tf.inference.ready import MEASURED, READY
from tests import commands
from tests.fundus import dicom_files
from tests.serve import services
from tests.tfrecords_builder import bad_input_test, trees


def predicted(photographs, *flags):
    """{name: decision} that `dr_tf predict` prints of files with these names and bytes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, data in photographs.items():
            pathlib.Path(name).write_bytes(data)
        status, output, errors = commands.run(predict.main, "--format", "json", *flags, *photographs)
        assert status in (0, 1), errors
    return [json.loads(line) for line in output.splitlines()]


class HttpTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = cls.enterClassContext(services.serving())
        cls.photographs = services.photographs()

    def decide(self, status=200, *, data=None, **files):
        response = self.client.post("/v1/decide", files=files, data=data)
        self.assertEqual(response.status_code, status, response.text)
        return response.json()

    def assert_same(self, answer, expected):
        self.assertTrue(services.http_clients.is_same(answer, expected), f"{answer}\n{expected}")


class AnswerTest(HttpTest):
    def test_one_photograph_is_answered_as_predict_prints_it(self):
        for (name, photograph), expected in zip(self.photographs.items(), predicted(self.photographs), strict=True):
            answer = self.decide(image=(name, photograph))
            self.assertIsNone(answer["patient"])
            self.assert_same(answer["decisions"], [expected])

    def test_both_eyes_get_the_decision_on_the_patient_too(self):
        pair = {name: data for name, data in self.photographs.items() if name.startswith("1_")}
        answer = self.decide(**{pathlib.Path(name).stem[2:]: (name, data) for name, data in pair.items()})
        self.assert_same(answer["decisions"], predicted(pair))
        self.assert_same([answer["patient"]], predicted(pair, "--patients"))

    def test_one_named_eye_says_that_the_other_is_missing(self):
        answer = self.decide(left=("x.jpg", self.photographs["0_left.jpg"]))
        self.assertEqual((answer["patient"]["patient"], answer["patient"]["missing"]), ("x", ["right"]))

    def test_a_point_and_a_prevalence(self):
        pair = {"0_left.jpg": self.photographs["0_left.jpg"]}
        for values in (
            {"point": "sensitivity_0.95"},
            {"prevalence": "0.05"},
            {"point": "specificity_0.9", "prevalence": "0.2"},
        ):
            flags = [text for name, value in values.items() for text in (f"--{name}", value)]
            with self.subTest(values):
                answer = self.decide(image=("0_left.jpg", pair["0_left.jpg"]), data=values)
                self.assert_same(answer["decisions"], predicted(pair, *flags))

    def test_wrong_settings_are_named(self):
        photograph = self.photographs["0_left.jpg"]
        for values, text in (
            ({"point": "best"}, "unknown operating point 'best'; known: sensitivity_0.9"),
            ({"prevalence": "2"}, "between 0 and 1"),
            ({"prevalence": "nan"}, "between 0 and 1"),
        ):
            with self.subTest(values):
                self.assertIn(text, self.decide(422, image=("x.jpg", photograph), data=values)["detail"])

    def test_a_name_is_never_a_path(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            pathlib.Path("0_left.jpg").write_bytes(self.photographs["0_left.jpg"])
            (decision,) = self.decide(image=(os.path.abspath("0_left.jpg"), b"no photograph"))["decisions"]
        self.assertEqual((decision["case"], decision["action"]), ("0_left.jpg", "retake"))
        self.assertEqual(decision["reason"], "not a JPEG, PNG, TIFF, BMP or DICOM file")

    def test_names_are_harmless_text(self):
        (decision,) = self.decide(image=("a\u202eb.jpg", b""))["decisions"]
        self.assertEqual((decision["case"], decision["reason"]), ("a\\u202eb.jpg", "the file is empty"))
        self.assertEqual(decision["images"][0]["photograph"], "a\\u202eb.jpg")


class BadFilesTest(HttpTest):
    def test_every_kind_of_bad_or_unusual_file_is_answered_as_predict_does(self):
        kinds = [data for data, _ in bad_input_test.BAD.values()] + list(bad_input_test.ACCEPTED.values())
        files = {f"{number}.jpg": data for number, data in enumerate(kinds)}
        expected = predicted(files)
        self.assertGreater(sum(decision["action"] == "retake" for decision in expected), 30)
        for (name, data), decision in zip(files.items(), expected, strict=True):
            with self.subTest(name):
                self.assert_same(self.decide(image=(name, data))["decisions"], [decision])

    def test_a_bad_eye_beside_a_good_one(self):
        answer = self.decide(left=("l.jpg", b"bad"), right=("r.jpg", self.photographs["0_right.jpg"]))
        self.assertEqual(answer["decisions"][0]["action"], "retake")
        self.assertEqual(answer["patient"]["ungradable_eyes"], ["left"])
        self.assertEqual(answer["patient"]["action"], answer["decisions"][1]["action"])

    def test_wrong_requests_are_one_sentence(self):
        for method, path, status in (("GET", "/v1/decide", 405), ("POST", "/v1/decide", 415), ("GET", "/nowhere", 404)):
            with self.subTest(path):
                response = self.client.request(method, path)
                self.assertEqual(response.status_code, status)
                self.assertEqual(list(response.json()), ["detail"])
        self.assertIn("-F image=@FILE", self.decide(422, data={"image": "x.jpg"}, left=("x", b""))["detail"])


@dicom_files.needs_pydicom
class DicomTest(HttpTest):
    def two_eyes(self):
        frames = np.stack([trees.photograph(seed) for seed in (1, 2)])
        groups = dicom_files.frame_groups("L", "R")
        return dicom_files.native(frames, ImageLaterality=None, PerFrameFunctionalGroupsSequence=groups)

    def test_frames_of_both_eyes_are_two_decisions_and_a_patient(self):
        files = {"study.dcm": self.two_eyes()}
        answer = self.decide(image=("study.dcm", files["study.dcm"]))
        self.assertEqual([d["case"] for d in answer["decisions"]], ["study.dcm (left eye)", "study.dcm (right eye)"])
        self.assert_same(answer["decisions"], predicted(files))
        self.assert_same([answer["patient"]], predicted(files, "--patients"))

    def test_one_photograph_names_no_patient(self):
        data = dicom_files.native(np.ascontiguousarray(trees.photograph(1)))
        answer = self.decide(image=("x.dcm", data))
        self.assert_same(answer["decisions"], predicted({"x.dcm": data}))
        self.assertNotIn("secret", json.dumps(answer).lower())

    def test_the_other_eye_than_the_header_states_is_refused(self):
        data = dicom_files.native(np.ascontiguousarray(trees.photograph(1)))
        problem = self.decide(422, left=("x.dcm", data))
        self.assertEqual(problem["detail"], "x.dcm: the field says left, its DICOM header right")

    def test_damaged_files(self):
        data = self.two_eyes()
        for damaged in (data[: len(data) // 2], data[:200], data[:400] + b"\xff" * 200 + data[600:]):
            self.assert_same(self.decide(image=("x.dcm", damaged))["decisions"], predicted({"x.dcm": damaged}))


class PagesTest(HttpTest):
    def test_the_model(self):
        model = self.client.get("/v1/model").json()
        self.assertEqual((model["name"], model["positive"], model["paired"]), ("ready", "referable", False))
        self.assertEqual(model["positive_means"], "referable diabetic retinopathy: grade >= 2")
        self.assertEqual(
            model["operating_points"]["sensitivity_0.9"]["threshold"], services.ready().rule.operating_point().threshold
        )
        self.assertEqual(model["tested_on"], (READY / MEASURED).read_text().strip())
        self.assertIn("not a medical device", model["notice"])
        self.assertNotIn(str(READY.parent), json.dumps(model))

    def test_health(self):
        self.assertEqual(self.client.get("/health").json(), {"live": True, "ready": True})
        self.assertEqual(self.client.get("/health/live").json(), {"live": True})

    def test_the_documentation_loads_nothing(self):
        response = self.client.get("/docs")
        self.assertNotRegex(response.text, r"<script|<link|<img|https?://|\bNone\b")
        self.assertIn("default-src 'none'", response.headers["content-security-policy"])
        for text in ("POST /v1/decide", "prevalence", "at most 64 MB", "200 megapixels", "429", "decisions.p_positive"):
            self.assertIn(text, response.text)

    def test_the_openapi_description_holds_what_is_answered(self):
        schema = self.client.get("/openapi.json").json()
        self.assertIn("at most 64 MB", schema["info"]["description"])
        operation = schema["paths"]["/v1/decide"]["post"]
        self.assertEqual(set(operation["responses"]), {"200", "408", "413", "415", "422", "429", "500", "503", "504"})
        described = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
        answer = self.decide(image=("x.jpg", self.photographs["0_left.jpg"]))
        self.assertEqual(set(described), set(answer))
        self.assertLessEqual(set(described["decisions"]["items"]["properties"]), set(answer["decisions"][0]))

    def test_metrics_count_requests_and_decisions_and_name_nothing(self):
        with services.serving() as client:
            files = {"image": ("secret.jpg", self.photographs["0_left.jpg"])}
            decision = client.post("/v1/decide", files=files).json()["decisions"][0]
            client.post("/v1/decide", files={"photo": b""})
            text = client.get("/metrics").text
        for line in ('dr_tf_requests_total{status="200"} 1.0', 'dr_tf_requests_total{status="422"} 1.0',
                     f'dr_tf_decisions_total{{action="{decision["action"]}"}} 1.0', "dr_tf_batch_cases_count 1.0",
                     "dr_tf_request_seconds_count 2.0", "dr_tf_queue_requests 0.0"):  # fmt: skip
            self.assertIn(line, text)
        self.assertNotIn("secret", text)


class BusyTest(unittest.TestCase):
    """A service with a network that takes its time."""

    def post(self, client, **more):
        return client.post("/v1/decide", files={"image": ("x.jpg", services.photographs()["0_left.jpg"])}, **more)

    def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(self):
        with services.serving(services.slow(0.5), services.limits(requests=1)) as client:
            first = threading.Thread(target=self.post, args=(client,))
            first.start()
            while client.get("/health").status_code == 200:
                pass
            refused = self.post(client)
            self.assertEqual(refused.status_code, 429)
            self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
            self.assertEqual(client.get("/health/live").status_code, 200)
            first.join()
            self.assertEqual(self.post(client).status_code, 200)

    def test_an_answer_that_takes_too_long(self):
        with services.serving(services.slow(1.5), services.limits(seconds=0.7)) as client:
            response = self.post(client)
            self.assertEqual(
                (response.status_code, response.json()["detail"]), (504, "no decision within the time limit")
            )

    def test_a_request_that_is_not_sent_to_its_end(self):
        with services.serving(services.slow(0), services.limits(seconds=0.3)) as client:
            head = {"Content-Type": "multipart/form-data; boundary=b"}
            response = client.post("/v1/decide", content=_stalled(), headers=head)
            self.assertEqual(response.status_code, 408)

    def test_too_many_bytes_are_refused(self):
        with services.serving(services.slow(0), services.limits(request_bytes=1000)) as client:
            self.assertEqual(self.post(client).status_code, 413)
            head = {"Content-Type": "multipart/form-data; boundary=b"}
            chunks = iter([b"--b\r\nContent-Disposition: form-data; name=image; filename=x\r\n\r\n", bytes(2000)])
            self.assertEqual(client.post("/v1/decide", content=chunks, headers=head).status_code, 413)

    def test_a_client_that_leaves_costs_no_decision(self):
        calls = []
        network = services.TinyNetwork(before=lambda images: calls.append(len(images)) or threading.Event().wait(0.4))
        with services.serving(services.predictor_of(network)) as client:
            threads = [threading.Thread(target=self.post, args=(client,)) for _ in range(2)]
            threads[0].start()
            while not calls:
                pass
            with contextlib.suppress(httpx.TimeoutException):
                self.post(client, timeout=0.2)
            threads[1].start()
            for thread in threads:
                thread.join()
            self.assertIn('dr_tf_requests_total{status="499"} 1.0', client.get("/metrics").text)
        self.assertEqual(calls, [1, 1])

    def test_a_failure_is_one_sentence_and_the_next_request_is_answered(self):
        failures = [ZeroDivisionError("secret")]
        network = services.TinyNetwork(before=lambda images: failures and _raise(failures.pop()))
        with services.serving(services.predictor_of(network)) as client, self.assertLogs("dr_tf.serve") as logs:
            response = self.post(client)
            self.assertEqual((response.status_code, response.json()), (500, {"detail": "the decision failed"}))
            self.assertEqual(self.post(client).status_code, 200)
        self.assertRegex(logs.output[0], "ZeroDivisionError")
        self.assertNotIn("secret", logs.output[0])


def _raise(error):
    raise error


def _stalled():
    yield b"--b\r\n"
    threading.Event().wait(0.6)
    yield b""


class PairsTest(unittest.TestCase):
    """A model of both eyes."""

    @classmethod
    def setUpClass(cls):
        cls.predictor = services.predictor_of(services.TinyNetwork(paired=True))
        cls.client = cls.enterClassContext(services.serving(cls.predictor))
        cls.photographs = services.photographs()

    def test_both_eyes_are_one_decision_as_predict_makes_it(self):
        files = {eye: (f"1_{eye}.jpg", self.photographs[f"1_{eye}.jpg"]) for eye in ("left", "right")}
        answer = self.client.post("/v1/decide", files=files, data={"age": "60", "sex": "male"}).json()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for name, data in files.values():
                pathlib.Path(name).write_bytes(data)
            (expected,) = self.predictor.decisions(pairs([name for name, _ in files.values()]))
        expected = json.loads(json.dumps({"decisions": [as_json(expected)], "patient": None}))
        self.assertTrue(services.http_clients.is_same(answer, expected), f"{answer}\n{expected}")

    def test_an_eye_may_be_missing_and_may_be_in_the_file_name(self):
        photograph = self.photographs["0_left.jpg"]
        of_field = self.client.post("/v1/decide", files={"left": ("7.jpg", photograph)}).json()["decisions"][0]
        of_name = self.client.post("/v1/decide", files={"image": ("7_left.jpg", photograph)}).json()["decisions"][0]
        self.assertEqual((of_field["case"], of_field["missing"]), ("7", ["right"]))
        self.assertEqual((of_name["probabilities"], of_name["missing"]), (of_field["probabilities"], ["right"]))

    def test_an_unknown_eye_is_refused(self):
        response = self.client.post("/v1/decide", files={"image": ("7.jpg", b"")})
        self.assertEqual(response.status_code, 422)
        self.assertRegex(
            response.json()["detail"], "7.jpg: its eye is not known.*send the photographs as left and right"
        )

    @dicom_files.needs_pydicom
    def test_a_dicom_file_of_both_eyes(self):
        data = DicomTest.two_eyes(self)
        (decision,) = self.client.post("/v1/decide", files={"image": ("x.dcm", data)}).json()["decisions"]
        self.assertEqual([(one["eye"], one["frame"]) for one in decision["images"]], [("left", 1), ("right", 2)])


if __name__ == "__main__":
    unittest.main()
