/* `skerry health`: asks a daemon's HTTP door for one page, so that an image needs no other client for its health check. */
#pragma once

#include <stdint.h>

#define HEALTH_URL_DEFAULT "http://127.0.0.1:7480/readyz"

/* Prints the page's text. The exit code: fine if the answer is 200, EXIT_ERROR_ANSWER if it is another, EXIT_UNREACHABLE
 * without one within the time, EXIT_USAGE if `url` is none. */
int health_run(const char *url, uint32_t timeout_ms);
