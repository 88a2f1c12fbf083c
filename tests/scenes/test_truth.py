from glipv2_d2.data.datasets.scenes import CATEGORY_IDS
from glipv2_d2.scenes.truth import scenes_of

IMAGE = {"id": 7, "file_name": "val/000006.jpg", "height": 100, "width": 200}


def entry(pair, box, area):
    return {"image_id": 7, "category_id": CATEGORY_IDS[pair], "bbox": box, "area": area}


def test_colors_shapes_and_places_of_a_scene():
    content = {
        "images": [IMAGE, {**IMAGE, "id": 8}],
        "annotations": [
            entry(("red", "star"), [0, 0, 20, 20], 100.0),
            entry(("blue", "ring"), [180, 40, 20, 20], 150.0),
            entry(("red", "star"), [90, 80, 20, 20], 200.0),
        ],
    }
    scene, empty = scenes_of(content)
    assert empty.things == [] and empty.groups() == {}
    assert [t.pair for t in scene.things] == [("red", "star"), ("blue", "ring"), ("red", "star")]
    assert scene.things[1].center == (0.95, 0.5)
    assert scene.where(color="red") == scene.where(shape="star") == [0, 2]
    assert scene.where("blue", "star") == []
    assert list(scene.groups().items()) == [(("red", "star"), [2, 0]), (("blue", "ring"), [1])]
