"""What is set for every process before Prefect is imported."""

import os
from pathlib import Path

import pytest

from store import environment


@pytest.fixture(autouse=True)
def only_these(monkeypatch, tmp_path):
    names = (*environment.PROXIES, "no_proxy", "NO_PROXY", *environment.CACHES)
    for name in (*names, *environment.READ_THERE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["HOME"] = str(tmp_path)


def test_without_a_proxy_nothing_is_excepted():
    environment.reach_directly("127.0.0.1")
    assert "no_proxy" not in os.environ


@pytest.mark.parametrize("proxy", environment.PROXIES)
@pytest.mark.parametrize("known", ["", "corp.example, 127.0.0.0/8"])
def test_loopback_is_excepted_beside_what_is(proxy, known):
    os.environ |= {proxy: "http://proxy:3128", "NO_PROXY": known}
    environment.reach_directly(*environment.LOOPBACK)
    expected = [*filter(None, known.replace(" ", "").split(",")), *environment.LOOPBACK]
    assert os.environ["no_proxy"].split(",") == expected
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]


def test_an_exception_for_everything_stays_one():
    os.environ |= {"http_proxy": "http://proxy:3128", "no_proxy": "*"}
    environment.reach_directly("127.0.0.1")
    assert os.environ["no_proxy"] == "*"


def test_libraries_find_no_proxy_for_our_servers():
    import urllib.request

    import httpx
    import requests

    os.environ |= {"http_proxy": "http://proxy:3128", "no_proxy": "localhost,127.0.0.0/8,::1"}
    environment.reach_directly(*environment.LOOPBACK)
    for url in ("http://127.0.0.1:4200/api", "http://localhost:5000", "http://[::1]:4200"):
        assert not requests.utils.get_environ_proxies(url), url
        host = httpx.URL(url)
        client = httpx.Client()
        assert client._transport_for_url(host) is client._transport, url
        assert urllib.request.proxy_bypass(host.host), url


def test_a_writable_home_is_used(tmp_path):
    environment.find_room(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert not set(environment.CACHES) & set(os.environ)


def test_without_a_writable_home_caches_are_in_the_data_folder(tmp_path):
    os.environ["HOME"] = "/proc/nowhere"
    environment.find_room(tmp_path / "data")
    for variable in environment.CACHES:
        assert Path(os.environ[variable]).is_relative_to(tmp_path / "data" / "home")


def test_a_folder_that_was_chosen_stays(tmp_path):
    os.environ |= {"HOME": "/proc/nowhere", "PREFECT_HOME": "/chosen"}
    environment.find_room(tmp_path / "data")
    assert os.environ["PREFECT_HOME"] == "/chosen"


def test_settings_in_a_read_only_home_are_still_read(tmp_path, monkeypatch):
    monkeypatch.setattr(
        environment, "_is_writable", lambda folder: False
    )  # root may write anywhere
    profiles = tmp_path / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text("")
    environment.find_room(tmp_path / "data")
    assert os.environ["PREFECT_PROFILES_PATH"] == str(profiles)
