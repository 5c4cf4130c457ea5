"""Is a data set fit? Every planted defect is found and no other, and so are the known ones of a public release."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gan3d_eval.audit import FINDINGS, UNFIT, audit, why_unfit
from gan3d_eval.files import write_json
from gan3d_eval.modelnet import expected_counts, modelnet10, modelnet40
from gan3d_eval.voxels import VoxelError, VoxelSet, pack

SIDE = 12


def shape(i):
    """One of many different solid blocks, all 8 long, with a bump that makes each unlike every other."""
    rng = np.random.default_rng(i)
    grid = np.zeros((SIDE,) * 3, bool)
    grid[2:10, 2 : 5 + i % 5, 2 : 5 + i // 5 % 5] = True
    grid[2:10, 2:10, 2:5] |= rng.random((8, 8, 3)) < 0.3
    return grid


def shapes(*rows):
    """A set of rows (grid, class, split)."""
    grids, labels, splits = zip(*rows, strict=True)
    names = [f"s{i}" for i in range(len(rows))]
    return VoxelSet(pack(np.stack(grids)), SIDE, pd.DataFrame({"name": names, "class": labels, "split": splits}))


def clean(n=24):
    return [(shape(i), "ab"[i % 2], "test" if i % 4 == 3 else "train") for i in range(n)]


def found(table, code):
    return table.loc[table["finding"] == code, "row"].tolist()


def counts(result, *leave):
    return {code: result.values[code] for code in FINDINGS if result.values.get(code) and code not in {"several-parts", *leave}}


def test_a_clean_set_is_fit_and_says_what_it_looked_for():
    result, table = audit(shapes(*clean()))
    assert counts(result) == {}
    assert why_unfit(result) == ""
    assert {code for code in FINDINGS if code not in result.values} == {"count-mismatch"} == set(result.absent)
    assert result.absent["count-mismatch"] == "this is no ModelNet, by its classes and their sizes"
    assert (result.values["n"], result.values["held_out"], result.values["distinct"]) == (24, 6, 24)
    assert result.values["solid"] == 24
    assert set(table["finding"]) <= {"several-parts"}
    assert result.protocol == "audit-12-n24-near0.02"


def test_empties_are_empty_undersized_and_no_copies_of_each_other():
    nothing = np.zeros((SIDE,) * 3, bool)
    result, table = audit(shapes(*clean(), (nothing, "a", "train"), (nothing, "b", "test"), (nothing, "b", "train")))
    assert counts(result) == {"empty": 3, "undersized": 3}
    assert found(table, "empty") == [24, 25, 26]
    assert any(note.startswith("empty, 3 of 27 shapes: no voxel at all") for note in result.notes)
    assert why_unfit(result) == "the data set is unfit as it stands: 3 empty"


def rod(i):
    """Three voxels in a row and one somewhere above."""
    grid = np.zeros((SIDE,) * 3, bool)
    grid[2:5, 5, 5] = grid[5, 6, i] = True
    return grid


def test_almost_empty_is_measured_by_the_class_and_where_that_is_small_by_the_whole_set():
    rods = [(rod(i), "rods", "train") for i in range(10)]
    result, table = audit(shapes(*clean(), *rods, (rod(10), "a", "train"), (rod(11), "alone", "test")))
    assert found(table, "near-empty") == [34, 35]
    assert table.loc[table["finding"] == "near-empty", "detail"].tolist() == ["4 voxels"] * 2
    assert any(note.startswith("near-empty, 2 of 36 shapes: less than 5% of their class's median") for note in result.notes)


def test_copies_in_a_split_across_splits_and_under_two_labels_are_told_apart():
    rows = clean()
    rows += [(shape(0), "a", "train"), (shape(0), "a", "train")]  # 24, 25: again in the same split
    rows += [(shape(2), "a", "test")]  # 26: a leak
    rows += [(shape(4), "b", "test")]  # 27: a leak whose label is another
    rows += [(shape(1), "a", "train")]  # 28: the same split, another label
    result, table = audit(shapes(*rows))
    assert found(table, "exact-duplicate") == [24, 25, 28]
    assert found(table, "exact-leak") == [26, 27]
    assert found(table, "leak-other-label") == [27]
    assert found(table, "label-conflict") == [1, 4, 27, 28]
    assert set(counts(result)) == {"exact-duplicate", "exact-leak", "leak-other-label", "label-conflict"}
    details = table.set_index(["finding", "row"])["detail"]
    assert details["exact-duplicate", 25] == "same as s0"
    assert details["exact-leak", 27] == "same as s4"
    assert details["leak-other-label", 27] == "in training as a"
    assert details["label-conflict", 1] == "found as a, b"
    assert any(note.startswith("exact-leak, 2 of 8 held-out shapes") for note in result.notes)
    assert why_unfit(result) == "the data set is unfit as it stands: 2 exact-leak, 4 label-conflict"


def almost(i, voxels=1):
    """`shape(i)` with some voxels less at its far end."""
    grid = shape(i)
    where = np.argwhere(grid & (np.indices(grid.shape)[0] < 9))[-voxels:]
    grid[tuple(where.T)] = False
    return grid


def test_near_duplicates_are_found_within_and_across_and_exact_copies_do_not_hide_them():
    rows = clean() + [(shape(6), "a", "train")] * 40  # a heap of copies, more than neighbours are looked at
    rows += [(almost(6), "a", "train"), (almost(8), "a", "test")]  # 64, 65
    result, table = audit(shapes(*rows))
    assert found(table, "near-duplicate") == [6, *range(24, 65)]
    assert found(table, "near-leak") == [65]
    volume = shape(8).sum()
    detail = table.loc[table["finding"] == "near-leak", "detail"].item()
    assert detail == f"Jaccard {1 / volume:.3f} to s8"
    assert result.values["exact-leak"] == 0
    _, strict = audit(shapes(*rows), near=0)
    assert found(strict, "near-duplicate") == found(strict, "near-leak") == []


def test_the_threshold_of_near_duplicates_is_the_jaccard_distance_itself():
    rows = [*clean(), (almost(8, 3), "a", "train")]
    exactly = 3 / shape(8).sum()
    assert found(audit(shapes(*rows), near=exactly)[1], "near-duplicate") == [8, 24]
    assert found(audit(shapes(*rows), near=exactly * 0.99)[1], "near-duplicate") == []


def test_a_leak_is_not_a_near_leak_too():
    rows = [*clean(), (almost(8), "a", "train"), (shape(8), "a", "test")]
    _, table = audit(shapes(*rows))
    assert found(table, "exact-leak") == [25]
    assert found(table, "near-leak") == []


def cut(i):
    grid = shape(i)
    grid[8:], grid[:, 8:] = False, False
    return grid


def test_undersized_is_shorter_than_what_most_share():
    result, table = audit(shapes(*clean(), (cut(30), "a", "train")))
    assert found(table, "undersized") == [24]
    assert any("shorter than the 8 voxels" in note for note in result.notes)
    result, _ = audit(shapes(*clean(), *[(cut(i), "a", "train") for i in range(31, 61)]))
    assert "undersized" not in result.values
    assert "not scaled to one size" in result.absent["undersized"]


def test_a_hub_is_named_with_its_number_of_neighbours():
    """A core, and twelve shapes that add three voxels to it, each others: to all twelve the core is nearest."""
    core = np.zeros((SIDE,) * 3, bool)
    core[4:7, 4:7, 4:7] = True
    spikes = np.repeat(core[None], 12, axis=0)
    for i in range(12):
        spikes[i, 4:7, 9, i] = True
    result, table = audit(shapes(*[(grid, "a", "train") for grid in spikes], (core, "a", "train")))
    assert result.values["hub_max"] == 12
    assert result.values["hubs"].startswith("s12 (12), s0 (0.0833)")  # the core is equally near to all twelve
    assert result.values["nobodys_neighbour_share"] == 0
    assert found(table, "hub") == [12]


def test_shells_among_solids_are_the_minority_and_named():
    shell = np.zeros((SIDE,) * 3, bool)
    shell[2:10, 2:10, 2:10] = True
    shell[3:9, 3:9, 3:9] = False
    result, table = audit(shapes(*clean(), (shell, "a", "train")))
    assert found(table, "mixed-kinds") == [24]
    assert any(note.startswith("mixed-kinds, 1 of 25 shapes: surface, while 24 are solid") for note in result.notes)


def test_parts_are_counted_with_what_lies_outside_the_largest():
    two = np.zeros((SIDE,) * 3, bool)
    two[2:10, 2:5, 2:5] = True
    two[2:10, 9, 9] = True
    _, table = audit(shapes((two, "a", "train"), (shape(0), "a", "test")))
    assert table.loc[table["finding"] == "several-parts", "detail"].iloc[0] == "2 parts, 8 voxels outside the largest"


def test_counts_are_set_against_modelnets_when_most_of_them_are_its_own():
    rows = [(shape(i), "bathtub", "train" if i < 104 else "test") for i in range(154)]
    result, _ = audit(shapes(*rows))
    assert result.values["count-mismatch"] == 1
    note = next(note for note in result.notes if note.startswith("count-mismatch"))
    assert "1 of 2 numbers of shapes: not those of ModelNet10" in note
    assert "bathtub train 104 of 106" in note
    full = [(shape(i), "bathtub", "train" if i < 106 else "test") for i in range(156)]
    assert audit(shapes(*full))[0].values["count-mismatch"] == 0


def test_other_peoples_sofas_are_not_taken_for_modelnets():
    assert expected_counts({"sofa": {"train": 280, "test": 70}}) == {}
    assert expected_counts({"dresser": {"train": 200, "test": 50}}) == {}
    assert expected_counts({"teapot": {"train": 200}}) == {}
    assert expected_counts({"sofa": {"train": 643, "test": 93}}) == {"sofa": {"train": 680, "test": 100}}  # duplicates dropped


def test_the_official_counts_add_up():
    for table, sums in ((modelnet40(), (40, 9843, 2468)), (modelnet10(), (10, 3991, 908))):
        assert (len(table), *(sum(counts[split] for counts in table.values()) for split in ("train", "test"))) == sums


@pytest.mark.parametrize("n", [1, 2])
def test_one_class_with_one_or_two_shapes_does_not_crash(n):
    result, _ = audit(shapes(*[(shape(i), "a", "train") for i in range(n)]))
    assert counts(result) == {}
    assert "nothing to leak" in result.absent["exact-leak"]
    assert ("hub" in result.absent) == (n == 1)
    assert result.to_dict()["status"] == "partial"


def test_a_set_of_empty_shapes_only_and_one_that_is_held_out_only_do_not_crash():
    nothing = np.zeros((SIDE,) * 3, bool)
    result, _ = audit(shapes((nothing, "a", "train"), (nothing, "a", "test")))
    assert counts(result) == {"empty": 2}
    assert "fewer than two distinct shapes" in result.absent["near-leak"]
    assert "undersized" in result.absent
    result, _ = audit(shapes(*[(shape(i), "a", "test") for i in range(5)]))
    assert "nothing to leak" in result.absent["near-leak"]


def test_samples_without_class_and_split_are_audited_too(grids):
    result, table = audit(VoxelSet.from_grids(np.concatenate([grids, grids[:2]])))
    assert found(table, "exact-duplicate") == [6, 7]
    assert "exact-leak" in result.absent


def test_the_order_of_the_shapes_changes_no_count():
    rows = [*clean(), (shape(2), "a", "test"), (almost(8), "a", "train"), (shape(0), "b", "train")]
    mixed = shapes(*rows).take(np.random.default_rng(0).permutation(len(rows)))
    first, second = audit(shapes(*rows))[0].values, audit(mixed)[0].values
    assert {key: value for key, value in first.items() if key != "hubs"} == {key: second[key] for key in first if key != "hubs"}


def test_the_result_is_plain_json_and_the_rows_name_known_findings(tmp_path):
    result, table = audit(shapes(*clean(), (shape(2), "a", "test")))
    write_json(tmp_path / "audit.json", result.to_dict())
    assert json.loads((tmp_path / "audit.json").read_text())["values"]["exact-leak"] == 1
    assert list(table.columns) == ["row", "name", "class", "split", "finding", "detail"]
    assert set(table["finding"]) <= set(FINDINGS)
    assert set(UNFIT) <= set(FINDINGS)


@pytest.mark.parametrize("near", [-0.1, 1, float("nan")])
def test_a_distance_out_of_range_is_refused(near):
    with pytest.raises(VoxelError, match=r"expected a number in \[0, 1\)"):
        audit(shapes(*clean(4)), near=near)


def test_no_shapes_are_refused():
    with pytest.raises(VoxelError, match="no shapes"):
        audit(VoxelSet.from_packed(np.zeros((0, 8), np.uint8), 4))


def test_the_known_defects_of_a_public_modelnet10_are_found_exactly(real_data):
    """Published audit: 7 + 1 empty grids, 71 test grids that stand in train, 6 of them under another label, 115 undersized."""
    path = real_data / "voxels" / "modelnet10-30" / "modelnet10.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    classes = np.array("bathtub bed chair desk dresser monitor night_stand sofa table toilet".split())
    packed, rows = [], []
    with np.load(path) as arrays:
        for split in ("train", "test"):
            packed.append(pack(arrays[f"X_{split}"] > 0))
            labels = classes[arrays[f"y_{split}"]]
            rows.append(pd.DataFrame({"name": [f"{split}-{i}" for i in range(len(labels))], "class": labels, "split": split}))
    result, table = audit(VoxelSet(np.concatenate(packed), 30, pd.concat(rows, ignore_index=True)))
    empty = table[table["finding"] == "empty"]
    assert empty["split"].value_counts().to_dict() == {"train": 7, "test": 1}
    values = result.values
    assert (values["exact-leak"], values["leak-other-label"], values["undersized"]) == (71, 6, 115)
    assert values["count-mismatch"] == 0
    assert (values["n"], values["held_out"], values["distinct"]) == (4899, 908, 4629)
    assert (values["solid"], values["surface"], values["thin"]) == (3826, 1, 1064)
    assert values["hub_max"] > 100  # the empty grid
    assert found(table, "empty")[0] in found(table, "hub")


def test_what_was_made_as_surfaces_is_not_called_a_mixture():
    few = shapes(*clean())
    made = VoxelSet(few.packed, few.resolution, few.table, {"grid": {"fill": "surface"}})
    assert "made as surfaces" in audit(made)[0].absent["mixed-kinds"]
    alone = made.take(made.table["split"] == "train")  # nothing is held out: two things are absent at once
    assert {"mixed-kinds", "exact-leak"} <= set(audit(alone)[0].absent)


def test_of_shapes_that_their_method_scaled_unevenly_nobody_is_told_to_prepare_them_again_from_their_meshes():
    few = shapes(*clean(), (cut(30), "a", "train"))
    (note,) = (n for n in audit(few)[0].notes if n.startswith("undersized"))
    assert "a vertex that no face uses" in note
    made = VoxelSet(few.packed, few.resolution, few.table, {"voxelizer": {"name": "polygon2voxel"}})
    (note,) = (n for n in audit(made)[0].notes if n.startswith("undersized"))
    assert "So polygon2voxel scales; the exact method does not: prepare them again without --method" in note
