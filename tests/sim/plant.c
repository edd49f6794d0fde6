#include "tests/sim/plant.h"

#include <string.h>

static const char *const names[] = {
#define X(symbol, name, text) name,
    PLANTS(X)
#undef X
};

bool plant_parse(const char *text, enum plant *plant) {
    for (int i = 0; i < PLANT_COUNT; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *plant = (enum plant)i;
        return true;
    }
    return false;
}

const char *plant_name(enum plant plant) { return names[plant]; }
