"""Any model, data, loss and metrics: what is called with what, and what is refused."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import ConfigError
from trainer.tasks.digits import DigitsData
from trainer.tasks.metrics import accuracy
from trainer.tasks.supervised import SupervisedTask

DATA = {"_target_": "trainer.tasks.digits.DigitsData", "part": "train"}
HELD_OUT = {**DATA, "part": "eval"}
NAMED = {"names": ["pixels", "labels"]}
LINEAR = {
    "_target_": "torch.nn.Sequential",
    "_args_": [
        {"_target_": "torch.nn.Flatten"},
        {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 10},
    ],
}
LOSS = {"_target_": "torch.nn.CrossEntropyLoss"}
ACCURACY = {"_target_": "trainer.tasks.metrics.accuracy", "_partial_": True}


class NamedModel(nn.Module):
    """Takes and gives names, and computes its loss, as models of transformers do."""

    def __init__(self, *, as_object: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.as_object = as_object

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> object:
        logits = self.layer(pixels.flatten(1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        output = {"loss": loss, "logits": logits}
        return SimpleNamespace(**output) if self.as_object else output


NAMED_MODEL = {"_target_": f"{__name__}.NamedModel"}


def _task(**arguments: Any) -> SupervisedTask:
    parts: dict[str, Any] = {"model": LINEAR, "train_data": DATA, "eval_data": HELD_OUT}
    return SupervisedTask(**{**parts, **arguments})


def _named_task(**arguments: Any) -> SupervisedTask:
    parts: dict[str, Any] = {
        "model": NAMED_MODEL,
        "train_data": {**DATA, **NAMED},
        "eval_data": {**HELD_OUT, **NAMED},
    }
    return SupervisedTask(**{**parts, **arguments})


def _batch(task: SupervisedTask, size: int = 32) -> Any:
    data = task.build_datasets().eval
    assert data is not None
    return task.collate([data[index] for index in range(size)])


def _metrics(task: SupervisedTask) -> dict[str, float]:
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():
        metrics = task.evaluate_batch(model, _batch(task))
    assert tuple(metrics) == task.metric_names
    return {name: float(value) for name, value in metrics.items()}


def test_pairs_train_a_model_that_was_named_in_the_configuration() -> None:
    task = _task(loss=LOSS, metrics={"accuracy": ACCURACY})
    torch.manual_seed(0)
    model = task.build_model()
    data = DigitsData()
    optimizer = torch.optim.Adam(task.parameter_groups(model), lr=1e-2)
    for start in range(0, 1280, 64):
        batch = task.collate(data.__getitems__(range(start, start + 64)))
        optimizer.zero_grad()
        task.compute_loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch's Tensor.backward
        optimizer.step()

    metrics = task.evaluate_batch(model.eval(), _batch(task, 300))
    assert metrics["accuracy"] > 0.8


def test_a_class_a_function_and_the_models_own_loss_agree() -> None:
    function = {"_target_": "torch.nn.functional.cross_entropy", "_partial_": True}
    by_key = {"target_key": "labels", "metrics": {"accuracy": ACCURACY}}
    metrics = [
        _metrics(_task(loss=LOSS, metrics={"accuracy": ACCURACY})),
        _metrics(_task(loss=function, metrics={"accuracy": ACCURACY})),
        _metrics(_named_task(output_key="logits", **by_key)),
        _metrics(_named_task(output_key="logits", loss=LOSS, **by_key)),
        _metrics(
            _named_task(
                model={**NAMED_MODEL, "as_object": True},
                output_key="logits",
                **by_key,
            )
        ),
    ]

    assert metrics[1:] == metrics[:1] * 4


def test_parts_may_be_given_as_objects() -> None:
    model, data = NamedModel(), DigitsData("eval")
    objects = SupervisedTask(
        model=model,
        train_data=data,
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
        output_key="logits",
    )

    assert objects.build_model() is model
    assert objects.build_datasets().train is data
    assert objects.build_datasets().eval is None
    metrics = objects.evaluate_batch(model, data.__getitems__(range(8)))
    assert set(metrics) == {"loss", "accuracy"}


def test_with_a_loss_of_its_own_the_model_does_not_get_the_target() -> None:
    task = _named_task(loss=LOSS, target_key="labels", output_key="logits")
    seen: list[set[str]] = []
    model = task.build_model()
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(set(kwargs)), with_kwargs=True
    )
    task.compute_loss(model, _batch(task))

    assert seen == [{"pixels"}]


def test_a_task_reaches_loader_processes_after_it_was_used() -> None:
    task = _task(loss=LOSS)
    task.compute_loss(task.build_model(), _batch(task))

    assert pickle.loads(pickle.dumps(task)).metric_names == ("loss",)


def _ones(output: Tensor, target: Tensor) -> Tensor:
    return torch.ones(len(target))


class _WithWeights(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            _task(),
            r"task\.loss=null: the model's output, a Tensor, must then carry the loss; "
            r"set for example task\.loss=\{_target_:torch\.nn\.CrossEntropyLoss\}",
        ),
        (
            _named_task(eval_data={**HELD_OUT, "names": ["pixels", "x"]}),
            "unexpected keyword argument 'x'",
        ),
        (
            _named_task(loss=LOSS, output_key="logits"),
            r"task\.target_key=null: .* must be named; .* one of pixels, labels",
        ),
        (
            _named_task(loss=LOSS, target_key="label"),
            r"task\.target_key=label: .* \(did you mean labels\?\); set .* labels",
        ),
        (
            _named_task(metrics={"accuracy": ACCURACY}, output_key="logits"),
            r"task\.target_key=null",
        ),
        (
            _named_task(loss=LOSS, target_key="labels", output_key="logit"),
            r"task\.output_key=logit: .* a dict, .* \(did you mean logits\?\); "
            "set task.output_key to one of loss, logits",
        ),
        (
            _task(loss=LOSS, output_key="logits"),
            r"task\.output_key=logits: .* a Tensor, .* set task\.output_key to null",
        ),
        (
            _named_task(loss=LOSS, target_key="labels"),
            r"task\.output_key=null: task\.loss got the model's whole output, a dict.*"
            "one of loss, logits",
        ),
        (
            _task(loss={**LOSS, "reduction": "none"}),
            r"task\.loss gave a tensor of shape \(32,\): must be one number, .*=mean",
        ),
        (
            _task(loss=LOSS, metrics={"ones": _ones}),
            r"task\.metrics\.ones gave a tensor of shape \(32,\): must be one number",
        ),
        (_task(loss=lambda output, target: 1.0), r"task\.loss gave a float: .* tensor"),
        (_task(loss=_WithWeights()), r"task\.loss has parameters: must have none"),
        (_task(loss=3), r"task\.loss built a int: must be callable"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_words_that_mend_it(
    task: SupervisedTask, message: str
) -> None:
    model = task.build_model()
    with pytest.raises((ValueError, TypeError), match=message):
        task.evaluate_batch(model, _batch(task))


def test_a_model_that_got_no_labels_is_told_apart_from_one_without_a_loss() -> None:
    task = _named_task()
    batch = _batch(task)
    del batch["labels"]
    with pytest.raises(ValueError, match=r"no loss for the arguments pixels; .*labels"):
        task.compute_loss(task.build_model(), batch)


@pytest.mark.parametrize("batch", [torch.zeros(4, 64), (1, 2, 3), "text"])
def test_a_batch_of_another_kind_is_refused(batch: object) -> None:
    task = _task(loss=LOSS)
    with pytest.raises(ValueError, match=r"must be a pair .* or a dictionary"):
        task.compute_loss(task.build_model(), batch)


def test_parts_of_the_wrong_kind_are_refused() -> None:
    iterable = {"_target_": "builtins.zip"}
    with pytest.raises(
        ValueError, match=r"task\.model built a dict: must be a torch\.nn\.Module"
    ):
        _task(model={"_target_": "builtins.dict"}).build_model()
    with pytest.raises(ValueError, match=r"task\.train_data built a zip: .* map-style"):
        _task(train_data=iterable).build_datasets()
    with pytest.raises(ValueError, match=r"task\.train_data=null"):
        _task(train_data=None).build_datasets()
    with pytest.raises(ValueError, match=r"metrics\.loss: .* another one"):
        _task(metrics={"loss": ACCURACY})


def test_an_unknown_target_is_named_by_its_path() -> None:
    task = _task(model={"_target_": "torch.nn.Linaer"})
    with pytest.raises(ConfigError, match=r"task\.model\._target_.*Linear"):
        task.build_model()
