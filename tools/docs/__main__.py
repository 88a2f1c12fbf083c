"""Builds the site: collects its pages in `output/docs`, then runs Zensical on them, strictly.

Strictly: a link or an anchor that leads nowhere ends the build, as does a page that is missing in
the navigation of `mkdocs.yml`. Addresses of other sites are not asked.
"""

import subprocess
import sys

from glipv2_d2.errors import command

from .pages import ROOT, collect


@command
def main() -> int:
    problems = collect(ROOT / "output" / "docs")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run([*zensical, "--config-file", "mkdocs.yml"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
