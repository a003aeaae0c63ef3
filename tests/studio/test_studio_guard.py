"""What does not come from the studio's own page, with its token, does nothing."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flawmap_studio.guard import Entrance
from flawmap_studio.studio import Studio
from images import striped

ORIGIN = "http://127.0.0.1:8322"
EVERY_ADDRESS = [
    ("GET", "/api/images"),
    ("PUT", "/api/images?name=good/new.png&use=learn"),
    ("POST", "/api/labels"),
    ("POST", "/api/camera"),
    ("GET", "/api/thumbnail?path=good/0.png"),
    ("GET", "/api/image?path=good/0.png"),
    ("GET", "/api/size?path=good/0.png"),
    ("GET", "/api/region"),
    ("PUT", "/api/region"),
    ("POST", "/api/plan/train"),
    ("POST", "/api/jobs/train"),
    ("GET", "/api/jobs"),
    ("POST", "/api/cancel/1"),
    ("GET", "/api/models"),
    ("GET", "/api/results"),
    ("GET", "/api/result?name=a"),
    ("GET", "/api/overlay?name=a&path=b"),
    ("POST", "/api/reviews"),
    ("DELETE", "/api/reviews?result=a"),
    ("GET", "/api/download?path=a"),
    ("GET", "/api/report?run=a"),
]


def png(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(striped(seed)).save(file, "PNG")
    return file.getvalue()


def assert_nothing_was_done(studio: Studio) -> None:
    assert not (studio.place.root / "good" / "new.png").exists()
    assert studio.jobs.recent() == [] and studio.state.setting("region") is None


def test_every_address_of_the_application_is_tried(outside):
    served = {(method, route.path) for route in outside.app.routes for method in route.methods or ()}
    tried = {(method, path.partition("?")[0]) for method, path in EVERY_ADDRESS}
    open_files = {(method, path) for method, path in served if path == "/" or path.startswith("/page/")}
    known = {(method, path.replace("{kind}", "train").replace("{number}", "1")) for method, path in served}
    assert known - open_files == tried | {("HEAD", path) for method, path in known if method == "HEAD"} - open_files


def test_without_the_token_nothing_is_answered(outside: TestClient, studio: Studio):
    for method, path in EVERY_ADDRESS:
        reply = outside.request(method, path, headers={"origin": ORIGIN}, content=png())
        assert reply.status_code == 401, path
    assert_nothing_was_done(studio)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "null", ""])
def test_requests_that_change_something_need_our_origin(client: TestClient, studio: Studio, origin):
    for method, path in EVERY_ADDRESS:
        if method != "GET":
            reply = client.request(method, path, headers={"origin": origin}, content=png())
            assert reply.status_code == 403, path
    assert_nothing_was_done(studio)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_or_port_reads_nothing(client: TestClient, studio: Studio, site):
    for method, path in EVERY_ADDRESS:
        reply = client.request(method, path, headers={"sec-fetch-site": site}, content=png())
        assert reply.status_code == 403, path
    assert_nothing_was_done(studio)


def test_another_name_of_this_server_is_refused(client: TestClient):
    """As when a foreign name was pointed at this machine (DNS rebinding)."""
    for host in ("evil.example", "evil.example:8322", "127.0.0.1:9999", "127.0.0.1", ""):
        assert client.get("/api/images", headers={"host": host}).status_code == 400
        assert client.get("/", headers={"host": host}).status_code == 400


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(outside, entrance):
    token = entrance.address("127.0.0.1").partition("#")[2]
    assert outside.post("/enter", content=token + "x", headers={"origin": ORIGIN}).status_code == 401
    assert outside.post("/enter", content="x" * 100_000, headers={"origin": ORIGIN}).status_code == 401
    assert outside.post("/enter", content=token, headers={"origin": "http://evil.example"}).status_code == 403
    reply = outside.post("/enter", content=token, headers={"origin": ORIGIN})
    assert reply.status_code == 204
    attributes = {part.strip().partition("=")[0].lower() for part in reply.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite", "path"} <= attributes
    assert "samesite=strict" in reply.headers["set-cookie"].lower()
    assert token not in reply.headers["set-cookie"]
    assert outside.get("/api/images").status_code == 200


def test_each_start_has_another_token_and_another_cookie(client: TestClient):
    other = Entrance(8322)
    assert other.address("127.0.0.1") != Entrance(8322).address("127.0.0.1")
    (cookie,) = client.cookies.jar
    headers = {"cookie": f"{cookie.name}={cookie.value}"}
    from starlette.datastructures import Headers

    assert not other.has_cookie(Headers(headers))
    assert not other.has_cookie(Headers({"cookie": f"{cookie.name}="}))
    assert not other.has_cookie(Headers({"cookie": "\x00;=;;"}))


def test_the_page_itself_holds_no_data_and_loads_nothing_from_elsewhere(outside: TestClient, studio: Studio):
    page = outside.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert str(studio.place.root) not in page.text
    files = [route.path for route in outside.app.routes if route.path.startswith("/page/")]
    assert len(files) > 10
    for path in files:
        text = outside.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path


def test_answers_are_kept_by_no_cache_but_thumbnails(client: TestClient):
    assert client.get("/api/images").headers["cache-control"] == "no-store"
    assert "immutable" in client.get("/api/thumbnail", params={"path": "good/0.png"}).headers["cache-control"]


def test_thumbnails_are_small_pictures_of_the_image(client: TestClient):
    reply = client.get("/api/thumbnail", params={"path": "good/1.png"})
    shown = np.asarray(Image.open(io.BytesIO(reply.content)), np.float64)
    assert shown.shape == (48, 48, 3)
    assert np.abs(shown - striped(1)).mean() < 9  # the noise of colours is what JPEG gives up
