"""The networks: shapes at the paper's sizes, public parameter names, folding, and the identities they rely on."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lowlat import models
from lowlat.lab.train.per_frame import remove_class_weights
from lowlat.lab.train.start import load_imagenet, load_imagenet_lite0
from lowlat.lab.weights import save
from lowlat.networks.backbone import run_chain
from lowlat.networks.efficientnet_lite import EfficientNetLite0, deinterlace, interlace
from lowlat.networks.fast_track import KernelPredictor, KeyFrameSelector, MatchingPredictor
from lowlat.networks.layers import fold_batch_norms
from lowlat.networks.resnet import ResNet101
from lowlat.runtime.stages import working_size
from svconv import svconv2d


def randomise_norms(network):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return randomise_norms(models.build("lite"))


@pytest.mark.parametrize(
    "height, width, low", [(713, 713, (90, 90)), (1024, 2048, (128, 256))], ids=["713x713", "1024x2048"]
)
def test_resnet101_has_the_papers_shapes(height, width, low):
    with torch.device("meta"):
        network = models.build("resnet101").eval()
        frames = torch.empty(1, 3, height, width)
    f_l = network.lower(frames)
    assert f_l.shape == (1, 1024, *low)
    f_h = network.higher(f_l)
    assert f_h.shape == (1, 512, *low)
    assert network.classify(f_h).shape == (1, 19, *low)
    reduced = network.reduce(f_l)
    assert [tuple(part.shape) for part in reduced] == [(1, 256, *low)] * 3
    anchor = network.anchor(reduced)
    assert network.predictor(anchor.predict, reduced.predict).shape == (1, 81, *low)
    propagated = network.propagate(anchor, f_h, reduced)
    assert propagated.shape == f_h.shape
    scores, carried = network.fuse(propagated, reduced)
    assert scores.shape == (1, 19, *low)
    assert carried is propagated, "as published: F_h goes on as it was before fusion"
    assert network.deviation(anchor, reduced).shape == (1,)


def torchvision_resnet101_names():
    """Return the names in torchvision's resnet101 state dict, written out from its architecture."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["conv1.weight", *(f"bn1.{n}" for n in norm)]
    for layer, blocks in enumerate((3, 4, 23, 3), start=1):
        for block in range(blocks):
            for conv in (1, 2, 3):
                names.append(f"layer{layer}.{block}.conv{conv}.weight")
                names += [f"layer{layer}.{block}.bn{conv}.{n}" for n in norm]
            if block == 0:
                names.append(f"layer{layer}.0.downsample.0.weight")
                names += [f"layer{layer}.0.downsample.1.{n}" for n in norm]
    return names


def test_resnet101_loads_torchvisions_names_strictly():
    with torch.device("meta"):
        state = ResNet101().state_dict()
    assert set(state) == set(torchvision_resnet101_names())
    assert len(state) + 2 == 626  # torchvision's, with fc.weight and fc.bias
    assert state["layer3.0.downsample.0.weight"].shape == (1024, 512, 1, 1)
    assert state["layer4.2.conv2.weight"].shape == (512, 512, 3, 3)

    backbone = ResNet101()
    public = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in state.items()}
    public |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    load_imagenet(backbone, public)
    assert backbone.conv1.weight.abs().sum() == 0
    with pytest.raises(RuntimeError, match="Missing key"):
        load_imagenet(backbone, {name: value for name, value in public.items() if name != "bn1.bias"})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_imagenet(backbone, {**public, "surprise": torch.zeros(1)})


def test_lite_loads_the_packaged_imagenet_weights():
    network = models.build("lite")
    before = network.backbone._conv_stem.weight.clone()
    load_imagenet_lite0(network)
    assert not torch.equal(before, network.backbone._conv_stem.weight)


@pytest.mark.parametrize("height, width", [(360, 480), (272, 640), (97, 131)])
def test_lite_keeps_one_feature_size_at_any_frame_size(lite, height, width):
    with torch.no_grad():
        low = lite.lower(torch.randn(1, 3, height, width))
        high = lite.higher(low)
        fused = lite.fuse(high, lite.reduce(low))
        scores = lite.classify(high), fused.scores
    h, w = -(-height // 8), -(-width // 8)
    assert low.shape == (1, 72, h, w) and high.shape == fused.high.shape == (1, 128 + 72, h, w)
    # F_h ends with the F_l of its own frame, which the classifier reads.
    assert torch.equal(high[:, 128:], low) and torch.equal(fused.high[:, 128:], low)
    assert [tuple(each.shape) for each in scores] == [(1, 11, 2 * h, 2 * w)] * 2


@pytest.mark.parametrize("name, size", [("lite", (90, 120)), ("lite", (97, 131)), ("resnet101", (64, 96))])
def test_s_h_link_by_link_is_s_h(name, size):
    torch.manual_seed(4)
    network = randomise_norms(models.build(name))
    with torch.no_grad():
        low = network.lower(torch.randn(1, 3, *size))
        x = low
        for run in network.higher_chain():
            x = run(x, low)
        expected = F.interpolate(
            network.head(run_chain(network.backbone.higher_chain(), low)), low.shape[-2:], mode="bilinear"
        )
        if name == "lite":
            expected = torch.cat((expected, low), 1)
        torch.testing.assert_close(x, expected)
        assert torch.equal(network.higher(low), x)


def test_an_unknown_split_names_the_steps_there_are():
    with pytest.raises(ValueError, match=r"split among stem, blocks\.0.*got 'conv4_3'"):
        EfficientNetLite0(split="conv4_3")
    with pytest.raises(ValueError, match="output_stride 8, 16 or 32, got 4"):
        EfficientNetLite0(output_stride=4)
    with pytest.raises(ValueError, match=r"among blocks\.3, blocks\.4 with detail, got 'blocks\.2'"):
        EfficientNetLite0(split="blocks.2", detail=8)


@pytest.mark.parametrize("height, width", [(64, 96), (97, 131)])
def test_f_l_ends_with_the_detail_of_stride_4(lite, height, width):
    backbone, x = lite.backbone, torch.randn(1, 3, height, width)
    with torch.no_grad():
        low = backbone.lower(x)
        fine = backbone.detail.project(backbone.run(x, ["stem", "blocks.0", "blocks.1", "blocks.2"]))
        coarse = backbone.run(x, backbone.lower_names)
    assert torch.equal(low[:, :40], coarse)
    detail = F.pixel_shuffle(low[:, 40:], 2)[..., : fine.shape[-2], : fine.shape[-1]]
    torch.testing.assert_close(detail, fine)


def test_the_rest_of_the_backbone_does_not_see_the_detail(lite):
    low = torch.randn(1, 72, 12, 20)
    other = torch.cat((low[:, :40], torch.randn(1, 32, 12, 20)), 1)
    with torch.no_grad():
        assert torch.equal(run_chain(lite.backbone.higher_chain(), low), run_chain(lite.backbone.higher_chain(), other))
        assert not torch.equal(lite.higher(low), lite.higher(other))


def test_finer_scores_lie_where_they_belong(lite):
    network = copy.deepcopy(lite)
    network.smooth = False
    torch.nn.init.zeros_(network.classifier.weight)
    # The scores of class 3: one number for each place in a position.
    with torch.no_grad():
        network.classifier.bias.copy_(torch.arange(44.0))
        scores = network.classify(torch.randn(1, 200, 2, 3))[0, 3]
    assert torch.equal(scores, torch.tensor([[12.0, 13.0], [14.0, 15.0]]).repeat(2, 3))


def test_class_weights_are_taken_out_of_every_finer_score(lite):
    network, weights = copy.deepcopy(lite), torch.rand(11) + 0.5
    high = torch.randn(1, 200, 4, 5)
    with torch.no_grad():
        before = network.classify(high)
        remove_class_weights(network.classifier, weights)
        torch.testing.assert_close(network.classify(high), before - weights.log().view(-1, 1, 1))


def test_a_split_cuts_the_chain_without_changing_it(lite):
    x = torch.randn(1, 3, 64, 96)
    backbone = EfficientNetLite0().eval()
    with torch.no_grad():
        whole = run_chain(backbone.higher_chain(), backbone.lower(x))
        backbone.set_split("blocks.2")
        assert backbone.lower(x).shape[1] == backbone.low_channels == 24
        torch.testing.assert_close(run_chain(backbone.higher_chain(), backbone.lower(x)), whole)


@pytest.mark.parametrize("ratio", [2, 4])
def test_deinterlaced_convolution_is_dilated_convolution(ratio):
    x, weight = torch.randn(2, 6, 24, 32), torch.randn(6, 1, 5, 5)
    assert torch.equal(interlace(deinterlace(x, ratio), ratio), x)
    expected = F.conv2d(x, weight, padding=2 * ratio, dilation=ratio, groups=6)
    ours = interlace(F.conv2d(deinterlace(x, ratio), weight, padding=2, groups=6), ratio)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_output_stride_8_holds_what_output_stride_16_sees(lite):
    coarse = EfficientNetLite0(16, detail=8).eval()
    coarse.load_state_dict(lite.backbone.state_dict())
    low = torch.randn(1, 72, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            run_chain(lite.backbone.higher_chain(), low)[..., ::2, ::2],
            run_chain(coarse.higher_chain(), low),
            rtol=1e-3,
            atol=1e-3,
        )


@pytest.mark.parametrize("name", ["lite", "resnet101"])
def test_folding_batch_norms_keeps_every_output(name):
    torch.manual_seed(1)
    network = randomise_norms(models.build(name))
    folded = fold_batch_norms(copy.deepcopy(network))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for net in (network, folded):
            low = net.lower(x)
            high, reduced = net.higher(low), net.reduce(low)
            net.seen = (low, high, *reduced, net.classify(high), *net.fuse(high, reduced))
    for before, after in zip(network.seen, folded.seen, strict=True):
        scale = before.abs().max()
        torch.testing.assert_close(after / scale, before / scale, rtol=1e-3, atol=1e-4)


def test_the_predictors_halves_are_one_convolution_over_the_pair():
    predictor = KernelPredictor(8, 9)
    key, current = torch.randn(1, 8, 12, 10), torch.randn(1, 8, 12, 10)
    weight = torch.cat((predictor.from_key.weight, predictor.from_current.weight), 1)
    joint = F.conv2d(torch.cat((key, current), 1), weight, predictor.from_current.bias, padding=1)
    expected = predictor.to_logits(torch.relu(joint))
    torch.testing.assert_close(predictor(predictor.from_key(key), current), expected)


def test_a_matching_predictor_brings_features_that_have_moved():
    torch.manual_seed(0)
    predictor = MatchingPredictor(16, 9)
    predictor.reset_parameters()
    torch.nn.init.zeros_(predictor.to_logits.bias)
    torch.nn.init.zeros_(predictor.to_logits.weight)
    predictor.log_scale.data.fill_(6.0)
    key, high = torch.randn(1, 16, 20, 24), torch.randn(1, 6, 20, 24)
    with torch.no_grad():
        logits = predictor(predictor.from_key(key), key.roll((3, -4), (2, 3)))
    brought = svconv2d(high, logits, kernel_size=9, padding_mode="renormalize")
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(brought[inside], high.roll((3, -4), (2, 3))[inside], atol=1e-2, rtol=0)


def test_an_untrained_fusion_that_corrects_is_the_key_frames_classifier():
    torch.manual_seed(2)
    network = models.build("lite").eval()
    assert network.correct
    low, high = torch.randn(1, 72, 12, 20), torch.randn(1, 200, 12, 20)
    own = torch.cat((high[:, :128], low), 1)  # what is carried ends with F_l of the frame that it is carried to
    with torch.no_grad():
        scores, carried = network.fuse(high, network.reduce(low))
        torch.testing.assert_close(scores, network.classify(own))
        torch.testing.assert_close(carried, own)


def test_half_of_a_correction_is_carried_on(tiny_matching_network):
    network = tiny_matching_network
    low, high = torch.randn(1, 12, 9, 13), torch.randn(1, 16 + 12, 9, 13)
    own = torch.cat((high[:, :16], low), 1)
    with torch.no_grad():
        scores, carried = network.fuse(high, network.reduce(low))
        assert not torch.allclose(carried, own)
        torch.testing.assert_close(scores, network.classify(own + 2 * (carried - own)))


def test_an_untrained_predictor_leaves_features_where_they_are():
    torch.manual_seed(2)
    network = models.build("lite").eval()
    low, high = torch.randn(1, 72, 12, 20), torch.randn(1, 128, 12, 20)
    with torch.no_grad():
        reduced = network.reduce(low)
        propagated = network.propagate(network.anchor(reduced), high, reduced)
    moved = (propagated - high).norm() / high.norm()
    assert moved < 0.6, "a box blur would move them by about 1"


def test_an_untrained_selector_starts_where_its_sigmoid_learns():
    selector = KeyFrameSelector(8)
    key, current = torch.randn(2, 3, 8, 12, 10)
    torch.testing.assert_close(selector(key, 50 * current), torch.full((3,), 0.1))


def test_deviation_is_a_share_and_follows_the_change(lite):
    torch.nn.init.normal_(lite.selector.fc.weight)
    with torch.no_grad():
        a, b = lite.reduce(torch.randn(2, 72, 12, 20)), lite.reduce(torch.randn(2, 72, 12, 20))
        same, other = lite.deviation(lite.anchor(a), a), lite.deviation(lite.anchor(a), b)
    assert same.shape == other.shape == (2,)
    assert torch.allclose(same[0], same[1]), "equal frames have one deviation, whatever they show"
    assert not torch.allclose(same, other) and (other >= 0).all() and (other <= 1).all()


def test_weights_survive_saving_and_loading(lite, tmp_path):
    lite.threshold = 0.125
    save(lite, tmp_path / "a" / "net.safetensors", data="none")
    loaded = models.load(tmp_path / "a" / "net.safetensors")
    assert loaded.threshold == 0.125 and not loaded.training
    for name, value in lite.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(loaded.state_dict()[name], expected), name
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize("pixels, multiple", [(640 * 352, 32), (None, 8)])
def test_the_working_size_travels_with_the_weights(lite, tmp_path, pixels, multiple):
    network = copy.deepcopy(lite)
    network.pixels, network.multiple = pixels, multiple
    save(network, tmp_path / "net.safetensors")
    loaded = models.load(tmp_path / "net.safetensors")
    assert (loaded.pixels, loaded.multiple) == (pixels, multiple)
    height, width = working_size(1080, 1920, loaded.pixels, loaded.multiple)
    assert (height, width) == ((352, 640) if pixels else (1080, 1920))


def test_the_shipped_network_works_at_480x360():
    _, metadata = models.read_safetensors(models.find("lite"))
    assert (metadata["pixels"], metadata["multiple"]) == ("172800", "8")


@pytest.mark.parametrize("name, words", [("pixels", "0"), ("pixels", "many"), ("multiple", "None"), ("multiple", "-8")])
def test_a_working_size_that_is_none_is_refused(lite, tmp_path, name, words):
    save(lite, tmp_path / "net.safetensors", **{name: words})
    with pytest.raises(ValueError, match=f"load: expected {name} as a whole number from 1 up .*got '{words}'; save"):
        models.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("height, width", [(360, 480), (1080, 1920), (1920, 1080), (272, 640), (7, 5000), (3, 3)])
def test_the_working_size_keeps_the_aspect_and_the_pixels(height, width):
    h, w = working_size(height, width, 172800, 8)
    assert h % 8 == w % 8 == 0 and h > 0 and w > 0
    if min(h, w) > 100:
        assert h * w == pytest.approx(172800, rel=0.03) and w / h == pytest.approx(width / height, rel=0.03)


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="shipped network.*got '.*nothing'"):
        models.load(tmp_path / "nothing")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="broken.safetensors, which can't be read: .*; copy it again"):
        models.load(broken)
    broken.rename(tmp_path / "broken.pth")
    with pytest.raises(ValueError, match="broken.pth, which can't be read: .*; lowlat convert takes others"):
        models.load(tmp_path / "broken.pth")
    save_file({"conv1.weight": torch.zeros(2)}, broken, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights that name a network, got .*broken.*; lowlat convert takes others"):
        models.load(broken)
    older = models.build("lite")
    del older.predictor.describe
    save(older, tmp_path / "older.safetensors")
    with pytest.raises(ValueError, match="(?s)of lite as it is built now.*predictor.describe.*train it again"):
        models.load(tmp_path / "older.safetensors")
    with pytest.raises(ValueError, match="among lite, resnet101.*got 'vgg'"):
        models.build("vgg")


def test_weights_that_are_not_there_are_told_as_such(tmp_path):
    with pytest.raises(
        ValueError, match=r"a file of weights, found none at no/net\.safetensors; check the path, or train"
    ):
        models.load("no/net.safetensors")
    with pytest.raises(ValueError, match=r"\(lite\), package.module:function or a .safetensors file, got 'mynet'"):
        models.load("mynet")
    with pytest.raises(ValueError, match=r"\(lite\) or a .safetensors file, got 'mynet'"):
        models.find("mynet")
    with pytest.raises(ValueError, match="got '.*', a folder; name a file in it"):
        models.load(tmp_path)


@pytest.mark.parametrize("name", ["distill.pt", "distill.best.pt"])
def test_a_checkpoint_is_told_from_weights(tmp_path, name):
    (tmp_path / "distill.jsonl").touch()
    torch.save({"modules": {}}, tmp_path / name)
    with pytest.raises(ValueError, match="got .*pt, a training's checkpoint; give the .safetensors there"):
        models.load(tmp_path / name)


@pytest.mark.parametrize("left", [0, 7, 12, 400_000])
def test_a_file_that_is_cut_off_is_told_as_such(tmp_path, left):
    whole = (models.WEIGHTS / "lite.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(whole[:left])
    of = len(whole) if left == 400_000 else r"\d+"
    with pytest.raises(ValueError, match=rf"is cut off: it has {left} of {of} bytes.*; copy it again"):
        models.load(tmp_path / "net.safetensors")
