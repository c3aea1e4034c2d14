"""Adopted networks in use: parts by hand, weights that nobody registered, files of weights, commands."""

import copy
import json
import sys

import numpy as np
import pytest
import small
import torch
import zoo
from PIL import Image
from places import at
from torch import nn
from typer.testing import CliRunner

import lowlat
from lowlat import VideoSegmenter, models
from lowlat.adoption.checks import differ
from lowlat.cli import app
from lowlat.jobs import latency
from lowlat.lab.study import Settings
from lowlat.lab.study.grounds import Ground
from lowlat.lab.study.parts import Parts
from lowlat.lab.study.timing import live_unit, module_times
from lowlat.lab.weights import save
from lowlat.runtime.options import DEFAULT, prepared
from lowlat.schedule import Every

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (32, 48)
EXAMPLE = torch.zeros(1, 3, *SIZE)
MYNET = """
import sys

import lowlat
import torch

sys.path.append({tests!r})
import small


def network(classes=("road", "car", "sky")):
    torch.manual_seed(3)
    example = torch.zeros(1, 3, 32, 48)
    return lowlat.adopt(small.Plain(), split="stem", features="neck", example=example, classes=classes)


def model():
    return small.Plain()


def strict():
    example = torch.zeros(1, 3, 32, 48)
    return lowlat.adopt(small.Strict(11), split="stem", features="mix", example=example, classes=lowlat.classes.CAMVID)
"""


@pytest.fixture
def mynet(tmp_path, monkeypatch):
    """The name of a network in a module of the current folder."""
    (tmp_path / "mynet.py").write_text(MYNET.format(tests=str(small.__file__).rpartition("/")[0]))
    (tmp_path / "thirsty.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "mynet:network"
    for name in ("mynet", "thirsty"):
        sys.modules.pop(name, None)


def by_hand(kind):
    model = small.Plain()
    if kind == "modules":
        return model, {"lower": model.stem, "higher": nn.Sequential(*model.blocks, model.neck), "classify": model.head}
    if kind == "methods":
        return model, {"lower": model.low, "higher": model.high, "classify": model.scores}
    functions = {
        "lower": lambda model, frames: (model.stem(frames), frames.mean()[None, None]),
        "higher": [lambda model, low: model.blocks[0](low[0]) + low[1], lambda model, x: model.neck(x)],
        "classify": lambda model, high: model.head(high),
    }
    return model, functions


@pytest.mark.parametrize("kind", ["modules", "methods", "functions"])
def test_parts_by_hand_run_live_on_each_device(kind):
    model, parts = by_hand(kind)
    if kind == "functions":
        model.forward = lambda frames: parts["classify"](
            model, parts["higher"][1](model, parts["higher"][0](model, parts["lower"](model, frames)))
        )
        parts["model"] = model
    if kind == "methods":
        model.forward = lambda frames: model.head(model.high(model.stem(frames)))
    network = lowlat.adopt(**parts, example=EXAMPLE, classes=3)
    assert len(network.higher_chain()) == {"modules": 4, "methods": 1, "functions": 2}[kind] and network.multiple == 4
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        if kind == "modules":
            expected = model.head(nn.Sequential(*model.blocks, model.neck)(model.stem(image)))
            assert not differ(network(image), expected)
        ready = prepared(network, DEFAULT)
        assert not differ(ready(image), network(image))
        ready.model.requires_grad_(False)
        for parameter in ready.model.parameters():
            parameter.zero_()
        assert differ(ready(image), network(image)), "a copy has weights of its own"
    frames = zoo.frames(SIZE)
    runs = []
    for place in ("cpu", "fake"):
        with at(place) as device:
            options = {"cores": 1} if place == "cpu" else {}
            with VideoSegmenter(network, device=device, policy=Every(2), mode="blocking", **options) as segmenter:
                runs.append([segmenter.step(frame).labels for frame in frames])
    assert np.mean([ours == theirs for ours, theirs in zip(*runs, strict=True)]) > 0.99


def test_in_place_steps_on_views_and_tensors_nobody_registered():
    torch.manual_seed(0)
    model = small.Odd().eval()
    model.norm.running_var.fill_(2.0)
    with pytest.raises(ValueError, match="needs .* too"):
        lowlat.adopt(model, split="stem", features="up", example=EXAMPLE, classes=3)
    network = lowlat.adopt(model, split="stem", features="head", example=EXAMPLE, classes=3)
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        assert not differ(network(image), model(image))
        low = network.lower(image)
        kept = copy.deepcopy(low)
        network.higher(low)
        assert all(map(torch.equal, kept, low)) if isinstance(low, tuple) else torch.equal(kept, low)
        half = prepared(network, type(DEFAULT)(dtype="bfloat16"))(image.bfloat16())
        assert half.dtype == torch.bfloat16 and (half - network(image)).abs().max() < 0.1 * network(image).abs().max()


def test_a_size_seen_first_on_a_device_is_made_there():
    network = lowlat.adopt(small.Plain(), split="stem", features="neck", example=EXAMPLE, classes=3)
    frames = zoo.frames((40, 64), 3)
    with VideoSegmenter(network, policy=Every(2), mode="blocking", pixels=None, cores=1) as segmenter:
        expected = [segmenter.step(frame).labels for frame in frames]
    for place in ("fake", "stand-in"):
        fresh = lowlat.adopt(small.Plain(), split="stem", features="neck", example=EXAMPLE, classes=3)
        fresh.load_state_dict(network.state_dict())
        with at(place) as device:
            with VideoSegmenter(fresh, device=device, policy=Every(2), mode="blocking", pixels=None) as segmenter:
                found = [segmenter.step(frame).labels for frame in frames]
        assert np.mean([ours == theirs for ours, theirs in zip(found, expected, strict=True)]) > 0.99


def test_a_file_of_weights_says_where_its_network_comes_from(mynet, tmp_path):
    network = models.load(mynet)
    assert network.name == mynet and network.legend.names == ("road", "car", "sky") and not network.training
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-3)
    network.threshold = 0.3
    save(network, tmp_path / "w.safetensors")
    _, metadata = models.read_safetensors(tmp_path / "w.safetensors")
    assert metadata["network"] == mynet and (metadata["pixels"], metadata["multiple"]) == (str(32 * 48), "4")
    sys.modules.pop("mynet")
    loaded = models.load(tmp_path / "w.safetensors")
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image)), "weights from elsewhere are kept as they are"
    assert loaded.threshold == 0.3 and loaded.name == mynet and loaded.untrained == network.untrained


def test_weights_learned_for_another_cut_of_the_same_shapes_are_refused():
    def adopted(split):
        return lowlat.adopt(small.Plain(), split=split, features="neck", example=EXAMPLE, classes=3)

    state = adopted("blocks.0").state_dict()
    adopted("blocks.0").load_state_dict(state)
    with pytest.raises(RuntimeError, match="learned for split='blocks.0', .* beside a model cut at split='blocks.1', "):
        adopted("blocks.1").load_state_dict(state)
    adopted("blocks.1").load_state_dict({name: tensor for name, tensor in state.items() if name != "cut"})


def test_a_named_network_that_cannot_be_had(mynet, tmp_path, monkeypatch):
    save(models.load(mynet), tmp_path / "w.safetensors")
    (tmp_path / "failing.py").write_text("""
def network():
    raise KeyError("inside")
def asking(argument):
    return argument
""")
    (tmp_path / "broken.py").write_text("def network(:")
    (tmp_path / "unmounted.py").write_text("raise OSError('no disk')")
    state, metadata = models.read_safetensors(tmp_path / "w.safetensors")
    cases = {
        "yournet:network": "expected the module 'yournet' of 'yournet:network' on sys.path or in .*, found none; start",
        "mynet:nothing": "expected a function 'nothing' in the module mynet, found none; write one",
        "mynet:model": "expected mynet:model to return a network that lowlat.adopt made, got Plain; return",
        "thirsty:network": "expected the package no_such_package_anywhere, which thirsty imports, found none; ins",
        "mynet.py:network": "expected a module's name, got that of a file; give mynet:network in its folder",
        "./mynet.py:network": "expected a network's name as in package.module:function, got './mynet.py:network'",
        "mynet:": "expected a network's name as in package.module:function, got 'mynet:'",
        "failing:network": "failing:network to return a network, got KeyError: 'inside' in line 3 of failing.py; mend",
        "failing:asking": "failing:asking to return a network, got TypeError: asking.. missing 1 required",
        "broken:network": "expected broken:network to return a network, got SyntaxError: .*broken.py, line 1",
        "unmounted:network": "unmounted:network to return a network, got OSError: no disk in line 1 of unmounted.py",
        ":network": "expected a network's name as in package.module:function, got ':network'",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            models.load(name)
    import safetensors.torch

    def load(**changes):
        safetensors.torch.save_file(state, tmp_path / "x.safetensors", {**metadata, **changes})
        return models.load(tmp_path / "x.safetensors")

    with pytest.raises(ValueError, match="names for 3 classes, got 2; save"):
        load(names='["road", "car"]', palette="[[1, 2, 3], [4, 5, 6]]")
    with pytest.raises(
        ValueError, match=r"(?s)expected weights of lite as it is built now, .*; train it again"
    ) as told:
        load(network="lite", classes="11")
    assert len(str(told.value)) < 700
    state["model.head.weight"] = state["model.head.weight"][:2]
    with pytest.raises(ValueError, match="expected weights of mynet:network as it is built now"):
        load()
    result = CliRunner().invoke(app, ["segment", "nowhere.mp4", "-o", "out.mp4", "--weights", "yournet:network"])
    assert result.exit_code == 2 and "yournet" in result.output


def test_commands_take_an_adopted_network(mynet, tmp_path):
    for index, frame in enumerate(zoo.frames(SIZE, 5)):
        Image.fromarray(frame).save(tmp_path / f"frame{index}.png") if index else (tmp_path / "clip").mkdir()
        Image.fromarray(frame).save(tmp_path / "clip" / f"{index}.png")
    words = ["segment", "clip", "-o", "labels", "--weights", mynet, "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "labels").glob("*.png"))) == 5
    classes = json.loads((tmp_path / "labels" / "classes.json").read_text())
    assert "road" in json.dumps(classes) and "building" not in json.dumps(classes)


@pytest.fixture
def strict(mynet, tmp_path):
    """Weights of a network of CamVid's classes that takes sides of multiples of 16 alone."""
    save(models.load("mynet:strict"), tmp_path / "strict.safetensors", stage="selector")
    return str(tmp_path / "strict.safetensors")


def test_latency_is_measured_at_sides_that_the_network_takes(strict):
    counts = {"frames": 2, "baseline_frames": 1, "table_frames": 0, "fps": 60}
    assert latency.measure(strict, size=(56, 24), **counts).working_size == "64x32"
    assert latency.measure(strict, size=(64, 48), **counts).working_size == "64x48"


def test_the_study_times_the_network_given_at_sides_that_it_takes(strict, tmp_path, monkeypatch):
    timed, measure = [], latency.measure
    monkeypatch.setattr(latency, "measure", lambda network, **rest: timed.append(network) or measure(network, **rest))
    settings = Settings(frames=4, live_frames=2, live_fps=60.0, repeats=1)
    given, lite = (
        Ground("street:56x40,frames=8", weights, Parts(tmp_path / "parts"), settings) for weights in (strict, "lite")
    )
    assert given.size == (56, 40) and live_unit(given) != live_unit(lite)
    schedules = [row["schedule"] for row in live_unit(given).compute() if "schedule" in row]
    assert timed == [strict] and schedules[0] == "per frame" and lite.timed == "lite"
    times = {row["module"]: row["ms"] for row in module_times(models.load(strict), given.size, 1)}
    assert times["S_l"] > 0 and times["S_h"] > 0 and times["propagation: labels at full size"] > 0
