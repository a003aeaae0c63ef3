"""DifferNet's flow: it is a flow, and clamped as DifferNet clamps."""

import math

import pytest
import torch

from flawmap.advice import install
from flawmap.errors import UserError
from flawmap_bench.baselines import differnet
from flawmap_bench.method import MethodSettings


def test_a_scale_lies_between_exp_minus_and_plus_the_clamp():
    s = torch.tensor([-1e9, 0.0, 3.0, 1e9])
    found = differnet.CLAMP * differnet.softly_clamped(s)
    torch.testing.assert_close(found, torch.tensor([-3.0, 0.0, 3 * 2 / math.pi * math.pi / 4, 3.0]))


def test_the_log_determinant_is_that_of_the_jacobian_and_the_flow_can_be_turned_round():
    pytest.importorskip("FrEIA")
    torch.manual_seed(0)
    flow = differnet.flow(6, 8, seed=0).double()
    x = torch.randn(1, 6, dtype=torch.float64)
    z, log_determinant = flow(x)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0], x).reshape(6, 6)
    torch.testing.assert_close(log_determinant[0], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(flow(z, rev=True)[0], x)


def test_without_freia_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(differnet, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="DifferNet needs FrEIA") as caught:
        differnet.DifferNet(MethodSettings(0, 64, None, "cpu", 1))
    assert caught.value.remedy == install("peers", "flawmap-bench")
