"""Options: what they are when nobody says anything, and a device that must be there."""

import pytest

from engine.options import Options
from registry.errors import BadParameter, UnknownDevice


def test_the_processor_merges_unless_another_device_is_asked_for():
    assert Options().device == "cpu"
    assert Options().accelerator is None


def test_a_device_that_is_not_there_is_refused_at_once():
    with pytest.raises(UnknownDevice, match="device cuda:999 is not there"):
        Options(device="cuda:999")


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_licence_conflict_is_allowed_for_a_reason_only(reason):
    with pytest.raises(BadParameter, match="must say why"):
        Options(allow_license_conflict=reason)
    assert Options(allow_license_conflict="in house").allow_license_conflict == "in house"
