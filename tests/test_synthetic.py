"""Procedural furniture: real variety, ModelNet's layout, every shape from its own random stream."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gan3d_eval.files import Gan3dError
from gan3d_model.data.commands import FURNITURE
from gan3d_model.data.meshes import Mesh
from gan3d_model.data.synthetic import CLASSES, furniture, write_furniture
from gan3d_model.data.voxelize import Voxelizer, voxelize


def grid_of(shape):
    return voxelize(Mesh(np.asarray(shape.vertices), np.asarray(shape.faces)), Voxelizer(32)).grid


def test_the_command_line_offers_what_there_is():
    assert set(FURNITURE) == set(CLASSES)


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_stands_on_the_floor_in_one_piece_with_real_variety(label):
    grids = np.array([grid_of(furniture(label, i)) for i in range(6)])
    for grid in grids:
        assert ndimage.label(grid)[1] == 1
        assert 300 < grid.sum() < 20_000
    volumes = grids.sum(axis=(1, 2, 3))
    assert volumes.std() > 0.1 * volumes.mean()


def test_a_shape_depends_on_seed_class_and_number_alone():
    assert np.array_equal(furniture("sofa", 3).vertices, furniture("sofa", 3).vertices)
    others = [furniture("sofa", 4), furniture("sofa", 3, seed=1), furniture("table", 3)]
    assert all(m.vertices.shape != furniture("sofa", 3).vertices.shape or not np.array_equal(m.vertices, furniture("sofa", 3).vertices) for m in others)  # fmt: skip


def test_furniture_lies_in_modelnets_layout(tmp_path):
    assert write_furniture(tmp_path, ["table"], 2, 1) == 3
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.off"))] == [
        "table/test/table_0003.off", "table/train/table_0001.off", "table/train/table_0002.off",
    ]  # fmt: skip
    assert (tmp_path / "table/train/table_0001.off").read_text().startswith("OFF")
    with pytest.raises(Gan3dError, match="no class chair; there are dresser"):
        write_furniture(tmp_path, ["chair"], 1, 1)


def test_sets_of_other_sizes_are_not_mixed(tmp_path):
    write_furniture(tmp_path, ["table"], 2, 1)
    write_furniture(tmp_path, ["table"], 2, 1)  # the same again
    with pytest.raises(Gan3dError, match="table_0001.off exists, and is another mesh; .* --force"):
        write_furniture(tmp_path, ["table"], 2, 1, seed=1)
    write_furniture(tmp_path, ["table"], 2, 1, seed=1, force=True)
    with pytest.raises(Gan3dError, match=r"holds other meshes \(table_0003\.off"):
        write_furniture(tmp_path, ["table"], 2, 0)
