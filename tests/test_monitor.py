"""TensorBoard hears every step once, the settings, and sees the samples."""

from __future__ import annotations

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan3d_model.monitor import depth_sheet


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
