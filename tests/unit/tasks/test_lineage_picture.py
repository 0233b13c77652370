from xml.etree import ElementTree as ET

from tasks.lineage import Kind, draw
from tasks.lineage.graph import Graph
from tasks.lineage.picture import COLUMN_MOST, columns_of

SVG = "{http://www.w3.org/2000/svg}"


def chain():
    graph = Graph()
    files = graph.add(Kind.FILES, "f", title="<script>alert(1)</script> & more")
    brick, row = graph.add(Kind.BRICK, "b"), graph.add(Kind.ROW, "r", missing="its model")
    run, model = graph.add(Kind.RUN, "run"), graph.add(Kind.MODEL, "m")
    graph.link(brick, files, "ingested from")
    graph.link(row, brick, "cut out of")
    graph.link(model, run, "made by")
    graph.link(row, model, "predicted by")
    return graph.finish(row)


def test_a_thing_stands_right_of_its_sources_and_close_to_its_products():
    columns = columns_of(chain())
    assert columns == {"files f": 0, "run run": 0, "brick b": 1, "model m": 1, "row r": 2}
    graph = Graph()
    first, second, third = (graph.add(Kind.BRICK, name) for name in "abc")
    late = graph.add(Kind.RUN, "late")
    graph.link(second, first, "x")
    graph.link(third, second, "x")
    graph.link(third, late, "x")
    assert columns_of(graph.finish(third))[late] == 1


def test_the_picture_is_svg_in_which_every_text_is_escaped():
    text = draw(chain())
    root = ET.fromstring(text)
    assert "<script" not in text
    assert not root.findall(f".//{SVG}script")
    assert "style=" not in text
    assert len(root.findall(f".//{SVG}path")) == 4
    words = [item.text for item in root.findall(f".//{SVG}text")]
    assert any(word.startswith("<script>") for word in words)
    assert "row (incomplete)" in words


def test_a_crowded_picture_says_how_much_it_leaves_out_but_shows_the_subject():
    graph = Graph()
    subject = graph.add(Kind.CATALOGUE, "subject")
    bricks = [graph.add(Kind.BRICK, f"{number:03d}") for number in range(COLUMN_MOST + 5)]
    for brick in bricks:
        graph.link(subject, brick, "lists")
    text = draw(graph.finish(subject))
    assert "5 more things are not drawn" in text
    assert "subject" in text


def test_things_made_from_each_other_in_a_ring_can_be_drawn():
    graph = Graph()
    one, two = graph.add(Kind.BRICK, "1"), graph.add(Kind.BRICK, "2")
    graph.link(one, two, "x")
    graph.link(two, one, "x")
    graph.link(one, one, "x")
    assert draw(graph.finish(one)).count("<path") == 2


def test_a_fact_that_is_told_twice_stays_and_empty_ones_are_left_out():
    graph = Graph()
    graph.add(Kind.MODEL, "m", {"digest": "a", "mode": ""}, title="model m")
    graph.add(Kind.MODEL, "m", {"digest": "b", "mode": "head"})
    [model] = graph.finish("model m").things
    assert model.facts == {"digest": "a", "mode": "head"}
    assert model.title == "model m"
