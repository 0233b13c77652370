"""What an encoder makes of a survey: a search index, the rarest objects and a map."""

from prefect import flow

from flows.parameters import forbid_unknown_keys
from tasks.anomaly import AnomalyConfig, AnomalyRanking, rank_anomalies
from tasks.embedded import report_path
from tasks.embedding_map import MapConfig, MapRef, draw_map
from tasks.references import EncoderRef
from tasks.search import IndexRef, SearchResult, build_search_index, search_like
from tasks.settings import load_settings

for _config in (AnomalyConfig, MapConfig):
    forbid_unknown_keys(_config)


@flow(name="explore-survey")
def explore_survey(
    survey: str,
    encoder: EncoderRef,
    anomalies: AnomalyConfig | None = None,
    survey_map: MapConfig | None = None,
) -> tuple[IndexRef, AnomalyRanking, MapRef]:
    """Build the search index of a survey, rank its objects by rarity and draw its map.

    Run it after the embed flow; nothing that is up to date is built again but the two pictures.

    Parameters
    ----------
    survey : str
        Such as "dr10/south".
    encoder : EncoderRef
        One that has embedded the survey.
    """
    settings = load_settings()
    index = build_search_index(settings, survey, encoder)
    ranking = rank_anomalies(settings, survey, encoder, anomalies)
    target = report_path(settings, "map", survey, ".html")
    return index, ranking, draw_map(settings, survey, encoder, str(target), survey_map)


def search_survey(
    survey: str, encoder: EncoderRef, like: str, number: int = 20, picture: str = ""
) -> SearchResult:
    """Return the objects of a survey that look most like one of them.

    Not a flow: an answer takes less time than to tell a server of the question.

    Parameters
    ----------
    like : str
        `<release>-<brickid>-<objid>`, or `ra,dec` [deg].
    picture : str
        PNG file for a sheet of what was found; empty: none.
    """
    return search_like.fn(load_settings(), survey, encoder, like, number, picture)
