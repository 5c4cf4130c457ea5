"""How a stranger's grids lie is found where the shapes tell it, and left undecided where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from gan3d_eval.files import Gan3dError
from gan3d_eval.orientation import AS_THEY_LIE, POSES, by_support, by_training_set, given
from gan3d_eval.voxels import VoxelSet, turn_up

BLOB = np.random.default_rng(0).random((2, 5, 5, 5))


def inverse(pose):
    return next(back for back in POSES if back.after(pose) == AS_THEY_LIE)


def chairs(n, seed=0, d=24):
    """Chairs, z up: a seat on four legs, and a back on one side; no two alike."""
    random, grids = np.random.default_rng(seed), np.zeros((n, d, d, d), np.bool_)
    for grid in grids:
        w, deep, seat, high, leg = (random.integers(*r) for r in ((5, 9), (5, 8), (7, 11), (17, 22), (1, 3)))
        x0, x1, y0, y1 = d // 2 - w, d // 2 + w, d // 2 - deep, d // 2 + deep
        for x in (x0, x1 - leg):
            for y in (y0, y1 - leg):
                grid[x : x + leg, y : y + leg, 1:seat] = True
        grid[x0:x1, y0:y1, seat : seat + 2] = True
        grid[x0:x1, y1 - 2 : y1, seat:high] = True
    return grids


def test_there_are_48_poses_24_of_them_turns_and_each_is_undone_by_another():
    assert len(set(POSES)) == 48
    assert sum(pose.is_turn for pose in POSES) == 24
    for pose in POSES:
        assert np.array_equal(inverse(pose)(pose(BLOB)), BLOB)
        assert given(str(pose), None).pose == pose
        for other in POSES[::7]:
            assert np.array_equal(pose.after(other)(BLOB), pose(other(BLOB)))


def test_what_is_said_is_done():
    assert np.array_equal(given(None, "y").pose(BLOB), turn_up(BLOB))
    assert np.array_equal(given("zyx", None).pose(BLOB), BLOB.transpose(0, 3, 2, 1))
    assert np.array_equal(given("x-yz", None).pose(BLOB), BLOB[:, :, ::-1])
    for up in ("x", "y", "z", "-x", "-y", "-z"):
        pose = given(None, up).pose
        assert pose.is_turn
        assert pose.up == ("xyz".index(up[-1]), up[0] == "-")


@pytest.mark.parametrize(
    ("axes", "up"), [("xy", None), ("xxz", None), ("abc", None), ("x y z", None), (None, "w"), ("--xyz", None)]
)
def test_what_is_no_axis_is_refused(axes, up):
    with pytest.raises(Gan3dError, match="expected"):
        given(axes, up)


def test_axes_say_which_is_up_too():
    with pytest.raises(Gan3dError, match="--axes xyz says which axis is up, too; leave --up y out"):
        given("xyz", "y")


@pytest.mark.parametrize("pose", POSES[::5], ids=str)
def test_samples_are_laid_as_the_training_set_lies_up_to_its_own_mirror_image(pose):
    train = VoxelSet.from_grids(chairs(60, 1))
    found = by_training_set(inverse(pose)(chairs(40, 2)), train)
    assert found.how == "training-set"
    mirrored = given("-xyz", None).pose.after(pose)
    assert found.pose in {pose, mirrored}
    assert found.margin > 0.1
    assert "equally good: " in found.evidence


def test_samples_that_lie_well_stay_though_their_mirror_images_lie_as_well():
    found = by_training_set(chairs(40, 2), VoxelSet.from_grids(chairs(60, 1)))
    assert found.pose == AS_THEY_LIE
    assert found.decided


def test_a_pose_is_a_turn_where_a_mirror_image_would_do_as_well():
    train = VoxelSet.from_grids(chairs(60, 1))
    y_up = inverse(given(None, "y").pose)(chairs(40, 2))
    assert by_training_set(y_up, train).pose == given(None, "y").pose


@pytest.mark.parametrize("axes", ["zyx", "xz-y", "x-yz", "xyz"])
def test_copies_of_training_shapes_tell_mirror_images_apart(axes):
    grids = chairs(40)
    for grid in grids:
        grid[3, 3, 3] = True  # on one side, so that no mirror image is the same shape
    train = VoxelSet.from_grids(grids)
    samples = inverse(given(axes, None).pose)(grids[:30])
    found = by_training_set(samples, train)
    assert str(found.pose) == axes
    assert axes == "xyz" or "of 30 samples looked at 30 equal training shapes in this way alone" in found.evidence


def test_who_copies_mirror_images_as_well_tells_nothing_by_copies():
    grids = chairs(40)
    for grid in grids:
        grid[3, 3, 3] = True
    both = np.concatenate([grids[:20], grids[20:, ::-1]])
    found = by_training_set(both, VoxelSet.from_grids(grids))
    assert found.pose == AS_THEY_LIE
    assert "equal training shapes" not in found.evidence


@pytest.mark.parametrize("shift", [(0, 1, 0), (2, 1, 0), (0, 0, 3), (-2, -2, 2)])
def test_where_in_the_grid_shapes_stand_tells_no_pose(shift):
    train = VoxelSet.from_grids(np.pad(chairs(60, 1), ((0, 0), *[(4, 4)] * 3)))
    moved = np.roll(np.pad(chairs(40, 2), ((0, 0), *[(4, 4)] * 3)), shift, (1, 2, 3))
    assert by_training_set(moved, train).pose == AS_THEY_LIE
    assert by_training_set(inverse(given(None, "y").pose)(moved), train).pose == given(None, "y").pose


def plates(n, axis, random):
    """Thin across one axis."""
    made = np.zeros((n, 24, 24, 24), np.bool_)
    for grid in made:
        low, high, at = random.integers(1, 5), random.integers(19, 23), random.integers(9, 12)
        grid[tuple(slice(at, at + 3) if a == axis else slice(low, high) for a in range(3))] = True
    return made


def test_shapes_of_one_kind_are_not_turned_to_agree_with_others():
    random = np.random.default_rng(0)
    cubes = np.zeros((60, 24, 24, 24), np.bool_)
    cubes[:, 2:21, 2:21, 2:21] = True
    mixed = np.concatenate([plates(20, 2, random), plates(17, 1, random), cubes])
    standing = plates(40, 1, random)
    found = by_training_set(standing, VoxelSet.from_grids(mixed))
    assert not found.decided
    assert by_training_set(standing, VoxelSet.from_grids(plates(17, 1, random))).pose == AS_THEY_LIE


def test_empty_shapes_lie_as_they_lie():
    found = by_training_set(np.zeros((20, 24, 24, 24), np.bool_), VoxelSet.from_grids(chairs(60, 1)))
    assert (found.decided, found.pose) == (True, AS_THEY_LIE)
    assert "empty" in found.evidence
    assert not by_support(np.zeros((20, 24, 24, 24), np.bool_)).decided


@pytest.mark.parametrize("samples", [
    np.random.default_rng(0).random((40, 24, 24, 24)) < 0.2, chairs(3),
    np.ones((20, 24, 24, 24), np.bool_),
])  # fmt: skip
def test_noise_too_few_and_cubes_are_undecided(samples):
    train = VoxelSet.from_grids(chairs(60, 1))
    assert not by_training_set(samples, train).decided
    assert not by_support(samples).decided
    assert by_support(samples).pose == AS_THEY_LIE


@pytest.mark.parametrize("up", ["z", "y", "-y", "x", "-z"])
def test_without_a_training_set_the_axis_that_is_up_is_found(up):
    pose = given(None, up).pose
    found = by_support(inverse(pose)(chairs(30, 3)))
    assert found.how == "support"
    assert found.pose.up == pose.up
    assert found.pose.is_turn


def test_cubes_have_no_axis_that_is_up():
    grids = np.zeros((20, 16, 16, 16), np.bool_)
    for i, grid in enumerate(grids):
        grid[2 : 8 + i % 4, 2 : 8 + i % 4, 2 : 8 + i % 4] = True
    assert not by_support(grids).decided


def test_real_chairs_of_two_sources_are_laid_alike(real_data):
    """ShapeNet's are y up, ModelNet's z up: 64³ and 30³, so that only the axis is compared."""
    from gan3d_eval.formats import parse_voxels

    paths = sorted((real_data / "voxels/chair-binvox-64").glob("*.binvox"))
    shapenet = np.array([parse_voxels(path.open("rb"), ".binvox")[""] for path in paths])
    assert by_support(shapenet).pose == given(None, "y").pose
    with np.load(real_data / "voxels/modelnet10-30/modelnet10.npz") as data:
        known, unseen = (data[f"X_{s}"][data[f"y_{s}"] == 2].astype(bool) for s in ("train", "test"))
    assert by_support(unseen).pose == AS_THEY_LIE
    found = by_training_set(inverse(given("zyx", None).pose)(unseen), VoxelSet.from_grids(known))
    assert found.pose in {given("zyx", None).pose, given("zy-x", None).pose}


@pytest.mark.slow
def test_on_real_classes_the_axis_that_is_up_is_never_found_wrong_from_thirty_samples(real_data):
    random = np.random.default_rng(0)
    with np.load(real_data / "voxels/modelnet10-30/modelnet10.npz") as data:
        sets = [[data[f"X_{s}"][data[f"y_{s}"] == label].astype(bool) for s in ("train", "test")] for label in range(10)]
    decided = 0
    for known, unseen in sets:
        train = VoxelSet.from_grids(known).without_empty()
        for _ in range(6):
            pose = POSES[random.integers(48)]
            some = inverse(pose)(unseen[random.permutation(len(unseen))[:30]])
            for found in (by_training_set(some, train), by_support(some)):
                assert not found.decided or found.pose.up == pose.up
                decided += found.decided
    assert decided > 70
