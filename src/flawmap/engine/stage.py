"""Stages of a run: what determines the result of each, and how it is kept, reused and shared between runs."""

import ctypes
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from flawmap.engine.compute import Compute
from flawmap.engine.elsewhere import Elsewhere
from flawmap.engine.failures import explain_failures
from flawmap.engine.loggers import NO_LOGGERS, Loggers
from flawmap.engine.processes import from_first, is_first, tensors_from_first
from flawmap.engine.progress import say
from flawmap.engine.tensor_files import read_tensors, write_tensors
from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text, file_sha256, stable_hash
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.training_log import LogFile

SAVE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class StageContext:
    """What every stage of a run needs to know.

    Attributes:
        run: results, log and checkpoints go there; what it already holds is reused.
        compute: device and precision.
        seed: of the run.
        size_px: side of the images, in pixels, a multiple of the patch size.
        inputs: what all stages depend on: the version of the algorithm, the images, the initial weights.
        earlier: keys of the stages that came before, by name.
        workers: loader processes of a training stage; None leaves the choice to the machine.
        save_every_seconds: how often a training stage writes a checkpoint.
        is_shared: whether runs beside this one use its results, and it theirs.
        loggers: get the numbers of each training step, too.
        elsewhere: encodes shards of the images; None: this process does.
    """

    run: RunFolder
    compute: Compute
    seed: int
    size_px: int
    inputs: Mapping[str, Any]
    earlier: Mapping[str, str] = field(default_factory=dict)
    workers: int | None = None
    save_every_seconds: float = SAVE_EVERY_SECONDS
    is_shared: bool = True
    loggers: Loggers = NO_LOGGERS
    elsewhere: Elsewhere | None = None

    def stage(self, name: str, **depends_on: Any) -> "Stage":
        """A stage, with the key of its result.

        Args:
            name: of the stage, and of its files in the run folder.
            depends_on: what else determines the result, such as its settings. The inputs, the seed, the device, the
                image size and all earlier stages always count.
        """
        always = {"inputs": self.inputs, "earlier": self.earlier, "seed": self.seed, "device": self.compute.device}
        return Stage(name, stable_hash({"stage": name, "size_px": self.size_px, **always, **depends_on}), self)

    def training_stage(self, name: str, **depends_on: Any) -> "Stage":
        """A stage that trains: precision and number of processes count, too."""
        processes = self.compute.processes
        together = {"devices": 1} if processes == 1 else {"processes": processes}
        return self.stage(name, precision=self.compute.precision, **together, **depends_on)

    def after(self, *stages: "Stage") -> "StageContext":
        """The context of what comes after these stages and depends on their results."""
        return replace(self, earlier={**self.earlier, **{stage.name: stage.key for stage in stages}})

    def at(self, size_px: int) -> "StageContext":
        """The same with images of another size."""
        return replace(self, size_px=size_px)


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: ``pretrain``, ``finetune``, ``memory``, ``residual`` or ``expectation``.
        key: hash of everything that determines the result; equal keys share a result.
        context: the run it belongs to.
    """

    name: str
    key: str
    context: StageContext

    @property
    def is_finished(self) -> bool:
        """Whether this run, or an equal one beside it, holds the result."""
        return self._finished() is not None

    def result(self, compute: Callable[[], Mapping[str, Tensor]], batch_size: int) -> dict[str, Tensor]:
        """The stage's tensors: read where they are finished; computed, kept and shared otherwise.

        Args:
            compute: gives the tensors; a stage that trains resumes from its checkpoint.
            batch_size: images that are in memory at once, for the advice when they do not fit.

        Raises:
            UserError: out of memory, or what ``compute`` raises.
        """
        run, path = self.context.run, self._finished()
        if path is not None:
            own = run.stage_output(self.name)
            is_own = path == own
            say(self.name, f"{'already done' if is_own else 'reused, the same as in an earlier run'}: {path}")
            if not is_own:
                share(path, own)
            return read_tensors(path)
        return_freed_memory()
        tensors = self._computed(compute, batch_size)
        self._keep(tensors)
        del tensors
        return_freed_memory()
        return self.reopened()

    def result_of_all(self, compute: Callable[[], Mapping[str, Tensor]], batch_size: int) -> dict[str, Tensor]:
        """As :meth:`result`, of a stage that all processes of a training compute together.

        The first process alone reads and writes files; the others get the tensors from it.

        Raises:
            UserError: as :meth:`result`, or the stage of this process depends on other things than that of the first.
        """
        self._refuse_other_key()
        is_finished = self.is_finished_anywhere()
        tensors = None
        if is_first():
            tensors = self.result(compute, batch_size)
        elif not is_finished:
            self._computed(compute, batch_size)
        return tensors_from_first(tensors)

    def is_finished_anywhere(self) -> bool:
        """As :attr:`is_finished` for the first process, which has the run; asked in all of them."""
        return from_first(lambda: b"1" if self.is_finished else b"") == b"1"

    def _refuse_other_key(self) -> None:
        """What determines the result is the same in all processes: images, weights, settings and code."""
        key = from_first(self.key.encode).decode()
        if key != self.key:
            problem = f"stage {self.name} depends on other weights, settings or code here than in the first process"
            remedy = "install the same flawmap on all machines; model.weights must be the same file on all"
            raise UserError(problem, f"key {self.key[:16]}, the first process's {key[:16]}", remedy)

    def _computed(self, compute: Callable[[], Mapping[str, Tensor]], batch_size: int) -> dict[str, Tensor]:
        with explain_failures(self.name, batch_size, self.context.size_px, self.context.compute.processes):
            return dict(compute())

    def reopened(self) -> dict[str, Tensor]:
        """The tensors of the finished stage, mapped anew: those that were read before take no memory until read again.

        Raises:
            UserError: the file is damaged.
        """
        return read_tensors(self.context.run.stage_output(self.name))

    def _finished(self) -> Path | None:
        run = self.context.run
        paths = [run.stage_output(self.name)]
        if self.context.is_shared:
            paths.append(run.shared_stage(self.name, self.key))
        return next((path for path in paths if is_result(path, self.key)), None)

    def _keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Store the result for this run and for others, then delete the state that was kept for resuming."""
        run = self.context.run
        path, checkpoint = run.stage_output(self.name), run.checkpoint(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors)
        about = {
            "stage": self.name,
            "key": self.key,
            "seed": self.context.seed,
            "last": LogFile(run.log).last(self.name),  # from the log: a resumed stage need not have made a step
            "sha256": file_sha256(path),
        }
        # Written last: a result without it does not count as finished.
        atomic_write_text(path.with_suffix(".json"), json.dumps(about, indent=2))
        if self.context.is_shared:
            share(path, run.shared_stage(self.name, self.key))
        for state in (checkpoint, Path(f"{checkpoint}.part")):
            state.unlink(missing_ok=True)


def return_freed_memory() -> None:
    """Give freed memory back to the system, where the C library is one that keeps it (glibc)."""
    with suppress(OSError, AttributeError, TypeError):  # another system or library
        ctypes.CDLL(None).malloc_trim(0)


def is_result(path: Path, key: str | None) -> bool:
    """Whether a file holds the whole result of the stage with this key."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return key is not None and about.get("key") == key and path.is_file() and about.get("sha256") == file_sha256(path)


def share(source: Path, target: Path) -> None:
    """Make a finished result appear at ``target`` as well: a hard link, or a copy where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        temporary = target.with_suffix(f"{suffix}.{secrets.token_hex(4)}.part")  # other runs may share at this moment
        try:
            os.link(source.with_suffix(suffix), temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source.with_suffix(suffix), temporary)
        os.replace(temporary, target.with_suffix(suffix))
        temporary.unlink(missing_ok=True)  # os.replace() leaves it where both names are the same file
