from __future__ import annotations

import pytest

from tests.trainer.config.faults import faults_of, only_fault


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "task.widht=3",
            "task.widht=3: there is no such key; the keys of task are width, dropout,"
            " eval_fraction; set task.width=3",
        ),
        (
            "batch.globalsize=8",
            "batch.globalsize=8: there is no such key; the keys of batch are"
            " global_size, micro_size; set batch.global_size=8",
        ),
        (
            "++batch.foo=1",
            "batch.foo=1: there is no such key; the keys of batch are"
            " global_size, micro_size; leave the word out",
        ),
        (
            "optimizer.momentum=0.5",
            "optimizer.momentum=0.5: there is no such key; the keys of optimizer are"
            " lr, betas, eps, weight_decay; type optimizer=sgd, which has it",
        ),
        (
            "optimizer.amsgrad=true",
            "optimizer.amsgrad=true: there is no such key; the keys of optimizer are"
            " lr, betas, eps, weight_decay; type +optimizer.amsgrad=true to pass it to"
            " torch.optim.AdamW",
        ),
        (
            "seed.x=1",
            "seed.x=1: seed is a single value and holds no keys; set seed=1",
        ),
        (
            "optimizer.lr=fast",
            "optimizer.lr=fast: must be a number; set optimizer.lr=0.005",
        ),
        ("seed=1e3", "seed=1e3: must be an integer; set seed=1000"),
        (
            "duration.max_steps=many",
            "duration.max_steps=many: must be an integer or null;"
            " set duration.max_steps=1",
        ),
        (
            "compile=perhaps",
            "compile=perhaps: must be true or false; set compile=false",
        ),
        (
            "precision=bf61",
            "precision=bf61: must be one of fp32, bf16, fp16; set precision=bf16",
        ),
        (
            "batch=64",
            "batch=64: is a group of keys: batch.global_size, batch.micro_size;"
            " set batch.global_size=64",
        ),
        (
            "scaling.resources_per_worker.CPU=two",
            "scaling.resources_per_worker.CPU=two: must be a number;"
            " set scaling.resources_per_worker.CPU=0.1",
        ),
        (
            "~batch.global_size",
            "batch.global_size=~: a key of the schema cannot be removed;"
            " set batch.global_size=null where null is allowed",
        ),
        (
            "~storage_options.key",
            "storage_options.key=~: there is no such key; the keys of storage_options"
            " are ; leave the word out",
        ),
        (
            "strategy=dpp",
            "strategy=dpp: there is no such option; the options are ddp, single;"
            " type strategy=ddp",
        ),
        (
            "experiment=null",
            "experiment=null: there is no such option; the options are digits, none,"
            " stdlib_gpt; type experiment=none",
        ),
        ("digits", "digits=: a word is key=value; type experiment=digits"),
        (
            "optimizer.lr=interval(1e-4,1e-1)",
            "optimizer.lr=interval(1e-4,1e-1): is a sweep, and a run needs one value;"
            " python -m tuning takes sweeps; set optimizer.lr=0.0001",
        ),
        (
            "optimizer=choice(sgd,adam)",
            "optimizer=choice(sgd,adam): is a sweep, and a run needs one value;"
            " python -m tuning takes sweeps; set optimizer=sgd",
        ),
        (
            "optimizer.betas=0.1,0.2",
            "optimizer.betas=0.1,0.2: is a sweep, and a run needs one value;"
            " python -m tuning takes sweeps; set optimizer.betas=0.1, or for a list"
            " optimizer.betas=[0.1,0.2]",
        ),
        (
            "overrides=[a]",
            "overrides=[a]: overrides is filled in by the program; leave the word out,"
            " or choose with experiment=none",
        ),
        (
            "hydra.run.dir=x",
            "hydra.run.dir=x: of Hydra's own settings only hydra.searchpath has an"
            " effect here; leave the word out, or set hydra.searchpath=[my_conf]",
        ),
        (
            "task.dropout=0.1 0.2)",
            "task.dropout=0.1 0.2): is not in Hydra's grammar: a value with blanks or"
            " special characters must be quoted, and quoted once more for the shell;"
            " type \"task.dropout='0.1 0.2)'\"",
        ),
        (
            "optimiser/x=1",
            "optimiser/x=1: there is no such group; the groups are checkpoint,"
            " experiment, logging, lr_schedule, optimizer, recovery, scaling, strategy,"
            " task; type optimizer=1",
        ),
        ("~task", "task=???: must be given; choose one with task=OPTION"),
    ],
)
def test_a_faulty_word_is_answered_with_the_word_to_type(
    word: str, message: str
) -> None:
    assert str(only_fault(word)) == message


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("experment=digits", "set experiment=digits"),
        ("lr=3", "set optimizer.lr=3"),
        ("global_size=8", "set batch.global_size=8"),
        ("+nmae=x", "set name=x"),
        ("optimzer.lr=1", "set optimizer.lr=1"),
    ],
)
def test_a_misspelt_root_key_names_the_nearest(word: str, meant: str) -> None:
    fault = only_fault(word)
    assert fault.remedy == meant
    assert "the keys of the root are name, storage_url" in fault.rule


def test_every_fault_is_named_at_once_and_in_the_order_of_the_words() -> None:
    faults = faults_of(
        "task=digit",
        "task.widht=3",
        "seed=abc",
        "a b",
        "batch.global_size=0",
        "checkpoint.metric=eval/acuracy",
    )
    assert [fault.path for fault in faults] == [
        "a b",
        "task",
        "task.widht",
        "seed",
        "batch.global_size",
        "checkpoint.metric",
    ]


def test_keys_of_a_group_whose_option_is_unknown_are_not_judged() -> None:
    fault = only_fault("task=qqqq", "task.foo=3", "task.bar.baz=4")
    assert fault.remedy == "type task=custom"


def test_a_misspelt_option_is_read_as_the_nearest_to_judge_the_rest() -> None:
    (option,) = faults_of("task=stdlib_gtp", "task.num_layers=2")
    assert option.remedy == "type task=stdlib_gpt"


def test_missing_values_are_named() -> None:
    faults = faults_of("task=supervised")
    assert [fault.path for fault in faults] == ["task.model", "task.train_data"]
    assert faults[0].remedy == "set task.model._target_=my_pkg.MyClass"


def test_a_fault_never_shows_a_secret() -> None:
    faults = faults_of("storage_optoins.secret=hunter2", "storage_options=hunter2")
    assert len(faults) == 2
    assert "hunter2" not in "".join(str(fault) for fault in faults)


def test_an_interpolation_that_leads_nowhere_is_a_fault_of_its_key() -> None:
    faults = faults_of("name=${nowhere}", "seed=x")
    assert [fault.path for fault in faults] == ["seed", "name"]
    assert faults[1].value == "${nowhere}"
    assert "nowhere" in faults[1].rule
