"""Published protocols of the paper's tables: what their layouts say, and the classes and number of seeds."""

from dataclasses import asdict, dataclass
from pathlib import Path

from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.layouts.nih import ChestXray14
from flawmap.data.layouts.visa import Visa
from flawmap.data.sample import Protocol
from flawmap.errors import UserError


@dataclass(frozen=True)
class TableProtocol(Protocol):
    """A protocol with what a table of published numbers adds to it.

    Attributes:
        classes: folders of a data set's classes, each with a model of its own, in the order of the columns; a table's
            mean is their unweighted mean. Empty for a data set without classes.
        n_seeds: how many trainings a published number is the mean of.
    """

    classes: tuple[str, ...] = ()
    n_seeds: int = 1


# MVTec AD in the column order of the paper's Table 1: five textures, then ten objects
MVTEC_AD = TableProtocol(
    **asdict(MvtecAd.published),
    classes=(
        "carpet",
        "grid",
        "leather",
        "tile",
        "wood",
        "bottle",
        "cable",
        "capsule",
        "hazelnut",
        "metal_nut",
        "pill",
        "screw",
        "toothbrush",
        "transistor",
        "zipper",
    ),
)
TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
UNALIGNED = ("bottle", "hazelnut", "metal_nut", "screw")  # parts that lie at any angle
MAX_ROTATION_DEG = 5

VISA = TableProtocol(
    **asdict(Visa.published),
    classes=(
        "candle",
        "capsules",
        "cashew",
        "chewinggum",
        "fryum",
        "macaroni1",
        "macaroni2",
        "pcb1",
        "pcb2",
        "pcb3",
        "pcb4",
        "pipe_fryum",
    ),
)

NIH = TableProtocol(**asdict(ChestXray14.published), n_seeds=5)


def class_locations(protocol: TableProtocol, root: str) -> dict[str, str]:
    """Data locations of a protocol's classes in the order of its columns; all data under "" where it has no classes.

    Args:
        protocol: with or without classes.
        root: the folder that the archive was unpacked into, or ``elpv``.

    Raises:
        UserError: the folder of a class is missing.
    """
    if not protocol.classes:
        return {"": root}
    missing = [name for name in protocol.classes if not (Path(root) / name).is_dir()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(protocol.classes)} classes of {protocol.name} are missing: {', '.join(missing)}",
            root,
            "unpack the whole archive there; a mean is comparable only over all classes",
        )
    return {name: str(Path(root) / name) for name in protocol.classes}


def class_overrides(name: str) -> tuple[str, ...]:
    """``--set`` changes for a class: how a good part may be turned, and NSA's parameters; none for other data.

    A mirrored or rotated part can be a real defect (a flipped metal nut, a cable with its colours exchanged). So only
    textures are flipped and only parts that lie at any angle are rotated, as in NSA; the paper does not say.
    """
    if name not in MVTEC_AD.classes:
        return ()
    flips = "true" if name in TEXTURES else "false"
    return (
        f"finetune.augmentation.horizontal_flip={flips}",
        f"finetune.augmentation.vertical_flip={flips}",
        f"finetune.augmentation.max_rotation_deg={MAX_ROTATION_DEG if name in UNALIGNED else 0}",
        f"finetune.simulation.nsa_class={name}",
    )
