"""Stages of the runs of a grid: a run folder that asks for those of other tasks and gives them its own.

Files travel through Ray's object store, so nodes need no disk in common.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from flawmap.engine.stage import is_result
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.run_folder import RunFolder
from flawmap_cluster.stage_store import Files

SUFFIXES = (".safetensors", ".json")  # of a stage's files; the second makes it complete


class StageElsewhereError(Exception):
    """A stage is not here: another task computes it, or it lies on the disk of the machine with the command."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class GridRun(RunFolder):
    """A run folder whose finished stages are shared with the tasks of a grid, on whatever node.

    Args:
        path: of the run.
        claim: see :meth:`~flawmap_cluster.stage_store.StageStore.claim`, with files in place of their reference.
        keep: see :meth:`~flawmap_cluster.stage_store.StageStore.keep`.
    """

    def __init__(
        self,
        path: Path,
        claim: Callable[[str], tuple[bool, Files | None]],
        keep: Callable[[str, Files], None],
    ) -> None:
        super().__init__(path)
        self._claim, self._keep = claim, keep
        self._settled: set[str] = set()  # stages that are on this disk because of a claim, or were kept

    def shared_stage(self, stage: str, key: str) -> Path:
        """The file that other runs find, or in which a result of theirs is now; see :mod:`flawmap_cluster.stage_store`.

        Raises:
            StageElsewhereError: the stage is to be waited for.
        """
        path = super().shared_stage(stage, key)
        if path.stem in self._settled:
            return path
        if is_result(own := self.stage_output(stage), key):
            self._keep(path.stem, files_of(own))
        else:
            must_wait, files = self._claim(path.stem)
            if must_wait:
                raise StageElsewhereError(path.stem)
            if files is None:  # to be computed here
                return path
            write_files(path, files)
        self._settled.add(path.stem)
        return path


def files_of(stage: Path) -> Files:
    """The content of a stage's files."""
    return {suffix: stage.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}


def write_files(stage: Path, files: Mapping[str, bytes]) -> None:
    """Write what :func:`files_of` has read; a stage that is not complete does not count."""
    stage.parent.mkdir(parents=True, exist_ok=True)
    for suffix in SUFFIXES:
        atomic_write_bytes(stage.with_suffix(suffix), files[suffix])
