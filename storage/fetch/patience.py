"""Asking again: exponential waits with a random part, longer where the server says so."""

import logging
import random
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from storage.fetch.config import FetchConfig
from storage.fetch.errors import FetchFailed, TransientFault
from storage.fetch.manners import Manners
from storage.fetch.remote_files import Identity, Remote

LOGGER = logging.getLogger(__name__)
#: A server that gives a few bytes at every try is left after this many times `attempts` tries.
STUBBORNNESS = 20

Answer = TypeVar("Answer")


class Patience:
    """Calls something until it succeeds or `attempts` tries in a row have brought nothing new."""

    def __init__(self, config: FetchConfig, manners: Manners) -> None:
        self._config = config
        self._manners = manners
        self._fruitless = 0
        self.retries = 0

    def gained(self) -> None:
        """Say that the present try has brought something: the count begins again."""
        self._fruitless = -1

    def run(self, call: Callable[[], Answer]) -> Answer:
        """Call until it works.

        Raises
        ------
        FetchFailed
            When the tries are used up.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(TransientFault),
            stop=self._used_up,
            wait=self._wait,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            return retrying(call)
        except TransientFault as fault:
            raise FetchFailed(
                f"{fault}; gave up after {self.retries + 1} tries, what has arrived is kept: "
                "run again later"
            ) from fault

    def look(self, remote: Remote, path: str) -> Identity | None:
        """Return what a file is, or None where there is none; wait for a turn at each try."""

        def ask() -> Identity | None:
            with self._manners.turn():
                return remote.look(path)

        return self.run(ask)

    def _used_up(self, state: RetryCallState) -> bool:
        self._fruitless += 1
        most = STUBBORNNESS * self._config.attempts
        return self._fruitless >= self._config.attempts or state.attempt_number >= most

    def _wait(self, state: RetryCallState) -> float:
        doubled = self._config.first_wait_seconds * 2.0 ** min(max(self._fruitless - 1, 0), 60)
        longest = min(doubled, self._config.longest_wait_seconds)
        asked = _fault(state).retry_after
        if asked:
            self._manners.postpone(asked)
        return max(asked, random.uniform(longest / 2, longest))

    def _note(self, state: RetryCallState) -> None:
        self.retries += 1
        LOGGER.warning("%s; asking again in %.1f s", _fault(state), state.upcoming_sleep)


def _fault(state: RetryCallState) -> TransientFault:
    fault = state.outcome.exception() if state.outcome is not None else None
    return fault if isinstance(fault, TransientFault) else TransientFault("no answer")
