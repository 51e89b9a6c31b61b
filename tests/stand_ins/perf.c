/* A library that answers as libc does for perf_event_open, read and close, scripted by the file
 * FAKE_PERF names.
 *
 * Each line is one event: type config cpu open_error read_error count power_w swing_w period_ms
 * Its counter shows count plus (power_w t + swing_w (1 - cos(2 pi t)) / 2 pi) 2^32 at the last whole
 * period t since the library was loaded, less what it showed when it was opened, as the kernel's
 * does. An error is an errno; a read_error of -1 cuts the answer short. The file is read at each
 * call, so a test rewrites it to move a counter. A call that the kernel would refuse (layout, flags,
 * a group, a process) is refused with EINVAL, an event that no line names with ENOENT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

enum { FIRST = 1 << 20, MOST = 4096, CLOSE_ON_EXEC = 8, SIZE = 64 };

typedef struct {
    unsigned type, size;
    uint64_t config, rest[6];
} Attribute;

typedef struct {
    unsigned type;
    unsigned long long config;
    int cpu, open_error, read_error;
    unsigned long long count;
    double power_w, swing_w, period_ms;
} Event;

typedef struct {
    int used, cpu;
    unsigned type;
    uint64_t config, opened_at;
} Handle;

static Handle handles[MOST];
static double begun_s;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((constructor)) static void begin(void) { begun_s = now_s(); }

static int find(unsigned type, uint64_t config, int cpu, Event *e) {
    const char *path = getenv("FAKE_PERF");
    FILE *file = path ? fopen(path, "r") : NULL;
    int found = 0;
    char line[512];
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "%u %llu %d %d %d %llu %lf %lf %lf", &e->type, &e->config, &e->cpu,
                       &e->open_error, &e->read_error, &e->count, &e->power_w, &e->swing_w,
                       &e->period_ms) == 9 &&
                e->type == type && e->config == config && e->cpu == cpu;
    if (file) fclose(file);
    return found;
}

static uint64_t shown(const Event *e) {
    double t = e->period_ms > 0 ? floor((now_s() - begun_s) * 1e3 / e->period_ms) : 0.0;
    t *= e->period_ms * 1e-3;
    double pi2 = 8 * atan(1.0), joules = e->power_w * t + e->swing_w * (1 - cos(pi2 * t)) / pi2;
    return e->count + (uint64_t)(joules * 4294967296.0);
}

static int refuse(int code) {
    errno = code;
    return -1;
}

/* How many counters are open. */
int open_counters(void) {
    int open = 0;
    for (int i = 0; i < MOST; i++) open += handles[i].used;
    return open;
}

long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    const Attribute *a = va_arg(rest, const Attribute *);
    long process = va_arg(rest, long), cpu = va_arg(rest, long), group = va_arg(rest, long);
    unsigned long flags = va_arg(rest, unsigned long);
    va_end(rest);
    if (number != SYS_perf_event_open) return refuse(ENOSYS);
    if (a->size != SIZE || process != -1 || group != -1 || flags != CLOSE_ON_EXEC)
        return refuse(EINVAL);
    for (int i = 0; i < 6; i++)
        if (a->rest[i]) return refuse(EINVAL);
    Event e;
    if (!find(a->type, a->config, (int)cpu, &e)) return refuse(ENOENT);
    if (e.open_error) return refuse(e.open_error);
    for (int i = 0; i < MOST; i++)
        if (!handles[i].used) {
            handles[i] = (Handle){1, (int)cpu, a->type, a->config, shown(&e)};
            return FIRST + i;
        }
    return refuse(EMFILE);
}

ssize_t read(int handle, void *buffer, size_t size) {
    int i = handle - FIRST;
    if (i < 0 || i >= MOST || !handles[i].used) return refuse(EBADF);
    Event e;
    if (!find(handles[i].type, handles[i].config, handles[i].cpu, &e)) return refuse(ENODEV);
    if (e.read_error > 0) return refuse(e.read_error);
    if (size < sizeof(uint64_t)) return refuse(ENOSPC);
    if (e.read_error) return 0;
    uint64_t value = shown(&e) - handles[i].opened_at;
    memcpy(buffer, &value, sizeof value);
    return sizeof value;
}

int close(int handle) {
    int i = handle - FIRST;
    if (i < 0 || i >= MOST || !handles[i].used) return refuse(EBADF);
    handles[i].used = 0;
    return 0;
}
