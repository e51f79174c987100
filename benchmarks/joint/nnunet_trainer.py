"""nnU-Net's trainer with a limit of time, over which its learning rate falls."""

import time
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from peers.folder import write_json

from joint.given import Trained

EXPONENT = 0.9  # of nnU-Net's polynomial schedule


class TimedTrainer(nnUNetTrainer):
    """nnU-Net's recipe, but for two things: it ends after some seconds, and its epochs are short.

    nnU-Net lets the learning rate fall over 1000 epochs of 250 steps, which two cores never reach: here it falls in the
    same way over the seconds. Loading and augmenting a batch is counted, validation and checkpoints are not.
    """

    def begin(self, trained: Trained) -> None:
        """Set the limit, and what an earlier process has used of it."""
        self.trained, self.limit = trained, 60 * trained.minutes
        self.seconds, self.iterations = trained.elapsed()["seconds"], trained.elapsed()["iterations"]
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 25, 2

    def run_training(self) -> None:
        """Epochs until the time is over, with a checkpoint after each."""
        self.on_train_start()
        while self.seconds < self.limit:
            self.on_epoch_start()
            self.on_train_epoch_start()
            self.on_train_epoch_end(self._steps())
            with torch.no_grad():
                self.on_validation_epoch_start()
                batches = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in batches])
            self.on_epoch_end()
            self._save()
        self.on_train_end()

    def _steps(self) -> list[dict]:
        """The training of an epoch."""
        outputs = []
        for _ in range(self.num_iterations_per_epoch):
            if self.seconds < self.limit:
                start = time.perf_counter()
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - self.seconds / self.limit) ** EXPONENT
                outputs.append(self.train_step(next(self.dataloader_train)))
                self.seconds += time.perf_counter() - start
        self.iterations += len(outputs)
        return outputs

    def _save(self) -> None:
        """What training goes on from."""
        latest = Path(self.output_folder) / "checkpoint_latest.pth"
        self.current_epoch -= 1  # as nnU-Net does where an epoch has ended: the checkpoint adds one
        self.save_checkpoint(str(latest.with_name("next.pth")))
        self.current_epoch += 1
        latest.with_name("next.pth").replace(latest)
        write_json(self.trained.elapsed_file, {"seconds": self.seconds, "iterations": self.iterations})
