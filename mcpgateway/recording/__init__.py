"""What becomes of calls, told to whoever counts, logs or keeps it.

Every call that a client makes ends as one `events.CallEvent` (`mcpgateway.calls.observed` sees to it), which the
`events.Recorder` hands on in batches: to the `tally.Tally` that metrics are made of, and to whatever else is added.
Payloads are not events: `payloads` logs them, where the operator asks for it, with secrets taken out by `redaction`.
"""
