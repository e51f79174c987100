"""Segment a NIfTI scan with a model in TensorFlow Serving, over gRPC.

The model is one of ``deepatlas export``; its ``assets/metadata.json`` says on which grid it takes images. Needs
``pip install tensorflow-serving-api nibabel scipy`` and the other files of this folder.

    python serving_client.py scan.nii.gz labels.nii.gz --metadata exported/knee/1/assets/metadata.json --model knee
"""

import argparse
from pathlib import Path

import grpc
import tensorflow as tf
from scan_grid import check_output, read_channels, read_metadata, save_labels, segment_grid, to_model_grid
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]  # the default is 4 MB


def segment(server: str, model: str, image, seconds: float = 300):
    """Labels (B, X, Y, Z) int32 of images (B, X, Y, Z, K) float32 in [0, 1].

    Ends the program with one line where the server does not answer, or refuses.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "segment_rescaled"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
    request.output_filter.append("labels")  # the probabilities, many times larger, stay there
    try:
        with grpc.insecure_channel(server, options=UNLIMITED) as channel:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=seconds)
    except grpc.RpcError as error:  # UNAVAILABLE where there is no server, NOT_FOUND where it has no such model
        reason = f"{error.code().name}: {' '.join(error.details().split())[:300]}"
        raise SystemExit(f"{server}, model {model}: {reason}: check --server and --model") from None
    return tf.make_ndarray(answer.outputs["labels"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", help="NIfTI file; of several channels one for each, with commas between them")
    parser.add_argument("labels", type=Path, help="NIfTI file to be written")
    parser.add_argument("--metadata", required=True, type=Path, help="assets/metadata.json of the exported model")
    parser.add_argument("--model", default="deepatlas", help="its name in the server")
    parser.add_argument("--server", default="localhost:8500", help="host:port; default: localhost:8500")
    args = parser.parse_args()
    check_output(args.labels)
    metadata = read_metadata(args.metadata)
    scan, *others = read_channels(args.scan, metadata)
    grid = to_model_grid(scan, metadata, others)
    labels = segment_grid(lambda image: segment(args.server, args.model, image), grid, metadata)
    save_labels(labels, grid, scan, args.labels, metadata)


if __name__ == "__main__":
    main()
