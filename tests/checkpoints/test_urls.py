from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.urls import local_path, public_url, scrub, secrets_in


@pytest.mark.parametrize("url", ["runs/a", "./runs/a", "file://runs/a"])
def test_local_urls_become_absolute_paths(url: str, workspace: Path) -> None:
    assert local_path(url) == workspace / "runs" / "a"


@pytest.mark.parametrize("url", ["s3://b/k", "memory://k", "simplecache::s3://b/k"])
def test_other_urls_are_not_local(url: str) -> None:
    assert local_path(url) is None


def test_a_shown_url_has_no_user_and_no_query_values() -> None:
    url = "ftp://me:pa55word@host/run?X-Signature=abcdef&list=1"
    assert public_url(url) == "ftp://host/run?X-Signature=***&list=***"


def test_every_secret_of_url_and_options_is_scrubbed() -> None:
    options = {
        "key": "AKIA12345",
        "client_kwargs": {"region_name": "eu-west-1", "aws_session_token": "t0ken-x"},
        "tokens": [b"bytes-token"],
        "endpoint_url": "http://admin:hunter22@minio:9000",
    }
    secrets = secrets_in("sftp://me:p%40ssword@host/run", options)
    text = "AKIA12345 t0ken-x bytes-token hunter22 p@ssword p%40ssword eu-west-1"
    assert scrub(text, secrets) == "*** *** *** *** *** *** eu-west-1"


def test_a_scrubbed_text_shows_no_user_of_any_url() -> None:
    assert scrub("GET http://u:p@host/x", frozenset()) == "GET http://host/x"
