"""The `glip` command lines of a text: a help page, or a block of a document."""

import re
import shlex


def command_lines(text):
    """The words of each line that begins with `glip`, without it."""
    for line in re.sub(r"\\\n *", "", text).splitlines():
        line = re.sub(r"  +\w.*$", "", line.strip())  # what an example is followed by
        if line.startswith("glip "):
            yield shlex.split(line, comments=True)[1:]
