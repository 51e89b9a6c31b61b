/* A library that answers as libnvidia-ml.so.1, scripted by the file FAKE_NVML names.
 *
 * Each line is one GPU: uuid mig status energy_mj power_w period_ms [key=value ...] name...
 * status is what asking for energy or power returns (0 success, 3 not supported, 4 no permission,
 * 15 lost). Energy is energy_mj plus what the GPU drew since nvmlInit, in steps of period_ms.
 * The file is read at each call, so a test rewrites it to move a counter. Without the file
 * nvmlInit answers as it does without a driver. Keys, each with a number (see Gpu below):
 *
 *   instant usage module   status of field 186, of PowerUsage, of field 186 with module scope
 *   swing_w swing_s        the power goes up and down by swing_w, as a sine of swing_s
 *   module_w               drawn by the rest of the module
 *   lag_ms                 energy and power shown are those of so long ago
 *   jitter                 steps come early or late by up to half of this share of a period
 *   reset_s lost_s none_s  from then on: the counter starts again from 0, every call says lost,
 *                          energy and power are not supported
 *   arch cc                architecture; compute capability, 80 for 8.0
 *   sm_mhz temp_c reasons  clock, temperature, clocks event reasons (a mask)
 *   violated_ns, capped_ns  time that heat, that power held the clock down; violated -1: neither
 *   pstate persistence
 *   max_mhz other_pid      the highest clock; a process that computes on it, 0 for none
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID = 2, NO_SUPPORT = 3, NO_PERMISSION = 4, NOT_FOUND = 6 };
enum { NO_DRIVER = 9, LOST = 15 };
enum { MOST = 16, INSTANT_FIELD = 186, MODULE_SCOPE = 1, UNSIGNED_INT = 1 };

typedef struct {
    char uuid[96], name[96];
    unsigned mig;
    int status;
    unsigned long long energy_mj;
    double power_w, period_ms;
    double instant, usage, module, swing_w, swing_s, module_w, lag_ms, jitter;
    double reset_s, lost_s, none_s, arch, cc, sm_mhz, temp_c, reasons, violated_ns, capped_ns;
    double pstate, persistence, max_mhz, other_pid;
} Gpu;

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    unsigned type;
    int code;
    union {
        double d;
        unsigned ui;
        unsigned long long ull;
    } value;
} Field;

typedef struct {
    unsigned long long reference_us, violated_ns;
} Violation;

static double begun_s;
static Gpu marks[MOST]; /* a handle is the address of one of these */

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void set(Gpu *g, const char *key, double value) {
    struct {
        const char *name;
        double *place;
    } keys[] = {
        {"instant", &g->instant}, {"usage", &g->usage}, {"module", &g->module},
        {"swing_w", &g->swing_w}, {"swing_s", &g->swing_s}, {"module_w", &g->module_w},
        {"lag_ms", &g->lag_ms}, {"jitter", &g->jitter}, {"reset_s", &g->reset_s},
        {"lost_s", &g->lost_s}, {"none_s", &g->none_s}, {"arch", &g->arch}, {"cc", &g->cc},
        {"sm_mhz", &g->sm_mhz}, {"temp_c", &g->temp_c}, {"reasons", &g->reasons},
        {"violated_ns", &g->violated_ns}, {"capped_ns", &g->capped_ns}, {"pstate", &g->pstate},
        {"persistence", &g->persistence}, {"max_mhz", &g->max_mhz}, {"other_pid", &g->other_pid},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i].name, key)) {
            *keys[i].place = value;
            return;
        }
    fprintf(stderr, "nvml stand-in: unknown key %s\n", key);
    abort();
}

static int parse(char *line, Gpu *g) {
    int used = 0;
    *g = (Gpu){.module = NO_SUPPORT, .swing_s = 1, .reset_s = INFINITY, .lost_s = INFINITY,
               .none_s = INFINITY, .arch = 8, .cc = 89, .sm_mhz = 1500, .temp_c = 45, .max_mhz = 1500};
    if (sscanf(line, "%95s %u %d %llu %lf %lf %n", g->uuid, &g->mig, &g->status, &g->energy_mj,
               &g->power_w, &g->period_ms, &used) < 6 || !used)
        return 0;
    g->instant = g->usage = g->status;
    char *rest = line + used, key[32];
    double value;
    while (sscanf(rest, "%31[a-z_]=%lf %n", key, &value, &used) == 2) {
        set(g, key, value);
        rest += used;
    }
    return sscanf(rest, "%95[^\n]", g->name) == 1;
}

static int load(Gpu *gpus) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return -1;
    int count = 0;
    char line[1024];
    while (count < MOST && fgets(line, sizeof line, file)) count += parse(line, &gpus[count]);
    fclose(file);
    return count;
}

static int find(void *handle, Gpu *gpu) {
    Gpu gpus[MOST];
    long index = (Gpu *)handle - marks;
    if (index < 0 || index >= load(gpus)) return NOT_FOUND;
    *gpu = gpus[index];
    return now_s() - begun_s >= gpu->lost_s ? LOST : SUCCESS;
}

/* Joules drawn in the first t seconds. */
static double drawn_j(const Gpu *g, double t) {
    double turn = 2 * M_PI / g->swing_s;
    return t <= 0 ? 0 : g->power_w * t + g->swing_w * (1 - cos(turn * t)) / turn;
}

static double power_w(const Gpu *g, double t) {
    return g->power_w + (t > 0 ? g->swing_w * sin(2 * M_PI * t / g->swing_s) : 0);
}

/* When step n comes: a share of the period early or late that only n decides. */
static double step_s(const Gpu *g, double n) {
    double noise = sin(n * 12.9898) * 43758.5453;
    double early = n > 0 ? g->jitter * (noise - floor(noise) - 0.5) : 0;
    return (n + early) * g->period_ms * 1e-3;
}

static double last_step_s(const Gpu *g, double t) {
    if (g->period_ms <= 0) return 0;
    double n = floor(t * 1e3 / g->period_ms) + 1;
    while (n > 0 && step_s(g, n) > t) n--;
    return step_s(g, n);
}

/* Seconds since nvmlInit, or an error from a certain time on. */
static int measured(void *handle, Gpu *gpu, double *t) {
    int code = find(handle, gpu);
    if (code != SUCCESS) return code;
    *t = now_s() - begun_s;
    return *t >= gpu->none_s ? NO_SUPPORT : SUCCESS;
}

/* When counting began, by CLOCK_MONOTONIC: for tests that know the power. */
double stand_in_begun_s(void) { return begun_s; }

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
    switch (code) {
    case NO_SUPPORT: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NO_DRIVER: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "Scripted Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "999.1");
    return SUCCESS;
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
    double t;
    int code = measured(handle, &gpu, &t);
    if (code != SUCCESS) return code;
    if (gpu.status != SUCCESS) return gpu.status;
    double shown_s = last_step_s(&gpu, t), lag_s = gpu.lag_ms * 1e-3;
    if (t < gpu.reset_s)
        *energy_mj = gpu.energy_mj + (unsigned long long)(1e3 * drawn_j(&gpu, shown_s - lag_s) + 1e-6);
    else {
        double since_j = drawn_j(&gpu, shown_s - lag_s) - drawn_j(&gpu, gpu.reset_s);
        *energy_mj = since_j > 0 ? (unsigned long long)(1e3 * since_j) : 0;
    }
    return SUCCESS;
}

/* On Ampere and later, except GA100, the mean of the last second. */
int nvmlDeviceGetPowerUsage(void *handle, unsigned *power_mw) {
    Gpu gpu;
    double t;
    int code = measured(handle, &gpu, &t);
    if (code != SUCCESS) return code;
    if (gpu.usage != SUCCESS) return (int)gpu.usage;
    t -= gpu.lag_ms * 1e-3;
    double mean_w = gpu.arch >= 7 && gpu.cc != 80
                        ? drawn_j(&gpu, t) - drawn_j(&gpu, t - 1) + fmax(1 - t, 0) * gpu.power_w
                        : power_w(&gpu, t);
    *power_mw = (unsigned)(1e3 * mean_w);
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    Gpu gpu;
    double t;
    int code = measured(handle, &gpu, &t);
    if (code == LOST) return code;
    for (int i = 0; i < count; i++) {
        Field *f = &fields[i];
        int known = f->field == INSTANT_FIELD && f->scope <= MODULE_SCOPE;
        int status = (int)(f->scope == MODULE_SCOPE ? gpu.module : gpu.instant);
        f->code = code != SUCCESS ? code : known ? status : INVALID;
        f->type = UNSIGNED_INT;
        f->timestamp = (long long)(now_s() * 1e6);
        double shown_w = power_w(&gpu, last_step_s(&gpu, t) - gpu.lag_ms * 1e-3);
        if (gpu.period_ms <= 0) shown_w = power_w(&gpu, t - gpu.lag_ms * 1e-3);
        if (f->scope == MODULE_SCOPE) shown_w += gpu.module_w;
        f->value.ui = (unsigned)(1e3 * shown_w);
    }
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(void *handle, unsigned *arch) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *arch = (unsigned)gpu.arch;
    return code;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *major = (int)gpu.cc / 10, *minor = (int)gpu.cc % 10;
    return code;
}

int nvmlDeviceGetClockInfo(void *handle, unsigned type, unsigned *mhz) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS && type > 3) return INVALID;
    if (code == SUCCESS) *mhz = (unsigned)gpu.sm_mhz;
    return code;
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS && sensor != 0) return INVALID;
    if (code == SUCCESS) *celsius = (unsigned)gpu.temp_c;
    return code;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *reasons = (unsigned long long)gpu.reasons;
    return code;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(handle, reasons);
}

int nvmlDeviceGetViolationStatus(void *handle, unsigned policy, Violation *violation) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    if (policy > 11) return INVALID;
    if (gpu.violated_ns < 0) return NO_SUPPORT;
    violation->reference_us = (unsigned long long)(now_s() * 1e6);
    double ns = policy == 1 ? gpu.violated_ns : policy == 0 ? gpu.capped_ns : 0;
    violation->violated_ns = (unsigned long long)ns;
    return SUCCESS;
}

int nvmlDeviceGetPerformanceState(void *handle, unsigned *pstate) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *pstate = (unsigned)gpu.pstate;
    return code;
}

int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *mode = (unsigned)gpu.persistence;
    return code;
}

int nvmlDeviceGetMaxClockInfo(void *handle, unsigned type, unsigned *mhz) {
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS && type > 3) return INVALID;
    if (code == SUCCESS) *mhz = (unsigned)gpu.max_mhz;
    return code;
}

typedef struct {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
} Process;

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *processes) {
    enum { TOO_SMALL = 7 };
    Gpu gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    unsigned room = *count;
    *count = gpu.other_pid > 0;
    if (!*count) return SUCCESS;
    if (!room || !processes) return TOO_SMALL;
    processes[0] = (Process){.pid = (unsigned)gpu.other_pid, .memory = 1 << 20};
    return SUCCESS;
}
