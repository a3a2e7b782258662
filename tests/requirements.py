"""What the project owes, as data: every feature of the four source systems, every cell of the bridging table between
the eras, and every promise of the project's issues, each with the tests that prove it.

`tests/test_requirements.py` holds both directions; the page "Requirements" of the documentation is made from it.

A requirement is in exactly one state. ``tests`` names what proves it, as ``path::function`` (or
``path::Class::function``), for all cases of a parametrised one. ``later`` names the issue or source system with which
it comes. ``refused`` says why it will not come. Who proves a requirement replaces its ``later`` by the ``tests``.
"""

from __future__ import annotations

from typing import Literal

import attrs

ISSUE_2 = "issue 2: the skeleton"
ISSUE_3 = "issue 3: same era on both sides"
ISSUE_4 = "issue 4: it survives"
ISSUE_5 = "issue 5: any client to any server"
ISSUE_6 = "issue 6: the WebSocket bridge"
SOURCE_001 = "with source system 001: keys, limits, analytics"
SOURCE_002 = "with source system 002: REST, pools, desktop"
SOURCE_003 = "with source system 003: deployment, services, accounts"


@attrs.frozen
class Requirement:
    """One thing owed: see the module for its states."""

    id: str
    text: str
    source: str
    tests: tuple[str, ...] = ()
    later: str | None = None
    refused: str | None = None

    @property
    def state(self) -> Literal["proved", "later", "refused"]:
        if self.tests:
            return "proved"
        return "later" if self.later is not None else "refused"


def feature(row: int, text: str, *tests: str, later: str | None = None, refused: str | None = None) -> Requirement:
    """A row of the merged feature table of the source systems."""
    return Requirement(f"feature.{row}", text, "source systems, merged feature table", tests, later, refused)


def bridge(
    row: str, direction: str, text: str, *tests: str, later: str | None = None, refused: str | None = None
) -> Requirement:
    """A cell of the bridging table; ``direction`` is client era to server era, or ``same`` era."""
    return Requirement(f"bridge.{row}.{direction}", text, "bridging table", tests, later, refused)


def promise(id: str, text: str, *tests: str, later: str | None = None, refused: str | None = None) -> Requirement:
    """A promise of an issue; the id begins with the issue's number."""
    return Requirement(id, text, f"issue {id.partition('.')[0]}", tests, later, refused)


LEGACY = "legacy-to-modern"
MODERN = "modern-to-legacy"
SAME = "same"

FEATURES = (
    feature(1, "Outbound WebSocket upstream (gateway = MCP server on a dialled socket)", later=ISSUE_6),
    feature(2, "Multiple upstreams with independent servers/credentials", later=ISSUE_6),
    feature(3, "Upstream token in URL query", later=ISSUE_6),
    feature(4, "WS reconnect exponential backoff + jitter", later=ISSUE_6),
    feature(5, "reconnect.enabled=false", later=ISSUE_6),
    feature(6, "WS keepalive ping", later=ISSUE_6),
    feature(7, "Inbound HTTP server", "tests/fronts/test_legacy.py::test_the_handshake_in_every_revision"),
    feature(8, "Legacy HTTP+SSE server (aggregate)", later=ISSUE_5),
    feature(9, "SSE endpoint event", later=ISSUE_5),
    feature(10, "SSE redirect 302 to session URL", later=SOURCE_003),
    feature(11, "SSE reconnect to existing session id", later=SOURCE_003),
    feature(12, "POST on /sse", later=ISSUE_5),
    feature(
        13,
        "Streamable HTTP aggregate endpoint",
        "tests/fronts/test_legacy.py::test_a_merged_list_names_each_tool_by_its_server_and_in_order",
    ),
    feature(
        14,
        "Mcp-Session-Id issue/validate/delete",
        "tests/fronts/test_legacy.py::test_delete_ends_a_session",
        "tests/fronts/test_bad_input.py::test_an_unknown_session_is_404_with_the_id_of_the_request",
    ),
    feature(
        15,
        "GET stream for server→client messages",
        "tests/calls/test_changes.py::test_what_is_said_while_nobody_listens_waits_for_the_next_stream",
        "tests/calls/test_changes.py::test_a_servers_request_reaches_its_one_client_and_the_answer_goes_back",
        "tests/fronts/test_listening.py::test_what_a_shared_server_says_comes_on_the_stream",
    ),
    feature(16, "Single-server passthrough by path", later=ISSUE_5),
    feature(17, "Arbitrary sub-path proxying /{name}/**", later=SOURCE_003),
    feature(18, "endpoint-event rewriting in proxied SSE", later=ISSUE_5),
    feature(
        19,
        "SSE streaming pass-through",
        "tests/fronts/test_streams.py::test_a_stream_passes_to_the_byte_and_is_resumed_where_the_client_says",
    ),
    feature(20, "REST list tools", later=SOURCE_002),
    feature(21, "REST call tool", later=SOURCE_002),
    feature(22, "stdio server mode (Claude Desktop)", later=ISSUE_5),
    feature(23, "stdio bridge to a remote gateway", later=ISSUE_5),
    feature(24, "Protocol exposure switch (all/sse/streamhttp)", later=SOURCE_003),
    feature(25, "JSON-RPC batch", "tests/fronts/test_batches.py::test_requests_are_answered_as_one_array"),
    feature(26, "stdio server", "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract"),
    feature(
        27,
        "Streamable HTTP server",
        "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract",
        "tests/adapters/test_http_replies.py::test_a_reply_is_found_in_any_form",
        "tests/adapters/test_http_replies.py::test_what_is_no_reply_fails_its_call_only",
    ),
    feature(28, "SSE server", later=ISSUE_5),
    feature(
        29,
        "custom headers per server",
        "tests/adapters/test_streamable_http.py::test_configured_headers_are_sent_with_everything_and_never_shown",
    ),
    feature(30, "Bearer/OAuth token to server", later=SOURCE_003),
    feature(31, "OAuth client flow for remote MCP (discovery, DCR, PKCE)", later=SOURCE_003),
    feature(
        32,
        "per-server env",
        "tests/wire/test_children.py::test_a_child_has_its_own_session_our_environment_and_no_descriptor_of_ours",
    ),
    feature(33, "login-shell env recovery", later=ISSUE_4),
    feature(
        34,
        "per-server timeout",
        "tests/calls/test_call.py::test_a_silent_server_is_given_up_at_its_timeout_and_told",
    ),
    feature(
        35,
        "fixed call timeout",
        "tests/calls/test_call.py::test_progress_renews_the_deadline_up_to_a_hard_cap",
    ),
    feature(
        36,
        "session id echo to server",
        "tests/adapters/test_streamable_http.py::test_requests_are_as_the_transport_says",
    ),
    feature(
        37,
        "stderr capture",
        "tests/wire/test_children.py::test_standard_error_is_logged_line_by_line_and_its_end_is_kept",
    ),
    feature(
        38,
        "automatic child restart",
        "tests/real/test_killed_servers.py::test_clients_of_a_child_that_was_killed_hear_on_and_hear_what_is_new",
        "tests/real/test_killed_servers.py::test_only_calls_in_flight_notice_that_a_child_is_killed",
    ),
    feature(39, "docker image with node/python/uv", later=ISSUE_6),
    feature(
        40,
        "supported launchers uvx/npx/any",
        "tests/adapters/test_stdio.py::test_a_command_that_cannot_be_started_says_why",
        "tests/real/test_servers.py::test_a_server_by_itself_is_just_as_it_is",
    ),
    feature(
        41,
        "connection pool per server",
        "tests/servers/test_server.py::test_a_thousand_calls_share_five_links_first_come_first_served",
    ),
    feature(
        42,
        "pool grow on demand",
        "tests/servers/test_server.py::test_a_thousand_calls_share_five_links_first_come_first_served",
    ),
    feature(
        43,
        "acquire timeout",
        "tests/servers/test_server.py::test_waiting_for_a_link_has_a_deadline",
    ),
    feature(
        44,
        "idle reaping",
        "tests/servers/test_server.py::test_idle_links_are_closed_down_to_the_minimum",
    ),
    feature(45, "pool maxRetries", later=SOURCE_002),
    feature(
        46,
        "pool stats",
        "tests/servers/test_server.py::test_a_server_is_up_at_the_start_and_says_what_it_is",
    ),
    feature(
        47,
        "exclusive connection per call",
        "tests/servers/test_ledger.py::test_links_that_are_exclusive",
        "tests/servers/test_server.py::test_a_thousand_calls_share_five_links_first_come_first_served",
    ),
    feature(
        48,
        "per-client-session server clients",
        "tests/servers/test_server.py::test_each_session_has_a_link_of_its_own_until_it_ends",
        "tests/test_gateway.py::test_a_session_that_ends_takes_its_links_with_it",
    ),
    feature(
        49,
        "server init once, cached tools",
        "tests/calls/test_merged.py::test_many_calls_at_once_list_once",
    ),
    feature(
        50,
        "disabled/enabled servers",
        "tests/test_gateway.py::test_the_namespaces_of_a_configuration",
    ),
    feature(
        51,
        "background start-up with readiness",
        "tests/test_gateway.py::test_servers_start_side_by_side_and_readiness_waits_for_all",
    ),
    feature(
        52,
        "fault isolation of failed server",
        "tests/calls/test_merged.py::test_a_server_that_hangs_costs_a_listing_its_bound_and_is_named",
        "tests/servers/test_server.py::test_one_servers_death_is_nobody_elses",
    ),
    feature(
        53,
        "tool aggregation",
        "tests/calls/test_merged.py::test_listings_are_merged_in_the_order_of_the_configuration",
    ),
    feature(
        54,
        "tool prefixing",
        "tests/calls/test_merged.py::test_listings_are_merged_in_the_order_of_the_configuration",
    ),
    feature(
        55,
        "custom prefix ≠ server name",
        "tests/calls/test_merged.py::test_a_prefix_may_differ_from_the_servers_name",
    ),
    feature(56, "stripPrefix", later=SOURCE_002),
    feature(
        57,
        "rename map",
        "tests/calls/test_raw.py::test_rules_hide_and_rename_without_a_listing",
    ),
    feature(
        58,
        "include filter",
        "tests/calls/test_raw.py::test_rules_hide_and_rename_without_a_listing",
    ),
    feature(
        59,
        "exclude filter",
        "tests/calls/test_raw.py::test_rules_hide_and_rename_without_a_listing",
    ),
    feature(
        60,
        "filter on original name, exact match",
        "tests/catalog/test_table.py::test_patterns_match_the_original_and_the_exposed_name",
    ),
    feature(61, "description tagged with server", later=SOURCE_003),
    feature(
        62,
        "namespaces routing",
        "tests/test_gateway.py::test_the_namespaces_of_a_configuration",
    ),
    feature(63, "namespace description & listing", later=SOURCE_001),
    feature(
        64,
        "collision handling",
        "tests/catalog/test_naming.py::test_policies",
        "tests/catalog/test_table.py::test_two_servers_that_prefix_to_one_name",
    ),
    feature(
        65,
        "tools/list paging",
        "tests/calls/test_cursors.py::test_a_long_listing_is_paged",
        "tests/calls/test_cursors.py::test_a_cursor_is_good_for_one_client_and_one_listing",
    ),
    feature(
        66,
        "resources/prompts",
        "tests/calls/test_merged.py::test_prompts_resources_and_completions_go_to_their_servers",
    ),
    feature(
        67,
        "capability merging",
        "tests/calls/test_merged.py::test_capabilities_are_united_and_instructions_named",
    ),
    feature(
        68,
        "logging/setLevel, ping",
        "tests/calls/test_interests.py::test_the_server_gets_the_most_verbose_level_and_each_session_what_it_asked_for",
        "tests/fronts/test_methods.py::test_ping_is_of_the_legacy_era",
    ),
    feature(
        69,
        "cancellation/progress forwarding",
        "tests/fronts/test_legacy.py::test_progress_comes_as_it_is_made",
        "tests/fronts/test_legacy.py::test_a_cancelled_call_reaches_the_server_and_gets_no_reply",
    ),
    feature(
        70,
        "tools/list_changed",
        "tests/calls/test_changes.py::test_a_changed_list_is_told_to_all_who_share_the_link_and_to_no_other",
        "tests/fronts/test_listening.py::test_what_a_shared_server_says_comes_on_the_stream",
    ),
    feature(
        71,
        "protocol version negotiation",
        "tests/fronts/test_legacy.py::test_the_handshake_in_every_revision",
        "tests/fronts/test_legacy.py::test_an_unknown_revision_gets_the_latest_as_a_counter_offer",
    ),
    feature(72, "API-key auth (Bearer)", later=SOURCE_001),
    feature(73, "API key via query", later=SOURCE_001),
    feature(74, "multiple keys with user id", later=SOURCE_001),
    feature(75, "per-key namespace restriction", later=SOURCE_001),
    feature(76, "auth on/off switch", later=SOURCE_001),
    feature(77, "default key", refused="a key that everybody knows is no key; one is generated and printed once"),
    feature(78, "OAuth resource server (JWKS, introspection)", later=SOURCE_003),
    feature(79, "OAuth authorization server (code+PKCE, password, refresh, DCR)", later=SOURCE_003),
    feature(80, "accounts/login/register/refresh/logout", later=SOURCE_003),
    feature(81, "RBAC viewer/admin/owner/system_admin", later=SOURCE_003),
    feature(82, "API-key lifecycle (create, list, revoke, expiry, last used)", later=SOURCE_003),
    feature(83, "key rotation (single-key)", later=SOURCE_003),
    feature(84, "rate limiting rpm + burst", later=SOURCE_001),
    feature(85, "JSON-RPC error codes on auth failure", later=SOURCE_001),
    feature(86, "CORS", later=SOURCE_002),
    feature(
        87,
        "DNS-rebinding/Origin check",
        "tests/fronts/test_bad_input.py::test_headers_that_do_not_fit_are_refused",
        "tests/access/test_browsers.py::test_origins",
    ),
    feature(88, "request log DB", later=SOURCE_001),
    feature(89, "usage by user", later=SOURCE_001),
    feature(90, "usage by tool", later=SOURCE_001),
    feature(91, "per-user detail", later=SOURCE_001),
    feature(92, "tool popularity with limit", later=SOURCE_001),
    feature(93, "time series with bucket", later=SOURCE_001),
    feature(94, "period syntax 7d/24h/30m", later=SOURCE_001),
    feature(95, "bytes in/out accounting", later=SOURCE_001),
    feature(96, "latency average", later=SOURCE_001),
    feature(97, "audit log", later=SOURCE_003),
    feature(98, "operation log (JSONL)", later=SOURCE_003),
    feature(99, "stats overview/activity", later=SOURCE_003),
    feature(
        100,
        "health endpoint",
        "tests/web/test_routes.py::test_health_tells_the_state_of_the_gateway_and_of_each_server",
    ),
    feature(101, "per-service health", later=SOURCE_003),
    feature(102, "metrics port 9090", later=ISSUE_6),
    feature(103, "structured logs", later=ISSUE_6),
    feature(104, "verbose payload logging", later=ISSUE_6),
    feature(105, "log level", "tests/runners/test_logs.py::test_the_level_decides_what_is_shown"),
    feature(106, "log format json", later=ISSUE_6),
    feature(107, "log injection sanitising", later=ISSUE_6),
    feature(108, "profiling", later=SOURCE_003),
    feature(109, "service log tail API", later=SOURCE_003),
    feature(110, "dynamic deploy at runtime", later=SOURCE_003),
    feature(111, "batch deploy with per-server result", later=SOURCE_003),
    feature(112, "delete server", later=SOURCE_003),
    feature(113, "list services", later=SOURCE_003),
    feature(114, "start/stop/restart/update", later=SOURCE_003),
    feature(115, "persistence of deployments", later=SOURCE_003),
    feature(116, "workspaces", later=SOURCE_003),
    feature(117, "session list/create/delete/status", later=SOURCE_003),
    feature(118, "session idle GC", later=ISSUE_4),
    feature(119, "admin web UI", later=SOURCE_003),
    feature(120, "market / official registry sync / install", later=SOURCE_003),
    feature(121, "API discovery/test console", later=SOURCE_003),
    feature(122, "runtime config get/put", later=SOURCE_003),
    feature(123, "hot reload of config file", later=ISSUE_4),
    feature(124, "JSON config", "tests/config/test_golden.py::test_golden"),
    feature(125, "YAML config", "tests/config/test_golden.py::test_golden"),
    feature(
        126, "env expansion", "tests/config/test_expansion.py::test_expands_strings_only_and_remembers_what_was_written"
    ),
    feature(127, "env overrides", later=SOURCE_001),
    feature(
        128,
        "config search path",
        "tests/config/test_lookup.py::test_the_order_below_the_working_directory_and_at_home",
    ),
    feature(129, "validation with messages", "tests/config/test_golden.py::test_golden"),
    feature(130, "duration strings", "tests/test_durations.py::test_parse"),
    feature(131, "check command text", later=ISSUE_6),
    feature(132, "check command JSON", later=ISSUE_6),
    feature(133, "check per-server timeout", later=ISSUE_6),
    feature(134, "check secret masking", later=ISSUE_6),
    feature(135, "coloured output / NO_COLOR", later=ISSUE_6),
    feature(136, "config info / init", later=SOURCE_002),
    feature(137, "system service install/start/stop/status", later=ISSUE_6),
    feature(138, "layered diagnosis + suggested action", later=SOURCE_002),
    feature(139, "exit-code table", later=SOURCE_002),
    feature(140, "remote deployment script", later=ISSUE_6),
    feature(141, "local run script (pid, logs, status)", later=ISSUE_6),
    feature(142, "version flag", "tests/runners/test_options.py::test_version_is_told"),
    feature(143, "interactive prompt / -yes", later=SOURCE_003),
    feature(144, "Homebrew / npm / docker / single binary", later=ISSUE_6),
    feature(
        145,
        "graceful shutdown on SIGINT/SIGTERM",
        "tests/runners/test_process.py::test_demo_listens_where_it_says_answers_and_ends_with_0",
        "tests/runners/test_process.py::test_a_call_in_flight_is_given_its_time_and_then_an_answer",
    ),
    feature(
        146,
        "child close: stdin → wait 5 s → kill",
        "tests/adapters/test_stdio.py::test_a_child_that_ignores_sigterm_is_killed",
    ),
    feature(
        147,
        "process-group kill",
        "tests/wire/test_children.py::test_a_stubborn_child_is_killed_with_all_that_it_started",
    ),
    feature(
        148,
        "client disconnect cancels call",
        "tests/fronts/test_streams.py::test_a_modern_call_ends_with_its_client",
        "tests/fronts/test_streams.py::test_a_legacy_call_runs_on_without_its_client_and_its_reply_can_be_fetched",
    ),
    feature(149, "client session cleanup on disconnect", later=ISSUE_4),
    feature(150, "concurrency claim", later=SOURCE_002),
    feature(151, "Windows/macOS/Linux", "tests/runners/test_options.py::test_where_children_cannot_be_had_it_says_so"),
    feature(152, "unit/integration tests", "tests/test_readme.py::test_ci_runs_the_test_command_to_the_letter"),
)

BRIDGING = (
    bridge(
        "handshake", LEGACY, "answered from the modern server's discovery; a session id of the gateway", later=ISSUE_5
    ),
    bridge("handshake", MODERN, "server/discover answered from InitializeResult", later=ISSUE_5),
    bridge(
        "handshake",
        SAME,
        "verbatim, so that both hops negotiate the same",
        "tests/fronts/test_legacy.py::test_the_handshake_in_every_revision",
        "tests/calls/test_call.py::test_a_crashed_pipe_of_a_session_is_made_again_with_the_clients_own_handshake",
    ),
    bridge(
        "envelope",
        LEGACY,
        "`_meta` gains revision, client capabilities and client info; the rest of it stays",
        later=ISSUE_5,
    ),
    bridge(
        "envelope",
        MODERN,
        "the reserved keys leave `_meta`; progressToken, traceparent and vendor keys stay",
        later=ISSUE_5,
    ),
    bridge(
        "envelope",
        SAME,
        "verbatim",
        "tests/calls/test_transparency.py::test_a_call_and_its_result_cross_unchanged",
    ),
    bridge(
        "headers",
        LEGACY,
        "MCP headers made from the body and the tool's schema; -32020 refreshes and retries once",
        later=ISSUE_5,
    ),
    bridge("headers", MODERN, "the client's headers validated in full, session headers sent", later=ISSUE_5),
    bridge(
        "headers",
        SAME,
        "sent again; unknown Mcp-Param-* forwarded",
        "tests/calls/test_mirrors.py::test_headers_must_mirror_their_arguments",
        "tests/calls/test_raw.py::test_a_modern_clients_headers_go_along_and_nothing_else_does",
    ),
    bridge("ids", LEGACY, "a new id on every leg, progress tokens mapped", later=ISSUE_5),
    bridge("ids", MODERN, "a new id on every leg, progress tokens mapped", later=ISSUE_5),
    bridge(
        "ids",
        SAME,
        "ids, progress tokens, subscription ids and cancels rewritten on shared pipes, types kept",
        "tests/protocol/test_correlator.py::test_a_token_is_ours_on_the_wire_and_the_clients_on_the_way_back",
        "tests/protocol/test_correlator.py::test_a_subscription_id_is_mapped_back_to_the_id_of_the_listen",
        "tests/protocol/test_correlator.py::test_an_id_of_another_type_or_value_is_junk",
    ),
    bridge(
        "result",
        LEGACY,
        "resultType and cache members dropped; what 2025 cannot say is wrapped or dropped",
        later=ISSUE_5,
    ),
    bridge("result", MODERN, "resultType, ttlMs 0, cacheScope private and serverInfo added", later=ISSUE_5),
    bridge(
        "result",
        SAME,
        "untouched but for a missing resultType and cache members",
        "tests/protocol/test_results.py::test_what_is_there_stays_to_the_byte_and_what_is_missing_is_filled_in",
        "tests/calls/test_transparency.py::test_a_call_and_its_result_cross_unchanged",
    ),
    bridge(
        "asks",
        LEGACY,
        "input_required becomes requests on the call's own stream; answers collected, retried with exact requestState",
        later=ISSUE_5,
    ),
    bridge("asks", MODERN, "the call is parked and the client gets input_required with sealed state", later=ISSUE_5),
    bridge(
        "asks",
        SAME,
        "relayed on the call's own stream; modern passes verbatim",
        "tests/fronts/test_legacy.py::test_a_question_of_the_server_reaches_its_client_and_is_answered",
        "tests/fronts/test_modern.py::test_a_question_is_a_result",
    ),
    bridge(
        "capability-gate", LEGACY, "a kind that the client did not declare is an error, never forwarded", later=ISSUE_5
    ),
    bridge(
        "capability-gate",
        MODERN,
        "an undeclared request is answered -32601; sessions are keyed by capability set",
        later=ISSUE_5,
    ),
    bridge(
        "capability-gate",
        SAME,
        "undeclared requests never reach the client",
        "tests/calls/test_relay.py::test_what_the_client_did_not_declare_is_refused_and_never_reaches_it",
        "tests/fronts/test_legacy.py::test_a_client_without_the_capability_is_not_asked",
    ),
    bridge("ping", LEGACY, "answered by the gateway", later=ISSUE_5),
    bridge("ping", MODERN, "404 and -32601 to the client; the server's pings answered by the gateway", later=ISSUE_5),
    bridge("ping", SAME, "answered", "tests/fronts/test_methods.py::test_ping_is_of_the_legacy_era"),
    bridge("logging", LEGACY, "logging/setLevel kept per session and stamped on later requests", later=ISSUE_5),
    bridge("logging", MODERN, "setLevel as low as needed, filtered per call, none without logLevel", later=ISSUE_5),
    bridge(
        "logging",
        SAME,
        "forwarded",
        "tests/calls/test_interests.py::test_logs_of_a_call_stay_on_its_stream_and_keep_to_the_sessions_level",
        "tests/calls/test_changes.py::test_a_link_of_ones_own_brings_everything_as_it_is",
    ),
    bridge("changes", LEGACY, "one subscriptions/listen per session, re-opened without a gap", later=ISSUE_5),
    bridge(
        "changes",
        MODERN,
        "listen answered with the honoured subset, notifications fanned out with their subscription id",
        later=ISSUE_5,
    ),
    bridge(
        "changes",
        SAME,
        "relayed, subscription ids rewritten",
        "tests/calls/test_subscriptions.py::test_one_acknowledgement_for_all_and_every_servers_news",
        "tests/fronts/test_listen.py::test_several_subscriptions_at_once_have_ids_of_their_own",
    ),
    bridge("progress", LEGACY, "relayed on the request's stream", later=ISSUE_5),
    bridge("progress", MODERN, "relayed; stops with input_required and goes on with the retry", later=ISSUE_5),
    bridge(
        "progress",
        SAME,
        "relayed",
        "tests/fronts/test_legacy.py::test_progress_comes_before_the_reply_on_one_stream",
        "tests/fronts/test_modern.py::test_progress_comes_before_the_reply_on_one_stream",
    ),
    bridge("cancel", LEGACY, "cancelled closes the server's POST; a disconnect does not cancel", later=ISSUE_5),
    bridge("cancel", MODERN, "a closed stream cancels; a parked call lives until its TTL", later=ISSUE_5),
    bridge(
        "cancel",
        SAME,
        "native",
        "tests/fronts/test_streams.py::test_a_modern_call_ends_with_its_client",
        "tests/fronts/test_streams.py::test_a_cancellation_reaches_the_server_of_its_call_and_no_other",
    ),
    bridge("errors", LEGACY, "codes that a legacy client must not see are mapped", later=ISSUE_5),
    bridge("errors", MODERN, "-32002, -32042 and lost sessions mapped", later=ISSUE_5),
    bridge(
        "errors",
        SAME,
        "as they are, HTTP status included",
        "tests/adapters/test_http_replies.py::test_what_is_no_reply_fails_its_call_only",
        "tests/fronts/test_modern.py::test_the_ladder_of_refusals",
    ),
    bridge("tasks", LEGACY, "not declared: the server answers at once, or the gateway polls", later=ISSUE_5),
    bridge("tasks", MODERN, "never advertised", later=ISSUE_5),
    bridge(
        "tasks",
        SAME,
        "routed by task id",
        "tests/calls/test_tasks.py::test_what_is_asked_about_a_task_goes_to_its_server",
        "tests/calls/test_tasks.py::test_a_raw_namespace_passes_them_as_they_are",
    ),
    bridge("paging", LEGACY, "opaque, sealed when merged", later=ISSUE_5),
    bridge("paging", MODERN, "opaque, sealed when merged", later=ISSUE_5),
    bridge(
        "paging",
        SAME,
        "opaque, sealed when merged",
        "tests/calls/test_cursors.py::test_a_long_listing_is_paged",
    ),
    bridge("sessions", LEGACY, "live in the gateway only; DELETE ends listening and calls", later=ISSUE_5),
    bridge("sessions", MODERN, "a pool of server sessions, leased, deleted when idle", later=ISSUE_5),
    bridge(
        "sessions",
        SAME,
        "one to one",
        "tests/fronts/test_streams.py::test_delete_ends_the_stream_and_the_calls_of_its_session_and_no_other",
    ),
    bridge("resumability", LEGACY, "event ids, priming, retry and replay from the gateway's own buffer", later=ISSUE_5),
    bridge("resumability", MODERN, "the gateway resumes the server's stream", later=ISSUE_5),
    bridge(
        "resumability",
        SAME,
        "ids, retry and priming one to one; GET with Last-Event-ID mapped",
        "tests/fronts/test_streams.py::test_a_stream_passes_to_the_byte_and_is_resumed_where_the_client_says",
        "tests/fronts/test_streams.py::test_a_call_that_the_server_cuts_off_ends_likewise_and_is_resumed_by_the_client",
    ),
    bridge("batch", LEGACY, "split, answered as an array or one stream", later=ISSUE_5),
    bridge("batch", MODERN, "not applicable to a modern client", refused="batches exist in 2025-03-26 only"),
    bridge("batch", SAME, "split", "tests/fronts/test_batches.py::test_requests_are_answered_as_one_array"),
)

PROMISES = (
    promise(
        "2.project.commands",
        "the README's two commands work on a fresh machine with Python and Node",
        "tests/test_readme.py::test_two_commands_each_one_line",
        "tests/runners/test_process.py::test_demo_listens_where_it_says_answers_and_ends_with_0",
    ),
    promise(
        "2.project.top-level",
        "the top level holds what the design names, and no more",
        "tests/test_project.py::test_the_top_level_holds_what_the_design_names_and_no_more",
    ),
    promise(
        "2.project.ladder",
        "imports point down the ladder; exclusive rooms are kept",
        "tests/test_project.py::test_every_room_is_on_the_ladder_that_the_lint_session_holds",
    ),
    promise(
        "2.project.requirements",
        "every requirement is listed and each named test exists",
        "tests/test_requirements.py::test_every_row_of_the_tables_is_there",
        "tests/test_requirements.py::test_requirement_is_in_one_state_and_its_tests_exist",
        "tests/test_requirements.py::test_tests_that_claim_a_requirement_are_named_by_it",
    ),
    promise(
        "2.project.ci",
        ".ci/run runs the README's test command",
        "tests/test_readme.py::test_ci_runs_the_test_command_to_the_letter",
    ),
    promise(
        "2.project.docs",
        "the documentation builds, warnings as errors",
        "tests/test_readme.py::test_ci_runs_the_test_command_to_the_letter",
    ),
    promise(
        "2.jsonrpc.raw",
        "envelopes keep params and results raw; unknown members survive",
        "tests/test_jsonrpc.py::test_a_message_keeps_its_members_their_bytes_and_their_order",
    ),
    promise(
        "2.jsonrpc.ids",
        "ids of every type are echoed to the byte",
        "tests/fronts/test_legacy.py::test_ids_of_every_type_are_echoed_to_the_byte",
    ),
    promise(
        "2.backoff.bounded",
        "backoff stays within its cap, jitter included",
        "tests/test_backoff.py::test_a_delay_is_positive_within_its_jitter_and_never_above_the_maximum",
    ),
    promise(
        "2.durations",
        "durations parse strictly and format as they are read",
        "tests/test_durations.py::test_nanoseconds_survive_the_round_trip",
        "tests/test_durations.py::test_parse_refuses",
    ),
    promise(
        "2.gcra.bound",
        "the limiter never admits more than burst plus rate",
        "tests/test_gcra.py::test_no_window_holds_more_than_the_burst_and_its_share",
    ),
    promise(
        "2.catalog.legal",
        "exposed names are legal, unique, stable and reversible",
        "tests/catalog/test_table.py::test_prefixed_names_are_legal",
        "tests/catalog/test_table.py::test_names_are_unique_and_lead_back",
    ),
    promise(
        "2.catalog.adding",
        "adding a server renames nothing",
        "tests/catalog/test_table.py::test_a_server_added_at_the_end_renames_nothing",
        "tests/catalog/test_table.py::test_with_prefixes_a_name_depends_on_server_and_tool_only",
    ),
    promise(
        "2.catalog.modes",
        "naming modes, collisions, filters, renames and aliases as designed",
        "tests/catalog/test_rules.py::test_resolve_mode",
        "tests/catalog/test_table.py::test_rename_comes_before_the_prefix_and_is_no_way_around_a_filter",
        "tests/catalog/test_table.py::test_aliases",
    ),
    promise(
        "2.protocol.ladder",
        "the header ladder judges as the SDK's own",
        "tests/protocol/test_headers.py::test_the_verdict_is_the_sdks",
    ),
    promise(
        "2.protocol.handshake",
        "legacy handshake and the probe of a server's era",
        "tests/protocol/test_handshake.py::test_only_positive_evidence_makes_a_server_modern",
        "tests/protocol/test_handshake.py::test_what_initialize_settles",
    ),
    promise(
        "2.protocol.envelope",
        "the modern envelope is read and stamped, the rest of `_meta` kept",
        "tests/protocol/test_envelope.py::test_without_a_protocol_version_there_is_no_envelope",
        "tests/protocol/test_envelope.py::test_our_own_keys_are_added_to_a_result",
    ),
    promise(
        "2.protocol.correlator",
        "the correlator never mixes two calls up, under any interleaving",
        "tests/protocol/test_correlator.py::test_a_reply_finds_its_call_and_keeps_its_bytes",
    ),
    promise(
        "2.wire.http-server",
        "HTTP/1.1 server: chunked, 100-continue, pipelining, HEAD, keep-alive",
        "tests/wire/http1/test_server_requests.py::test_a_request_is_answered_and_the_connection_kept",
        "tests/wire/http1/test_server_requests.py::test_a_chunked_body_is_read",
        "tests/wire/http1/test_server_requests.py::test_who_waits_for_100_continue_gets_it",
        "tests/wire/http1/test_server_requests.py::test_pipelined_requests_are_answered_in_their_order",
        "tests/wire/http1/test_server_requests.py::test_a_head_request_gets_the_head_only",
    ),
    promise(
        "2.wire.http-client",
        "keep-alive client, LIFO pool, chunked and close-delimited replies",
        "tests/wire/http1/test_client.py::test_a_connection_is_kept_and_used_again",
        "tests/wire/http1/test_client.py::test_the_connection_used_last_is_used_first",
        "tests/wire/http1/test_client.py::test_a_response_is_read_whole",
    ),
    promise(
        "2.wire.tls",
        "TLS both ways",
        "tests/wire/test_tls.py::test_a_listener_and_a_client_shake_hands",
        "tests/wire/http1/test_server_requests.py::test_a_request_is_answered_and_the_connection_kept",
        "tests/wire/http1/test_client.py::test_an_unknown_authority_is_refused_and_named",
    ),
    promise(
        "2.wire.sse",
        "SSE both ways, every line ending, UTF-8 cut anywhere",
        "tests/wire/test_sse.py::test_any_line_end_gives_the_same_frames",
        "tests/wire/test_sse.py::test_any_cut_gives_the_same_frames",
        "tests/wire/test_sse.py::test_the_parser_reads_what_the_encoder_writes",
    ),
    promise(
        "2.wire.deadlines",
        "header, body, idle and write limits have their own deadlines",
        "tests/wire/http1/test_server_deadlines.py::test_a_slow_head_is_refused_at_its_deadline",
        "tests/wire/http1/test_server_deadlines.py::test_a_slow_body_is_refused_at_its_deadline",
        "tests/wire/http1/test_server_deadlines.py::test_a_silent_connection_is_closed_without_a_word",
        "tests/wire/http1/test_server_deadlines.py::test_a_reader_that_stalls_is_dropped_and_holds_nothing",
    ),
    promise(
        "2.wire.stalled",
        "a stalled reader or writer holds nothing past its deadline",
        "tests/wire/http1/test_server_deadlines.py::test_a_reader_that_stalls_is_dropped_and_holds_nothing",
        "tests/wire/http1/test_server_deadlines.py::test_the_stalled_disturb_nobody",
        "tests/wire/http1/test_client.py::test_an_interrupted_exchange_leaves_no_connection",
    ),
    promise(
        "2.wire.drain",
        "graceful drain",
        "tests/wire/http1/test_server_life.py::test_drain_closes_idle_connections_and_lets_a_request_finish",
    ),
    promise(
        "2.wire.cold-routes",
        "cold routes are the Starlette app on the same listener",
        "tests/web/test_routes.py::test_cold_and_hot_routes_share_a_connection",
    ),
    promise(
        "2.wire.one-writer",
        "the bytes on a pipe belong to one writer",
        "tests/wire/test_lines.py::test_more_than_a_pipe_holds_arrives_whole_and_in_order",
        "tests/wire/test_lines.py::test_a_cancelled_writer_closes_the_pipe",
    ),
    promise(
        "2.adapter.stdio",
        "the stdio adapter passes the contract suite",
        "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract",
    ),
    promise(
        "2.adapter.streamable-http",
        "the Streamable HTTP adapter passes the contract suite, both eras",
        "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract",
    ),
    promise(
        "2.adapter.in-process",
        "the in-process adapter passes the contract suite",
        "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract",
    ),
    promise(
        "2.adapter.memory",
        "the in-memory adapter passes the contract suite",
        "tests/adapters/test_contract.py::test_the_adapter_keeps_the_contract",
    ),
    promise(
        "2.adapter.era",
        "a server's era is probed and remembered",
        "tests/servers/test_server.py::test_a_call_while_the_era_is_being_found_out_does_not_get_a_link_of_the_other",
        "tests/servers/test_server.py::test_it_may_come_back_as_another_version_of_itself",
    ),
    promise(
        "2.adapter.headers",
        "custom headers per server",
        "tests/adapters/test_streamable_http.py::test_configured_headers_are_sent_with_everything_and_never_shown",
    ),
    promise(
        "2.servers.parallel",
        "servers start in parallel, each in its own nursery; a bad one harms no other",
        "tests/test_gateway.py::test_servers_start_side_by_side_and_readiness_waits_for_all",
        "tests/servers/test_server.py::test_one_servers_death_is_nobody_elses",
    ),
    promise(
        "2.servers.readiness",
        "startup_wait, /readyz and the missing named",
        "tests/web/test_routes.py::test_readiness_waits_for_every_server_to_have_been_tried",
        "tests/test_gateway.py::test_servers_start_side_by_side_and_readiness_waits_for_all",
        "tests/fronts/test_legacy.py::test_a_dead_server_is_named_and_the_others_listed",
    ),
    promise(
        "2.servers.isolation",
        "isolation modes with their bounds",
        "tests/servers/test_ledger.py::test_links_that_are_multiplexed",
        "tests/servers/test_ledger.py::test_links_that_are_exclusive",
        "tests/servers/test_ledger.py::test_one_link_a_key_takes_all_calls",
        "tests/servers/test_ledger.py::test_what_auto_means",
    ),
    promise(
        "2.servers.guard",
        "no child survives the gateway, SIGKILL included",
        "tests/runners/test_process.py::test_no_child_survives_a_gateway_that_is_killed",
    ),
    promise(
        "2.servers.stderr",
        "stderr of children is captured to the log, bounded",
        "tests/wire/test_children.py::test_a_flood_on_standard_error_is_read_but_not_all_logged",
    ),
    promise(
        "2.front.revisions",
        "all four revisions of Streamable HTTP at /mcp and /mcp/{namespace or server}",
        "tests/fronts/test_legacy.py::test_the_handshake_in_every_revision",
        "tests/fronts/test_modern.py::test_a_call_needs_no_handshake",
    ),
    promise(
        "2.front.sessions",
        "handshake; sessions are bound to a principal, DELETE ends them",
        "tests/fronts/test_legacy.py::test_the_handshake_in_every_revision",
        "tests/fronts/test_legacy.py::test_delete_ends_a_session",
        "tests/fronts/test_bad_input.py::test_a_session_of_another_namespace_is_unknown",
    ),
    promise(
        "2.front.methods",
        "tools, resources, prompts, completions and ping",
        "tests/fronts/test_methods.py::test_everything_that_can_be_listed_and_read",
        "tests/fronts/test_methods.py::test_ping_is_of_the_legacy_era",
    ),
    promise(
        "2.front.as-it-comes",
        "JSON stays JSON and SSE stays SSE",
        "tests/fronts/test_legacy.py::test_json_stays_json_and_unknown_members_survive",
        "tests/fronts/test_legacy.py::test_progress_comes_before_the_reply_on_one_stream",
    ),
    promise(
        "2.front.merged",
        "merged lists over several servers",
        "tests/calls/test_merged.py::test_listings_are_merged_in_the_order_of_the_configuration",
    ),
    promise(
        "2.front.eras",
        "differing eras give a clear error naming both",
        "tests/real/test_servers.py::test_where_the_eras_differ_the_error_names_both",
    ),
    promise(
        "2.front.health",
        "/health, /livez and /readyz",
        "tests/web/test_routes.py::test_health_tells_the_state_of_the_gateway_and_of_each_server",
        "tests/web/test_routes.py::test_readiness_waits_for_every_server_to_have_been_tried",
    ),
    promise(
        "2.config.formats",
        "canonical YAML, JSON and TOML, and a plain mcpServers file",
        "tests/config/test_golden.py::test_golden",
        "tests/config/test_loading.py::test_equal_texts_are_equal_configurations_wherever_they_come_from",
    ),
    promise(
        "2.config.strict",
        "unknown keys and wrong values are named with file, line, path and suggestion, all at once",
        "tests/config/test_golden.py::test_golden",
        "tests/config/test_loading.py::test_no_message_holds_a_secret",
    ),
    promise(
        "2.config.expansion",
        "${VAR} is expanded after parsing, in string values only",
        "tests/config/test_expansion.py::test_expands_strings_only_and_remembers_what_was_written",
    ),
    promise(
        "2.config.lookup",
        "the lookup order",
        "tests/config/test_lookup.py::test_what_is_named_comes_first",
        "tests/config/test_lookup.py::test_the_order_below_the_working_directory_and_at_home",
    ),
    promise(
        "2.runner.gateway",
        "flags, the listening line, exit status",
        "tests/runners/test_gateway.py::test_a_port_in_use_is_one_clear_line",
        "tests/runners/test_gateway.py::test_flags_win_over_the_file",
        "tests/runners/test_process.py::test_demo_listens_where_it_says_answers_and_ends_with_0",
        "tests/runners/test_process.py::test_a_call_in_flight_is_given_its_time_and_then_an_answer",
        "tests/runners/test_process.py::test_a_second_signal_ends_it_at_once",
    ),
    promise(
        "2.runner.check",
        "each server: reachable, era, revision, name, version, counts; text and JSON; --strict",
        "tests/real/test_servers.py::test_check_tells_what_all_of_them_are",
        "tests/runners/test_check.py::test_every_server_is_looked_at_and_told_of_in_the_order_of_the_configuration",
        "tests/runners/test_check.py::test_failures_cost_the_exit_status_only_with_strict",
        "tests/runners/test_check.py::test_explain_prints_the_canonical_configuration_and_starts_nothing",
        "tests/runners/test_findings.py::test_columns_are_aligned_by_display_width",
        "tests/runners/test_options.py::test_the_gateway_hands_a_check_over_with_its_flags",
    ),
    promise(
        "2.runner.demo",
        "--demo serves two bundled servers",
        "tests/runners/test_process.py::test_demo_listens_where_it_says_answers_and_ends_with_0",
    ),
    promise(
        "2.embedding",
        "open_gateway with call_tool, list_tools and friends",
        "tests/test_app.py::test_server_objects_of_the_sdk_are_embedded_by_name",
    ),
    promise(
        "2.measure.bench",
        "the benchmark compares with nginx and fails below its thresholds",
        "tests/bench/test_bench.py::test_each_threshold_belongs_to_a_measurement",
        "tests/bench/test_bench.py::test_a_scenario_that_did_not_run_is_missed",
    ),
    promise(
        "2.measure.conformance",
        "the conformance suite is compared check by check, with a classified list",
        "tests/conformance/test_compare.py::test_known_unknown_and_stale",
        "tests/conformance/test_compare.py::test_every_known_difference_says_why",
    ),
    promise(
        "2.bad.malformed",
        "malformed JSON and invalid UTF-8 get 400 and -32700",
        "tests/fronts/test_bad_input.py::test_a_body_that_is_no_message_is_refused",
    ),
    promise(
        "2.bad.nested",
        "100,000 nested brackets are refused, not fatal",
        "tests/fronts/test_bad_input.py::test_a_body_that_is_no_message_is_refused",
    ),
    promise(
        "2.bad.content-type",
        "a wrong content type or Accept is refused",
        "tests/fronts/test_bad_input.py::test_headers_that_do_not_fit_are_refused",
    ),
    promise(
        "2.bad.oversized",
        "oversized bodies and headers: 413 and 431",
        "tests/fronts/test_bad_input.py::test_oversized_bodies_and_heads_are_refused",
    ),
    promise(
        "2.bad.smuggling",
        "Content-Length together with Transfer-Encoding is refused",
        "tests/wire/http1/test_server_requests.py::test_a_bad_request_is_refused_and_its_connection_closed",
        "tests/fronts/test_bad_input.py::test_bytes_that_are_no_request_are_refused_as_json",
    ),
    promise(
        "2.bad.half",
        "half requests and slow senders are dropped at their deadline",
        "tests/fronts/test_bad_input.py::test_slow_senders_and_silent_clients_are_dropped_at_their_deadlines",
        "tests/fronts/test_bad_input.py::test_who_leaves_in_the_middle_disturbs_nobody",
    ),
    promise(
        "2.bad.host",
        "a wrong Host or Origin is refused",
        "tests/fronts/test_bad_input.py::test_headers_that_do_not_fit_are_refused",
        "tests/access/test_browsers.py::test_a_page_elsewhere_never_reaches_a_loopback_listener",
    ),
    promise(
        "2.bad.unknown",
        "unknown path, namespace, session and tool each get their status and error",
        "tests/fronts/test_bad_input.py::test_an_unknown_path_is_404",
        "tests/fronts/test_bad_input.py::test_an_unknown_namespace_is_404",
        "tests/fronts/test_bad_input.py::test_an_unknown_session_is_404_with_the_id_of_the_request",
        "tests/fronts/test_bad_input.py::test_unknown_tools_and_methods_are_answered_as_such",
    ),
    promise(
        "2.bad.duplicate-ids",
        "duplicate ids in flight do not mix",
        "tests/fronts/test_bad_input.py::test_an_id_that_is_in_flight_is_refused_and_the_first_call_goes_on",
        "tests/fronts/test_bad_input.py::test_an_id_of_one_session_may_be_in_flight_in_another",
    ),
    promise(
        "2.bad.others",
        "after bad input the listener and every other client go on",
        "tests/fronts/test_bad_input.py::test_a_body_that_is_no_message_is_refused",
        "tests/wire/http1/test_server_requests.py::test_a_bad_request_is_refused_and_its_connection_closed",
    ),
    promise(
        "2.bad.config",
        "configuration mistakes: golden files, input beside message",
        "tests/config/test_golden.py::test_golden",
        "tests/config/test_golden.py::test_no_result_holds_a_secret",
    ),
    promise(
        "2.shows.real-servers",
        "SDK clients of both eras use mcp-server-time, server-everything and an SDK server through the gateway",
        "tests/real/test_servers.py::test_a_server_by_itself_is_just_as_it_is",
        "tests/real/test_servers.py::test_merged_with_others_it_answers_under_its_prefix",
        "tests/real/test_servers.py::test_where_the_eras_differ_the_error_names_both",
    ),
    promise(
        "2.shows.speed",
        "0.35 of nginx at 16 and 64, p50 at most 1.4 times; modern 0.30; stdio 15,000 calls/s",
        "tests/bench/test_bench.py::test_each_threshold_belongs_to_a_measurement",
    ),
    promise(
        "2.shows.footprint",
        "under 80 MB, listening within 1 s, import within 150 ms",
        "tests/real/test_footprint.py::test_importing_is_quick",
        "tests/real/test_footprint.py::test_it_listens_at_once",
        "tests/real/test_footprint.py::test_it_stays_small",
    ),
    promise(
        "2.shows.ci",
        "CI under 15 minutes, unit part under 60 s, no test sleeps",
        "tests/test_project.py::test_no_test_sleeps",
    ),
    promise(
        "3.back-channel.progress",
        "every progress, in order, the last before the result",
        "tests/fronts/test_legacy.py::test_progress_comes_as_it_is_made",
        "tests/fronts/test_legacy.py::test_progress_comes_before_the_reply_on_one_stream",
        "tests/fronts/test_modern.py::test_progress_comes_before_the_reply_on_one_stream",
    ),
    promise(
        "3.back-channel.logging",
        "logging with its levels",
        "tests/calls/test_interests.py::test_the_server_gets_the_most_verbose_level_and_each_session_what_it_asked_for",
    ),
    promise(
        "3.back-channel.cancel",
        "cancellation reaches exactly one server",
        "tests/fronts/test_streams.py::test_a_cancellation_reaches_the_server_of_its_call_and_no_other",
        "tests/fronts/test_streams.py::test_a_call_that_was_cut_off_can_be_cancelled_still",
    ),
    promise(
        "3.back-channel.asks",
        "elicitation, sampling and roots on the call's own stream; input_required with exact requestState",
        "tests/fronts/test_legacy.py::test_a_question_of_the_server_reaches_its_client_and_is_answered",
        "tests/fronts/test_listen.py::test_request_state_goes_round_to_the_byte",
    ),
    promise(
        "3.changes.list-changed",
        "list_changed from every transport to the clients it concerns and to no other",
        "tests/calls/test_changes.py::test_a_changed_list_is_told_to_all_who_share_the_link_and_to_no_other",
        "tests/fronts/test_listening.py::test_what_servers_over_http_say_comes_on_the_stream_of_a_merged_namespace",
        "tests/fronts/test_listening.py::test_what_a_shared_server_says_comes_on_the_stream",
    ),
    promise(
        "3.changes.subscribe",
        "resources/subscribe counted by references",
        "tests/calls/test_interests.py::test_the_first_subscribes_and_the_last_unsubscribes",
        "tests/calls/test_interests.py::test_updates_go_to_the_subscribers_and_only_to_them",
    ),
    promise(
        "3.changes.listen",
        "subscriptions/listen with rewritten ids, several at once, graceful end",
        "tests/calls/test_subscriptions.py::test_one_acknowledgement_for_all_and_every_servers_news",
        "tests/fronts/test_listen.py::test_several_subscriptions_at_once_have_ids_of_their_own",
        "tests/calls/test_subscriptions.py::test_the_end_of_the_gateway_is_a_graceful_one",
    ),
    promise(
        "3.changes.refreshed",
        "the catalogue is refreshed before clients are told",
        "tests/calls/test_changes.py::test_merged_namespaces_are_made_anew_before_clients_are_told_and_only_if_they_see_a_change",
        "tests/calls/test_subscriptions.py::test_the_catalogue_is_anew_before_the_client_is_told",
    ),
    promise(
        "3.streams",
        "event ids, priming, retry, GET streams and Last-Event-ID one to one",
        "tests/fronts/test_streams.py::test_a_stream_passes_to_the_byte_and_is_resumed_where_the_client_says",
        "tests/fronts/test_streams.py::test_a_call_that_the_server_cuts_off_ends_likewise_and_is_resumed_by_the_client",
        "tests/adapters/test_http_streams.py::test_the_reply_of_a_call_that_was_cut_off_comes_under_the_clients_id",
        "tests/adapters/test_http_streams.py::test_a_link_that_hears_resumes_a_call_itself",
    ),
    promise(
        "3.streams.status",
        "no status is committed before it is known",
        "tests/fronts/test_streams.py::test_a_refused_stream_is_refused_with_the_servers_status",
        "tests/fronts/test_streams.py::test_a_stream_of_a_server_that_fails_is_a_502",
    ),
    promise(
        "3.streams.disconnect",
        "the disconnect table",
        "tests/fronts/test_streams.py::test_a_legacy_call_runs_on_without_its_client_and_its_reply_can_be_fetched",
        "tests/fronts/test_streams.py::test_a_modern_call_ends_with_its_client",
        "tests/fronts/test_streams.py::test_delete_ends_the_stream_and_the_calls_of_its_session_and_no_other",
        "tests/fronts/test_batches.py::test_a_batch_outlives_its_connection",
    ),
    promise(
        "3.batches",
        "batches for 2025-03-26",
        "tests/fronts/test_batches.py::test_requests_are_answered_as_one_array",
        "tests/fronts/test_batches.py::test_what_comes_before_a_response_makes_it_a_stream",
        "tests/fronts/test_batches.py::test_later_revisions_have_no_batches",
    ),
    promise(
        "3.paging",
        "paging, templates, completions, cache hints",
        "tests/calls/test_cursors.py::test_a_long_listing_is_paged",
        "tests/calls/test_merged.py::test_prompts_resources_and_completions_go_to_their_servers",
        "tests/protocol/test_results.py::test_what_is_there_stays_to_the_byte_and_what_is_missing_is_filled_in",
    ),
    promise(
        "3.param-headers",
        "Mcp-Param-* validated against the schema, unknown ones forwarded",
        "tests/calls/test_mirrors.py::test_headers_must_mirror_their_arguments",
        "tests/calls/test_mirrors.py::test_over_http_the_server_compares_and_bad_marks_are_not_shown",
    ),
    promise(
        "3.unknown",
        "unknown members and methods pass",
        "tests/calls/test_transparency.py::test_a_call_and_its_result_cross_unchanged",
        "tests/calls/test_transparency.py::test_an_unknown_method_goes_to_the_one_server",
    ),
    promise(
        "3.tasks",
        "2025 tasks and the tasks extension, routed by task id",
        "tests/calls/test_tasks.py::test_what_is_asked_about_a_task_goes_to_its_server",
        "tests/calls/test_tasks.py::test_a_raw_namespace_passes_them_as_they_are",
    ),
    promise(
        "3.merged",
        "with several servers behind one client: sealed cursors, capability union, the missing named",
        "tests/calls/test_cursors.py::test_a_long_listing_is_paged",
        "tests/calls/test_cursors.py::test_a_cursor_is_good_for_one_client_and_one_listing",
        "tests/calls/test_merged.py::test_a_server_that_hangs_costs_a_listing_its_bound_and_is_named",
        "tests/protocol/test_results.py::test_several_hints_are_as_strict_as_the_strictest",
    ),
    promise(
        "3.conformance.list",
        "known differences are a classified list; a stale entry fails",
        "tests/conformance/test_compare.py::test_known_unknown_and_stale",
        "tests/conformance/test_compare.py::test_nothing_is_known_to_differ_for_a_server_over_http",
        "tests/conformance/test_matrix.py::test_the_committed_matrix_has_every_leg_and_counts_the_known_differences",
    ),
    promise(
        "3.bad.replies",
        "a reply with an unknown id, twice, or after the cancel",
        "tests/adapters/test_http_replies.py::test_what_is_not_the_reply_or_follows_it_reaches_nobody",
        "tests/adapters/test_http_replies.py::test_a_reply_after_the_cancel_reaches_nobody",
    ),
    promise(
        "3.bad.late",
        "progress for a finished call; answers to questions never asked; undeclared requests",
        "tests/fronts/test_answers.py::test_an_answer_to_a_question_never_asked_reaches_no_server",
        "tests/protocol/test_correlator.py::test_progress_under_a_token_that_nobody_gave_is_junk",
        "tests/calls/test_relay.py::test_a_caller_without_a_session_cannot_be_asked_but_the_server_may_ping",
    ),
    promise(
        "3.bad.foreign",
        "a requestState of another call, a session of another principal",
        "tests/calls/test_transparency.py::test_request_state_comes_back_to_the_byte_and_is_the_servers_to_judge",
        "tests/fronts/test_listen.py::test_a_session_is_good_on_its_own_path_only",
        "tests/sessions/test_store.py::test_a_session_is_found_by_its_own_principal_on_its_own_namespace_only",
    ),
    promise(
        "3.bad.sse",
        "SSE with every line ending, comments, 10 MB events, UTF-8 cut anywhere",
        "tests/wire/test_sse.py::test_any_line_end_gives_the_same_frames",
        "tests/adapters/test_http_replies.py::test_text_may_be_cut_anywhere",
        "tests/adapters/test_http_replies.py::test_a_reply_may_have_ten_megabytes",
        "tests/adapters/test_http_replies.py::test_a_flood_of_comments_starves_nobody_and_can_be_ended",
    ),
    promise(
        "3.bad.statuses",
        "a server that answers 202, 204, 302, 401, 500 or HTML",
        "tests/adapters/test_http_replies.py::test_what_is_no_reply_fails_its_call_only",
        "tests/adapters/test_http_streams.py::test_what_is_no_stream_is_the_servers_fault",
    ),
    promise(
        "3.shows.zero",
        "conformance differences: 0, three times over HTTP, over stdio but for polling",
        "tests/conformance/test_matrix.py::test_the_committed_matrix_shows_no_difference_for_a_server_over_http",
        "tests/conformance/test_matrix.py::test_over_stdio_only_event_streams_differ",
    ),
    promise(
        "3.shows.client",
        "client scenarios equal direct",
        "tests/conformance/test_matrix.py::test_the_committed_matrix_shows_clients_as_they_are_without_the_gateway",
    ),
    promise(
        "3.shows.verbatim",
        "what arrives is byte-equal to what was sent, but for what the bridging table names",
        "tests/calls/test_transparency.py::test_a_call_and_its_result_cross_unchanged",
    ),
    promise(
        "3.shows.sixteen",
        "16 clients at random over one child and one HTTP server: each message reaches its own client",
        "tests/soak/test_many_clients.py::test_in_virtual_time_every_message_reaches_its_own_client",
        "tests/soak/test_many_clients.py::test_for_real_every_message_reaches_its_own_client",
    ),
    promise(
        "3.shows.speed",
        "the speed of the skeleton is kept",
        "tests/bench/test_bench.py::test_each_threshold_belongs_to_a_measurement",
    ),
    promise(
        "4.children.crash",
        "a crash fails calls at once with exit status and stderr tail; restart with backoff",
        later=ISSUE_4,
    ),
    promise(
        "4.children.restart",
        "re-initialise, re-list, re-subscribe after a restart; list_changed if it differs",
        "tests/calls/test_changes.py::test_a_server_that_comes_back_with_other_tools_has_changed",
        "tests/calls/test_interests.py::test_a_link_that_is_made_anew_is_subscribed_again",
        "tests/real/test_killed_servers.py::test_clients_of_a_child_that_was_killed_hear_on_and_hear_what_is_new",
    ),
    promise("4.children.junk", "junk, half and 50 MB lines survived; stderr floods bounded", later=ISSUE_4),
    promise("4.children.path", "the login shell's PATH, bounded, cached, can be switched off", later=ISSUE_4),
    promise(
        "4.http.lost-session",
        "re-initialise once, retry only what is safe",
        "tests/calls/test_retries.py::test_what_is_sent_again",
        "tests/calls/test_retries.py::test_a_tool_is_called_again_if_it_says_that_it_may_be",
        "tests/calls/test_retries.py::test_what_was_not_sent_is_sent_when_the_server_is_there_again",
    ),
    promise("4.http.pool", "GET stream resumed; broken connections discarded; deadlines per phase", later=ISSUE_4),
    promise(
        "4.http.breaker",
        "circuit breaker with half-open probe; health shown",
        "tests/calls/test_retries.py::test_a_server_that_answers_nobody_gets_no_calls_until_it_answers_a_ping",
        "tests/web/test_routes.py::test_health_says_that_a_server_gets_no_calls_and_when_it_is_asked_again",
    ),
    promise("4.http.cold", "proxy, client certificates and HTTP/2 behind the same seam", later=ISSUE_4),
    promise(
        "4.bulkheads",
        "one bad server costs nobody else",
        "tests/calls/test_retries.py::test_a_server_has_so_many_calls_and_no_more",
        "tests/calls/test_tables.py::test_what_a_slow_server_listed_last_is_shown_and_its_news_are_told",
        "tests/calls/test_tables.py::test_a_server_that_is_asked_in_vain_again_and_again_is_not_waited_for_any_more",
        "tests/real/test_black_hole.py::test_the_nine_others_do_not_notice",
    ),
    promise(
        "4.clients.bounds",
        "connections, sessions and streams bounded per address and in all; idle sessions reaped",
        later=ISSUE_4,
    ),
    promise("4.life.drain", "drain and second signal", later=ISSUE_4),
    promise("4.life.reload", "SIGHUP reload without dropping what did not change", later=ISSUE_4),
    promise("4.life.files", "state file and secret 0600; full disk and clock steps survived", later=ISSUE_4),
    promise("4.chaos", "a chaos suite in virtual time and a short real run", later=ISSUE_4),
    promise("4.fuzzing", "each parser's entry fuzzed, corpus kept", later=ISSUE_4),
    promise("4.shows.leaks", "1,000 client cycles leave nothing behind", later=ISSUE_4),
    promise("4.shows.orphans", "50 SIGKILLs under load leave no child", later=ISSUE_4),
    promise(
        "4.shows.killed-server",
        "a server killed every second: only calls in flight fail, within 100 ms",
        "tests/real/test_killed_servers.py::test_only_calls_in_flight_notice_that_a_child_is_killed",
    ),
    promise(
        "4.shows.black-hole",
        "one of ten servers black-holed: the others keep their p99",
        "tests/real/test_black_hole.py::test_the_nine_others_do_not_notice",
    ),
    promise(
        "4.shows.sigterm",
        "SIGTERM with an open stream, a running call and a stubborn child exits 0 in time",
        later=ISSUE_4,
    ),
    promise("4.shows.fuzzed", "10,000 fuzzed inputs in CI, a million nightly", later=ISSUE_4),
    promise("5.translation", "translation as pure functions per row of the bridging table", later=ISSUE_5),
    promise(
        "5.era-choice", "the era per server, mirrored where possible; era: auto, mirror, modern, legacy", later=ISSUE_5
    ),
    promise(
        "5.legacy-client", "a legacy client uses a modern server, live input and subscriptions included", later=ISSUE_5
    ),
    promise("5.modern-client", "a modern client uses a legacy server; parked calls with sealed state", later=ISSUE_5),
    promise(
        "5.parked.bounds",
        "parked calls are limited in time and number, cancelled and closed at their end",
        later=ISSUE_5,
    ),
    promise("5.adapters", "sse and websocket adapters pass the contract suite", later=ISSUE_5),
    promise("5.fronts", "legacy HTTP+SSE, WebSocket and stdio fronts", later=ISSUE_5),
    promise("5.merged", "merged namespaces across eras", later=ISSUE_5),
    promise("5.conformance", "the matrix grows to client era, server era, adapter", later=ISSUE_5),
    promise("5.bad", "wrong, late, vanishing peers: clear error, resources freed, nobody else affected", later=ISSUE_5),
    promise("5.shows.suites", "33 of 33 and at least 39 of 40 across eras; a chain of two gateways", later=ISSUE_5),
    promise("5.shows.cost", "same-era calls pay nothing; a cross-era call at most twice", later=ISSUE_5),
    promise("5.shows.abandoned", "10,000 abandoned parked calls leave nothing behind", later=ISSUE_5),
    promise(
        "5.shows.websocket",
        "200 messages of 500 kB both ways with pings finish; a stuck peer is dropped",
        later=ISSUE_5,
    ),
    promise(
        "6.upstreams",
        "any number of upstreams, each with its own servers, credentials, namespace and fate",
        later=ISSUE_6,
    ),
    promise("6.reconnect", "reconnect for ever by the documented formula, reset after a stable period", later=ISSUE_6),
    promise("6.keepalive", "ping and pong deadline find a half-open peer", later=ISSUE_6),
    promise("6.impatient", "call_deadline, on_tools_changed, limits on message and list size", later=ISSUE_6),
    promise("6.config", "the dialect of source system 000 and of mcp_pipe.py, byte for byte", later=ISSUE_6),
    promise("6.check", "check output as source system 000, properly masked; --strict", later=ISSUE_6),
    promise("6.logs", "text and JSON logs, working levels, redacted payloads", later=ISSUE_6),
    promise("6.metrics", "Prometheus metrics on their own port", later=ISSUE_6),
    promise("6.service", "service and remote runners, systemd unit", later=ISSUE_6),
    promise("6.examples", "example files by runners.init; Dockerfile and compose file", later=ISSUE_6),
    promise("6.docs", "how-to in English and Chinese", later=ISSUE_6),
    promise(
        "6.bad",
        "refusing endpoints, bad frames, bad tokens: a clear line naming the upstream, never the token",
        later=ISSUE_6,
    ),
    promise(
        "6.shows.readme", "the README example of source system 000 with two upstreams runs unchanged", later=ISSUE_6
    ),
    promise("6.shows.drops", "200 rude drops under load: every call answered or cancelled, none twice", later=ISSUE_6),
    promise("6.shows.speed", "16 in flight over one socket: at least 8,000 calls/s at 110 us", later=ISSUE_6),
)

REQUIREMENTS = (*FEATURES, *BRIDGING, *PROMISES)
