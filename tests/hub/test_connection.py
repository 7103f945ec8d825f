"""Patience is for our own requests: no other use of huggingface_hub is slowed."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hub import connection

from .conftest import REPOSITORY


def test_only_requests_of_ours_wait_for_a_busy_hub(hub, publish, impatient):
    publish("main")
    hub.fault("/api/models", status=503, times=2)
    with pytest.raises(HfHubHTTPError):
        HfApi().model_info(REPOSITORY)
    assert len(hub.requests) == 1
    assert connection.listing(REPOSITORY, "main")["commit"] == HfApi().model_info(REPOSITORY).sha


def test_a_password_in_the_hubs_address_is_not_shown(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://me:secret@hub.example")
    assert connection.endpoint() == "https://hub.example"
