#include "tests/sim/host.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "tests/sim/shell.h"
#include "tests/sim/sim.h"

#include <stdlib.h>

#define TICK_US        20000u
#define POLL_US        500000u
#define REGISTER_US    100000u
#define OPEN_US_MAX    400000u
#define WALL_ZERO_US   1700000000000000
#define BOOT_ZERO_US   50000000u
#define REBOOT_ZERO_US 1000000u /* CLOCK_BOOTTIME of a machine that has just come up */
#define MAIL_MAX       4096u

void host_init(struct sim *sim, uint32_t number) {
    struct host *host = &sim->hosts[number];
    *host = (struct host){.number = number, .boot_base_us = BOOT_ZERO_US + number * 1000u};
    drive_init(&host->drive, ++sim->stores);
    if (!faults_has(sim, FAULT_CLOCK)) return;
    host->rate_ppm = (int64_t)chance_between(&sim->chance, 0, 200000) - 100000;
    host->wall_offset_us = (int64_t)chance_between(&sim->chance, 0, 4000000) - 2000000;
}

void host_deinit(struct host *host) {
    drive_deinit(&host->drive);
    free(host->mail);
    free(host->log);
    free(host->waiting);
    *host = (struct host){0};
}

/* ---- clocks ---- */

static uint64_t scaled(const struct host *host, uint64_t us) {
    return us * (uint64_t)(1000000 + host->rate_ppm) / 1000000;
}

uint64_t host_boot_us(const struct sim *sim, const struct host *host) {
    return host->boot_base_us + scaled(host, sim->now_us - host->boot_zero_us);
}

uint64_t host_wall_us(const struct sim *sim, const struct host *host) {
    return (uint64_t)(WALL_ZERO_US + (int64_t)scaled(host, sim->now_us) + host->wall_offset_us);
}

uint64_t host_true_us(const struct host *host, uint64_t us) {
    return us * 1000000 / (uint64_t)(1000000 + host->rate_ppm);
}

/* ---- mail ---- */

static void on_step(struct sim *sim, const struct event *event);

static void need_step(struct sim *sim, struct host *host) {
    if (host->step_due || host->paused) return;
    host->step_due = true;
    uint64_t delay_us = chance_below(&sim->chance, sim->weather.step_us_max + 1);
    sim_after(sim, delay_us, on_step, host->number, host->life, NULL);
}

void host_deliver(struct sim *sim, struct host *host, struct mail mail) {
    if (host->state != HOST_RUNNING || host->mail_count == MAIL_MAX) {
        parcel_free(&sim->parcels, mail.parcel);
        return;
    }
    if (host->mail_count == host->mail_room) {
        uint32_t room = host->mail_room == 0 ? 64 : host->mail_room * 2;
        struct mail *grown = calloc(room, sizeof *grown);
        sk_assert(grown != NULL);
        for (uint32_t i = 0; i < host->mail_count; i++) {
            grown[i] = host->mail[(host->mail_first + i) % host->mail_room];
        }
        free(host->mail);
        host->mail = grown;
        host->mail_first = 0;
        host->mail_room = room;
    }
    host->mail[(host->mail_first + host->mail_count++) % host->mail_room] = mail;
    need_step(sim, host);
}

static void drop_mail(struct sim *sim, struct host *host) {
    for (; host->mail_count > 0; host->mail_count--) {
        parcel_free(&sim->parcels, host->mail[host->mail_first].parcel);
        host->mail_first = (host->mail_first + 1) % host->mail_room;
    }
}

/* a: host, b: life, as in all events of a process. */
static struct host *living(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    return host->life == event->b && host->state != HOST_DOWN ? host : NULL;
}

static void on_step(struct sim *sim, const struct event *event) {
    struct host *host = living(sim, event);
    if (host == NULL || !host->step_due) return;
    host->step_due = false;
    if (host->paused) return;
    for (uint32_t left = host->mail_count; left > 0; left--) {
        struct mail mail = host->mail[host->mail_first];
        host->mail_first = (host->mail_first + 1) % host->mail_room;
        host->mail_count--;
        shell_take(sim, host, &mail);
        parcel_free(&sim->parcels, mail.parcel);
    }
    if (!shell_finish_step(sim, host) || host->mail_count > 0) need_step(sim, host);
}

/* ---- the process' own timers ---- */

/* data: which series of ticks it belongs to; another one begins when a process goes on after a pause. */
static void on_tick(struct sim *sim, const struct event *event) {
    struct host *host = living(sim, event);
    if (host == NULL || host->paused || host->ticks != (uintptr_t)event->data) return;
    host_deliver(sim, host, (struct mail){.kind = MAIL_TICK});
    uint64_t delay_us = host_true_us(host, TICK_US) + chance_below(&sim->chance, 500);
    sim_after(sim, delay_us, on_tick, event->a, event->b, event->data);
}

static void start_ticks(struct sim *sim, struct host *host) {
    host->ticks++;
    sim_after(sim, chance_below(&sim->chance, TICK_US), on_tick, host->number, host->life, (void *)host->ticks);
}

static void on_register(struct sim *sim, const struct event *event) {
    struct host *host = living(sim, event);
    if (host == NULL || host->incarnation != 0) return;
    if (!host->paused) sim_metad_register(sim, host->number);
    sim_after(sim, REGISTER_US, on_register, event->a, event->b, NULL);
}

static void on_poll(struct sim *sim, const struct event *event) {
    struct host *host = living(sim, event);
    if (host == NULL) return;
    if (!host->paused && host->incarnation != 0) sim_metad_poll(sim, host->number);
    sim_after(sim, POLL_US, on_poll, event->a, event->b, NULL);
}

/* ---- life ---- */

static void on_opened(struct sim *sim, const struct event *event) {
    struct host *host = living(sim, event);
    if (host == NULL || host->state != HOST_OPENING) return;
    host->state = HOST_RUNNING;
    shell_open(sim, host);
    network_on_host_up(sim, host->number);
    sim_after(sim, 0, on_register, event->a, event->b, NULL);
    sim_after(sim, chance_below(&sim->chance, POLL_US), on_poll, event->a, event->b, NULL);
    if (!host->paused) start_ticks(sim, host);
}

void host_start(struct sim *sim, struct host *host) {
    if (host->state != HOST_DOWN || host->drive.suspect) return;
    host->state = HOST_OPENING;
    host->paused = false;
    host->life++;
    host->start_us = host_boot_us(sim, host);
    host->started_us = sim->now_us;
    host->incarnation = 0;
    host->config_version = 0;
    sim_trace(sim, "h%u    start life=%u", host->number, host->life);
    sim_after(sim, chance_spread(&sim->chance, 1000, OPEN_US_MAX), on_opened, host->number, host->life, NULL);
}

void host_crash(struct sim *sim, struct host *host, bool silent) {
    if (host->state == HOST_DOWN) return;
    sim_trace(sim, "h%u    crash life=%u", host->number, host->life);
    host->state = HOST_DOWN;
    host->step_due = false;
    drop_mail(sim, host);
    shell_close(sim, host);
    drive_crash(&host->drive, &sim->chance);
    network_on_host_down(sim, host->number, silent);
    if (silent) { /* the machine: its CLOCK_BOOTTIME begins anew */
        host->boot_zero_us = sim->now_us;
        host->boot_base_us = REBOOT_ZERO_US;
    }
}

void host_pause(struct sim *sim, struct host *host) {
    if (host->state == HOST_DOWN || host->paused) return;
    sim_trace(sim, "h%u    pause", host->number);
    host->paused = true;
}

void host_resume(struct sim *sim, struct host *host) {
    if (host->state == HOST_DOWN || !host->paused) return;
    sim_trace(sim, "h%u    resume", host->number);
    host->paused = false;
    host->step_due = false;
    if (host->state != HOST_RUNNING) return;
    if (host->mail_count > 0) need_step(sim, host);
    start_ticks(sim, host);
}

void host_wipe(struct sim *sim, struct host *host) {
    sk_assert(host->state == HOST_DOWN);
    sim_trace(sim, "h%u    wipe node=%u", host->number, host->drive.node);
    drive_wipe(&host->drive, ++sim->stores);
}

void host_fail_disk(struct sim *sim, struct host *host) {
    host->drive.suspect = true;
    host_deliver(sim, host, (struct mail){.kind = MAIL_SYNC_FAILED});
}

static bool would_serve(const struct sim *sim, const struct host *host, enum replica_role role,
                        enum replica_event_type type) {
    if (host->state != HOST_RUNNING || !host->has_replica || host->replica.role != role) return false;
    struct replica copy = host->replica;
    struct replica_event event = {.type = type, .boot_us = host_boot_us(sim, host)};
    struct replica_effects effects;
    replica_step(&copy, &event, &effects);
    return effects.refused == SK_OK;
}

bool host_may_serve(const struct sim *sim, const struct host *host) {
    return would_serve(sim, host, REPLICA_LEADER, REPLICA_READ);
}

bool host_may_serve_stale(const struct sim *sim, const struct host *host) {
    return would_serve(sim, host, REPLICA_FOLLOWER, REPLICA_READ_STALE);
}
