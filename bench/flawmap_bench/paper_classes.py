"""What the paper's tables have to know of a class of MVTec AD: how a good part may be turned, and NSA's parameters."""

from flawmap_bench.protocols import MVTEC_AD

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
UNALIGNED = ("bottle", "hazelnut", "metal_nut", "screw")  # parts that lie at any angle
MAX_ROTATION_DEG = 5


def class_overrides(name: str) -> tuple[str, ...]:
    """``--set`` changes for a class; none for data that is no class of MVTec AD.

    A mirrored or turned part can be a real defect (a flipped metal nut, a cable with its colours exchanged). So only
    textures are flipped and only parts that lie at any angle are turned, as NSA does; the paper does not say.
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
