"""``python -m deepatlas_tf COMMAND``: the same as ``deepatlas COMMAND``."""

import sys

from deepatlas_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
