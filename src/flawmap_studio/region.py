"""The regions of interest that were drawn, for all images and for single cameras, and the file that commands read."""

import json
from typing import Any

from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import CAMERAS, RegionsOfInterest, rois_of_text
from flawmap.errors import UserError
from flawmap_studio.image_list import StudioImage
from flawmap_studio.lists import PlannedFile, planned
from flawmap_studio.state import State

SETTING, OF_CAMERAS = "region", "regions_of_cameras"


def region(state: State, camera: str | None = None) -> dict[str, Any] | None:
    """What was drawn for a camera, as flawmap's JSON; for no camera that of all others. None: nothing was drawn."""
    return state.setting(SETTING) if camera is None else state.setting(OF_CAMERAS, {}).get(camera)


def keep_region(state: State, drawn: dict[str, Any] | None, camera: str | None = None) -> RegionOfInterest | None:
    """Keep what was drawn; None, or nothing drawn, takes the region away.

    Raises:
        UserError: a shape covers nothing, or leaves the image; or a camera cannot have this name.
    """
    if drawn is None or not (drawn.get("inside") or drawn.get("outside")):
        drawn = None
    checked = None if drawn is None else drawn if camera is None else {CAMERAS: {camera: drawn}}
    found = None if checked is None else rois_of_text(json.dumps(checked), "region").of(camera)
    if camera is None:
        state.set(SETTING, drawn)
    else:
        others = {name: one for name, one in state.setting(OF_CAMERAS, {}).items() if name != camera}
        state.set(OF_CAMERAS, others if drawn is None else others | {camera: drawn})
    return found


def rois_for(state: State, images: list[StudioImage]) -> RegionsOfInterest | None:
    """The regions of images that are learned from; None where nothing was drawn, so that all of each counts.

    Raises:
        UserError: something was drawn for cameras, and nothing for that of an image.
    """
    default, cameras = region(state), state.setting(OF_CAMERAS, {})
    content = (default or {}) | ({CAMERAS: cameras} if cameras else {})
    if not content:
        return None
    found = rois_of_text(json.dumps(content), "region")
    without = [image for image in images if found.default is None and image.camera not in found.cameras]
    if without:
        whose = f"camera {without[0].camera}" if without[0].camera else "images of no camera"
        problem = f"a region is drawn for {', '.join(found.cameras)}, and none for {whose}, such as {without[0].path}"
        raise UserError(problem, "Region", f"draw one for {whose}, or one for all others")
    return found


def region_file(state: State, images: list[StudioImage]) -> PlannedFile | None:
    """The file for ``--roi``; None for the whole image.

    Raises:
        UserError: as :func:`rois_for`.
    """
    rois = rois_for(state, images)
    if rois is None:
        return None
    return planned("region", ".json", json.dumps(json.loads(rois.text), indent=1).encode())
