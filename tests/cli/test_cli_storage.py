"""Data, models and results in a store, by the commands: a store in memory here, a real S3 server in the slow test."""

import csv
import json
from pathlib import Path

import pytest

from assertions import assert_explained
from images import write_category, write_good
from tiny_detector import write_tiny_recipe

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


def put(store, folder: Path, address: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            store.pipe_file(f"{address}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def uploaded_run(store, run: Path) -> str:
    from flawmap.storage.upload import Destination

    Destination(run, "memory://b/runs/first").upload(run)
    return "memory://b/runs/first"


def test_images_and_model_come_from_the_store_and_results_go_there(cli, trained, store, tmp_path):
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    put(store, parts, "/b/line3")
    store.pipe_file("/b/line3/broken.png", b"no image")
    run = uploaded_run(store, trained.run)
    said = cli("detect", "memory://b/line3", "--model", run, "--output", "memory://b/out/today", "--json")
    assert said.code == 2 and "not scored: memory://b/line3/broken.png: " in said.err  # it costs no other
    assert said.err.endswith("uploaded   6 files -> memory://b/out/today\n")
    here = cli("detect", parts, "--model", trained.run, "--json", "--output", "here")
    names = ("score", "threshold", "is_anomalous", "regions")
    for remote, local in zip(said.out.splitlines(), here.out.splitlines(), strict=True):
        remote, local = json.loads(remote), json.loads(local)
        assert remote["image"] == f"memory://b/line3/{Path(local['image']).name}"
        assert [remote[name] for name in names] == [local[name] for name in names]
    result = json.loads(store.cat_file("/b/out/today/result.json"))
    assert result["model"] == run and result["complete"] and len(result["images"]) == 3
    assert store.exists("/b/out/today/uploaded.json") and Path("today/results.jsonl").is_file()


def test_detect_refuses_before_it_scores_what_it_could_not_upload(cli, trained, store, forbidden, tmp_path):
    parts = write_good(tmp_path / "parts", 1)
    store.pipe_file("/b/out/x", b"")
    said = cli("detect", parts, "--model", trained.run, "--output", "memory://b/out")
    assert_explained(said, ("something is there already",), "", ())
    said = cli("detect", parts, "--model", "memory://b/out", "--output", "new")
    assert_explained(said, ("it has no uploaded.json",), "", ())


def test_a_credential_in_a_command_reaches_no_output(cli, trained, store):
    said = cli("detect", "s3://user:geheim@bucket/line3", "--model", trained.run)
    assert_explained(said, ("no user, password or query",), "", ())
    assert "geheim" not in said.out + said.err


def test_evaluate_reads_and_writes_a_store(cli, trained, store):
    put(store, trained.data, "/b/tile")
    run = uploaded_run(store, trained.run)
    said = cli("evaluate", run, "memory://b/tile")
    assert_explained(said, ("a run in a store is not changed",), "", ())
    said = cli("evaluate", run, "memory://b/tile", "--output", "memory://b/evaluations/tile", "--json")
    assert said.code == 0, said.err
    here = cli("evaluate", trained.run, trained.data, "--output", "here", "--json")
    assert said.json["image"] == here.json["image"] and said.json["pixel"] == here.json["pixel"]
    table = store.cat_file("/b/evaluations/tile/per_image.csv").decode().splitlines()
    assert len(list(csv.DictReader(table))) == said.json["n_good"] + said.json["n_anomalous"]


def test_an_export_of_a_run_in_a_store_needs_a_name(cli, trained, store):
    assert_explained(cli("export", uploaded_run(store, trained.run)), ("a run in a store is not changed",), "", ())


@pytest.mark.slow
def test_the_whole_way_with_a_real_s3_server(cli, tmp_path, monkeypatch):
    """Train, detect, evaluate and export with s3:// alone; the library finds its credentials by itself."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    credentials = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "geheim", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    import s3fs

    try:
        outside = s3fs.S3FileSystem(skip_instance_cache=True)
        outside.mkdir("bucket")
        outside.put(f"{write_category(tmp_path / 'tile')}/", "bucket/tile/", recursive=True)
        outside.put(f"{write_good(tmp_path / 'new', 3, first_seed=800)}/", "bucket/line3/", recursive=True)
        recipe = write_tiny_recipe(tmp_path / "tiny.yaml")
        run = "s3://bucket/runs/tile"
        said = cli("train", "s3://bucket/tile", "--recipe", recipe, "--run", run, "--device", "cpu")
        assert said.code == 0 and f"-> {run}\n" in said.err, said.err
        assert json.loads(outside.cat_file("bucket/runs/tile/environment.json"))["data"] == "s3://bucket/tile"
        said = cli("detect", "s3://bucket/line3", "--model", run, "--output", "s3://bucket/out/line3")
        assert said.code == 0 and len(said.out.splitlines()) == 3, said.err
        again = cli("detect", "s3://bucket/line3", "--model", run, "--output", "s3://bucket/out/line3", "--resume")
        assert again.code == 0 and "resumed    3 of 3" in again.err, again.err
        said = cli("evaluate", run, "s3://bucket/tile", "--output", "s3://bucket/evaluations/tile")
        assert said.code == 0, said.err
        exported = "s3://bucket/files/tile.onnx"
        said = cli("export", run, "--output", exported, "--images", "s3://bucket/line3")
        assert said.code == 0, said.err
        said = cli("detect", "s3://bucket/line3/*.png", "--model", exported, "--output", "by_file")
        assert said.code == 0 and len(said.out.splitlines()) == 3, said.err
        outside.rm("bucket/runs/tile/uploaded.json")
        said = cli("detect", "s3://bucket/line3", "--model", run, "--output", "none")
        assert_explained(said, ("it has no uploaded.json",), "", ())
        said = cli("detect", "s3://elsewhere/line3", "--model", exported, "--output", "none")
        assert_explained(said, ("no images there",), "", ())
        written = [path for folder in (tmp_path, Path.cwd()) for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in written if b"geheim" in path.read_bytes()]
        assert not [name for name in outside.find("bucket") if b"geheim" in outside.cat_file(name)]
    finally:
        server.stop()
        from flawmap.storage.address import _file_system

        _file_system.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
