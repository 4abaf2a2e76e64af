"""Device events are counted: against a stand-in for CuPy that counts independently, and on other backends."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER
from support.strict import STRICT

from tinygrad_gru import Tensor, compiling, explain, grad, nn, no_grad, ops, optim, remat, sanitize
from tinygrad_gru.backend import as_array, record_launches, resolve
from tinygrad_gru.backend.events import event_listener
from tinygrad_gru.debug.instrumented import instrument
from tinygrad_gru.ops import op
from tinygrad_gru.testing import OP_SPECS, check_case
from tinygrad_gru.train import TextRun, TextSettings


def counts(report):
    return {(event.kind, event.op): count for event, count in report.counts.items()}


def counted_by(stand_in):
    """The events that the stand-in has counted, as the report should have."""
    return {kind: stand_in.machine.count(kind) for kind in ("launch", "to device", "to host", "wait")}


def counted_in(report):
    return {
        "launch": report.launches,
        "to device": report.count("copy to device"),
        "to host": report.count("copy to host", "copy alongside"),
        "wait": report.count("wait"),
    }


# -- training steps ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trainer(stand_in, tmp_path):
    """Training steps on the stand-in, after a first one with its one-time work."""

    def make(**settings):
        text = tmp_path / "text.txt"
        text.write_text("A text that is short, and read again and again. " * 300)
        text_settings = TextSettings(text=str(text), embedding=4, hidden=6, batch=4, window=5, **settings)
        trainer = TextRun(text_settings, "cupy").trainer
        trainer.step()
        stand_in.machine.calls.clear()
        return trainer

    with compiling(False):
        yield make


@pytest.mark.parametrize("settings", [{}, {"cell": "lstm", "layers": 2, "dropout": 0.3}], ids=["gru", "lstm"])
def test_a_training_step_waits_once_to_read_its_loss(stand_in, trainer, settings):
    trainer = trainer(**settings)
    with sanitize() as report:
        trainer.step()
    assert report.synchronizations == 1
    assert report.transfers == 4, "ids, targets, loss and norm together, and with them the results of the index checks"
    assert counted_in(report) == counted_by(stand_in), "the report agrees"
    (read,) = (event for event in report.counts if event.kind == "copy to host")
    assert "trainer.step()" in read.location and __file__ in read.location


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler to stand in for CUDA's")
@pytest.mark.parametrize(("cell", "launches"), [("gru", 160), ("lstm", 186)])
def test_a_compiled_training_step_waits_once_and_launches_few(stand_in, trainer, cell, launches):
    """From the third step on a recurrence is two graphs, whatever the number of time steps."""
    trainer = trainer(cell=cell)
    with compiling():
        for _ in range(3):
            stand_in.machine.calls.clear()
            with sanitize() as report:
                trainer.step()
            assert report.synchronizations == 1 and report.transfers == 4
            assert counted_in(report) == counted_by(stand_in), "the report agrees"
    assert report.launches == launches


def test_an_optimizer_launches_one_kernel_per_parameter(stand_in, trainer):
    trainer = trainer()
    with sanitize() as report:
        trainer.optimizer.step()
    assert counts(report) == {("launch", "an update rule"): len(list(trainer.model.parameters()))}
    assert counted_in(report) == counted_by(stand_in)


def test_every_op_is_counted_as_the_stand_in_counts_it(stand_in):
    """Forward and backward, executed, recorded and to second order."""
    for name in OP_SPECS.keys() - {"einsum"}:  # NumPy's may be a view
        for case in OP_SPECS[name]:
            stand_in.machine.calls.clear()
            with sanitize() as report:
                check_case(name, case, "cupy", quick=True, dtypes=(), empty=True)
            found, expected = counted_in(report), counted_by(stand_in)
            # The checks compute on plain arrays as well, which only the stand-in counts.
            assert found["wait"] == expected["wait"] and found["launch"] <= expected["launch"], name
            assert found["launch"] > 0, name


# -- kinds of events ---------------------------------------------------------------------------------------------------


def test_every_kind_of_event_is_counted(stand_in):
    x, ids = Tensor(np.ones((3, 2)), device="cupy", requires_grad=True), as_array([0, 2], device="cupy")
    mask = as_array(np.array([True, False, True]), device="cupy")
    stand_in.machine.calls.clear()
    with sanitize() as report:
        y = ops.sigmoid(x)[ids]
        x[mask]
        as_array([1.0, 2.0], device="cupy")
        as_array(3.0, device="cupy")
        y.sum().backward()
        resolve("cupy").synchronize()
        x.grad.numpy()
    assert counts(report)["launch", "sigmoid"] == 4 and counts(report)["launch", "sigmoid, backward"] == 3
    assert counts(report)["wait", "synchronize"] == 1 and counts(report)["wait", "advanced_index"] == 1
    assert counts(report)["copy to device", "asarray"] == counts(report)["copy to host", "to_host"] == 1
    assert counted_in(report) == counted_by(stand_in)
    assert report.bytes[next(r for r in report.counts if r.kind == "copy to host")] == 3 * 2 * 8


@pytest.mark.parametrize(("convert", "name"), [(bool, "bool"), (float, "float"), (int, "int")])
def test_an_op_that_reads_a_value_on_the_host_is_counted_as_a_copy(stand_in, convert, name):
    @op
    def reads_value(x):
        return x * convert(x[0, ...])

    reads_value.vjp(x=lambda g, x: g * convert(x[0, ...]))
    x = Tensor([2.0, 3.0], device="cupy", requires_grad=True)
    with sanitize() as report:
        reads_value(x).sum().backward()
    assert report.synchronizations == report.transfers == 2
    assert counts(report)["copy to host", "reads_value"] == counts(report)["copy to host", "reads_value, backward"] == 1


@pytest.mark.parametrize("read", [lambda x: x.item(), lambda x: x.tolist()])
def test_item_and_tolist_are_copies(read):
    kinds = []
    token = event_listener.set(lambda kind, *_: kinds.append(kind))
    assert read(instrument(np.array(3.0))) == 3.0
    event_listener.reset(token)
    assert kinds == ["copy to host"]


@pytest.mark.parametrize(
    "read", [lambda x: x[x > 1], lambda x: x.__array_namespace__().nonzero(x)], ids=["booleans", "nonzero"]
)
def test_a_length_that_depends_on_values_is_a_copy(read):
    kinds = []
    token = event_listener.set(lambda kind, *_: kinds.append(kind))
    try:
        read(instrument(np.array([1.0, 2.0])))
    finally:
        event_listener.reset(token)
    assert kinds.count("copy to host") == 1


def test_sums_of_gradients_and_second_derivatives_are_counted(stand_in):
    x = Tensor([2.0, 3.0], device="cupy", requires_grad=True)
    stand_in.machine.calls.clear()
    with sanitize() as report:
        (x * x + x * x + x[0:1]).sum().backward()
        g = grad((x * x * x).sum(), x, create_graph=True)
        grad(g.sum(), x)
    assert counted_in(report) == counted_by(stand_in)


def test_arrays_are_uninstrumented_after_the_block(stand_in):
    x = Tensor([2.0, 3.0], device="cupy", requires_grad=True)
    with sanitize() as report:
        y = remat(ops.tanh, ops.stack([x, x])[0])
        y.sum().backward()
    assert type(y.data) is type(x.grad.data) is stand_in.ndarray
    before = report.launches
    (x * x).sum().backward()
    assert report.launches == before > 0


def test_an_event_names_the_module_and_the_line(stand_in):
    layer = nn.Linear(2, 3).to("cupy")
    with sanitize() as report:
        layer(Tensor([[1.0, 2.0]], device="cupy"))
    (event,) = (e for e in report.counts if e.op == "matmul")
    assert event.kind == "launch" and event.location.startswith(f"in Linear, at {__file__}:")
    assert event.location.endswith('layer(Tensor([[1.0, 2.0]], device="cupy"))')


def test_launches_of_compiled_programs_are_counted():
    record_launches(5, "scan")
    with sanitize() as report:
        for count in (3, 2):
            record_launches(count, "scan")
    record_launches(5, "scan")
    assert report.launches == 5 and counts(report) == {("launch", "scan"): 5}


def test_numpy_arrays_cause_no_events():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with sanitize() as report:
        (x * x).sum().backward()
        x.grad.numpy()
    assert not report.counts and str(report) == "0 copies between host and device, 0 times the host waited, 0 launches"


def test_rehearse_counts_numpy_as_a_gpu():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with sanitize(rehearse=True) as report:
        y = ops.sigmoid(x).sum()
        y.backward()
        if y > 0:
            y.item()
    assert counts(report)["launch", "sigmoid"] == 4 and counts(report)["launch", "sigmoid, backward"] == 3
    assert report.synchronizations == report.transfers == 2
    assert type(y.data) is np.ndarray and type(x.grad.data) is np.ndarray


def test_the_op_contract_holds_on_instrumented_arrays():
    """To the last bit, for every op and its rules; those of a GPU pass it where they are counted, in every case."""
    for name, (case, *_) in OP_SPECS.items():
        with sanitize(rehearse=True):
            check_case(name, case, quick=True, compiled=False, dtypes=())


def test_compiling_causes_no_events():
    cell = nn.GRUCell(2, 3)
    with sanitize(rehearse=True) as report:
        text = str(explain(cell.step, Tensor(np.zeros((4, 3), "float32")), Tensor(np.zeros((5, 4, 2), "float32"))))
    assert "def forward" in text and not report.counts


def test_events_of_other_threads_are_not_counted():
    with sanitize(rehearse=True) as report:
        thread = threading.Thread(target=lambda: Tensor([1.0]).item())
        thread.start()
        thread.join(10)
    assert not report.counts


def test_the_block_ends_with_an_exception():
    with pytest.raises(KeyError), sanitize(rehearse=True) as report:
        raise KeyError
    Tensor([1.0]).item()
    assert not report.counts


def test_a_report_prints_as_a_table():
    with sanitize(rehearse=True) as report, no_grad():
        for _ in range(3):
            x = Tensor([1.0, 2.0]) * 2.0
        x.sum().item()
    lines = str(report).splitlines()
    assert lines[0] == "1 copies between host and device, 1 times the host waited, 4 launches"
    assert lines[1].split() == ["times", "what", "bytes", "op", "where"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "3", "1"], (
        "the most expensive kinds first, then the most frequent"
    )
    assert "copy to host" in lines[2] and "hadamard" in lines[3] and lines[3].endswith("x = Tensor([1.0, 2.0]) * 2.0")
    report.clear()
    assert report.launches == report.transfers == 0 and not report.bytes


def test_a_training_step_on_array_api_strict_copies_once():
    layer, head = nn.GRU(3, 4), nn.Linear(4, 5)
    model = nn.Sequential(layer, head).to(STRICT)
    adam = optim.Adam(model.parameters())
    x = Tensor(STRICT.asarray(np.ones((3, 2, 3), "float32")))
    with sanitize() as report, compiling(False):
        loss = ops.cross_entropy(head(layer(x)[0]), STRICT.asarray(np.zeros((3, 2), int)))
        loss.backward()
        optim.clip_gradient_norm(model.parameters(), 1.0)
        adam.step()
        loss.item()
    assert report.synchronizations == report.count("copy to host") == 1


def test_a_loss_with_ignore_index_does_not_wait(stand_in):
    logits = Tensor(np.ones((3, 2), "float32"), device="cupy", requires_grad=True)
    targets = as_array([0, -1, 1], device="cupy")
    with sanitize() as report:
        ops.cross_entropy(logits, targets, ignore_index=-1).backward()
        ops.nll(logits, targets, ignore_index=-1, reduction="sum").backward()
    assert report.synchronizations == report.transfers == 0 and report.launches > 0
