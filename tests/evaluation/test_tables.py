"""One type of table for the console, Markdown and JSON, and the files of a run's evaluations."""

import json

import numpy as np

from glipv2_d2.evaluation.tables import Table, metric_tables, write_results
from glipv2_d2.evaluation.transfer import Score

TABLE = Table("Recall", ("category", "phrases", "R@1"), [["all", 12, 50.126], ["cat", 3, np.nan]])


def test_a_table_is_printed_aligned():
    assert str(TABLE).splitlines() == [
        "Recall:",
        "category      phrases    R@1",
        "----------  ---------  -----",
        "all                12  50.13",
        "cat                 3      -",
    ]


def test_a_table_in_markdown_and_json():
    assert TABLE.markdown().splitlines() == [
        "| category | phrases | R@1 |",
        "| --- | ---: | ---: |",
        "| all | 12 | 50.13 |",
        "| cat | 3 | - |",
    ]
    expected = {
        "title": "Recall",
        "columns": ["category", "phrases", "R@1"],
        "rows": [["all", 12, 50.126], ["cat", 3, None]],
    }
    assert json.loads(json.dumps(TABLE.as_dict(), allow_nan=False)) == expected


def test_a_bar_in_a_name_is_no_border_in_markdown():
    table = Table("AP", ["class", "AP"], [["on|off", 1.0]])
    assert table.markdown().splitlines()[-1] == r"| on\|off | 1.00 |"


def test_a_table_without_rows_and_with_scores():
    empty = Table("ODinW-13", ["Shot", "Avg"], [])
    assert "Shot" in str(empty) and empty.markdown().startswith("| Shot | Avg |")
    scores = Table("ODinW-13", ["Shot", "Avg"], [["3", Score(20.0, 8.164)]])
    assert scores.markdown().endswith("| 3 | 20.0 ± 8.2 |\n")
    assert scores.as_dict()["rows"] == [["3", [20.0, 8.164]]]


def test_the_single_classes_are_a_table_of_their_own():
    metrics = {"AP": 30.0, "AP50": 40.0, "AP-traffic light": 10.0, "AP-semi-trailer": np.nan}
    overall, by_class = metric_tables("bbox", metrics)
    assert (overall.columns, overall.rows) == (["AP", "AP50"], [[30.0, 40.0]])
    assert by_class.title == "bbox, by class" and by_class.columns == ["class", "AP"]
    assert [row[0] for row in by_class.rows] == ["traffic light", "semi-trailer"]
    assert len(metric_tables("refexp", {"P@1": 1.0})) == 1


def evaluation(folder, iterations, value):
    table = Table("bbox", ["AP"], [[value]])
    write_results(str(folder), iterations, {"bbox": {"AP": value}}, [table])


def test_all_evaluations_of_a_run_are_kept(tmp_path):
    for iterations, value in ((4, 1.0), (9, 2.0), (14, 3.0)):
        evaluation(tmp_path, iterations, value)
    evaluation(tmp_path, None, 4.0)
    evaluation(tmp_path, 9, 5.0)  # resumed from the checkpoint after 4
    history = json.loads((tmp_path / "results.json").read_text())
    assert [entry["iterations"] for entry in history] == [9, None, 4]
    assert [entry["tables"][0]["rows"] for entry in history] == [[[5.0]], [[4.0]], [[1.0]]]
    page = (tmp_path / "results.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## After 9 iterations", "## Evaluation without training", "## After 4 iterations"
    ]  # fmt: skip
    assert page.startswith("# Results\n\n## After 9 iterations\n\n### bbox\n\n| AP |\n")
    assert json.loads((tmp_path / "last_results.json").read_text()) == {"bbox": {"AP": 5.0}}
    assert {p.name for p in tmp_path.iterdir()} == {
        "last_results.json", "results.json", "results.md"
    }  # fmt: skip


def test_results_that_cannot_be_read_are_no_end_of_an_evaluation(tmp_path, caplog):
    (tmp_path / "results.json").write_text("[{")
    evaluation(tmp_path, 4, 1.0)
    assert "results.json is begun anew" in caplog.text
    assert len(json.loads((tmp_path / "results.json").read_text())) == 1
