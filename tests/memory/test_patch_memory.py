"""The memory of normal tokens."""

from typing import Literal

import numpy as np
import pytest
import torch

from flawmap.memory.patch_memory import Nearest, PatchMemory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(tokens: torch.Tensor, sources: torch.Tensor | None = None) -> PatchMemory:
    memory = PatchMemory(*tokens.shape)
    memory.tokens = tokens.clone()
    memory.normalise()
    memory.sources.copy_(torch.zeros(tokens.shape[:2]) if sources is None else sources)
    return memory


def test_the_nearest_token_and_its_distance_by_hand():
    memory = filled(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]))
    found = memory.nearest(torch.tensor([[[[3.0, 0.0]], [[1.0, 1.0]], [[-1.0, -0.5]]]]))
    expected = [0.0, 1 - 0.5**0.5, 1 + 0.5 / 1.25**0.5]
    assert found.distances[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found.tokens[0, 0, 0].tolist() == [1, 0] and found.tokens[0, 2, 0].tolist() == [0, 1]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tokens_are_kept_in_few_bytes_and_normalised_afterwards(precision: Literal["fp32", "int8"]):
    candidates = torch.randn(12, 2, 64, generator=generator()) * torch.rand(12, 1, 1, generator=generator(1)) * 100
    memory = PatchMemory(2, 12, 64, precision)
    memory.fill(candidates, torch.arange(12), torch.stack([torch.arange(12), torch.arange(12).flip(0)]))
    found, of = memory.tokens.float(), candidates[memory.sources.T, torch.arange(2)].transpose(0, 1)  # (l, m, d)
    scale = of.abs().amax(dim=-1, keepdim=True)
    step = scale / 127 if precision == "int8" else of.abs() / 2**10
    assert memory.tokens.element_size() == {"fp32": 2, "int8": 1}[precision]
    restored = found * scale / 127 if precision == "int8" else found
    assert ((restored - of).abs() <= step / 2 * 1.001).all()
    torch.testing.assert_close(memory.unit, torch.nn.functional.normalize(found, dim=-1))
    again = PatchMemory(2, 12, 64, precision)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.unit, memory.unit) and again.tokens.dtype == memory.tokens.dtype


def test_each_block_has_a_memory_of_its_own():
    memory = filled(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    found = memory.nearest(torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]))
    assert found.distances[0, 0].tolist() == [0, 1]


def test_distances_agree_with_brute_force_and_do_not_depend_on_the_batch():
    tokens = torch.randn(3, 5, 2, 7, generator=generator())
    memory = filled(torch.randn(2, 11, 7, generator=generator(1)))
    found = memory.nearest(tokens)
    for image, place, block in np.ndindex(3, 5, 2):
        similarities = torch.cosine_similarity(tokens[image, place, block][None], memory.unit[block])
        assert found.distances[image, place, block].item() == pytest.approx(1 - similarities.max().item(), abs=1e-6)
        assert (found.tokens[image, place, block] == memory.unit[block, similarities.argmax()]).all()
    torch.testing.assert_close(memory.nearest(tokens[1:2]).distances, found.distances[1:2])


def test_an_image_is_not_compared_with_itself():
    memory = filled(torch.eye(2)[None], sources=torch.tensor([[7, 8]]))
    token = torch.tensor([[[[1.0, 0.0]]]])
    assert memory.nearest(token).distances.item() == 0
    assert memory.nearest(token, exclude=torch.tensor([8])).distances.item() == 0
    assert memory.nearest(token, exclude=torch.tensor([7])).distances.item() == 1


def test_standardised_distances_are_means_over_blocks():
    memory = PatchMemory(2, 1, 3)
    memory.mean.copy_(torch.tensor([0.1, 0.2]))
    memory.deviation.copy_(torch.tensor([0.05, 0.1]))
    nearest = Nearest(torch.tensor([[[0.2, 0.2]]]), torch.zeros(1, 1, 2, 3), torch.tensor([[[1.0, 0.5]]]))
    assert memory.standardised(nearest).item() == pytest.approx((2 + 2) / 2, abs=1e-6)


def test_the_spacing_is_the_root_of_the_relative_distance_to_the_nearest_fellows():
    tokens = torch.randn(2, 30, 6, generator=generator())
    memory = filled(tokens)
    memory.fit_spacing(5)
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    for block in range(2):
        distances = (1 - unit[block] @ unit[block].T).numpy()
        mean = np.array([np.sort(np.delete(distances[i], i))[:5].mean() for i in range(30)])
        np.testing.assert_allclose(memory.spacing[block].numpy(), np.sqrt(mean / mean.mean()), rtol=1e-4)
    found = memory.nearest(tokens[:, :3].transpose(0, 1)[:, None])  # of each token itself
    np.testing.assert_allclose(found.spacing[:, 0].numpy(), memory.spacing[:, :3].T.numpy())


def test_the_spacing_of_a_memory_of_one_token_is_1():
    memory = filled(torch.ones(1, 1, 3))
    memory.fit_spacing(5)
    assert memory.spacing.item() == 1
