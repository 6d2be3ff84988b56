"""Package metadata of dr_tf: its dependencies, and what each extra installs."""

import os
import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "dr_tf/__init__.py").read_text()).group(1)
REPOSITORY = os.environ.get(
    "DR_TF_REPOSITORY", ""
)  # such as https://github.com/OWNER/dr_tf; whoever publishes a release sets it
BRANCH = "main"

# Enough to predict and explain with the model that comes with dr_tf, and with any ONNX export.
BASE = ["numpy", "opencv-python-headless>=4.11", "onnxruntime", "absl-py", "tqdm", "annotated-types"]

# All of them together resolve with constraints.txt: make resolve.
EXTRAS = {
    "train": [
        "tensorflow>=2.21",
        "keras>=3.13,<3.16",
        "keras-hub",
        "tensorflow-datasets>=4.9.8",
        "importlib_resources",  # tensorflow-datasets imports it and does not declare it
        "gin-config",
        "scikit-learn",
        "scipy",
        "threadpoolctl",
        "matplotlib",
        "tensorboard",
        "h5py",
        "jinja2",
        "psutil",
        "faiss-cpu",  # the leak audit of large sets
        "pydantic",
    ],
    "keras_cv": ["keras-cv"],  # archived upstream; only the augmentation policy rand_augment uses its layers
    "litert": ["ai-edge-litert", "litert-quantizer"],
    "export": ["tf2onnx", "onnx"],
    "app": ["streamlit>=1.67", "jinja2", "matplotlib"],
    "serve": ["fastapi", "starlette", "uvicorn", "python-multipart", "prometheus-client"],
    "dicom": ["pydicom", "python-gdcm", "highdicom", "matplotlib"],  # GDCM has the codecs; matplotlib draws the PDF
    "excel": ["openpyxl"],
    "beam": ["apache-beam"],
    "bucket": ["fsspec", "s3fs", "gcsfs", "aiohttp"],
    "docs": ["mkdocs-material", "mkdocstrings[python]", "nbclient", "ipykernel"],
    "cuda": ["tensorflow[and-cuda]"],
    "test": [
        "pytest",
        "pytest-cov",
        "pytest-xdist",
        "hypothesis",
        "pillow",
        "scikit-image",
        "openpyxl",
        "httpx",
        "playwright",  # drives Debian's chromium, which apt.txt names
        "axe-playwright-python",
        "moto[server]",
        "ruff",
        "mypy",
        "types-tqdm",
        "build",
        "pre-commit",
    ],
}

EXTRAS["test"] += EXTRAS["docs"]  # the suite builds the documentation and runs the notebook
EXTRAS["test"] += (
    EXTRAS["bucket"] + EXTRAS["dicom"] + EXTRAS["export"] + EXTRAS["litert"] + EXTRAS["app"] + EXTRAS["serve"]
)

CLASSIFIERS = [
    "Development Status :: 4 - Beta",
    "Environment :: Console",
    "Intended Audience :: Healthcare Industry",
    "Intended Audience :: Science/Research",
    "Operating System :: MacOS",  # not Windows: run directories and record sets are locked with fcntl
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Recognition",
    "Topic :: Scientific/Engineering :: Medical Science Apps.",
    "Typing :: Typed",
]


def long_description() -> str:
    """Return the README with absolute links, as PyPI shows it outside of the repository; without REPOSITORY, without links."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    relative = r"(?!#|[a-z]+:)([^)\s]+)\)"
    if not REPOSITORY:
        return re.sub(rf"\[([^\]]*)\]\({relative}", r"\g<1>", re.sub(rf"!\[[^\]]*\]\({relative}", "", text))
    text = re.sub(rf"(!\[[^\]]*\]\(){relative}", rf"\g<1>{REPOSITORY}/raw/{BRANCH}/\g<2>)", text)
    return re.sub(rf"((?<!\!)\[[^\]]*\]\(){relative}", rf"\g<1>{REPOSITORY}/blob/{BRANCH}/\g<2>)", text)


def project_urls() -> dict[str, str]:
    """Return the links that PyPI shows beside the description."""
    paths = {"Source": "", "Issues": "/issues", "Changelog": f"/blob/{BRANCH}/CHANGELOG.md"}
    return {name: REPOSITORY + path for name, path in paths.items()} if REPOSITORY else {}


setup(
    name="dr_tf",
    version=VERSION,
    description="Grading of diabetic retinopathy from fundus photographs, with Keras 3 and TensorFlow: TFRecords, training, "
    "evaluation with confidence intervals, prediction, class-activation maps. For Linux and macOS.",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    url=REPOSITORY or None,
    project_urls=project_urls(),
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=CLASSIFIERS,
    keywords=[
        "diabetic retinopathy",
        "fundus photography",
        "retina",
        "medical imaging",
        "image classification",
        "calibration",
        "explainability",
        "keras",
        "tensorflow",
    ],
    packages=[
        *find_packages(include=["dr_tf", "dr_tf.*", "tfrecords_builder", "tfrecords_builder.*"]),
        "dr_tf.configs",  # holds no code: a package only so that configs/ is installed as dr_tf/configs/
    ],
    package_dir={"dr_tf.configs": "configs"},
    package_data={
        "dr_tf": [
            "py.typed",
            "ready/*",
            "ready/onnx/*",
            "templates/*",
            "app/messages/*.json",
            "app/icon.png",
            "app/samples/*",
            "app/viewer/*",
        ],
        "dr_tf.configs": ["*.gin", "*/*.gin"],
        "tfrecords_builder": ["py.typed"],
    },
    python_requires=">=3.11",
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["dr_tf = dr_tf.cli.main:main"]},
)
