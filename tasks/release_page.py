"""The differences between two releases for people: Markdown for Prefect, a page for a browser."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.release_diff import ReleaseDiff

Table = tuple[str, Sequence[str], list[tuple[str, ...]]]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { --ink: #1f2a2e; --soft: #5b686d; --line: #dfe5e3; --good: #2f7d5b; --bad: #b03024; }
  body { margin: 0; background: #f4f6f5; color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
  main { max-width: 900px; margin: 0 auto; padding: 24px 16px 48px; }
  h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
  h2 { font-size: 1.15rem; margin: 0 0 8px; }
  section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
            padding: 16px 20px; margin-top: 20px; overflow-x: auto; }
  .soft { color: var(--soft); }
  .verdict { border-left: 6px solid var(--good); }
  .verdict.alarm { border-left-color: var(--bad); }
  table { border-collapse: collapse; width: 100%; }
  th { text-align: left; color: var(--soft); font-size: .85rem; }
  th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); }
  rect.before { fill: #a9bcc6; } rect.after { fill: #3d6f8e; }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="soft">{{ models }}. Made {{ made }}.</p>
<section class="verdict{{ ' alarm' if broken }}">{{ verdict }}
{% if broken %}<ul>{% for line in broken %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
</section>
{% if bars %}
<section>
<h2>Shares of the classes</h2>
<svg role="img" aria-label="shares of the classes before and after" viewBox="0 0 640 {{ height }}">
{% for bar in bars %}
<text x="0" y="{{ bar.y + 20 }}">{{ bar.name }}</text>
<rect class="before" x="170" y="{{ bar.y + 4 }}" height="9" width="{{ bar.before }}"/>
<rect class="after" x="170" y="{{ bar.y + 15 }}" height="9" width="{{ bar.after }}"/>
<text x="{{ 176 + bar.longest }}" y="{{ bar.y + 20 }}">{{ bar.text }}</text>
{% endfor %}
</svg>
<p class="soft">Above: before. Below: after.</p>
</section>
{% endif %}
{% for heading, headings, rows in tables if rows %}
<section>
<h2>{{ heading }}</h2>
<table>
<thead><tr>{% for name in headings %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</section>
{% endfor %}
</main>
</body>
</html>
"""
_BAR = 36  # height of a class in the picture
_WIDE = 380  # length of the bar of a class that has every object


def verdict(found: ReleaseDiff) -> str:
    """Return the outcome in one or two sentences."""
    counts = found.objects
    what = ", ".join(f"{counts[name]:,} {name}" for name in ("added", "changed", "removed"))
    if not found.broken:
        return f"{what}; no limit is passed."
    return f"{what}. HELD: {len(found.broken)} limits are passed."


def markdown_diff(found: ReleaseDiff) -> str:
    """Return the differences as Markdown."""
    parts = [f"# {_title(found)}", verdict(found), f"{_models(found)}."]
    parts += [f"* {line}" for line in found.broken]
    for heading, headings, rows in _tables(found):
        if rows:
            lines = [headings, ["---"] * len(headings), *rows]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"## {heading}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def html_diff(found: ReleaseDiff) -> str:
    """Return the differences as a page that needs nothing else."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    bars = _bars(found)
    return environment.from_string(_PAGE).render(
        title=_title(found),
        models=_models(found),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        verdict=verdict(found),
        broken=found.broken,
        bars=bars,
        height=_BAR * len(bars),
        tables=_tables(found),
    )


def _title(found: ReleaseDiff) -> str:
    return f"{found.models[1].downstream}: from {found.before} to {found.after}"


def _models(found: ReleaseDiff) -> str:
    before, after = found.models
    if found.same_model:
        return f"One model made both, version {after.version}"
    return f"Another model: version {after.version} after version {before.version}"


def _tables(found: ReleaseDiff) -> list[Table]:
    counts = [
        ("objects", *(f"{found.objects[name]:,}" for name in found.objects)),
    ]
    bricks = [(name, f"{number:,}") for name, number in found.bricks.items()]
    classes = [
        (
            one.name,
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            f"{one.shift:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
        )
        for one in found.classes
    ]
    numbers = [
        (one.name, f"{one.before:.4g}", f"{one.after:.4g}", f"{one.drift:.3f}")
        for one in found.numbers
    ]
    return [
        ("Objects", ("", *found.objects), counts),
        ("Bricks", ("", "bricks"), bricks),
        ("Shares of the classes", ("class", "before", "after", "shift", "95 % interval"), classes),
        ("Numbers", ("column", "mean before", "mean after", "drift"), numbers),
    ]


def _bars(found: ReleaseDiff) -> list[dict[str, object]]:
    bars = []
    for place, one in enumerate(found.classes):
        lengths = [round(share * _WIDE, 1) for share in (one.before, one.after)]
        bars.append(
            {
                "y": place * _BAR,
                "name": one.name,
                "before": lengths[0],
                "after": lengths[1],
                "longest": max(lengths),
                "text": f"{one.before:.3f} → {one.after:.3f}",
            }
        )
    return bars
