"""The exported model behind the interfaces of TensorFlow Serving on loopback, with the client scripts, and in OpenVINO.

The server itself is not in any package registry: what is shown is the wire contract.
"""

import concurrent.futures
import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.apply import foreground
from deepatlas_tf.apply.grids import anatomy, covering_transform, cropped
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.runs import windows
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.intensity import rescale

pytestmark = pytest.mark.slow  # an export takes ten seconds
EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from scan_grid import read_metadata, save_labels, segment_grid, to_model_grid  # noqa: E402

OPENVINO = """
import sys
import numpy as np
import openvino

folder, inputs, outputs = sys.argv[1:]
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
model = core.compile_model(openvino.convert_model(folder), "CPU")
found = model(dict(np.load(inputs)))
np.savez(outputs, **{output.any_name: found[output] for output in model.outputs})
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported / "1")).signatures


@pytest.fixture
def grpc_server(signatures):
    """A PredictionService on loopback: host:port, and the requests that it got."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    apis = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    assert apis

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        requests = []

        def Predict(self, request, context):  # noqa: N802, the name in the protocol
            self.requests.append((request.model_spec.name, request.model_spec.signature_name))
            given = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
            answer = predict_pb2.PredictResponse()
            for name, value in signatures[request.model_spec.signature_name](**given).items():
                if not request.output_filter or name in request.output_filter:
                    answer.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return answer

    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), options=unlimited)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", Service.requests
    server.stop(None)


@pytest.fixture
def rest_server(signatures):
    """``POST /v1/models/NAME:predict`` of TensorFlow Serving's REST interface: URL, and the paths asked for."""
    paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802, the name in http.server
            paths.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = {name: tf.constant(value, tf.float32) for name, value in body["inputs"].items()}
            outputs = {k: v.numpy().tolist() for k, v in signatures[body["signature_name"]](**given).items()}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"outputs": outputs}).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def _check_client(script, server, exported, scan, signatures):
    """It leaves what the signature gives, brought to the scan's grid, and nothing of the grid is lost."""
    metadata, out = exported / "1" / "assets" / "metadata.json", scan.with_name("labels.nii.gz")
    call = [sys.executable, EXAMPLES / script, scan, out, "--metadata", metadata, "--server", server, "--model", "knee"]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found, image, grid = nib.load(out), nib.load(scan), to_model_grid(nib.load(scan), read_metadata(metadata))
    assert found.shape == image.shape and found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.affine, image.affine)

    def served(image):
        return signatures["segment_rescaled"](image=tf.constant(image))["labels"].numpy()

    labels = segment_grid(served, grid, read_metadata(metadata))
    save_labels(labels, grid, image, scan.with_name("expected.nii"), read_metadata(metadata))
    expected = np.asarray(nib.load(scan.with_name("expected.nii")).dataobj)
    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


def test_grpc_client(grpc_server, exported, scans, signatures):
    server, requests = grpc_server
    _check_client("serving_client.py", server, exported, scans["permuted"], signatures)
    assert set(requests) == {("knee", "segment_rescaled")} and len(requests) > 1  # windows of the training size


def test_rest_client(rest_server, exported, scans, signatures):
    server, paths = rest_server
    _check_client("rest_client.py", server, exported, scans["oblique"], signatures)
    assert paths == ["/v1/models/knee:predict"]


@pytest.mark.parametrize(("numbers", "kind"), [(None, np.uint8), ([0, 17, 4], np.uint8), ([0, 17, 70000], np.int32)])
def test_the_clients_write_the_numbers_of_the_label_files(numbers, kind, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1, 5, 4, 3))
    scan = nib.Nifti1Image(1 + rng.random((5, 4, 3)).astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    about = {
        "class_names": ["background", "a", "b"],
        "class_numbers": numbers,
        "shape": [5, 4, 3],
        "spacing": [2, 2, 3],
    }
    save_labels(labels, scan, scan, tmp_path / "labels.nii.gz", about)
    found = nib.load(tmp_path / "labels.nii.gz")
    expected = np.vectorize(dict(enumerate(numbers or range(3))).get)(labels[0])
    assert found.get_data_dtype() == kind
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


@pytest.mark.parametrize("name", ["flipped", "permuted", "oblique", "training"])
def test_the_clients_grid_is_that_of_deepatlas_segment(name, exported, run_folder, scans):
    whole, known = nifti.read_image(scans[name], name), TrainedModel(run_folder).grid
    image = cropped(whole, anatomy(whole, known))
    transform = covering_transform(image, known)
    grid = to_model_grid(nib.load(scans[name]), read_metadata(exported / "1" / "assets" / "metadata.json"))
    assert grid.shape == transform.shape
    np.testing.assert_allclose(grid.affine, transform.affine, atol=1e-4)
    ours = transform.image_to_network(rescale(image.volume))
    assert np.abs(np.asarray(grid.dataobj) - ours).mean() < 1e-3 and ours.std() > 0.1


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_the_clients_grid_does_not_depend_on_a_border(mode, exported, scans, tmp_path, write_nifti):
    image = nib.load(scans["oblique"])
    metadata = read_metadata(exported / "1" / "assets" / "metadata.json")
    plain = nib.Nifti1Image(np.asarray(image.dataobj)[2:], image.affine)
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [9, 9, 9]
    border = nib.Nifti1Image(np.pad(np.asarray(plain.dataobj), (9, 17), mode=mode), affine)
    expected, found = (to_model_grid(one, metadata) for one in (plain, border))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found.dataobj), np.asarray(expected.dataobj), atol=1e-5)


@pytest.mark.parametrize("module", [foreground, windows], ids=["foreground", "windows"])
def test_the_clients_find_the_anatomy_as_the_package_does(module):
    path = Path(module.__file__)
    assert (EXAMPLES / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("script", ["serving_client.py", "rest_client.py"])
def test_clients_refuse_a_scan_that_is_not_finite(script, exported, tmp_path, write_nifti):
    if script == "serving_client.py":
        pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    volume = np.ones((9, 9, 9), np.float32)
    volume[4, 4, 4] = np.inf
    scan, metadata = write_nifti(tmp_path / "bad.nii.gz", volume), exported / "1" / "assets" / "metadata.json"
    call = [sys.executable, EXAMPLES / script, scan, tmp_path / "out.nii.gz", "--metadata", metadata]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    error = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1 and "bad.nii.gz has voxels that are NaN or infinite" in error
    assert "Traceback" not in result.stderr and not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("signature", ["segment", "segment_rescaled", "register", "register_rescaled"])
def test_a_request_that_is_not_finite_is_refused(signature, value, signatures):
    """One voxel of a batch: before, all labels were 0 or the index of a voxel was far out of the image."""
    names = ["image"] if "segment" in signature else ["moving", "fixed"]
    good = {name: np.random.default_rng(0).random((2, 12, 13, 11, 1)).astype(np.float32) for name in names}
    signatures[signature](**{name: tf.constant(image) for name, image in good.items()})
    for name in names:
        bad = {**good, name: good[name].copy()}
        bad[name][1, 3, 4, 5, 0] = value
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}: every voxel must be a finite number"):
            signatures[signature](**{key: tf.constant(image) for key, image in bad.items()})


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize("task", ["segment", "register"])
def test_openvino_without_tensorflow_gives_the_same_numbers(task, request, tmp_path):
    """OpenVINO takes the signature ``serving_default``, which registers where there is no segmentation network."""
    places = {"segment": ("exported", "1"), "register": ("exported_registration", "2")}
    fixture, version = places[task]
    exported = request.getfixturevalue(fixture) / version
    rng = np.random.default_rng(0)
    names = ["image"] if task == "segment" else ["moving", "fixed"]
    given = {name: rng.gamma(2, 300, (2, 21, 26, 24, 1)).astype(np.float32) for name in names}
    np.savez(tmp_path / "in.npz", **given)
    call = [sys.executable, "-c", OPENVINO, exported, tmp_path / "in.npz", tmp_path / "out.npz"]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "out.npz")
    expected = tf.saved_model.load(str(exported)).signatures["serving_default"](
        **{name: tf.constant(value) for name, value in given.items()}
    )
    assert set(found.files) == set(expected)
    for name in ("probabilities",) if task == "segment" else ("displacement", "warped"):
        scale = np.abs(expected[name]).max()
        error = np.abs(found[name] - expected[name].numpy()).max() / scale
        print(f"OpenVINO, {task}, {name}: largest difference {error:.2g} of the largest value")
        assert error < 1e-4
