"""Evidence and decisions as Markdown: what a reviewer reads in Prefect, in MLflow, in a terminal.

Pure text out of references; publishing it is the business of `tasks.promotion`.
"""

from collections.abc import Iterable, Sequence

from tasks.decisions import Case, Decision, evidence_digest
from tasks.references import Evaluation, EvidencePacket, Interval

DIGITS = 3  # of metrics: a test split of a thousand objects measures no finer
SHORT = 12  # digits of a digest that people read

Rows = Iterable[Sequence[str]]


def evidence_markdown(packet: EvidencePacket) -> str:
    """Return the whole evidence packet: verdict, metrics, baselines, classes, slices, facts."""
    challenger = packet.challenger
    parts = [
        f"# Evidence: {challenger.model.downstream} version {challenger.model.version}",
        f"Evidence digest `{evidence_digest(packet)}`",
        _verdict(packet),
        _metrics_section(packet),
        _baselines_section(challenger),
        _classes_section(packet),
        _slices_section(packet),
        _confusion_section(challenger),
        _worst_section(challenger),
        _facts_section(packet),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary_markdown(packet: EvidencePacket, url: str) -> str:
    """Return the few lines above the form: verdict, metrics, digest, where the rest is.

    Parameters
    ----------
    url : str
        Page of the flow run, whose artifacts hold the whole evidence; may be empty.
    """
    model = packet.challenger.model
    where = f"[artifacts of this run]({url}?tab=Artifacts)" if url else "artifacts of this run"
    parts = [
        f"### Shall {model.downstream} version {model.version} become the champion?",
        _verdict(packet),
        _metrics_table(packet),
        f"Whole evidence: {where}. Its digest is `{evidence_digest(packet)[:SHORT]}`...",
    ]
    return "\n\n".join(parts) + "\n"


def case_markdown(case: Case, decision: Decision, outcome: str, at: str) -> str:
    """Return what was decided, by whom, when and why."""
    rows = [
        ("outcome", outcome),
        ("reviewer", decision.reviewer or "(nobody)"),
        ("reason", decision.reason),
        ("decided", at),
        ("challenger", f"version {case.challenger.version}"),
        ("champion before", f"version {case.champion.version}" if case.champion else "none"),
        ("evidence", f"`{case.evidence}`"),
        ("case", f"`{case.case_id}`"),
        ("flow run", f"`{case.flow_run_id}`"),
    ]
    title = f"# Decision on {case.downstream} version {case.challenger.version}"
    return f"{title}\n\n{_table(('', ''), rows)}\n"


def _verdict(packet: EvidencePacket) -> str:
    challenger, champion = packet.challenger, packet.champion
    name = challenger.headline
    new = challenger.metrics[name]
    if champion is None:
        text = f"There is **no champion yet**; {name} is {_interval(new)}."
    else:
        old = champion.metrics[name]
        gain = (new.value - old.value) * (1 if challenger.higher_is_better else -1)
        word = "better" if gain > 0 else "worse" if gain < 0 else "neither better nor worse"
        apart = "do not overlap" if new.low > old.high or new.high < old.low else "overlap"
        text = (
            f"The challenger is **{word}** than champion version {champion.model.version} by "
            f"{abs(gain):.{DIGITS}f} in {name}; their 95 % intervals {apart}."
        )
    losing = [
        method
        for method, value in challenger.baselines.items()
        if (value >= new.value) == challenger.higher_is_better or value == new.value
    ]
    beaten = f" **It does not beat: {', '.join(losing)}.**" if losing else ""
    return f"{text}{beaten} {challenger.test_objects} test objects."


def _metrics_section(packet: EvidencePacket) -> str:
    return f"## Metrics on the frozen test split\n\n{_metrics_table(packet)}"


def _metrics_table(packet: EvidencePacket) -> str:
    challenger, champion = packet.challenger, packet.champion
    others = sorted(set(challenger.metrics) - {challenger.headline})
    rows = []
    for name in (challenger.headline, *others):
        new = challenger.metrics[name]
        old = champion.metrics.get(name) if champion else None
        change = f"{new.value - old.value:+.{DIGITS}f}" if old else "-"
        label = f"**{name}**" if name == challenger.headline else name
        rows.append((label, _interval(new), _interval(old) if old else "-", change))
    champion_name = f"champion v{champion.model.version}" if champion else "champion (none)"
    return _table(
        ("metric", f"challenger v{challenger.model.version}", champion_name, "change"), rows
    )


def _baselines_section(challenger: Evaluation) -> str:
    if not challenger.baselines:
        return ""
    rows = [(name, _number(value)) for name, value in challenger.baselines.items()]
    rows.append(("**challenger**", _number(challenger.metrics[challenger.headline].value)))
    table = _table(("method", challenger.headline), rows)
    return f"## Simpler methods on the same split\n\n{table}"


def _classes_section(packet: EvidencePacket) -> str:
    return _compared("Per class", packet.challenger.per_class, packet.champion, "per_class")


def _slices_section(packet: EvidencePacket) -> str:
    return _compared("Per slice", packet.challenger.slices, packet.champion, "slices")


def _compared(
    title: str, groups: dict[str, dict[str, float]], champion: Evaluation | None, field: str
) -> str:
    """Return a table of named groups; the champion's value follows in brackets."""
    if not groups:
        return ""
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    before = getattr(champion, field) if champion else {}
    rows = []
    for group, values in groups.items():
        cells = [_beside(values.get(name), before.get(group, {}).get(name)) for name in names]
        rows.append((group, *cells))
    note = "\n\nIn brackets: the champion." if champion else ""
    return f"## {title}\n\n{_table(('', *names), rows)}{note}"


def _confusion_section(challenger: Evaluation) -> str:
    if not challenger.confusion:
        return ""
    rows = [
        (name, *(str(number) for number in counts))
        for name, counts in zip(challenger.classes, challenger.confusion, strict=True)
    ]
    table = _table(("is / was called", *challenger.classes), rows)
    return f"## Confusion of the challenger\n\n{table}"


def _worst_section(challenger: Evaluation) -> str:
    if not challenger.worst:
        return ""
    return f"## Most confident errors\n\n{', '.join(f'`{name}`' for name in challenger.worst)}"


def _facts_section(packet: EvidencePacket) -> str:
    challenger = packet.challenger
    facts = {
        "survey": challenger.snapshot.survey,
        "snapshot": challenger.snapshot.snapshot_id,
        "test split": challenger.split_digest[:SHORT],
        "labels": challenger.labels_digest[:SHORT],
        "weights": challenger.model.digest[:SHORT],
        "MLflow run": challenger.model.run_id,
        **packet.facts,
    }
    return f"## Facts\n\n{_table(('', ''), facts.items())}"


def _table(headings: Sequence[str], rows: Rows) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(_cell(item) for item in line)} |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _interval(interval: Interval) -> str:
    low, high = _number(interval.low), _number(interval.high)
    return f"{_number(interval.value)} ({low} to {high})"


def _beside(value: float | None, before: float | None) -> str:
    text = "-" if value is None else _number(value)
    return text if before is None else f"{text} ({_number(before)})"


def _number(value: float) -> str:
    return (
        str(int(value)) if float(value).is_integer() and abs(value) > 1 else f"{value:.{DIGITS}f}"
    )
