"""Where else a training may be told of: give these as `track` to `train`. They come with the extra `track`."""

from importlib import import_module
from pathlib import Path
from typing import Any

from sparring.models.factory import optional
from sparring.progress import Step


class TensorBoard:
    """Writes the loss after every batch, and what was measured after every epoch, for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: str | Path):
        optional("tensorboard", "track")
        self._writer: Any = import_module("torch.utils.tensorboard").SummaryWriter(str(folder))

    def __call__(self, now: Step) -> None:
        for name, value in figures(now).items():
            self._writer.add_scalar(name, value, now.done)
        if now.finished:
            self._writer.flush()


class MLflow:
    """Logs the same to an experiment of MLflow, in a run of its own, where MLFLOW_TRACKING_URI says."""

    def __init__(self, experiment: str):
        self._mlflow: Any = optional("mlflow", "track")
        self._mlflow.set_experiment(experiment)
        self._run: Any = self._mlflow.start_run()
        self._calls = 0

    def __call__(self, now: Step) -> None:
        self._calls += 1
        if now.finished or self._calls % 20 == 0:  # each message goes over the net
            self._mlflow.log_metrics(figures(now), step=now.done, run_id=self._run.info.run_id)
        if now.finished and now.epoch == now.epochs:
            self._mlflow.end_run()


def figures(now: Step) -> dict[str, float]:
    """Numbers by name; the horizontal axis is images seen."""
    found = {"loss": now.loss, "rate": now.rate}
    return found | {f"held out/{name}": value for name, value in now.figures.items()} if now.finished else found
