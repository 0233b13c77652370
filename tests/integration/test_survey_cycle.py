"""The operational cycle with a real server and real workers: once, again, grown, held, refused."""

import shutil
import threading
import time
from pathlib import Path

import pytest
from champions import make_champion
from distributed import LocalCluster
from typer.testing import CliRunner

from flows.__main__ import app
from flows.parameters import IngestConfig, IngestRun, read_config
from flows.survey_cycle import CycleConfig, CycleResult, run_survey_cycle
from lvm.checkpoint import save_encoder
from lvm.testing import TINY_CUTOUT, TinyEncoder
from storage.catalogue import read_catalogue
from storage.synthetic import SyntheticRelease
from tasks.release_decisions import decide_release, waiting_cases
from tasks.release_diff import ReleaseLimits
from tasks.releases import list_releases, read_release, verify_release
from tasks.roles import LOCAL
from tasks.settings import Settings

SURVEY = "dr10/south"
LOOSE = ReleaseLimits(class_shift=1.0, removed=1.0, flipped=1.0, drift=1e9)
STRICT = ReleaseLimits(class_shift=1.0, removed=1.0, flipped=0.0, drift=1e9)


@pytest.fixture(scope="module")
def settings(empty_tracking: Path, tmp_path_factory: pytest.TempPathFactory, cluster: LocalCluster):
    """Return the settings of a home with an encoder and a champion made with it."""
    patch = pytest.MonkeyPatch()
    home = shutil.copytree(empty_tracking, tmp_path_factory.mktemp("cycles") / "home")
    patch.setenv("BRICKYARD_HOME", str(home))
    patch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
    settings = Settings()
    digest = save_encoder(TinyEncoder(), settings.encoder_path / "tiny")
    (settings.encoder_path / "tiny").rename(settings.encoder_path / digest[:16])
    make_champion(settings)
    yield settings
    patch.undo()


@pytest.fixture
def run(settings: Settings, small_release: SyntheticRelease, tmp_path: Path):
    """Return a function that runs a cycle over the first so many bricks of the release."""

    def cycle(bricks: int, limits: ReleaseLimits = LOOSE, seconds: int = 300) -> CycleResult:
        listed = tmp_path / "bricks.txt"
        listed.write_text("\n".join(small_release.bricknames[:bricks]) + "\n")
        config = CycleConfig(
            ingest=read_config(IngestConfig, None, {"cutout.size": TINY_CUTOUT}),
            run=IngestRun(brick_list=str(listed)),
            limits=limits,
            hold_seconds=seconds,
        )
        return run_survey_cycle(str(small_release.root), SURVEY, config=config)

    return cycle


def decide_when_asked(settings: Settings, approve: bool) -> threading.Thread:
    """Decide on the first release that waits within five minutes, from another thread."""

    def decide() -> None:
        for _ in range(3000):
            for case, _ in waiting_cases(settings):
                decide_release(settings, LOCAL, "test", case.tag, (approve, "of a test"))
                return
            time.sleep(0.1)

    thread = threading.Thread(target=decide)
    thread.start()
    return thread


def test_a_survey_goes_through_cycles(settings: Settings, run):
    first = run(1)
    assert first.receipt.counts["written"] == 1
    assert [receipt.counts["written"] for receipt in first.embedded] == [1]
    [catalogue] = first.catalogues
    assert catalogue.rows == first.receipt.objects == first.embedded[0].objects
    folder = Path(catalogue.path).parent
    assert set(first.record.steps) == {"embed", "predict", "publish"}
    assert first.record.steps["predict"].objects == catalogue.rows

    again = run(1)
    assert again.catalogues == first.catalogues
    assert again.record.snapshot == first.record.snapshot
    assert again.record.steps["predict"].objects == 0
    assert "publish" not in again.record.steps

    grown = run(2)
    assert grown.receipt.counts["written"] == 1
    assert grown.record.steps["predict"].bricks == grown.record.steps["embed"].bricks == 1
    second = Path(grown.catalogues[0].path).parent
    assert read_release(second).previous == folder.name
    rows, _ = read_catalogue(second)
    assert len(rows) == grown.receipt.objects > catalogue.rows
    assert verify_release(folder).rows == catalogue.rows


def test_a_release_that_passes_a_limit_waits_for_a_person(settings: Settings, run):
    before = list_releases(settings)
    other = make_champion(settings, seed=7)
    asked = decide_when_asked(settings, approve=False)
    refused = run(2, STRICT)
    asked.join()
    assert refused.catalogues == ()
    assert "rejected by local: of a test" in refused.refused[0]
    assert list_releases(settings) == before
    assert run(2, STRICT).refused  # the same again is not asked again

    newest = make_champion(settings, seed=8)
    asked = decide_when_asked(settings, approve=True)
    passed = run(2, STRICT)
    asked.join()
    assert not passed.refused
    published = list_releases(settings)[-1]
    assert published.model == newest != other
    assert published.decision == "approved by local: of a test"
    assert published.number == before[-1].number + 1
    assert passed.record.steps["embed"].bricks == 0  # the encoder is the same


def test_the_commands_show_releases_and_differences(settings: Settings, run, tmp_path):
    names = [release.tag for release in list_releases(settings)]
    home = ["--home", str(settings.home)]
    runner = CliRunner()
    listed = runner.invoke(app, [*home, "releases"])
    assert all(name in listed.output for name in names)
    page = tmp_path / "d.html"
    shown = runner.invoke(app, [*home, "diff", names[0], names[1], "--html", str(page)])
    assert shown.exit_code == 0
    assert f"from {names[0]} to {names[1]}" in shown.output
    assert "<svg" in page.read_text()
    verified = runner.invoke(app, [*home, "releases", "verify", names[0]])
    assert "as they were published" in verified.output
    dry = runner.invoke(app, [*home, "cycle", "--dry-run"])
    assert "nothing to do" in dry.output
    lost = runner.invoke(app, [*home, "diff", names[0], "nothing"])
    assert lost.exit_code == 1
