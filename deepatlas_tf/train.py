"""``python -m deepatlas_tf.train --dataset NAME``: train, evaluate and draw; the same as ``deepatlas train``."""

import sys

from deepatlas_tf.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
