"""The published network: its numbers, its checkpoint, and the same numbers faster.

goldens/published.npz holds outputs of the published program (float32, CPU) under the deterministic
weights of `filled` and an input of noise; every 32nd row and column of alpha, every 64th of the
trimap.
"""

import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.published import loops  # noqa: E402
from matting.network.published import convert, network  # noqa: E402
from matting.network.published.network import PublishedNetwork, Sizes  # noqa: E402
from matting.network.published.parts import up  # noqa: E402
from matting.network.published.swin import relative_positions  # noqa: E402

GOLDEN = Path(__file__).parent / "goldens" / "published.npz"
SMALL = Sizes(codes=5, layers=1, depths=(2, 2, 1, 1), thin=8)


def filled(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights under which the published program was run, by their name there."""
    if key.endswith("relative_position_index"):
        return relative_positions(7)
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float64)
    n, last = n.astype(np.float32), key.split(".")[-1]
    if "relative_position_bias_table" in key:
        n = 0.02 * n
    elif key == "query_embed.weight":
        n = 2 * n
    elif n.ndim == 2 and key.startswith("globalf"):
        n = n * (4 / shape[1]) ** 0.5
    elif last == "gamma":
        n = np.full(shape, 0.5, np.float32)
    elif n.ndim >= 2:
        n = n * (1 / np.prod(shape[1:])) ** 0.5
    else:
        n = 1 + 0.1 * n if last == "weight" else 0.05 * n
    return torch.from_numpy(np.asarray(n, np.float32))


def authors_names(made: PublishedNetwork) -> dict[str, tuple[int, ...]]:
    """Every tensor the authors' file has, with its shape: our names translated back."""
    names = {theirs(key): tuple(value.shape) for key, value in made.state_dict().items()}
    for stage, depth in enumerate(made.sizes.depths):
        for block in range(depth):
            name = f"trans.layers.{stage}.blocks.{block}.attn.relative_position_index"
            names[name] = (49, 49)
    for name in ("conv1", "conv2"):  # in the file, and in no computation
        names[f"{name}.weight"], names[f"{name}.bias"] = (1, 256, 1, 1), (1,)
    return names


def theirs(key: str) -> str:
    old, rest = next((t, key[len(m) :]) for t, m in convert.PREFIXES if key.startswith(m))
    rest = re.sub(r"body\.([147])\.", r"in_conv1.\1.gn.", rest)
    rest = re.sub(r"body\.([036])\.", r"in_conv1.\1.", rest)
    rest = rest.replace("mlp.0.", "mlp.fc1.").replace("mlp.2.", "mlp.fc2.")
    if old in convert.STACKS:
        number, _, name = rest.partition(".")
        rest = f"{int(number) // 2}.{name}"
    return old + rest


@pytest.fixture(scope="module")
def small():
    """A network an eighth as wide, whose weights have all been moved off their starting values."""
    torch.manual_seed(4)
    made = PublishedNetwork(SMALL).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture(scope="module")
def picture():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def checkpoint():
    """What the authors' file holds, by name and shape, under the reference weights."""
    with torch.device("meta"):
        names = authors_names(PublishedNetwork())
    return {key: filled(key, shape) for key, shape in names.items()}


def test_the_authors_649_tensors_are_read_and_give_the_published_numbers(checkpoint):
    """Alpha and trimap within 2e-3 (their ranges are 56 and 83), existence within 1e-4."""
    assert len(checkpoint) == 649
    assert sum(value.numel() for value in checkpoint.values()) == 70_482_356
    golden = np.load(GOLDEN)
    made = convert.converted(checkpoint)
    noise = np.random.default_rng(640).standard_normal((3, 40, 40)).astype(np.float32)
    image = torch.from_numpy(np.kron(noise, np.ones((1, 16, 16), np.float32)))[None]

    with torch.no_grad():
        output = made(image)
        alpha = made.alpha_head.fused(output.fine[0], image[0], output.kernels[0, :, 0])
    trimap = up(output.trimap[0], 8).flatten(0, 1)

    def worst(found, name):
        return np.abs(found.numpy() - golden[name]).max()

    assert worst(output.codes[0, :, ::4], "codes_s4") < 1e-4
    assert worst(output.existence[0], "existence_logits") < 1e-4
    assert worst(alpha[:, ::32, ::32], "alpha_preclamp_s32") < 2e-3
    assert worst(trimap[:, ::64, ::64], "trimap_logits_s64") < 2e-3


def test_the_names_of_the_published_file_are_known_to_the_letter():
    """The digest is of every name and shape of the authors' file, sorted."""
    with torch.device("meta"):
        names = authors_names(PublishedNetwork())
    told = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(names.items()))

    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "2b41f0528dc7457b"


def test_batched_products_give_what_a_loop_over_people_gives(small, picture):
    with torch.no_grad():
        expected, output = loops(small, picture), small(picture)
        alpha = small.alpha(output, picture)

        assert torch.allclose(output.existence, expected.existence, atol=1e-5)
        assert torch.allclose(up(output.trimap.flatten(0, 1), 8), expected.trimap.flatten(0, 1),
                              atol=1e-4)  # fmt: skip
        assert torch.allclose(alpha, expected.alpha, atol=1e-4)
        for row in range(2):
            fused = small.alpha_head.fused(
                output.fine[row], picture[row], output.kernels[row, :, 0]
            )
            assert torch.allclose(fused, expected.alpha[row], atol=1e-4)
    assert expected.alpha.abs().max() > 0.05  # there was something to compare


def test_a_picture_in_a_batch_gives_what_it_gives_alone(small, picture):
    with torch.no_grad():
        together, alone = small(picture), small(picture[1:])

    assert torch.allclose(together.fine[1], alone.fine[0], atol=1e-4)
    assert torch.allclose(together.trimap[1], alone.trimap[0], atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (160, 64), (224, 96)])
def test_any_size_of_multiples_of_32_is_taken(small, size):
    with torch.no_grad():
        output = small(torch.zeros(1, 3, *size))

    assert output.fine.shape[-2:] == size
    assert output.trimap.shape == (1, 5, 3, size[0] // 8, size[1] // 8)


def test_other_sizes_are_refused(small):
    with pytest.raises(ValueError, match="multiples of 32"):
        small(torch.zeros(1, 3, 100, 96))


def test_only_codes_that_are_someone_become_mattes(small, picture):
    with torch.no_grad():
        output = small(picture)
        exist = torch.tensor([[3.0, 0], [0, 1], [2, 0], [0, 4], [1, 0]])
        output = output._replace(existence=exist.expand(2, -1, -1))
        matte, score, chosen = small.people(output, picture, row=1)
        every = network.composed(output.trimap[1], small.alpha(output, picture)[1])

    assert chosen.tolist() == [3, 1]  # by falling score
    assert score.tolist() == pytest.approx([1 / (1 + np.exp(-4)), 1 / (1 + np.exp(-1))])
    assert (matte - every[[3, 1]]).abs().max() < 1e-4
    none = output._replace(existence=-exist.expand(2, -1, -1)[..., :1].repeat(1, 1, 2))
    assert small.people(none, picture)[0].shape == (0, 64, 96)


def test_the_trimap_decides_where_alpha_speaks():
    trimap = torch.full((1, 3, 1, 3), -9.0)
    trimap[0, [0, 1, 2], 0, [0, 1, 2]] = 9.0  # background, unknown, foreground from left to right
    matte = network.composed(trimap, torch.full((1, 8, 24), 0.4))

    assert matte[0, 4, [0, 12, 23]].tolist() == pytest.approx([0, 0.4, 1])


def test_a_whole_picture_gets_mattes_of_its_own_size(small):
    with torch.no_grad():
        small_bias = small.perception.exist[-1].bias.clone()
        small.perception.exist[-1].bias += torch.tensor([-50.0, 50.0])  # everyone exists
        rgb = np.random.default_rng(1).integers(0, 255, (90, 130, 3), dtype=np.uint8)
        alpha, score = network.mattes(small, rgb, side=64)
        small.perception.exist[-1].bias.copy_(small_bias)

    assert alpha.shape[1:] == (90, 130) and len(alpha) == len(score)
    assert all(matte.sum() >= network.SMALLEST for matte in alpha)
    assert alpha.min(initial=0) >= 0 and alpha.max(initial=0) <= 1


def test_weights_come_back_with_their_sizes(small, picture, tmp_path):
    network.save(small, tmp_path / "w.safetensors", licence="for a test")
    back, facts = network.load(tmp_path / "w.safetensors")

    assert back.sizes == SMALL and facts["licence"] == "for a test"
    with torch.no_grad():
        assert torch.equal(back(picture).fine, small(picture).fine)


def test_a_checkpoint_is_converted_with_its_licence_told(checkpoint, tmp_path, monkeypatch, capsys):
    wrapped = {"state_dict": {f"module.{key}": value for key, value in checkpoint.items()}}
    torch.save(wrapped, tmp_path / "swintiny.ckpt")
    target = tmp_path / "made" / "published.safetensors"
    monkeypatch.setattr("sys.argv", ["convert", str(tmp_path / "swintiny.ckpt"), str(target)])

    assert convert.main() == 0
    told = capsys.readouterr().out
    back, facts = network.load(target)
    assert "649 tensors" in told and "non-commercial" in told
    assert "non-commercial" in facts["licence"]
    assert torch.equal(back.perception.queries, checkpoint["query_embed.weight"])


def test_a_file_that_would_run_code_is_not_loaded(tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"state_dict": Harm()}, tmp_path / "bad.ckpt")

    with pytest.raises(convert.NotThisCheckpoint, match="could run its code"):
        convert.read(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"hi\n", b"PK\x03\x04 cut short", b"\x80\x02}q\x00"])
def test_a_damaged_file_is_an_error_in_one_line(content, tmp_path, monkeypatch, capsys):
    (tmp_path / "x.ckpt").write_bytes(content)
    monkeypatch.setattr("sys.argv", ["convert", str(tmp_path / "x.ckpt"), str(tmp_path / "y")])

    assert convert.main() == 2
    told = capsys.readouterr().err
    assert "x.ckpt is no checkpoint, or damaged" in told and told.count("\n") == 1
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda s: s.pop("c1.2.bias"), "alpha_head.second.bias is missing"),
     (lambda s: s.update({"extra.weight": torch.zeros(1)}), "unknown tensor 'extra.weight'"),
     (lambda s: s.update({"g1.bias": torch.zeros(3)}), r"\(3,\), expected \(128,\)"),
     (lambda s: s.pop("query_embed.weight"), "not an E2E-HIM checkpoint")],
)  # fmt: skip
def test_a_checkpoint_of_something_else_says_what_differs(checkpoint, change, told):
    other = dict(checkpoint)
    change(other)
    with pytest.raises(convert.NotThisCheckpoint, match=told):
        convert.converted(other)


@pytest.mark.parametrize(
    ("fixed", "people", "shapes"),
    [({}, 5, [(1, 3, 96, 64), (3, 3, 64, 224)]),
     ({"size": (96, 64), "batch": 1}, 2, [(1, 3, 96, 64)])],
    ids=["open", "fixed"],
)  # fmt: skip
def test_the_export_gives_what_eager_gives(small, tmp_path, fixed, people, shapes):
    """Also at sizes and batches it was not traced with; at random weights, to 1e-3."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from matting.network.published import export

    target = tmp_path / "published.onnx"
    export.export(small, target, people=people, note="made for a test", **fixed)
    model = onnx.load(str(target))
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])

    assert {node.op_type for node in model.graph.node} <= export.OPERATORS
    assert {p.key: p.value for p in model.metadata_props}["note"] == "made for a test"
    assert [o.version for o in model.opset_import if not o.domain] == [export.OPSET]
    sides = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ([1, 3, 96, 64] if fixed else ["batch", 3, "height", "width"])
    for shape in shapes:
        image = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
        found = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            expected = export.Exported(small, people)(image)
            output = small(image)
            best = output.existence.softmax(-1)[..., 1].topk(people, dim=1).indices
        for ours, theirs in zip(found, expected, strict=True):
            assert np.abs(ours - theirs.numpy()).max() < 1e-3
        alpha = small.alpha(output, image).detach().clamp(0, 1)[0, best[0]]
        assert np.abs(found[3][0] - alpha.numpy()).max() < 1e-3
