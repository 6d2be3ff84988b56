"""Templates escape whatever they insert, refuse unknown variables, and print numbers alike on every page."""

import unittest

import jinja2

from dr_tf import rendering
from dr_tf.rendering import Metric, Row, Table


def _macro(call, **context):
    source = f'{{% import "macros.html" as m %}}{{{{ m.{call} }}}}'
    return rendering._environment().from_string(source).render(**context)


class EscapingTest(unittest.TestCase):
    def test_text_is_escaped_in_elements_and_attributes(self):
        hostile = "<b onclick='x'>\"&"
        table = Table(hostile, (hostile,), (Row(hostile, (hostile,), hostile),), hostile)
        metric = Metric(hostile, 0.5, 0.4, 0.6, description=hostile, n=3, method=hostile, remark=hostile, tag=hostile)
        pages = (
            _macro("data_table(table)", table=table),
            _macro("metric_table([metric], caption)", metric=metric, caption=hostile),
            _macro("metric_card(metric)", metric=metric),
            _macro("definitions({text: text, '2': [text]})", text=hostile),
            _macro("chart(text, text)", text=hostile),
        )
        for page in pages:
            self.assertNotIn("<b onclick", page)
            self.assertNotIn('"&', page.replace('"&#34;', "").replace('"&lt;', ""))
            self.assertIn("&lt;b onclick=&#39;x&#39;&gt;&#34;&amp;", page)

    def test_a_missing_variable_is_an_error(self):
        with self.assertRaises(jinja2.UndefinedError):
            rendering.render("explanations.html", target="referable")


class FormatTest(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual(rendering.percent(0.8125), "81.2 %")
        self.assertEqual(rendering.percent(0.8125, 0), "81 %")
        self.assertEqual(rendering.number(-0.5), "−0.500")
        self.assertEqual((rendering.percent(None), rendering.number(None)), ("–", "–"))
        self.assertEqual((rendering.count(1, "case"), rendering.count(2000, "case")), ("1 case", "2,000 cases"))

    def test_confidence_intervals(self):
        self.assertEqual(rendering.interval(Metric("a", 0.5, 0.4, 0.6, is_percent=True)), "40.0 – 60.0 %")
        self.assertEqual(rendering.interval(Metric("a", 0.5, -0.4, 0.6, digits=2)), "−0.40 – 0.60")
        self.assertEqual(rendering.interval(Metric("a", 0.5)), "")

    def test_bars_stay_between_0_and_1(self):
        page = _macro("interval_bar(metric)", metric=Metric("a", 0.25, -0.1, 1.2, has_bar=True))
        self.assertIn("left:0.00%;right:0.00%", page)
        self.assertIn("left:25.00%", page)
        self.assertEqual(_macro("interval_bar(metric)", metric=Metric("a", None, has_bar=True)).strip(), "")


if __name__ == "__main__":
    unittest.main()
