"""Two logical CPUs for the test of two replicas; conftest files are read before any test uses TensorFlow."""

from deepatlas_tf.keras_stack import tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
