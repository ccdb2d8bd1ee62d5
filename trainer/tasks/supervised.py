"""Any model, data, loss and metrics, each named in the configuration, without code.

Owns how a batch becomes a model call, a loss and metrics, and what to tell a user whose
pieces do not fit together. Must never know a vendor's classes: an output is a tensor, a
mapping or an object with attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from trainer.task import Batch, DataSets, MapDataset, TrainTask

Node = Mapping[str, Any]
Function = Callable[..., object]  # of (output, target)

_LOSS_REMEDY = "set for example task.loss={_target_:torch.nn.CrossEntropyLoss}"


class SupervisedTask(TrainTask):
    """A model trained on pairs, or on dictionaries that are the model's arguments.

    A batch (inputs, targets) calls `model(inputs)`. A batch that is a dictionary calls
    `model(**batch)`: with a `loss` without the target, else with it, because the model
    then computes the loss.

    Every part is a target node, or the object that it would build.

    Args:
        model: the torch.nn.Module.
        train_data: the map-style training data set.
        eval_data: the same for the held-out data; null: nothing is evaluated.
        loss: called as loss(output, target), gives the mean of a batch; a class such
            as torch.nn.CrossEntropyLoss, or a function with `_partial_: true`. Null:
            output.loss.
        metrics: by name, called as metric(output, target), give the mean of a batch;
            see `trainer.tasks.metrics`.
        output_key: attribute or key of the model's output that loss and metrics get;
            null: the whole output.
        target_key: key of the target in a batch that is a dictionary.

    Raises:
        ValueError: the pieces do not fit together, at the first batch that shows it.
    """

    def __init__(
        self,
        *,
        model: Node | nn.Module,
        train_data: Node | MapDataset,
        eval_data: Node | MapDataset | None = None,
        loss: Node | Function | None = None,
        metrics: Mapping[str, Node | Function] | None = None,
        output_key: str | None = None,
        target_key: str | None = None,
    ) -> None:
        self._model = model
        self._data = {"train_data": train_data, "eval_data": eval_data}
        self._loss = loss
        self._metrics = dict(metrics or {})
        self._output_key = output_key
        self._target_key = target_key
        self._callables: dict[str, Function] = {}  # built when first used
        if "loss" in self._metrics:
            raise ValueError(
                "metrics.loss: the loss is always reported under this name; "
                "give the metric another one"
            )
        self.metric_names: Sequence[str] = ("loss", *self._metrics)

    def build_model(self) -> nn.Module:
        model = _build("model", self._model)
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"task.model built a {type(model).__name__}: must be a "
                "torch.nn.Module; set task.model._target_ to a class or function "
                "that gives one"
            )
        return model

    def build_datasets(self) -> DataSets:
        train = self._build_data("train_data")
        if train is None:
            raise ValueError(
                "task.train_data=null: there must be something to train on; "
                "set task.train_data to a target node of a map-style data set"
            )
        return DataSets(train=train, eval=self._build_data("eval_data"))

    def compute_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        output, target = self._forward(model, batch, needs_target=False)
        return self._loss_of(output, target, batch)

    def evaluate_batch(
        self, model: nn.Module, batch: Batch
    ) -> Mapping[str, Tensor | float]:
        needs_target = bool(self._metrics)
        output, target = self._forward(model, batch, needs_target=needs_target)
        values: dict[str, Tensor | float] = {
            "loss": self._loss_of(output, target, batch)
        }
        for name in self._metrics:
            value = self._call(f"metrics.{name}", output, target)
            values[name] = _scalar(f"metrics.{name}", value)
        return values

    def __getstate__(self) -> dict[str, object]:
        # Loader processes collate only; what was built may not even be picklable.
        return {**self.__dict__, "_callables": {}}

    def _build_data(self, name: str) -> MapDataset | None:
        part = self._data[name]
        if part is None:
            return None
        data = _build(name, part)
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            raise ValueError(
                f"task.{name} built a {type(data).__name__}: must be map-style, with "
                "__len__ and __getitem__, so that its order can be resumed; name a "
                "class that has both"
            )
        return cast(MapDataset, data)

    def _forward(
        self, model: nn.Module, batch: Batch, *, needs_target: bool
    ) -> tuple[object, object]:
        if isinstance(batch, Mapping):
            needs_target = needs_target or self._loss is not None
            target = self._target(batch) if needs_target else None
            hidden = self._target_key if self._loss is not None else None
            return model(**{k: v for k, v in batch.items() if k != hidden}), target
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            return model(batch[0]), batch[1]
        raise ValueError(
            f"a batch is a {type(batch).__name__}: must be a pair (inputs, targets) or "
            "a dictionary of the model's arguments; let the data set's samples be one "
            "of the two"
        )

    def _target(self, batch: Mapping[str, object]) -> object:
        if self._target_key is None:
            value, rule = "null", "a batch is a dictionary, so the target must be named"
        elif self._target_key not in batch:
            value = self._target_key
            rule = f"a batch has no such key{_nearest(value, batch)}"
        else:
            return batch[self._target_key]
        raise ValueError(
            f"task.target_key={value}: {rule}; "
            f"set task.target_key to one of {_listed(batch)}"
        )

    def _loss_of(self, output: object, target: object, batch: Batch) -> Tensor:
        if self._loss is not None:
            loss = self._call("loss", output, target)
        else:
            loss = _entry(output, "loss")
            if loss is None:
                raise ValueError(_no_loss(output, batch))
        loss = _scalar("loss", loss)
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"task.loss gave a {type(loss).__name__}: must be a tensor, to be "
                f"differentiated; {_LOSS_REMEDY}"
            )
        return loss

    def _call(self, path: str, output: object, target: object) -> object:
        picked = self._pick(output)
        function = self._callables.get(path)
        if function is None:
            function = self._callables[path] = self._build_callable(path, picked)
        try:
            return function(picked, target)
        except TypeError as err:
            if isinstance(picked, Tensor) or self._output_key is not None:
                raise
            raise TypeError(
                f"task.output_key=null: task.{path} got the model's whole output, a "
                f"{type(output).__name__}, and failed ({err}); set task.output_key "
                f"to what it needs, one of {_listed(_names(output))}"
            ) from err

    def _build_callable(self, path: str, picked: object) -> Function:
        name = path.removeprefix("metrics.")
        part = self._loss if path == "loss" else self._metrics[name]
        function = _build(path, part)
        if not callable(function):
            raise ValueError(
                f"task.{path} built a {type(function).__name__}: must be callable as "
                f"(output, target); a function also needs task.{path}._partial_=true"
            )
        if isinstance(function, nn.Module):
            if any(True for _ in function.parameters()):
                raise ValueError(
                    f"task.{path} has parameters: must have none, because the "
                    "optimizer gets the model's only; let the model compute this loss "
                    "and set task.loss=null"
                )
            if isinstance(picked, Tensor):
                function.to(picked.device)  # class weights, for example
        return function

    def _pick(self, output: object) -> object:
        if self._output_key is None:
            return output
        value = _entry(output, self._output_key)
        if value is None:
            names = _names(output)
            raise ValueError(
                f"task.output_key={self._output_key}: the model's output, a "
                f"{type(output).__name__}, must have it"
                f"{_nearest(self._output_key, names)}; set task.output_key to "
                f"{'one of ' + _listed(names) if names else 'null'}"
            )
        return value


def _build(path: str, part: object) -> object:
    if not isinstance(part, Mapping):
        return part
    # Here, because Hydra is needed for target nodes only.
    from trainer.config import instantiate

    built: object = instantiate(part, path=f"task.{path}")
    return built


def _entry(output: object, key: str) -> object:
    if isinstance(output, Mapping):
        return output.get(key)
    return getattr(output, key, None)


def _names(output: object) -> list[str]:
    names = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    return [name for name in names if not name.startswith("_")]


def _scalar(path: str, value: object) -> Tensor | float:
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    if isinstance(value, (int, float)):
        return value
    got = type(value).__name__
    if isinstance(value, Tensor):
        got = f"tensor of shape {tuple(value.shape)}"
    raise ValueError(
        f"task.{path} gave a {got}: must be one number, the mean of the batch; "
        f"set for example task.{path}.reduction=mean"
    )


def _no_loss(output: object, batch: Batch) -> str:
    start = f"task.loss=null: the model's output, a {type(output).__name__}, "
    if _names(output) and isinstance(batch, Mapping):
        return (
            f"{start}has no loss for the arguments {_listed(batch)}; models of "
            "transformers compute it when one of them is called labels: give the data "
            f"that key (names=[input_ids,labels]), or {_LOSS_REMEDY}"
        )
    return f"{start}must then carry the loss; {_LOSS_REMEDY}"


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
