"""Many people label at the real desk while it is killed: every answer that it took is there."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from desk_home import CLASSES, SURVEY, make_desk

from flows.processes import Service, free_port, start, stop, wait_until_ready
from storage.label_store import read_labels
from tasks.desk_pages_label import repair_queue
from tasks.label_queue import open_queue
from tasks.label_rounds import QueueItem, RoundPlan
from tasks.settings import Settings
from tasks.users import open_users

REPOSITORY = Path(__file__).resolve().parents[2]
FORM = 5  # answers handed in at a time


class Desk:
    """The desk as a process of its own, which can be killed and started again."""

    def __init__(self, settings: Settings) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        # A Prefect that does not answer: telling it of labels must not hold up anybody.
        nobody = f"http://127.0.0.1:{free_port()}/api"
        self._service = Service(
            name="desk",
            command=(sys.executable, "-m", "flows", "desk", "--port", str(port)),
            log=settings.home / "desk.log",
            health=f"{self.url}/login",
            environment={"BRICKYARD_HOME": str(settings.home), "PREFECT_API_URL": nobody},
            folder=REPOSITORY,
        )
        self.start()

    def start(self) -> None:
        self.process = start(self._service)
        wait_until_ready(self.process, self._service)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        stop(self.process)


class Client(threading.Thread):
    """Somebody who answers their share of the objects, a form at a time, whatever happens."""

    def __init__(self, url: str, number: int, name: str, session, items: list[int]) -> None:
        super().__init__(name=name)
        self._url, self._number, self._session, self._items = url, number, session, items
        self.taken: list[int] = []
        self.broken = 0

    def run(self) -> None:
        cookies = {"brickyard_session": self._session.token}
        with httpx.Client(base_url=self._url, cookies=cookies, timeout=30) as client:
            for begin in range(0, len(self._items), FORM):
                self._answer(client, self._items[begin : begin + FORM])

    def _answer(self, client: httpx.Client, items: list[int]) -> None:
        form = {"csrf": self._session.csrf, "item": [str(item) for item in items]}
        form |= {f"answer-{item}": CLASSES[item % len(CLASSES)] for item in items}
        while True:
            try:
                answer = client.post(f"/label/{self._number}/answers", data=form)
            except httpx.TransportError:
                self.broken += 1
                time.sleep(0.1)
                continue
            assert answer.status_code == 303, answer.text
            self.taken += items
            return


@pytest.fixture(params=[8, pytest.param(20, marks=pytest.mark.drill)])
def people(request) -> int:
    """Return how many people label."""
    return request.param


@pytest.fixture
def home(tmp_path, people) -> Settings:
    settings = make_desk(tmp_path / "home", people=False).settings
    users = open_users(settings)
    users.add("root", "", ["admin"])
    for index in range(people):
        users.add(f"person{index}", "", ["annotator"])
    return settings


@pytest.fixture
def desk(home) -> Iterator[Desk]:
    found = Desk(home)
    yield found
    found.stop()


def test_every_answer_that_the_desk_took_is_in_the_ledger_once(home, people, desk):
    each = 5 * people
    wanted = people * each
    queue, users = open_queue(home), open_users(home)
    plan = RoundPlan(SURVEY, "morphology", CLASSES, opened_by="root")
    number = queue.open_round(plan, [QueueItem(10000, 1, objid) for objid in range(wanted)])
    clients = []
    for index in range(people):
        name = f"person{index}"
        items = [1 + index + people * place for place in range(each)]
        session = users.open_session(users.find(name), 60)
        clients.append(Client(desk.url, number, name, session, items))
    for client in clients:
        client.start()
    while sum(len(client.taken) for client in clients) < wanted // 3:
        time.sleep(0.01)
    desk.kill()
    desk.start()
    for client in clients:
        client.join()
    check(home, clients, number, wanted)


def check(home: Settings, clients: list[Client], number: int, wanted: int) -> None:
    assert sum(client.broken for client in clients) > 0  # it was killed in their midst
    assert sum(len(client.taken) for client in clients) == wanted
    rows = read_labels(home.labels_path, SURVEY, "morphology")
    assert (rows["count"] == 1).all()
    keys = zip(rows["objid"] + 1, rows["annotator"], strict=True)
    said = dict(zip(keys, rows["answer"], strict=True))
    assert len(said) == len(rows)  # nothing twice
    lost = [
        (item, client.name)
        for client in clients
        for item in client.taken
        if said.get((item, client.name)) != CLASSES[item % len(CLASSES)]
    ]
    assert lost == []
    assert len(rows) == wanted
    assert repair_queue(home, open_queue(home), before=time.time()) == 0
    assert open_queue(home).round(number).missing == 0
