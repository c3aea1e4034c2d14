"""`lowlat convert`: a public checkpoint gives a network with the same scores, and nothing else goes through."""

import json
import os
import pickle

import pytest
import torch
from public import MMSegmentation, ResNet, Semseg, SemsegResNet, filled, normalised
from safetensors.torch import save_file
from typer.testing import CliRunner

from lowlat import models
from lowlat.cli import app
from lowlat.lab.convert import convert
from lowlat.lab.convert.checkpoint import read
from lowlat.lab.data import cityscapes
from lowlat.networks.backbone import run_chain
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import Reduced

CONFIG = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(
        type='ResNetV1c', depth=101, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1), norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True),
    decode_head=dict(
        type='PSPHead', in_channels=2048, in_index=3, channels=512, pool_scales=(1, 2, 3, 6), dropout_ratio=0.1,
        num_classes=19, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    test_cfg=dict(mode='whole'))
print('never run')
"""


def frame(height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def assert_same_scores(network, public, frames):
    seen = frames[..., 3:-4, 3:-4] if network.align_corners else frames
    got, want = network(network.normalise(frames)), public(normalised(seen))
    scale = want.abs().max()
    torch.testing.assert_close(got / scale, want / scale, rtol=0, atol=1e-5)
    assert (want.argmax(1) == got.argmax(1)).float().mean() > 0.999


@torch.no_grad()
def assert_fusion_starts_at_the_classifier(network):
    high, adapt = torch.randn(1, 512, 9, 12), torch.randn(1, 256, 9, 12)
    fused, want = network.fuse(high, Reduced(adapt, adapt, adapt)), network.classify(high)
    torch.testing.assert_close(fused.scores, want, rtol=0, atol=1e-4 * want.abs().max().item())


def names_of(module):
    return [name for name in module.state_dict()]


def test_mmsegmentations_pspnet_gives_the_same_scores(tmp_path):
    public = filled(MMSegmentation)
    meta = {"CLASSES": cityscapes.CLASSES, "PALETTE": [list(colour) for colour in cityscapes.PALETTE]}
    torch.save({"meta": {**meta, "config": CONFIG}, "state_dict": public.state_dict()}, tmp_path / "psp.pth")
    report = convert(tmp_path / "psp.pth", tmp_path / "psp.safetensors")

    auxiliary = [name for name in names_of(public) if name.startswith("auxiliary_head.")]
    assert sorted(report.unused) == sorted(auxiliary) and len(auxiliary) == 8
    assert report.used + len(report.unused) == len(names_of(public))
    assert report.options == {"deep_stem": [32, 64]} and report.assumed == []
    assert report.untrained == ["reduction", "predictor", "adapt", "fusion", "selector"]
    network = models.load(tmp_path / "psp.safetensors")
    assert network.legend.names == cityscapes.CLASSES and network.legend.palette == cityscapes.PALETTE
    assert network.untrained == tuple(report.untrained) and network.name == "resnet101"
    assert_same_scores(network, public, frame(64, 96))
    assert_fusion_starts_at_the_classifier(network)


@pytest.mark.parametrize("plain", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_semsegs_pspnet_gives_the_same_scores(tmp_path, plain):
    public = filled(Semseg, plain=plain)
    state = {f"module.{name}": tensor for name, tensor in public.state_dict().items()}
    torch.save({"epoch": 200, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "psp.pth")
    rows = [f"{index},class of {index},{index},0,255" for index in range(11)]
    (tmp_path / "classes.csv").write_text("\n".join(["index,name,r,g,b", *rows]) + "\n")
    words = ["convert", tmp_path / "psp.pth", "-o", tmp_path / "psp.safetensors", "--classes", tmp_path / "classes.csv"]
    result = CliRunner().invoke(app, [*map(str, words), "--json", "--size", "1024x512"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)

    assert all(name.startswith("aux.") for name in report["unused"]) and len(report["unused"]) == 8
    assert report["used"] + len(report["unused"]) == len(state)
    stem = {} if plain else {"deep_stem": [64, 128]}
    assert report["options"] == {**stem, "contract": False, "align_corners": True}
    network = models.load(tmp_path / "psp.safetensors")
    assert network.legend.names[3] == report["classes"][3] == "class of 3"
    assert network.legend.palette[10] == (10, 0, 255)
    assert network.pixels == report["pixels"] == 1024 * 512
    frames = frame(72, 104)
    # Its authors' code takes images of sides 8 k + 1, and gives scores of an image's size.
    want = public(normalised(frames[..., 3:-4, 3:-4])).argmax(1)
    public.forward = public.scores
    assert_same_scores(network, public, frames)
    got = full_size_labels(network(network.normalise(frames)), frames.shape[-2:])
    places = {shift: got[:, 3 + shift : 68 + shift, 3 + shift : 100 + shift] for shift in (-1, 0, 1, 2)}
    same = {shift: (labels == want).float().mean().item() for shift, labels in places.items()}
    # Half a pixel lies between the two: as many labels are the same at either place beside it.
    assert min(same[0], same[1]) > 0.94 and abs(same[0] - same[1]) < 0.01 and abs(same[-1] - same[2]) < 0.01, same


@pytest.mark.thorough
@pytest.mark.parametrize(
    "made, options",
    [
        ({"stem": None}, {}),
        ({"pool": True, "align_corners": True}, {"deep_stem": [32, 64], "pool": True, "align_corners": True}),
    ],
    ids=["plain stem", "v1d"],
)
def test_variants_of_mmsegmentation_give_the_same_scores(tmp_path, made, options):
    public = filled(MMSegmentation, classes=7, **made)
    config = CONFIG.replace("align_corners=False", f"align_corners={made.get('align_corners', False)}")
    kind = "ResNetV1d" if "pool" in made else "ResNet"
    meta = {"dataset_meta": {"classes": list("abcdefg")}, "cfg": config.replace("ResNetV1c", kind)}
    torch.save({"meta": meta, "state_dict": public.state_dict()}, tmp_path / "psp.pth")
    report = convert(tmp_path / "psp.pth", tmp_path / "psp.safetensors")
    assert report.options == options and report.classes == list("abcdefg")
    assert_same_scores(models.load(tmp_path / "psp.safetensors"), public, frame(61, 75))


def test_an_imagenet_backbone_gives_start_weights_with_the_same_features(tmp_path):
    public = filled(ResNet, imagenet=True)
    save_file(public.state_dict(), tmp_path / "r101.safetensors", metadata={"format": "pt"})
    report = convert(tmp_path / "r101.safetensors", tmp_path / "start.safetensors", classes="camvid", half=True)
    assert sorted(report.unused) == ["fc.bias", "fc.weight"] and report.used == 624
    assert report.untrained[:2] == ["head", "classifier"]
    network = models.load(tmp_path / "start.safetensors")
    assert network.classes == 11 and network.untrained == tuple(report.untrained)
    frames = normalised(frame(64, 64))
    with torch.no_grad():
        got, want = run_chain(network.backbone.higher_chain(), network.backbone.lower(frames)), public(frames)
    # Convolutions are kept in float16.
    assert (got - want).abs().max() < 0.02 * want.abs().max()
    assert (tmp_path / "start.safetensors").stat().st_size < 200e6


def test_the_backbone_that_semseg_starts_from_gives_the_same_features(tmp_path):
    public = filled(SemsegResNet)
    torch.save(public.state_dict(), tmp_path / "r101.pth")
    report = convert(tmp_path / "r101.pth", tmp_path / "start.safetensors")
    assert report.program == "ResNet-101 of semseg" and sorted(report.unused) == ["fc.bias", "fc.weight"]
    assert report.options == {"deep_stem": [64, 128], "contract": False, "align_corners": True}
    assert report.used + 2 == len(names_of(public)) and report.untrained[:2] == ["head", "classifier"]
    network = models.load(tmp_path / "start.safetensors")
    frames = normalised(frame(64, 96))
    with torch.no_grad():
        got, want = run_chain(network.backbone.higher_chain(), network.backbone.lower(frames)), public(frames)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * want.abs().max().item())


def shapes_of(make):
    """A state dict of the real names and shapes in no memory: one zero a tensor, wherever it is read."""
    with torch.device("meta"):
        public = make()
    return {name: torch.zeros((), dtype=each.dtype).expand(each.shape) for name, each in public.state_dict().items()}


@pytest.fixture(scope="module")
def semseg():
    return shapes_of(Semseg)


@pytest.fixture(scope="module")
def mmsegmentation():
    return shapes_of(MMSegmentation)


@pytest.fixture
def refused(tmp_path):
    """Converts what is given; it must be refused in one line, leaving no file. Gives the line."""

    def run(content, *words, name="checkpoint.pth", first="convert"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        result = CliRunner().invoke(app, ["convert", str(path), "-o", str(tmp_path / "out.safetensors"), *words])
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.count("\n") == 1 and result.stderr.startswith(f"lowlat: {first}: "), result.stderr
        assert [file.name for file in tmp_path.iterdir()] == [name] * (content is not None)
        return result.stderr

    return run


def test_missing_tensors_are_named(refused, semseg):
    less = {name: tensor for name, tensor in semseg.items() if name not in ("layer3.7.bn2.bias", "cls.1.running_var")}
    error = refused(less)
    assert "2 missing" in error and "backbone.layer3.7.bn2.bias" in error and "head.bottleneck.bn.running_var" in error


def test_tensors_without_a_place_are_named(refused, semseg, mmsegmentation):
    assert "others too: psa.attention.weight" in refused({**semseg, "psa.attention.weight": torch.zeros(1)})
    assert "layer3.23.conv1.weight" in refused({**semseg, "layer3.23.conv1.weight": torch.zeros(256, 1024, 1, 1)})
    strange = {**mmsegmentation, "neck.convs.0.weight": torch.zeros(1)}
    assert "neck.convs.0.weight" in refused({"state_dict": strange})


def test_another_architecture_is_named(refused, semseg):
    resnet50 = {
        name: each for name, each in semseg.items() if not (name[:7] == "layer3." and int(name.split(".")[1]) > 5)
    }
    assert "ResNet-34 or 50" in refused(resnet50)
    wide = {**semseg, "layer1.0.conv1.weight": torch.zeros(128, 128, 1, 1)}
    assert "layer1.0.conv1.weight of (128, 128, 1, 1) for (64, 128, 1, 1)" in refused(wide)
    assert "lowlat.adopt" in refused({"encoder.patch_embed.weight": torch.zeros(3)})


def test_numbers_that_are_not_finite_are_refused(refused, semseg):
    broken = semseg["layer2.0.conv1.weight"].clone()
    broken[0, 0] = float("nan")
    assert "layer2.0.conv1.weight" in refused({**semseg, "layer2.0.conv1.weight": broken})


def test_two_tensors_of_one_place_are_refused(refused, mmsegmentation):
    doubled = {**mmsegmentation, "backbone.conv1.0.weight": mmsegmentation["backbone.stem.0.weight"].clone()}
    assert "those of one place twice: backbone.stem.0.weight" in refused(doubled)


def test_numbers_that_are_too_large_for_float32_are_refused(refused, semseg):
    huge = torch.full(semseg["layer1.0.conv1.weight"].shape, 1e300, dtype=torch.float64)
    assert "finite numbers, got others in layer1.0.conv1.weight" in refused({**semseg, "layer1.0.conv1.weight": huge})


def test_a_variance_below_zero_is_refused(refused, semseg):
    broken = semseg["cls.1.running_var"].clone()
    broken[3] = -1
    assert "variances of at least 0, got lower ones in cls.1.running_var" in refused(
        {**semseg, "cls.1.running_var": broken}
    )


@pytest.mark.parametrize(
    "tensor, words",
    [
        (torch.zeros(11).to_sparse(), "of torch.float32 torch.sparse_coo on cpu"),
        (torch.zeros(11, device="meta"), "of torch.float32 on meta"),
        (torch.zeros(11, dtype=torch.complex64), "of torch.complex64 on cpu"),
        (torch.zeros(11, dtype=torch.int8), "of torch.int8 on cpu"),
    ],
)
def test_tensors_of_other_kinds_are_refused(refused, tensor, words):
    assert f"got 'cls.4.bias' {words}; save the weights in float32" in refused({"cls.4.bias": tensor})


@pytest.mark.parametrize("output", ["checkpoint.pth", "."])
def test_an_output_that_is_there_otherwise_is_refused(tmp_path, semseg, output):
    torch.save(semseg, tmp_path / "checkpoint.pth")
    before = (tmp_path / "checkpoint.pth").read_bytes()
    with pytest.raises(ValueError, match="convert: expected a new file to write, got the (checkpoint|folder) '.*-o"):
        convert(tmp_path / "checkpoint.pth", tmp_path / output)
    assert (tmp_path / "checkpoint.pth").read_bytes() == before


NAME, OTHERS = "conv1.weight", {"epoch": 9, "optimizer": {"state": {0: torch.zeros(3)}}}


@pytest.mark.parametrize(
    "content, beside",
    [
        ({NAME: 1.0}, ()),
        ({"state_dict": {NAME: 1.0}, **OTHERS}, ("epoch", "optimizer")),
        ({"meta": {}, "model": {f"module.{NAME}": 1.0}, "model_ema": {NAME: 2.0}}, ("model_ema",)),
        ({"state_dict_ema": {NAME: 1.0}, **OTHERS}, ("epoch", "optimizer")),
        ({"model_ema": {f"module.{NAME}": 1.0, "n_averaged": 7}}, ("n_averaged",)),
        ({f"module._orig_mod.{NAME}": 1.0}, ()),
        ({f"_orig_mod.module.{NAME}": 1.0}, ()),
    ],
)
def test_the_state_dict_is_found_and_all_beside_it_is_named(tmp_path, content, beside):
    def made(value):
        if isinstance(value, dict):
            return {key: made(one) for key, one in value.items()}
        return torch.as_tensor(value)

    torch.save(made(content), tmp_path / "it.pth")
    found = read(tmp_path / "it.pth")
    assert (found.state, found.beside) == ({NAME: torch.tensor(1.0)}, beside)


@pytest.mark.thorough
def test_half_precision_and_channels_last_give_the_same_scores(tmp_path):
    public = filled(Semseg).half().to(memory_format=torch.channels_last)
    torch.save({"model": public.state_dict(), "epoch": 3}, tmp_path / "psp.pth")
    report = convert(tmp_path / "psp.pth", tmp_path / "psp.safetensors")
    assert report.beside == ["epoch"]
    public.float().forward = public.scores
    assert_same_scores(models.load(tmp_path / "psp.safetensors"), public, frame(72, 104))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("taken",)


def test_a_pickle_that_wants_to_run_code_is_refused(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Malicious(), protocol=2), {"state_dict": {"conv1.weight": Malicious()}}):
        error = refused(content)
        assert "mkdir" in error and "nothing of it was run" in error and "torch.save(model.state_dict()" in error
        assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "found no file"),
        (b"", "can't be read"),
        (b"PK\x03\x04 cut off", "can't be read"),
        ({}, "state dict"),
        ([1, 2], "got list of 2"),
        ({"state_dict": {}}, "got dict of 0"),
        ({"modules": {}, "fixed": {}, "steps": 3}, "of lowlat train; give the .safetensors"),
        ({"epoch": 3, "weights": {"conv1.weight": torch.zeros(1)}}, "other things: epoch, weights"),
    ],
)
def test_files_that_hold_no_state_dict(refused, content, words):
    assert words in refused(content)


@pytest.mark.filterwarnings("ignore:.*TorchScript:UserWarning", "ignore:.*jit:DeprecationWarning")
def test_no_advice_to_run_what_is_in_a_file(refused, tmp_path_factory):
    """PyTorch gives it where its reader of pickles or of TorchScript's archives refuses a file."""
    script = tmp_path_factory.mktemp("script") / "it.pt"
    torch.jit.script(torch.nn.Conv2d(1, 1, 1)).save(script)
    for content, words in (
        (b"index,name,r,g,b\n", "(Unsupported operand 105); fetch it again"),
        (pickle.dumps({"a": 1}, protocol=0), "; fetch it again"),
        (script.read_bytes(), "with TorchScript archives"),
    ):
        error = refused(content)
        assert words in error and "PyTorch 2.6" not in error and "False" not in error and "trusted" not in error


def test_a_file_of_this_projects_own_is_refused(refused):
    content = models.find("lite").read_bytes()
    assert "holds lite" in refused(content, name="own.safetensors")


@pytest.mark.parametrize(
    "before, after, words",
    [
        ("style='pytorch'", "style='caffe'", "backbone.style to be pytorch"),
        ("depth=101", "depth=50", "backbone.depth to be 101"),
        ("dilations=(1, 1, 2, 4)", "dilations=(1, 1, 1, 2)", "backbone.dilations"),
        ("pool_scales=(1, 2, 3, 6)", "pool_scales=(1, 2, 4, 8)", "decode_head.pool_scales"),
        ("bgr_to_rgb=True", "bgr_to_rgb=False", "BGR"),
        ("'ResNetV1c', ", "'ResNetV1c', multi_grid=(1, 2, 4), ", "multi_grid"),
    ],
)
def test_a_configuration_of_another_network_is_refused(refused, mmsegmentation, before, after, words):
    assert before in CONFIG
    config = CONFIG.replace(before, after).replace("data_preprocessor=data_preprocessor,", "")
    assert words in refused({"state_dict": mmsegmentation, "meta": {"config": config}})


def test_classes_of_another_number_are_refused(refused, mmsegmentation):
    assert "19 classes, got 11" in refused({"state_dict": mmsegmentation}, "--classes", "camvid")
    assert "19 classes, got 2" in refused({"state_dict": mmsegmentation, "meta": {"CLASSES": ("a", "b")}})


def test_classes_that_cannot_be_read(refused, tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "classes.csv"
    assert "cityscapes or a file classes.csv" in refused({}, "--classes", "kitti")
    path.write_text("index,name,r,g,b\n0,loud,300,0,0\n")
    assert "0,loud,300,0,0" in refused({}, "--classes", str(path), first="read_classes")
