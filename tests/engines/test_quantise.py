"""What decides whether an int8 network is kept.  Quantising takes minutes and is not run here."""

import cv2
import numpy as np
import pytest

from engines import EngineError
from engines.exported import SIZES_KEPT, ExportedEngine
from engines.quantise import Figures, calibration, judged, labelled, quantised
from matting.frames import Mattes


class Painter:
    """Finds who is red and who is blue, each by `share` of the alpha they have."""

    def __init__(self, share=1.0, blind=False):
        self.share, self.blind = share, blind

    def start(self):
        return None

    def step(self, rgb, state):
        alpha = np.stack([rgb[..., 0] > 128, rgb[..., 2] > 128]).astype(np.float32) * self.share
        alpha = alpha[:1] if self.blind else alpha
        n = len(alpha)
        return Mattes(alpha, np.zeros((n, 1, 1), np.float32), np.full(n, 0.9, np.float32),
                      np.zeros((n, 4), np.float32), np.zeros((n, 1), np.float32),
                      np.full(n, -1)), state  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    rgb, ids = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    rgb[10:30, 5:25, 0], ids[10:30, 5:25] = 255, 7
    rgb[10:30, 35:55, 2], ids[10:30, 35:55] = 255, 9
    for name in ("a.webp", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
        cv2.imwrite(str((tmp_path / name).with_suffix(".png")), ids)
    cv2.imwrite(str(tmp_path / "unlabelled.webp"), rgb)
    return labelled(tmp_path)


def test_only_labelled_pictures_are_taken(pictures):
    assert [(p.name, ids.name) for p, ids in pictures] == [("a.webp", "a.png"), ("b.jpg", "b.png")]


def test_someone_missed_counts_as_nothing_found(pictures):
    whole, half, blind = (judged(p, pictures[:1]) for p in
                          (Painter(), Painter(0.75), Painter(blind=True)))  # fmt: skip

    assert whole.people == 2 and whole.iou == pytest.approx(1) and whole.mad == pytest.approx(0)
    assert half.iou == pytest.approx(1)
    assert half.mad == pytest.approx(1000 * 0.25 * 400 / 2400)
    assert blind.iou == pytest.approx(0.5) and blind.mad == pytest.approx(1000 * 400 / 2400 / 2)


def test_the_worse_of_both_figures_decides():
    before = Figures(10, iou=0.80, mad=20.0)
    assert Figures(10, 0.79, 20.0).loss_against(before) == pytest.approx(0.0125)
    assert Figures(10, 0.82, 21.0).loss_against(before) == pytest.approx(0.05)
    assert Figures(10, 0.82, 19.0).loss_against(before) < 0


def test_calibration_follows_pictures_of_many_shapes(pictures):
    class Remembering(ExportedEngine):
        name = "remembering"

        def __init__(self):
            super().__init__(0.3)
            self._keeps = {"memory": 2}

        def _compile(self, size, at_once):
            return size

        def _run(self, network, image, kept):
            assert network == image.shape[1:3]
            return None, {"memory": kept["memory"] + 1}

    engine = Remembering()
    for k in range(SIZES_KEPT):  # more than are held at once, with those to come
        engine.network((32, 64 + 32 * k))

    shown = list(calibration(engine, pictures))

    assert [one["image"].shape for one in shown] == [(1, *engine.working_size((40, 60)), 3)] * 4
    assert [one["memory"].max() for one in shown] == [0, 1, 0, 1]


def test_convolutions_are_turned_and_nothing_else(tmp_path):
    pytest.importorskip("nncf")
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weights = {"kernel": rng.normal(size=(4, 3, 3, 3)), "product": rng.normal(size=(4, 5))}
    text = """<ir_version: 8, opset_import: ["" : 18]>
        toy (uint8[1, H, W, 3] image, float[4, 3, 3, 3] kernel, float[4, 5] product) => (float[1, h, w, 5] out) {
            value = Cast<to = 1>(image)
            first = Transpose<perm = [0, 3, 1, 2]>(value)
            maps = Conv(first, kernel)
            last = Transpose<perm = [0, 2, 3, 1]>(maps)
            out = MatMul(last, product)
        }"""  # noqa: E501
    model = onnx.parser.parse_model(text)
    del model.graph.input[1:]
    for name, values in weights.items():
        made = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(made)
    onnx.save(model, str(tmp_path / "live.onnx"))
    shown = [{"image": rng.integers(0, 256, (1, 16, 24, 3), np.uint8)} for _ in range(2)]

    made = quantised(tmp_path / "live.onnx", shown)

    turned = {
        user.get_node().get_type_name()
        for op in made.get_ops() if op.get_type_name() == "FakeQuantize"
        for user in op.output(0).get_target_inputs()
    }  # fmt: skip
    assert turned and turned <= {"Convolution", "GroupConvolution"}


def test_pictures_without_people_judge_nothing(tmp_path):
    cv2.imwrite(str(tmp_path / "a.webp"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(EngineError, match="no labelled person"):
        judged(Painter(), labelled(tmp_path))
