#include "tests/sim/clients.h"

#include "libcommon/error.h"
#include "tests/sim/sim.h"

#define DEADLINE_US_MIN 300000u
#define DEADLINE_US_MAX 5000000u
#define ATTEMPT_US_MIN  50000u /* no answer for so long: sent again */
#define ATTEMPT_US_MAX  800000u
#define BACK_OFF_US_MAX 30000u /* after a refusal */
#define POLL_US         30000u /* the map is asked for at most so often */
#define NET_US_MAX      500u
#define SPIKE_US_MAX    1000000u
#define NUMBER_KEYS     2u
#define MAP_US_MAX      10000u
#define STALE_PPM       300000u /* of reads */
#define DEAF_PPM        100000u /* a gateway hears of no maps for a while */
#define ASTRAY_PPM      100000u
#define DEAF_US_MIN     50000u
#define DEAF_US_MAX     3000000u

static void attempt(struct sim *sim, struct client *client);
static void begin(struct sim *sim, struct client *client);

void clients_init(struct sim *sim) {
    sim->clients = (struct clients){.count = (uint32_t)chance_between(&sim->chance, 1, CLIENTS_MAX)};
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) sim->clients.clients[i].number = i;
}

/* ---- timers: only the last one set counts ---- */

static void on_begin(struct sim *sim, const struct event *event) {
    struct client *client = &sim->clients.clients[event->a];
    if (client->generation == event->b) begin(sim, client);
}

static void on_attempt(struct sim *sim, const struct event *event) {
    struct client *client = &sim->clients.clients[event->a];
    if (client->generation == event->b) attempt(sim, client);
}

static void set_timer(struct sim *sim, struct client *client, uint64_t delay_us,
                      void (*run)(struct sim *sim, const struct event *event)) {
    sim_after(sim, delay_us, run, client->number, ++client->generation, NULL);
}

/* ---- the map ---- */

/* a: client; b: the map's version << 16 | who leads by it. */
static void on_map(struct sim *sim, const struct event *event) {
    struct client *client = &sim->clients.clients[event->a];
    uint64_t version = event->b >> 16;
    if (version <= client->map_version || sim->now_us < client->deaf_us) return;
    client->map_version = version;
    client->leader = (uint32_t)(event->b & 0xffff);
    if (faults_has(sim, FAULT_CLIENT) && chance_happens(&sim->chance, DEAF_PPM)) {
        client->deaf_us = sim->now_us + chance_spread(&sim->chance, DEAF_US_MIN, DEAF_US_MAX);
    }
}

static void send_map(struct sim *sim, uint32_t client) {
    const struct map_shard *record = &sim->metad.record;
    sim_after(sim, chance_spread(&sim->chance, 100, MAP_US_MAX), on_map, client,
              record->config_version << 16 | record->leader, NULL);
}

void clients_publish(struct sim *sim) {
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        bool lost = faults_has(sim, FAULT_METAD) && chance_happens(&sim->chance, CHANCE_ALWAYS / 2);
        if (!lost) send_map(sim, i);
    }
}

static void on_poll(struct sim *sim, const struct event *event) {
    if (sim->metad.created && !sim->metad.down) send_map(sim, (uint32_t)event->a);
}

static void poll(struct sim *sim, struct client *client) {
    if (sim->now_us < client->poll_us + POLL_US) return;
    client->poll_us = sim->now_us;
    sim_after(sim, chance_spread(&sim->chance, 100, 2000), on_poll, client->number, 0, NULL);
}

/* ---- what clients do ---- */

static struct value draw_text(struct sim *sim, uint32_t length) {
    struct value value = {.present = true, .length = (uint8_t)length};
    for (uint32_t i = 0; i < length; i++) value.bytes[i] = (char)('a' + chance_below(&sim->chance, 26));
    return value;
}

static struct value draw_value(struct sim *sim, uint32_t key) {
    if (key < NUMBER_KEYS) return value_of_number((int64_t)chance_below(&sim->chance, 1000));
    return draw_text(sim, 4);
}

static void draw_cas(struct sim *sim, struct client *client, struct command *command) {
    command->expected = client->seen[command->key];
    if (chance_happens(&sim->chance, 900000)) command->value = draw_value(sim, command->key);
}

static void draw_command(struct sim *sim, struct client *client) {
    struct command *command = &client->command;
    *command = (struct command){.client = client->number,
                                .number = ++client->last_number,
                                .key = (uint32_t)chance_below(&sim->chance, MACHINE_KEYS)};
    uint64_t dice = chance_below(&sim->chance, 100);
    if (dice < 40) {
        command->op = COMMAND_GET;
    } else if (dice < 55 || command->key == MACHINE_EXPIRES) {
        command->op = COMMAND_SET;
        command->value = draw_value(sim, command->key);
        command->ttl_us = chance_spread(&sim->chance, 10000, 2000000);
    } else if (dice < 60) {
        command->op = COMMAND_DEL;
    } else if (dice < 75) {
        command->op = COMMAND_CAS;
        draw_cas(sim, client, command);
    } else if (command->key < NUMBER_KEYS) {
        command->op = COMMAND_INCR;
        command->amount = (int64_t)chance_between(&sim->chance, 1, 9);
    } else {
        command->op = COMMAND_APPEND;
        command->value = draw_text(sim, 1);
    }
}

static void begin(struct sim *sim, struct client *client) {
    if (sim->clients.stopped) return;
    draw_command(sim, client);
    client->stale = client->command.op == COMMAND_GET && chance_happens(&sim->chance, STALE_PPM);
    client->busy = true;
    client->begin_us = sim->now_us;
    client->deadline_us = sim->now_us + chance_spread(&sim->chance, DEADLINE_US_MIN, DEADLINE_US_MAX);
    client->floor = ledger_floor(&sim->ledger);
    client->attempts = client->refused = client->last_attempt = 0;
    attempt(sim, client);
}

/* The judge knows no time to live, and nothing of what the state refused. Of an unknown read nothing follows. */
static void note(struct sim *sim, const struct client *client, bool unknown, const struct result *result) {
    struct history_item item = {.command = client->command,
                                .result = *result,
                                .unknown = unknown,
                                .begin_us = client->begin_us,
                                .end_us = sim->now_us};
    bool read = client->command.op == COMMAND_GET;
    bool counts = client->command.key != MACHINE_EXPIRES && !result->refused && !(read && unknown);
    if (counts) history_add(&sim->history, &item);
}

static void end(struct sim *sim, struct client *client, bool unknown, const struct result *result) {
    client->busy = false;
    note(sim, client, unknown, result);
    set_timer(sim, client, chance_below(&sim->chance, sim->weather.think_us_max + 1), on_begin);
}

/* The deadline: whatever was not surely refused may have happened (R9). */
static void give_up(struct sim *sim, struct client *client) {
    bool read = client->command.op == COMMAND_GET, not_done = client->refused == client->attempts;
    sim_trace(sim, "c%u    gives up %llu: %s", client->number, (unsigned long long)client->command.number,
              not_done ? "not done" : "unknown");
    if (not_done || read) {
        sim->clients.not_done++;
        if (!read) ledger_on_refused(sim, &client->command);
        client->busy = false;
        set_timer(sim, client, chance_below(&sim->chance, sim->weather.think_us_max + 1), on_begin);
        return;
    }
    sim->clients.unknown++;
    end(sim, client, true, &(struct result){0});
}

/* ---- requests and answers ---- */

static bool is_lost(struct sim *sim) { return chance_happens(&sim->chance, sim->weather.client_loss_ppm); }

static uint64_t draw_delay(struct sim *sim) {
    uint64_t delay_us = chance_between(&sim->chance, 50, NET_US_MAX);
    if (faults_has(sim, FAULT_CLIENT) && chance_happens(&sim->chance, 30000)) {
        delay_us += chance_spread(&sim->chance, 1000, SPIKE_US_MAX);
    }
    return delay_us;
}

static void on_request(struct sim *sim, const struct event *event) {
    host_deliver(sim, &sim->hosts[event->a], (struct mail){.kind = MAIL_REQUEST, .parcel = event->data});
}

/* Where it sends to: whoever leads by its map, or by one that another gateway may still have; a read that a follower may
 * serve to any node. */
static uint32_t draw_host(struct sim *sim, const struct client *client) {
    if (client->stale) return (uint32_t)chance_below(&sim->chance, sim->host_count);
    if (faults_has(sim, FAULT_CLIENT) && chance_happens(&sim->chance, ASTRAY_PPM)) {
        return (uint32_t)chance_below(&sim->chance, sim->host_count);
    }
    return sim_metad_host_of(sim, client->leader);
}

static void attempt(struct sim *sim, struct client *client) {
    if (!client->busy) return;
    if (sim->now_us >= client->deadline_us) {
        give_up(sim, client);
        return;
    }
    if (client->attempts > 0) client->stale = false; /* like any other now */
    uint32_t host = draw_host(sim, client);
    uint64_t wait_us = chance_spread(&sim->chance, ATTEMPT_US_MIN, ATTEMPT_US_MAX);
    if (client->attempts > 0) poll(sim, client);
    if (host == HOSTS_MAX) {
        poll(sim, client);
        wait_us = BACK_OFF_US_MAX;
    } else {
        client->attempts++;
        client->last_attempt++;
        sim_trace(sim, "c%u    asks h%u: %llu op=%d key=%u", client->number, host,
                  (unsigned long long)client->command.number, client->command.op, client->command.key);
        if (!is_lost(sim)) {
            struct parcel *parcel = parcel_new(&sim->parcels);
            parcel->request = (struct parcel_request){
                .command = client->command, .attempt = client->last_attempt, .stale = client->stale};
            sim_after(sim, draw_delay(sim), on_request, host, 0, parcel);
        }
    }
    if (sim->now_us + wait_us > client->deadline_us) wait_us = client->deadline_us - sim->now_us;
    set_timer(sim, client, wait_us, on_attempt);
}

/* Not for the judge: it may be a state that is past. */
static void succeed_stale(struct sim *sim, struct client *client, const struct parcel_answer *answer) {
    ledger_on_stale(sim, &client->command, client->begin_us, answer);
    sim->clients.stale_done++;
    client->busy = false;
    set_timer(sim, client, chance_below(&sim->chance, sim->weather.think_us_max + 1), on_begin);
}

static void succeed(struct sim *sim, struct client *client, const struct parcel_answer *answer) {
    ledger_on_answered(sim, &client->command, &client->floor, answer);
    const struct command *command = &client->command;
    switch (command->op) {
    case COMMAND_GET:
        client->seen[command->key] = answer->result.got;
        break;
    case COMMAND_SET:
        client->seen[command->key] = command->value;
        break;
    case COMMAND_INCR:
        if (!answer->result.refused) client->seen[command->key] = value_of_number(answer->result.answer);
        break;
    default:
        break;
    }
    if (command->op == COMMAND_GET) {
        sim->clients.reads_done++;
    } else {
        sim->clients.writes_done++;
        if (client->begin_us > sim->clients.last_write_begin_us) {
            sim->clients.last_write_begin_us = client->begin_us;
        }
    }
    end(sim, client, false, &answer->result);
}

/* a: client. */
static void on_answer(struct sim *sim, const struct event *event) {
    struct client *client = &sim->clients.clients[event->a];
    struct parcel *parcel = event->data;
    const struct parcel_answer *answer = &parcel->answer;
    if (client->busy && answer->number == client->command.number) {
        sim_trace(sim, "c%u    answer %llu: %s index=%llu", client->number, (unsigned long long)answer->number,
                  error_name(answer->code), (unsigned long long)answer->index);
        if (answer->code == SK_OK && answer->stale) {
            succeed_stale(sim, client, answer);
        } else if (answer->code == SK_OK) {
            succeed(sim, client, answer);
        } else {
            if (error_outcome(answer->code) == SK_NOT_DONE) client->refused++;
            poll(sim, client);
            if (answer->attempt == client->last_attempt) {
                uint64_t wait_us = chance_spread(&sim->chance, 1000, BACK_OFF_US_MAX);
                uint64_t left_us = client->deadline_us > sim->now_us ? client->deadline_us - sim->now_us : 0;
                set_timer(sim, client, wait_us < left_us ? wait_us : left_us, on_attempt);
            }
        }
    }
    parcel_free(&sim->parcels, parcel);
}

void clients_answer(struct sim *sim, uint32_t host, uint32_t client, const struct parcel_answer *answer) {
    (void)host;
    if (is_lost(sim)) return;
    struct parcel *parcel = parcel_new(&sim->parcels);
    parcel->answer = *answer;
    sim_after(sim, draw_delay(sim), on_answer, client, 0, parcel);
}

void clients_end(struct sim *sim) {
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        struct client *client = &sim->clients.clients[i];
        if (client->busy) note(sim, client, true, &(struct result){0});
        client->busy = false;
    }
}

void clients_start(struct sim *sim) {
    for (uint32_t i = 0; i < sim->clients.count; i++) {
        set_timer(sim, &sim->clients.clients[i], chance_below(&sim->chance, sim->weather.think_us_max + 1),
                  on_begin);
    }
}
