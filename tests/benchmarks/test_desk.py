"""How fast the desk answers with 10,000 queued objects: pages and thumbnails, over real HTTP."""

import re
import threading
import time
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import pytest
import uvicorn
from figures import Figure, record
from small_survey import SURVEY, write_small_survey

from flows.review_desk.app import create_app
from flows.review_desk.desk import open_desk
from storage.label_store import Label, append_labels
from tasks.desk_pages import Kept
from tasks.label_queue import open_queue
from tasks.label_rounds import QueueItem, RoundPlan
from tasks.settings import Settings

QUEUED, BRICKS, SIZE, RUNS = 10_000, 4, 152, 5
CLASSES = ("elliptical", "edge-on", "spiral", "other")
PAGES = ("/", "/label", "/label/1", "/label/1/grid", "/history?what=labels", "/history?what=rounds")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Serve a desk over a survey of cutouts of the real size, with 10,000 objects in its queue."""
    settings = Settings(home=tmp_path_factory.mktemp("desk"))
    count = 64
    counts = {f"b{brick}": count for brick in range(1, BRICKS + 1)}
    write_small_survey(Path(settings.store_path), counts, size=SIZE)
    shown = [(10000, brick, objid) for brick in range(1, BRICKS + 1) for objid in range(count)]
    more = [(10000, 1 + n % BRICKS, n) for n in range(count, QUEUED)]
    items = [
        QueueItem(*key, "a benchmark", "spiral", 0.9, "m v1") for key in [*shown, *more][:QUEUED]
    ]
    queue = open_queue(settings)
    queue.open_round(RoundPlan(SURVEY, "morphology", CLASSES, blind=False), items)
    rows = [Label(SURVEY, *item[:3], "morphology", "spiral", "ann", round=1) for item in more]
    append_labels(settings.labels_path, rows)
    made = open_desk(settings)
    made.promotions = lambda: ([], "")  # Prefect's own time is not the desk's
    made.champions, made.findings = Kept(list), Kept(tuple)
    with serving(made) as url:
        yield url, [f"{a}-{b}-{c}" for a, b, c in shown]


class serving:
    """Run the desk in a thread and give its address."""

    def __init__(self, desk):
        app = create_app(desk, ["127.0.0.1"])
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()


def milliseconds(client, path):
    start = time.perf_counter()
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text[:500])
    return 1000 * (time.perf_counter() - start)


def test_pages_with_ten_thousand_queued_objects(desk):
    url, _ = desk
    with httpx.Client(base_url=url, timeout=60) as client:
        for path in PAGES:
            milliseconds(client, path)  # templates and bricks are read once
        slowest, last = [], {}
        for _ in range(RUNS):
            last = {path: median(milliseconds(client, path) for _ in range(5)) for path in PAGES}
            slowest.append(max(last.values()))
        text = client.get("/label/1").text
        answered = _answers(client, text)
    record(Figure("desk.page_ms", "ms", "<= 200", "slowest page, 10,000 objects queued", slowest))
    record(Figure("desk.answer_ms", "ms", "reported", "answer, ledger, next page", answered))


def test_thumbnails(desk):
    url, names = desk
    with httpx.Client(base_url=url, timeout=60) as client:
        path = f"/picture/{SURVEY}/{{}}?size=152"
        cold = [milliseconds(client, path.format(name)) for name in names]
        warm = [
            float(np.percentile([milliseconds(client, path.format(n)) for n in names], 95))
            for _ in range(RUNS)
        ]
    record(Figure("desk.thumbnail_ms", "ms", "<= 50", "95 of 100 thumbnails, warm", warm))
    halves = [median(cold[:128]), median(cold[128:])]
    record(Figure("desk.thumbnail_cold_ms", "ms", "reported", "read from the store", halves))


def _answers(client, text):
    """Return how long answers take, each with the page that follows it."""
    times = []
    for _ in range(20):
        form = {
            "csrf": re.search(r'name="csrf" value="([^"]+)"', text)[1],
            "item": re.search(r'name="item" value="(\d+)"', text)[1],
            "answer": "spiral",
        }
        start = time.perf_counter()
        answer = client.post("/label/1/answer", data=form, follow_redirects=True)
        times.append(1000 * (time.perf_counter() - start))
        assert answer.status_code == 200
        text = answer.text
    return times
