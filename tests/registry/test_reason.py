"""What checks say."""

from registry.reason import Reason, passed, refused, unsettled


def test_a_check_says_yes_no_or_neither():
    assert passed("dtype", "one") == Reason("dtype", ok=True, detail="one")
    assert refused("dtype", "codes") == Reason("dtype", ok=False, detail="codes")
    assert unsettled("dtype", "who knows") == Reason("dtype", ok=None, detail="who knows")
