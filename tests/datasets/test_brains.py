import pytest

from deepatlas_tf.datasets.brains import make_dummy_data as dummy
from deepatlas_tf.datasets.brains.brains_dataset_builder import Builder
from deepatlas_tf.keras_stack import tfds


@pytest.mark.slow
class Brains(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks; its default grids are too large for a test."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 5, "validation": 1, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for((12, 12, 12), (1, 1, 1))]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, tmp_path_factory):
        request.cls.EXAMPLE_DIR = dummy.make_folder(tmp_path_factory.mktemp("brains")).parent
