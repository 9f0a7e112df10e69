"""Each reader on a tiny tree as its authors unpack it, and on trees where something is missing."""

import json
import shutil

import cv2
import numpy as np
import pytest

from matting.datasets import DATASETS, open_dataset
from matting.datasets.coco import drawn
from matting.synthesis.sources import DataError

SIZE = (24, 32)


def picture(path, red=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = np.zeros((*SIZE, 3), np.uint8)
    bgr[..., 2] = red
    cv2.imwrite(str(path), bgr)


def matte(path, columns, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    alpha = np.zeros(size, np.uint8)
    alpha[:, columns] = 255
    cv2.imwrite(str(path), alpha)


LEFT, RIGHT = slice(0, 8), slice(20, 32)


def instance_tree(images, alphas, masks=None):
    for name in ("b", "a"):
        picture(images / f"{name}.jpg")
        for number, columns in (("00", LEFT), ("01", RIGHT)):
            matte(alphas / name / f"{number}.png", columns)
            if masks:
                matte(masks / name / f"{number}.png", columns)


def him100k(root):
    instance_tree(root / "test/images", root / "test/alphas")


def him2k(root):
    instance_tree(root / "images/natural", root / "alphas/natural")


def m_him2k(root):
    masks = root / "masks_matched_r50_fpn_3x/natural"
    instance_tree(root / "images/natural", root / "alphas/natural", masks)


def folder(root):
    instance_tree(root / "images", root / "alphas")


def v_him60(root):
    for frame in ("0000", "0001"):
        picture(root / f"comp_hard/fgr/walk/{frame}.jpg")
        matte(root / f"comp_hard/pha/walk/{frame}/02.png", LEFT)
        matte(root / f"comp_hard/pha/walk/{frame}/07.png", RIGHT)


def v_him2k5(root):
    v_him60(root)
    (root / "comp_hard").rename(root / "train")


def p3m(root):
    for name in ("b", "a"):
        picture(root / f"validation/P3M-500-NP/original_image/{name}.jpg")
        matte(root / f"validation/P3M-500-NP/mask/{name}.png", LEFT)


def ppm100(root):
    for name in ("b", "a"):
        picture(root / f"image/{name}.jpg")
        matte(root / f"matte/{name}.jpg", LEFT)


def rwp636(root):
    for name in ("b", "a"):
        picture(root / f"image/{name}.jpg")
        matte(root / f"alpha/{name}.png", LEFT)


def coco(root):
    picture(root / "val2017/000000000009.jpg")
    picture(root / "val2017/000000000010.jpg")
    square = [[0, 0, 8, 0, 8, 24, 0, 24]]
    crowd = {"size": list(SIZE), "counts": [24 * 30, 48]}  # the last two columns
    told = {
        "images": [{"id": i, "file_name": f"{i:012}.jpg"} for i in (9, 10)],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 1, "segmentation": square, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 1, "segmentation": crowd, "iscrowd": 1},
            {"id": 3, "image_id": 10, "category_id": 18, "segmentation": square, "iscrowd": 0},
        ],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(told))


TREES = {
    "HIM-100K": him100k, "HIM2K": him2k, "M-HIM2K": m_him2k, "V-HIM60": v_him60,
    "V-HIM2K5": v_him2k5, "P3M-10k": p3m, "PPM-100": ppm100, "RWP-636": rwp636, "COCO": coco,
    "folder": folder,
}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_read_from_the_tree_its_authors_unpack(name, tmp_path):
    TREES[name](tmp_path)
    items = open_dataset(name, tmp_path)
    first = items[0].load()
    kind = DATASETS[name].kind

    assert first.rgb.shape == (*SIZE, 3)
    assert first.rgb[0, 0, 0] > 190 and first.rgb[0, 0, 2] < 10  # RGB, not BGR
    assert [item.name for item in items] == sorted(item.name for item in items)
    assert first.instances == (kind != "portraits")
    assert (first.alpha[0] > 127).sum() == pytest.approx(24 * 8, abs=24)
    assert all((item.video == "walk") == (kind == "videos") for item in items)


def test_people_of_a_video_keep_their_numbers(tmp_path):
    v_him60(tmp_path)
    items = open_dataset("V-HIM60", tmp_path, "comp_hard")

    assert [item.name for item in items] == ["walk/0000", "walk/0001"]
    assert [item.load().ids for item in items] == [(2, 7), (2, 7)]


def test_masks_for_guided_methods_come_with_their_people(tmp_path):
    m_him2k(tmp_path)
    first = open_dataset("M-HIM2K", tmp_path)[0].load()

    assert np.array_equal(first.guides, first.alpha)


def test_a_crowd_is_nobody_in_particular(tmp_path):
    coco(tmp_path)
    (only,) = open_dataset("COCO", tmp_path)  # the other picture has a dog
    made = only.load()

    assert len(made.alpha) == 1
    assert made.known[:, :30].all() and not made.known[:, 30:].any()


def test_runs_as_text_are_runs():
    """Three rows, four columns, worked out by hand: runs 2, 5, 4, 1 are the characters
    2 '2', 5 '5', 4 '4' and 1 - 5 = -4, which is 28 in five bits: 'L'."""
    written = drawn({"size": [3, 4], "counts": [2, 5, 4, 1]}, (3, 4), None)
    text = drawn({"size": [3, 4], "counts": "254L"}, (3, 4), None)

    assert np.array_equal(written, text)
    assert (written > 0).astype(int).tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 1]]


@pytest.mark.parametrize(
    ("name", "gone", "told"),
    [("HIM2K", "images/natural", "images/natural: no such folder"),
     ("HIM2K", "alphas/natural/b", "alphas/natural/b: no such folder .mattes of b.jpg"),
     ("HIM-100K", "test/alphas/a", "test/alphas/a: no such folder"),
     ("M-HIM2K", "masks_matched_r50_fpn_3x", "masks_matched_.: no such folder"),
     ("V-HIM60", "comp_hard/pha/walk/0001", "pha/walk/0001: no such folder"),
     ("P3M-10k", "validation/P3M-500-NP/mask/a.png", "mask/a.*: no such file"),
     ("PPM-100", "matte/b.jpg", "matte/b.*: no such file"),
     ("RWP-636", "image", "image: no such folder"),
     ("COCO", "annotations", "instances_val2017.json: no such file"),
     ("COCO", "val2017/000000000009.jpg", "000000000009.jpg: no such file")],
)  # fmt: skip
def test_the_first_wrong_path_is_named(name, gone, told, tmp_path):
    TREES[name](tmp_path)
    target = tmp_path / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()

    with pytest.raises(DataError, match=told):
        open_dataset(name, tmp_path)


def test_a_matte_of_another_size_is_named_when_it_is_read(tmp_path):
    him2k(tmp_path)
    matte(tmp_path / "alphas/natural/a/01.png", LEFT, (12, 32))

    with pytest.raises(DataError, match="a/01.png: is 32 x 12, its picture 32 x 24"):
        open_dataset("HIM2K", tmp_path)[0].load()


def test_a_name_or_split_there_is_not_tells_which_there_are(tmp_path):
    with pytest.raises(ValueError, match="known are HIM-100K, HIM2K"):
        open_dataset("HIM3K", tmp_path)
    with pytest.raises(ValueError, match="no split 'val'; it has natural, comp"):
        open_dataset("HIM2K", tmp_path, "val")
