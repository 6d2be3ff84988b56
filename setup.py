"""What dr_tf is called, what it needs, and which extra brings what."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "dr_tf/__init__.py").read_text()).group(1)

# Enough to read, prepare and recognize photographs, and for networks as ONNX Runtime has them.
BASE = ["numpy", "opencv-python-headless>=4.11", "onnxruntime", "absl-py", "tqdm"]

# All of them together resolve with constraints.txt: make resolve.
EXTRAS = {
    "train": [
        "tensorflow>=2.21",
        "keras>=3.13,<3.16",
        "keras-hub",
        "tensorflow-datasets>=4.9.8",
        "importlib_resources",  # tensorflow-datasets imports it and does not ask for it
        "gin-config",
        "scikit-learn",
        "scipy",
        "threadpoolctl",
        "matplotlib",
        "tensorboard",
        "h5py",
        "psutil",
    ],
    "keras_cv": ["keras-cv"],  # archived by its makers; one augmentation policy takes its layers
    "litert": ["ai-edge-litert"],
    "export": ["tf2onnx", "onnx"],
    "app": ["streamlit"],
    "dicom": ["pydicom"],
    "excel": ["openpyxl"],
    "beam": ["apache-beam"],
    "cuda": ["tensorflow[and-cuda]"],
    "test": [
        "pytest",
        "pytest-cov",
        "pytest-xdist",
        "hypothesis",
        "pillow",
        "scikit-image",
        "openpyxl",
        "keras-cv",
        "ruff",
        "pre-commit",
    ],
}

setup(
    name="dr_tf",
    version=VERSION,
    description="Diabetic retinopathy from fundus photographs: records, training, honest evaluation, deployment.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    package_data={"dr_tf": ["ready/*"]},
    packages=find_packages(include=["dr_tf", "dr_tf.*", "tfrecords_builder", "tfrecords_builder.*"]),
    python_requires=">=3.11",
    install_requires=BASE,
    extras_require=EXTRAS,
)
