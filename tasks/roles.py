"""Roles and what each may do; who somebody is, is found out in `tasks.users`."""

from dataclasses import dataclass

from tasks.errors import TaskError

#: What each role may do.
ROLES = {
    "viewer": frozenset({"view"}),
    "annotator": frozenset({"view", "label"}),
    "approver": frozenset({"view", "label", "decide"}),
    "admin": frozenset({"view", "label", "decide", "override", "administer"}),
}
ACTIONS = frozenset().union(*ROLES.values())


class NotAllowed(TaskError, PermissionError):
    """Somebody may not do what they asked for."""


@dataclass(frozen=True)
class User:
    """Somebody who was authenticated, and their roles (keys of `ROLES`)."""

    name: str
    roles: frozenset[str]

    def may(self, action: str) -> bool:
        """Return whether a role allows an action of `ACTIONS`.

        Raises
        ------
        ValueError
            If there is no such action: a misspelt one must not be taken for a refusal.
        """
        if action not in ACTIONS:
            raise ValueError(f"no action {action!r}: one of {', '.join(sorted(ACTIONS))}")
        return any(action in ROLES[role] for role in self.roles)

    def must(self, action: str) -> None:
        """Raise `NotAllowed` unless the user may do it."""
        if not self.may(action):
            able = ", ".join(role for role, actions in ROLES.items() if action in actions)
            raise NotAllowed(
                f"{self.name} may not {action}: it needs the role {able}; an admin gives it with "
                "`brickyard users role`"
            )


#: Whoever sits at the machine of a home without users.
LOCAL = User("local", frozenset(ROLES))
