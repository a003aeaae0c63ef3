"""Finds the boards below a folder: data sets with good images to train and labelled images to test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from flawmap.advice import command
from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.elpv import LOCATION as ELPV
from flawmap.data.layouts.elpv import elpv_path
from flawmap.data.layouts.folder import PlainFolder
from flawmap.data.layouts.mvtec import MvtecAd, good_folder
from flawmap.data.layouts.nih import ChestXray14
from flawmap.data.layouts.visa import Visa
from flawmap.data.open_data import find_layout
from flawmap.data.walk import visible_folders
from flawmap.errors import UserError
from flawmap_bench.protocols import MVTEC_AD, VISA, TableProtocol

DEPTH = 2  # ROOT/mtd, ROOT/mvtec/screw
BENCHMARKS = (MVTEC_AD, VISA)
NIH = "nih"  # what a reduced copy of the chest X-rays is called


@dataclass(frozen=True)
class FoundBoard:
    """One data set.

    Attributes:
        name: of its folder, unique in a table.
        location: for the readers of data.
        is_xray: whether it holds chest X-rays.
        benchmark: whose category it is, by layout and name; None if of none.
    """

    name: str
    location: str
    is_xray: bool = False
    benchmark: TableProtocol | None = None


def find_boards(root: Path, names: Sequence[str] | None = None) -> tuple[FoundBoard, ...]:
    """The boards at or below a folder, sorted by path.

    ``elpv`` is one more where its package is installed, unless all others are categories of one benchmark.

    Args:
        root: holds data sets in any layout with a test; they may lie one folder deeper.
        names: only these, in this order; None for all.

    Raises:
        UserError: there is no such folder, no board in it, or none of a name.
    """
    if not root.is_dir():
        raise UserError(f"no such folder: {root}", "--root", "give the folder that holds the data sets")
    found = _unique([board for path in _data_folders(root, DEPTH) if (board := _board_at(path)) is not None])
    is_benchmark = len({board.benchmark for board in found}) == 1 and found[0].benchmark is not None
    everything = {board.name: board for board in found}
    if (elpv := _elpv()) is not None:
        everything.setdefault(ELPV, elpv)
    if names is not None:
        return tuple(_named(name, everything, root) for name in names)
    if not found:
        problem = "no data set with good images to train and labelled images to test, in any layout that flawmap reads"
        remedy = "--root FOLDER, where FOLDER holds data sets such as FOLDER/screw/train/good and FOLDER/screw/test"
        raise UserError(problem, str(root.resolve()), remedy)
    return found if is_benchmark or elpv is None else (*found, elpv)


def _data_folders(folder: Path, depth: int) -> list[Path]:
    """The nearest folders that are data sets, from ``folder`` on; none inside another."""
    if _layout_at(folder) is not None:
        return [folder]
    if depth == 0:
        return []
    try:
        children = visible_folders(folder)
    except UserError:  # such as lost+found
        return []
    return [found for child in children for found in _data_folders(child, depth - 1)]


def _layout_at(path: Path) -> Layout | None:
    """The layout of a data set with a test; None where there is none."""
    try:
        layout = find_layout(path)
    except OSError:  # a folder that may not be read
        return None
    if isinstance(layout, PlainFolder) or (isinstance(layout, MvtecAd) and not good_folder(path).is_dir()):
        return None
    return layout if layout.has_test(path, {}) else None


def _board_at(path: Path) -> FoundBoard | None:
    layout = _layout_at(path)
    if layout is None:
        return None
    name = layout.data_name(path)
    benchmarks = [benchmark for benchmark in BENCHMARKS if name in benchmark.classes]
    has_categories = isinstance(layout, MvtecAd | Visa)
    return FoundBoard(
        name,
        str(path),
        isinstance(layout, ChestXray14) or name.lower() == NIH,
        benchmarks[0] if benchmarks and has_categories else None,
    )


def _unique(boards: Sequence[FoundBoard]) -> tuple[FoundBoard, ...]:
    """Boards that share a name are told apart by the folder above."""
    names = [board.name for board in boards]
    return tuple(
        board
        if names.count(board.name) == 1
        else replace(board, name=f"{Path(board.location).resolve().parent.name}/{board.name}")
        for board in boards
    )


def _elpv() -> FoundBoard | None:
    try:
        elpv_path()
    except UserError:
        return None
    return FoundBoard(ELPV, ELPV)


def _named(name: str, boards: dict[str, FoundBoard], root: Path) -> FoundBoard:
    if name in boards:
        return boards[name]
    near = get_close_matches(name, boards, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if not boards:
        raise UserError(f"there is no board {name!r}", str(root.resolve()), "--root FOLDER that holds data sets")
    remedy = command("--boards", ",".join(boards))
    raise UserError(f"there is no board {name!r} here{hint}", str(root.resolve()), f"choose from {remedy}")
