"""Bring the surveys of a store to the present schema, while nobody else writes."""

from functools import partial

from storage.migration import (
    MigrationPlan,
    migrate_survey,
    plan_migrations,
    settle_migration,
)
from storage.repository import (
    SURVEY_REPOSITORY,
    open_repository,
    repository_place,
    writer_lock,
)
from tasks.progress import report
from tasks.settings import Settings


def plan_migration(settings: Settings) -> list[MigrationPlan]:
    """Return the surveys of the store that are in an older form; nothing is changed."""
    place = repository_place(settings.store_path, SURVEY_REPOSITORY)
    return plan_migrations(open_repository(place))


def migrate_store(settings: Settings) -> list[MigrationPlan]:
    """Rewrite every survey of the store that is in an older form; return what was done.

    Raises
    ------
    RepositoryBusy
        If a run is writing to the store.
    """
    place = repository_place(settings.store_path, SURVEY_REPOSITORY)
    with writer_lock(place, what="migrate"):
        repository = open_repository(place)
        settle_migration(repository)  # of a run that was killed at its last step
        done = []
        for plan in plan_migrations(repository):
            tell = partial(report, f"rewriting {plan.survey}")
            done.append(migrate_survey(repository, plan.survey, tell=tell))
        return done
