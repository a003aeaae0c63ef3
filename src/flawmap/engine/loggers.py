"""Where a training also writes its numbers, pictures and recipe: TensorBoard, MLflow or Weights & Biases.

Lightning's own loggers write them. Stages on Lightning get these objects; other stages write to the same ones. What a
run itself keeps, log.jsonl above all, does not depend on them.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np

from flawmap.data.images.files import read_image
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.extras import missing
from flawmap.runs.run_folder import RunFolder, iso_time

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

    AnyLogger: TypeAlias = "LoggerName | Logger"

LoggerName = Literal["tensorboard", "mlflow", "wandb"]
LOGGER_NAMES: tuple[LoggerName, ...] = get_args(LoggerName)
PROJECT = "flawmap"  # of the runs in MLflow and in Weights & Biases


@dataclass(frozen=True)
class Loggers:
    """Loggers of one training; one that fails is left out from then on, because the training goes on.

    Attributes:
        of_lightning: as a Trainer takes them.
    """

    of_lightning: "list[Logger]"

    def metrics(self, values: Mapping[str, float], step: int, prefix: str) -> None:
        """Write numbers under ``prefix/name``; what is not a number is left out."""
        numbers = {f"{prefix}/{name}": float(value) for name, value in values.items() if isinstance(value, int | float)}
        self._each(lambda logger: logger.log_metrics(numbers, step))

    def settings(self, values: Mapping[str, Any]) -> None:
        """Write the recipe, a tree of names."""
        self._each(lambda logger: logger.log_hyperparams(dict(values)))

    def picture(self, name: str, file: Path) -> None:
        """Write a picture; a logger of another kind than the three that have names is passed over."""
        self._each(lambda logger: _write_picture(logger, name, file))

    def _each(self, write: "Callable[[Logger], None]") -> None:
        for logger in list(self.of_lightning):
            try:
                write(logger)
            except Exception as error:  # of a server, a disk or the logger's package
                self.of_lightning.remove(logger)
                reason = (str(error).splitlines() or [""])[0][:200]
                say("logger", f"{type(logger).__name__} gets nothing more: {type(error).__name__}: {reason}")


NO_LOGGERS = Loggers([])


def refuse_missing_loggers(loggers: "Sequence[AnyLogger]") -> None:
    """Raises: UserError: there is no logger of a name, or its package is not installed."""
    for name in loggers:
        if not isinstance(name, str):
            continue
        if name not in LOGGER_NAMES:
            raise UserError(f"there is no logger {name!r}", "loggers", f"choose {', '.join(LOGGER_NAMES)}")
        if find_spec(name) is None:
            raise missing(name, f"the logger {name}")


@contextmanager
def opened_loggers(loggers: "Sequence[AnyLogger]", run: RunFolder | None) -> Iterator[Loggers]:
    """Open the loggers that are named, and close these at the end; those that are given are not closed.

    Files lie beside the run, or in ``runs/`` without one: ``tensorboard/RUN/``, ``mlflow.db`` and ``mlflow-artifacts/``
    unless MLFLOW_TRACKING_URI says where, and ``wandb/``. Weights & Biases is offline unless WANDB_API_KEY or
    WANDB_MODE is set.

    Raises:
        UserError: as :func:`refuse_missing_loggers`.
    """
    refuse_missing_loggers(loggers)
    name = run.path.name if run else re.sub(r"[^0-9T]", "", iso_time())
    folder = run.path.parent if run else Path("runs")
    named = [OPENED_BY[one](folder.absolute(), name) for one in loggers if isinstance(one, str)]
    given = [one for one in loggers if not isinstance(one, str)]
    opened, status = Loggers([*named, *given]), "failed"
    try:
        yield opened
        status = "success"
    finally:
        Loggers(named)._each(lambda logger: _close(logger, status))


def _close(logger: "Logger", status: str) -> None:
    logger.finalize(status)
    if type(logger).__name__ == "WandbLogger":
        cast("WandbLogger", logger).experiment.finish(exit_code=int(status != "success"))


def _tensorboard(folder: Path, name: str) -> "Logger":
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version=name, default_hp_metric=False)


def _mlflow(folder: Path, name: str) -> "Logger":
    from lightning.pytorch.loggers import MLFlowLogger

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return MLFlowLogger(PROJECT, name, uri)
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = (folder / "mlflow-artifacts").as_uri()
    return MLFlowLogger(PROJECT, name, f"sqlite:///{folder.as_posix()}/mlflow.db", artifact_location=artifacts)


def _wandb(folder: Path, name: str) -> "Logger":
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    # without a key its client would ask for one at the terminal
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    settings = wandb.Settings(silent=True, console="off")
    return WandbLogger(name, folder, project=PROJECT, offline=mode == "offline", settings=settings, mode=mode)


OPENED_BY: "Mapping[str, Callable[[Path, str], Logger]]" = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _write_picture(logger: "Logger", name: str, file: Path) -> None:
    kind = type(logger).__name__
    if kind == "TensorBoardLogger":
        pixels = np.asarray(read_image(file))
        cast("TensorBoardLogger", logger).experiment.add_image(name, pixels, 0, dataformats="HWC")
    elif kind == "MLFlowLogger":
        of_mlflow = cast("MLFlowLogger", logger)
        of_mlflow.experiment.log_artifact(of_mlflow.run_id, str(file), str(Path(name).parent.as_posix()))
    elif kind == "WandbLogger":
        cast("WandbLogger", logger).log_image(name, [str(file)])
