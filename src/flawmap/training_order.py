"""What is to be trained: by one process, or told to those that train beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flawmap.data.leave_out import LeaveOut
from flawmap.data.open_data import Location, absolute_locations
from flawmap.detect.fit import StageChoice
from flawmap.engine.compute import DeviceName
from flawmap.engine.elsewhere import Elsewhere
from flawmap.engine.loggers import LoggerName
from flawmap.recipe.fields import values_of, with_values
from flawmap.recipe.settings import Recipe


@dataclass(frozen=True)
class TrainingOrder:
    """A training: data, recipe, run folder, known defects, loggers, the command line, and what encodes shards."""

    location: Location
    recipe: Recipe
    run_path: Path | None
    device: DeviceName = "auto"
    stages: StageChoice = "all"
    skip_unreadable: bool = False
    command: str = ""
    strict: bool = False
    leave_out: LeaveOut | None = None
    defects: str | None = None
    loggers: tuple[LoggerName, ...] = ()
    elsewhere: Elsewhere | None = None

    def to_json(self) -> bytes:
        """For the other processes of a training: all but what concerns files and loggers, which they do not write."""
        values = {
            "location": absolute_locations(self.location),
            "recipe": dict(values_of(self.recipe)),
            "device": self.device,
            "stages": self.stages,
            "skip_unreadable": self.skip_unreadable,
            "strict": self.strict,
            "leave_out": asdict(self.leave_out) if self.leave_out else None,
            "defects": absolute_locations(self.defects)[0] if self.defects else None,
        }
        return json.dumps(values).encode("utf-8")

    @classmethod
    def from_json(cls, text: bytes) -> "TrainingOrder":
        """The order that :meth:`to_json` has written."""
        values = json.loads(text)
        settings = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["recipe"].items()
        }
        leave_out = values["leave_out"]
        listed = LeaveOut(tuple(leave_out["names"]), leave_out["place"]) if leave_out else None
        return cls(**values | {"recipe": with_values(Recipe(), settings), "run_path": None, "leave_out": listed})
