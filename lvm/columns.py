"""What the columns mean that a downstream task presents: unit and words, for catalogues."""

from collections.abc import Mapping

# By name, or by the beginning of a name: the rest of it takes the place of {}.
Meanings = Mapping[str, tuple[str, str]]

COMMON: Meanings = {
    "p_": ("1", "probability of the class {}"),
    "fraction_": ("1", "expected fraction of votes for {}, of those who are asked"),
    "answer": ("", "likeliest answer; of a tree of questions, the likeliest path"),
    "uncertainty": ("1", "entropy of the answer over that of ignorance, 0 to 1"),
    "margin": ("1", "probability of the likeliest answer less that of the second"),
    "abstain": ("", "1: not sure enough, left to people"),
}
_ENDS = {"_low": "lower end of the interval of: ", "_high": "upper end of the interval of: "}


def meaning_of(column: str, known: Meanings) -> tuple[str, str]:
    """Return unit and meaning of a column.

    Parameters
    ----------
    column : str
        One of `DownstreamTask.present`; ``<name>_low`` and ``<name>_high`` are the ends of an
        interval of ``<name>``.
    known : mapping
        What the task says of its columns; it goes before `COMMON`.

    Returns
    -------
    unit, meaning : str
        Unit is "" where there is none and "1" for ratios; both are "" where nobody explains.
    """
    meanings = {**COMMON, **known}
    for end, words in _ENDS.items():
        if column.endswith(end) and column not in meanings:
            unit, meaning = meaning_of(column.removesuffix(end), known)
            return unit, words + meaning if meaning else ""
    if column in meanings:
        return meanings[column]
    for start, (unit, words) in meanings.items():
        if start.endswith("_") and column.startswith(start):
            return unit, words.format(column.removeprefix(start).replace("_", "-"))
    return "", ""
