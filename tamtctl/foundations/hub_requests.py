"""Requests to the Hub, with time limits, retries, and errors of one line.

Whether this package or a library made the request, `HubRequests.explained` finds the reason in the
error: a refused token, a busy Hub, a name that cannot be resolved, and so on.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tamtctl.foundations.errors import HubError, UsageError
from tamtctl.foundations.untrusted import first_line

TIMEOUT = 20.0  # seconds without a connection, or without a byte of the answer
TRIES = 3
_LONGEST_WAIT = 30.0  # most seconds that a retry waits when the Hub asks for it
_PRINTABLE = set(map(chr, range(ord("!"), ord("~") + 1)))  # what an HTTP header can carry

# Names of the HTTP library's errors for a broken connection, where a retry may help. The library
# depends on the version of huggingface_hub.
_BROKE_OFF = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError"}
_TOO_SLOW = {"ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"}

T = TypeVar("T")


class UnreachableError(HubError):
    """The Hub does not answer, or offline mode is on; a cached copy may be usable."""


class MissingRepoError(HubError):
    """No such repository, as far as the token can see."""


class MissingRevisionError(HubError):
    """No such branch, tag or commit."""


def limit_requests() -> None:
    """Give huggingface_hub's client, which other libraries share, a time limit if it has none."""
    client: Any = huggingface_hub.get_session()
    limits = client.timeout.as_dict()
    if None in limits.values():
        kept = {name: limit for name, limit in limits.items() if limit is not None}
        client.timeout = type(client.timeout)(**(dict.fromkeys(limits, TIMEOUT) | kept))


class HubRequests:
    """Requests about one repository; each fails with one line that holds no token."""

    def __init__(
        self,
        repo: str,
        revision: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
        kind: Literal["model", "dataset"] = "model",
    ) -> None:
        self.repo, self.revision = repo, revision
        self._kind = kind
        self.writes = False  # changes the remedy in errors about missing permissions
        self.token = token or huggingface_hub.get_token()
        if self.token and not _PRINTABLE.issuperset(self.token):
            raise UsageError("the token holds characters that no token has; copy it again")
        self.api = HfApi(endpoint=endpoint, token=self.token or False, library_name="tamtctl")
        self.endpoint = self.api.endpoint

    def ask(self, request: Callable[[], T], tries: int = TRIES) -> T:
        """Make a request, with retries if the Hub is busy or the connection breaks."""
        limit_requests()
        for attempt in range(1, tries + 1):
            with self.one_line():
                try:
                    return request()
                except (HTTPError, LocalEntryNotFoundError) as error:
                    wait = _seconds_to_wait(error, attempt)
                    if attempt == tries or wait is None or wait > _LONGEST_WAIT:
                        raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Turn whatever the client raises into one line that holds no token."""
        try:
            yield
        except (EntryNotFoundError, HTTPError, OfflineModeIsEnabled) as error:
            raise self._explained(error) from error
        except OSError as error:
            if error.errno is not None:
                raise  # an error of the disk, not of the Hub
            raise HubError(
                f"the download from {self.repo} broke off ({self.safe(error)}); try again"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise self._strange(error) from error

    def explained(self, error: BaseException) -> HubError | None:
        """Return the Hub's error behind an error of a library; None if the Hub is not the cause."""
        for cause in causes(error):
            match cause:
                case HubError():
                    return cause
                case EntryNotFoundError() | HTTPError() | OfflineModeIsEnabled():
                    return self._explained(cause)
                case ConnectionError() | TimeoutError() | socket.gaierror() | ssl.SSLError():
                    return self._unreachable(cause)
        return None

    def _explained(self, error: Exception) -> HubError:
        where = f"{self.repo} at revision {self.revision}" if self.revision else self.repo
        match error:
            case OfflineModeIsEnabled():
                return UnreachableError("HF_HUB_OFFLINE is set; unset it to ask the Hub")
            case LocalEntryNotFoundError():
                for cause in causes(error.__cause__):
                    if isinstance(cause, HTTPError | OfflineModeIsEnabled):
                        return self._explained(cause)
                return UnreachableError(f"the Hub at {self.endpoint} cannot be reached; try again")
            case GatedRepoError():
                return HubError(
                    f"{self.repo} is gated; ask for access at {self._page}, "
                    "then log in with hf auth login"
                )
            case RevisionNotFoundError():
                return MissingRevisionError(
                    f"{self.repo} has no revision {self.revision!r}; leave --revision out for main"
                )
            case RepositoryNotFoundError():
                return MissingRepoError(self._not_found())
            case EntryNotFoundError():
                return HubError(f"{where} lacks a file that it lists; try again")
            case HfHubHTTPError():
                return self._refused(error)
        return self._unreachable(error)

    @property
    def _page(self) -> str:
        kind = "datasets/" if self._kind == "dataset" else ""
        return f"{self.endpoint}/{kind}{self.repo}"

    def _unreachable(self, error: BaseException) -> HubError:
        """Return the error for a missing answer: too slow, unknown name, bad certificate."""
        kinds = list(causes(error))
        why, remedy = self.safe(error), "check the network and HF_ENDPOINT"
        if any(isinstance(cause, ssl.SSLError) for cause in kinds):
            remedy = "its certificate is not accepted: check the clock, the proxy and SSL_CERT_FILE"
        elif any(isinstance(cause, socket.gaierror) for cause in kinds):
            remedy = "its name is not known here: check the network (DNS) and HF_ENDPOINT"
        elif any(isinstance(c, TimeoutError) or type(c).__name__ in _TOO_SLOW for c in kinds):
            why, remedy = "no answer in time", "check the network, or try again later"
        return UnreachableError(f"the Hub at {self.endpoint} cannot be reached ({why}); {remedy}")

    def _not_found(self) -> str:
        what = f"there is no {'dataset ' if self._kind == 'dataset' else ''}{self.repo} on the Hub"
        if self.token:
            return (
                f"{what} that this token can see; check the name, "
                "and whether the token is the right one"
            )
        return (
            f"{what}, or it is private; check the name, "
            "or log in with hf auth login, HF_TOKEN or --token"
        )

    def _refused(self, error: HfHubHTTPError) -> HubError:
        status = error.response.status_code
        if status == 401:
            if self.token:
                return HubError(
                    "the Hub does not accept the token; get a new one at "
                    f"{self.endpoint}/settings/tokens and log in with hf auth login"
                )
            return MissingRepoError(self._not_found())
        if status == 403:
            said = self.safe(error.server_message or "forbidden")
            if self.writes:
                return HubError(
                    f"the token may not do this with {self.repo} ({said}); use one that can write"
                )
            return HubError(
                f"the Hub forbids reading {self.repo} ({said}; status 403); "
                "log in with hf auth login as somebody who may"
            )
        if status == 404:
            return MissingRepoError(self._not_found())
        if status == 412:
            return HubError(f"{self.repo} was changed by somebody else meanwhile; push again")
        if status == 429:
            seconds = error.response.headers.get("Retry-After")
            again = f" in {seconds} seconds" if seconds and seconds.isdigit() else " later"
            return HubError(f"the Hub asks for fewer requests (status 429); try again{again}")
        if status >= 500:
            return UnreachableError(
                f"the Hub has a problem of its own (status {status}); try again later"
            )
        said = self.safe(error.server_message or error)
        return HubError(f"the Hub refuses the request for {self.repo} (status {status}: {said})")

    def _strange(self, error: Exception) -> HubError:
        if "Invalid metadata in README.md" in str(error):
            said = self.safe(" ".join(str(error).split()))
            return HubError(f"the Hub does not accept the card: {said}")
        if isinstance(error.__cause__, HTTPError | OfflineModeIsEnabled):
            return self._explained(error.__cause__)
        return HubError(
            f"the Hub at {self.endpoint} does not answer like a Hub "
            f"({type(error).__name__}: {self.safe(error)}); check HF_ENDPOINT and the network"
        )

    def safe(self, said: object) -> str:
        """Return the first line of a foreign message without the token."""
        text = first_line(str(said))
        return text.replace(self.token, "***") if self.token else text


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def broke_off(error: BaseException) -> bool:
    """Whether an established connection broke, so that a retry may help."""
    return isinstance(error, HTTPError) and type(error).__name__ in _BROKE_OFF


def _seconds_to_wait(error: BaseException, attempt: int) -> float | None:
    """Return the seconds to wait before a retry; None if a retry would not help."""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            if status != 429 and status < 500:
                return None
            asked = cause.response.headers.get("Retry-After", "")
            return float(asked) if asked.isdigit() else float(attempt)
        if broke_off(cause):
            return float(attempt)
    return None
