/* A libnvidia-ml.so.1 of our own, for tests: the functions of NVML that etio calls, with answers out of a file.
 *
 * Names, signatures and return codes follow the NVML API reference (docs.nvidia.com/deploy/nvml-api); structs follow
 * nvml.h as nvidia-ml-py mirrors it. NVML_DOUBLE_STATE names the file, which is read anew at each call; a line is
 *
 *     GPU NAME[:ARGUMENT] WORDS...      GPU is an index, or "-" for what concerns no GPU
 *
 * WORDS are the numbers or the text that the call gives back, "!N" for return code N, or "hang" for a call that does
 * not come back as long as the line stands there. A call without a line is "not supported" (3).
 * NVML_DOUBLE_LOG, where set, gets a line "GPU NAME[:ARGUMENT]" for each call. XIDs are lines "GPU TYPE DATA" of
 * NVML_DOUBLE_STATE with ".events" behind it; those there before the registration are not told.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, SMALL = 7, TIMEOUT = 10, LOST = 15 };
#define NONE ((int)-1)
#define MIG_BASE 0x100000

typedef struct { unsigned id, scope; long long stamp, latency; unsigned type; int code; union { double d;
    unsigned long long u; } value; } Field;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute; } Process;
typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } Event;
typedef struct { unsigned id; int code; double value; const char *names[3]; } Metric;
typedef struct { unsigned version, count; void *first, *second; Metric metrics[]; } Metrics;
typedef struct { int gpu; double at; } Sample;

static void nap(double seconds) {
    struct timespec pause = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    nanosleep(&pause, NULL);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int index_of(const void *device) { return (int)((intptr_t)device - 1); }

static void note(int gpu, const char *name) {
    const char *path = getenv("NVML_DOUBLE_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log == NULL) return;
    fprintf(log, "%d %s\n", gpu, name);
    fclose(log);
}

/* The words of a line; 0 = there is none. */
static int find(int gpu, const char *name, char *words, size_t size) {
    const char *path = getenv("NVML_DOUBLE_STATE");
    FILE *state = path ? fopen(path, "r") : NULL;
    char line[4096], who[16], wanted[160];
    int found = 0;
    if (state == NULL) return 0;
    if (gpu == NONE) strcpy(who, "-"); else snprintf(who, sizeof who, "%d", gpu);
    snprintf(wanted, sizeof wanted, "%s %s ", who, name);
    while (!found && fgets(line, sizeof line, state) != NULL) {
        if (strncmp(line, wanted, strlen(wanted)) == 0) {
            line[strcspn(line, "\n")] = 0;
            snprintf(words, size, "%s", line + strlen(wanted));
            found = 1;
        }
    }
    fclose(state);
    return found;
}

/* Return code of a call, and its words where that is 0. */
static int ask(int gpu, const char *name, char *words, size_t size) {
    note(gpu, name);
    while (find(gpu, name, words, size)) {
        if (strcmp(words, "hang") == 0) { nap(0.02); continue; }
        return words[0] == '!' ? atoi(words + 1) : OK;
    }
    return UNSUPPORTED;
}

static int ask_with(int gpu, const char *name, long argument, char *words, size_t size) {
    char both[128];
    snprintf(both, sizeof both, "%s:%ld", name, argument);
    return ask(gpu, both, words, size);
}

static unsigned long long number(char **at) { return strtoull(*at, at, 0); }

static int numbers(int gpu, const char *name, int count, unsigned long long *out) {
    char words[1024], *at = words;
    int code = ask(gpu, name, words, sizeof words);
    for (int i = 0; code == OK && i < count; i++) out[i] = number(&at);
    return code;
}

static int text(int gpu, const char *name, char *out, unsigned size) {
    char words[512];
    int code = ask(gpu, name, words, sizeof words);
    if (code == OK) snprintf(out, size, "%s", words);
    return code;
}

#define ONE(NAME) int NAME(void *device, unsigned *out) { \
    unsigned long long n[1]; \
    int code = numbers(index_of(device), #NAME, 1, n); \
    if (code == OK) *out = (unsigned)n[0]; \
    return code; }
#define TWO(NAME) int NAME(void *device, unsigned *a, unsigned *b) { \
    unsigned long long n[2]; \
    int code = numbers(index_of(device), #NAME, 2, n); \
    if (code == OK) { *a = (unsigned)n[0]; *b = (unsigned)n[1]; } \
    return code; }
#define WITH(NAME) int NAME(void *device, int argument, unsigned *out) { \
    char words[64]; \
    int code = ask_with(index_of(device), #NAME, argument, words, sizeof words); \
    if (code == OK) *out = (unsigned)strtoull(words, NULL, 0); \
    return code; }
#define WIDE(NAME) int NAME(void *device, unsigned long long *out) { return numbers(index_of(device), #NAME, 1, out); }

ONE(nvmlDeviceGetPowerUsage) ONE(nvmlDeviceGetEnforcedPowerLimit) ONE(nvmlDeviceGetPowerManagementLimit)
ONE(nvmlDeviceGetPowerManagementDefaultLimit) ONE(nvmlDeviceGetCurrPcieLinkWidth) ONE(nvmlDeviceGetMaxPcieLinkWidth)
ONE(nvmlDeviceGetCurrPcieLinkGeneration) ONE(nvmlDeviceGetMaxPcieLinkGeneration) ONE(nvmlDeviceGetFanSpeed)
ONE(nvmlDeviceGetPerformanceState) ONE(nvmlDeviceGetPersistenceMode) ONE(nvmlDeviceGetComputeMode)
ONE(nvmlDeviceGetMaxMigDeviceCount) ONE(nvmlDeviceGetGpuInstanceId)
TWO(nvmlDeviceGetEccMode) TWO(nvmlDeviceGetMigMode)
TWO(nvmlDeviceGetPowerManagementLimitConstraints)
WITH(nvmlDeviceGetTemperature) WITH(nvmlDeviceGetTemperatureThreshold) WITH(nvmlDeviceGetClockInfo)
WITH(nvmlDeviceGetMaxClockInfo) WITH(nvmlDeviceGetApplicationsClock) WITH(nvmlDeviceGetDefaultApplicationsClock)
WITH(nvmlDeviceGetNvLinkState)
WIDE(nvmlDeviceGetCurrentClocksEventReasons) WIDE(nvmlDeviceGetCurrentClocksThrottleReasons)
WIDE(nvmlDeviceGetSupportedEventTypes)

int nvmlInitWithFlags(unsigned flags) {
    char words[64];
    int code = ask(NONE, "nvmlInitWithFlags", words, sizeof words);
    (void)flags;
    return code == UNSUPPORTED ? OK : code;
}

int nvmlShutdown(void) { note(NONE, "nvmlShutdown"); return OK; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(NONE, "nvmlSystemGetDriverVersion", out, size); }

int nvmlDeviceGetCount_v2(unsigned *out) {
    unsigned long long n[1];
    int code = numbers(NONE, "nvmlDeviceGetCount_v2", 1, n);
    if (code == OK) *out = (unsigned)n[0];
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned gpu, void **device) {
    char words[64];
    int code = ask((int)gpu, "nvmlDeviceGetHandleByIndex_v2", words, sizeof words);
    if (code != OK && code != UNSUPPORTED) return code;
    *device = (void *)(intptr_t)(gpu + 1);
    return OK;
}

int nvmlDeviceGetIndex(void *device, unsigned *out) { *out = (unsigned)index_of(device); return OK; }

int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
    return text(index_of(device), "nvmlDeviceGetUUID", out, size);
}

int nvmlDeviceGetName(void *device, char *out, unsigned size) {
    return text(index_of(device), "nvmlDeviceGetName", out, size);
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) {
    unsigned long long n[2];
    int code = numbers(index_of(device), "nvmlDeviceGetUtilizationRates", 2, n);
    if (code == OK) { rates[0] = (unsigned)n[0]; rates[1] = (unsigned)n[1]; }
    return code;
}

int nvmlDeviceGetTemperatureV(void *device, int *one) { /* version, sensor, answer */
    char words[64];
    int code = ask_with(index_of(device), "nvmlDeviceGetTemperatureV", one[1], words, sizeof words);
    if (one[0] != 0x100000C) return 25;
    if (code == OK) one[2] = atoi(words);
    return code;
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) { /* total, free, used */
    return numbers(index_of(device), "nvmlDeviceGetMemoryInfo", 3, memory);
}

int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) { /* "DDDDDDDD:BB:DD.F" */
    int code = text(index_of(device), "nvmlDeviceGetPciInfo_v3", pci->bus_id, sizeof pci->bus_id);
    if (code == OK) sscanf(pci->bus_id, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    return code;
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    unsigned long long n[4];
    int code = numbers(index_of(device), "nvmlDeviceGetRemappedRows", 4, n);
    if (code == OK) { *a = (unsigned)n[0]; *b = (unsigned)n[1]; *c = (unsigned)n[2]; *d = (unsigned)n[3]; }
    return code;
}

int nvmlDeviceGetFieldValues(void *device, int count, Field *fields) {
    char words[128], name[64];
    int gpu = index_of(device), code = ask(gpu, "nvmlDeviceGetFieldValues", words, sizeof words);
    if (code != OK && code != UNSUPPORTED) return code;
    for (int i = 0; i < count; i++) { /* a field for which the whole batch is refused */
        if (find(gpu, "refuses", words, sizeof words) && (unsigned)atoi(words) == fields[i].id) return INVALID;
    }
    for (int i = 0; i < count; i++) {
        Field *one = fields + i;
        snprintf(name, sizeof name, "field:%u", one->id);
        one->code = ask(gpu, name, words, sizeof words);
        one->type = strchr(words, '.') ? 0 : 3; /* double, or unsigned long long */
        if (one->code != OK) one->value.u = 0;
        else if (one->type == 0) one->value.d = strtod(words, NULL);
        else one->value.u = strtoull(words, NULL, 0);
        one->stamp = (long long)(now() * 1e6);
    }
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *out) { /* "pid:memory:instance" */
    char words[2048], *at = words;
    unsigned found = 0, room = out ? *count : 0;
    int code = ask(index_of(device), "nvmlDeviceGetComputeRunningProcesses_v3", words, sizeof words);
    if (code != OK) return code;
    while (*at != 0) {
        Process one = { (unsigned)number(&at), 0, 0xFFFFFFFF, 0xFFFFFFFF };
        if (*at == ':') { at++; one.memory = number(&at); }
        if (*at == ':') { at++; one.instance = (unsigned)number(&at); }
        at += strspn(at, " ");
        if (one.pid == 0) break;
        if (found < room) out[found] = one;
        found++;
    }
    *count = found;
    return found > room ? SMALL : OK;
}

static int affinity(int gpu, const char *name, unsigned size, unsigned long *set) {
    char words[1024], *at = words;
    int code = ask(gpu, name, words, sizeof words);
    for (unsigned i = 0; code == OK && i < size; i++) set[i] = (unsigned long)number(&at);
    return code;
}

int nvmlDeviceGetCpuAffinity(void *device, unsigned size, unsigned long *set) {
    return affinity(index_of(device), "nvmlDeviceGetCpuAffinity", size, set);
}

int nvmlDeviceGetMemoryAffinity(void *device, unsigned size, unsigned long *set, int scope) {
    (void)scope;
    return affinity(index_of(device), "nvmlDeviceGetMemoryAffinity", size, set);
}

int nvmlDeviceGetTopologyCommonAncestor(void *one, void *other, int *level) {
    char words[64];
    int code = ask_with(index_of(one), "nvmlDeviceGetTopologyCommonAncestor", index_of(other), words, sizeof words);
    if (code == OK) *level = atoi(words);
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned at, void **mig) { /* words: the instance's id */
    char words[64];
    int gpu = index_of(device), code = ask_with(gpu, "nvmlDeviceGetMigDeviceHandleByIndex", at, words, sizeof words);
    if (code == UNSUPPORTED) return 6; /* not found: no instance there */
    if (code == OK) *mig = (void *)(intptr_t)(MIG_BASE + gpu * 16 + (int)at + 1);
    return code;
}

/* -- events: a line that comes after the registration is told ---------------------------------------------------- */

static long told = -1;

static FILE *event_file(void) {
    char path[4096];
    const char *state = getenv("NVML_DOUBLE_STATE");
    snprintf(path, sizeof path, "%s.events", state ? state : "");
    return fopen(path, "r");
}

int nvmlEventSetCreate(void **set) { *set = (void *)1; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    FILE *events = told < 0 ? event_file() : NULL;
    (void)device; (void)types; (void)set;
    if (told < 0) told = 0;
    if (events != NULL) { fseek(events, 0, SEEK_END); told = ftell(events); fclose(events); }
    return OK;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned milliseconds) {
    double until = now() + milliseconds * 1e-3;
    char words[64], line[256];
    (void)set;
    do {
        int code = ask(NONE, "nvmlEventSetWait_v2", words, sizeof words);
        if (code != OK && code != UNSUPPORTED) return code;
        FILE *events = event_file();
        if (events != NULL) {
            fseek(events, told, SEEK_SET);
            char *got = fgets(line, sizeof line, events);
            long behind = ftell(events);
            fclose(events);
            if (got != NULL && strchr(line, '\n') != NULL) {
                char *at = line;
                told = behind;
                event->device = (void *)(intptr_t)(number(&at) + 1);
                event->type = number(&at);
                event->data = number(&at);
                event->instance = event->compute = 0xFFFFFFFF;
                return OK;
            }
        }
        nap(0.02);
    } while (now() < until);
    return TIMEOUT;
}

/* -- GPM: two samples of one GPU, then metrics by number ("gpm:2 37.5") ------------------------------------------ */

int nvmlGpmQueryDeviceSupport(void *device, unsigned *support) {
    unsigned long long n[1];
    int code = numbers(index_of(device), "nvmlGpmQueryDeviceSupport", 1, n);
    if (support[0] != 1) return 25;
    if (code == OK) support[1] = (unsigned)n[0];
    return code;
}

int nvmlGpmSampleAlloc(void **sample) {
    Sample *fresh = malloc(sizeof *fresh);
    fresh->gpu = NONE;
    *sample = fresh;
    return OK;
}

int nvmlGpmSampleFree(void *sample) { free(sample); return OK; }

int nvmlGpmSampleGet(void *device, Sample *sample) {
    char words[64];
    int code = ask(index_of(device), "nvmlGpmSampleGet", words, sizeof words);
    if (code != OK && code != UNSUPPORTED) return code;
    sample->gpu = index_of(device);
    sample->at = now();
    return OK;
}

int nvmlGpmMetricsGet(Metrics *asked) {
    Sample *first = asked->first, *second = asked->second;
    char words[64];
    if (asked->version != 1) return 25;
    if (first->gpu == NONE || first->gpu != second->gpu || second->at <= first->at) return INVALID;
    for (unsigned i = 0; i < asked->count; i++) {
        Metric *one = asked->metrics + i;
        one->code = ask_with(first->gpu, "gpm", one->id, words, sizeof words);
        one->value = one->code == OK ? strtod(words, NULL) : 0.0;
    }
    return OK;
}
