"""The region of interest that was drawn, and the file that commands read it from."""

import json
from typing import Any

from flawmap.data.roi import RegionOfInterest, roi_of_text
from flawmap_studio.lists import PlannedFile, planned
from flawmap_studio.state import State

SETTING = "region"


def region(state: State) -> dict[str, Any] | None:
    """What was drawn, as flawmap's JSON; None for the whole image."""
    return state.setting(SETTING)


def keep_region(state: State, drawn: dict[str, Any] | None) -> RegionOfInterest | None:
    """Keep what was drawn; None, or nothing drawn, stands for the whole image.

    Raises:
        UserError: a shape covers nothing, or leaves the image.
    """
    if drawn is None or not (drawn.get("inside") or drawn.get("outside")):
        state.set(SETTING, None)
        return None
    found = roi_of_text(json.dumps(drawn), "region")
    state.set(SETTING, drawn)
    return found


def region_file(state: State) -> PlannedFile | None:
    """The file for ``--roi``; None for the whole image."""
    drawn = region(state)
    return None if drawn is None else planned("region", ".json", json.dumps(drawn, indent=1).encode())
