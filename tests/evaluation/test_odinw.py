"""ODinW's averages and tables on hand-worked numbers."""

import csv
import io
import json

import pytest
from detectron2.data import MetadataCatalog

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation.odinw import (
    odinw_columns,
    odinw_run,
    odinw_table,
    summarize_odinw,
    write_evalai,
)
from glipv2_d2.evaluation.transfer import TransferRun, scores_csv

NAMES = list(odinw_columns(13))
# Table 11 of GLIPv2, the line of GLIP-T, in the order of its columns.
GLIP_T = [56.2, 12.5, 18.4, 70.2, 50.0, 73.8, 72.3, 57.8, 26.3, 56.0, 49.6, 17.7, 44.1]


def zero_shot(split="test"):
    return [TransferRun(name, split, ap) for name, ap in zip(NAMES, GLIP_T)]


def test_zero_shot_average_is_the_papers():
    (line,) = summarize_odinw(zero_shot())
    assert f"{line.average.mean:.1f}" == "46.5"
    assert line.average.std is None
    assert line.scores["Aquarium"].mean == 18.4


def few_shot(shots=3):
    """Two data sets vary with the seed: 10, 20, 30 and 60, 40, 50; the others are 0."""
    values = {"Aquarium": (10, 20, 30), "pothole": (60, 40, 50)}
    return [
        TransferRun(name, "test", values.get(name, (0, 0, 0))[k], shots, seed)
        for name in NAMES
        for k, seed in enumerate((3, 30, 300))
    ]


def test_few_shot_mean_and_deviation():
    (line,) = summarize_odinw(few_shot())
    assert line.scores["Aquarium"] == (20, pytest.approx((200 / 3) ** 0.5))
    assert line.scores["pothole"] == (50, pytest.approx((200 / 3) ** 0.5))
    # The seeds' averages are 70/13, 60/13, 80/13.
    assert line.average.mean == pytest.approx(70 / 13)
    assert line.average.std == pytest.approx((200 / 3) ** 0.5 / 13)


def test_lines_are_ordered_and_printed_for_test_and_val():
    everything = [r._replace(shots=None) for r in zero_shot()]
    lines = summarize_odinw(
        [*everything, *few_shot(10), *zero_shot("val"), *zero_shot(), *few_shot()]
    )
    assert [(line.shots, line.split) for line in lines] == [
        (0, "test"),
        (0, "val"),
        (3, "test"),
        (10, "test"),
        (None, "test"),
    ]
    table = odinw_table(lines, heading={"Model": "GLIP-T"}).markdown().splitlines()
    assert table[0] == (
        "| Model | Shot | Split | PascalVOC | AerialDrone | Aquarium | Rabbits | EgoHands "
        "| Mushrooms | Packages | Raccoon | Shellfish | Vehicles | Pistols | Pothole | Thermal "
        "| Avg |"
    )
    assert table[2].startswith("| GLIP-T | 0 | test | 56.2 | 12.5 | 18.4 |")
    assert table[2].endswith("| 44.1 | 46.5 |")
    assert "| 20.0 ± 8.2 |" in table[4]
    assert table[6].startswith("| GLIP-T | All | test |")
    rows = list(
        csv.DictReader(io.StringIO(scores_csv(odinw_table(lines, heading={"Model": "GLIP-T"}))))
    )
    assert [row["Shot"] for row in rows] == ["0", "0", "3", "10", "All"]
    assert float(rows[2]["Aquarium"]) == 20
    assert float(rows[2]["Aquarium std"]) == pytest.approx((200 / 3) ** 0.5)
    assert rows[0]["Avg std"] == ""


def test_an_incomplete_sweep_has_no_average(caplog):
    (line,) = summarize_odinw(zero_shot()[1:])
    assert str(line.average) == "-"
    assert line.scores["Aquarium"].mean == 18.4
    assert "missing: PascalVOC" in caplog.text
    (line,) = summarize_odinw(few_shot()[:-1])
    assert str(line.average) == "-"
    assert "thermalDogsAndPeople (seed 300)" in caplog.text
    assert odinw_table([line]).markdown().splitlines()[2].endswith("| - |")
    assert scores_csv(odinw_table([line])).splitlines()[1].endswith(",,")


def test_the_35():
    columns = odinw_columns(35)
    assert len(columns) == 35
    assert set(NAMES) <= set(columns)
    (line,) = summarize_odinw([TransferRun(name, "test", 7.0) for name in columns], suite=35)
    assert line.average.mean == pytest.approx(7)
    (line,) = summarize_odinw([TransferRun(name, "test", 7.0) for name in columns], suite=13)
    assert set(line.scores) == set(NAMES)


def test_runs_come_from_the_evaluators_results():
    for name in ("odinw_x_test", "odinw_x_minival", "plain_x_val"):
        MetadataCatalog.get(name)
    MetadataCatalog.get("odinw_x_test").odinw_name = "Aquarium"
    MetadataCatalog.get("odinw_x_minival").odinw_name = "EgoHands_generic"
    results = {"bbox": {"AP": 31.5, "AP50": 50.0}}
    assert odinw_run("odinw_x_test", results) == ("Aquarium", "test", 31.5, 0, None)
    run = odinw_run("odinw_x_minival", results, shots=3, seed=30)
    assert run == ("EgoHands_generic", "val", 31.5, 3, 30)
    with pytest.raises(DataError, match="'plain_x_val' is no data set of ODinW"):
        odinw_run("plain_x_val", results)


def test_bad_runs_are_named():
    with pytest.raises(DataError, match="two runs of the same setting"):
        summarize_odinw(zero_shot() + zero_shot()[:1])
    with pytest.raises(DataError, match="no data set 'Atlantis'"):
        summarize_odinw([TransferRun("Atlantis", "test", 1.0)])
    with pytest.raises(ValueError, match="13 and 35"):
        summarize_odinw([], suite=14)


def test_evalai_file(tmp_path):
    row = {"image_id": 4, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    path = tmp_path / "coco_instances_results.json"
    path.write_text(json.dumps([{**row, "segmentation": {}}]))
    few = dict.fromkeys((3, 30, 300), path)
    write_evalai({"Aquarium": path, "pothole": few}, str(tmp_path / "out" / "all.json"))
    assert json.loads((tmp_path / "out" / "all.json").read_text()) == {
        "Aquarium": [row],
        "pothole": {"3": [row], "30": [row], "300": [row]},
    }
    with pytest.raises(DataError, match="no data set 'Atlantis'"):
        write_evalai({"Atlantis": path}, str(tmp_path / "x.json"))
    with pytest.raises(DataError, match="no results file .*gone"):
        write_evalai({"Aquarium": tmp_path / "gone.json"}, str(tmp_path / "x.json"))
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match="no COCO results"):
        write_evalai({"Aquarium": path}, str(tmp_path / "x.json"))
