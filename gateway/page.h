/* The gateway's page for people, and what it draws from. One file of HTML with its style and script in it
 * (page.html), an icon, and what changes as JSON (page.html reads all of it; so may programs, but /metrics is the
 * stable interface). */
#pragma once

#include "libcommon/http.h"

/* Handlers for the door; `arg` is a struct report *. */
void page_html(void *arg, struct http_answer *answer);
void page_icon(void *arg, struct http_answer *answer);

/* {"version", "gateway": {"host", "address", "uptime_ms", "waits_for", "in_flight", "connections", "nodes",
 * "nodes_connected", "map_version"}, "metad": {"state": "asking", "answers" or "silent", "text"}, "cluster": null
 * or cluster_json.h's, "cluster_age_ms", "cluster_of_map", "history": {"age_ms": […], value: […]}} with the
 * samples of gateway/history.h, oldest first. */
void page_status(void *arg, struct http_answer *answer);
