import numpy as np
import pytest
import torch

from lvm.downstream import DownstreamModel
from lvm.downstream.morphology import GalaxyZoo, GalaxyZooConfig, Morphology, MorphologyConfig
from lvm.questions import GZ2, SHORT, Question
from lvm.testing import TinyEncoder, check_downstream_task

ZOO = GalaxyZoo(GalaxyZooConfig(tree="short"))


@pytest.mark.parametrize(
    "options", [{"hidden": 8}, {"loss": "cross_entropy", "target_accuracy": 0.0}]
)
def test_every_option_keeps_the_contract(options):
    check_downstream_task(GalaxyZoo(GalaxyZooConfig(tree="short", **options)), TinyEncoder())


def test_a_tree_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="no tree is called"):
        GalaxyZooConfig(tree="gz3")


def test_a_question_counts_by_how_many_people_came_to_it():
    fractions = np.array([[0.75, 0.25, 0.0, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0]])
    votes = torch.from_numpy(SHORT.counts(fractions, np.array([40])))
    plain = Morphology(MorphologyConfig(("yes", "no"), loss="dirichlet_multinomial"))
    output = torch.randn(1, 9, generator=torch.Generator().manual_seed(0))
    off = output.clone()
    off[:, 3:5] += torch.tensor([1.0, -1.0])  # another answer to "edge_on", asked of a quarter
    found = [ZOO.loss(o, {"target": votes})["loss"].item() for o in (output, off)]
    alone = [plain.loss(o[:, 3:5], {"target": votes[:, 3:5]})["loss"].item() for o in (output, off)]
    assert found[1] - found[0] == pytest.approx(0.25 * (alone[1] - alone[0]), rel=1e-3)


def test_a_question_that_nobody_came_to_does_not_count():
    votes = torch.tensor([[40.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 40.0]])
    output = torch.randn(1, 9)
    off = output.clone()
    off[:, 3:7] = 5.0
    losses = [ZOO.loss(o, {"target": votes})["loss"] for o in (output, off)]
    assert torch.equal(*losses)
    measures = ZOO.metrics(output, {"target": votes})
    assert "shape.accuracy" in measures
    assert not any(name.startswith("spiral.") for name in measures)


def test_labels_of_a_later_question_alone_are_learnt_from():
    votes = torch.full((1, 9), float("nan"))
    votes[:, 5:7] = torch.tensor([3.0, 0.0])
    output = torch.zeros(1, 9, requires_grad=True)
    ZOO.loss(output, {"target": votes})["loss"].backward()
    assert output.grad[0, 5] < 0
    assert output.grad[0, :5].abs().sum() == 0


def test_the_answer_is_a_path_and_its_least_sure_question_decides():
    logits = torch.tensor([[-5.0, 5.0, -5.0, -3.0, 3.0, 1.0, 0.0, -4.0, 4.0]])
    temperature, threshold = torch.ones(4), torch.tensor([0.5, 0.5, 0.9, 0.5])
    output = torch.cat([logits, temperature[None], threshold[None]], dim=1)
    columns = ZOO.present(output)
    assert columns["answer"].tolist() == ["featured / no / yes / no"]
    assert columns["abstain"].tolist() == [True]  # of "spiral": 0.73 < 0.9
    assert columns["margin"][0] == pytest.approx(2 * torch.sigmoid(torch.tensor(1.0)) - 1)
    smooth = output.clone()
    smooth[:, 0] += 20.0  # "spiral" is off the path
    columns = ZOO.present(smooth)
    assert columns["answer"].tolist() == ["smooth / no"]
    assert columns["abstain"].tolist() == [False]


def test_every_question_is_calibrated_by_itself():
    generator = torch.Generator().manual_seed(1)
    task = GalaxyZoo(GalaxyZooConfig(questions=(Question("a", ("x", "y")), Question("b", "xyz"))))
    logits = 1.5 * torch.randn(1500, 5, generator=generator)
    votes = torch.cat(
        [
            torch.nn.functional.one_hot(
                torch.multinomial(part.softmax(dim=1), 1, generator=generator)[:, 0], part.shape[1]
            )
            for part in (logits[:, :2], logits[:, 2:])
        ],
        dim=1,
    )
    output = torch.cat([logits[:, :2] * 3.0, logits[:, 2:] * 0.5], dim=1)
    head = DownstreamModel(task, TinyEncoder()).head
    record = task.calibrate(head, output, {"target": votes.float()})
    assert head.temperature.tolist() == pytest.approx([3.0, 0.5], rel=0.15)
    assert record["b.temperature"] == pytest.approx(0.5, rel=0.15)
    figures = task.figures(output, {"target": votes.float()})
    assert [figure.name for figure in figures] == [
        f"{kind}_{question}"
        for question in "ab"
        for kind in ("reliability", "accuracy_by_coverage", "confusion")
    ]


def test_a_tree_of_ones_own_survives_saving(tmp_path):
    questions = (Question("a", ("x", "y")), Question("b", ("u", "v"), ("a_x",)))
    model = DownstreamModel(GalaxyZoo(GalaxyZooConfig(questions=questions)), TinyEncoder())
    model.save(tmp_path / "model")
    assert DownstreamModel.load(tmp_path / "model").task.tree.questions == questions


def test_real_votes_are_learnt_in_all_their_questions(real_data):
    table = np.genfromtxt(
        real_data / "gz2_sdss" / "labels.csv", delimiter=",", names=True, dtype=None, encoding=None
    )
    fractions = np.stack([table[f"{name}_weighted_fraction"] for name in GZ2.choices], axis=1)
    votes = torch.from_numpy(GZ2.counts(fractions, table["total_classifications"]))
    task = GalaxyZoo()
    # What would tell all: the votes themselves, hidden in noise, as if they were embeddings.
    hint = torch.from_numpy(fractions).float()
    noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    embedding = torch.cat([hint, noise], dim=1)

    class Columns(torch.nn.Module):
        width = 41

    head = task.head(Columns())
    head[0].fit(embedding)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    train, test = slice(0, 200, 2), slice(1, 200, 2)
    known = task.metrics(head(embedding[test]), {"target": votes[test]})
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(head(embedding[train]), {"target": votes[train]})["loss"].backward()
        optimizer.step()
    head.eval()
    found = task.metrics(head(embedding[test]), {"target": votes[test]})
    assert found["fraction_error"] < 0.5 * known["fraction_error"]
    assert found["t01_smooth_or_features.accuracy"] > 0.85
    assert found["balanced_accuracy"] > known["balanced_accuracy"] + 0.2
