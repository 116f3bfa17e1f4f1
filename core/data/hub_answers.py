"""What a hub answers, in sentences; and how long it is waited for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from core.errors import UserError
from core.units import duration_text

_ATTEMPTS = 3
_LONGEST_WAIT = 20
_RESET = re.compile(r"\bt=(\d+)")
TOO_MANY, UNAVAILABLE = 429, 503


class Answer(Protocol):
    """What the hub answers."""

    @property
    def status_code(self) -> int: ...

    @property
    def content(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


@contextmanager
def explained(name: str, repository: str, failure: str) -> Iterator[None]:
    """What can go wrong with the hub, as a sentence; `failure` is the one for the network."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"The data set {repository} is gated.",
            f"Accept its terms at https://huggingface.co/datasets/{repository}, then run"
            " `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"There is no file {name}, and no public data set of that name on the hub.",
            "Check the name; for a private one run `hf auth login`.",
        ) from error
    except OfflineModeIsEnabled as error:
        raise UserError(
            f"There is no file {name}, and HF_HUB_OFFLINE keeps from asking the hub.",
            "Check the path, or unset HF_HUB_OFFLINE.",
        ) from error
    except HfHubHTTPError as error:
        raise _refused(error.response, repository, failure) from error
    except (LocalEntryNotFoundError, HTTPError) as error:
        raise UserError(failure, "Check the path, or the network.") from error


def _refused(answer: Answer, repository: str, failure: str) -> UserError:
    """What an answer says that is neither rows nor one of the usual refusals."""
    status = answer.status_code
    if status in (401, 403):
        return UserError(
            f"The hub does not let you read {repository} ({status}).",
            "Ask its owner for access, then run `hf auth login`.",
        )
    if status != TOO_MANY:
        return UserError(f"{failure.removesuffix('.')}: it answers {status}.", "Try again later.")
    wait = _seconds_to_wait(answer)
    when = f"in {duration_text(wait)}" if wait else "later"
    return UserError(
        f"The hub has had too many requests from here ({status}).",
        f"Try again {when}; after `hf auth login` it allows more.",
    )


def _seconds_to_wait(answer: Answer) -> int | None:
    """What the answer asks to wait before the next request, in either of the usual ways."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return int(said)
    reset = _RESET.search(answer.headers.get("RateLimit", ""))
    return int(reset[1]) if reset else None


@contextmanager
def impatience(repository: str) -> Iterator[None]:
    """Here the hub's library does not wait for long: told to come back in an hour, it would sleep
    for an hour. UserError instead."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    def look(answer: Answer) -> None:
        busy = answer.status_code in (TOO_MANY, UNAVAILABLE)
        if busy and (_seconds_to_wait(answer) or 0) > _LONGEST_WAIT:
            raise _refused(answer, repository, f"The hub did not send {repository}.")

    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "response": [*hooks.get("response", []), look]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def ask(url: str, headers: dict[str, str]) -> Answer:
    """The answer to a request, tried again where that may help, for about a minute at most: the
    hub's library would wait for as long as it is told to."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    for _ in range(_ATTEMPTS):
        answer: Answer = http_backoff(
            "GET", url, headers=headers, timeout=HF_HUB_DOWNLOAD_TIMEOUT, max_retries=_ATTEMPTS,
            retry_on_status_codes=(408, 500, 502, 504),
        )  # fmt: skip
        wait = _seconds_to_wait(answer) or 1
        if answer.status_code not in (TOO_MANY, UNAVAILABLE) or wait > _LONGEST_WAIT:
            break
        time.sleep(wait)
    return answer
