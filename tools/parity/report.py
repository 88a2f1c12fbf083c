"""What was compared, how far it was off, and whether that is a failure."""

from dataclasses import dataclass, field

OK, FAIL, SKIP = "ok", "FAIL", "-"


@dataclass(frozen=True)
class Row:
    """One stored value, compared.

    Attributes:
        name: its key in the file.
        status: OK, FAIL, or SKIP for what the model does not compute (`note` says why).
        absolute: largest absolute difference, None where that has no meaning.
        relative: the same relative to the largest reference entry, or to what a number is judged
            against.
        share: what is used of the tolerance, 1 being all of it.
        note: what else there is to say.
    """

    name: str
    status: str
    absolute: float | None = None
    relative: float | None = None
    share: float | None = None
    note: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        numbers = ("" if x is None else f"{x:.2e}" for x in (self.absolute, self.relative))
        return self.name, *numbers, self.status, self.note


@dataclass
class Report:
    """The rows of one case, from the image to the final boxes."""

    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if row.status == FAIL]

    def __str__(self) -> str:
        cells = [(self.title, "absolute", "relative", "", ""), *(row.cells() for row in self.rows)]
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"{name:<{width}} {absolute:>9} {relative:>9}  {status:<4}  {note}".rstrip()
            for name, absolute, relative, status, note in cells
        ]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """One line: how many of what, and the worst of those within the tolerance."""
        kinds = [row.status for row in self.rows]
        parts = [f"{kinds.count(OK)} compared and within the tolerance"]
        measured = [row for row in self.rows if row.status == OK and row.share is not None]
        if measured:
            worst = max(measured, key=lambda row: row.share)
            parts[0] += f" (the worst uses {100 * worst.share:.0f}% of it: {worst.name})"
        parts.append(f"{kinds.count(SKIP)} not computed by this model")
        if self.failures:
            parts.append(f"{len(self.failures)} FAILED: {_names(self.failures)}")
        return f"{self.title}: " + "; ".join(parts) + "."


def _names(rows: list[Row], limit: int = 8) -> str:
    names = [row.name for row in rows[:limit]]
    return ", ".join(names) + (f" and {len(rows) - limit} more" if len(rows) > limit else "")
