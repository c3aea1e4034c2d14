"""Networks as torchvision and timm make them: their own names, and their own features."""

import pytest
import torch
from public import fill, normalised
from torchvision_library import timm, torchvision

from lowlat import models
from lowlat.lab.convert import convert


@pytest.mark.thorough
def test_torchvisions_resnet101(tmp_path):
    public = fill(torchvision.models.resnet101(weights=None, replace_stride_with_dilation=[False, True, True]).eval())
    torch.save(public.state_dict(), tmp_path / "r101.pth")
    stem = torch.nn.Sequential(public.conv1, public.bn1, public.relu, public.maxpool)
    layers = torch.nn.Sequential(stem, public.layer1, public.layer2, public.layer3, public.layer4)
    check(tmp_path / "r101.pth", layers, "layer4.2")


# timm's variant "d" averages without stride where it dilates; mmsegmentation's doesn't, and nor does `resnet101`. Up to
# the dilated layers they are the same.
@pytest.mark.parametrize(
    "name, last",
    [
        pytest.param("resnet101", "layer4.2", marks=pytest.mark.thorough),
        ("resnet101d", "layer2.3"),
        pytest.param("resnet101c", "layer4.2", marks=pytest.mark.thorough),
        pytest.param("resnet101s", "layer4.2", marks=pytest.mark.thorough),
    ],
)
def test_timms_resnet101s(tmp_path, name, last):
    public = fill(timm.create_model(name, pretrained=False, output_stride=8).eval())
    torch.save({"state_dict": public.state_dict()}, tmp_path / "r101.pth")

    def features(x):
        x = public.maxpool(public.act1(public.bn1(public.conv1(x))))
        for index in range(1, int(last[5]) + 1):
            x = getattr(public, f"layer{index}")(x)
        return x

    check(tmp_path / "r101.pth", features, last)


@torch.no_grad()
def check(checkpoint, features, last):
    report = convert(checkpoint, checkpoint.with_name("start.safetensors"))
    assert sorted(report.unused) == ["fc.bias", "fc.weight"]
    backbone = models.load(report.weights).backbone
    names = [name for name, _ in backbone.steps()]
    frames = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    want = features(normalised(frames))
    got = backbone.run(normalised(frames), names[: names.index(last) + 1])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * want.abs().max().item())
