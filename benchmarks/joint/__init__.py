"""Parts of ``benchmarks/joint_peers.py``; ``given``, ``run`` and what they import need PyTorch and no TensorFlow."""
