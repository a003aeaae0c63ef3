"""Which texts are addresses, and that none that holds a credential gets anywhere."""

import pytest

from flawmap.errors import UserError
from flawmap.storage.address import explained, is_address, opened, refuse_secrets, scheme_of, without_secrets


@pytest.mark.parametrize("text", ["s3://b/x", "S3://b/x", "memory://b", "file:///x", "abc://y"])
def test_an_address_begins_with_a_scheme(text):
    assert is_address(text)


@pytest.mark.parametrize("text", ["parts", "a/b://c", "C:/parts", "nih:sex=M", "", None, 3])
def test_anything_else_is_a_path(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x?X-Amz-Signature=abc", "s3://bucket/x"),
        ("s3://bucket/part#1/??.png", "s3://bucket/part#1/??.png"),  # a pattern is no query
        ("s3://bucket/a@b/x", "s3://bucket/a@b/x"),  # an @ in a name is no user
        ("403 for https://h/x?sig=abc, sorry", "403 for https://h/x sorry"),
    ],
)
def test_secrets_are_cut_out(text, clean):
    assert without_secrets(text) == clean


@pytest.mark.parametrize("word", ["s3://k:geheim@b/x", "--model=s3://b/x?sig=geheim", "GS://geheim@b"])
def test_a_command_with_a_credential_is_refused_without_showing_it(word):
    with pytest.raises(UserError, match="no user, password or query") as caught:
        refuse_secrets(["detect", word])
    assert "geheim" not in str(caught.value)


def test_other_addresses_in_commands_are_not_ours():
    refuse_secrets(["--webhook", "https://me:pass@host/x?y=1", "rtsp://me:pass@camera", "a@b.png", "what?.png"])


def test_an_unknown_store_and_an_address_without_a_bucket():
    with pytest.raises(UserError, match="there is no storage ftp://"):
        scheme_of("ftp://host/x")
    with pytest.raises(UserError, match="at least a bucket"):
        opened("s3://")


def test_what_a_library_says_loses_its_signature():
    with pytest.raises(UserError) as caught, explained("not read", "s3://b/x"):
        raise RuntimeError("GET https://key:geheim@h/x?sig=geheim failed")
    assert caught.value.problem == "not read (RuntimeError: GET https://h/x failed)"
    assert caught.value.__suppress_context__


def test_a_missing_package_is_named(monkeypatch):
    import flawmap.storage.address as address

    def lacking(scheme):
        raise ImportError(f"install something for {scheme}")

    import fsspec

    monkeypatch.setattr(fsspec, "filesystem", lacking)
    address._file_system.cache_clear()
    with pytest.raises(UserError) as caught:
        opened("az://bucket/x")
    assert (
        str(caught.value)
        == "az:// needs one more package: the package adlfs is not installed\nremedy: pip install adlfs"
    )
