"""The UserError that a call raises."""

from collections.abc import Callable

import pytest

from flawmap.errors import UserError


def explained(call: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value
