"""The commands of docs/tutorial.md, in their order, as a reader types them (smaller bricks)."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from flows.__main__ import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
SMALLER = {"--density 2": "--size 460 --density 12"}
MAY_FAIL = ("quality",)  # two small bricks are no survey, as the page says


def commands() -> list[str]:
    blocks = re.findall(r"<!-- run -->\n((?: {4}.+\n)+)", PAGE.read_text())
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_the_tutorial_has_commands_to_run():
    assert len(commands()) >= 10


def words_of(line: str) -> list[str]:
    """Return the words after `brickyard`, file patterns replaced as a shell does."""
    for page, test in SMALLER.items():
        line = line.replace(page, test)
    words = []
    for word in shlex.split(line)[1:]:
        found = sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]
        assert found, f"{word} matches nothing"
        words += found
    # The workers of the test's cluster were started in another folder.
    return [str(Path(word).resolve()) if word == "release" else word for word in words]


def test_every_command_of_the_tutorial_works(home: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://set-by-the-harness")  # no server of its own
    monkeypatch.chdir(tmp_path)
    for line in commands():
        words = words_of(line)
        done = CliRunner().invoke(app, ["--home", str(home), *words])
        fails = done.exit_code != 0 and words[0] not in MAY_FAIL
        assert not fails, f"{line}\n{done.output[-3000:]}\n{done.exception!r}"
    assert (tmp_path / "objects.fits").is_file()
    assert (tmp_path / "odd.png").is_file()
