"""Recipes as data: what each network's stages are, how rates fall, and that no trainer names a network."""

import ast
import copy
from pathlib import Path

import pytest
import torch

from lowlat import models
from lowlat.classes import CAMVID, Classes
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.train import STAGES, distill, finish, train
from lowlat.lab.train.loop import optimizer_of
from lowlat.lab.train.per_frame import view_size
from lowlat.lab.train.recipe import Recipe, change, schedule
from lowlat.lab.train.recipes import ADOPTED, PLANS, plan_of, recipe_of
from lowlat.lab.train.stages import stage_before
from lowlat.lab.weights import save

ROOM = Path(finish.__file__).parent
STREET = "street:64x48,seed=1,frames=6"
SMALL = {"steps": 1, "batch": 2}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(tiny_network, monkeypatch):
    """A network that no plan names, known to `models` for the while."""

    def build(classes=11):
        network = copy.deepcopy(tiny_network)
        assert classes == network.classes
        return network

    monkeypatch.setitem(models.MODELS, "tiny", build)
    return "tiny"


def test_no_trainer_names_a_network():
    found = {}
    for path in ROOM.glob("*.py"):
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        found[path.name] = words & {*models.MODELS}
    assert {name for name, words in found.items() if words} == {"recipes.py"}


def test_every_network_has_every_stage():
    assert set(PLANS) == {*models.MODELS}
    for plan in (*PLANS.values(), ADOPTED):
        assert set(plan.recipes) == {*STAGES, "distill"} and set(plan.order) <= {*STAGES}
    assert plan_of("package.module:function") is ADOPTED
    with pytest.raises(ValueError, match="network among lite, resnet101, or an adopted one as in .* got 'vgg'"):
        plan_of("vgg")
    with pytest.raises(ValueError, match="network among lite, .* got 'vgg'"):
        train(data=STREET, out="nowhere", network="vgg")


def test_the_papers_network_has_the_papers_recipe():
    for stage in ("base", "propagation", "selector"):
        recipe = recipe_of("resnet101", stage)
        assert (recipe.crop, recipe.decay, recipe.precision) == (713, "poly", "bfloat16")
        assert recipe.kept_pairs() == 0
    assert recipe_of("resnet101", "propagation").kinds[0] == "video"
    assert recipe_of("resnet101", "selector").kinds == ("unlabelled",)
    network = models.build("lite")
    network.pixels = 2048 * 1024
    assert view_size(network, (1024, 2048), 713) == (713, 713)
    assert view_size(network, (720, 960), 713) == (713, 713)
    assert view_size(network, (100, 9000), 713) == (152, 713)


@pytest.mark.parametrize("steps", [1, 2, 4, 9, 10, 40, 500, 5000])
def test_warm_up_takes_a_tenth_of_the_steps_at_most(steps):
    recipe = Recipe(steps=steps, batch=1, learning_rate=1.0, warmup=50)
    rates = [schedule(step, recipe) for step in range(steps + 1)]
    top = rates.index(1.0)
    assert top <= min(50, max(0, steps // 10)) and rates[-1] == 0
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert sum(rates) > 0.4 * steps, "a short run learns nothing"


def test_the_poly_rate_is_the_remaining_share_to_its_power():
    recipe = Recipe(steps=100, batch=1, learning_rate=1.0, warmup=0, decay="poly")
    assert schedule(0, recipe) == 1
    assert schedule(50, recipe) == pytest.approx(0.5**0.9) and schedule(100, recipe) == 0


def test_the_optimizer_is_the_recipes():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.5}]
    recipe = Recipe(steps=1, batch=1, learning_rate=0.1, weight_decay=0.2)
    assert type(optimizer_of(recipe, groups)) is torch.optim.AdamW
    sgd = optimizer_of(change(recipe, optimizer="sgd"), groups)
    assert type(sgd) is torch.optim.SGD and (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.9, 0.2)
    assert sgd.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"optimizer": "lion"}, "optimizer among adamw, sgd, got 'lion'"),
        ({"decay": "step"}, "decay among cosine, poly, got 'step'"),
        ({"crop": 8}, "crop of at least 33 pixels, got 8"),
        ({"pairs": -1}, "pairs of at least 0, got -1"),
        ({"soft": -0.5}, "soft of at least 0, got -0.5"),
        ({"warmup": -1}, "warmup of at least 0, got -1"),
        ({"soft": float("nan")}, "soft of at least 0, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate and clip above 0, got inf"),
        ({"seed": -1}, r"seed of at least 0 and below 2\*\*63, got -1"),
        ({"seed": 2**63}, r"seed of at least 0 and below 2\*\*63, got 9223372036854775808"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        change(Recipe(steps=1, batch=1, learning_rate=1.0), **wrong)


def test_a_network_of_no_plan_goes_through_all_stages(tiny, tmp_path):
    path = train("all", data=STREET, out=tmp_path, network=tiny, **SMALL)
    assert path.name == "selector.safetensors"
    assert {file.stem for file in tmp_path.glob("*.safetensors")} == set(ADOPTED.order)
    for name in ADOPTED.order:
        network = models.load(tmp_path / f"{name}.safetensors")
        assert (network.name, network.legend, network.pixels) == (tiny, CAMVID, 64 * 48)
    # The network is told from what is there; a stage that the plan leaves out may be run all the same.
    assert train("all", data=STREET, out=tmp_path, **SMALL) == path
    assert stage_before("propagation", tmp_path, None).name == "base.safetensors"
    train("finetune", data=STREET, out=tmp_path, **SMALL)
    assert stage_before("propagation", tmp_path, None).name == "finetune.safetensors"
    with pytest.raises(ValueError, match=r"weights of lite in '.*', got those of tiny; leave --network out"):
        train("all", data=STREET, out=tmp_path, network="lite", **SMALL)


def test_weights_of_another_network_or_other_classes_are_refused(tiny, tmp_path):
    save(models.build(tiny), tmp_path / "tiny.safetensors")
    options = {"data": STREET, "out": tmp_path / "out", **SMALL}
    for stage in ("base", "propagation", "selector"):
        with pytest.raises(ValueError, match=r"weights of lite in .*tiny\.safetensors', got those of tiny"):
            train(stage, network="lite", init=tmp_path / "tiny.safetensors", **options)
    other = models.load("lite")
    other.legend = Classes.numbered(11)
    save(other, tmp_path / "unnamed.safetensors")
    names = ("void", *CAMVID.names[1:])
    other.legend = Classes(names, CAMVID.palette)
    save(other, tmp_path / "others.safetensors")
    small = {**options, "pixels": 64 * 48}
    with pytest.raises(ValueError, match="with 'void' as number 0, got 'sky'; give data of the same classes"):
        train("selector", init=tmp_path / "others.safetensors", **small)
    # Classes that nobody has named are those of the data.
    assert models.load(train("selector", init=tmp_path / "unnamed.safetensors", **small)).legend == CAMVID
    # A network for other classes starts with a classifier of its own.
    told = models.load(train("base", init=tmp_path / "others.safetensors", **{**small, "learning_rate": 1e-9}))
    same = models.load(
        train("base", init="lite", **{**small, "out": tmp_path / "same", "learning_rate": 1e-9, "average": 0.0})
    )
    assert (told.classifier.weight - other.classifier.weight).abs().max() > 0.1
    torch.testing.assert_close(same.classifier.weight, other.classifier.weight, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "stage, option, words",
    [
        ("base", {"pairs": 4}, "--pairs with propagation, selector or all, got it with 'base'"),
        ("selector", {"between": 3}, "--between with propagation or all, got it with 'selector'"),
        ("base", {"bank": "there"}, "--bank with propagation, selector or all, got it with 'base'"),
        ("finetune", {"clips": ["a.mp4"]}, "--clip with propagation, selector or all, got it with 'finetune'"),
        ("propagation", {"recompute": True}, "--recompute with base, finetune or all, got it with 'propagation'"),
        ("selector", {"validate": STREET}, "--validate with base, finetune or all, got it with 'selector'"),
        ("selector", {"validate_every": 5}, "--validate-every with base, finetune, distill or all, got it with 'sel"),
        ("selector", {"clips": ["a.mp4"]}, "--clip with a stage that makes pairs of clips, got it with 'selector' of"),
        ("base", {"pixels": 0}, "working size of at least 1 pixel, got 0"),
        ("base", {"pixels": "large"}, "working size of at least 1 pixel, got 'large'"),
    ],
)
def test_options_of_no_use_are_refused(tmp_path, stage, option, words):
    with pytest.raises(ValueError, match=words):
        train(stage, data=STREET, out=tmp_path, init="lite", **option)
    with pytest.raises(ValueError, match="--crop with base, .* got it with 'distill'"):
        distill(["a.mp4"], out=tmp_path, crop=97)


def test_a_bank_that_nothing_is_kept_in_is_refused(tiny, tmp_path):
    options = {"data": STREET, "out": tmp_path / "out", "init": tmp_path / "tiny.safetensors", **SMALL}
    save(models.build(tiny), options["init"])
    with pytest.raises(ValueError, match="--bank with pairs that are kept, got it with 'selector' of a network that"):
        train("selector", bank=tmp_path / "bank", pairs=0, **options)
    assert train("selector", bank=tmp_path / "bank", pairs=4, **options).is_file()


@pytest.mark.parametrize(
    "stage, given, words",
    [
        ("propagation", {"batch": 3, "accumulate": 2}, "batch that divides by processes x accumulate = 1 x 2, got 3"),
        ("base", {"batch": 4, "accumulate": 4}, "at least 2 examples a pass in 'base'"),
    ],
)
def test_a_batch_that_does_not_come_out_is_told_before_the_work(tiny, tmp_path, monkeypatch, stage, given, words):
    monkeypatch.setattr("lowlat.lab.train.stages.weights_digest", lambda *_: pytest.fail("work has begun"))
    save(models.build(tiny), tmp_path / "tiny.safetensors")
    options = {"data": STREET, "out": tmp_path / "out", "init": tmp_path / "tiny.safetensors", "steps": 1}
    with pytest.raises(ValueError, match=words):
        train(stage, **options, **given)


def test_weights_keep_their_threshold_and_what_is_untrained(tiny, tmp_path):
    """A start of other classes leaves the fast track untrained: it carries features that are no longer there."""
    network = models.build(tiny)
    network.threshold = 0.31
    others = Classes(tuple(map(str, range(11))), CAMVID.palette)
    trained = {}
    for name, legend, untrained in (("same", CAMVID, ("selector",)), ("other", others, ())):
        network.legend, network.untrained = legend, untrained
        save(network, tmp_path / f"{name}.safetensors")
        path = train("base", data=STREET, out=tmp_path / name, init=tmp_path / f"{name}.safetensors", **SMALL)
        trained[name] = models.load(path)
        assert trained[name].threshold == 0.31
    assert trained["same"].untrained == ("selector",)
    assert set(trained["other"].untrained) == {"reduction", "predictor", "adapt", "fusion", "selector"}


def test_a_stage_that_is_done_says_that_nothing_was_done(tiny, tmp_path, capsys):
    options = {"data": STREET, "out": tmp_path, "network": tiny, **SMALL}
    train("base", **options)
    assert "already" not in capsys.readouterr().err
    train("base", **{**options, "steps": 500})
    said = capsys.readouterr().err
    assert said == f"lowlat: train: base in {tmp_path} had been trained already; to train anew, give another --out\n"


def test_start_weights_have_no_working_size_of_their_own(tiny, tmp_path):
    network = models.build(tiny)
    network.pixels = 160 * 120
    for name, untrained, pixels in (("whole", (), 160 * 120), ("start", ("head", "classifier", "fusion"), 64 * 48)):
        network.untrained = untrained
        save(network, tmp_path / f"{name}.safetensors")
        path = train("base", data=STREET, out=tmp_path / name, init=tmp_path / f"{name}.safetensors", **SMALL)
        assert models.load(path).pixels == pixels


def test_folders_that_can_not_be_written_to_are_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="train: expected a folder to write to, got '.*file'"):
        train("base", data=STREET, out=tmp_path / "file", **SMALL)
    options = {"data": STREET, "out": tmp_path / "out", "init": "lite", "pixels": 64 * 48, **SMALL}
    with pytest.raises(ValueError, match="to keep deviations in, got '.*file/.*choose another by --bank"):
        train("selector", bank=tmp_path / "file", **options)


def test_a_base_network_knows_that_its_fast_track_is_untrained(tmp_path):
    options = {"data": STREET, "out": tmp_path, **SMALL}
    seen = {}
    for stage in ("base", "finetune", "propagation", "selector"):
        seen[stage] = models.load(train(stage, **options)).untrained
    assert "fusion" in seen["base"] and seen["finetune"] == seen["base"]
    assert seen["propagation"] == ("selector",) and seen["selector"] == ()


def test_weights_that_can_not_be_read_back_never_get_their_name(tiny, tmp_path, monkeypatch):
    written = finish.save

    def spoilt(network, path, **told):
        written(network, path, **told)
        network.pixels = 1

    monkeypatch.setattr(finish, "save", spoilt)
    with pytest.raises(RuntimeError, match="weights that say pixels=1, read back 3072"):
        train("base", data=STREET, out=tmp_path, network=tiny, **SMALL)
    monkeypatch.setattr(finish, "save", lambda network, path, **told: path.write_bytes(b"half"))
    with pytest.raises(RuntimeError, match="weights of tiny that can be read back, got load: expected safetensors"):
        train("base", data=STREET, out=tmp_path, network=tiny, **SMALL)
    assert [path.name for path in tmp_path.iterdir() if "safetensors" in path.name] == []


class Wide(LabelledImages):
    """Two labelled frames of 96x32 and one of 40x80, in a video."""

    classes, palette, split = CAMVID.names, CAMVID.palette, "train"
    videos = [range(3)]

    def __len__(self):
        return 3

    def image(self, index):
        height, width = (80, 40) if index == 2 else (32, 96)
        return torch.arange(3 * height * width).reshape(3, height, width).byte()

    def label(self, index):
        return self.image(index)[0] % 11


def test_every_stage_sees_one_working_size_with_the_frames_aspect(tiny, tmp_path, monkeypatch):
    seen = set()
    kind = type(models.build(tiny))
    lower = kind.lower
    monkeypatch.setattr("lowlat.lab.train.open_dataset", lambda spec, split: Wide())
    monkeypatch.setattr("lowlat.lab.train.stages.open_dataset", lambda spec, split: Wide())
    monkeypatch.setattr(kind, "lower", lambda self, x: seen.add(tuple(x.shape[2:])) or lower(self, x))
    # Crops have the working size of the first frame; each frame to validate on has its own.
    for name, sizes in (("base", {(16, 48), (40, 16)}), ("propagation", {(16, 48)}), ("selector", {(16, 48)})):
        options = {"validate": "it"} if name == "base" else {}
        train(name, data="it", out=tmp_path, network=tiny, pixels=48 * 16, **options, **SMALL)
        assert seen == sizes, name
        assert models.load(tmp_path / f"{name}.safetensors").pixels == 48 * 16
        seen.clear()
