"""Training logs of other programs are read without knowing the program; what is no log is not taken for one."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan3d_eval import logs
from gan3d_eval.logs import LogError, metric_of, read_log


@pytest.mark.parametrize(("name", "metric"), [
    ("loss/loss_D_R", "loss_d_real"), ("loss/loss_D_F", "loss_d_fake"), ("loss/loss_D", "loss_d"), ("loss/acc_D", "acc_d"),
    ("train_loss_G/adv_loss_G", "loss_g"), ("train_loss_D/adv_real_loss_D", "loss_d_real"), ("errD_real", "loss_d_real"),
    ("errG", "loss_g"), ("d_loss", "loss_d"), ("D_lr", "lr_d"), ("learning_rate_g", "lr_g"), ("Train/Loss/Discriminator", "loss_d"),
    ("D_acu", "acc_d"), ("occupancy_g", "occupancy_g"), ("global_step", "step"), ("Iteration", "step"), ("Epoch", "epoch"),
    ("train_loss_G/recon_loss_G", None), ("val_loss_D/adv", None), ("loss", None), ("loss_D_G", None), ("D(x)", None), ("", None),
])  # fmt: skip
def test_names_are_told_by_their_words(name, metric):
    assert metric_of(name) == metric


def test_the_lines_of_the_slides_port():
    text = b"cube=32_bs=32\nIter-100; , D_loss : 0.512, G_loss : 2.31, D_acu : 0.75, D_lr : 0.001\nIter-200; , D_loss : 1.2e-1, G_loss : nan, D_acu : 0.95, D_lr : 0.0005\n"
    table, left_out = read_log(text, False)
    assert table["step"].tolist() == [100, 200]
    assert table["loss_d"].tolist() == [0.512, 0.12]
    assert table["acc_d"].tolist() == [0.75, 0.95]
    assert np.isnan(table["loss_g"][1])
    assert left_out == []


def test_epochs_stand_for_steps_where_there_are_no_others_and_a_port_that_calls_losses_answers_is_known():
    text = b"Epochs-0 (train) , D(x) : 1.322, D(G(x)) : 0.7111\nElapsed Time: 0.1 min\nEpochs-1 (train) , D(x) : 1.2, D(G(x)) : 0.6\n"
    table, _ = read_log(text, False)
    assert table.to_dict("list") == {"step": [0, 1], "epoch": [0.0, 1.0], "loss_d": [1.322, 1.2], "loss_g": [0.7111, 0.6]}


def test_pytorchs_own_example_where_answers_of_d_are_no_losses():
    text = b"[0/5][0/1583]\tLoss_D: 1.9847\tLoss_G: 3.2\tD(x): 0.56\tD(G(z)): 0.5 / 0.2\n[1/5][50/1583]\tLoss_D: 1.5\tLoss_G: 2\tD(x): 0.6\n"
    table, left_out = read_log(text, False)
    assert table["step"].tolist() == [0, 1633]
    assert table["loss_d"].tolist() == [1.9847, 1.5]
    assert "D(x)" in left_out


def test_a_table_whose_last_line_is_still_being_written():
    table, left_out = read_log(b"epoch,d_loss,g_loss,note\n0,1,2,3\n1,0.5,,4\n2,0.4", False)
    assert table["step"].tolist() == [0, 1]
    assert table["loss_d"].tolist() == [1.0, 0.5]
    assert left_out == ["note"]


def test_event_files_of_tensorboard_both_kinds_of_scalars(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalar("loss/loss_D", 0.5 * step, step)
            writer.add_scalar("loss/loss_G", 2.0 * step, step, new_style=True)
        writer.add_scalar("other", 1.0, 0)
    data = next(tmp_path.iterdir()).read_bytes()
    table, left_out = read_log(data, True)
    assert table.to_dict("list") == {"step": [0, 1, 2], "loss_d": [0.0, 0.5, 1.0], "loss_g": [0.0, 2.0, 4.0]}
    assert left_out == ["other"]
    assert len(read_log(data[:-20], True)[0]) == 3  # the last record is not whole


@pytest.mark.parametrize("line", [
    "[{}/100] Loss_D: 0.9 Loss_G: 1.2\n", "[{}/100], Loss_D: 0.9, Loss_G: 1.2\n", "Epoch {}/100: D loss 0.9 G loss 1.2\n",
    "epoch {} loss_d 0.9 loss_g 1.2 time 3.5\n", "[{}/100] lossD=0.9 lossG=1.2\n", "[{}/100] train d_loss 0.9 | g_loss 1.2\n",
])  # fmt: skip
def test_lines_with_one_bracket_or_nothing_between_name_and_number(line):
    table, _ = read_log("".join(line.format(epoch) for epoch in (1, 2, 3)).encode(), False)
    assert table[["step", "epoch"]].to_numpy().tolist() == [[1, 1], [2, 2], [3, 3]]
    assert table[["loss_d", "loss_g"]].to_numpy().tolist() == [[0.9, 1.2]] * 3


@pytest.mark.parametrize("mark", [",", "\t", ";", " ", "   ", ", "])
def test_tables_are_read_whatever_stands_between_their_columns(mark):
    rows = [["epoch", "loss_d", "loss_g"], ["1", "0.9", "1.2"], ["2", "0.8", "1.1"]]
    table, _ = read_log("".join(mark.join(row) + "\n" for row in rows).encode(), False)
    assert table[["epoch", "loss_d", "loss_g"]].to_numpy().tolist() == [[1, 0.9, 1.2], [2, 0.8, 1.1]]
    assert len(read_log(b"One line each epoch, in words\nEpoch 1: d_loss=1\n", False)[0]) == 1
    assert len(read_log(b"What each epoch gave\nEpoch 1: d_loss=1\n", False)[0]) == 1


def test_sentences_are_no_losses():
    with pytest.raises(LogError, match="expected lines such as `Epoch 1: loss_d=0.9, loss_g=1.2`, or a table with a header"):
        read_log(b"Epoch 3: the loss of the discriminator fell below 0.5\n", False)


@pytest.mark.parametrize("between", ["Step [{}/600]", "Iter: [{}/600]", "batch [{}/600]"])
def test_steps_that_begin_anew_in_each_epoch_are_counted_on(between):
    lines = [f"Epoch [{epoch}/3], {between.format(step)}, d_loss: 0.5\n" for epoch in (1, 2) for step in (200, 400)]
    assert read_log("".join(lines).encode(), False)[0]["step"].tolist() == [800, 1000, 1400, 1600]


@pytest.mark.parametrize(("data", "events", "reason"), [
    (b"epoch 1 step 200 d_loss: 1\nepoch 2 step 200 d_loss: 2\n", False, "counts its steps anew in each epoch"),
    (b"epoch 1 step 600 d_loss: 1\nepoch 2 step 100 d_loss: 2\n", False, "step 100 of epoch 2 after step 600 of epoch 1"),
    (b"# Real data\nSome words about shapes: 3 of them.\n", False, "no training log"),
    (b"step,note\n1,2\n", False, "no training log"),
    (b"", False, "no training log"),
    (bytes(range(256)) * 10, False, "no training log"),
    (b"", True, "truncated in its first record"),
    (struct.pack("<Q", 2**62) + bytes(40), True, "truncated in its first record"),
    (struct.pack("<Q", 8) + bytes(4) + b"\xff" * 8 + bytes(4), True, "no event"),
])  # fmt: skip
def test_what_is_no_log_is_refused(data, events, reason):
    with pytest.raises(LogError, match=reason):
        read_log(data, events)


def test_a_log_of_too_many_steps_is_refused_and_not_cut(monkeypatch):
    monkeypatch.setattr(logs, "MOST_ROWS", 3)
    lines = [b"step,loss_d\n", *(b"%d,1\n" % i for i in range(4))]
    assert len(read_log(b"".join(lines[:4]), False)[0]) == 3
    with pytest.raises(LogError, match="more than 3 steps"):
        read_log(b"".join(lines), False)


@given(st.text(max_size=300))
def test_no_text_whatever_raises_anything_but_a_reason(text):
    try:
        table, _ = read_log(text.encode(), False)
    except LogError:
        return
    assert table["step"].is_monotonic_increasing
