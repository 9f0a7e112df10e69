"""The network takes any picture, and what is done outside torch is what torch would have done."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.people import Answer, choose, equals, people, share_out, working_size  # noqa: E402
from matting.network import detail, live  # noqa: E402
from matting.network.export import fold_norms  # noqa: E402
from matting.network.pose import JOINTS, KNOWN, SAID8, SAID16, SEEN, Pose  # noqa: E402

SMALL = live.Sizes(codes=6, width=32, heads=4, layers=2, hidden=64, context=16, embedding=8,
                   united=32, trimap=16, fine=8)  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    made = live.LiveNetwork(SMALL)
    with torch.no_grad():  # norms that have seen something, so that folding them is a test
        for _ in range(3):
            made(torch.rand(2, 3, 64, 96) * 2 - 1)
    return made.eval()


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 160), (128, 32)])
def test_every_output_has_the_shape_it_is_documented_to_have(network, size):
    out = network(torch.zeros(2, 3, *size))
    h8, w8, n = size[0] // 8, size[1] // 8, SMALL.codes

    assert out.existence[-1].shape == (2, n, 2)
    assert out.location[-1].shape == (2, n, h8, w8)
    assert out.attention.shape == (2, n + 1, h8, w8)
    assert out.trimap.shape == (2, n, 3, h8, w8)
    assert out.kernels.shape == (2, n, 4, SMALL.fine + 1)
    assert out.fine.shape == (2, SMALL.fine, size[0] // 2, size[1] // 2)
    assert out.codes.shape == (2, n, SMALL.width)


def test_shares_of_a_pixel_add_up_to_one(network):
    share = network(torch.rand(1, 3, 64, 96) * 2 - 1).attention.exp().sum(1)
    assert torch.allclose(share, torch.ones_like(share), atol=1e-5)


def test_a_picture_in_a_batch_gives_what_it_gives_alone(network):
    pictures = torch.rand(3, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        together, alone = network(pictures), network(pictures[1:2])
    assert torch.allclose(together.fine[1], alone.fine[0], atol=1e-4)
    assert torch.allclose(together.trimap[1], alone.trimap[0], atol=1e-3)


def test_a_seed_stands_where_the_heat_is_highest(network):
    with torch.no_grad():
        out = network(torch.rand(1, 3, 64, 96) * 2 - 1)
    heat = out.heat[0, 0]
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    x, y = out.seeds[0, 0].tolist()
    assert (x, y) == pytest.approx(
        ((column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]), abs=1e-6
    )


def test_weights_come_back_with_their_sizes(network, tmp_path):
    live.save(network, tmp_path / "w.safetensors", note="made for a test")
    back, facts = live.load(tmp_path / "w.safetensors")

    assert back.sizes == SMALL and facts["note"] == "made for a test"
    picture = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(back(picture).fine, network(picture).fine, atol=0.05)  # float16


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"network": "other"})
    with pytest.raises(ValueError, match="'other', expected 'e2e_him_live'"):
        live.load(tmp_path / "x.safetensors")


def test_folding_norms_changes_nothing(network, tmp_path):
    live.save(network, tmp_path / "w.safetensors")
    (plain, _), (folded, _) = (live.load(tmp_path / "w.safetensors") for _ in range(2))
    fold_norms(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    picture = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(plain(picture).fine, folded(picture).fine, atol=1e-4)


def test_a_colour_slope_separates_two_colours_within_one_cell():
    """One cell of the grid, hair on sky: only the frame's own pixels can tell them apart."""
    heads = torch.zeros(1, 4, 4, 4)
    heads[:, 0], heads[:, 3] = 12.0, 0.0  # red is the person, its absence is not
    unknown = torch.zeros(1, 3, 1, 1)
    unknown[:, 1] = 30.0
    frame = -torch.ones(1, 3, 32, 32)
    frame[:, 0, :, ::2] = 1.0

    alpha = detail.opaque(detail.alpha_logits(detail.coefficients(heads, unknown), frame))

    assert (alpha[0, :, ::2] == 1).all() and (alpha[0, :, 1::2] == 0).all()


@pytest.mark.parametrize("size", [(108, 192), (96, 160), (97, 161), (61, 200)])
def test_mattes_made_without_torch_equal_those_made_with_it(size):
    """Someone in a corner of the grid: what is computed only around them is what all of it is."""
    rng = np.random.default_rng(1)
    location = np.zeros((1, 8, 12), np.float32)
    location[0, 3:6, 7:10] = 1.0
    trimap = np.zeros((1, 3, 8, 12), np.float32)
    trimap[0, 0] = 30.0 * (location[0] == 0)  # surely background elsewhere
    trimap[0, 1:, 3:6, 7:10] = rng.normal(0, 3, (2, 3, 3))
    answer = Answer(
        score=np.float32([0.9]), code=np.zeros((1, 4), np.float32), location=location,
        trimap=trimap, kernels=rng.normal(0, 2, (1, 4, 9)).astype(np.float32),
        fine=rng.normal(0, 1, (8, 32, 48)).astype(np.float32),
    )  # fmt: skip
    rgb = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    heads = np.einsum("kf,fhw->khw", answer.kernels[0, :, :-1], answer.fine)
    heads += answer.kernels[0, :, -1:, None]
    coefficient = detail.coefficients(*(torch.from_numpy(x[None]) for x in (heads, trimap[0])))
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = detail.opaque(detail.alpha_logits(coefficient, picture))[0].numpy()

    found = people(answer, rgb, threshold=0.5)

    assert len(found) == 1 and expected.max() > 0.9
    assert np.abs(found.alpha[0] - expected).max() < 2e-3


def test_when_no_one_is_there_there_are_no_mattes(network):
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 64, 96))
    alpha, score, chosen = live.mattes(output, torch.zeros(3, 128, 192), threshold=1.1)
    assert alpha.shape == (0, 128, 192) and len(score) == len(chosen) == 0


def test_a_person_said_twice_is_one_person_and_two_who_touch_are_two():
    score = np.float32([0.8, 0.9, 0.7])
    location = np.zeros((3, 8, 12), np.float32)
    location[0, 2:6, 2:5] = location[1, 2:6, 2:5] = 0.9
    location[2, 2:6, 5:8] = 0.9
    answer = Answer(score, *(np.zeros(0, np.float32) for _ in range(5)))._replace(location=location)

    assert choose(answer, 0.5).tolist() == [1, 2]
    assert choose(answer, 0.85).tolist() == [1]


def test_who_is_doubted_shares_alike_unless_they_are_somebody_said_twice():
    location = np.zeros((5, 8, 12), np.float32)
    location[0, 2:6, 2:5] = 0.9  # somebody
    location[1, 2:6, 3:7] = 0.9  # half hidden behind them
    location[2, 3:5, 2:5] = 0.9  # a part of them, said again
    location[3, 2:6, 8:10] = location[4, 2:6, 8:11] = 0.9  # two who may be one, and nobody else
    answer = Answer(np.float32([0.9, 0.3, 0.4, 0.3, 0.2]), *[np.zeros(0, np.float32)] * 5)
    answer = answer._replace(location=location)

    assert equals(answer, np.arange(5)).tolist() == [True, True, False, True, True]
    assert equals(answer, np.array([2, 1])).tolist() == [True, True]  # of whom would it be a part?
    assert equals(answer._replace(score=np.full(5, 0.8)), np.arange(5)).all()


def test_people_share_a_pixel_and_who_yields_takes_only_what_is_left():
    everywhere = np.ones((4, 1, 1), np.float32)
    alpha = np.float32([0.9, 0.6, 0.5, 0.1]).reshape(4, 1, 1)
    share_out(alpha, np.array([True, True, False, False]), everywhere)
    assert alpha.ravel() == pytest.approx([0.6, 0.4, 0, 0], abs=1e-6)

    alpha = np.float32([0.7, 0.5, 0.1]).reshape(3, 1, 1)
    share_out(alpha, np.array([True, False, False]), everywhere[:3])
    assert alpha.ravel() == pytest.approx([0.7, 0.25, 0.05], abs=1e-6)


def test_a_pixel_two_people_claim_goes_to_who_is_there_and_torch_agrees():
    rng = np.random.default_rng(2)
    claims = np.float32([0.5, 0.45]).reshape(2, 1, 1)
    share_out(claims, np.array([True, True]), np.float32([0.9, 0.1]).reshape(2, 1, 1))
    assert claims.ravel() == pytest.approx([0.939, 0.0111], abs=1e-3)  # 0.95 in all, as before

    alpha, location = rng.random((2, 3, 5, 7)).astype(np.float32)
    expected = detail.share_out(torch.from_numpy(alpha), torch.from_numpy(location)).numpy()
    share_out(alpha, np.ones(3, bool), location)
    assert np.abs(alpha - expected).max() < 1e-5
    assert alpha.sum(0).max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("size", "seen"),
    [((540, 960), (288, 512)), ((1080, 1920), (288, 512)), ((480, 640), (320, 448)),
     ((1920, 1080), (512, 288)), ((1, 1), (384, 384))],
)  # fmt: skip
def test_the_network_sees_a_picture_in_its_own_shape(size, seen):
    assert working_size(size) == seen


def test_a_picture_no_one_could_be_seen_in_is_refused():
    with pytest.raises(ValueError, match="16 times"):
        working_size((10, 4000))


@pytest.mark.parametrize("size", [(64, 96), (144, 256), (16, 80)])
def test_joints_are_told_on_the_grids_of_the_whole_picture(size):
    """Also where a side is no multiple of 32 and the picture is filled up below or to the right."""
    with torch.no_grad():
        said8, said16 = Pose().eval()(torch.zeros(1, 3, *size))
    assert said8.shape == (1, SAID8, size[0] // 4, size[1] // 4)
    assert said16.shape == (1, SAID16, size[0] // 8, size[1] // 8)


def test_the_shipped_network_finds_the_joints_of_both_children_of_the_demo_clip():
    import av
    import cv2

    root = Path(__file__).resolve().parents[2]
    with av.open(str(root / "demo/bedroom.mp4")) as clip:
        rgb = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    pose = live.load(root / "weights/live.safetensors")[0].pose
    small = cv2.resize(rgb, (256, 144), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        said = pose(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1)[0][0]
    centre, joints = said[KNOWN - JOINTS - 1] / SEEN, said[KNOWN - JOINTS : KNOWN] / SEEN
    boy, girl = (slice(None), slice(0, 21)), (slice(None), slice(21, 40))  # of 64 columns

    assert centre[boy].max() > 0.5 and centre[girl].max() > 0.5  # somebody's middle
    assert centre[:, 44:].max() < 0.3  # and nobody's among the furniture
    assert joints[0][girl].max() > 0.3 and joints[0][:, 44:].max() < 0.2  # a nose
