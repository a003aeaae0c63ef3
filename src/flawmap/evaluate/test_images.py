"""The labelled images of an evaluation, checked before any is scored, and the folder that its results go to."""

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.checks import check_test_data, refuse_unwritable_names
from flawmap.data.groups import IMAGE, refuse_shared_groups, refuse_unmatched
from flawmap.data.left_out import refuse_left_out
from flawmap.data.open_data import Location, open_test_data
from flawmap.data.sample import TestData
from flawmap.errors import UserError
from flawmap.recipe.files import with_data_overrides
from flawmap.recipe.settings import DataSettings
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.manifest import ManifestRow
from flawmap.runs.result_folders import put_in_place

MIN_EVALUATION_SIZE_PX, MAX_EVALUATION_SIZE_PX = 16, 4096


@dataclass(frozen=True)
class TestImages:
    """What is to be evaluated on.

    Attributes:
        location: labelled data.
        overrides: of the data settings, such as ``data.normal=OK``.
        skip_unreadable: leave out files that cannot be decoded.
        strict: refuse data with anything beside it that is not read.
    """

    __test__ = False  # no test of pytest

    location: Location
    overrides: Sequence[str] = ()
    skip_unreadable: bool = False
    strict: bool = False

    def checked(self, settings: DataSettings, trained: Sequence[ManifestRow] = ()) -> TestData:
        """The images. Where the data names groups itself, these count, and not how training found its own.

        Args:
            settings: that the overrides change.
            trained: images that training has seen, or that have set the threshold.

        Raises:
            UserError: unusable data, or images that are among ``trained``, or of a group of theirs.
        """
        known = {sha256: row.key for row in trained for sha256 in row.hashes}
        known_groups = {row.group: row.key for row in trained if row.group}
        of_training = with_data_overrides(settings, self.overrides)
        settings = with_data_overrides(replace(settings, group_by=None), self.overrides)
        opened = open_test_data(self.location, settings)
        if settings.group_by is None and of_training.group_by not in (None, IMAGE):
            by_training = open_test_data(self.location, of_training)
            if opened.grouped_by is None:
                opened, settings = by_training, of_training
            else:  # the leak is looked for by both
                place = str(opened.root)
                refuse_shared_groups(by_training.samples, known_groups, of_training.group_by, place)
        if self.strict:
            refuse_left_out(opened.left_out, str(opened.root))
        refuse_unmatched(opened.samples, settings.group_by, str(opened.root))
        data = check_test_data(opened, self.skip_unreadable, known, known_groups)
        refuse_unwritable_names(name for sample in data.samples for name in (sample.key, str(sample.path.absolute())))
        return data


def refuse_evaluation_size(size_px: int | None) -> None:
    """Raises: UserError: pixels cannot be compared at this size."""
    if size_px is not None and not MIN_EVALUATION_SIZE_PX <= size_px <= MAX_EVALUATION_SIZE_PX:
        raise UserError(
            f"the evaluation size is {size_px}, must be {MIN_EVALUATION_SIZE_PX} to {MAX_EVALUATION_SIZE_PX} px",
            "--evaluation-size",
            "for example 256; leave it out for the original resolution",
        )


def keep(score: Callable[..., Evaluation], final: Path) -> Evaluation:
    """Score into a folder of a random name, so that two evaluations at once never share one, then put it in place."""
    unfinished = final.with_name(f"{final.name}-unfinished-{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        evaluation = score(folder=unfinished)
    except BaseException:  # the earlier results stay where they are
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    put_in_place(unfinished, final)
    return evaluation
