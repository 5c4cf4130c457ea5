"""A mapping computes what the port computes, or it is refused with the true reason."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools

import numpy as np
import pytest
import torch
from test_torch7 import conv, network, norm, written
from torch import nn

from gan3d_eval.files import Gan3dError
from gan3d_eval.orientation import given
from gan3d_eval.run_dir import RunDir
from gan3d_model.config import TrainConfig
from gan3d_model.foreign_layers import _modules
from gan3d_model.import_weights import newest, read_weights, write_weights
from gan3d_model.players import discriminator_for, generator_for
from gan3d_model.sample import sample
from gan3d_model.torch7 import TorchObject


@dataclasses.dataclass
class File:
    name: str
    content: object

    def read(self):
        if isinstance(self.content, bytes):
            return self.content
        stream = io.BytesIO()
        torch.save(self.content, stream)
        return stream.getvalue()


def port(resolution, base, padding, latent=9, bias=False, last=None, first_norm=True, discriminator=False):
    """What ports write: five layers of kernel 4³, the one next to the latents (or logits) with padding 0 or 1."""
    torch.manual_seed(resolution + base)
    make = nn.Conv3d if discriminator else nn.ConvTranspose3d
    n, inner = {(64, 0): (5, 4), (32, 1): (5, 2), (32, 0): (4, 4), (16, 0): (3, 4)}[resolution, padding]
    widths = [32 * base // (inner * 2**i) for i in range(n - 1)]
    sides = [1, *widths[::-1], 1] if discriminator else [latent, *widths, 1]
    layers = nn.Sequential()
    for i, (before, after) in enumerate(itertools.pairwise(sides)):
        at_end = i == (n - 1 if discriminator else 0)
        parts = [make(before, after, 4, 2 if not at_end or padding else 1, padding if at_end else 1, bias=bias)]
        if i < n - 1:
            parts += [nn.BatchNorm3d(after)] * (first_norm or i > 0) + [nn.LeakyReLU(0.2) if discriminator else nn.ReLU()]
        else:
            parts += [last or nn.Sigmoid()]
        layers.add_module(f"layer{i + 1}", nn.Sequential(*parts))
    for module in layers.modules():  # as after a training
        if isinstance(module, nn.BatchNorm3d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.3, 2),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                nn.init.uniform_(tensor, low, high)
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(module.weight, 0, 0.2)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return layers.eval()


def theirs(layers, x):
    with torch.no_grad():
        return layers(x[:, :, None, None, None])[:, 0]


def ours(weights, player, x):
    network = (generator_for if player == "generator" else discriminator_for)(TrainConfig.from_dict(weights.config))
    network.load_state_dict(weights.states[player])
    with torch.no_grad():
        return network.eval()(x)


LATENTS = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("resolution", "base", "padding"), [(64, 2, 0), (32, 4, 1), (32, 3, 0), (16, 5, 0)])
def test_a_mapped_generator_computes_what_the_port_computes(resolution, base, padding, bias):
    """Among them the layout of the slides' port: padding 1 at 32³, so that five layers start from 2³."""
    layers = port(resolution, base, padding, bias=bias)
    weights = read_weights([File("G.pth", layers.state_dict())], resolution)
    expected = {
        "resolution": resolution,
        "base_channels": base,
        "inner_size": 2 if padding else 4,
        "last_bias": bias,
        "latent_dim": 9,
    }
    assert weights.config == expected | {"prior": "unknown"}
    torch.testing.assert_close(ours(weights, "generator", LATENTS), theirs(layers, LATENTS), atol=2e-6, rtol=1e-4)
    assert len(weights.matched) == len(layers)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("first_norm", [True, False])
@pytest.mark.parametrize(("resolution", "padding"), [(64, 0), (32, 1), (16, 0)])
def test_a_mapped_discriminator_gives_the_ports_logits_and_inner_maps(resolution, padding, bias, first_norm):
    layers = port(resolution, 2, padding, bias=bias, first_norm=first_norm, discriminator=True, last=nn.Identity())
    weights = read_weights([File("D.pth", layers.state_dict())], resolution)
    grids = (torch.rand(3, resolution, resolution, resolution, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    with torch.no_grad():
        logits, inner = layers(grids[:, None]).flatten(), layers[:2](grids[:, None])
    torch.testing.assert_close(ours(weights, "discriminator", grids), logits, atol=1e-4, rtol=1e-4)
    network = discriminator_for(TrainConfig.from_dict(weights.config))
    network.load_state_dict(weights.states["discriminator"])
    with torch.no_grad():
        torch.testing.assert_close(network.eval().blocks[:2](grids[:, None]), inner, atol=1e-4, rtol=1e-4)


def test_a_tanh_and_a_scale_of_the_latents_are_folded_exactly():
    layers = port(32, 4, 1, bias=True, last=nn.Tanh())
    weights = read_weights([File("G.pth", layers.state_dict())], 32, "normal", latent_scale=0.33, output="tanh")
    expected = (theirs(layers, 0.33 * LATENTS) + 1) / 2
    torch.testing.assert_close(ours(weights, "generator", LATENTS), expected, atol=2e-6, rtol=1e-4)


def test_a_discriminator_that_saw_minus_one_is_left_out_and_refused_alone():
    """Its padding of 0 is the middle of what it saw, and the lower end of what ours sees."""
    g, d = port(32, 2, 1, last=nn.Tanh()), port(32, 2, 1, discriminator=True, last=nn.Identity())
    files = [File("G.pt", g.state_dict()), File("D.pt", d.state_dict())]
    weights = read_weights(files, 32, output="tanh")
    assert set(weights.states) == {"generator"}
    assert any("D saw grids of −1 and 1" in note for note in weights.notes)
    with pytest.raises(Gan3dError, match="D saw grids of −1 and 1"):
        read_weights(files[1:], 32, output="tanh")


@pytest.mark.parametrize("axes", ["xz-y", "zyx", "-y-zx"])
def test_weights_are_turned_with_the_samples(axes):
    """G makes shapes that lie as the imported ones do, and D sees them so."""
    pose = given(axes, None).pose
    g, d = port(32, 2, 1), port(32, 2, 1, discriminator=True, last=nn.Identity())
    weights = read_weights([File("G.pt", g.state_dict()), File("D.pt", d.state_dict())], 32, pose=pose)
    expected = pose(theirs(g, LATENTS).numpy())
    np.testing.assert_allclose(ours(weights, "generator", LATENTS), expected, atol=2e-6, rtol=1e-4)
    with torch.no_grad():
        logits = d(theirs(g, LATENTS)[:, None]).flatten()
    turned = torch.from_numpy(np.ascontiguousarray(expected))
    torch.testing.assert_close(ours(weights, "discriminator", turned), logits, atol=1e-4, rtol=1e-4)


def renamed(state, rule):
    return {rule(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize("dress", [
    lambda g, d: {"G": g, "D": d},
    lambda g, d: {"epoch": 7, "model": {"netG": renamed(g, "module.{}".format), "netD": renamed(d, "module.{}".format)}, "best": [0.5]},
    lambda g, d: renamed(g, "generator.main.{}".format) | renamed(d, "discriminator.net.{}".format),
    lambda g, d: {"G": {k: t.half() for k, t in g.items()}, "D": {k: t.double() for k, t in d.items()}},
])  # fmt: skip
def test_names_decide_nothing(dress):
    g, d = port(32, 2, 1).state_dict(), port(32, 2, 1, discriminator=True).state_dict()
    weights = read_weights([File("both.pt", dress(g, d))], 32)
    assert set(weights.states) == {"generator", "discriminator"}
    plain = read_weights([File("G.pt", g), File("D.pt", d)], 32)
    for player, state in plain.states.items():
        for name, tensor in state.items():
            torch.testing.assert_close(weights.states[player][name], tensor, atol=2e-3, rtol=2e-3)


def test_sequential_numbering_is_read_too():
    layers = nn.Sequential(*[part for block in port(64, 2, 0, bias=True) for part in block]).eval()
    assert list(layers.state_dict())[:2] == ["0.weight", "0.bias"]
    weights = read_weights([File("G.pt", layers.state_dict())], 64)
    torch.testing.assert_close(ours(weights, "generator", LATENTS), theirs(layers, LATENTS), atol=2e-6, rtol=1e-4)


def test_a_fully_connected_last_layer_of_d_is_a_convolution_over_the_whole_map():
    layers = port(16, 2, 0, discriminator=True)
    tail = nn.Linear(16 * 64, 1)
    body = nn.Sequential(*list(layers)[:-1])
    weights = read_weights([File("D.pt", nn.ModuleDict({"a": body, "out": nn.Sequential(tail)}).state_dict())], 16)
    grids = torch.rand(2, 16, 16, 16)
    with torch.no_grad():
        expected = tail(body(grids[:, None]).flatten(1)).flatten()
    torch.testing.assert_close(ours(weights, "discriminator", grids), expected, atol=1e-5, rtol=1e-4)


def as_pytorch(root):
    """A network of Torch7 in PyTorch's layers, built from its own description of the format."""
    layers = []
    for module in root.fields["modules"].values():
        f = module.fields
        if "Convolution" in module.kind:
            layer = nn.ConvTranspose3d(f["nInputPlane"], f["nOutputPlane"], f["kT"], f["dT"], f["padT"], bias=False)
            layer.weight.data = torch.from_numpy(f["weight"])
        elif "Normalization" in module.kind:
            layer = nn.BatchNorm3d(len(f["weight"]), eps=f["eps"])
            variance = f["running_var"] if "running_var" in f else f["running_std"] ** -2.0 - f["eps"]
            layer.load_state_dict(
                {
                    "weight": torch.from_numpy(f["weight"]),
                    "bias": torch.from_numpy(f["bias"]),
                    "running_mean": torch.from_numpy(f["running_mean"]),
                    "running_var": torch.tensor(variance),
                    "num_batches_tracked": torch.tensor(1),
                }
            )
        else:
            layer = {"nn.ReLU": nn.ReLU(), "nn.Sigmoid": nn.Sigmoid()}[module.kind]
        layers.append(layer)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("how", [{}, {"eps": 1e-3}, {"old": True}])
def test_the_official_torch7_generator_is_mapped_and_its_biases_are_left_out_as_its_script_does(how):
    root = network(latent=9, bias=0.7, **how)
    weights = read_weights([File("chair_G_cpu.t7", written(root))], 64, "uniform")
    assert weights.config["inner_size"] == 4
    assert not weights.config["last_bias"]
    assert any("left out" in note for note in weights.notes)
    torch.testing.assert_close(ours(weights, "generator", LATENTS), theirs(as_pytorch(root), LATENTS), atol=2e-6, rtol=1e-4)


def changed(state, **changes):
    return {k: changes.get(k.replace(".", "_"), t) for k, t in state.items() if changes.get(k.replace(".", "_"), t) is not None}


def other(transform):
    state = port(32, 2, 1).state_dict()
    return transform(state)


@pytest.mark.parametrize(("content", "resolution", "reason"), [
    (other(lambda s: s), None, "say it with --resolution"),
    (nn.Linear(2, 2).state_dict(), None, "weight is fully connected"),
    (nn.Conv3d(1, 2, 4).state_dict(), None, "holds a chain of so few layers: 1; a network of ours has at least 3"),
    (other(lambda s: s), 30, "weights for 30³ cannot be used"),
    (other(lambda s: s), 128, "lead to 128³ from 8³"),
    (other(lambda s: {k: t for k, t in s.items() if "layer3.1" not in k}), 32, "layer3.0.weight is not followed by batch normalisation"),
    (other(lambda s: {k: t for k, t in s.items() if "running" not in k}), 32, "without running statistics"),
    (other(lambda s: {k: t for k, t in s.items() if not k.startswith("layer3")}), 32, "do not join"),
    (other(lambda s: changed(s, layer2_0_weight=torch.zeros(32, 16, 3, 3, 3))), 32, r"our layer there has \(32, 16, 4, 4, 4\)"),
    (other(lambda s: {k: t * torch.nan if k == "layer2.0.weight" else t for k, t in s.items()}), 32, "NaN or infinity .* diverged"),
    (other(lambda s: {k.replace("weight", "weight_orig"): t for k, t in s.items()}), 32, "no convolution or batch normalisation"),
    ({"layer0.weight": torch.zeros(128, 9), "layer0.bias": torch.zeros(128)} | other(lambda s: s), 32, "fully connected"),
    ({"G": other(lambda s: s), "G_ema": other(lambda s: s)}, 32, "several networks that could be the generator"),
    ({"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}, 32, "state of an optimiser"),
    ({"a": torch.zeros(3)}, 32, "no convolution"),
    ({"samples": [1, 2]}, 32, "holds no tensor"),
    ({".".join(["a"] * 5000): torch.zeros(2)}, 32, "no convolution|more than 32 parts"),
    ({f"{i}": view for i, view in enumerate([torch.zeros(100, 100).T] * 9)}, 32, "more than 4 times what it stores"),
    (nn.Linear(2, 2), 32, "holds more than tensors .*state_dict"),
    (b"\x80\x04N.", 32, "no file that torch.save wrote"),
    (b"PK\x03\x04" + bytes(50), 32, "truncated"),
])  # fmt: skip
def test_what_our_networks_cannot_compute_is_refused_with_the_true_reason(content, resolution, reason):
    with pytest.raises(Gan3dError, match=reason):
        read_weights([File("a.pt", content)], resolution)


def widths(base):
    sides = [9, base * 4, base * 2, 7, 1]
    layers = [
        nn.Sequential(nn.ConvTranspose3d(a, b, 4, 2, 1, bias=False), *[nn.BatchNorm3d(b)] * (b > 1))
        for a, b in itertools.pairwise(sides)
    ]
    return nn.Sequential(*layers).state_dict()


def test_widths_that_do_not_halve_are_refused():
    with pytest.raises(Gan3dError, match=r"widths \[32, 16, 7\]; ours halve"):
        read_weights([File("a.pt", widths(8))], 32)


@pytest.mark.parametrize(("root", "reason"), [
    (TorchObject("nn.Sequential", {"modules": {1: TorchObject("nn.Linear", {})}}), "nn.Linear has no counterpart"),
    (TorchObject("nn.Parallel", {"modules": {}}), "no chain of layers"),
    ({"a": 1.0}, "expected a network"),
    (TorchObject("nn.Sequential", {"modules": {1: conv(True, 9, 16, stride=1, padding=0), 2: norm(16), 3: TorchObject("nn.ReLU", {}), 4: conv(True, 16, 8, padding=0), 5: norm(8), 6: conv(True, 8, 1)}}), "stride 2, padding 0, unlike"),
])  # fmt: skip
def test_torch7_networks_of_another_kind_are_refused(root, reason):
    with pytest.raises(Gan3dError, match=reason):
        read_weights([File("a.t7", written(root))], 16)


def test_a_torch7_container_that_holds_itself_is_refused():
    root = TorchObject("nn.Sequential", {"modules": {}})
    root.fields["modules"][1] = root
    with pytest.raises(Gan3dError, match="deeper than 32 containers"):
        list(_modules(root))


def test_an_activation_of_another_kind_is_refused_where_the_file_names_it():
    root = network()
    root.fields["modules"][3] = TorchObject("nn.LeakyReLU", {"negval": 0.2})
    with pytest.raises(Gan3dError, match=r"followed by LeakyReLU 0.2; ours by ReLU"):
        read_weights([File("a.t7", written(root))], 64)


def test_batch_normalisation_after_the_activation_is_refused_where_the_file_names_the_order():
    root = network()
    modules = root.fields["modules"]
    modules[2], modules[3] = modules[3], modules[2]
    with pytest.raises(Gan3dError, match="BatchNormalization stands after ReLU; ours stands before it"):
        read_weights([File("a.t7", written(root))], 64)


@pytest.mark.parametrize(("kind", "fields", "fits"), [
    ("nn.Dropout", {"p": 0.5, "v2": True}, True), ("nn.Dropout", {"p": 0.0}, True), ("nn.Dropout", {"p": 0.5}, False),
    ("nn.VolumetricDropout", {"p": 0.5}, False),
])  # fmt: skip
def test_a_dropout_that_scales_in_evaluation_is_refused(kind, fields, fits):
    """Torch7's does, but for its second version: `self.output:mul(1-self.p)`."""
    root = network()
    modules = list(root.fields["modules"].values())
    modules.insert(3, TorchObject(kind, fields))
    root.fields["modules"] = dict(enumerate(modules, start=1))
    with contextlib.nullcontext() if fits else pytest.raises(Gan3dError, match="scales its maps"):
        read_weights([File("a.t7", written(root))], 64)


def test_a_transposed_convolution_that_adds_voxels_at_one_end_is_refused():
    root = network()
    root.fields["modules"][4].fields["adjW"] = 1.0
    with pytest.raises(Gan3dError, match="adds voxels at one end"):
        read_weights([File("a.t7", written(root))], 64)


def test_the_files_of_the_last_step_are_taken_and_optimisers_passed_over():
    g = port(32, 2, 1)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    files = [File("p/G_900.pkl", g.state_dict()), File("p/G_12000.pkl", g.state_dict()), File("p/G_optim_12000.pkl", optimizer)]
    assert [f.name for f in newest(files)[0]] == ["p/G_12000.pkl", "p/G_optim_12000.pkl"]
    weights = read_weights(files, 32)
    assert weights.step == 12000
    assert [f["file"] for f in weights.files] == ["p/G_12000.pkl"]
    assert any("1 files of other steps" in note for note in weights.notes)


def test_players_of_two_layouts_are_not_put_into_one_run():
    with pytest.raises(Gan3dError, match="G has width 2 from 2³ and D has width 4 from 2³"):
        read_weights(
            [File("G.pt", port(32, 2, 1).state_dict()), File("D.pt", port(32, 4, 1, discriminator=True).state_dict())], 32
        )


@pytest.fixture
def imported(tmp_path):
    meta = {
        "run_id": "a", "category": "a", "resolution": 32, "status": "imported", "seed": None, "dataset": None, "grid": {}, "prior": None,
        "producer": {}, "software": {}, "command": [], "imported": {"source": "a"},
    }  # fmt: skip
    return RunDir.create(tmp_path / "run", meta)


def test_samples_are_drawn_from_imported_weights_and_are_the_ports_own(imported):
    layers = port(32, 2, 1)
    write_weights(imported, read_weights([File("G_7.pt", layers.state_dict())], 32, "normal"))
    run = RunDir.open(imported.path)
    assert run.meta["prior"] == "normal"
    assert run.config()["inner_size"] == 2
    sample(run, 5, name="final", device="cpu", soft=True)
    with np.load(run.path / "samples/final.npz") as drawn:
        expected = theirs(layers, torch.from_numpy(drawn["latents"]))
        np.testing.assert_allclose(drawn["probability"], expected.numpy(), atol=1e-3)
        assert drawn["step"] == 7


def test_without_a_known_prior_nothing_is_drawn(imported):
    write_weights(imported, read_weights([File("G.pt", port(32, 2, 1).state_dict())], 32))
    with pytest.raises(Gan3dError, match="unknown.*--prior"):
        sample(RunDir.open(imported.path), 5, device="cpu")


def test_a_discriminator_alone_is_not_sampled_from(imported):
    write_weights(imported, read_weights([File("D.pt", port(32, 2, 1, discriminator=True).state_dict())], 32, "normal"))
    with pytest.raises(Gan3dError, match="holds no generator, only discriminator"):
        sample(RunDir.open(imported.path), 5, device="cpu")


def test_the_slides_port_is_mapped(real_data):
    folder = real_data / "foreign/slides-port/pickle"
    files = [File(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    weights = read_weights(files, 32, "normal0.33")
    assert weights.config == {
        "resolution": 32,
        "base_channels": 16,
        "inner_size": 2,
        "last_bias": False,
        "latent_dim": 200,
        "prior": "normal0.33",
    }
    layers = port(32, 16, 1, latent=200)
    layers.load_state_dict(torch.load(folder / "G_12000.pkl", weights_only=True))
    latents = 0.33 * torch.randn(4, 200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(weights, "generator", latents), theirs(layers, latents), atol=1e-6, rtol=1e-5)


def test_files_that_are_named_one_by_one_are_all_taken_whatever_numbers_they_bear():
    files = [File("G_200.pt", port(32, 2, 1).state_dict()), File("D_100.pt", port(32, 2, 1, discriminator=True).state_dict())]
    assert set(read_weights(files, 32).states) == {"generator"}
    assert set(read_weights(files, 32, named=True).states) == {"generator", "discriminator"}
