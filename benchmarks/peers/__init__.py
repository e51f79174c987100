"""Parts of ``benchmarks/registration_peers.py``; ``folder``, ``settings``, ``tools`` and ``run`` need no TensorFlow."""
