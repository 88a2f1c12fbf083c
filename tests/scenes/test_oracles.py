import pytest

from glipv2_d2.scenes.oracles import composition_oracles

CLASSES = ["red circle", "blue circle", "red square", "blue square"]
BOX, OTHER, THIRD = (2, 2, 20, 20), (40, 2, 20, 20), (2, 40, 20, 20)


def test_one_distractor_of_the_same_shape(register):
    """Color-blind, the red circle is first of two or second: AP 100 or 50. Shape-blind: 100."""
    name = register(
        "oracle_hand",
        CLASSES,
        [[(0, BOX), (1, OTHER)]],
        evaluated_classes=["red circle"],
    )
    seen = set()
    for seed in range(12):
        result = composition_oracles(name, seeds=[seed])
        assert result["shape_blind"]["AP50"] == pytest.approx(100.0)
        seen.add(round(result["color_blind"]["AP50"], 3))
    assert seen == {50.0, 100.0}
    averaged = composition_oracles(name, seeds=range(12))["color_blind"]["AP50"]
    single = [composition_oracles(name, seeds=[s])["color_blind"]["AP50"] for s in range(12)]
    assert averaged == pytest.approx(sum(single) / 12)


def test_each_oracle_is_fooled_by_its_own_distractors(register):
    """Red squares around the red circle fool the shape-blind oracle only."""
    images = [[(0, BOX), (2, OTHER), (2, THIRD)]] * 20
    name = register("oracle_fooled", CLASSES, images, evaluated_classes=["red circle"])
    result = composition_oracles(name, seeds=[0])
    assert result["color_blind"]["AP50"] == pytest.approx(100.0)
    assert 15 < result["shape_blind"]["AP50"] < 60  # about one third


def test_bad_input_is_named(register):
    name = register("oracle_names", ["red circle", "zebra"], [[(0, BOX)]])
    with pytest.raises(ValueError, match="'zebra'"):
        composition_oracles(name)
    with pytest.raises(ValueError, match="seed"):
        composition_oracles(name, seeds=[])
