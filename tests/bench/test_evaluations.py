"""The evaluations, run on pictures with a known right answer and an engine that sees colours."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest

from bench import association, evaluate, evaluate_clip, evaluate_photos, evaluate_tracking
from matting.frames import UNTRACKED, Mattes, no_one

SIZE = (64, 96)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # person 1, 2, 3


class ColourEngine:
    """Everything of one strong colour is one person."""

    name = "colours"

    def __init__(self, blind_to: int | None = None) -> None:
        self.blind_to = blind_to

    def start(self) -> None:
        return None

    def step(self, rgb: np.ndarray, state: None) -> tuple[Mattes, None]:
        found = []
        for index, colour in enumerate(COLOURS):
            mask = np.abs(rgb.astype(int) - colour).sum(2) < 180
            if mask.sum() > 20 and index != self.blind_to:
                found.append((index, mask))
        if not found:
            return no_one(rgb.shape[:2]), state
        alpha = np.stack([mask for _, mask in found]).astype(np.float32)
        boxes = [cv2.boundingRect(mask.astype(np.uint8)) for _, mask in found]
        return (
            Mattes(
                alpha=alpha,
                coarse=alpha[:, 4::8, 4::8],
                score=np.full(len(found), 0.9, np.float32),
                box=np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], np.float32),
                code=np.eye(8, dtype=np.float32)[[index for index, _ in found]],
                ids=np.full(len(found), UNTRACKED, np.int64),
            ),
            state,
        )

    def close(self) -> None:
        pass


def load_colours(*_args, **_kwargs) -> ColourEngine:
    return ColourEngine()


def painted(labels: np.ndarray) -> np.ndarray:
    rgb = np.full((*labels.shape, 3), 128, np.uint8)
    for index, colour in enumerate(COLOURS):
        rgb[labels == index + 1] = colour
    return rgb


@pytest.fixture
def clip(tmp_path):
    """Twenty frames: person 1 walks right, person 2 stands and is there only in the first ten."""
    path, ids = tmp_path / "walk.mkv", tmp_path / "walk_ids"
    ids.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for t in range(20):
            labels = np.zeros(SIZE, np.uint8)
            labels[16:56, 8 + t : 28 + t] = 1
            if t < 10:
                labels[8:56, 70:90] = 2
            cv2.imwrite(str(ids / f"{t:05d}.png"), labels)
            picture = av.VideoFrame.from_ndarray(painted(labels), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode())
    return path


def test_a_clip_that_comes_out_right_scores_full_marks(clip, capsys):
    code = evaluate_clip.main(["--clip", str(clip), "--json"], load_engine=load_colours)
    scores = json.loads(capsys.readouterr().out)

    assert code == 0
    assert scores["frames"] == 20
    assert scores["mean_iou"] == pytest.approx(1)
    assert scores["presence"] == scores["idf1"] == 1
    assert scores["switches"] == 0
    assert [person["visible_frames"] for person in scores["people"]] == [20, 10]


def test_someone_never_seen_halves_the_score_and_misses_the_bar(clip, capsys):
    code = evaluate_clip.main(
        ["--clip", str(clip), "--min-iou", "0.75", "--min-presence", "0.9", "--max-switches", "3"],
        load_engine=lambda *_, **__: ColourEngine(blind_to=1),
    )
    said = capsys.readouterr().out

    assert code == 1
    assert "mean IoU 0.500" in said
    assert "MISSED: mean IoU is 0.5, held to at least 0.75" in said
    assert "MISSED: presence" in said
    assert "MISSED: switches" not in said


def test_ignored_pixels_and_traces_of_people_do_not_count():
    """Half of person 1 is under an ignore label, and 10 pixels of person 2 are no person yet."""
    labels = np.zeros(SIZE, np.uint8)
    labels[0:40, 0:20] = 1
    labels[20:40, 0:20] = evaluate_clip.IGNORE
    labels[60, :10] = 2
    alpha = np.zeros((2, *SIZE), np.float32)
    alpha[0, 0:40, 0:20] = 1
    alpha[1, 60, :10] = 1  # someone where only a trace is known: neither right nor wrong
    mattes = Mattes(
        alpha, np.zeros((2, 1, 1), np.float32), np.ones(2, np.float32),
        np.zeros((2, 4), np.float32), np.zeros((2, 0), np.float32), np.array([4, 5]),
    )  # fmt: skip

    frame = evaluate_clip.compare(labels, mattes)

    assert frame.true_ids.tolist() == [1]
    assert frame.predicted_ids.tolist() == [4]
    assert frame.similarity.tolist() == [[1.0]]


def test_a_clip_without_labels_says_so(clip, tmp_path, capsys):
    missing = evaluate_clip.main(
        ["--clip", str(clip), "--ids", str(tmp_path / "no")], load_engine=load_colours
    )
    assert missing == 3
    assert "no such folder of label pictures" in capsys.readouterr().err

    (tmp_path / "walk_ids" / "00007.png").unlink()
    assert evaluate_clip.main(["--clip", str(clip)], load_engine=load_colours) == 3
    assert "without a gap" in capsys.readouterr().err


def test_more_labels_than_frames_and_labels_of_another_size_are_refused(clip, tmp_path, capsys):
    ids = tmp_path / "walk_ids"
    cv2.imwrite(str(ids / "00020.png"), np.zeros(SIZE, np.uint8))
    assert evaluate_clip.main(["--clip", str(clip)], load_engine=load_colours) == 3
    assert "ends after 20 frames, the labels after 21" in capsys.readouterr().err

    cv2.imwrite(str(ids / "00000.png"), np.zeros((10, 10), np.uint8))
    assert evaluate_clip.main(["--clip", str(clip)], load_engine=load_colours) == 3
    assert "like the video" in capsys.readouterr().err


def test_a_missing_clip_is_an_input_error(tmp_path, clip, capsys):
    argv = ["--clip", str(tmp_path / "none.mp4"), "--ids", str(tmp_path / "walk_ids")]

    assert evaluate_clip.main(argv, load_engine=load_colours) == 3
    assert "none.mp4" in capsys.readouterr().err


@pytest.fixture
def photographs(tmp_path):
    """Three photographs: the first is not part of the set; the others hold a tall and a small."""
    for index in range(3):
        labels = np.zeros(SIZE, np.uint8)
        labels[4:60, 10:30] = 1
        labels[40:50, 60:70] = 2  # 10 of 64 rows: less than a quarter
        if index == 2:
            labels[4:60, 75:95] = 3
        rgb = painted(labels)
        cv2.imwrite(
            str(tmp_path / f"penn_{index}.webp"),
            cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_WEBP_QUALITY, 101],
        )
        cv2.imwrite(str(tmp_path / f"penn_{index}.png"), labels)
    return tmp_path


def test_photographs_are_scored_over_the_people_found(photographs, capsys):
    argv = ["--data", str(photographs), "--prefix", "penn_", "--count", "2", "--json"]

    assert evaluate_photos.main(argv, load_engine=load_colours) == 0
    scores = json.loads(capsys.readouterr().out)

    assert [photo["name"] for photo in scores["photographs"]] == ["penn_1", "penn_2"]
    assert scores["mean_iou"] == pytest.approx(1, abs=0.02)
    assert (scores["recall"], scores["precision"]) == (1, 1)
    assert scores["tall_people"] == 3  # the small one does not count for recall


def test_tall_people_who_are_missed_lower_the_recall(photographs, capsys):
    argv = ["--data", str(photographs), "--prefix", "penn_", "--count", "2", "--min-recall", "0.75"]

    code = evaluate_photos.main(argv, load_engine=lambda *_, **__: ColourEngine(blind_to=2))

    assert code == 1
    assert "recall 0.667 of 3 tall people" in capsys.readouterr().out


def test_too_few_photographs_is_an_error(photographs, capsys):
    argv = ["--data", str(photographs), "--prefix", "penn_", "--count", "9"]

    assert evaluate_photos.main(argv, load_engine=load_colours) == 3
    assert "9 photographs penn_* with a PNG of labels were expected, 3 found" in (
        capsys.readouterr().err
    )


def test_a_matte_of_the_wrong_size_is_half_a_person():
    true = np.zeros((1, *SIZE), bool)
    true[0, 0:40, 0:20] = True
    alpha = np.zeros((1, *SIZE), np.float32)
    alpha[0, 0:40, 0:15] = 0.8  # 3/4 of the body

    score = evaluate_photos.photo_score("one", alpha, true)

    assert score.found_iou == pytest.approx((0.75,))
    assert (score.tall_people, score.tall_found) == (1, 1)


def sequence(folder, rows: list[str], length: int) -> None:
    (folder / "gt").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nframeRate=10\nseqLength={length}\n")
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))


def test_true_boxes_in_plain_motion_are_tracked_without_error(tmp_path, capsys):
    rows = [f"{t},{i},{100 * i + 3 * t},50,40,100,1,1,1" for t in range(1, 21) for i in (1, 2)]
    sequence(tmp_path / "dance1", rows, 20)

    assert evaluate_tracking.main(["--dancetrack", str(tmp_path), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]

    assert (scores["hota"], scores["idf1"], scores["switches"]) == (1, 1, 0)


def test_second_halves_meet_their_detections_and_statues_are_nobody(tmp_path, capsys):
    """The ground truth renumbers the second half from 1; class 7 is a standing figure."""
    folder = tmp_path / "MOT17-99"
    truth = [f"{t},1,{3 * t},50,40,100,1,1,1" for t in range(1, 11)]
    truth += [f"{t},2,600,50,40,100,0,7,1" for t in range(1, 11)]
    sequence(folder, truth, 10)
    found = [f"{t},1,900,50,40,100,0.9,-1,-1,-1" for t in range(1, 11)]  # the first half
    found += [f"{t + 10},1,{3 * t},50,40,100,0.9,-1,-1,-1" for t in range(1, 11)]
    found += [f"{t + 10},2,600,50,40,100,0.9,-1,-1,-1" for t in range(1, 11)]
    (folder / "det_yolox_full_sequence.txt").write_text("\n".join(found))

    assert evaluate_tracking.main(["--mot17", str(tmp_path), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]

    assert (scores["hota"], scores["idf1"]) == (1, 1)
    assert scores["predicted_people"] == 1


def test_missing_annotations_are_an_input_error(tmp_path, capsys):
    assert evaluate_tracking.main(["--dancetrack", str(tmp_path)]) == 3
    assert "no folder here holds gt/gt.txt" in capsys.readouterr().err


def test_what_is_seen_perfectly_scores_perfectly_and_what_is_missed_is_drawn(clip, tmp_path):
    settings = evaluate.Settings()
    seen = evaluate.bedroom(ColourEngine(), settings, clip)
    blind = evaluate.bedroom(ColourEngine(blind_to=1), settings, clip)

    assert seen.figures["mean IoU"] > 0.99
    assert seen.figures["dtSSD, each frame by itself"] < 0.5
    assert seen.figures["dtSSD"] < 1  # what is perfect is kept back a little where it moves
    assert seen.figures["mean IoU, steadied"] > 0.97
    assert blind.figures["IoU of person 2"] == 0
    assert blind.cases[0].badness == 1
    blind.draw(tmp_path)
    drawn = cv2.imread(str(tmp_path / "clip_worst.png"))
    assert drawn.shape[1] == 3 * 384  # picture, truth, answer
    assert len(blind.cases) == evaluate.WORST


def test_a_clip_is_measured_with_and_without_what_the_network_remembers(clip):
    class Remembering(ColourEngine):
        """Sees the second person only in frames after others."""

        def step(self, rgb, state):
            self.blind_to = None if state else 1
            return super().step(rgb, None)[0], True

    part = evaluate.bedroom(Remembering(), evaluate.Settings(), clip)

    assert part.figures["mean IoU"] > 0.9
    assert part.figures["mean IoU, each frame by itself"] == pytest.approx(0.5, abs=0.02)
    assert part.figures["worst person present, each frame by itself"] == 0


def test_one_more_than_there_are_in_a_webcam_clip_is_a_stranger(clip):
    part = evaluate.webcams(ColourEngine(), evaluate.Settings(), {clip: 1})
    right = evaluate.webcams(ColourEngine(), evaluate.Settings(), {clip: 2})

    assert part.figures["frames with the person, per cent"] == 100
    assert part.figures["frames with a stranger, per cent"] == pytest.approx(50, abs=5)
    assert right.figures["frames with a stranger, per cent"] == 0


def test_whoever_is_found_in_an_empty_picture_is_false():
    gray = np.full((*SIZE, 3), 128, np.uint8)
    statue = gray.copy()
    statue[10:40, 10:30] = COLOURS[0]
    part = evaluate.empty(ColourEngine(), evaluate.Settings(), [gray, statue, gray, gray])

    assert part.figures["false people per 100 pictures"] == 25
    assert [case.name for case in part.cases] == ["picture 1"]


def test_a_tracker_slower_than_its_bar_is_told(capsys):
    assert association.main(["--people", "2", "--frames", "3", "--max-ms", "0"]) == 1
    assert "MISSED: median of 2 people" in capsys.readouterr().out
