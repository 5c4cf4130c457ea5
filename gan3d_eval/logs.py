"""Training logs of other programs → `metrics.csv`: TensorBoard's event files, tables with a header, lines of text.

Names are told by their words (`loss/loss_D_R`, `errD_real`, `d_real_loss` are all D's loss on real shapes), so that no list of
programs is needed; what no word explains is left out and named. Events are read record by record with TensorBoard's own message
format, so nothing is executed and no record may be longer than its file.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import struct
from collections.abc import Iterable, Iterator

import pandas as pd

from gan3d_eval.contract import METRICS
from gan3d_eval.files import Gan3dError

__all__ = ["EXPECTED", "MOST_BYTES", "LogError", "metric_of", "read_log"]

MOST_BYTES, MOST_ROWS, MOST_STEPS, LONGEST_LINE = 2**26, 2_000_000, 2**53, 2000
WORDS = {
    "acc": {"acc", "accuracy", "acu"}, "lr": {"lr"}, "loss": {"loss", "losses", "err", "error"},
    "d": {"d", "dis", "disc", "discriminator", "netd"}, "g": {"g", "gen", "generator", "netg"},
    "real": {"r", "real"}, "fake": {"f", "fake"},
}  # fmt: skip
OURS = frozenset({"train", "training"}.union(*WORDS.values()))
OTHERS = frozenset("recon reconstruction val valid validation test gp penalty kl cycle".split())
"""Words of losses that are not the game's, or not of training."""
STEPS = frozenset("step steps iter iters iteration iterations itr global_step".split())
NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf)"
PAIR = re.compile(rf"([A-Za-z][A-Za-z_/ ]{{0,40}}(?:\([A-Za-z()]{{1,8}}\))?)\s*[:=]\s*({NUMBER})(?![\w.])")
STEP = re.compile(r"\b(?:iter(?:ation)?s?|steps?|itr)\b\s*[-:=#\[(]?\s*(\d{1,15})", re.IGNORECASE)
EPOCH = re.compile(r"\bepochs?\b\s*[-:=#\[(]?\s*(\d{1,15})", re.IGNORECASE)
SPACED = re.compile(rf"([A-Za-z][A-Za-z_/ ]{{0,40}}?)\s+({NUMBER})(?![\w./])")
"""A name and a number with nothing between: only of names that are made of our words alone, as sentences hold numbers too."""
FIRST = re.compile(r"\W*\[(\d{1,9})/\d{1,9}\]")
"""`[3/100]` at the beginning of a line, alone: an epoch."""
BOTH = re.compile(
    r"\[(\d{1,9})/\d+\][,;]?\s*(?:(?:iter(?:ation)?|step|itr|batch)s?\s*[:=]?\s*)?\[(\d{1,9})/(\d{1,9})\]", re.IGNORECASE
)
"""Epoch and batch of PyTorch's own example of a DCGAN."""
LOSSES_AS_D_OF_X = re.compile(r"(?:Epochs|Iteration)-\d+")
"""A port (simple-pytorch-3dgan) prints losses under the names D(x) and D(G(x)); others print D's answers there."""
EXPECTED = "expected lines such as `Epoch 1: loss_d=0.9, loss_g=1.2`, or a table with a header"
Rows = dict[int, dict[str, float]]


class LogError(Gan3dError):
    """A file that was said to be a training log, and is none."""


def metric_of(name: str) -> str | None:
    """The column of `metrics.csv` that a name stands for, or None."""
    plain, words = _words(name)
    if (exact := re.sub(r"[^a-z]+", "_", plain).strip("_")) in METRICS:
        return exact
    if words <= {"epoch", "epochs"} and words:
        return "epoch"
    if words & STEPS and len(words) <= 2:
        return "step"
    if words & OTHERS:
        return None
    if {"learning", "rate"} <= words:
        words |= WORDS["lr"]
    kind = next((kind for kind in ("lr", "acc", "loss") if words & WORDS[kind]), None)
    players = [player for player in "dg" if words & WORDS[player]]
    part = next((f"_{part}" for part in ("real", "fake") if words & WORDS[part]), "")
    found = f"{kind}_{players[0]}{part}" if kind and len(players) == 1 else ""
    return found if found in METRICS else None


def _words(name: str) -> tuple[str, set[str]]:
    """A name in lower case, and its words."""
    plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return plain, set(re.findall(r"[a-z]+", plain))


def read_log(data: bytes, events: bool) -> tuple[pd.DataFrame, list[str]]:
    """Read one log.

    Returns
    -------
    table : DataFrame
        `step`, increasing, and those columns of `metrics.csv` that are in it.
    left_out : list of str
        Names that stand for none of these.

    Raises
    ------
    LogError
        Too long, or without steps and metrics.
    """
    if len(data) > MOST_BYTES:
        raise LogError(f"has {len(data) / 2**20:.0f} MiB; logs of up to {MOST_BYTES / 2**20:.0f} MiB are read")
    rows: Rows = {}
    left_out: set[str] = set()
    records = _events(data) if events else _text(data)
    for step, name, value in records:
        metric = metric_of(name)
        if metric in {None, "step"}:
            left_out |= {name} - {"step"}
        elif 0 <= step < MOST_STEPS:
            rows.setdefault(step, {})[str(metric)] = value
            if len(rows) > MOST_ROWS:
                raise LogError(f"has more than {MOST_ROWS:,} steps; leave some out")
    table = pd.DataFrame.from_dict(rows, orient="index").sort_index() if rows else pd.DataFrame()
    columns = [name for name in METRICS if name in table]
    if not set(columns) - {"epoch", "seconds"}:
        raise LogError(f"holds no training log: no steps with losses, accuracies or learning rates of G or D; {EXPECTED}")
    table = table[columns]
    table.insert(0, "step", table.index.to_numpy())
    return table.reset_index(drop=True), sorted(left_out)


def _events(data: bytes) -> Iterator[tuple[int, str, float]]:
    """Scalars of a TensorBoard event file; a last record that is not whole is still being written."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if length > len(data) - at - 16:
            break
        try:
            event = Event.FromString(data[at + 12 : at + 12 + length])
        except DecodeError:
            raise LogError(f"is damaged: the record at byte {at} is no event") from None
        at += length + 16
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield int(event.step), value.tag[:200], float(value.simple_value)
            elif value.HasField("tensor") and len(value.tensor.float_val) == 1:
                yield int(event.step), value.tag[:200], float(value.tensor.float_val[0])
            elif value.HasField("tensor") and value.tensor.dtype == 1 and len(value.tensor.tensor_content) == 4:
                yield int(event.step), value.tag[:200], struct.unpack("<f", value.tensor.tensor_content)[0]
    if at == 0:
        raise LogError("is no event file of TensorBoard, or truncated in its first record")


def _text(data: bytes) -> Iterator[tuple[int, str, float]]:
    """Scalars of a table, else of lines of text."""
    lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace")
    header = next(lines, "")[:LONGEST_LINE]
    is_line = STEP.search(header) or EPOCH.search(header)
    mark = next((mark for mark in ",\t;" if mark in header), " ")
    known = {metric_of(name) for name in header.split(mark)}
    if not is_line and known & {"step", "epoch"} and (mark != " " or known - {None, "step", "epoch"}):  # or words of a sentence
        yield from _table(header, lines, mark)
    else:
        last = (-1.0, -1)  # epoch, step
        for line in itertools.chain([header], lines):
            found = list(_line(line[:LONGEST_LINE]))
            for now in [(value, at) for at, name, value in found if name == "epoch"]:
                if -1 < last[0] < now[0] and now[1] <= last[1] and now[0] != now[1]:
                    raise LogError(
                        f"counts its steps anew in each epoch (step {now[1]} of epoch {now[0]:g} after step {last[1]} of epoch "
                        f"{last[0]:g}), and does not say of how many, as in [{now[0]:g}/100] [{now[1]}/600]"
                    )
                last = now
            yield from found


def _table(header: str, lines: Iterable[str], mark: str) -> Iterator[tuple[int, str, float]]:
    """A table with a header and `mark` between columns; a last line without end is still being written. Without steps its
    epochs are taken for these.
    """
    whole = (line for line in lines if line.endswith("\n") and len(line) <= LONGEST_LINE)
    try:
        names = next(csv.reader([header], delimiter=mark, skipinitialspace=True))
        known = [metric_of(name) for name in names]
        step = known.index("step") if "step" in known else known.index("epoch")
        for row in csv.reader(whole, delimiter=mark, skipinitialspace=True):
            if len(row) > step and (at := _number(row[step])) is not None and abs(at) < MOST_STEPS:
                for name, metric, cell in zip(names, known, row, strict=False):
                    if metric != "step" and (value := _number(cell)) is not None:
                        yield int(at), metric or name, value
    except (csv.Error, StopIteration, ValueError) as fault:
        raise LogError(f"is damaged as a table ({str(fault) or 'it ends'})") from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _line(line: str) -> Iterator[tuple[int, str, float]]:
    """The pairs of names and numbers in a line that names a step or an epoch."""
    both, step, epoch = BOTH.search(line), STEP.search(line), EPOCH.search(line) or FIRST.match(line)
    if both:
        at = int(both[1]) * int(both[3]) + int(both[2])
    elif step or epoch:
        at = int((step or epoch)[1])  # type: ignore[index]
    else:
        return
    if epoch or both:
        yield at, "epoch", float(both[1] if both else epoch[1])  # type: ignore[index]
    as_losses = LOSSES_AS_D_OF_X.match(line)
    for name, value in PAIR.findall(line):
        plain = name.strip()
        if as_losses:
            plain = {"D(x)": "loss_d", "D(G(x))": "loss_g"}.get(plain, plain)
        if plain.lower() not in STEPS | {"epoch", "epochs"}:
            yield at, plain, float(value)
    for name, value in SPACED.findall(line):
        if _words(name)[1] <= OURS and metric_of(name):
            yield at, name, float(value)
