from tinygrad_gru.train.log import JsonLines, read_log


def write(path, steps, **settings):
    with JsonLines(path, **settings) as log:
        for step in steps:
            log.write({"step": step, "loss": step / 2})


def steps(path):
    return [record["step"] for record in read_log(path)]


def test_records_are_read_back_in_order(tmp_path):
    write(tmp_path / "log", [1, 2])
    assert read_log(tmp_path / "log") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_a_new_run_begins_a_new_log(tmp_path):
    write(tmp_path / "log", [1, 2])
    write(tmp_path / "log", [7])
    assert steps(tmp_path / "log") == [7]


def test_a_resumed_run_drops_the_steps_that_it_takes_again(tmp_path):
    write(tmp_path / "log", [1, 2, 3, 4])
    write(tmp_path / "log", [3, 4, 5], keep_until=2)
    assert steps(tmp_path / "log") == [1, 2, 3, 4, 5]


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    write(tmp_path / "log", [1, 2])
    content = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(content[:-3])
    assert steps(tmp_path / "log") == [1]


def test_a_log_that_is_not_there_has_no_records(tmp_path):
    assert read_log(tmp_path / "log") == []
    write(tmp_path / "log", [1], keep_until=5)
    assert steps(tmp_path / "log") == [1]
