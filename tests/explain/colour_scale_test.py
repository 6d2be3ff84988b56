"""The colour scale: fitting, scaling, and map_scale.json."""

import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import (
    MAP_SCALE,
    add_scale,
    fit_scale,
    full_colour_value,
    method_of_run,
    read_scale,
    scale_maps,
    stretch_maps,
    write_scale,
)
from dr_tf.explain.explainer import Explainer
from dr_tf.models.heads import HEADS
from tests.explain import nets
from tests.explain.squares import green_counter, records

BINARY = HEADS["binary"]()


class ScaleMapsTest(tf.test.TestCase):
    MAPS = np.array([[[1.0, 4.0]], [[0.0, 0.0]], [[8.0, 2.0]]])

    def test_on_one_scale(self):
        self.assertAllClose(scale_maps(self.MAPS, 4.0), [[[0.25, 1]], [[0, 0]], [[1, 0.5]]])

    def test_stretched(self):
        for maps in (scale_maps(self.MAPS), stretch_maps(self.MAPS)):
            self.assertAllClose(maps, [[[0.25, 1]], [[0, 0]], [[1, 0.25]]])

    def test_both_eyes_share_a_scale(self):
        maps = {"left": self.MAPS, "right": 2 * self.MAPS}
        self.assertAllClose(stretch_maps(maps)["left"], [[[0.125, 0.5]], [[0, 0]], [[0.5, 0.125]]])
        self.assertAllClose(scale_maps(maps, 4.0)["right"], [[[0.5, 1]], [[0, 0]], [[1, 1]]])


class FitTest(tf.test.TestCase):
    def test_full_colour_is_the_median_of_the_maxima(self):
        explainer = Explainer(nets.linear(), BINARY, method="hires_cam")
        x = nets.images(np.stack([nets.MAP * k for k in (*range(1, 12), *range(-11, 0))]))
        fitted = fit_scale(explainer, [x[:5], x[5:]])
        scales = {scale["target"]: scale for scale in fitted["scales"]}
        self.assertEqual(scales["positive"]["photographs"], 11)
        self.assertAllClose(scales["positive"]["value"], 2, atol=1e-3)  # 4 of the map's sum of 8 lie on one of 4 pixels
        self.assertEqual(set(scales), set(explainer.targets))
        self.assertEqual(full_colour_value(fitted, explainer), scales["positive"]["value"])
        self.assertEqual(full_colour_value(fitted, explainer, "1"), scales["referable"]["value"])

    def test_too_few_images_give_no_scale(self):
        explainer = Explainer(nets.linear(), BINARY)
        fitted = fit_scale(explainer, [nets.images(np.stack([nets.MAP] * 9))])
        self.assertEqual(fitted, {"version": 1, "scales": []})
        self.assertIsNone(full_colour_value(fitted, explainer))

    def test_empty_maps_give_no_scale(self):
        """A scale of 0 could not be read again."""
        explainer = Explainer(nets.linear(), BINARY)
        called = mock.Mock(
            wraps=explainer, targets=explainer.targets, method="grad_cam", target_index=explainer.target_index,
            return_value=mock.Mock(probabilities=dict.fromkeys(explainer.targets, np.ones(12)), maps=np.zeros((12, 2, 2))),
        )  # fmt: skip
        self.assertEqual(fit_scale(called, [np.zeros((12, 4, 4, 3))]), {"version": 1, "scales": []})

    def test_pairs(self):
        x = {eye: nets.images(np.stack([nets.MAP] * 10)) for eye in ("left", "right")}
        explainer = Explainer(nets.eyes(), BINARY, method="hires_cam")
        scales = {scale["target"]: scale for scale in fit_scale(explainer, [x])["scales"]}
        # Three quarters of the map are on the right eye.
        self.assertAllClose(scales["positive"]["value"], 1.5, atol=1e-3)

    def test_maps_of_cleared_images_are_faint(self):
        """Stretched to their own maximum they would be as bright as those of referred images."""
        explainer = Explainer(green_counter(), BINARY)
        rows = records().rows("test")
        x = np.stack([records().image(row) for row in rows])
        sick = records().columns["grade"][rows] > 0
        x[~sick, 30:31, 30:31] = (90, 210, 40)  # a speck, not a lesion
        fitted = fit_scale(explainer, [np.concatenate([x, x])])
        maps = explainer(x).maps
        scaled, stretched_maps = scale_maps(maps, full_colour_value(fitted, explainer)), stretch_maps(maps)
        self.assertAllEqual(stretched_maps.max(axis=(1, 2)), np.ones(len(x)))
        self.assertLess(scaled[~sick].max(), 0.5)
        self.assertGreater(scaled[sick].max(axis=(1, 2)).min(), 0.9)

    def test_method_layer_and_target_must_match(self):
        explainer = Explainer(nets.linear(), BINARY, method="grad_cam")
        one = {"method": "grad_cam", "layer": "conv", "target": "positive", "value": 3.0, "photographs": 20}
        for other, full in (({}, 3), ({"method": "hires_cam"}, None), ({"layer": "c"}, None), ({"target": "DR"}, None)):
            self.assertEqual(full_colour_value({"scales": [one | other]}, explainer), full)
        self.assertIsNone(full_colour_value(None, explainer))

    def test_the_scale_names_the_method_of_its_run(self):
        one = {"method": "grad_cam", "layer": "conv", "target": "positive", "value": 3.0, "photographs": 20}
        self.assertEqual(method_of_run({"scales": [one, one | {"method": "occlusion"}]}), "grad_cam")
        for scale in (None, {"scales": []}, {"scales": [one | {"method": "no longer known"}]}):
            self.assertEqual(method_of_run(scale), "hires_cam")


class FileTest(tf.test.TestCase):
    def test_round_trip(self):
        fitted = {
            "version": 1,
            "scales": [{"method": "a", "layer": "b", "target": "c", "value": 2.5, "photographs": 12}],
        }
        with tempfile.TemporaryDirectory() as folder:
            self.assertIsNone(read_scale(folder))
            write_scale(folder, fitted)
            self.assertEqual(read_scale(folder), fitted)

    def test_another_method_is_added_and_the_same_one_replaced(self):
        def scale(method, value):
            entry = {"method": method, "layer": "stride_32", "target": "positive", "value": value, "photographs": 12}
            return {"version": 1, "scales": [entry]}

        with tempfile.TemporaryDirectory() as folder:
            for method, value in (("hires_cam", 1.0), ("cam", 2.0), ("cam", 3.0)):
                add_scale(folder, scale(method, value))
            found = {entry["method"]: entry["value"] for entry in read_scale(folder)["scales"]}
        self.assertEqual(found, {"hires_cam": 1.0, "cam": 3.0})

    def test_mistakes_in_one_line(self):
        one = {"method": "a", "layer": "b", "target": "c", "value": 2.5, "photographs": 12}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / MAP_SCALE
            wrong = [
                {"version": 1, "scales": [one | {"value": value}]} for value in (0, -1, "2", None, float("nan"), 1e999)
            ]
            wrong += [{"version": 2, "scales": []}, {}, [], None, {"version": 1}, {"version": 1, "scales": [1]}, {"version": 1, "scales": 3}]  # fmt: skip
            for text in ["{", "", *map(json.dumps, wrong)]:
                path.write_text(text)
                with self.assertRaisesRegex(UserError, "map_scale.json cannot be used") as caught:
                    read_scale(folder)
                self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
