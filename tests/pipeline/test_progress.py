"""Progress: small files that jobs write anywhere, and one who reads them and shows it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from cubeflow.pipeline import progress
from cubeflow.pipeline.progress import Progress, Totals, add_up, duration, line_of, lines, progress_folder, showing


def test_batches_are_added_up(tmp_path):
    folder, known = progress_folder(tmp_path), {}
    assert add_up(folder, known) == Totals(0, 0, "")
    first, second = (Progress(progress_folder(tmp_path) / f"{name}.json") for name in ("one-aa", "two-aa"))
    first.step()
    first.step()
    second.step("run 7: no EVENTS")
    assert add_up(folder, known) == Totals(3, 1, "run 7: no EVENTS")
    second.step("run 8: gone")
    second.step()
    first.step()
    assert add_up(folder, known) == Totals(6, 2, "run 8: gone")
    first.step(failed=["run 9: no space"])
    first.step("run 10: no GTI", ["run 9: no space"])
    assert add_up(folder, known) == Totals(8, 4, "run 9: no space")


def test_half_written_or_foreign_files_are_passed_over(tmp_path):
    folder = progress_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "one-aa.json").write_text('{"done": 3, "re')
    (folder / "one-bb.json").write_text('{"finished": 3}')
    (folder / "one-cc.json").write_text("[]")
    (folder / ".one-bb.json.12.tmp").write_text("{}")
    assert add_up(folder, {}) == Totals(0, 0, "")


def test_progress_that_cannot_be_written_disturbs_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    told = Progress(tmp_path / "file" / "one.json")
    told.step()
    assert told.told.done == 1


def test_line_says_runs_rate_time_left_and_the_last_refusal():
    line = line_of(Totals(30, 1, "run 7: no EVENTS"), 120, 15.0)
    assert (
        line == "progress: 30 of 120 runs and figures (25 %), 2.0/s, 45 s left; 1 refused, the last: run 7: no EVENTS"
    )
    assert line_of(Totals(120, 0, ""), 120, 60.0) == "progress: 120 of 120 runs and figures (100 %), 2.0/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12.4 s"), (45, "45 s"), (312, "5.2 min"), (7199, "120 min"), (9000, "2.5 h")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_lines_are_few(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    show = lines(10, said.append)
    for second in range(100):
        clock[0] = float(second)
        show(Totals(min(second // 10, 9), 0, ""))
    show(Totals(10, 0, ""))
    show(Totals(10, 0, ""))
    assert len(said) == 4
    assert said[-1].startswith("progress: 10 of 10 runs and figures (100 %)")


def test_display_ends_with_the_last_state(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LOOK_S", 0.01)
    said = []
    told = Progress(progress_folder(tmp_path) / "one-aa.json")
    told.step("of an earlier workflow")
    with showing(tmp_path, 2, said.append):
        again = Progress(told.path)
        again.step()
        again.step()
    assert said[-1].startswith("progress: 2 of 2 runs and figures (100 %)")
    assert "earlier" not in " ".join(said)


def test_nothing_is_shown_where_nothing_is_reduced(tmp_path):
    said = []
    with showing(tmp_path, 0, said.append):
        pass
    assert said == []


SCRIPT = """
import logging, sys, time
from pathlib import Path
from cubeflow.pipeline import progress
progress.LOOK_S = 0.05
logger = logging.getLogger("snakemake.logging")
logger.addHandler(logging.StreamHandler())
logger.setLevel("INFO")
results = Path(sys.argv[1])
with progress.showing(results, 4, print):
    told = progress.Progress(progress.progress_folder(results) / "one-aa.json")
    for number in range(4):
        told.step("run 7: no [EVENTS]")
        logger.info("Finished job %d.", number)
        time.sleep(0.3)
logger.info("the end")
"""


def test_terminal_has_a_live_bar_below_the_log(tmp_path):
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=child, stdout=child, stdin=child, env=environment
    )
    os.close(child)
    output = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        output += part
    assert process.wait() == 0
    os.close(parent)
    text = output.decode()
    assert "4/4" in text
    assert "run 7: no [EVENTS]" in text
    for number in range(4):
        assert f"Finished job {number}.\r\n" in text
    assert text.rstrip().endswith("the end")
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")  # the cursor is visible again
