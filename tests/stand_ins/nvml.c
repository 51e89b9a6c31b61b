/* A library that answers as libnvidia-ml.so.1, scripted by the file FAKE_NVML names.
 *
 * Each line is one GPU: uuid mig status energy_mj power_w period_ms name...
 * status is what asking for energy returns (0 success, 3 not supported, 4 no permission, 15
 * lost). Energy is energy_mj plus what power_w has added since nvmlInit, in steps of period_ms.
 * The file is read at each call, so a test rewrites it to move a counter. Without the file
 * nvmlInit answers as it does without a driver.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID = 2, NO_DRIVER = 9, NOT_FOUND = 6, MOST = 16 };

typedef struct {
    char uuid[96], name[96];
    unsigned mig;
    int status;
    unsigned long long energy_mj;
    double power_w, period_ms;
} Gpu;

static double begun_s;
static Gpu marks[MOST]; /* a handle is the address of one of these */

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int load(Gpu *gpus) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return -1;
    int count = 0;
    char line[512];
    while (count < MOST && fgets(line, sizeof line, file)) {
        Gpu *g = &gpus[count];
        if (sscanf(line, "%95s %u %d %llu %lf %lf %95[^\n]", g->uuid, &g->mig, &g->status,
                   &g->energy_mj, &g->power_w, &g->period_ms, g->name) == 7)
            count++;
    }
    fclose(file);
    return count;
}

static int find(void *handle, Gpu *gpu) {
    Gpu gpus[MOST];
    long index = (Gpu *)handle - marks;
    if (index < 0 || index >= load(gpus)) return NOT_FOUND;
    *gpu = gpus[index];
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    Gpu gpus[MOST];
    if (load(gpus) < 0) return NO_DRIVER;
    if (begun_s == 0.0) begun_s = now_s();
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    return code == NO_DRIVER ? "Driver Not Loaded" : "Scripted Error";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    Gpu gpus[MOST];
    int found = load(gpus);
    *count = found < 0 ? 0 : (unsigned)found;
    return found < 0 ? NO_DRIVER : SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    Gpu gpus[MOST];
    if ((int)index >= load(gpus)) return INVALID;
    *handle = &marks[index];
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) snprintf(name, length, "%s", gpu.name);
    return code;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) snprintf(uuid, length, "%s", gpu.uuid);
    return code;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *current = *pending = gpu.mig;
    return code;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy_mj) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    if (gpu.status != SUCCESS) return gpu.status;
    double steps = gpu.period_ms > 0 ? floor((now_s() - begun_s) * 1e3 / gpu.period_ms) : 0.0;
    *energy_mj = gpu.energy_mj + (unsigned long long)(steps * gpu.period_ms * gpu.power_w);
    return SUCCESS;
}
