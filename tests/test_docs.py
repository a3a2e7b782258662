"""Pages that are made from the project's own data show all of it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mcpgateway.fronts.dialling import TRANSITIONS, State

pytest.importorskip("sphinx")

from docs._ext.from_data import upstream_diagram


@pytest.mark.requirement("6.reconnect")
def test_the_diagram_of_upstreams_shows_every_transition_and_no_other() -> None:
    diagram = ElementTree.fromstring("\n".join(upstream_diagram()))
    arrows = {
        (state, follows.state): [event.value for event in events if events[event].state is follows.state]
        for state, events in TRANSITIONS.items()
        for follows in events.values()
    }
    texts = [each.text for each in diagram.iter("text")]
    shown = [", ".join(events) for events in arrows.values()]
    assert sorted(text or "" for text in texts) == sorted([*shown, *(state.value for state in State)])
    assert len(list(diagram.iter("rect"))) == len(State)
    assert sum("marker-end" in each.attrib for each in diagram.iter("path")) == len(arrows)
