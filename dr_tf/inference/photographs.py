"""The photographs that a command was given: files as named, and all that lie below a folder."""

from dr_tf.console import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".jp2")


def find(places):
    """Paths, those below a folder sorted."""
    for place in places:
        if place.is_dir():
            below = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not below:
                raise UserError(f"there is no photograph below {place}; looked for {', '.join(SUFFIXES)}")
            yield from below
        elif place.exists():
            yield place
        else:
            raise UserError(f"there is no file {place}")
