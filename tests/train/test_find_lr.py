"""The learning rate range test: what it suggests trains, and it leaves everything as it was."""

from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_gru import Tensor, data, manual_seed, nn, ops, optim, random_state, train


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
def test_the_suggestion_scales_with_the_curvature(curvature):
    """½ λ (w − t)² with noise in t: gradient descent diverges from lr = 2/λ on."""
    noisy = np.ones((400, 1)), 3 + np.random.default_rng(0).standard_normal((400, 1))
    model = nn.Linear(1, 1, bias=False)
    sweep = train.find_lr(
        model, lambda w, t: 0.5 * curvature * ops.mse(w, t), noisy, optimizer="sgd", low=1e-5, high=1e3, batch_size=4
    )
    assert sweep.diverged and sweep.lrs[-1] > 2 / curvature, "gradient descent diverges beyond it"
    first, lowest = sweep.smoothed[0], sweep.smoothed.min()
    assert sweep.smoothed[-1] > lowest + 3 * max(lowest, first - lowest) >= sweep.smoothed[-2], "where it ends"
    assert 0.01 / curvature < sweep.lr < 1 / curvature
    assert sweep.lr == pytest.approx(sweep.lrs[sweep.smoothed.argmin()] / 10)


def regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5))
    return x, np.tanh(x @ rng.standard_normal((5, 1)))


def a_model():
    manual_seed(3)
    return nn.Sequential(nn.Linear(5, 16), ops.tanh, nn.Dropout(0.1), nn.Linear(16, 1))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_with_the_suggestion_works(optimizer):
    model, arrays = a_model(), regression()
    sweep = train.find_lr(model, ops.mse, arrays, optimizer=optimizer)
    start = train.evaluate(model, ops.mse, arrays)["loss"]
    train.fit(model, ops.mse, arrays, epochs=10, optimizer=optimizer, lr=sweep.lr, progress=False)
    assert train.evaluate(model, ops.mse, arrays)["loss"] < 0.2 * start


def test_losses_may_be_negative():
    model, arrays = a_model(), regression()
    state = random_state()
    sweep = train.find_lr(model, ops.mse, arrays, optimizer="sgd")
    assert random_state() == state
    below_zero = train.find_lr(model, lambda outputs, targets: ops.mse(outputs, targets) - 0.2, arrays, optimizer="sgd")
    assert below_zero.smoothed.min() < 0 and below_zero.diverged and below_zero.lr == sweep.lr


def test_the_sweep_is_exponential():
    sweep = train.find_lr(a_model(), ops.mse, regression(), low=1e-4, high=1e-2, steps=5)
    np.testing.assert_allclose(sweep.lrs, 10.0 ** np.arange(-4, -1.9, 0.5))
    assert not sweep.diverged and len(sweep.losses) == 5


def test_the_losses_are_those_of_training_at_these_rates():
    """Against a loop by hand."""
    x, y = regression()
    batches = [(x[k : k + 50], y[k : k + 50]) for k in range(0, 200, 50)]
    model = nn.Linear(5, 1)
    state = model.state_dict()
    sweep = train.find_lr(model, ops.mse, batches, optimizer="sgd", low=1e-3, high=1e-1, steps=8)
    model.load_state_dict(state)
    expected = []
    for k, lr in enumerate(sweep.lrs):
        inputs, targets = (Tensor(part, dtype="float32") for part in batches[k % 4])
        loss = ops.mse(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        expected.append(loss.item())
        optim.SGD(model.parameters(), lr=float(lr)).step()
    np.testing.assert_allclose(sweep.losses, expected, rtol=1e-5)
    weights = 0.9 ** np.arange(7, -1, -1)
    assert sweep.smoothed[-1] == pytest.approx((weights * sweep.losses).sum() / weights.sum())


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails):
    """Weights, optimizer, gradients, random state, position in the data, also if the sweep fails."""
    model, (x, y) = a_model(), regression()
    optimizer = optim.Adam([{"parameters": list(model.parameters())[:2], "lr": 0.01}, {
        "parameters": list(model.parameters())[2:], "lr": 0.02}])  # fmt: skip
    batches = data.ArrayBatches(x, y, batch_size=16, seed=1)
    inputs, targets = (Tensor(part, dtype="float32") for part in (x, y))
    for _ in range(3):
        batches.next_batch()
        model.zero_grad()
        ops.mse(model(inputs), targets).backward()
        optimizer.step()

    def everything():
        state = optimizer.state_dict()
        arrays = [*model.state_dict().values(), *state["state"].values(), *(p.grad.numpy() for p in model.parameters())]
        return (
            [array.tobytes() for array in arrays],
            state["groups"],
            state["steps"],
            random_state(),
            batches.state_dict(),
        )

    calls = []

    def loss(outputs, targets):
        calls.append(outputs)
        if fails and len(calls) == 5:
            raise ZeroDivisionError
        return ops.mse(outputs, targets)

    before = everything()
    if fails:
        with pytest.raises(ZeroDivisionError):
            train.find_lr(model, loss, batches, optimizer=optimizer, steps=20)
    else:
        train.find_lr(model, loss, batches, optimizer=optimizer, steps=20)
    assert len(calls) >= 5 and everything() == before


def test_groups_keep_the_ratios_of_their_rates():
    layers = nn.Linear(5, 4), nn.Linear(4, 1)
    model = nn.Sequential(*layers)
    groups = [{"parameters": list(layer.parameters()), "lr": lr} for layer, lr in zip(layers, (0.1, 0.3))]
    seen = []

    class Watched(optim.SGD):
        def step(self):
            seen.append([group["lr"] for group in self.groups])
            super().step()

    sweep = train.find_lr(model, ops.mse, regression(), optimizer=Watched(groups), steps=10, high=1e-2)
    np.testing.assert_allclose(seen, np.outer(sweep.lrs, [1, 3]))


def test_without_a_fall_there_is_no_suggestion():
    def worse(outputs, targets, calls=[]):  # noqa: B006
        calls.append(1)
        return ops.mse(outputs, targets) * 0 + float(len(calls))

    sweep = train.find_lr(nn.Linear(5, 1), worse, regression(), steps=30)
    assert sweep.lr is None and "no suggestion: the loss did not fall" in repr(sweep)
    assert "no suggestion" in sweep._repr_html_()


def test_errors():
    model, (x, y) = nn.Linear(5, 1), regression()
    with pytest.raises(ValueError, match="0 < low < high"):
        train.find_lr(model, ops.mse, (x, y), low=1, high=0.1)
    with pytest.raises(ValueError, match="steps: expected 2 or more"):
        train.find_lr(model, ops.mse, (x, y), steps=1)
    with pytest.raises(ValueError, match="a generator would be used up"):
        train.find_lr(model, ops.mse, ((x, y) for _ in range(100)))
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        train.find_lr(model, ops.mse, (x, y), optimizer="adm")
    with pytest.raises(train.TrainingError, match="NaN or infinity in this step's data"):
        train.find_lr(model, ops.mse, (x * np.nan, y))


def test_a_sweep_shows_itself(tmp_path):
    sweep = train.find_lr(a_model(), ops.mse, regression(), optimizer="sgd", high=100)
    assert repr(sweep).startswith(f"LRSweep of {len(sweep.lrs)} steps: lr ") and "a tenth of" in repr(sweep)
    tree = ElementTree.fromstring(sweep._repr_html_())
    assert sum("points" in element.attrib for element in tree.iter()) == 3
    pytest.importorskip("matplotlib")
    figure = sweep.plot(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.lines[-1].get_xdata()[0] == sweep.lr
