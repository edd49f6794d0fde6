#include "tests/sim/succession.h"

#include "tests/sim/sim.h"

#define LOOK_US  3000u    /* how often is looked whether an act has come to its end, */
#define ACT_US   3000000u /* and for how long */
#define MEET_US  1500000u /* how long the two are by themselves */
#define SLOW_US  1500000u
#define START_US 5000u

static bool is_member(const struct sim *sim, uint32_t host) {
    return sim_metad_may_lead(sim, sim->hosts[host].drive.node);
}

static void cut_pair(struct sim *sim, uint32_t a, uint32_t b) {
    network_cut(sim, a, b);
    network_cut(sim, b, a);
}

static void heal_pair(struct sim *sim, uint32_t a, uint32_t b) {
    network_heal(sim, a, b);
    network_heal(sim, b, a);
}

static void on_start(struct sim *sim, const struct event *event) {
    if (!faults_is_dead(sim, (uint32_t)event->a)) host_start(sim, &sim->hosts[event->a]);
}

/* ---- the acts ---- */

static void cut_off(struct sim *sim, struct succession *play) {
    cut_pair(sim, play->old, play->next);
    sim->metad.unreachable[play->old] = true;
    sim->hosts[play->next].drive.slow_us = SLOW_US;
    play->act = SUCCESSION_CUT_OFF;
}

static void let_meet(struct sim *sim, struct succession *play) {
    struct host *next = &sim->hosts[play->next];
    cut_pair(sim, play->next, play->third);
    heal_pair(sim, play->old, play->next);
    sim->metad.unheard[play->next] = true;
    host_crash(sim, next, true);
    next->drive.slow_us = 0;
    sim_after(sim, START_US, on_start, play->next, 0, NULL);
    play->act = SUCCESSION_MEET;
}

static void end(struct sim *sim, struct succession *play) {
    heal_pair(sim, play->old, play->next);
    heal_pair(sim, play->old, play->third);
    heal_pair(sim, play->next, play->third);
    sim->metad.unreachable[play->old] = sim->metad.unheard[play->next] = false;
    sim->hosts[play->next].drive.slow_us = 0;
    play->act = SUCCESSION_NONE;
}

/* ---- its course ---- */

static bool has_come(const struct sim *sim, const struct succession *play) {
    if (play->act == SUCCESSION_OUT) return !is_member(sim, play->third);
    uint32_t leader = sim_metad_host_of(sim, sim->metad.record.leader);
    return leader == play->next && is_member(sim, play->third);
}

static void on_look(struct sim *sim, const struct event *event) {
    (void)event;
    struct succession *play = &sim->succession;
    if (sim->now_us >= play->until_us || sim->faults.stopped) {
        end(sim, play);
        return;
    }
    if (play->act != SUCCESSION_MEET && has_come(sim, play)) {
        if (play->act == SUCCESSION_OUT) cut_off(sim, play);
        else let_meet(sim, play);
        play->until_us = sim->now_us + (play->act == SUCCESSION_MEET ? MEET_US : ACT_US);
    }
    sim_after(sim, LOOK_US, on_look, 0, 0, NULL);
}

/* Among three, so that nobody else follows. */
void succession_begin(struct sim *sim) {
    struct succession *play = &sim->succession;
    uint32_t leader = sim_metad_host_of(sim, sim->metad.record.leader);
    if (play->act != SUCCESSION_NONE || sim->host_count != 3 || leader == HOSTS_MAX) return;
    uint32_t shift = is_member(sim, (leader + 1) % 3) ? 1 : 2;
    *play = (struct succession){.act = SUCCESSION_OUT,
                                .old = leader,
                                .next = (leader + shift) % 3,
                                .third = (leader + 3 - shift) % 3,
                                .until_us = sim->now_us + ACT_US};
    sim_trace(sim, "fault succession h%u h%u h%u", play->old, play->next, play->third);
    cut_pair(sim, play->old, play->third);
    sim_after(sim, LOOK_US, on_look, 0, 0, NULL);
}
