from __future__ import annotations

import json

import pytest

from trainer.config import (
    difference,
    is_allowed_to_change,
    load_config,
    redact_words,
    to_dict,
)
from trainer.config.plain import ABSENT

SECRETS = [
    "storage_options.key=AKIA",
    "storage_options.secret=hunter2",
    "storage_options.client_kwargs={endpoint_url: 'http://127.0.0.1:9', pw: hunter2}",
    "storage_options.anon=false",
    "storage_url='s3://me:hunter2@bucket/runs'",
    "logging.mlflow_tracking_uri='https://me:hunter2@server/x'",
    "experiment=stdlib_gpt",
    "task.files_options.token=hunter2",
    "callbacks.mine._target_=trainer.callbacks.Callback",
    "callbacks.mine.api_key=hunter2",
    "callbacks.mine.tokens=5",
]


def test_a_configuration_is_json_with_enums_by_value_and_without_words() -> None:
    plain = to_dict(load_config(["precision=bf16", "scaling=ray_elastic"]))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["precision"] == "bf16"
    assert plain["scaling"]["num_workers"] == [1, 4]
    assert plain["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert plain["experiment"] == "digits"
    assert "overrides" not in plain


def test_no_secret_leaves_in_the_configuration() -> None:
    config = load_config(SECRETS)
    assert config.storage_options["secret"] == "hunter2"
    plain = to_dict(config)
    assert "hunter2" not in json.dumps(plain)
    assert "AKIA" not in json.dumps(plain)
    assert plain["storage_options"] == {
        "key": "***",
        "secret": "***",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "pw": "***"},
        "anon": False,
    }
    assert plain["storage_url"] == "s3://***@bucket/runs"
    assert plain["callbacks"]["mine"]["tokens"] == 5


def test_no_secret_leaves_in_the_words() -> None:
    words = redact_words([*SECRETS, "+storage_options={key: AKIA}"])
    assert "hunter2" not in "".join(words)
    assert "AKIA" not in "".join(words)
    assert words[0] == "storage_options.key=***"
    assert words[3] == "storage_options.anon=false"
    assert words[4] == "storage_url='s3://***@bucket/runs'"
    assert words[6] == "experiment=stdlib_gpt"


def test_words_that_name_a_variable_of_the_environment_are_kept() -> None:
    word = "storage_options.secret=${oc.env:AWS_SECRET}"
    with_default = "storage_options.secret=${oc.env:AWS_SECRET,hunter2}"
    assert redact_words([word, with_default, "digits"]) == [
        word,
        "storage_options.secret=***",
        "digits",
    ]


def test_equal_configurations_differ_in_nothing() -> None:
    one, other = to_dict(load_config()), to_dict(load_config())
    assert difference(json.loads(json.dumps(one)), other) == []


def test_the_difference_names_each_leaf_with_both_values() -> None:
    old = to_dict(load_config())
    new = to_dict(load_config(["optimizer=sgd", "storage_options.anon=true"]))
    found = {path: (was, now) for path, was, now in difference(old, new)}
    assert found == {
        "storage_options": ({}, ABSENT),
        "storage_options.anon": (ABSENT, True),
        "optimizer._target_": ("torch.optim.AdamW", "torch.optim.SGD"),
        "optimizer.momentum": (ABSENT, 0.9),
        "optimizer.nesterov": (ABSENT, False),
        "optimizer.weight_decay": (0.01, 0.0),
        "optimizer.betas": ([0.9, 0.999], ABSENT),
        "optimizer.eps": (1e-08, ABSENT),
    }


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("scaling.num_workers", True),
        ("checkpoint.every_steps", True),
        ("checkpoint.metric", False),
        ("checkpoint.mode", False),
        ("storage_options.key", True),
        ("optimizer.lr", True),
        ("optimizer.lrs", False),
        ("optimizer.eps", False),
        ("task", True),
        ("task.width", True),
        ("name", True),
        ("names", False),
        ("seed", False),
    ],
)
def test_a_path_allows_itself_and_what_lies_below(path: str, is_allowed: bool) -> None:
    assert is_allowed_to_change(path, ["optimizer.lr", "task"]) is is_allowed
