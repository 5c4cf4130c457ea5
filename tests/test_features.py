"""D's features: the paper's dimensions, values against loops written out, and files that are never of other weights."""

from __future__ import annotations

import dataclasses
import zipfile

import numpy as np
import pytest
import torch

from gan3d_eval.check_run import check_run
from gan3d_eval.files import Gan3dError
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model import features as module
from gan3d_model.features import Extractor, discriminator_of, untrained, write_features
from gan3d_model.networks import BatchNorm, Discriminator
from gan3d_model.players import CheckpointError, Players


def some_shapes(n, resolution, seed=0):
    return VoxelSet.from_grids(np.random.default_rng(seed).random((n, resolution, resolution, resolution)) < 0.2)


def some_discriminator(resolution=16, base=4, spectral=False):
    """A D whose running statistics are those of no batch, so that a forward in training mode would be seen."""
    torch.manual_seed(0)
    discriminator = Discriminator(resolution, base, spectral)
    for layer in discriminator.modules():
        if isinstance(layer, BatchNorm):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return discriminator


@pytest.fixture
def dataset(dataset_dir):
    return VoxelSet.open(dataset_dir)


def test_the_papers_dimension():
    extractor = Extractor(Discriminator(64, 64))
    assert extractor.layers == (2, 3, 4)
    assert extractor.dimension == 7168 == 128 * 2**3 + 256 * 2**3 + 512 * 2**3
    assert extractor.of(some_shapes(1, 64)).shape == (1, 7168)


@pytest.mark.parametrize(("resolution", "base", "options", "layers", "dimension"), [
    (32, 64, {}, (2, 3), 6144),
    (32, 16, {}, (2, 3), (64 + 128) * 8),
    (16, 64, {}, (2,), 4096),
    (16, 4, {"layers": (2, 1, 1)}, (1, 2), (16 + 32) * 8),
    (32, 4, {"side": 4, "pooling": "mean"}, (2, 3), (16 + 32) * 64),
    (32, 4, {"layers": (1,), "side": 1}, (1,), 8),
    (16, 4, {"side": 4}, (2,), 32 * 64),
])  # fmt: skip
def test_other_resolutions_take_every_convolution_but_the_first(resolution, base, options, layers, dimension):
    extractor = Extractor(Discriminator(resolution, base), **options)
    assert (extractor.resolution, extractor.layers, extractor.dimension) == (resolution, layers, dimension)
    features = extractor.of(some_shapes(1, resolution))
    assert features.shape == (1, dimension)
    assert features.dtype == np.float32


@pytest.mark.parametrize(("pooling", "side", "reduce"), [("max", 2, np.max), ("mean", 2, np.mean), ("max", 4, np.max)])
def test_values_are_those_of_loops_over_what_the_layers_return(pooling, side, reduce):
    discriminator = some_discriminator(32, 2).eval()
    shapes, maps = some_shapes(3, 32), {}
    hooks = [
        block[2].register_forward_hook(lambda layer, given, out, number=number: maps.update({number: out.numpy()}))
        for number, block in enumerate(discriminator.blocks, 1)
    ]
    with torch.no_grad():
        discriminator(torch.from_numpy(shapes.grids()).float())
    for hook in hooks:
        hook.remove()
    expected = []
    for row in range(3):
        values = []
        for number in (2, 3):
            size = maps[number].shape[-1] // side
            for channel in maps[number][row]:
                for x, y, z in np.ndindex(side, side, side):
                    cell = channel[x * size : (x + 1) * size, y * size : (y + 1) * size, z * size : (z + 1) * size]
                    values.append(reduce(cell))
        expected.append(values)
    np.testing.assert_allclose(Extractor(discriminator, side=side, pooling=pooling).of(shapes), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("resolution", "base"), [(16, 4), (32, 3), (64, 4)])
def test_a_shapes_features_depend_on_it_alone_to_the_bit(monkeypatch, resolution, base):
    monkeypatch.setattr(module, "VOXELS_PER_BATCH", 4 * resolution**3)
    discriminator = some_discriminator(resolution, base)
    assert discriminator.training
    extractor, shapes = Extractor(discriminator), some_shapes(11, resolution)
    whole = extractor.of(shapes)
    assert discriminator.training, "the mode is put back"
    assert len(np.unique(whole, axis=0)) == 11
    order = np.random.default_rng(1).permutation(11)
    np.testing.assert_array_equal(extractor.of(shapes.take(order)), whole[order])
    for n in (1, 2, 3, 5, 8):  # blocks of any size, put together
        parts = [extractor.of(shapes.take(range(start, min(11, start + n)))) for start in range(0, 11, n)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_batches_of_another_size_differ_by_rounding_only(monkeypatch):
    extractor, shapes = Extractor(some_discriminator(32)), some_shapes(9, 32)
    whole = extractor.of(shapes)
    monkeypatch.setattr(module, "VOXELS_PER_BATCH", 3 * 32**3)
    np.testing.assert_allclose(extractor.of(shapes), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spectral", [False, True])
def test_extracting_leaves_the_weights_as_they_are(spectral):
    extractor = Extractor(some_discriminator(spectral=spectral))
    before = extractor.weights_sha256
    first = extractor.of(some_shapes(3, 16))
    assert extractor.weights_sha256 == before
    np.testing.assert_array_equal(extractor.of(some_shapes(3, 16)), first)


def test_no_shapes_have_no_features():
    assert Extractor(some_discriminator()).of(some_shapes(2, 16).take([])).shape == (0, 256)


def test_the_hash_is_of_weights_buffers_and_options():
    one, other = some_discriminator(), some_discriminator()
    assert Extractor(one).sha256 == Extractor(other, label="another name").sha256
    assert Extractor(one).sha256 == Extractor(other.to(memory_format=torch.channels_last_3d)).sha256
    options = ({"layers": (1, 2)}, {"side": 4}, {"pooling": "mean"})
    assert len({Extractor(one, **given).sha256 for given in ({}, *options)}) == 4
    assert len({Extractor(one, **given).weights_sha256 for given in ({}, *options)}) == 1
    other.blocks[1][1].running_var[0] += 1e-3
    assert Extractor(one).sha256 != Extractor(other).sha256
    assert Extractor(one).weights_sha256 != Extractor(other).weights_sha256


def test_the_name_says_all_options():
    assert Extractor(Discriminator(32, 2), label="D of step 500").name == "D of step 500, layers 2 3, max to 2³"


@pytest.mark.parametrize(("options", "message"), [
    ({"layers": (3,)}, "D at 16³ has no layer 3; choose of 1, 2"),
    ({"layers": (0, 1)}, "no layer 0"),
    ({"side": 8}, "layer 2 has 4³ and cannot be pooled to 8³"),
    ({"side": 3}, "cannot be pooled to 3³"),
    ({"side": 0}, "cannot be pooled to 0³"),
    ({"pooling": "median"}, "'median' is unknown; choose one of max, mean"),
])  # fmt: skip
def test_impossible_options_are_refused(options, message):
    with pytest.raises(Gan3dError, match=message):
        Extractor(Discriminator(16, 2), **options)


def test_shapes_of_another_resolution_are_refused():
    with pytest.raises(Gan3dError, match="the shapes have resolution 32, but D was made for 16"):
        Extractor(Discriminator(16, 2)).of(some_shapes(1, 32))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    discriminator = some_discriminator()
    with torch.no_grad():
        discriminator.blocks[1][0].weight[3, 2, 1, 1, 1] = value
    with pytest.raises(Gan3dError, match="features of 5 of 5 shapes are not finite"):
        Extractor(discriminator).of(some_shapes(5, 16))


def test_the_discriminator_of_a_run(trained):
    run = RunDir.open(trained)
    newest, step = discriminator_of(run, device="cpu")
    assert step == 6
    saved = torch.load(run.checkpoints()[-1], weights_only=True)["discriminator"]
    assert all(torch.equal(value, saved[name]) for name, value in newest.state_dict().items())
    assert not newest.training
    first, step = discriminator_of(run, 3, "cpu")
    assert step == 3
    assert Extractor(first).sha256 != Extractor(newest).sha256


def change_checkpoint(run, change):
    path = run.checkpoints()[-1]
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.pop("discriminator"), "holds no discriminator, only generator"),
    (lambda c: c["config"].update(base_channels=8), "does not fit the config beside it; one of both is damaged: restore it.*size mismatch"),
    (lambda c: c["config"].update(resolution=32), "does not fit the config beside it"),
    (lambda c: c["discriminator"].pop("head.weight"), "does not fit .*Missing key.*head.weight"),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_refused(run_copy, change, message):
    change_checkpoint(run_copy, change)
    with pytest.raises(CheckpointError, match=message):
        discriminator_of(run_copy, device="cpu")


def test_a_run_without_the_checkpoint_is_refused(run_copy):
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5; there are those of 3, 6"):
        discriminator_of(run_copy, 5, "cpu")
    for path in run_copy.checkpoints():
        path.unlink()
    for status, advice in (
        ("finished", "train a new run$"),
        ("running", "go on with its training: .* --resume"),
    ):
        with pytest.raises(CheckpointError, match=f"has no checkpoint; {advice}"):
            discriminator_of(run_copy.update(status=status), device="cpu")


def test_untrained_is_where_a_training_with_the_seed_begins(tiny, dataset):
    train = dataset.select(split="train")
    control = untrained(tiny, train, 3, "cpu")
    begin = Players.build(dataclasses.replace(tiny, seed=3), torch.device("cpu")).discriminator
    weights = dict(begin.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in control.named_parameters())
    assert not control.training
    same, other = untrained(tiny, train, 3, "cpu"), untrained(tiny, train, 4, "cpu")
    assert Extractor(control).sha256 == Extractor(same).sha256 != Extractor(other).sha256
    assert Extractor(control).of(train).tobytes() == Extractor(same).of(train).tobytes()


@pytest.mark.parametrize("spectral", [False, True])
def test_untrained_has_the_statistics_of_the_shapes(tiny, dataset, spectral):
    config = dataclasses.replace(tiny, batch_size=64, spectral_norm=spectral)  # one batch
    control = untrained(config, dataset, 3, "cpu", n=40)
    begin = Players.build(dataclasses.replace(config, seed=3), torch.device("cpu")).discriminator
    assert Extractor(control).weights_sha256 != Extractor(begin).weights_sha256, "the statistics"
    state, fresh = control.state_dict(), begin.state_dict()
    assert {n for n in state if not torch.equal(state[n], fresh[n])} == {n for n in state if "running" in n or "tracked" in n}
    rows = torch.randperm(len(dataset), generator=module.stream(3, "statistics"))[:40].numpy()
    with torch.no_grad():
        maps = control.blocks[0][0](torch.from_numpy(dataset.grids(rows)).float()[:, None])
    torch.testing.assert_close(control.blocks[0][1].running_mean, maps.mean((0, 2, 3, 4)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(control.blocks[0][1].running_var, maps.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-6)


def test_untrained_averages_over_all_batches_and_at_most_n_shapes(tiny, dataset):
    control = untrained(tiny, dataset, 0, "cpu", n=30)
    assert control.blocks[0][1].num_batches_tracked == 4  # of 8, 8, 7 and 7
    rows = torch.randperm(len(dataset), generator=module.stream(0, "statistics"))[:30].numpy()
    with torch.no_grad():
        means = [
            control.blocks[0][0](torch.from_numpy(dataset.grids(part)).float()[:, None]).mean((0, 2, 3, 4))
            for part in np.array_split(rows, 4)
        ]
    torch.testing.assert_close(control.blocks[0][1].running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-6)
    with pytest.raises(Gan3dError, match="6 shapes at 8³ given; expected some at 16³"):
        untrained(tiny, some_shapes(6, 8), 0, "cpu")
    with pytest.raises(Gan3dError, match="0 shapes at 16³"):
        untrained(tiny, dataset.take([]), 0, "cpu")


def extractor_of(run):
    discriminator, step = discriminator_of(run, device="cpu")
    return Extractor(discriminator, label=f"D of step {step}")


def test_the_features_file_keeps_rule_6(run_copy, dataset):
    extractor = extractor_of(run_copy)
    path = write_features(run_copy, dataset, extractor, "furniture")
    assert path == run_copy.path / "features" / "furniture.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["features"].dtype == np.float32
    np.testing.assert_array_equal(arrays["features"], extractor.of(dataset))
    assert arrays["features"].shape == (96, 256)
    assert arrays["labels"].tolist() == list(dataset.table["class"])
    assert arrays["names"].tolist() == dataset.names
    assert arrays["split"].tolist() == list(dataset.table["split"])
    assert arrays["layers"].tolist() == [2]
    assert arrays["weights_sha256"] == extractor.weights_sha256
    assert arrays["shapes_sha256"] == dataset.sha256
    assert arrays["extractor_sha256"] == extractor.sha256
    assert arrays["extractor"] == "D of step 6, layers 2, max to 2³"
    assert [rule for rule, _ in check_run(run_copy.path) if rule in (1, 6, 9, 11)] == []


@pytest.fixture
def computed(monkeypatch):
    """How many shapes were given to D, one entry a call."""
    calls, of = [], Extractor.of
    monkeypatch.setattr(Extractor, "of", lambda self, shapes: calls.append(len(shapes)) or of(self, shapes))
    return calls


def test_features_are_computed_once(run_copy, dataset, computed):
    path = write_features(run_copy, dataset, extractor_of(run_copy), "furniture")
    before = path.stat().st_mtime_ns
    assert write_features(run_copy, dataset, extractor_of(run_copy), "furniture") == path
    assert path.stat().st_mtime_ns == before
    assert computed == [96]


def renamed(shapes):
    return dataclasses.replace(shapes, table=shapes.table.assign(**{"class": "chair"}))


def other_weight(extractor):
    with torch.no_grad():
        extractor.discriminator.blocks[0][0].weight[0, 0, 1, 1, 1] += 1e-3


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_lzma(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    data = bytearray(path.read_bytes())
    data[200:210] = bytes(10)
    path.write_bytes(data)


@pytest.mark.parametrize("change", ["weight", "option", "shapes", "labels", "cut", "bit", "packed"])
def test_whatever_changes_is_computed_again(run_copy, dataset, computed, change):
    extractor = extractor_of(run_copy)
    path = write_features(run_copy, dataset, extractor, "furniture")
    good = path.read_bytes()
    if change == "weight":
        other_weight(extractor)
    extractor = dataclasses.replace(extractor, pooling="mean") if change == "option" else extractor
    shapes = {"shapes": dataset.take(range(50)), "labels": renamed(dataset)}.get(change, dataset)
    if change == "cut":
        cut(path)
    if change == "bit":
        path.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    if change == "packed":
        damaged_lzma(path)
    write_features(run_copy, shapes, extractor, "furniture")
    assert computed == [96, len(shapes)]
    assert (path.read_bytes() == good) == (change in ("cut", "bit", "packed"))
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], extractor.of(shapes))
        assert file["labels"].tolist() == list(shapes.table["class"])


def test_nothing_is_written_of_features_that_are_not_finite(run_copy, dataset):
    extractor = extractor_of(run_copy)
    with torch.no_grad():
        extractor.discriminator.blocks[1][1].bias.fill_(float("nan"))
    with pytest.raises(Gan3dError, match="not finite"):
        write_features(run_copy, dataset, extractor, "furniture")
    assert not run_copy.has("features/furniture.npz")


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "a b"])
def test_names_that_are_no_file_names_are_refused(run_copy, dataset, name):
    with pytest.raises(Gan3dError, match="is no name for features"):
        write_features(run_copy, dataset, extractor_of(run_copy), name)


def test_shapes_without_labels_are_refused(run_copy):
    with pytest.raises(Gan3dError, match="the shapes have no class and no split"):
        write_features(run_copy, some_shapes(2, 16), extractor_of(run_copy), "dust")
