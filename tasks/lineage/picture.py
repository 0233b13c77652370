"""A lineage as a picture: SVG made on the server, from the sky on the left to rows on the right.

A thing stands to the right of everything that it was made from. There is no script and no style
sheet in it, so it shows wherever SVG does, and under the strictest content policy.
"""

from collections import defaultdict
from xml.etree import ElementTree as ET

from tasks.lineage.graph import Kind, Lineage, Thing

BOX_WIDTH, BOX_HEIGHT = 210, 44
GAP_X, GAP_Y = 50, 20
MARGIN = 16
TITLE_LETTERS = 29  # that fit into a box
COLUMN_MOST = 14  # things in a column; a picture of more says that they are not shown

_INK, _QUIET, _SKY, _BOX = "#eceef1", "#b3bbc6", "#14161a", "#1f232a"
_COLOURS = {
    Kind.FILES: "#9ccbff",
    Kind.CONFIGURATION: "#808996",
    Kind.BRICK: "#9ccbff",
    Kind.BRICKS: "#9ccbff",
    Kind.SNAPSHOT: "#9ccbff",
    Kind.OBJECT: "#c7e2ff",
    Kind.LABELS: "#ffd166",
    Kind.DATASET: "#ffd166",
    Kind.DECISION: "#7bd88f",
    Kind.ENCODER: "#d0a8ff",
    Kind.EMBEDDINGS: "#d0a8ff",
    Kind.RUN: "#808996",
    Kind.MODEL: "#d0a8ff",
    Kind.ROW: "#ff9a90",
    Kind.CATALOGUE: "#ff9a90",
}


def draw(lineage: Lineage) -> str:
    """Return the picture of a lineage as SVG text; everything from outside is escaped."""
    columns, hidden = _columns(lineage)
    step = BOX_HEIGHT + GAP_Y
    # Every other column stands lower, so that a long line runs between boxes and not behind them.
    places = {
        thing.id: (MARGIN + x * (BOX_WIDTH + GAP_X), MARGIN + y * step + x % 2 * step // 2)
        for x, column in enumerate(columns)
        for y, thing in enumerate(column)
    }
    width = 2 * MARGIN + len(columns) * (BOX_WIDTH + GAP_X) - GAP_X
    tallest = max(len(column) for column in columns)
    height = 2 * MARGIN + tallest * step + step // 2 + (24 if hidden else 0)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "font-family": "system-ui, DejaVu Sans, sans-serif",
        },
    )
    subject = lineage.thing(lineage.subject)
    ET.SubElement(root, "title").text = f"Lineage of {subject.title}"
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": _SKY})
    for link in lineage.links:
        if link.made in places and link.source in places:
            _draw_link(root, places[link.source], places[link.made], link.how)
    for column in columns:
        for thing in column:
            _draw_box(root, thing, places[thing.id], is_subject=thing.id == lineage.subject)
    if hidden:
        _text(root, (MARGIN, height - 10), f"{hidden} more things are not drawn", _QUIET, 12)
    return ET.tostring(root, encoding="unicode")


def _columns(lineage: Lineage) -> tuple[list[list[Thing]], int]:
    """Return things by column, and how many had no room; the subject always has."""
    column_of = columns_of(lineage)
    by_column: dict[int, list[Thing]] = defaultdict(list)
    for thing in lineage.things:
        by_column[column_of[thing.id]].append(thing)
    order = list(Kind)
    columns, hidden = [], 0
    for _, things in sorted(by_column.items()):
        things.sort(key=lambda item: (item.id != lineage.subject, order.index(item.kind)))
        columns.append(things[:COLUMN_MOST])
        hidden += max(0, len(things) - COLUMN_MOST)
    return columns, hidden


def columns_of(lineage: Lineage) -> dict[str, int]:
    """Return the column of every thing: right of its sources, and close to what it went into."""
    sources: dict[str, list[str]] = {thing.id: [] for thing in lineage.things}
    products: dict[str, list[str]] = {thing.id: [] for thing in lineage.things}
    for link in lineage.links:
        sources[link.made].append(link.source)
        products[link.source].append(link.made)
    column: dict[str, int] = {}

    def measure(thing_id: str, above: frozenset[str]) -> int:
        if thing_id not in column:
            below = above | {thing_id}
            found = [measure(name, below) for name in sources[thing_id] if name not in below]
            column[thing_id] = 1 + max(found, default=-1)
        return column[thing_id]

    for thing in lineage.things:
        measure(thing.id, frozenset())
    for thing_id in sorted(column, key=column.__getitem__, reverse=True):
        latest = min((column[name] for name in products[thing_id]), default=0) - 1
        column[thing_id] = max(column[thing_id], latest)
    return column


def _draw_link(root: ET.Element, source: tuple[int, int], made: tuple[int, int], how: str) -> None:
    x1, y1 = source[0] + BOX_WIDTH, source[1] + BOX_HEIGHT // 2
    x2, y2 = made[0], made[1] + BOX_HEIGHT // 2
    bend = max(GAP_X // 2, (x2 - x1) // 3)
    path = f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    line = {"d": path, "fill": "none", "stroke": "#808996", "stroke-width": "1.5"}
    ET.SubElement(ET.SubElement(root, "path", line), "title").text = how


def _draw_box(root: ET.Element, thing: Thing, place: tuple[int, int], *, is_subject: bool) -> None:
    x, y = place
    colour = _COLOURS[thing.kind]
    group = ET.SubElement(root, "g")
    detail = thing.title + (f"\nmissing: {thing.missing}" if thing.missing else "")
    ET.SubElement(group, "title").text = detail
    box = {"x": str(x), "y": str(y), "width": str(BOX_WIDTH), "height": str(BOX_HEIGHT)}
    box |= {"rx": "8", "fill": _BOX, "stroke": colour, "stroke-width": "3" if is_subject else "1"}
    if thing.missing:
        box["stroke-dasharray"] = "5 4"
    ET.SubElement(group, "rect", box)
    kind = thing.kind.value + (" (incomplete)" if thing.missing else "")
    _text(group, (x + 10, y + 17), kind, colour, 11)
    title = thing.title
    if len(title) > TITLE_LETTERS:
        title = title[: TITLE_LETTERS - 1] + "…"
    _text(group, (x + 10, y + 34), title, _INK, 13)


def _text(parent: ET.Element, place: tuple[int, int], text: str, colour: str, size: int) -> None:
    values = {"x": str(place[0]), "y": str(place[1]), "fill": colour, "font-size": str(size)}
    ET.SubElement(parent, "text", values).text = text
