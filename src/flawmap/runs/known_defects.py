"""known_defects.json of a run: what known defects score by fits that have not seen them, and how many are missed."""

from dataclasses import dataclass
from pathlib import Path

from flawmap.metrics.rates import rate_interval
from flawmap.runs.json_files import read_json, write_json


@dataclass(frozen=True)
class ScoredDefect:
    """One known defect, its image score, and whether it is known where in the image it is."""

    image: str
    score: float
    is_marked: bool


@dataclass(frozen=True)
class MissedDefects:
    """How many known defects a model misses.

    Attributes:
        n: known defects that the head has learned from.
        n_marked: those with a mask or boxes.
        n_missed: those whose score is not above the threshold of the training; None without one.
        false_alarm_rate: that this threshold promises.
        interval: 95 % interval of the share of such defects that is missed, exact; None without a threshold.
    """

    n: int
    n_marked: int
    n_missed: int | None
    false_alarm_rate: float | None
    interval: tuple[float, float] | None

    @property
    def words(self) -> str:
        """For people."""
        if self.n_missed is None or self.false_alarm_rate is None or self.interval is None:
            return f"{self.n} known defects; without a threshold it cannot be said how many are missed"
        low, high = self.interval
        return (
            f"{self.n_missed} of {self.n} known defects missed at {self.false_alarm_rate:.2%} false alarms, by fits "
            f"that have not seen them (95 % interval {low:.0%} to {high:.0%} of such defects)"
        )


@dataclass(frozen=True)
class KnownDefectScores:
    """What known defects score.

    Attributes:
        threshold: of the training; None where none was wanted.
        false_alarm_rate: that it promises.
        images: the defects.
    """

    threshold: float | None
    false_alarm_rate: float | None
    images: tuple[ScoredDefect, ...]

    @property
    def missed(self) -> tuple[ScoredDefect, ...]:
        """Those that the threshold does not find, lowest score first; none without a threshold."""
        if self.threshold is None:
            return ()
        return tuple(sorted((i for i in self.images if i.score <= self.threshold), key=lambda image: image.score))

    @property
    def counts(self) -> MissedDefects:
        """How many there are, and are missed."""
        n, n_marked = len(self.images), sum(image.is_marked for image in self.images)
        if self.threshold is None:
            return MissedDefects(n, n_marked, None, None, None)
        n_missed = len(self.missed)
        return MissedDefects(n, n_marked, n_missed, self.false_alarm_rate, rate_interval(n_missed, n))


def write_known_defects(path: Path, scores: KnownDefectScores) -> None:
    """Write the file."""
    write_json(path, scores)


def read_known_defects(path: Path) -> KnownDefectScores | None:
    """What training wrote; None where the run knows no defects.

    Raises:
        UserError: the file is damaged.
    """
    return read_json(path, KnownDefectScores, "train again") if path.is_file() else None
