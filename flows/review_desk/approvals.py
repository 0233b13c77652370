"""Which promotions wait, as far as Prefect's server can be reached."""

import httpx

from tasks.answers import WaitingPromotion, waiting_promotions


def find_promotions() -> tuple[list[WaitingPromotion], str]:
    """Return the promotions that wait, and what is wrong when Prefect does not answer."""
    try:
        return waiting_promotions(), ""
    except (httpx.HTTPError, RuntimeError, OSError) as error:
        return [], f"Prefect's server does not answer ({type(error).__name__})"
