"""Reads what mmsegmentation's configuration, kept as text beside the weights, says of a network. It is parsed, never
run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from lowlat.models import IMAGENET

STRIDES, DILATIONS, BINS = (1, 2, 1, 1), (1, 1, 2, 4), (1, 2, 3, 6)
BACKBONES = ("ResNet", "ResNetV1c", "ResNetV1d")


def of_config(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of `lowlat.models.resnet101` that the configuration in ``meta`` asks for.

    Returns:
        None if there is no configuration, or none that can be parsed.

    Raises:
        ValueError: it describes a network that `resnet101` can't be; the error says in which point.
    """
    text = meta.get("cfg") or meta.get("config")
    if not isinstance(text, str):
        return None
    try:
        config = _assigned(text)
    except SyntaxError:
        return None
    model = config.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("backbone"), dict):
        return None
    backbone, head = model["backbone"], model.get("decode_head")
    head = head if isinstance(head, dict) else {}
    _expect("backbone", backbone, "type", BACKBONES)
    _expect("backbone", backbone, "depth", (101,))
    _expect("backbone", backbone, "style", ("pytorch",), default="pytorch")
    _expect("backbone", backbone, "strides", (STRIDES,), default=(1, 2, 2, 2))
    _expect("backbone", backbone, "dilations", (DILATIONS,), default=(1, 1, 1, 1))
    _expect("backbone", backbone, "multi_grid", (None,))
    norm = backbone.get("norm_cfg")
    _expect("backbone.norm_cfg", norm if isinstance(norm, dict) else {}, "eps", (1e-5,), default=1e-5)
    _expect("decode_head", head, "type", ("PSPHead",))
    _expect("decode_head", head, "pool_scales", (BINS,), default=BINS)
    found = {
        "contract": bool(backbone.get("contract_dilation", False)),
        "align_corners": bool(head.get("align_corners", False)),
    }
    return found | _normalisation(config, model)


def _normalisation(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and standard deviation in [0, 1], if they are not those of ImageNet."""
    said = model.get("data_preprocessor") or config.get("data_preprocessor") or config.get("img_norm_cfg")
    if not isinstance(said, dict) or "mean" not in said:
        return {}
    if not said.get("bgr_to_rgb", said.get("to_rgb", False)):
        raise ValueError(
            "convert: expected a network of RGB images, got a configuration with to_rgb=False, of BGR; convert one "
            "trained on RGB"
        )
    scaled = {name: [value / 255 for value in said[name]] for name in ("mean", "std")}
    close = all(
        abs(ours - theirs) < 1e-4 for name in scaled for ours, theirs in zip(IMAGENET[name], scaled[name], strict=True)
    )
    return {} if close else scaled


def _expect(part: str, settings: Mapping[str, Any], name: str, allowed: tuple, default: Any = None) -> None:
    value = settings.get(name, default)
    value = tuple(value) if isinstance(value, list) else value
    if value not in allowed:
        raise ValueError(
            f"convert: expected {part}.{name} to be {' or '.join(map(str, allowed))} in the checkpoint's "
            f"configuration, got {value!r}; another network is taken as it is by lowlat.adopt"
        )


def _assigned(text: str) -> dict[str, Any]:
    """Return the values that a file of assignments gives its names: literals and ``dict(...)``; None for anything
    else."""
    values = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = _value(statement.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
