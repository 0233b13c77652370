"""Sessions of a home without users: nobody logs in, but forms still carry a secret."""

import threading
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe

from tasks.users import LOCAL, Session

MOST = 1000  # the oldest are forgotten


class LocalSessions:
    """Kept in this process only; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def open(self, minutes: float) -> Session:
        """Open a session of the person at the machine."""
        expires = datetime.now(UTC) + timedelta(minutes=minutes)
        made = Session(token_urlsafe(32), token_urlsafe(32), LOCAL, expires)
        with self._lock:
            self._sessions[made.token] = made
            while len(self._sessions) > MOST:
                del self._sessions[next(iter(self._sessions))]
        return made

    def find(self, token: str) -> Session | None:
        """Return the session of a token while it lasts."""
        found = self._sessions.get(token)
        return found if found is not None and found.expires > datetime.now(UTC) else None
