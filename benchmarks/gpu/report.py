"""The report: a Markdown file, rewritten after every part, so that no result is lost."""

from __future__ import annotations

import re
from pathlib import Path

from ..timing import row
from .parts import EXTRA, PARTS, Outcome, Part


class Report:
    """The results of all parts; with `folder` None they are not written."""

    def __init__(self, command: str, folder: Path | None):
        self.command, self.folder = command, folder
        self.device = ""
        self.outcomes: dict[str, tuple[Part, Outcome]] = {}

    @property
    def path(self) -> Path | None:
        slug = re.sub("[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return None if self.folder is None else self.folder / f"gpu-{slug}.md"

    def add(self, name: str, part: Part, outcome: Outcome) -> None:
        self.outcomes[name] = part, outcome
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        order = [name for name in (*PARTS, *EXTRA) if name in self.outcomes]
        sections = [[f"# On a GPU: {self.device}"], [f"`{self.command}`"], self.summary(), *map(self.section, order)]
        return "\n\n".join("\n".join(section) for section in sections) + "\n"

    def section(self, name: str) -> list[str]:
        part, outcome = self.outcomes[name]
        body = "\n".join(outcome.lines).strip("\n")
        return [f"## {part.title}", "", *([body] if body else []), *self.verdict(name)]

    def verdict(self, name: str) -> list[str]:
        _, outcome = self.outcomes[name]
        return ["", f"**{outcome.verdict}**{': ' if outcome.reason else ''}{outcome.reason}"]

    def summary(self) -> list[str]:
        lines = [row(["part", "", "seconds", ""]), row(["---"] * 4)]
        for name, (part, outcome) in self.outcomes.items():
            reason = f"{part.title}: {outcome.reason}" if outcome.reason else part.title
            lines.append(row([name, outcome.verdict, f"{outcome.seconds:.0f}", reason.replace("|", "\\|")]))
        return lines

    @property
    def failed(self) -> bool:
        return any(outcome.verdict == "FAIL" for _, outcome in self.outcomes.values())
