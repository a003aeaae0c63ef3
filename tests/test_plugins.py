"""Other packages add simulators, layouts, backbones and compared methods: a made-up one, as pip would install it."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from flawmap import UserError, load_images
from flawmap.data.images.files import read_image
from flawmap.data.open_data import find_layout
from flawmap.plugins import load_plugin, plugin_names
from flawmap.recipe.settings import ModelSettings, SimulationSettings
from flawmap.simulators.by_name import simulator_by_name, simulator_names
from flawmap.vit.weights import build_vit, load_encoder
from flawmap_bench.method import MethodSettings
from flawmap_bench.methods import build_method, check_method_names, is_recipe, title_of
from images import striped, write_image

MODULE = """
from collections.abc import Sequence

import numpy as np

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import images_in, normal_images
from flawmap.data.sample import Protocol
from flawmap.data.walk import Listing
from flawmap.simulators.simulated_anomaly import Simulator, anomaly_inside
from flawmap.vit.weights import Backbone, build_vit
from flawmap_bench.method import Method, ScoredImage


class DarkSquare(Simulator):
    def simulate(self, image, generator):
        footprint = np.zeros(image.shape[:2], dtype=bool)
        footprint[2:6, 3:8] = True
        return anomaly_inside(image, image // 2, footprint)


class Shifts(Layout):
    name = "shifts of a line"
    published = Protocol("none")

    def is_at(self, path):
        return (path / "shift-1").is_dir()

    def training(self, path, settings, only):
        return normal_images(images_in(path / "shift-1"), path)

    def test(self, path, settings, only):
        return Listing()


class Mean(Method):
    note = "the mean gray value"

    def __init__(self, settings):
        self.seed = settings.seed

    def fit(self, images):
        pass

    def score(self, image):
        return ScoredImage(float(image.mean()), None)


def dark_square(settings):
    return DarkSquare()


def ones():
    state = build_vit("test_vit", 0.0).state_dict()
    return Backbone("test_vit", {name: tensor * 0 + 1 for name, tensor in state.items()}, "ones, made up", "CC0-1.0")


def wrong(*settings):
    return 3


def breaks(*settings):
    raise OSError("the disk of weights is not mounted")
"""

ENTRY_POINTS = """
[flawmap.simulators]
dark_square = made_up_plugin:dark_square
wrong = made_up_plugin:wrong
gone = made_up_plugin:no_such_name

[flawmap.layouts]
shifts = made_up_plugin:Shifts

[flawmap.backbones]
ones = made_up_plugin:ones
wrong = made_up_plugin:wrong
breaks = made_up_plugin:breaks

[flawmap_bench.peers]
mean = made_up_plugin:Mean
wrong = made_up_plugin:wrong
"""


def write_distribution(folder: Path, name: str, module: str, entry_points: str) -> Path:
    """What pip leaves of a package with one module."""
    (folder / f"{name}.py").write_text(dedent(module), encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    project = name.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(write_distribution(folder, "made_up_plugin", MODULE, ENTRY_POINTS))
    monkeypatch.delitem(sys.modules, "made_up_plugin", raising=False)
    return folder


def problem_of(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "pip uninstall made-up-plugin" in error.value.remedy
    return error.value.problem


def test_a_simulator_is_found_by_its_name(installed: Path) -> None:
    assert "dark_square" in simulator_names() and "made_up_plugin" not in sys.modules
    simulator = simulator_by_name("dark_square", SimulationSettings())
    image = np.full((20, 20, 3), 200, np.uint8)
    anomaly = simulator.simulate(image, np.random.default_rng(0))
    assert int(anomaly.footprint.sum()) == 20 and (anomaly.image[2:6, 3:8] == 100).all()


def test_a_layout_is_asked_where_no_built_in_one_knows_the_data(installed: Path, tmp_path: Path) -> None:
    data = tmp_path / "line"
    write_image(data / "shift-1" / "a.png", striped(1))
    write_image(data / "shift-2" / "b.png", striped(2))
    assert find_layout(data).name == "shifts of a line"
    assert [image.key for image in load_images(data)] == ["shift-1/a.png"]
    (data / "plain").mkdir()
    assert find_layout(data / "plain").name != "shifts of a line"


def test_a_backbone_gives_weights_by_its_name(installed: Path) -> None:
    encoder, origin = load_encoder(ModelSettings(weights="ones"))
    assert (origin.source, origin.architecture, origin.licence) == ("ones, made up", "test_vit", "CC0-1.0")
    assert all((tensor == 1).all() for tensor in encoder.vit.state_dict().values())
    assert encoder.vit.state_dict().keys() == build_vit("test_vit", 0.0).state_dict().keys()
    with pytest.raises(UserError) as caught:
        load_encoder(ModelSettings(weights="twos"))
    assert "breaks, ones, wrong" in caught.value.remedy


def test_a_compared_method_is_found_by_its_name(installed: Path, tmp_path: Path) -> None:
    check_method_names(("mean", "standard"))
    assert not is_recipe("mean") and title_of("mean") == "mean" and is_recipe("quick+memory.tokens=2000")
    method = build_method("mean", MethodSettings(3, 224, None))
    path = write_image(tmp_path / "a.png", striped(1))
    assert method.score(read_image(path)).image_score == pytest.approx(striped(1).mean())
    with pytest.raises(UserError) as caught:
        check_method_names(("meen",))
    assert "did you mean mean?" in caught.value.problem


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda: simulator_by_name("gone", SimulationSettings()), "cannot be loaded: AttributeError"),
        (lambda: simulator_by_name("wrong", SimulationSettings()), "gives a int, not a Simulator"),
        (lambda: load_encoder(ModelSettings(weights="wrong")), "gives a int, not a Backbone"),
        (lambda: load_encoder(ModelSettings(weights="breaks")), "gives no weights: OSError: the disk of weights"),
        (lambda: build_method("wrong", MethodSettings(0, 224, None)), "gives a int, not a Method"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package(use, reason: str, installed: Path) -> None:
    with pytest.raises(UserError) as caught:
        use()
    assert f"of the package made-up-plugin {reason}" in problem_of(caught)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise ImportError('no licence')", "cannot be loaded: ImportError: no licence"),
        ("Layout = dict", "is no subclass of Layout"),
        (
            """
            import flawmap.data.layouts.base as base
            from flawmap.data.sample import Protocol
            class Layout(base.Layout):
                name, published = "odd", Protocol("none")
                def is_at(self, path): raise KeyError("root")
                def training(self, path, settings, only): ...
                def test(self, path, settings, only): ...
            """,
            "cannot tell whether data lies at {path}: KeyError: 'root'",
        ),
    ],
)
def test_a_broken_layout_is_named_with_its_package(
    module: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, data = tmp_path / "site", tmp_path / "data"
    site.mkdir()
    data.mkdir()
    entry_points = "[flawmap.layouts]\nodd = made_up_plugin:Layout\n"
    monkeypatch.syspath_prepend(write_distribution(site, "made_up_plugin", module, entry_points))
    monkeypatch.delitem(sys.modules, "made_up_plugin", raising=False)
    with pytest.raises(UserError) as caught:
        find_layout(data)
    assert problem_of(caught) == f"'odd' of the package made-up-plugin {reason.format(path=data)}"
    assert caught.value.place == "entry point flawmap.layouts: odd = made_up_plugin:Layout"


def test_two_packages_cannot_share_a_name(installed: Path) -> None:
    write_distribution(installed, "another", "dark_square = None", "[flawmap.simulators]\ndark_square = another:x\n")
    from flawmap.plugins import _registered

    _registered.cache_clear()
    with pytest.raises(UserError, match="2 packages register 'dark_square': another, made-up-plugin"):
        load_plugin("flawmap.simulators", "dark_square")
    _registered.cache_clear()


def test_nothing_is_looked_for_before_it_is_asked_for(tmp_path: Path) -> None:
    assert plugin_names("flawmap.no_such_group") == ()
    script = """
        import sys
        import flawmap, flawmap.cli
        flawmap.cli.main(["--help"])
        flawmap.load_images(sys.argv[1])  # of a layout that is built in
        import importlib.metadata
        import flawmap.plugins
        print(flawmap.plugins._registered.cache_info().currsize, file=sys.stderr)
    """
    manifest = tmp_path / "manifest.csv"
    write_image(tmp_path / "a.png", striped(1))
    manifest.write_text("image,split,label\na.png,train,good\n")
    done = subprocess.run([sys.executable, "-c", dedent(script), str(manifest)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "0", done.stderr
