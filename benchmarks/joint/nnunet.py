"""nnU-Net v2 as a peer: its own plan and preprocessing, fold ``all``, and its own predictor, on the CPU."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peers.folder import THREADS, write_json

from joint.given import Given, Trained

DATASET, CONFIGURATION, PLANS = "Dataset001_joint", "3d_fullres", "nnUNetPlans"
PLANNED = ("patch_size", "batch_size", "spacing", "normalization_schemes")


def train(given: Given, trained: Trained) -> dict:
    """Train, or go on from the last epoch; what it was, for ``train.json``."""
    prepare(given)
    trainer = _trainer(given, trained)
    if (latest := Path(trainer.output_folder) / "checkpoint_latest.pth").exists():
        trainer.load_checkpoint(str(latest))
    trainer.run_training()
    plan = trainer.configuration_manager.configuration
    widths = plan["architecture"]["arch_kwargs"]["features_per_stage"]
    settings = {**{name: plan[name] for name in PLANNED}, "features_per_stage": widths}
    settings |= {"fold": "all", "iterations_per_epoch": trainer.num_iterations_per_epoch}
    numbers = {"seconds": trainer.seconds, "epochs": trainer.current_epoch, "iterations": trainer.iterations}
    return {**numbers, "settings": settings}


def predict(given: Given, trained: Trained) -> dict:
    """Label maps of the test scans by the final checkpoint, mirrored as by default; median seconds of one in memory."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer = _trainer(given, trained)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    files, taken = trainer.plans_manager.image_reader_writer_class(), []
    for name in given.about()["scans"]["test"]:
        image, properties = files.read_images([str(given.image_file(name))])
        start = time.perf_counter()
        label = predictor.predict_single_npy_array(image, properties)
        taken.append(time.perf_counter() - start)
        path = trained.segmentation_file(name)
        path.parent.mkdir(exist_ok=True)
        files.write_seg(label, str(path), properties)
    return {"seconds": {"segmentation": float(np.median(taken))}}


def prepare(given: Given) -> None:
    """Plan and preprocess the labelled scans of training, in a process of its own, once for all trainings."""
    place = given.path / "nnunet"
    if (place / "prepared.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    about, raw = given.about(), place / "raw" / DATASET
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for name in about["labelled"]:
        shutil.copy(given.image_file(name), raw / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(given.label_file(name), raw / "labelsTr" / f"{name}.nii.gz")
    labels = {name: index for index, name in enumerate(about["class_names"])}
    described = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    write_json(raw / "dataset.json", {**described, "numTraining": len(about["labelled"])})
    command = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    options = ["-d", "1", "-c", CONFIGURATION, "-np", "1", "-npfp", "1", "--no_pbar"]
    # planning sets so many threads of PyTorch as there are processes for augmentation, of which 0 is not allowed
    environment = {**os.environ, **_paths(given, place), "nnUNet_n_proc_DA": str(THREADS)}
    subprocess.run([command, *options], env=environment, check=True)
    write_json(place / "prepared.json", {"scans": about["labelled"]})


def _paths(given: Given, results: Path) -> dict[str, str]:
    place = given.path / "nnunet"
    folders = {"raw": place / "raw", "preprocessed": place / "preprocessed", "results": results}
    return {f"nnUNet_{name}": str(folder) for name, folder in folders.items()}


def _trainer(given: Given, trained: Trained):
    """The trainer of :mod:`joint.nnunet_trainer`, initialised."""
    os.environ |= {**_paths(given, trained.path / "results"), "nnUNet_compile": "f", "nnUNet_n_proc_DA": "0"}
    from joint.nnunet_trainer import TimedTrainer

    torch.set_num_threads(THREADS)
    seed = given.about()["seed"]
    torch.manual_seed(seed)
    np.random.seed(seed)
    preprocessed = given.path / "nnunet" / "preprocessed" / DATASET
    plans, dataset = (json.loads((preprocessed / f"{name}.json").read_text("utf-8")) for name in (PLANS, "dataset"))
    plans["continue_training"] = trained.elapsed_file.exists()
    trainer = TimedTrainer(plans, CONFIGURATION, "all", dataset, torch.device("cpu"))
    trainer.initialize()
    trainer.begin(trained)
    return trainer
