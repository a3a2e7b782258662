"""Between the eras: what one side says in the words of the other, as pure functions.

Two callers, one on each side of the bridge:

* A **legacy client in front of a modern server** has a session here and none there. `handshakes` answers its
  ``initialize``, `requests.to_modern` stamps its calls with what the session declared, `replies.to_legacy` takes the
  modern members off again. An ``input_required`` is a round of `rounds`: questions to the client, then the same request
  once more with the answers. What the session wants to hear is one ``subscriptions/listen`` (`subscriptions`).
* A **modern client in front of a legacy server** has no session here and one there, negotiated with the capabilities of
  the request (`capabilities.of_session`). `requests.to_legacy` strips the envelope, `replies.to_modern` adds what
  modern results carry. What the server asks meanwhile is parked: `parked` makes it an ``input_required``, and reads
  the answers that the client's retry brings.

`notifications` go both ways; `questions`, `shapes`, `results`, `errors`, `content` and `tools` are what those above are
made of, `splicing` is how all of them touch JSON.

The rules that hold everywhere: a message is decoded one level deep and members are cut out or put in, so that whatever
no rule names comes out as the bytes that came in, unknown members included; nothing is added but what the other era
requires, and our own `questions.KEY`. What both eras can say survives there and back. A peer that sent what cannot be
translated is refused with `mcpgateway.errors.InvalidParams` if it is the client, with ``ServerMisbehaved`` if it is the
server, and no other exception leaves.

Ids and progress tokens are not translated here: each link has its own (`mcpgateway.protocol.correlator`). Nor are
headers: `mcpgateway.protocol.headers.request_headers` makes them of a translated request.
"""
