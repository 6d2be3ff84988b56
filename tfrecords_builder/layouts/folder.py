"""One folder a class, with or without folders for the splits above them."""

from dr_tf.console import UserError
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import CLASS_COUNTS, SPLIT_NAMES, class_order, image_id, photographs_in, require
from tfrecords_builder.samples import Listing, Rejection, make_sample

TREE = """\
  SOURCE/train|valid|test/CLASS/*.jpg        (validation, val, testing, … are understood)
  SOURCE/CLASS/*.jpg                         (splits are made)"""

ABOUT = f"""\
Any folder of photographs with one sub-folder a class.

{TREE}

The order of classes is never guessed from the alphabet: `DR` sorts before `No_DR`, and sensitivity would be
upside down. State it, least disease first:
  --classes No_DR,DR --label any_dr
  --classes none,mild,moderate,severe,proliferative --label grade"""


def add_flags(parser):
    parser.add_argument("--classes", help="class folders, least disease first, with commas between", metavar="A,B,…")
    parser.add_argument("--label", choices=CLASS_COUNTS, default="grade", help="what the classes are (default: grade)")
    parser.add_argument("--name", default="folder", help="name of the record set (default: folder)")


def read(source, flags):
    folders = _class_folders(require(source, "folder", TREE))
    classes = _classes(flags, sorted({folder.name for _, folder in folders}))
    samples, rejections = [], []
    for split, folder in folders:
        paths = photographs_in(folder)
        if not paths:
            rejections.append(
                Rejection(str(folder.relative_to(source)), str(folder), "the folder holds no photographs")
            )
        for path in paths:
            label = {flags.label: classes.index(folder.name)}
            name = image_id(source, path)
            samples.append(make_sample(image_id=name, path=path, split=split, source=flags.name, **label))
    return Listing(samples, rejections)


def _class_folders(source):
    """(split, folder) of every class folder; a source with split folders has no class folders beside them."""
    children = [p for p in sorted(source.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    splits = [p for p in children if p.name.lower() in SPLIT_NAMES]
    if not splits:
        return [("", p) for p in children]
    strange = [p.name for p in children if p not in splits]
    if strange:
        raise UserError(f"{source} holds splits and also {', '.join(strange)}; move what is no split elsewhere")
    return [
        (SPLIT_NAMES[split.name.lower()], p)
        for split in splits
        for p in sorted(split.iterdir())
        if p.is_dir() and not p.name.startswith(".")
    ]


def _classes(flags, found):
    if not found:
        raise UserError(f"no class folders were found\nexpected:\n{TREE}")
    if not flags.classes:
        raise UserError(f"found the classes {', '.join(found)}; state their order, least disease first: --classes …")
    classes = class_order(flags.classes, flags.label)
    if strange := sorted(set(found) - set(classes)):
        raise UserError(f"--classes names {', '.join(classes)}; the folder also holds {', '.join(strange)}")
    return classes


LAYOUT = Layout("any folder with one sub-folder a class", ABOUT, read, add_flags, lambda flags: flags.name)
