"""Every pass turns the example in its docstring into the result that is printed there."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.scan.textual_ir import parse
from tinygrad_gru.scan import passes
from tinygrad_gru.scan.passes import ranges as ranges_module
from tinygrad_gru.scan.passes.buffers import concatenate_in_place, overwrite_operands, share_scratch
from tinygrad_gru.scan.passes.clusters import clusters
from tinygrad_gru.scan.passes.plan import plan
from tinygrad_gru.scan.passes.ranges import Ranges
from tinygrad_gru.scan.passes.schedule import schedule
from tinygrad_gru.scan.passes.sink import sink_into_loop

#: Between the program before and the program after a rewrite, in a docstring.
ARROW = "=>"

REWRITES = {name: getattr(passes, name) for name in passes.__all__} | {
    "propagate_zeros": lambda program: passes.propagate_zeros(program, frozenset(program.xs[:1]))
}


def levels_of(analysis):
    return lambda program: annotated(program, analysis(program))


def clusters_of(program):
    """The cluster of each value, and whether it is written to memory."""
    planned = plan(program, levels=sink_into_loop(program), shares_scratch=())
    notes = {}
    for i, cluster in enumerate(clusters(planned, {})):
        for task in cluster.tasks:
            stored = ", stored" if task.value in cluster.stored else ""
            notes[task.value] = f"{'nest' if cluster.is_nest else 'call'} {i}{stored}"
    return annotated(program, notes)


def ranges_of(program):
    ranges = Ranges(program.graph)
    return annotated(program, {value: "{:g} … {:g}".format(*ranges[value]) for value in program.values()})


def planned(program):
    return repr(plan(program)) + "\n" + repr(program).splitlines()[-1]


ANALYSES = {
    schedule: levels_of(schedule),
    sink_into_loop: levels_of(sink_into_loop),
    clusters: clusters_of,
    ranges_module: ranges_of,
    plan: planned,
    concatenate_in_place: planned,
    overwrite_operands: planned,
    share_scratch: planned,
}


def annotated(program, notes):
    """The text of a program with an annotation after each value."""
    *_, interface = repr(program).splitlines()
    values = [value for value in program.values() if value.op != "scalar"]
    return "\n".join([*(f"{value!r:<62} {notes.get(value, '')}".rstrip() for value in values), interface])


def example_in(documented):
    """The paragraph of a docstring that is a program, or two with an arrow between them."""
    paragraphs = re.split(r"\n\s*\n", documented.__doc__)
    examples = [paragraph.rstrip() for paragraph in paragraphs if re.match(r" +v\d+ = ", paragraph)]
    assert len(examples) == 1, f"{documented} has {len(examples)} examples"
    return textwrap.dedent(examples[0])


@pytest.mark.parametrize("name", REWRITES)
def test_example_of_a_rewrite(name):
    before, after = example_in(getattr(passes, name)).split(f"\n  {ARROW}\n")
    program = parse(before)
    assert repr(program) == before
    assert repr(REWRITES[name](program)) == after


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: analysis.__name__.rpartition(".")[2])
def test_example_of_an_analysis(analysis):
    example = example_in(analysis)
    assert ANALYSES[analysis](parse(example)) == example
