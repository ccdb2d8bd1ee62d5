from __future__ import annotations

import pytest

from checkpoints.choices import Mode, Verify, choose, require_at_least


def test_strings_and_members_choose_the_same() -> None:
    assert choose("mode", "max", Mode) is Mode.MAX
    assert choose("mode", Mode.MIN, Mode) is Mode.MIN
    assert choose("verify", "sizes", Verify) is Verify.SIZES


def test_a_wrong_choice_names_the_value_and_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"mode='lowest': .*\['min', 'max'\]"):
        choose("mode", "lowest", Mode)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "3", None])
def test_a_number_below_its_least_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"keep_latest=.*>= 1, because resume"):
        require_at_least("keep_latest", value, 1, "resume needs one")


def test_the_least_itself_is_accepted() -> None:
    require_at_least("keep_latest", 1, 1, "resume needs one")
