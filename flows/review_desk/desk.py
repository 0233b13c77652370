"""What all pages of a running desk share: users, queue, pictures, templates, slow work."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.review_desk.approvals import find_promotions
from flows.review_desk.local_sessions import LocalSessions
from flows.review_desk.slow_work import SlowWork
from tasks.answers import WaitingPromotion
from tasks.audit import find_disagreements
from tasks.champions import Disagreement
from tasks.desk_pages import (
    ChampionSummary,
    Kept,
    champions_of,
    surveys_of,
)
from tasks.desk_pages_explore import is_embedded
from tasks.desk_pages_label import repair_queue
from tasks.label_queue import LabelQueue, open_queue
from tasks.metrics_endpoint import CollectorRegistry, registry_of
from tasks.pictures import PictureMaker
from tasks.settings import Settings
from tasks.snapshots import SurveySummary
from tasks.users import UserStore, open_users

FOLDER = Path(__file__).parent


@dataclass
class Desk:
    """One running desk; made by `open_desk`."""

    settings: Settings
    users: UserStore
    queue: LabelQueue
    pictures: PictureMaker
    templates: Environment
    surveys: Kept[list[SurveySummary]]
    champions: Kept[list[ChampionSummary]]
    findings: Kept[tuple[Disagreement, ...]]
    figures: CollectorRegistry
    promotions: Callable[[], tuple[list[WaitingPromotion], str]] = find_promotions
    local: LocalSessions = field(default_factory=LocalSessions)
    work: SlowWork = field(default_factory=SlowWork)
    _embedded: dict[str, Kept[bool]] = field(default_factory=dict)

    def embedded(self, survey: str) -> bool:
        """Return whether a survey has embeddings, as of a few seconds ago."""
        known = self._embedded.setdefault(survey, Kept(lambda: is_embedded(self.settings, survey)))
        return bool(survey) and known.get()

    def look_again(self) -> None:
        """Forget how models stand, after a decision."""
        self.champions.forget()
        self.findings.forget()

    def survey(self, name: str = "") -> str:
        """Return a survey of the store: the one named where there is such, else the first."""
        names = [item.survey for item in self.surveys.get()]
        if name in names:
            return name
        return names[0] if names else ""


def open_desk(settings: Settings) -> Desk:
    """Open the desk of a home and put right what a crash left in its queue."""
    queue = open_queue(settings)
    repair_queue(settings, queue)
    surveys = Kept(lambda: surveys_of(settings))
    return Desk(
        settings=settings,
        users=open_users(settings),
        queue=queue,
        pictures=PictureMaker(settings),
        templates=environment(),
        surveys=surveys,
        champions=Kept(lambda: champions_of(settings, surveys.get())),
        findings=Kept(lambda: find_disagreements(settings)),
        figures=registry_of(settings),
    )


def environment() -> Environment:
    """Return the templates: everything is escaped, a misspelt name is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["when"] = lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC"
    made.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    return made
