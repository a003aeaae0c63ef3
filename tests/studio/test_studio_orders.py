"""What the pages may order: the command that is shown is the one that is run, and refusals come before it."""

import json
from pathlib import Path

from made_up_results import RUN

from flawmap.deploy.reviews import read_reviews
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap_studio.image_list import by_folder
from flawmap_studio.studio import Studio
from flawmap_studio.training import TrainingWish, training_order
from images import write_noise
from made_up_model import made_up_calibration


def plan(client, kind: str, **wish):
    reply = client.post(f"/api/plan/{kind}", json=wish)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_what_folders_say_about_their_images():
    said = {
        path: by_folder(path) for path in ("a.png", "lot_3/a.png", "train/good/a.png", "test/good/a.png", "NG/a.png")
    }
    assert said == {
        "a.png": ("learn", "good"),
        "lot_3/a.png": ("learn", "good"),
        "train/good/a.png": ("learn", "good"),
        "test/good/a.png": ("test", "good"),
        "NG/a.png": ("test", "defect"),
    }
    assert by_folder("bubbles/a.png") == ("learn", "")  # possible defects are not learned unasked


def test_training_learns_from_good_images_only_and_says_what_it_can_promise(client, studio: Studio):
    client.post("/api/labels", json={"paths": ["good/1.png"], "label": "unsure"})
    found = plan(client, "train", recipe="quick", smallest_defect_px=12, false_alarm_rate=0.05)
    words = found["command"].split()
    assert words[:2] == ["flawmap", "train"] and words[words.index("--recipe") + 1] == "quick"
    assert words[words.index("--smallest-defect-px") + 1] == "12"
    assert words[words.index("--set") + 1] == "calibration.false_alarm_rate=0.05"
    assert any("2 good images" in line for line in found["advice"])
    assert any("1 image to learn from without the label good" in line for line in found["advice"])
    assert list(studio.place.root.glob(".flawmap-*.csv")) == []  # a plan writes nothing


def test_known_defects_and_groups_become_options(client, studio: Studio):
    assert "no known defect" in plan(client, "train", with_known_defects=True)["refused"]["problem"]
    client.post("/api/labels", json={"paths": ["good/2.png"], "label": "defect"})
    found = plan(client, "train", with_known_defects=True, folders_are_groups=True)
    assert "--set data.group_by=folder --defects .flawmap-defects-" in found["command"]
    assert not any("without the label good" in line for line in found["advice"])


def test_training_is_refused_with_a_reason_before_it_starts(client, studio: Studio):
    client.post("/api/labels", json={"paths": [f"good/{n}.png" for n in range(3)], "label": "defect"})
    assert plan(client, "train")["refused"]["problem"] == "there is no good image to learn from"
    assert client.post("/api/jobs/train", json={}).status_code == 422
    for wish in ({"false_alarm_rate": 0}, {"recipe": "../evil"}, {"smallest_defect_px": -1}, {"run": "/tmp"}):
        assert client.post("/api/jobs/train", json=wish).status_code == 422
    assert client.post("/api/jobs/rm", json={}).status_code == 422
    assert studio.jobs.recent() == []


def test_the_region_becomes_the_file_that_training_reads(client, studio: Studio, folder: Path):
    half = {"image_size_px": [48, 48], "inside": [{"rectangle": [0, 0, 24, 48]}], "outside": []}
    assert client.put("/api/region", json=half).json() == {"share": 0.5}
    assert "--roi .flawmap-region-" in plan(client, "train")["command"]
    bad = half | {"inside": [{"rectangle": [0, 0, 99, 48]}]}
    assert client.put("/api/region", json=bad).status_code == 422
    assert client.get("/api/region").json() == {"region": half}
    write_noise(folder / "good" / "other", range(1))  # 16 x 12 px
    client.get("/api/images", params={"scan": True})
    assert "another shape" in plan(client, "train")["refused"]["problem"]
    assert client.put("/api/region", json={}).json() == {"share": 1.0}
    assert "--roi" not in plan(client, "train")["command"]


def name_cameras(client, folder: Path) -> None:
    """Two cameras with two images to learn from each, and one with an image to test."""
    for camera in ("left", "right"):
        write_noise(folder / "good" / camera, range(2))
    write_noise(folder / "test" / "left", range(1))
    client.get("/api/images", params={"scan": True})
    client.post("/api/labels", json={"paths": [f"good/{n}.png" for n in range(3)], "label": "unsure"})
    for name in ("good/left", "test/left"):
        client.post("/api/camera", json={"folder": name, "camera": "left"})
    reply = client.post("/api/camera", json={"folder": "good/right", "camera": "right"})
    expected = {"good/left": "left", "test/left": "left", "good/right": "right"}
    assert reply.json() == {"cameras": expected} and client.get("/api/images").json()["cameras"] == expected


def test_a_folder_has_a_camera_and_each_camera_a_region(client, studio: Studio, folder: Path):
    name_cameras(client, folder)
    assert {image.path: image.camera for image in studio.images.all() if image.camera} == {
        **{f"good/{camera}/{n:03d}.png": camera for camera in ("left", "right") for n in range(2)},
        "test/left/000.png": "left",
    }
    half = {"inside": [{"rectangle": [0, 0, 0.5, 1]}], "outside": []}
    assert client.put("/api/region?camera=left", json=half).json() == {"share": 0.5}
    assert client.get("/api/region?camera=left").json() == {"region": half}
    assert client.get("/api/region").json() == client.get("/api/region?camera=right").json() == {"region": None}
    refused = plan(client, "train")["refused"]
    assert "drawn for left, and none for camera right" in refused["problem"] and refused["place"] == "Region"
    assert plan(client, "check")["refused"] == refused
    assert client.put("/api/region?camera=right", json=half).json() == {"share": 0.5}
    for kind in ("train", "check"):
        assert "--roi .flawmap-region-" in plan(client, kind)["command"]
    order = training_order(studio, TrainingWish())
    listed, drawn = (file.content.decode() for file in order.files)
    assert listed.splitlines()[:2] == ["image,split,label,camera", "good/left/000.png,train,good,left"]
    assert json.loads(drawn) == {"cameras": {"left": half, "right": half}}
    assert client.put("/api/region?camera=left", json={}).json() == {"share": 1.0}
    assert client.put("/api/region", json=half).json() == {"share": 0.5}
    (_, drawn) = training_order(studio, TrainingWish()).files
    assert json.loads(drawn.content) == half | {"cameras": {"right": half}}, "the others have the region of all others"
    for camera in ("../left", "a" * 80):
        assert client.put("/api/region", params={"camera": camera}, json=half).status_code == 422
        assert client.post("/api/camera", json={"folder": "good", "camera": camera}).status_code == 422


def test_the_camera_is_named_to_a_model_whose_cameras_have_regions(client, folder: Path, run: Path):
    name_cameras(client, folder)
    assert "--camera" not in plan(client, "test", run=RUN)["command"]
    cameras = {"cameras": {"left": {"inside": [{"rectangle": [0, 0, 0.5, 1]}]}}}
    recipe = load_recipe("quick", [f"data.roi={json.dumps(json.dumps(cameras))}"])
    (run / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    refused = plan(client, "test", run=RUN)["refused"]
    assert "these images are of several: none, left" in refused["problem"] and refused["remedy"] == "choose a camera"
    of_left = plan(client, "test", run=RUN, camera="left")["command"]
    assert of_left.startswith(f"flawmap detect test/left --model runs/{RUN} --camera left --output ")


def test_tests_are_of_all_test_images_or_of_chosen_ones(client, run: Path):
    assert plan(client, "test", run=RUN)["command"] == (
        f"flawmap detect test --model runs/{RUN} --output detections/{RUN}-2"
    )
    chosen = plan(client, "test", run=RUN, paths=["good/0.png"], false_alarm_rate=0.1)["command"]
    assert "detect good/0.png" in chosen and chosen.endswith("--false-alarm-rate 0.1")
    assert "labelled good" in plan(client, "evaluate", run=RUN)["refused"]["problem"]


def test_reviews_change_labels_can_be_taken_back_and_become_a_reviews_csv(client, studio: Studio, run: Path):
    assert plan(client, "update", run=RUN)["refused"]["problem"] == "no image was reviewed as good"
    for number, truth in ((0, "good"), (1, "defect")):
        client.post("/api/reviews", json={"result": RUN, "path": f"test/{number}.png", "truth": truth, "note": "=1"})
    assert {image.path: image.label for image in studio.images.chosen("test")} == {
        "test/0.png": "good",
        "test/1.png": "defect",
    }
    found = plan(client, "update", run=RUN)["command"]
    assert found.startswith(f"flawmap update runs/{RUN} test/0.png --reviews .flawmap-reviews-")
    from flawmap_studio.reviewing import reviews_file

    written = reviews_file(studio, f"runs/{RUN}")
    written.write(studio.place)
    first, second = read_reviews(studio.place.root / written.name)
    assert (first.shown, first.review, first.truth, first.score, first.map_peak) == (
        "anomaly",
        "disagree",
        "good",
        4,
        9,
    )
    assert (second.shown, second.review, second.truth) == ("ok", "disagree", "defect")
    assert first.note == "'=1"  # no formula
    assert client.delete("/api/reviews", params={"result": RUN}).json() == {"path": "test/1.png"}
    assert studio.images.of("test/1.png").label == ""
    assert client.delete("/api/reviews", params={"result": RUN}).json() == {"path": "test/0.png"}
    assert client.delete("/api/reviews", params={"result": RUN}).json() == {"path": None}
    unknown = {"result": RUN, "path": "good/0.png", "truth": "good"}
    assert client.post("/api/reviews", json=unknown).status_code == 422


def test_images_that_an_update_has_learned_from_are_tested_no_more(client, studio: Studio, run: Path):
    client.post("/api/labels", json={"paths": ["test/0.png", "test/1.png"], "label": "good"})
    facts = {"run": f"runs/{RUN}", "dry_run": False, "paths": ["test/0.png"]}
    number = studio.state.insert("INSERT INTO jobs VALUES (NULL, 'update', '', '', ?, 0)", (json.dumps(facts),))
    assert plan(client, "test", run=RUN)["advice"] == []  # it has failed, and so taught nothing
    folder = studio.place.own / "jobs" / str(number)
    folder.mkdir()
    result = {"exit_code": 0, "seconds": 1.0, "processor_seconds": 1.0, "cancelled": False}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    found = plan(client, "test", run=RUN)
    assert "detect test/1.png --model" in found["command"] and len(found["advice"]) == 1


def test_models_and_results_are_what_lies_on_the_disk(client, run: Path):
    (model,) = client.get("/api/models").json()["models"]
    assert model["name"] == RUN and model["problem"] is None
    assert model["threshold"]["threshold"] == 3.0 and model["version"] is None and model["updates"] == []
    result = client.get("/api/result", params={"name": RUN}).json()
    assert [(image["path"], image["score"], image["is_anomalous"]) for image in result["images"]] == [
        ("test/0.png", 4.0, True),
        ("test/1.png", 2.5, False),
    ]
    assert result["good_scores"] == list(made_up_calibration(3.0).held_out_scores)


def test_commands_of_a_model(client, run: Path):
    client.post("/api/labels", json={"paths": ["test/0.png"], "label": "good"})
    command = plan(client, "calibrate", run=RUN, camera="left", false_alarm_rate=0.02)["command"]
    assert command.startswith(f"flawmap calibrate runs/{RUN} .flawmap-good-") and "--camera left" in command
    assert plan(client, "calibrate", run=RUN, camera="../x")["refused"]["problem"] == "a camera cannot have this name"
    assert plan(client, "export", run=RUN)["command"] == f"flawmap export runs/{RUN} --to onnx --json"
    assert plan(client, "undo", run=RUN)["refused"]["problem"] == "this model was not updated"
    client.post("/api/labels", json={"paths": ["test/1.png"], "label": "defect"})
    assert plan(client, "evaluate", run=RUN)["command"].startswith(f"flawmap evaluate runs/{RUN} .flawmap-test-")


def test_only_exported_files_are_given_out(client, run: Path):
    (run / "line.onnx").write_bytes(b"model")
    name = f"runs/{RUN}"
    assert client.get("/api/download", params={"path": f"{name}/line.onnx"}).content == b"model"
    for other in ("recipe.yaml", "model/model.safetensors", "../../good/0.png"):
        assert client.get("/api/download", params={"path": f"{name}/{other}"}).status_code == 422
    (run / "report.html").write_text("<script>1</script>", encoding="utf-8")
    report = client.get("/api/report", params={"run": RUN})
    assert "sandbox allow-scripts" in report.headers["content-security-policy"]
    assert "allow-same-origin" not in report.headers["content-security-policy"]
