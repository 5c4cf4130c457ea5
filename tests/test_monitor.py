"""TensorBoard hears every step once, the settings, and sees the samples."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan3d_model.monitor import Progress, depth_sheet, duration


def test_a_run_can_be_read_back_from_tensorboard(trained):
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert {"loss_d", "loss_g", "acc_d", "d_updated", "occupancy_g", "lr_g"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("loss_d")] == list(range(1, 7))
    assert [event.step for event in events.Images("samples")] == [3, 6]
    (settings,) = events.Tensors("settings/text_summary")
    assert b"| base_channels | 4 |" in settings.tensor_proto.string_val[0]


def test_the_sheet_shows_what_is_near_brighter_and_what_is_high_above():
    grids = np.zeros((5, 8, 8, 8), np.bool_)
    grids[0, 1, 0, 6] = True  # x = 1, in front, high
    grids[1, 6, 7, 1] = True  # x = 6, at the back, low
    sheet = depth_sheet(grids, columns=4, scale=1)
    assert sheet.shape == (16, 32)
    assert sheet[1, 1] == 255
    assert 0 < sheet[6, 8 + 6] < 128
    assert np.count_nonzero(sheet) == 2
    assert np.array_equal(depth_sheet(grids, 4, 3), sheet.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys):
    progress = Progress()
    progress.show(0.1, "early")
    progress.last -= 11
    progress.show(0.5, "epoch 5/10")
    progress.show(1.0, "epoch 10/10")
    progress.end()
    assert capsys.readouterr().out.splitlines() == ["epoch 5/10", "epoch 10/10"]


def test_on_a_terminal_a_bar_is_drawn_over_and_lines_that_stay_are_not_mixed_with_it(capsys):
    progress = Progress(live=True)
    progress.last -= 1
    progress.show(0.5, "epoch 5/10")
    progress.say("warning: collapsed")
    progress.show(1.0, "epoch 10/10")
    progress.end()
    out, err = capsys.readouterr()
    assert out == "warning: collapsed\n"
    half, cleared, full = err.rstrip("\n").split("\r\033[K")[1:]
    assert half == "█" * 12 + "░" * 12 + "  50%  epoch 5/10"
    assert cleared == ""
    assert full.startswith("█" * 24 + " 100%")


def test_a_terminal_that_is_gone_costs_no_training(monkeypatch):
    tried = []

    class Gone:
        def write(self, text):
            tried.append(text)
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    for live, writes in ((True, 3), (False, 2)):
        tried.clear()
        progress = Progress(Gone().write, live)
        progress.show(1.0, "epoch 10/10")
        progress.say("warning: collapsed")
        progress.end()
        assert len(tried) == writes
