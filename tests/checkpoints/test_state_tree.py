from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints import Mismatch
from checkpoints.errors import CheckpointError
from checkpoints.state_tree import collect_state, left_out, plan_restore


def put_back(state: Mapping[str, object], saved: Mapping[str, object]) -> None:
    for action in plan_restore(state, saved):
        action()


def test_objects_anywhere_in_the_tree_give_their_state() -> None:
    model = nn.Linear(2, 1)
    tree: Any = collect_state({"models": {"a": [model]}, "step": 3})
    assert list(tree["models"]["a"][0]) == ["weight", "bias"]
    assert tree["step"] == 3


def test_a_state_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(CheckpointError, match="state is a list"):
        collect_state([1])  # type: ignore[arg-type]  # what the test is about


def test_dicts_and_lists_are_updated_in_place() -> None:
    losses: list[float] = []
    progress = {"step": 0, "best": None, "losses": losses, "inner": {"a": 1}}
    state: dict[str, object] = {"progress": progress, "epoch": 0}
    inner = progress["inner"]
    saved_progress = {
        "step": 7,
        "best": 0.5,
        "losses": [3.0, 2.0],
        "inner": {"a": 2, "new": "x"},
    }
    put_back(state, {"progress": saved_progress, "epoch": 2})
    assert state["progress"] is progress
    assert progress == saved_progress
    assert progress["losses"] is losses
    assert progress["inner"] is inner
    assert state["epoch"] == 2


def test_tensors_and_arrays_are_copied_into() -> None:
    weight, array = torch.zeros(2, requires_grad=True), np.zeros(2)
    in_list = torch.zeros(1)
    state = {"weight": weight, "array": array, "list": [in_list, 0]}
    saved = {
        "weight": torch.tensor([1.0, 2.0]),
        "array": np.array([3.0, 4.0]),
        "list": [torch.ones(1), 5],
    }
    put_back(state, saved)
    assert weight.tolist() == [1.0, 2.0]
    assert weight.requires_grad
    assert array.tolist() == [3.0, 4.0]
    assert in_list.item() == 1.0
    assert state["list"] == [in_list, 5]


def test_names_beside_the_given_ones_are_told() -> None:
    assert left_out({"model": 1}, {"model": 1, "optimizer": 2}) == ["optimizer"]


SGD = torch.optim.SGD


@pytest.mark.parametrize(
    ("target", "saved", "words"),
    [
        (
            torch.zeros(2),
            torch.zeros(3),
            r"state\['x'\] is torch.float32 \[2\], .*\[3\]",
        ),
        (torch.zeros(2), torch.zeros(2).double(), "torch.float32.*torch.float64"),
        (torch.zeros(2), [0.0, 0.0], "Tensor.*a list was saved"),
        (np.zeros(2), np.zeros((2, 1)), r"float64 \[2\], float64 \[2, 1\] was saved"),
        ({"a": 1}, {"b": 1}, r"state\['x'\]\['a'\] is not in the checkpoint.*'b'"),
        ({"a": {}}, {"a": 3}, r"state\['x'\]\['a'\] is a dict, a int was saved"),
        (5, {"a": 3}, "a int, a dict was saved"),
        ([torch.zeros(1)], [torch.zeros(1)] * 2, "has 1 items, 2 were saved"),
        ((torch.zeros(1), 4), (torch.zeros(1), 5), "use a list"),
        (nn.Linear(2, 1), nn.Linear(3, 1).state_dict(), r"\['weight'\].*\[1, 2\].*3\]"),
        (nn.Linear(2, 1), nn.Linear(2, 1).bfloat16().state_dict(), "bfloat16"),
        (nn.Linear(2, 1), nn.Linear(2, 1, bias=False).state_dict(), "1 names missing"),
        (
            nn.Linear(2, 1, bias=False),
            nn.Linear(2, 1).state_dict(),
            "only in the check",
        ),
        (nn.Linear(2, 1), 3, "a int was saved"),
        (
            SGD(nn.Linear(2, 1).parameters()),
            SGD([torch.zeros(1, requires_grad=True)]).state_dict(),
            r"\[2\] parameters by group, \[1\] were saved",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(
    target: object, saved: object, words: str
) -> None:
    first = torch.zeros(1)
    state = {"first": first, "x": target}
    with pytest.raises(Mismatch, match=words):
        put_back(state, {"first": torch.ones(1), "x": saved})
    assert first.item() == 0.0


def test_a_name_that_was_not_saved_is_a_mismatch() -> None:
    with pytest.raises(
        Mismatch, match=r"state\['optim'\] is not .*'model', 'optimizer'"
    ):
        plan_restore({"optim": None}, {"model": 1, "optimizer": 2})


def test_a_fresh_optimizer_takes_the_moments_of_a_used_one() -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Linear(2, 1)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    model, optimizer = build()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    fresh_model, fresh = build()
    put_back(
        {"model": fresh_model, "optimizer": fresh},
        {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
    )
    assert torch.equal(fresh_model.weight, model.weight)  # type: ignore[arg-type]  # a Linear's
    moments = [state["exp_avg"].tolist() for state in fresh.state.values()]
    assert moments == [state["exp_avg"].tolist() for state in optimizer.state.values()]
