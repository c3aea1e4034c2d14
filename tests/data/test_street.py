"""The procedural street: repeatable, of any size, labels and flow exact."""

import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lowlat.classes import CAMVID
from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.street import Street
from lowlat.lab.data.street.atlas import atlas

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def street():
    return Street(seed=3, size=(120, 160), frames=400)


def warped(before, flow):
    """``before`` (..., H, W) at the pixel nearest to p + flow, the border's outside."""
    height, width = flow.shape[1:]
    x = (torch.arange(width) + flow[0]).round().long().clamp(0, width - 1)
    y = (torch.arange(height)[:, None] + flow[1]).round().long().clamp(0, height - 1)
    return before[..., y, x]


def test_flow_carries_labels_and_colours_from_the_frame_before(street):
    pixels = right = 0
    for index in (1, 20, 60, 90, 130, 200, 290, 399):
        visible = street.visible(index)
        assert visible.float().mean() > 0.6
        flow = street.flow(index)
        assert flow.dtype == torch.float32 and flow.isfinite().all()
        carried = warped(street.label(index - 1), flow)
        right += (carried == street.label(index))[visible].sum().item()
        pixels += visible.sum().item()
        colours = warped(street.image(index - 1), flow).float()
        assert (colours - street.image(index)).abs().mean(0)[visible].median() < 6
        assert flow.norm(dim=0)[visible].max() > 0.5, "nothing moves"
    assert right / pixels > 0.995


def test_the_flow_is_more_than_the_nearest_pixel(street):
    """Bilinear sampling along the exact flow comes closer than without motion, several times."""
    index = 60
    grid = torch.stack(torch.meshgrid(torch.arange(160.0), torch.arange(120.0), indexing="xy"))
    place = (grid + street.flow(index)).permute(1, 2, 0)
    place = 2 * place / torch.tensor([159.0, 119.0]) - 1
    before, now = (street.image(i).float() for i in (index - 1, index))
    carried = torch.nn.functional.grid_sample(before[None], place[None], align_corners=True)[0]
    visible = street.visible(index)
    assert (carried - now).abs().mean(0)[visible].mean() < 0.5 * (before - now).abs().mean(0)[visible].mean()


@pytest.mark.parametrize("index", [0, 57, 150])
def test_a_frame_follows_from_seed_index_and_size_alone(street, index):
    """This holds in any order, and for another instance of another length."""
    again = Street(seed=3, size=(120, 160), frames=151)
    again.image(index // 2)
    assert torch.equal(street.image(index), again.image(index))
    assert torch.equal(street.label(index), again.label(index))
    assert torch.equal(street.flow(index), again.flow(index))
    assert torch.equal(street.visible(index), again.visible(index))
    for other in (Street(seed=4, size=(120, 160)), Street(seed=3, size=(120, 160), split="val")):
        assert not torch.equal(street.image(index), other.image(index))


def test_every_class_occurs_and_none_beyond(street):
    counts = torch.zeros(256, dtype=torch.long)
    for index in range(0, 400, 20):
        counts += torch.bincount(street.label(index).flatten().long(), minlength=256)
    shares = counts[: len(CAMVID.names)] / counts.sum()
    assert counts[len(CAMVID.names) :].sum() == 0
    assert (shares > 0.0005).all(), dict(zip(CAMVID.names, shares.tolist(), strict=True))


def test_cuts_part_the_videos_and_know_no_flow(street):
    assert len(street.videos) > 2 and [v.start for v in street.videos[1:]] == [v.stop for v in street.videos[:-1]]
    assert street.videos[0].start == 0 and len(street) == street.videos[-1].stop == 400
    for cut in [video.start for video in street.videos]:
        assert not street.visible(cut).any() and not street.flow(cut).any()
    cut = street.videos[1].start

    def change(index):
        return (street.image(index).float() - street.image(index - 1).float()).abs().mean()

    assert change(cut) > 2 * max(change(cut - 1), change(cut + 1))


def test_the_light_changes_from_scene_to_scene(street):
    levels = [street.image(video.start + 5).float().mean().item() for video in street.videos]
    assert max(levels) / min(levels) > 1.1


def test_the_light_changes_within_a_scene():
    """The same places, carried along by the flow, get brighter and darker."""
    street = Street(seed=3, size=(24, 32), frames=60)
    brightness = [0.0]
    for index in range(1, 60):
        visible = street.visible(index)
        before, now = warped(street.image(index - 1), street.flow(index)), street.image(index)
        ratio = now[:, visible].float().mean() / before[:, visible].float().mean()
        brightness.append(brightness[-1] + ratio.log().item())
    assert max(brightness) - min(brightness) > 0.05


def test_what_lies_on_the_ground_is_road_up_to_the_kerb(street):
    """The ground is found here by rays from the camera."""
    index, (height, width) = 200, street.size
    scene, time = street._at(index)
    camera = scene.drive.at(time, street.size)
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    rays = np.stack((x, y, np.full_like(x, camera.focal)), -1) @ camera.rotation
    with np.errstate(divide="ignore", invalid="ignore"):
        places = camera.eye + rays * (-camera.eye[1] / rays[..., 1:2])
    middle = np.abs(places - 64 * np.round(places / 64))
    road = (middle[..., 0] < 5.6) | (middle[..., 2] < 5.6)
    label = street.label(index).numpy()
    ground = np.isin(label, [CAMVID.names.index("road"), CAMVID.names.index("pavement")])
    assert ground.mean() > 0.3 and (label == CAMVID.names.index("pavement")).sum() > 50
    assert np.mean((label == CAMVID.names.index("road"))[ground] == road[ground]) > 0.999


def test_every_surface_has_the_class_of_what_it_shows(street):
    shows = {
        "facade": "building", "wall": "building", "tree": "tree", "fence": "fence", "pole": "pole", "arm": "pole",
        "sign": "sign", "hatchback": "car", "saloon": "car", "van": "car", "person": "pedestrian",
        "rider": "bicyclist", "ground": "road", "clouds": "sky",
    }  # fmt: skip
    quads = street._at(200)[0].quads
    names = [re.match("[a-z]+", name)[0] for name in atlas().number]
    found = {(names[texture], CAMVID.names[kind]) for texture, kind in zip(quads.texture, quads.kind, strict=True)}
    assert found - {("leg", "pedestrian"), ("leg", "bicyclist")} == set(shows.items())


@pytest.mark.parametrize("height, width", [(61, 97), (256, 64), (16, 16)])
def test_any_size(height, width):
    street = Street(seed=1, size=(height, width), frames=30)
    assert street.image(7).shape == (3, height, width) and street.image(7).dtype == torch.uint8
    assert street.label(7).shape == (height, width)
    assert street.flow(7).shape == (2, height, width)
    assert street.visible(7).float().mean() > 0.5
    # The same world: a smaller picture is the larger one seen from the same place.
    assert {0, 3} <= set(street.label(7).unique().tolist())


def test_open_by_name():
    street = open_dataset("street:97x61,seed=5,frames=40", "val")
    assert (street.size, street.seed, len(street), street.split) == ((61, 97), 5, 40, "val")
    assert len(open_dataset("street:", "train")) > 0
    for spec in ("street:97", "street:97x61,sed=5", "street:97x61,seed=five"):
        with pytest.raises(ValueError, match="street:480x360,seed=0,frames=600"):
            open_dataset(spec, "val")
    with pytest.raises(ValueError, match="train, val, test"):
        Street(split="trainval")
    with pytest.raises(ValueError, match="at least 16 pixels, got 8x40"):
        Street(size=(40, 8))
    with pytest.raises(ValueError, match="frames=0"):
        Street(frames=0)
    with pytest.raises(IndexError, match="0 to 39, got 40"):
        street.image(40)


def test_a_turn_turns_and_parallax_is_there():
    """Some scene sweeps the sky sideways; near things move more than far ones in every scene."""
    street = Street(seed=0, size=(60, 80), frames=600)
    sideways = [street.flow(index)[0][street.label(index) == 0].abs().median().item() for index in range(5, 600, 15)]
    assert np.nanmax(sideways) > 1.5
    near = street.flow(40)[:, -3:].norm(dim=0).median()
    far = street.flow(40)[:, 28:32].norm(dim=0).median()
    assert near > 3 * far


def test_the_camera_keeps_to_the_road_and_out_of_houses():
    """In every frame of many scenes, turns among them, road lies ahead and nothing fills the picture."""
    for seed in range(4):
        street = Street(seed=seed, size=(24, 32), frames=600)
        for index in range(0, 600, 12):
            label = street.label(index)
            assert (label == CAMVID.names.index("road")).float().mean() > 0.12, (seed, index)
            assert torch.bincount(label.flatten().long()).max() < 0.8 * label.numel(), (seed, index)


def test_threads_get_the_frames_that_one_would(monkeypatch):
    # Frames drawn in no time: threads meet where frames are held, not where they are drawn.
    monkeypatch.setattr("lowlat.lab.data.street.street.look", lambda quads, time, camera: time)
    monkeypatch.setattr("lowlat.lab.data.street.street.labels", lambda time, quads: np.array(time))
    street = Street(size=(16, 16), frames=60)
    wanted = random.Random(0).choices(range(60), k=4000)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            drawn = list(pool.map(street.label, wanted))
    finally:
        sys.setswitchinterval(interval)
    assert [round(time.item() * street.fps) for time in drawn] == wanted
