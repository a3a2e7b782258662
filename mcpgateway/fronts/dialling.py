"""When an upstream is dialled, and how long is waited before it is dialled again. Pure: clock and chance are given.

`TRANSITIONS` is all there is to know of an upstream's life; the diagram of the documentation is drawn from it. `step`
takes what happened and gives what is so now. There is a pause before every attempt but the first, whatever happened:
no sequence of events makes a busy loop.

    initial · (1 - jitter)  <=  pause  <=  max(maximum, refused)

Pauses grow with every connection that could not be made, or did not last for ``reconnect.stable`` seconds; one that
did makes them begin anew. To be refused (HTTP 401 or 403, close code 4004) means ``reconnect.refused`` at least.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from mcpgateway.backoff import Backoff
from mcpgateway.config.model import Reconnect

JITTER: Final = 0.1
"""The share of a pause that chance may take away, as source system 000 has it."""


class State(enum.Enum):
    """Where an upstream is in its life."""

    DIALLING = "dialling"
    """Name look-up, TCP, TLS and the WebSocket handshake."""
    CONNECTED = "connected"
    """The WebSocket is open, and has not lasted yet."""
    STABLE = "stable"
    """It has lasted for ``reconnect.stable`` seconds."""
    WAITING = "waiting"
    """It is dialled again after a pause."""
    ENDED = "ended"
    """It is not dialled any more."""


class Event(enum.Enum):
    """What happens to an upstream."""

    OPENED = "opened"
    """The WebSocket handshake is done."""
    UNREACHABLE = "unreachable"
    """There is no connection, or no WebSocket at its end."""
    REFUSED = "refused"
    """HTTP 401 or 403 to the handshake, or close code 4004."""
    DROPPED = "dropped"
    """The connection has ended, whoever ended it and why."""
    LASTED = "lasted"
    """``reconnect.stable`` seconds have passed since it was opened."""
    ELAPSED = "elapsed"
    """The pause is over."""
    STOPPED = "stopped"
    """The gateway ends, or the upstream is configured no more, or otherwise."""


@attrs.frozen
class Next:
    """What follows an event: a state, and what happens to the number of failures in a row."""

    state: State
    counts: bool = False
    """It is one more failure in a row."""
    forgets: bool = False
    """There have been none any more."""


_FAILED: Final = Next(State.WAITING, counts=True)
_STOPPED: Final = Next(State.ENDED)

TRANSITIONS: Final[Mapping[State, Mapping[Event, Next]]] = {
    State.DIALLING: {
        Event.OPENED: Next(State.CONNECTED),
        Event.UNREACHABLE: _FAILED,
        Event.REFUSED: _FAILED,
        Event.STOPPED: _STOPPED,
    },
    State.CONNECTED: {
        Event.LASTED: Next(State.STABLE, forgets=True),
        Event.DROPPED: _FAILED,
        Event.REFUSED: _FAILED,
        Event.STOPPED: _STOPPED,
    },
    State.STABLE: {
        Event.DROPPED: _FAILED,
        Event.REFUSED: _FAILED,
        Event.STOPPED: _STOPPED,
    },
    State.WAITING: {
        Event.ELAPSED: Next(State.DIALLING),
        Event.STOPPED: _STOPPED,
    },
    State.ENDED: {},
}
"""What may happen in each state. Where ``reconnect.enabled`` is false, ``ended`` stands in the place of ``waiting``."""


@attrs.frozen
class Life:
    """An upstream at one moment."""

    state: State = State.DIALLING
    since: float = 0.0
    """When it came into this state, by the clock of whoever asks."""
    pause: float = 0.0
    """Seconds that it waits, while it does."""
    failures: int = 0
    """Attempts and connections in a row that came to nothing, or did not last."""
    connections: int = 0
    """How often it was connected, so far."""


def step(life: Life, event: Event, terms: Reconnect, *, now: float, unit: float) -> Life:
    """The life after an event. ``now`` is the time, ``unit`` a random number in [0, 1).

    :raises ValueError: this cannot happen in that state
    """
    follows = TRANSITIONS[life.state].get(event)
    if follows is None:
        raise ValueError(f"{event.value!r} cannot happen to an upstream that is {life.state.value!r}")
    state, pause = follows.state, 0.0
    if state is State.WAITING and not terms.enabled:
        state = State.ENDED
    elif state is State.WAITING:
        pause = pause_after(life.failures, terms, refused=event is Event.REFUSED, unit=unit)
    failures = 0 if follows.forgets else life.failures + follows.counts
    return Life(state, now, pause, failures, life.connections + (event is Event.OPENED))


def pause_after(failures: int, terms: Reconnect, *, refused: bool, unit: float) -> float:
    """Seconds to wait after one more failure, when there have been so many in a row before it."""
    backoff = Backoff(terms.initial, terms.maximum, terms.multiplier, JITTER)
    pause = backoff.delay(failures, unit)
    return max(pause, terms.refused) if refused else pause
