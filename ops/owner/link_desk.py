"""Links for owners, as people make and revoke them."""

from dataclasses import dataclass
from datetime import datetime

from backends.actions import Action, What
from backends.bootstrap import Backends
from backends.settings import CONSOLE_OFF
from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLink:
    """A link as it is handed to an owner; nobody can read it again."""

    url: str
    expires_at: datetime


class LinkDesk:
    """Makes links, and revokes them. Both are written down; the link itself is not."""

    def __init__(self, backends: Backends, *, who: str) -> None:
        self._backends, self._who = backends, who

    def make(self, case: str) -> MadeLink:
        """Make a link to a case. Raises NotFound, and what `base` raises."""
        self._backends.store.case(case)
        base = self.base()
        link = self._backends.owner_links.make(case, now=self._backends.clock.now())
        self._log(What.OWNER_LINK_MAKE, case, after={"expires_at": link.expires_at.isoformat(timespec="seconds")})
        return MadeLink(url=f"{base}/o/{link.token}", expires_at=link.expires_at)

    def base(self) -> str:
        """Return what every link begins with. Raises ConfigurationError where nobody could follow one."""
        settings = self._backends.settings
        if settings.public_url is None and settings.console == CONSOLE_OFF:
            raise ConfigurationError("RENEWAL_PUBLIC_URL: set it where RENEWAL_CONSOLE is off: a link leads there")
        return settings.public_url or f"http://{settings.console}"

    def revoke(self, case: str) -> int:
        """Let no link lead to a case any more. Returns how many did. Raises NotFound."""
        self._backends.store.case(case)
        count = self._backends.owner_links.revoke(case)
        self._log(What.OWNER_LINK_REVOKE, case, after={"revoked": count})
        return count

    def _log(self, what: What, case: str, *, after: dict[str, object]) -> None:
        self._backends.actions.append(Action(what=what, target=case, reason="", before={}, after=after, who=self._who))
