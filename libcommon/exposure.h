/* Which addresses others than this host can connect to. Pure; any thread. */
#pragma once

#include <stdbool.h>

/* Whether what listens at this nng URL can be reached from this host alone: its host is within 127.0.0.0/8, ::1 or
 * localhost, or its transport is ipc, abstract or inproc. What is not understood is not local. */
bool exposure_is_local(const char *url);
