/* Energy counters that step as hardware does, from a power that is known at every instant.
 *
 *     ticker CONTROL SEED < COUNTERS
 *
 * Each line of COUNTERS is one file: idle_w work_w period_s sigma unit_nj start range kind offset
 * width path. Its power is idle_w (1 + RIPPLE sin(2 pi t / RIPPLE_S)), and work_w more while a
 * window of CONTROL is on; t is CLOCK_MONOTONIC. The file is rewritten in place, `width` digits at
 * `offset`, after steps of period_s exp(sigma N(0, 1)): log-normal, so that some are much longer.
 * The count is kept in units of unit_nj nanojoules and wraps at `range` of them, as the kernel's
 * counters do; kind `u` shows microjoules, `m` millijoules. CONTROL is mapped by every process:
 * windows are published there before they end, so that each state shown is exact for its time.
 * At the end the steps' lengths are printed as JSON.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COUNTERS = 16, MOST_WINDOWS = 8192, MOST_STEPS = 1 << 20 };
static const double RIPPLE = 0.02, RIPPLE_S = 7.0, PI = 3.14159265358979323846;

typedef struct {
    int64_t ready, stop;       /* set by the ticker; by the benchmark */
    int64_t windows;           /* how many are published */
    int64_t skips;             /* raised by one to let the first counter come near its range */
    double skip_j;             /* joules that then are left before it wraps */
    double blank_s[2];         /* while the files are empty */
    double window_s[MOST_WINDOWS][2];
} Control;

typedef struct {
    double idle_w, work_w, period_s, sigma;
    uint64_t unit_nj, start, range;
    char kind, path[512];
    int offset, width, handle, blank;
    double due_s, shown_s;
    float *steps_s;
    long steps;
} Counter;

static Control *control;
static Counter counters[MOST_COUNTERS];
static double origin_s, past_work_s;
static int64_t past;
static uint64_t state;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double uniform(void) { /* splitmix64 */
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double step_s(const Counter *c) {
    double normal = sqrt(-2.0 * log(uniform())) * cos(2.0 * PI * uniform());
    return c->period_s * exp(c->sigma * normal);
}

static double worked_s(double t) { /* seconds of work from the origin until t */
    int64_t published = __atomic_load_n(&control->windows, __ATOMIC_ACQUIRE);
    while (past < published && control->window_s[past % MOST_WINDOWS][1] <= t) {
        const double *w = control->window_s[past++ % MOST_WINDOWS];
        past_work_s += w[1] - w[0];
    }
    double sum = past_work_s;
    for (int64_t i = past; i < published; i++) {
        const double *w = control->window_s[i % MOST_WINDOWS];
        if (t > w[0]) sum += fmin(t, w[1]) - w[0];
    }
    return sum;
}

static double rested_s(double t) { /* the integral of idle power over idle_w */
    double k = 2.0 * PI / RIPPLE_S;
    return (t - origin_s) + RIPPLE / k * (cos(k * origin_s) - cos(k * t));
}

static uint64_t units(const Counter *c, double t) {
    double joules = c->idle_w * rested_s(t) + c->work_w * worked_s(t);
    return (uint64_t)(joules * 1e9 / (double)c->unit_nj);
}

static void show(Counter *c, double t) {
    uint64_t raw = (c->start + units(c, t)) % c->range;
    uint64_t value = raw * c->unit_nj / (c->kind == 'u' ? 1000u : 1000000u);
    char text[32];
    snprintf(text, sizeof text, "%0*llu\n", c->width, (unsigned long long)value);
    /* A file of sysfs ends in a newline; a line of a script goes on. */
    int length = c->width + (c->offset == 0);
    if (pwrite(c->handle, text, (size_t)length, c->offset) != length) perror(c->path);
    if (c->shown_s > 0 && c->steps < MOST_STEPS) c->steps_s[c->steps++] = (float)(t - c->shown_s);
    c->shown_s = t;
}

static void blank(Counter *c, double t) {
    int wanted = t >= control->blank_s[0] && t < control->blank_s[1];
    if (wanted && !c->blank && ftruncate(c->handle, 0)) perror(c->path);
    c->blank = wanted;
}

static int load(void) {
    int count = 0;
    Counter c;
    while (memset(&c, 0, sizeof c), count < MOST_COUNTERS &&
           scanf("%lf %lf %lf %lf %lu %lu %lu %c %d %d %511s", &c.idle_w, &c.work_w, &c.period_s,
                 &c.sigma, &c.unit_nj, &c.start, &c.range, &c.kind, &c.offset, &c.width,
                 c.path) == 11) {
        c.handle = open(c.path, O_WRONLY);
        c.steps_s = malloc(sizeof(float) * MOST_STEPS);
        if (c.handle < 0 || !c.steps_s) {
            perror(c.path);
            exit(1);
        }
        counters[count++] = c;
    }
    return count;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void report(int count, int real_time) {
    printf("{\"real_time\": %s, \"counters\": [", real_time ? "true" : "false");
    for (int i = 0; i < count; i++) {
        Counter *c = &counters[i];
        double sum = 0.0;
        for (long j = 0; j < c->steps; j++) sum += c->steps_s[j];
        qsort(c->steps_s, (size_t)c->steps, sizeof(float), ascending);
        const float *s = c->steps_s;
        long n = c->steps ? c->steps : 1;
        printf("%s{\"path\": \"%s\", \"steps\": %ld, \"mean_s\": %.6f, \"p1_s\": %.6f, "
               "\"p99_s\": %.6f, \"max_s\": %.6f}",
               i ? ", " : "", c->path, c->steps, sum / (double)n, s[(n - 1) / 100],
               s[(n - 1) * 99 / 100], s[n - 1]);
    }
    puts("]}");
}

int main(int argc, char **argv) {
    int file = argc == 3 ? open(argv[1], O_RDWR) : -1;
    if (file < 0) return perror("usage: ticker CONTROL SEED < COUNTERS"), 2;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED) return perror(argv[1]), 2;
    state = strtoull(argv[2], NULL, 10);
    int count = load();
    struct sched_param priority = {.sched_priority = 10};
    int real_time = sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
    if (!real_time) setpriority(PRIO_PROCESS, 0, -20);
    mlockall(MCL_CURRENT);
    origin_s = now_s();
    for (int i = 0; i < count; i++) counters[i].due_s = origin_s;
    int64_t skips = 0;
    while (!__atomic_load_n(&control->stop, __ATOMIC_ACQUIRE)) {
        double t = now_s(), next_s = t + 0.01;
        if (__atomic_load_n(&control->skips, __ATOMIC_ACQUIRE) != skips) {
            Counter *c = &counters[0];
            skips = control->skips;
            uint64_t left = (uint64_t)(control->skip_j * 1e9 / (double)c->unit_nj);
            c->start = 2 * c->range - left - units(c, t) % c->range;
        }
        for (int i = 0; i < count; i++) {
            Counter *c = &counters[i];
            blank(c, t);
            if (t >= c->due_s) {
                if (!c->blank) show(c, t);
                c->due_s = t + step_s(c);
            }
            next_s = fmin(next_s, c->due_s);
        }
        __atomic_store_n(&control->ready, 1, __ATOMIC_RELEASE);
        struct timespec until = {(time_t)next_s, (long)(fmod(next_s, 1.0) * 1e9)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    report(count, real_time);
    return 0;
}
