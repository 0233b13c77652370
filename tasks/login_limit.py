"""How often a login may fail: waits that double, for a name and for an address."""

from collections.abc import Callable

from storage.user_store import UserTables
from tasks.addresses import place_of
from tasks.errors import TaskError

FREE_FAILURES = 3  # logins that may fail before one has to wait
LONGEST_WAIT = 900.0  # [s]; a name must not be locked for good by somebody who guesses
FORGET_SECONDS = 3600.0  # failures older than this no longer count


class LoginRefused(TaskError, PermissionError):
    """The name or the password is wrong; which one is not told."""


class TooManyAttempts(LoginRefused):
    """Logins failed too often; `wait` is how long to stay away [s]."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"too many failed logins: try again in {wait:.0f} s")
        self.wait = wait


class LoginLimit:
    """Counts failed logins in the file of users, so that every process sees them."""

    def __init__(self, tables: UserTables, clock: Callable[[], float]) -> None:
        self._tables, self._clock = tables, clock

    def attempt(self, name: str, address: str) -> None:
        """Count a login before it is looked at, so that many at once are no way around.

        Raises
        ------
        TooManyAttempts
            If it comes too early: after `FREE_FAILURES` each next one waits twice as long, up to
            `LONGEST_WAIT`. An address that has to wait does not make a name wait.
        """
        self._count(_key_of_address(address))
        self._count(_key_of_name(name))

    def succeeded(self, name: str, address: str) -> None:
        """Take the count of a login back that was right; it does not excuse guessing others."""
        self._tables.lower_failures(_key_of_name(name))
        self._tables.lower_failures(_key_of_address(address), by=1)

    def _count(self, who: str) -> None:
        while True:
            number, last_at = self._tables.failures(who)
            now = self._clock()
            forget_before = now - FORGET_SECONDS
            if last_at < forget_before:  # the row goes below, in the transaction that counts
                number = 0
            excess = number - FREE_FAILURES
            wait = min(2.0**excess, LONGEST_WAIT) if excess >= 0 else 0.0
            if last_at + wait > now and number:
                raise TooManyAttempts(last_at + wait - now)
            if self._tables.count_failure(who, number, now, forget_before):
                return


def _key_of_name(name: str) -> str:
    return f"name:{name.lower()[:64]}"


def _key_of_address(address: str) -> str:
    return f"address:{place_of(address)}"
