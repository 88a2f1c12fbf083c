"""The scenes without and with what a model is adapted to."""

from glipv2_d2.data.datasets.scenes import NEW_CLASSES, OLD_CLASSES
from glipv2_d2.scenes.transfer_files import TRANSFER_FILES


def names_by_image(content):
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    shown = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        shown[entry["image_id"]].append(names[entry["category_id"]])
    return shown


def test_every_image_is_in_one_part_with_the_boxes_of_that_part(annotations):
    assert len(NEW_CLASSES) == 12 and len(OLD_CLASSES) == 40
    for split in ("train", "val"):
        whole = names_by_image(annotations[split])
        old, new = (names_by_image(annotations[f"{split}_{part}"]) for part in ("old", "new"))
        if split == "train":
            choose = names_by_image(annotations["train_choose"])
            assert choose and not new.keys() & choose.keys()
            new |= choose
        assert old and new and {**old, **new}.keys() == whole.keys() and not old.keys() & new.keys()
        for image, names in whole.items():
            is_new = [name for name in names if "pink" in name or "moon" in name]
            assert new[image] == is_new if is_new else old[image] == names
        for part, classes in (("old", OLD_CLASSES), ("new", NEW_CLASSES)):
            listed = annotations[f"{split}_{part}"]["categories"]
            assert tuple(entry["name"] for entry in listed) == classes
    assert not any(f"novel_{name}" in annotations for name in ("old", "new", "old_grounding"))
    assert TRANSFER_FILES["novel"] == ()


def test_captions_of_the_old_part_know_nothing_new(annotations):
    texts, whole = annotations["train_old_grounding"], annotations["train_grounding"]
    old = {image["id"] for image in annotations["train_old"]["images"]}
    expected = [image for image in whole["images"] if image["original_id"] in old]
    assert texts["images"] == expected and expected
    assert not any("pink" in t["caption"] or "moon" in t["caption"] for t in expected)
    kept = {image["id"] for image in expected}
    assert texts["annotations"] == [a for a in whole["annotations"] if a["image_id"] in kept]
