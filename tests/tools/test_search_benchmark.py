"""The figures of docs/search.md come from a tool that runs."""

from tools.search_benchmark import main


def test_few_regions_are_all_compared(capsys):
    assert main(["--regions", "300", "500", "--dim", "8", "--queries", "3"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 300", "| 500"]
    assert {row[5] for row in rows} == {"1.000"}
