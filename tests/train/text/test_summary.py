import json

import numpy as np
import pytest

from tinygrad_gru.data import ngram_losses, text_corpus
from tinygrad_gru.train import Progress, TextRun, character_losses, summarize
from tinygrad_gru.train.text.run import format_summary


def test_a_summary_has_the_losses_and_the_ngram_baselines(small, tmp_path):
    run = TextRun(small())
    loop = run.loop(tmp_path)
    loop.run(Progress())
    summary = json.loads(json.dumps(summarize(run, loop)))
    losses = character_losses(run.model, run.held_out)
    text = text_corpus(run.settings.text).held_out
    lines = [text[: end + 1].rsplit("\n", 1)[-1] for end in range(1, len(text))]
    inside = [line == "" or line.strip(" ") != "" for line in lines]
    assert summary["held_out"] == pytest.approx(losses.mean())
    assert summary["held_out_without_leading_spaces"] == pytest.approx(losses[np.array(inside)].mean())
    assert summary["held_out_without_leading_spaces"] != summary["held_out"]
    assert [summary["unigram"], summary["bigram"]] == ngram_losses(run.training, run.held_out, len(run.vocabulary))
    assert summary["parameters"] == sum(array.size for array in run.model.state_dict().values())
    assert summary["characters_seen"] == 20 * 4 * 16
    assert summary["characters_per_second"] > 0
    assert summary["corpus"]["sha256"] == run.corpus.digest
    assert {"python", "numpy"} <= summary["versions"].keys()
    assert summary["settings"]["hidden"] == 10
    printed = format_summary(summary, tmp_path)
    for figure in (
        "1,280 characters",
        f"{summary['held_out']:.3f}",
        f"{summary['bigram']:.3f} (bigram)",
        str(tmp_path),
    ):
        assert figure in printed


@pytest.mark.parametrize(
    ("skipped", "words"), [(0, "on numpy, float16\n"), (3, "on numpy, float16, 3 steps skipped\n")]
)
def test_a_summary_has_the_precision_and_the_skipped_steps(small, tmp_path, skipped, words):
    run = TextRun(small(precision="float16"))
    run.trainer.scaler.skipped = skipped
    summary = summarize(run, run.loop(tmp_path))
    assert summary["skipped_steps"] == skipped and summary["settings"]["precision"] == "float16"
    assert words in format_summary(summary, tmp_path)


def test_a_summary_of_a_run_that_had_nothing_left_to_do(small, tmp_path):
    run = TextRun(small())
    summary = summarize(run, run.loop(tmp_path))
    assert summary["characters_per_second"] is None
    assert "no step left" in format_summary(summary, tmp_path)
