"""Scenes without pictures, written as "color shape x y": centers as fractions of the image."""

from glipv2_d2.data.datasets.scenes import CATEGORY_IDS
from glipv2_d2.scenes.truth import Scene, scenes_of


def detection_content(*scenes: str) -> dict:
    """The COCO json of scenes, each "red star .5 .5, blue ring .2 .2"; the first is the largest."""
    images, annotations = [], []
    for image_id, text in enumerate(scenes, start=1):
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": 100, "width": 100})
        for position, thing in enumerate(text.split(",")):
            color, shape, x, y = thing.split()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[color, shape],
                    "bbox": [100 * float(x) - 5, 100 * float(y) - 5, 10.0, 10.0],
                    "area": 90.0 - position,
                    "iscrowd": 0,
                }
            )
    return {"images": images, "annotations": annotations}


def scene(text: str) -> Scene:
    """One scene of `detection_content`."""
    return scenes_of(detection_content(text))[0]
