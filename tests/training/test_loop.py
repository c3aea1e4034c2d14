"""The loop in one process: what is divided, averaged, validated, logged and resumed."""

import json
import sys
import types

import pytest
import torch
from worker import SIZE, recipe, train

from lowlat.lab.train.average import Average
from lowlat.lab.train.batch import batches, collate, shares
from lowlat.lab.train.loop import Mean
from lowlat.lab.train.per_frame import segmentation_loss
from lowlat.lab.train.recipe import change
from lowlat.lab.train.records import Log, load_state, save_state

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(folder):
    return [json.loads(line) for line in (folder / "tiny.jsonl").read_text().splitlines()]


def losses(folder):
    return [row["loss"] for row in rows(folder)]


def test_accumulated_passes_equal_the_whole_batch(tmp_path):
    # Every pass has statistics of its own: only with fixed batch norms can they be equal.
    whole, _ = train(tmp_path / "whole", recipe(), norm="fixed")
    parts, _ = train(tmp_path / "parts", recipe(accumulate=4), norm="fixed")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert losses(tmp_path / "whole")[-1] < 0.9 * losses(tmp_path / "whole")[0]


def test_the_loss_is_one_mean_over_all_shares():
    scores, labels = torch.randn(3, 4, *SIZE), torch.randint(0, 6, (3, *SIZE))
    labels[0, 3:] = 255
    weights = torch.tensor([1.0, 0.5, 2.0, 0.7])
    known = labels.masked_fill(labels >= 4, 4)[:, 1::2, 1::2]
    expected = torch.nn.functional.cross_entropy(scores[..., 1::2, 1::2], known, weight=weights, ignore_index=4)
    parts = [segmentation_loss(scores[i : i + 1], labels[i : i + 1], weights) for i in range(3)]
    assert all(isinstance(part, Mean) for part in parts)
    torch.testing.assert_close(sum(part.total for part in parts) / sum(part.weight for part in parts), expected)


def test_the_loss_compares_scores_and_labels_at_the_same_pixels():
    """Scores of a quarter's size that change over at an edge are best right there, and as bad to either side of it."""

    def loss(shift):
        total = 0.0
        for edge in (32, 33):
            labels = (torch.arange(64) >= edge).long().expand(1, 32, 64)
            place = torch.arange(16) * 4 + 2.0  # Middles of the quarter's pixels, in the labels' own.
            right = (place - edge + shift).expand(1, 1, 8, 16)
            found = segmentation_loss(torch.cat((-right, right), 1), labels, None)
            total += (found.total / found.weight).item()
        return total

    assert loss(0.0) < loss(0.5) == pytest.approx(loss(-0.5), rel=1e-3)


def test_a_batch_is_the_same_however_it_is_drawn():
    def draw(share):
        step = torch.rand((), generator=share.step).expand(len(share.examples), 1)
        return step, share.collect(lambda generator: torch.rand(1, 3, generator=generator))

    def whole(**changes):
        drawn = list(batches(draw, recipe(steps=3, **changes), start=1))
        return torch.cat([torch.cat(batch, 1) for batch in drawn])

    assert whole().shape == (16, 4) and len(whole().unique(dim=0)) == 16
    for changes in ({"accumulate": 4}, {"workers": 0}, {"workers": 5}):
        assert torch.equal(whole(**changes), whole()), changes
    assert len(whole()[:, 0].unique()) == 2


def test_a_batch_that_does_not_come_out_is_refused():
    with pytest.raises(ValueError, match=r"divides by processes x accumulate = 1 x 3, got 8; try 9"):
        next(shares(recipe(accumulate=3), 0))


def test_examples_of_every_shape_are_put_together():
    pair = collate([(torch.zeros(1, 2), None, [torch.ones(1)]), (torch.ones(1, 2), None, [torch.ones(1)])])
    assert pair[0].tolist() == [[0, 0], [1, 1]] and pair[1] is None and pair[2][0].shape == (2,)
    mean = collate([Mean(torch.zeros(1), torch.ones(1)), Mean(torch.ones(1), torch.ones(1))])
    assert mean.total.tolist() == [0, 1]


@pytest.mark.parametrize("precision, dtype", [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_reduced_precision_learns_the_same(tmp_path, precision, dtype, monkeypatch):
    seen = set()
    convolve = torch.nn.Conv2d.forward

    def watched(self, x):
        out = convolve(self, x)
        seen.add(out.dtype)
        return out

    train(tmp_path / "float32", recipe())
    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    network, _ = train(tmp_path / precision, recipe(precision=precision))
    assert seen == {dtype}
    assert losses(tmp_path / precision) == pytest.approx(losses(tmp_path / "float32"), rel=0.05)
    assert losses(tmp_path / precision) != losses(tmp_path / "float32")
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    scale = load_state(tmp_path / precision / "tiny.pt")["scaler"]
    assert bool(scale) == (precision == "float16")


def test_the_gradient_is_clipped_to_its_norm(tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(tmp_path / "free", recipe(steps=3))
    assert min(norms) > 0.05, "the limit below would not bite"
    for precision in ("float32", "float16"):
        norms.clear()
        train(tmp_path / precision, recipe(steps=3, clip=0.05, precision=precision))
        # The scaler leaves steps out until its scale fits.
        assert norms and norms == pytest.approx([0.05] * len(norms), rel=1e-3), precision


def test_the_average_follows_its_definition_and_takes_statistics_along():
    norm = torch.nn.BatchNorm2d(2)
    average = Average(norm, 0.5)
    expected = average.state["running_mean"].clone()
    for update in range(6):
        norm(torch.randn(4, 2, 3, 5) + 3)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * norm.running_mean
        average.update(update)
    torch.testing.assert_close(average.state["running_mean"], expected)
    assert average.state["num_batches_tracked"] == 6
    last = norm.running_mean.clone()
    with average.applied():
        assert torch.equal(norm.running_mean, average.state["running_mean"]) is False
        torch.testing.assert_close(norm.running_mean, expected)
    assert torch.equal(norm.running_mean, last)


def test_what_is_kept_is_the_best_average(tmp_path, monkeypatch):
    figures = iter([1.0, 5.0, 3.0])
    seen = []

    def measure(self, validate):
        return original(self, lambda: seen.append(self.modules[1].weight.clone()) or next(figures))

    from lowlat.lab.train.loop import _Run

    original = _Run.validate
    monkeypatch.setattr(_Run, "validate", measure)
    network, best = train(tmp_path, recipe())
    assert (best.figure, best.steps) == (5.0, 8)
    assert [row.get("validation") for row in rows(tmp_path)][3::4] == [1.0, 5.0, 3.0]
    assert torch.equal(network[1].weight, seen[1])
    last = load_state(tmp_path / "tiny.pt")
    assert not torch.equal(last["modules"]["1.weight"], seen[2]), "validated the last weights, not their average"
    assert torch.equal(last["average"]["1.weight"], seen[2])


def test_another_recipe_does_not_go_on_from_the_checkpoint(tmp_path):
    train(tmp_path, recipe())
    with pytest.raises(ValueError, match=r"expected batch=8 as in .*tiny\.pt, got 16"):
        train(tmp_path, recipe(batch=16))
    with pytest.raises(ValueError, match=r"expected validate_every=4 as in .*tiny\.pt, got 2"):
        train(tmp_path, recipe(validate_every=2))
    train(tmp_path, recipe(accumulate=2, workers=0, checkpoint_every=3))


def test_another_origin_does_not_go_on_from_the_checkpoint(tmp_path):
    train(tmp_path, recipe(), starts_from={"data": "a", "validate": "b"})
    for changed, words in (
        ({"data": "c", "validate": "b"}, r"expected data=a as in .*tiny\.pt, got c"),
        ({"data": "a"}, "expected validate=b .*, got None"),
        ({"data": "a", "validate": "b", "clips": "d"}, "expected clips=None .*, got d"),
        (None, "expected data=a .*, got None"),
    ):
        with pytest.raises(ValueError, match=words):
            train(tmp_path, recipe(), starts_from=changed)
    train(tmp_path, recipe(), starts_from={"validate": "b", "data": "a"})


def test_a_figure_that_is_not_finite_stops_training(tmp_path):
    with pytest.raises(RuntimeError, match="finite validation figure, got nan after 4 steps of tiny"):
        train(tmp_path, recipe(), validate=lambda: float("nan"))
    assert not (tmp_path / "tiny.best.pt").exists()


def test_a_batch_of_void_pixels_has_no_loss_and_no_gradient(tmp_path, monkeypatch):
    gradients = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        gradients.extend(p.grad.abs().max().item() for group in self.param_groups for p in group["params"])
        return step(self, *args, **kwargs)

    def void(share, one):
        images, labels = share.collect(one)
        return images, torch.full_like(labels, 255)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(tmp_path, recipe(steps=3, clip=1.0), draw=void)
    assert losses(tmp_path) == [0, 0, 0] and gradients and set(gradients) == {0}


def test_options_that_make_no_sense_are_refused():
    for wrong, words in (
        ({"precision": "float8"}, "precision among float32"),
        ({"steps": 0}, "steps of at least 1, got 0"),
        ({"clip": 0.0}, "above 0"),
        ({"average": 1.0}, r"average in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            change(recipe(), **wrong)
    with pytest.raises(TypeError, match="got momentum"):
        change(recipe(), momentum=0.9)
    assert change(recipe(), steps=None, batch=4) == recipe(batch=4)


def test_a_checkpoint_cut_short_by_a_kill_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "tiny.pt"
    save_state(path, {"steps": 5})

    def killed(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"steps": 10})
    assert load_state(path) == {"steps": 5}
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match="remove it to start afresh"):
        load_state(path)


def test_a_log_goes_on_where_the_checkpoint_does(tmp_path):
    path = tmp_path / "tiny.jsonl"
    path.write_text('{"step": 0, "loss": 3}\n{"step": 1, "loss": 2}\n{"step": 2, "lo')
    Log(path, 1).write(1, loss=1.5)
    assert path.read_text() == '{"step": 0, "loss": 3}\n{"step": 1, "loss": 1.5}\n'


def test_tensorboard_gets_every_figure_or_is_asked_for(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder.name, purge_step))

        def add_scalar(self, *scalar):
            written.append(scalar)

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    log = Log(tmp_path / "tiny.jsonl", 7, tensorboard=True)
    log.write(7, loss=0.5)
    log.close()
    assert written == [("tiny", 7), ("loss", 0.5, 7), "closed"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        Log(tmp_path / "tiny.jsonl", 0, tensorboard=True)
