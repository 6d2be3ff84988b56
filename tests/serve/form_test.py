import unittest

import httpx
from starlette.datastructures import Headers

from dr_tf.grades import EYES
from dr_tf.serve.form import Form, UploadedFile, read_form
from dr_tf.serve.limits import Limits
from dr_tf.serve.request_error import RequestError

EYE = ("eye.jpg", b"jpeg")


async def read(*, files=(), data=None, content_type=None, body=None, limits=None):
    """Read the form that httpx encodes."""
    request = httpx.Request("POST", "http://localhost", files=files, data=data)
    body = request.read() if body is None else body

    async def stream():
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    headers = Headers({"content-type": content_type or request.headers.get("content-type", "")})
    return await read_form(headers, stream(), limits or Limits())


class FormTest(unittest.IsolatedAsyncioTestCase):
    async def assert_problem(self, status, text, **request):
        with self.assertRaises(RequestError) as caught:
            await read(**request)
        self.assertEqual(caught.exception.status, status)
        self.assertRegex(caught.exception.detail, text)

    async def test_one_photograph(self):
        form = await read(files={"image": EYE})
        self.assertEqual(form, Form((UploadedFile("image", "eye.jpg", b"jpeg"),)))

    async def test_both_eyes_left_first_and_all_values(self):
        values = {"prevalence": "0.1", "point": "p", "age": "61.5", "sex": "F"}
        form = await read(files={"right": ("r", b"2"), "left": ("l", b"1")}, data=values)
        files = (UploadedFile("left", "l", b"1"), UploadedFile("right", "r", b"2"))
        self.assertEqual(form, Form(files, "p", 0.1, 61.5, "female"))

    async def test_what_a_browser_leaves_empty_is_absent(self):
        parts = [
            'name="image"; filename="eye.jpg"\r\n\r\njpeg',
            *(f'name="{eye}"; filename=""\r\n\r\n' for eye in EYES),
        ]
        parts += [f'name="{name}"\r\n\r\n' for name in ("prevalence", "point", "age", "sex")]
        body = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--b--\r\n"
        form = await read(content_type="multipart/form-data; boundary=b", body=body.encode())
        self.assertEqual(form, Form((UploadedFile("image", "eye.jpg", b"jpeg"),)))

    async def test_an_empty_file_is_a_photograph(self):
        form = await read(files={"image": ("eye.jpg", b"")})
        self.assertEqual(form.files, (UploadedFile("image", "eye.jpg", b""),))

    async def test_only_the_last_part_of_a_name_is_kept(self):
        for sent, kept in (("../../etc/x.jpg", "x.jpg"), ("C:\\eyes\\x.jpg", "x.jpg"), ("a/", "photograph"),
                           ("é.jpg", "é.jpg"), ("n" * 300, "n" * 255)):  # fmt: skip
            with self.subTest(sent):
                self.assertEqual((await read(files={"image": (sent, b"1")})).files[0].name, kept)

    async def test_wrong_fields(self):
        one = "send one photograph as image, or one or two as left and right"
        await self.assert_problem(422, one, files={"image": ("", b"")})
        await self.assert_problem(422, one, files={"image": EYE, "left": EYE})
        await self.assert_problem(422, "image is there twice", files=[("image", EYE), ("image", EYE)])
        await self.assert_problem(
            422, r"photo is not known \(files: image, left, right; values: ", files={"photo": EYE}
        )
        await self.assert_problem(422, "grade is not known", files={"image": EYE}, data={"grade": "2"})
        await self.assert_problem(422, "grade is not known", files={"image": EYE}, data={"grade": ""})
        await self.assert_problem(
            422, "image has to be a file, .*-F image=@FILE", files={"left": EYE}, data={"image": "x"}
        )
        await self.assert_problem(422, "age is not known", files={"image": EYE, "age": EYE})

    async def test_wrong_values(self):
        for name, value, text in (
            ("prevalence", "often", "the prevalence is a number between 0 and 1, not often"),
            ("age", "-3", "the age is a number of years from 0 to 130, not -3"),
            ("age", "old", "the age is a number"),
            ("sex", "x", "the sex is .*female.*, not x"),
        ):
            with self.subTest(name=name, value=value):
                await self.assert_problem(422, text, files={"image": EYE}, data={name: value})
        await self.assert_problem(422, "exceeded maximum size", files={"image": EYE}, data={"point": "p" * 5000})

    async def test_other_content(self):
        await self.assert_problem(415, "multipart/form-data", content_type="application/json", body=b"{}")
        await self.assert_problem(415, "multipart/form-data", body=b"")
        await self.assert_problem(422, "Missing boundary", content_type="multipart/form-data", body=b"x")
        for body in (b"", b"no form", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n"):
            with self.subTest(body):
                await self.assert_problem(
                    422, "the form cannot be read", content_type="multipart/form-data; boundary=b", body=body
                )

    async def test_a_form_that_is_cut_short(self):
        """A second eye must not be missing without a word."""
        request = httpx.Request("POST", "http://localhost", files={"left": EYE, "right": EYE})
        body, content_type = request.read(), request.headers["content-type"]
        for cut in range(1, len(body) - 2):
            await self.assert_problem(422, "the form cannot be read", body=body[:cut], content_type=content_type)

    async def test_too_many_bytes(self):
        limits = Limits(request_bytes=500)
        await self.assert_problem(413, "over 0.0005 MB", files={"image": ("eye.jpg", bytes(600))}, limits=limits)


if __name__ == "__main__":
    unittest.main()
