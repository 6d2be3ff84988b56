"""Pictures without a retina: drawn ones, many of them round, orange or on black, and sample images of packages."""

import pathlib

import cv2
import numpy as np

SIZE = (300, 400)


def drawn():
    """Yield (name, RGB picture), the same at every call: each kind of `_KINDS` with ten seeds."""
    for kind in _KINDS:
        for seed in range(10):
            yield f"{kind.__name__[1:]}-{seed}", np.clip(kind(np.random.default_rng(seed)), 0, 255).astype(np.uint8)


def samples():
    """Yield (name, RGB picture): sample images of scikit-image, scikit-learn and matplotlib, and parts of them."""
    for path in sorted(_sample_files()):
        bgr = cv2.imread(str(path))
        if bgr is None or min(bgr.shape[:2]) < 64:
            continue
        whole = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        height, width = whole.shape[:2]
        yield path.name, whole
        yield f"{path.name}, centre", whole[height // 4 : -height // 4, width // 4 : -width // 4]
        yield f"{path.name}, in a circle on black", _in_circle(whole)


def _sample_files():
    for package, folder in (
        ("skimage", "data"),
        ("sklearn", "datasets/images"),
        ("matplotlib", "mpl-data/sample_data"),
    ):
        try:
            root = pathlib.Path(__import__(package).__file__).parent / folder
        except ImportError:
            continue
        yield from (
            p
            for p in root.iterdir()
            if p.suffix in (".png", ".jpg") and "retina" not in p.name and "microaneurysms" not in p.name
        )


def _grid():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return x, y


def _colour(rng):
    return rng.integers(30, 256, 3).astype(np.float32)


def _orange(rng):
    return np.array([rng.uniform(150, 240), rng.uniform(70, 140), rng.uniform(10, 60)], np.float32)


def _noise(rng, cell, depth):
    coarse = rng.normal(0, depth, (SIZE[0] // cell + 2, SIZE[1] // cell + 2, 3)).astype(np.float32)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def _in_circle(rgb):
    height, width = rgb.shape[:2]
    mask = cv2.circle(
        np.zeros((height, width, 1), np.uint8), (width // 2, height // 2), int(0.48 * min(height, width)), 1, -1
    )
    return rgb * mask.reshape(height, width, 1)


def _disc(rng, colour, shade=None):
    x, y = _grid()
    cx, cy, r = 200 + rng.uniform(-20, 20), 150 + rng.uniform(-10, 10), rng.uniform(100, 135)
    d = np.hypot(x - cx, y - cy) / r
    level = np.ones_like(d) if shade is None else shade(d)
    return np.where((d < 1)[..., None], level[..., None] * colour, 0)


def _plain(rng):
    return np.broadcast_to(_colour(rng) * rng.integers(0, 2), (*SIZE, 3))


def _plain_noisy(rng):
    return _colour(rng) + rng.normal(0, rng.uniform(2, 40), (*SIZE, 3))


def _orange_frame(rng):
    return _orange(rng) + rng.normal(0, 3, (*SIZE, 3))


def _gradient(rng):
    x, _ = _grid()
    t = (x / SIZE[1])[..., None]
    return _colour(rng) * t + _colour(rng) * (1 - t)


def _coloured_clouds(rng):
    return _colour(rng) + _noise(rng, 40, 60)


def _checkerboard(rng):
    x, y = _grid()
    n = rng.integers(10, 60)
    return np.where(((x // n + y // n) % 2 > 0)[..., None], _colour(rng), _colour(rng))


def _stripes(rng):
    x, y = _grid()
    a, n = rng.uniform(0, np.pi), rng.uniform(8, 50)
    return 128 + 100 * np.sin((x * np.cos(a) + y * np.sin(a)) / n * 2 * np.pi)[..., None] * np.ones(3)


def _page_of_text(rng):
    page = np.full((*SIZE, 3), 250, np.uint8)
    for line in range(20, SIZE[0], 18):
        words = "".join(rng.choice(list("abcdefgh iklmno"), 40))
        cv2.putText(page, words, (10, line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1)
    return page


def _white_text_on_black(rng):
    return 255 - _page_of_text(rng)


def _chart(rng):
    page = np.full((*SIZE, 3), 255, np.uint8)
    for _ in range(3):
        y = np.cumsum(rng.normal(0, 8, 80)) + 150
        points = np.stack([np.linspace(30, 380, 80), y], 1).astype(np.int32)
        cv2.polylines(page, [points], False, _colour(rng).tolist(), 2)
    return cv2.rectangle(page, (30, 20), (380, 280), (0, 0, 0), 1)


def _pie_chart(rng):
    page, start = np.full((*SIZE, 3), 255 * int(rng.integers(2)), np.uint8), 0
    for share in rng.dirichlet(np.ones(5)) * 360:
        cv2.ellipse(page, (200, 150), (120, 120), 0, start, start + share, _colour(rng).tolist(), -1)
        start += share
    return page


def _flat_disc(rng):
    return _disc(rng, _colour(rng))


def _orange_disc(rng):
    return _disc(rng, _orange(rng))


def _orange_fruit(rng):
    """Return a dimpled sphere: round, orange, on black, but no retina."""
    return _disc(rng, _orange(rng), lambda d: 1.1 - 0.6 * d**2) * (1 + 0.05 * rng.normal(0, 1, (*SIZE, 1)))


def _moon(rng):
    return _disc(rng, np.full(3, 200.0), lambda d: np.clip(1.2 - d, 0, 1)) * (1 + _noise(rng, 12, 0.25)[..., :1])


def _target(rng):
    rings = rng.integers(3, 9)
    return _disc(rng, _colour(rng), lambda d: (np.floor(d * rings) % 2) * 0.8 + 0.2)


def _ball(rng):
    picture = _disc(rng, _orange(rng), lambda d: 1.1 - 0.5 * d**2).astype(np.uint8)
    for x in (150, 200, 250):
        cv2.line(picture, (x, 40), (400 - x, 260), (15, 10, 5), 4)
    return picture


def _clock(rng):
    picture = np.ascontiguousarray(_disc(rng, np.full(3, 235.0)).astype(np.uint8))
    for hour in range(12):
        a = hour * np.pi / 6
        at = int(195 + 85 * np.cos(a)), int(155 + 85 * np.sin(a))
        cv2.putText(picture, str(hour), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    a = rng.uniform(0, 2 * np.pi)
    return cv2.line(picture, (200, 150), (int(200 + 70 * np.cos(a)), int(150 + 70 * np.sin(a))), (0, 0, 0), 3)


def _face(rng):
    skin = np.array([220, 170, 140]) * rng.uniform(0.5, 1)
    picture = np.full((*SIZE, 3), _colour(rng), np.uint8)
    cv2.ellipse(picture, (200, 150), (80, 110), 0, 0, 360, skin.tolist(), -1)
    for x in (170, 230):
        cv2.ellipse(picture, (x, 125), (14, 8), 0, 0, 360, (250, 250, 250), -1)
        cv2.circle(picture, (x, 125), 6, (60, 40, 30), -1)
    cv2.ellipse(picture, (200, 200), (30, 10), 0, 0, 180, (150, 50, 50), -1)
    return cv2.GaussianBlur(picture, (0, 0), 2)


def _outer_eye(rng):
    """Return the outer eye, which a fundus camera takes if it is released too early: skin, sclera, iris, pupil."""
    picture = np.full((*SIZE, 3), np.array([205, 150, 120]) * rng.uniform(0.6, 1), np.uint8)
    cv2.ellipse(picture, (200, 150), (150, 75), 0, 0, 360, (235, 225, 220), -1)
    cv2.circle(picture, (200, 150), 68, (_colour(rng) * 0.5).tolist(), -1)
    cv2.circle(picture, (200, 150), 28, (8, 8, 8), -1)
    cv2.circle(picture, (185, 135), 8, (255, 255, 255), -1)
    return cv2.GaussianBlur(picture, (0, 0), 3)


def _radiograph(rng):
    x, y = _grid()
    ribs = 40 * np.sin((y + 0.001 * (x - 200) ** 2) / 12)
    lungs = 140 * np.exp(-(((np.abs(x - 200) - 80) / 60) ** 2) - ((y - 150) / 110) ** 2)
    return (160 - lungs + ribs + rng.normal(0, 6, SIZE))[..., None] * np.ones(3)


def _layers_of_tissue(rng):
    """Return an optical coherence tomogram: it shows the retina, but is not a fundus photograph."""
    x, y = _grid()
    top = 110 + 25 * np.sin(x / 130 + rng.uniform(0, 6))
    bands = sum(90 * np.exp(-(((y - top - d) / 6) ** 2)) for d in (0, 30, 55, 70))
    return np.abs(bands * rng.rayleigh(0.7, SIZE))[..., None] * np.ones(3)


def _landscape(rng):
    x, y = _grid()
    hills = 170 + 30 * np.sin(x / rng.uniform(30, 80)) + 15 * np.sin(x / 17)
    sky = np.array([120, 170, 230]) + 60 * (y / SIZE[0])[..., None]
    return np.where((y > hills)[..., None], np.array([70, 120, 50]) + _noise(rng, 4, 20), sky)


def _sunset(rng):
    x, y = _grid()
    sky = np.array([250, 120, 40]) * (1 - 0.6 * y / SIZE[0])[..., None]
    sun = np.hypot(x - rng.uniform(100, 300), y - 150) < rng.uniform(20, 60)
    sky = np.where(sun[..., None], np.array([255, 230, 150]), sky)
    return np.where((y > 220)[..., None], np.array([30, 15, 10]), sky)


_KINDS = (
    _plain, _plain_noisy, _orange_frame, _gradient, _coloured_clouds, _checkerboard, _stripes, _page_of_text,
    _white_text_on_black, _chart, _pie_chart, _flat_disc, _orange_disc, _orange_fruit, _moon, _target, _ball, _clock,
    _face, _outer_eye, _radiograph, _layers_of_tissue, _landscape, _sunset,
)  # fmt: skip
