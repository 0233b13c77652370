"""A small survey with users, a published catalogue and a desk over it, for tests of the pages."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from argon2 import PasswordHasher
from small_survey import write_small_survey
from starlette.testclient import TestClient

from flows.review_desk.app import create_app
from flows.review_desk.desk import Desk, open_desk
from storage.catalogue import ColumnNote, write_catalogue
from tasks.desk_pages import Kept
from tasks.desk_pages_rounds import items_of
from tasks.label_queue import LabelQueue, open_queue
from tasks.label_rounds import RoundPlan
from tasks.settings import Settings
from tasks.users import UserStore, open_users

SURVEY = "dr10/south"
COUNT = 8
PASSWORD = "correct horse battery"
PEOPLE = {"root": "admin", "ann": "annotator", "bob": "annotator", "eve": "approver"}
PEOPLE |= {"vic": "viewer"}
CLASSES = ("elliptical", "edge-on", "spiral", "other")


@dataclass
class DeskHome:
    """A home and a desk over it."""

    settings: Settings
    ids: list[str]
    desk: Desk | None = None

    @property
    def queue(self) -> LabelQueue:
        return open_queue(self.settings)

    @property
    def users(self) -> UserStore:
        return open_users(self.settings)

    def fresh(self, folder: Path) -> "DeskHome":
        """Return a copy with users and an open desk."""
        shutil.copytree(self.settings.home, folder / "home")
        settings = Settings(home=folder / "home", store=self.settings.store_path)
        desk = open_desk(settings)
        # No Prefect and no MLflow: the pages are tested, and those have tests of their own.
        desk.promotions = lambda: ([], "")
        desk.champions, desk.findings = Kept(list), Kept(tuple)
        return DeskHome(settings, self.ids, desk)

    def client(self, name: str = "") -> TestClient:
        """Return a browser, logged in."""
        app = create_app(self.desk, ["testserver"])
        client = TestClient(app, raise_server_exceptions=True)
        if name:
            session = self.users.open_session(self.users.find(name), 60)
            client.cookies.set("brickyard_session", session.token, domain="testserver.local")
        return client

    def open_round(self, count: int, **plan) -> int:
        """Open a round on the first objects, with the proposals of the catalogue."""
        items = items_of(self.settings, SURVEY, "morphology", self.ids[:count], "a test")
        asked = RoundPlan(SURVEY, "morphology", CLASSES, opened_by="root", **plan)
        return self.queue.open_round(asked, items)


def make_desk(home: Path, *, people: bool = True) -> DeskHome:
    """Write a survey of two bricks, a catalogue and, unless told otherwise, users."""
    settings = Settings(home=home)
    snapshot = write_small_survey(Path(settings.store_path), {"b1": COUNT, "b2": COUNT})
    ids = [f"10000-{brick}-{objid}" for brick in (1, 2) for objid in range(COUNT)]
    publish(settings, ids, snapshot.snapshot_id)
    if people:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        users = open_users(settings)
        users._hasher = quick  # argon2 as in use costs 50 ms a user
        for name, role in PEOPLE.items():
            users.add(name, PASSWORD, [role])
    return DeskHome(settings, ids)


def publish(settings: Settings, ids: list[str], snapshot: str) -> None:
    """Write a catalogue in which the first object of three is doubtful."""
    keys = np.array([name.split("-") for name in ids], dtype=np.int64)
    confidence = np.where(np.arange(len(ids)) % 3 == 2, 0.5, 0.95)
    table = pd.DataFrame(
        {
            "object_id": ids,
            "release": keys[:, 0].astype(np.int32),
            "brickid": keys[:, 1].astype(np.int32),
            "objid": keys[:, 2],
            "p_elliptical": confidence,
            "p_edge_on": 1 - confidence,
            "p_spiral": 0.0,
            "p_other": 0.0,
            "answer": "elliptical",
        }
    )
    model = {"downstream": "morphology", "version": "1", "run_id": "r", "digest": "d" * 64}
    metadata = {
        "survey": SURVEY,
        "model": model,
        "created_at": "2026-01-01T00:00:00+00:00",
        "snapshot": {"snapshot_id": snapshot},
    }
    notes = {name: ColumnNote("1", "of a test") for name in table}
    write_catalogue(settings.catalogue_path / SURVEY / "morphology-v1", [table], metadata, notes)


def token_of(text: str) -> dict[str, str]:
    """Return the secret that the forms of a page carry."""
    return {"csrf": re.search(r'name="csrf" value="([^"]+)"', text)[1]}


def login(client: TestClient, name: str, *, password: str = PASSWORD, target: str = "/"):
    """Log in through the form."""
    return client.post("/login", data={"name": name, "password": password, "next": target})
