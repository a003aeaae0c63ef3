"""Names that Windows keeps for devices: no file or folder there can have them, whatever follows a point."""

import re

_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)


def is_device_name(name: str) -> bool:
    """Whether Windows would take a file of this name for a device.

    >>> is_device_name("AUX.png"), is_device_name("lpt1"), is_device_name("console.png")
    (True, True, False)
    """
    return bool(_DEVICE.fullmatch(name))
