"""Training of every method on one bank of pairs: what is learned, what is left alone, and how it is kept."""

import copy
import itertools
from collections import Counter

import pytest
import torch

from lowlat.lab.methods import METHODS, build, weights
from lowlat.lab.train import train
from lowlat.lab.train.bank import Bank
from lowlat.lab.train.loop import Recipe
from lowlat.lab.train.methods import TRAINED, draw_bank, train_methods
from lowlat.lab.train.propagation import HOP_SHARE, divergence, fast_track, pairs_loss, route, train_propagation

RECIPE = Recipe(steps=12, batch=4, learning_rate=3e-3, warmup=2, balanced=True)


@pytest.fixture(scope="module")
def bank(tiny_network, pairs):
    return Bank(tiny_network, [(pairs, 10)], seed=0)


@pytest.fixture(scope="module")
def trained(tiny_network, bank, tmp_path_factory):
    """The network before, the folder, and the files of all methods."""
    before = copy.deepcopy(tiny_network.state_dict())
    folder = tmp_path_factory.mktemp("methods")
    return before, folder, train_methods(TRAINED, tiny_network, bank, folder, recipe=RECIPE)


def test_a_bank_keeps_what_the_network_sees_of_each_pair(tiny_network, pairs, drifting, bank):
    assert len(bank) == 10
    batch = bank.batch(5, torch.Generator().manual_seed(1))
    again = bank.batch(5, torch.Generator().manual_seed(1))
    assert torch.equal(batch.labels, again.labels) and torch.equal(batch.high, again.high)
    for row in range(5):
        index = next(i for i in range(len(drifting)) if torch.equal(drifting.labels[i], batch.labels[row].byte()))
        for view, frame in zip((batch.key, *batch.later), (index - 4, index - 2, index), strict=True):
            image = drifting.image(frame)[None]
            with torch.no_grad():
                low = tiny_network.lower(tiny_network.normalise(image))
            assert torch.allclose(view.low[row], low[0], atol=2e-3)
            shrunk = torch.nn.functional.interpolate(image.float(), low.shape[-2:], mode="area")
            assert (view.frame[row] - shrunk[0]).abs().max() <= 0.5
            if view is batch.key:
                assert torch.allclose(batch.high[row], tiny_network.higher(low)[0], atol=2e-3)


def test_a_bank_shares_its_pairs_among_the_kinds(tiny_network, pairs):
    class Counted:
        def __init__(self):
            self.drawn = 0

        def batch(self, count, generator, *, between):
            self.drawn += count
            return pairs.batch(count, generator, between=between)

    simulated, clips = Counted(), Counted()
    assert len(draw_bank(tiny_network, {"simulated": simulated, "clips": clips}, pairs=9, seed=0)) == 9
    assert (simulated.drawn, clips.drawn) == (7, 2)
    draw_bank(tiny_network, {"simulated": None, "clips": clips}, pairs=3, seed=0)
    assert (simulated.drawn, clips.drawn) == (7, 5)
    with pytest.raises(ValueError, match="pairs of one of simulated, clips, video, got none"):
        draw_bank(tiny_network, {"simulated": None, "clips": []}, pairs=3, seed=0)
    with pytest.raises(ValueError, match="kinds among simulated, clips, video, got dreams"):
        draw_bank(tiny_network, {"dreams": clips}, pairs=3, seed=0)


def test_pairs_drawn_afresh_are_those_of_their_generator(tiny_network, pairs):
    fresh = draw_bank(tiny_network, {"simulated": pairs}, pairs=0, seed=0)
    one, again, other = (fresh.batch(2, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one.high, again.high) and not torch.equal(one.high, other.high)
    kept = draw_bank(tiny_network, {"simulated": pairs}, pairs=10, seed=0).batch(2, torch.Generator())
    assert [tensor.shape for tensor in (one.high, one.labels)] == [tensor.shape for tensor in (kept.high, kept.labels)]


def test_features_go_by_way_of_the_frames_of_a_route(tiny_network, bank):
    batch = bank.batch(2, torch.Generator().manual_seed(0))
    method = build("adaptive", tiny_network)
    middle, current = batch.later
    with torch.no_grad():
        seen, high = method.carry(method.begin(batch.key, batch.high), middle)
        expected, _ = method.carry(method.begin(middle, high), current)
        assert all(map(torch.equal, fast_track(method, batch, [0, 1]), (seen, expected)))
        direct, _ = method.carry(method.begin(batch.key, batch.high), current)
        assert torch.equal(*fast_track(method, batch, [1]), direct)


def test_routes_are_direct_or_any_of_those_there_are():
    found = Counter(tuple(route(3, torch.Generator().manual_seed(seed))) for seed in range(2000))
    ways = {(*stops, 3) for count in range(4) for stops in itertools.combinations(range(3), count)}
    assert set(found) == ways and found[3,] == pytest.approx(2000 * (1 - HOP_SHARE), rel=0.15)
    assert all(found[way] == pytest.approx(2000 * HOP_SHARE / 7, rel=0.25) for way in ways - {(3,)})
    assert {tuple(route(0, torch.Generator().manual_seed(seed))) for seed in range(9)} == {(0,)}


def test_the_per_frame_network_teaches_every_frame_that_features_are_carried_to(tiny_network, pairs):
    def teacher(frames):
        low = tiny_network.lower(tiny_network.normalise(frames))
        return low, tiny_network.higher(low), None

    bank = Bank(tiny_network, [(pairs, 8)], seed=0, between=3, teacher=teacher)
    batch = bank.batch(3, torch.Generator().manual_seed(1))
    method = build("adaptive", tiny_network)
    assert len(batch.later) == 4
    for place, view in enumerate(batch.later):
        own = tiny_network.classify(tiny_network.higher(view.low))
        assert torch.allclose(batch.scores[:, place], own, atol=2e-2), "the scores of another frame"
    with torch.no_grad():
        places = [0, 2, 3]
        plain, taught = (pairs_loss(method, batch, None, places, soft) for soft in (0.0, 0.5))
        scores = list(fast_track(method, batch, places))
        apart = [divergence(scores[turn], batch.scores[:, place]) for turn, place in enumerate(places)]
    assert all((found > 0).all() for found in apart) and len({round(found.sum().item(), 6) for found in apart}) == 3
    assert torch.allclose(taught.total - plain.total, 0.5 * sum(apart).sum() / 3, atol=1e-6)
    assert torch.equal(taught.weight, plain.weight), "weights are those of the labels"
    assert divergence(batch.scores[:, 0], batch.scores[:, 0]).abs().max() < 1e-6


def test_every_method_with_parameters_learns_and_leaves_the_network_alone(tiny_network, trained):
    before, folder, files = trained
    assert set(files) == {name for name, kind in METHODS.items() if kind.trained}
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for path in files.values():
        method = weights.load(path, copy.deepcopy(tiny_network))
        fresh = type(method)(copy.deepcopy(tiny_network))
        torch.manual_seed(RECIPE.seed)
        fresh.reset()
        changed = [
            not torch.equal(a, b) for a, b in zip(fresh.learned.parameters(), method.learned.parameters(), strict=True)
        ]
        assert all(changed) and not method.training


def test_training_starts_from_fresh_parameters_and_lowers_the_loss(tiny_network, bank, tmp_path):
    def losses(folder, network):
        method = build("adaptive-fusion", network)
        recipe = Recipe(steps=60, batch=4, learning_rate=3e-3, warmup=2, balanced=True)
        train_propagation("run", method, bank, tmp_path / folder, recipe)
        assert all(parameter.requires_grad for parameter in network.parameters())
        return [line.split('"loss": ')[1].split(",")[0] for line in (tmp_path / folder / "run.jsonl").open()]

    network = copy.deepcopy(tiny_network)
    once = losses("once", network)
    # The network's fast track is trained by then; a second run does not begin from there.
    assert losses("twice", network) == once
    assert sum(map(float, once[-5:])) < 0.8 * sum(map(float, once[:5]))


def test_a_method_that_was_trained_is_not_trained_again(tiny_network, bank, trained):
    _, folder, files = trained
    times = {name: path.stat().st_mtime_ns for name, path in files.items()}
    assert train_methods(TRAINED, tiny_network, bank, folder, recipe=RECIPE) == files
    assert times == {name: path.stat().st_mtime_ns for name, path in files.items()}


def test_weights_are_refused_where_they_do_not_belong(tiny_network, bank, trained, tmp_path):
    _, folder, files = trained
    other = copy.deepcopy(tiny_network)
    torch.nn.init.zeros_(other.classifier.weight)
    with pytest.raises(ValueError, match=r"learned on this network \(.*train the method again"):
        weights.load(files["unified"], other)
    with pytest.raises(ValueError, match="learned on this network"):
        train_methods(["unified"], other, bank, folder, recipe=RECIPE)
    with pytest.raises(ValueError, match="found none; lowlat train propagation first"):
        weights.load(tmp_path / "no.safetensors", tiny_network)
    (tmp_path / "bad.safetensors").write_text("bad")
    with pytest.raises(ValueError, match="got a file that holds none"):
        weights.load(tmp_path / "bad.safetensors", tiny_network)


def test_the_fast_track_is_no_part_of_the_fingerprint(tiny_network):
    network = copy.deepcopy(tiny_network)
    build("adaptive-fusion", network).reset()
    torch.nn.init.zeros_(network.selector.fc.weight)
    assert weights.fingerprint(network) == weights.fingerprint(tiny_network)
    half = copy.deepcopy(tiny_network)
    half.load_state_dict({k: v.half().float() if v.ndim > 1 else v for k, v in half.state_dict().items()})
    assert weights.fingerprint(half) == weights.fingerprint(tiny_network)


def test_only_methods_with_parameters_are_trained(tiny_network, bank, tmp_path):
    with pytest.raises(ValueError, match="method among clockwork, .* or all, got 'reuse'"):
        train_methods(["reuse"], tiny_network, bank, tmp_path, recipe=RECIPE)
    with pytest.raises(ValueError, match="method among clockwork, .* or all, got 'reuse'"):
        train("propagation", data=tmp_path, out=tmp_path, method="reuse")
    with pytest.raises(ValueError, match="stage 'propagation' with method 'unified', got 'all'"):
        train(data=tmp_path, out=tmp_path, method="unified")
    with pytest.raises(ValueError, match=r"found no finetune\.safetensors; train it first"):
        train("propagation", data=tmp_path, out=tmp_path, method="unified")
