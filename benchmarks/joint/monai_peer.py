"""MONAI's DeepAtlas as a peer: trained for so many minutes on all scans of training, measured as it trains."""

import csv
import time

import numpy as np
import torch
from peers.folder import THREADS, read_volume, write_field, write_volume
from peers.tools import Found, difference

from joint.given import Given, Trained
from joint.monai_deepatlas import SETTINGS, DeepAtlas

VALIDATIONS = 10  # in a training; on the hippocampus one takes as long as forty steps
MOST_DIFFERENCE = 0.01  # of a field's warp here and by its definition, as a share of the image's range


def train(given: Given, trained: Trained) -> dict:
    """Train, or go on from the last validation; what it was, for ``train.json``."""
    about, model = given.about(), model_of(given)
    state = _read_state(trained, model)
    seconds, every = 60 * trained.minutes, 60 * trained.minutes / VALIDATIONS
    while state["seconds"] < seconds:
        until = min(state["seconds"] + every, seconds)
        while state["seconds"] < until:
            start = time.perf_counter()
            model.update(state["step"])
            state["seconds"] += time.perf_counter() - start
            state["step"] += 1
        _validate(given, about, model, state)
        _write_state(trained, model, state)
    numbers = {"seconds": state["seconds"], "steps": state["step"], "best_validation_dice": state["best"]}
    return {**numbers, "settings": SETTINGS, "bending_weight": model.bending_weight}


def predict(given: Given, trained: Trained) -> dict:
    """Label maps of the test scans and fields of the test pairs, by the best weights; median seconds of each."""
    about, model = given.about(), model_of(given)
    best = torch.load(trained.path / "state.pt", weights_only=False)["weights"]
    for name, net in model.nets.items():
        net.load_state_dict(best[name])
        net.eval()
    taken = {"segmentation": [], "registration": []}
    images = {name: read_image(given, name) for name in about["scans"]["test"]}
    with torch.no_grad():
        for name, image in images.items():
            start = time.perf_counter()
            label = model.segment(image).argmax(dim=1)[0]
            taken["segmentation"].append(time.perf_counter() - start)
            write_volume(trained.segmentation_file(name), label.numpy().astype(np.uint8), about["spacing"])
        for pair in about["pairs"]["test"]:
            fixed, moving = images[pair["fixed"]], images[pair["moving"]]
            start = time.perf_counter()
            field = model.register(fixed, moving)
            taken["registration"].append(time.perf_counter() - start)
            _write_checked(trained, pair["pair"], field, moving, model.warp(moving, field))
    return {"seconds": {task: float(np.median(values)) for task, values in taken.items()}}


def _write_checked(
    trained: Trained, pair: str, field: torch.Tensor, moving: torch.Tensor, warped: torch.Tensor
) -> None:
    """Write a field ``(1, 3, *S)``, if warping by its definition gives the image that MONAI warps."""
    u = field[0].movedim(0, -1).numpy()
    differs = difference(Found(u, warped[0, 0].numpy(), 0.0, 0.0), moving[0, 0].numpy())
    if not differs <= MOST_DIFFERENCE:
        raise ValueError(f"{pair}: MONAI's warped image differs from that of the field by {differs:.3g}")
    write_field(trained.field_file(pair), u, difference=differs)


def model_of(given: Given) -> DeepAtlas:
    """New networks, with the scans and label maps of training."""
    about = given.about()
    torch.set_num_threads(THREADS)
    torch.manual_seed(about["seed"])
    names = about["scans"]["train"]
    images = torch.cat([read_image(given, name) for name in names])
    labels = {names.index(name): read_label(given.label_file(name))[0] for name in about["labelled"]}
    return DeepAtlas(images, labels, len(about["class_names"]), about["seed"])


def read_image(given: Given, name: str) -> torch.Tensor:
    """``(1, 1, *S)`` float32."""
    return torch.from_numpy(read_volume(given.image_file(name)).astype(np.float32))[None, None]


def read_label(path) -> torch.Tensor:
    """``(1, 1, *S)`` int64."""
    return torch.from_numpy(read_volume(path).astype(np.int64))[None, None]


def _validate(given: Given, about: dict, model: DeepAtlas, state: dict) -> None:
    """Add a row to the curve, and keep the weights of a network that is better than before."""
    for net in model.nets.values():
        net.eval()
    names = about["scans"]["validation"]
    images = {name: read_image(given, name) for name in names}
    labels = {name: read_label(given.validation_label_file(name)) for name in names}
    with torch.no_grad():
        found = {"segmentation": [], "registration": []}
        for name in names:
            found["segmentation"].append(dice(model.segment(images[name]).argmax(dim=1, keepdim=True), labels[name]))
        for pair in about["pairs"]["validation"]:
            u = model.register(images[pair["fixed"]], images[pair["moving"]])
            warped = model.warp_nearest(labels[pair["moving"]].float(), u)
            found["registration"].append(dice(warped.round().long(), labels[pair["fixed"]]))
    row = {task: float(np.mean(values)) for task, values in found.items()}
    state["curve"].append({"seconds": round(state["seconds"], 1), "step": state["step"], **row})
    print(state["curve"][-1], flush=True)
    for task, value in row.items():
        if value > state["best"].get(task, -1):
            state["best"][task] = value
            state["weights"][task] = {key: part.clone() for key, part in model.nets[task].state_dict().items()}


def dice(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean Dice of the foreground classes that are in one of two label maps of one shape."""
    classes = [index for index in torch.cat([prediction.unique(), truth.unique()]).unique().tolist() if index > 0]
    sizes = {index: (prediction == index).sum() + (truth == index).sum() for index in classes}
    common = {index: ((prediction == index) & (truth == index)).sum() for index in classes}
    return float(np.mean([2 * common[index] / sizes[index] for index in classes])) if classes else 0.0


def _read_state(trained: Trained, model: DeepAtlas) -> dict:
    path = trained.path / "state.pt"
    if not path.exists():
        return {"seconds": 0.0, "step": 0, "curve": [], "best": {}, "weights": {}}
    state = torch.load(path, weights_only=False)
    for name, net in model.nets.items():
        net.load_state_dict(state["nets"].pop(name))
        model.optimizers[name].load_state_dict(state["optimizers"].pop(name))
    return state


def _write_state(trained: Trained, model: DeepAtlas, state: dict) -> None:
    """Write what training goes on from, and the curve."""
    nets = {name: net.state_dict() for name, net in model.nets.items()}
    optimizers = {name: optimizer.state_dict() for name, optimizer in model.optimizers.items()}
    temporary = trained.path / ".state.pt"
    torch.save({**state, "nets": nets, "optimizers": optimizers}, temporary)
    temporary.replace(trained.path / "state.pt")
    with trained.curve_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(state["curve"][0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(state["curve"])
