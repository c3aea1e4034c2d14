"""Networks of other libraries cut in two: the same scores, whatever crosses the cut, on each device of the engine."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from places import at

from lowlat import VideoSegmenter
from lowlat.adoption.checks import differ
from lowlat.networks.backbone import first_of
from lowlat.runtime.options import DEFAULT, Options, prepared
from lowlat.schedule import Every, PerFrame

pytestmark = pytest.mark.usefixtures("one_thread")


def full(network, size, scores):
    upsampled = network.plans.of_frames(size).upsampled
    return F.interpolate(scores, size, mode="bilinear", align_corners=False) if upsampled else scores


@torch.no_grad()
def test_the_parts_in_sequence_give_the_whole_networks_scores_at_any_size(adopted):
    _, entry, model, network = adopted
    sizes = list(network.plans._by_size)
    assert len(sizes) == 2 and entry.size in sizes
    for size in sizes:
        images = torch.randn(2, 3, *size)
        low = network.lower(images)
        crossing = (low,) if isinstance(low, torch.Tensor) else low
        tokens = len(crossing) > 1 and crossing[1].ndim == 3
        assert len(crossing) - tokens == entry.tensors
        high = network.higher(low)
        if size == entry.size:
            assert (*crossing[0].shape[1:],) == entry.low and (*high.shape[1:],) == entry.high
        scores = full(network, size, network.classify(high))
        expected = torch.cat([zoo.whole(model, image) for image in images.split(1)])
        assert not differ(scores, expected)
        assert differ(scores, expected.flip(0)), "two frames with the same scores"


@torch.no_grad()
def test_s_h_in_links_and_prepared_networks_give_the_same_scores(adopted):
    _, entry, _, network = adopted
    image = torch.randn(1, 3, *entry.size)
    expected = network(image)
    chain = network.higher_chain()
    assert len(chain) > 4
    low = state = network.lower(image)
    kept = [tensor.clone() for tensor in ((low,) if isinstance(low, torch.Tensor) else low)]
    for link in chain:
        state = link(state, low)
    assert torch.equal(network.classify(state), expected)
    assert all(torch.equal(a, b) for a, b in zip(kept, (low,) if isinstance(low, torch.Tensor) else low, strict=True))
    ready = prepared(network, DEFAULT)
    found = ready(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert torch.equal(network(image), expected), "preparing a copy has changed the network"
    half = prepared(network, Options(dtype="bfloat16"))(image.bfloat16())
    assert half.dtype == torch.bfloat16 and (half - expected).abs().max() < 0.1 * expected.abs().max()


@torch.no_grad()
def test_the_fast_track_fits(adopted):
    _, entry, _, network = adopted
    low = network.lower(torch.randn(2, 3, *entry.size))
    high = network.higher(low)
    reduced = network.reduce(low)
    assert torch.equal(network.reduce(first_of(low)).predict, reduced.predict)
    assert reduced.predict.shape[-2:] == high.shape[-2:]
    anchor = network.anchor(reduced)
    fused = network.fuse(network.propagate(anchor, high, reduced), reduced)
    assert fused.high.shape == high.shape and fused.scores.shape == network.classify(high).shape
    assert network.deviation(anchor, reduced).shape == (2,)


def test_the_live_engine_labels_key_frames_as_the_model_does(adopted):
    _, entry, model, network = adopted
    frames = zoo.frames(entry.size)
    with VideoSegmenter(network, policy=PerFrame(), mode="blocking", cores=1) as segmenter:
        labels = segmenter.step(frames[0]).labels
        assert segmenter.classes.names == tuple(zoo.CLASSES)
    image = network.normalise(torch.from_numpy(frames[0]).permute(2, 0, 1)[None])
    scores = F.interpolate(zoo.whole(model, image), entry.size, mode="bilinear", align_corners=False)
    assert np.mean(labels == scores.argmax(1)[0].numpy()) > 0.999
    with VideoSegmenter(network, policy=Every(3), cores=1) as segmenter:
        results = [segmenter.step(frame) for frame in frames]
        assert all(result.labels.shape == entry.size and result.error is None for result in results)


@pytest.mark.sample(2)
@pytest.mark.parametrize("isolation", ["priority", "segment"])
def test_the_engine_of_a_gpu_gives_the_labels_of_the_cpus(adopted, isolation):
    _, entry, _, network = adopted
    frames = zoo.frames(entry.size, 5)
    with VideoSegmenter(network, policy=Every(2), mode="blocking", cores=1) as segmenter:
        expected = [segmenter.step(frame) for frame in frames]
    for place in ("fake", "stand-in"):
        with at(place) as device:
            options = {} if isolation == "priority" else {"segments": 5}
            with VideoSegmenter(
                network, device=device, policy=Every(2), mode="blocking", isolation=isolation, **options
            ) as s:
                found = [s.step(frame) for frame in frames]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.key == theirs.key and np.mean(ours.labels == theirs.labels) > 0.99


def test_s_h_in_the_background_of_a_gpu_lands(adopted):
    _, entry, _, network = adopted
    frames = zoo.frames(entry.size, 2)
    with (
        at("fake") as device,
        VideoSegmenter(network, device=device, policy=Every(2), isolation="segment") as segmenter,
    ):
        for count in range(200):
            segmenter.step(frames[count % 2])
            if segmenter.counts.landings > 1:
                break
        assert segmenter.counts.landings > 1 and not segmenter.counts.failures
