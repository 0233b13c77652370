"""Create a survey group and read back the layout it was created with."""

import json
import math
from collections.abc import Mapping
from typing import Any

import icechunk
import zarr

from storage import arrays, ledger_table
from storage.errors import SchemaMismatch
from storage.schema import (
    CATALOGUE_UNITS_ATTRIBUTE,
    OBJECT_TYPE_NAMES,
    SCHEMA_VERSION,
    ArraySpec,
    SurveyLayout,
    column_unit,
    history_specs,
    ledger_specs,
    survey_specs,
)

LEDGER = "bricks"  # names of the sub-groups
HISTORY = "history"
CONFIGURATIONS = "configurations"  # attribute of the ledger: ingest configurations by digest


def create_survey(session: icechunk.Session, survey_key: str, layout: SurveyLayout) -> None:
    """Create the arrays and the ledger of a survey; does nothing where they exist already.

    Raises
    ------
    SchemaMismatch
        When the survey exists with another layout.
    """
    if arrays.group_exists(session, survey_key):
        found = read_layout(session, survey_key)
        if _comparable(found) != _comparable(layout):
            raise SchemaMismatch(
                f"survey {survey_key!r} holds {found}, asked for {layout}: "
                "use the survey's own settings, or another store"
            )
        return
    group = arrays.create_group(session, survey_key, _layout_attributes(layout))
    for spec in survey_specs(layout):
        arrays.create_array(group, spec, layout.lengths(), _extra_attributes(spec, layout))
    arrays.create_labels(group, "band", layout.bands)
    arrays.create_labels(group, "column", layout.columns)
    ledger_table.create_ledger(session, f"{survey_key}/{LEDGER}", ledger_specs())
    ledger_table.create_ledger(session, f"{survey_key}/{HISTORY}", history_specs())


def record_configuration(
    session: icechunk.Session, survey_key: str, digest: str, document: Mapping[str, Any]
) -> None:
    """Keep an ingest configuration with the survey, by the digest that its bricks carry."""
    group = arrays.open_group(session, f"{survey_key}/{LEDGER}", "r+")
    known = read_configurations(session, survey_key)
    if digest not in known:
        known[digest] = dict(document)
        # As text: a configuration may hold NaN, which Zarr's metadata cannot.
        group.attrs[CONFIGURATIONS] = json.dumps(known, sort_keys=True)


def read_configurations(session: icechunk.Session, survey_key: str) -> dict[str, Any]:
    """Return every configuration that bricks of this snapshot were or are made with, by digest."""
    attributes = arrays.open_group(session, f"{survey_key}/{LEDGER}").attrs.asdict()
    return dict(json.loads(str(attributes.get(CONFIGURATIONS, "{}"))))


def list_surveys(session: icechunk.Session) -> list[str]:
    """Return the keys ``<release>/<region>`` of all surveys in a snapshot, sorted."""
    return [
        f"{release}/{region}"
        for release in arrays.list_groups(session)
        for region in arrays.list_groups(session, release)
    ]


def read_layout(session: icechunk.Session, survey_key: str) -> SurveyLayout:
    """Return the layout that a survey was created with."""
    group = arrays.open_group(session, survey_key)
    found = group.attrs.asdict().get("schema_version")
    if found != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"survey {survey_key!r} has schema {found} in this snapshot, this code reads "
            f"{SCHEMA_VERSION}: `brickyard migrate` rewrites the newest snapshot; an older one is "
            "read by the version of Brickyard that wrote it"
        )
    return layout_of(group)


def layout_of(group: zarr.Group) -> SurveyLayout:
    """Return the layout of a survey group of any schema."""
    fixed: Any = group.attrs.asdict()["layout"]
    scale = fixed["pixel_scale"]
    return SurveyLayout(
        bands=tuple(fixed["bands"]),
        size=fixed["size"],
        unit=fixed["unit"],
        pixel_scale=math.nan if scale is None else scale,
        columns=tuple(fixed["columns"]),
    )


def _comparable(layout: SurveyLayout) -> dict[str, Any]:
    # NaN differs from itself; None does not.
    scale = None if math.isnan(layout.pixel_scale) else layout.pixel_scale
    return {
        "bands": list(layout.bands),
        "size": layout.size,
        "unit": layout.unit,
        "pixel_scale": scale,
        "columns": list(layout.columns),
    }


def _layout_attributes(layout: SurveyLayout) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "layout": _comparable(layout),
        "pixel": "position (y, x) counts from 0 at pixel centres",
    }


def _extra_attributes(spec: ArraySpec, layout: SurveyLayout) -> dict[str, Any]:
    if spec.name == "type":
        codes = list(range(len(OBJECT_TYPE_NAMES)))
        return {"flag_values": codes, "flag_meanings": " ".join(OBJECT_TYPE_NAMES)}
    if spec.name == "catalogue":
        return {CATALOGUE_UNITS_ATTRIBUTE: [column_unit(name) for name in layout.columns]}
    if "band" in spec.dims or spec.name == "maskbits":
        return {
            "coordinates": "release brickid objid ra dec"
        }  # CF: xarray makes coordinates of them
    return {}
