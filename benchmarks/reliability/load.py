"""An exported model under load: 200 requests of 8 clients, with wrong ones between, on loopback.

    python benchmarks/reliability/load.py

The server is one made for this, with the REST interface of TensorFlow Serving and the SavedModel that ``deepatlas
export`` wrote (networks untrained, images synthetic): it shows that the graph answers many clients, that a wrong
request is an error and harms no other, and that memory does not grow; not how TensorFlow Serving itself would do.
Written to ``benchmarks/results/reliability/load.json``.
"""

import argparse
import concurrent.futures
import http.server
import json
import resource
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parents[1] / "results" / "reliability"
WRONG = (
    {"inputs": {"image": [[[1.0]]]}},
    {"inputs": {"image": "text"}},
    {"inputs": {}},
    {"nothing": 0},
    {"inputs": {"image": [[[[[float("nan")]] * 8] * 8] * 8]}},
)


def serve(signatures) -> http.server.ThreadingHTTPServer:
    """A server of the signatures on a free port of the loopback interface; ``shutdown()`` ends it."""
    from deepatlas_tf.keras_stack import tf

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802, the name in http.server
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                given = {name: tf.constant(value, tf.float32) for name, value in body["inputs"].items()}
                found = {"outputs": {k: v.numpy().tolist() for k, v in signatures["segment"](**given).items()}}
                status = 200
            except Exception as error:  # TensorFlow's are of a dozen kinds; the server has to stay up
                status, found = 400, {"error": str(error)[:500]}
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def ask(url: str, request: dict) -> tuple[int, dict]:
    """Status and answer of one request."""
    data = json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def measure(signatures, requests: int, clients: int, shape=(16, 16, 16)) -> dict:
    """Send ``requests`` of a few images from ``clients`` threads, every tenth wrong; what came back, and the memory."""
    from deepatlas_tf.keras_stack import tf

    rng = np.random.default_rng(0)
    images = [rng.gamma(2, 100, (1, *shape, 1)).astype(np.float32) for _ in range(4)]
    expected = [signatures["segment"](image=tf.constant(image))["labels"].numpy() for image in images]
    server = serve(signatures)
    url = f"http://127.0.0.1:{server.server_port}/v1/models/knee:predict"

    def one(index: int) -> str:
        if index % 10 == 9:
            status, answer = ask(url, WRONG[index // 10 % len(WRONG)])
            return "wrong refused" if status == 400 and answer.get("error") else f"wrong answered with {status}"
        status, answer = ask(url, {"inputs": {"image": images[index % 4].tolist()}})
        same = status == 200 and np.array_equal(answer["outputs"]["labels"], expected[index % 4])
        return "right" if same else f"not right, status {status}"

    memory, seconds = [], time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        half = requests // 2
        answers = list(pool.map(one, range(half)))
        memory.append(_mib())
        answers += pool.map(one, range(half, requests))
        memory.append(_mib())
    seconds = time.perf_counter() - seconds
    server.shutdown()
    server.server_close()
    counts = {answer: answers.count(answer) for answer in sorted(set(answers))}
    result = {"requests": requests, "clients": clients, "answers": counts, "seconds": round(seconds, 1)}
    return {**result, "peak_mib_after_half": memory[0], "peak_mib_at_the_end": memory[1]}


def _mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path, default=RESULTS / "load.json")
    args = parser.parse_args()
    from results import write
    from small_run import write_run

    from deepatlas_tf.cli import main as deepatlas
    from deepatlas_tf.keras_stack import tf

    with tempfile.TemporaryDirectory() as place:
        run = write_run(Path(place) / "run")
        if deepatlas(["export", str(run), "-o", f"{place}/exported", "-q"]):
            raise SystemExit("the export failed")
        signatures = tf.saved_model.load(f"{place}/exported/1").signatures
        result = measure(signatures, args.requests, args.clients)
    print(json.dumps(result, indent=2))
    write(args.output, result)
    if set(result["answers"]) - {"right", "wrong refused"}:
        raise SystemExit("not every request was answered as it should be")


if __name__ == "__main__":
    main()
