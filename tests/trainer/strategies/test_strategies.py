"""Every strategy, on any number of ranks, trains as a plain loop on one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.distributed import run_distributed
from tests.trainer.strategies.suite import (
    CASES,
    NUM_STEPS,
    SKIPPING,
    Case,
    build_model,
    run_all,
    run_case,
    train_plainly,
)
from trainer.strategies.ddp import DdpStrategy
from trainer.strategies.single import SingleStrategy

SKIPPING_DDP = partial(DdpStrategy, find_unused_parameters=True)

Found = list[dict[str, Any]]  # of each rank


@pytest.fixture(scope="module", params=["single", "ddp on 1 rank", "ddp on 2 ranks"])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """What the suite found on each rank."""
    folder = tmp_path_factory.mktemp("run")
    if request.param == "single":
        return [run_all(SingleStrategy, SingleStrategy, folder)]
    if request.param == "ddp on 1 rank":
        return [run_all(DdpStrategy, SKIPPING_DDP, folder)]
    return run_distributed(run_all, 2, DdpStrategy, SKIPPING_DDP, folder)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_a_plain_loop_over_global_batches(
    name: str, found: Found
) -> None:
    expected, _ = train_plainly(CASES[name])
    for rank in found:
        assert_close(rank[name][0], expected)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_have_the_same_weights(name: str, found: Found) -> None:
    expected = found[0][name][0]
    for rank in found:
        for key, tensor in rank[name][0].items():
            assert torch.equal(tensor, expected[key])


@pytest.mark.parametrize("name", ["clipped", "norm without a cut"])
def test_the_norm_is_that_of_the_global_gradient_before_clipping(
    name: str, found: Found
) -> None:
    _, expected = train_plainly(CASES[name])
    for rank in found:
        assert rank[name][1] == pytest.approx(expected, abs=1e-6)


def test_clipping_changes_what_is_learnt(found: Found) -> None:
    clipped, whole = found[0]["clipped"][0], found[0]["accumulated"][0]
    assert not torch.allclose(clipped["last.weight"], whole["last.weight"], atol=1e-3)


def test_without_clipping_there_is_no_norm(found: Found) -> None:
    assert found[0]["whole share"][1] == [None] * NUM_STEPS


def test_parameters_that_some_steps_do_without_learn_in_the_others(
    found: Found,
) -> None:
    expected, _ = train_plainly(SKIPPING)
    before = build_model(SKIPPING).state_dict()
    for rank in found:
        assert_close(rank["skipping"][0], expected)
    learnt = found[0]["skipping"][0]["sometimes.weight"]
    assert not torch.allclose(learnt, before["sometimes.weight"])


def test_evaluation_and_checkpoints_have_the_same_buffers_on_all_ranks(
    found: Found,
) -> None:
    buffers = [rank["buffers"] for rank in found]
    for moment in ("evaluation", "state"):
        for rank in buffers:
            for name, tensor in buffers[0][moment].items():
                assert torch.equal(rank[moment][name], tensor), (moment, name)
    if len(found) > 1:  # otherwise nothing had to be shared
        means = [b["after a step"]["module.norm.running_mean"] for b in buffers]
        assert not torch.equal(*means)
        assert torch.equal(means[0], buffers[1]["evaluation"]["norm.running_mean"])


def test_a_rank_can_evaluate_on_its_own(found: Found) -> None:
    expected = found[0]["alone"][0]
    for number, rank in enumerate(found, start=1):
        assert len(rank["alone"]) == number
        assert all(torch.equal(output, expected) for output in rank["alone"])


def test_names_are_those_of_the_plain_model(found: Found) -> None:
    plain = list(build_model(Case()).state_dict())
    for names in found[0]["names"].values():
        assert names == plain


def test_a_restored_strategy_goes_on_bit_for_bit(found: Found) -> None:
    for rank in found:
        uninterrupted = rank["adamw"][0]
        for name, tensor in uninterrupted.items():
            assert torch.equal(rank["resumed"][name], tensor), name


def test_skipped_parameters_need_the_option_where_ranks_meet(found: Found) -> None:
    for rank in found:
        is_told = "find_unused_parameters=True" in rank["refusal"]
        assert is_told == (len(found) > 1)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_compiled_model_learns_the_same_under_the_same_names(
    world_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected, _ = train_plainly(CASES["accumulated"])
    case = Case(micro_size=3, compile=True)
    for weights, _ in run_distributed(
        run_case, world_size, DdpStrategy, case, timeout_s=110.0
    ):
        assert_close(weights, expected)
