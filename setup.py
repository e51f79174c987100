"""Packaging: the dependencies, with the markers that choose between the two supported TensorFlow stacks."""

from pathlib import Path

from setuptools import find_packages, setup

OLD = 'python_version < "3.12"'  # TensorFlow 2.15, whose own Keras is Keras 2
NEW = 'python_version >= "3.12"'  # TensorFlow 2.20 and later, with Keras 2 from tf-keras

# `datasets/` stays at the top level, where the tfds command works in it, and is installed inside the package:
# a top-level package called `datasets` would collide with Hugging Face's.
DATASETS = "deepatlas_tf.datasets"
dataset_packages = [DATASETS] + [f"{DATASETS}.{name}" for name in find_packages("datasets")]

setup(
    name="deepatlas_tf",
    version="0.1.0",
    description="Registration and segmentation learned together from few labels (DeepAtlas), in TensorFlow",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["deepatlas_tf", "deepatlas_tf.*"]) + dataset_packages,
    package_dir={DATASETS: "datasets"},
    package_data={
        "": ["*.md", "*.bib", "*.txt", "*.tsv", "*.csv", "*.json", "*.npz", "py.typed"],
        "deepatlas_tf.pretrained": ["**/*.md", "**/*.json", "**/*.keras"],
    },
    entry_points={"console_scripts": ["deepatlas = deepatlas_tf.cli:main"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        f"tensorflow==2.15.1; {OLD}",
        f"tensorflow>=2.20,<2.22; {NEW}",
        f"tf-keras>=2.20,<2.22; {NEW}",
        f"tensorboard>=2.20,<2.22; {NEW}",  # TensorFlow 2.15 brings its own; 2.21 no longer does
        f"numpy<2; {OLD}",
        f"numpy>=1.26; {NEW}",
        "voxelmorph==0.2",  # 0.3 and later are PyTorch only
        "neurite==0.2",
        "tensorflow-datasets==4.9.10",
        # Newer ones need a newer protobuf than TensorFlow 2.15 allows, which TFDS reports as "no attribute 'core'".
        f"tensorflow-metadata>=1.15,<1.18; {OLD}",
        f"tensorflow-metadata>=1.17; {NEW}",
        f"importlib_resources; {NEW}",  # used by TFDS, not declared by it
        "nibabel>=5",
        "scipy>=1.11",
        "matplotlib>=3.7",
        "requests",  # of TFDS: to see whether a download can be reached
        "tqdm>=4.60",
    ],
    extras_require={
        # Optional, since nothing in the package imports it: for programs that use it beside this one. It ended in May
        # 2024; the compiled operations of 0.23.0 load and run on TensorFlow 2.15.1, as far as tried (docs/install.md).
        "addons": [f"tensorflow-addons==0.23.0; {OLD}"],
        "itk": ["SimpleITK>=2.3"],  # DICOM, MetaImage, `register --affine`, `data.alignment`
        "beam": ["apache-beam>=2.70,<3", "mlcroissant>=1", "dill"],  # prepares data on many machines; the tfds command
        # only for examples/serving_client.py and its test
        "serving": [f"tensorflow-serving-api==2.15.1; {OLD}", f"tensorflow-serving-api>=2.19,<2.22; {NEW}"],
        "pdf": ["fpdf2>=2.7"],  # of `report -o report.pdf`
        "completion": ["argcomplete>=3"],  # of the command line, with the Tab key
        # pip does not find versions for the two in reasonable time: uv pip install ".[tfx]"
        "tfx": [f"tensorflow-data-validation==1.15.1; {OLD}", "dill"],
        "tfx-full": [f"tfx==1.15.1; {OLD}", "dill"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.7",
            "dill",  # for TFDS's DatasetBuilderTestCase
            "fpdf2>=2.7",
            "openvino>=2024.6",
            "argcomplete>=3",
            "nbclient>=0.10",  # with the next two: runs the notebooks
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "surface-distance==0.1",
            "SimpleITK>=2.3",
            "setuptools>=64",  # with wheel: a test builds the wheel without the network
            "wheel",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
