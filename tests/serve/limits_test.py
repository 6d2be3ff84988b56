import unittest

from dr_tf.serve.limits import Admission, Limits
from dr_tf.serve.request_error import RequestError


class AdmissionTest(unittest.TestCase):
    def setUp(self):
        self.time = 0.0
        self.admission = Admission(Limits(requests=2, request_bytes=100, total_bytes=150), lambda: self.time)

    def refused(self, size):
        with self.assertRaises(RequestError) as caught, self.admission.place(size):
            pass
        return caught.exception

    def test_places_are_given_back(self):
        for _ in range(3):
            with self.admission.place(10), self.admission.place(10):
                self.assertFalse(self.admission.has_room)
                self.assertEqual(self.refused(10).status, 429)
        self.assertEqual((self.admission.requests, self.admission.bytes), (0, 0))

    def test_a_place_is_given_back_after_an_error(self):
        with self.assertRaises(ValueError), self.admission.place(10):
            raise ValueError
        self.assertEqual((self.admission.requests, self.admission.bytes), (0, 0))

    def test_a_request_has_limited_bytes(self):
        problem = self.refused(101)
        self.assertEqual((problem.status, problem.detail), (413, "the request is over 0.0001 MB"))

    def test_all_requests_have_limited_bytes(self):
        with self.admission.place(100):
            self.assertEqual(self.refused(60).status, 429)
            with self.admission.place(50):
                pass

    def test_an_unknown_size_counts_as_the_largest(self):
        with self.admission.place(None):
            self.assertEqual(self.admission.bytes, 100)

    def test_the_wait_follows_the_rate(self):
        with self.admission.place(1), self.admission.place(1):
            self.assertEqual(self.refused(1).headers, {"Retry-After": "1"})
        for _ in range(4):
            self.time += 3
            with self.admission.place(1):
                pass
        with self.admission.place(1), self.admission.place(1):
            self.assertEqual(self.refused(1).headers, {"Retry-After": "2"})  # 6 finished in 12 s
        self.time += 1e6
        with self.admission.place(1), self.admission.place(1):
            self.assertEqual(self.refused(1).headers, {"Retry-After": "10"})


if __name__ == "__main__":
    unittest.main()
