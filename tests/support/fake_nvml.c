/* A stand-in for libnvidia-ml.so.1: the calls that Corral's inventory makes, answered from the environment.
 *
 *   FAKE_NVML_GPUS=4            how many GPUs there are
 *   FAKE_NVML_MEMORY_MIB=24576  of each
 *   FAKE_NVML_NAME="NVIDIA L4"  of each
 *   FAKE_NVML_LOST=2            the index of a GPU that has fallen off the bus
 *   FAKE_NVML_MIG=1             the index of a GPU with MIG mode on
 *   FAKE_NVML_INSTANCES=2       how many of its 7 places hold an instance, from place 1 on, of 4864 MiB each
 *   FAKE_NVML_INIT=18           the error that nvmlInit answers with
 *
 *
 * What changes while a process runs stands in the file that FAKE_NVML_STATE names, one `name=value` a line:
 *
 *   count=3          as FAKE_NVML_GPUS; a GPU beyond it is not found
 *   lost=2           as FAKE_NVML_LOST
 *   vanished=9       every call answers with this error
 *   hang=1           no call returns until the line is gone
 *   ecc.1=7          uncorrected errors of GPU 1
 *   remap.1=1        a row of GPU 1 waits for its replacement
 *   throttle.1=64    clocks event reasons of GPU 1
 *   xid.1=79         an Xid error of GPU 1; told once for each value of
 *   xids=4           how many there have been
 *   pid.1=4242       a process on GPU 1
 *   mib.1=6144       and what it holds there
 *
 * GPU 0 is GPU-fa4e0000-0000-0000-0000-000000000000 at 00000000:01:00.0, GPU 1 ...0001 at 00000000:02:00.0.
 * The instance in place 1 is MIG-fa4e0000-0000-0000-0000-000000000001.
 * Stricter than the real library in one thing: a call outside nvmlInit and nvmlShutdown fails.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
};

typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} PciInfo;

typedef struct {
    unsigned int pid;
    unsigned long long used;
    unsigned int gpu_instance, compute_instance;
} Process;

typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned int gpu_instance, compute_instance;
} Event;

static int users = 0;
static char handles[64];
static char instances[7];

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

/* The value in the state file, or `otherwise`. */
static long state(const char *name, long otherwise) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    size_t length = strlen(name);
    if (file == NULL) return otherwise;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == '=') otherwise = strtol(line + length + 1, NULL, 10);
    fclose(file);
    return otherwise;
}

static long state_of(const char *name, long index, long otherwise) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s.%ld", name, index);
    return state(whole, otherwise);
}

static long gpus(void) { return state("count", setting("FAKE_NVML_GPUS", 0)); }

/* What every call begins with. */
static int answer(void) {
    while (state("hang", 0)) usleep(5000);
    if (users == 0) return UNINITIALIZED;
    return (int)state("vanished", SUCCESS);
}

static long index_of(const void *handle) { return (const char *)handle - handles; }

static int is_instance(const void *handle) {
    return (const char *)handle >= instances && (const char *)handle < instances + sizeof instances;
}

static int write_text(char *buffer, unsigned int size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    while (state("hang", 0)) usleep(5000);
    int error = (int)state("vanished", setting("FAKE_NVML_INIT", SUCCESS));
    if (error == SUCCESS) users++;
    return error;
}

int nvmlShutdown(void) {
    if (users == 0) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    int error = answer();
    if (error != SUCCESS) return error;
    *count = (unsigned int)gpus();
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (index >= sizeof handles || (long)index >= gpus()) return INVALID_ARGUMENT;
    if ((long)index == state("lost", setting("FAKE_NVML_LOST", -1))) return GPU_IS_LOST;
    *handle = &handles[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (strncmp(uuid, "GPU-fa4e0000-0000-0000-0000-", 28) != 0) return INVALID_ARGUMENT;
    long index = strtol(uuid + 28, NULL, 10);
    if (index >= gpus()) return NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2((unsigned int)index, handle);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned int length) {
    char text[64];
    int error = answer();
    if (error != SUCCESS) return error;
    if (is_instance(handle))
        snprintf(text, sizeof text, "MIG-fa4e0000-0000-0000-0000-%012ld", (long)((char *)handle - instances));
    else
        snprintf(text, sizeof text, "GPU-fa4e0000-0000-0000-0000-%012ld", index_of(handle));
    return write_text(uuid, length, text);
}

int nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
    const char *text = getenv("FAKE_NVML_NAME");
    char whole[64];
    int error = answer();
    if (error != SUCCESS) return error;
    snprintf(whole, sizeof whole, "%s%s", text ? text : "NVIDIA L4", is_instance(handle) ? " MIG 1g.5gb" : "");
    return write_text(name, length, whole);
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    int error = answer();
    if (error != SUCCESS) return error;
    long mib = is_instance(handle) ? 4864 : setting("FAKE_NVML_MEMORY_MIB", 24576);
    memory->total = (unsigned long long)mib << 20;
    memory->used = 0;
    memory->free = memory->total;
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *info) {
    int error = answer();
    if (error != SUCCESS) return error;
    memset(info, 0, sizeof *info);
    info->bus = (unsigned int)index_of(handle) + 1;
    snprintf(info->busId, sizeof info->busId, "00000000:%02X:00.0", info->bus);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "0000:%02X:00.0", info->bus);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned int *current, unsigned int *pending) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (setting("FAKE_NVML_MIG", -1) < 0) return NOT_SUPPORTED;
    *current = *pending = index_of(handle) == setting("FAKE_NVML_MIG", -1);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned int *count) {
    (void)handle;
    int error = answer();
    if (error != SUCCESS) return error;
    *count = sizeof instances;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned int index, void **instance) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (is_instance(handle) || index >= sizeof instances) return INVALID_ARGUMENT;
    if (index < 1 || (long)index > setting("FAKE_NVML_INSTANCES", 0)) return NOT_FOUND;
    *instance = &instances[index];
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned int *count, Process *processes) {
    int error = answer();
    if (error != SUCCESS) return error;
    long pid = state_of("pid", index_of(handle), 0);
    unsigned int room = *count;
    *count = pid ? 1 : 0;
    if (*count > room) return INSUFFICIENT_SIZE;
    if (pid) {
        memset(processes, 0, sizeof *processes);
        processes->pid = (unsigned int)pid;
        processes->used = (unsigned long long)state_of("mib", index_of(handle), 0) << 20;
    }
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, unsigned long long *count) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (type != 1 || counter != 0) return INVALID_ARGUMENT;
    long errors = state_of("ecc", index_of(handle), -1);
    if (errors < 0) return NOT_SUPPORTED;
    *count = (unsigned long long)errors;
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(
    void *handle, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending, unsigned int *failed
) {
    int error = answer();
    if (error != SUCCESS) return error;
    *corrected = *uncorrected = *failed = 0;
    *pending = (unsigned int)state_of("remap", index_of(handle), 0);
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    int error = answer();
    if (error != SUCCESS) return error;
    *reasons = (unsigned long long)state_of("throttle", index_of(handle), 0);
    return SUCCESS;
}

/* Events: one set at a time, which is what there is. */

static char event_set;
static char registered[sizeof handles];
static long told = -1;

int nvmlEventSetCreate(void **set) {
    int error = answer();
    if (error != SUCCESS) return error;
    memset(registered, 0, sizeof registered);
    if (told < 0) told = state("xids", 0);
    *set = &event_set;
    return SUCCESS;
}

int nvmlEventSetFree(void *set) { return set == &event_set ? SUCCESS : INVALID_ARGUMENT; }

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (types != 8 || set != &event_set) return INVALID_ARGUMENT;
    registered[index_of(handle)] = 1;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned int timeout_ms) {
    int error = answer();
    if (error != SUCCESS) return error;
    if (set != &event_set) return INVALID_ARGUMENT;
    for (unsigned int waited_ms = 0;; waited_ms += 5) {
        long xids = state("xids", 0);
        for (long index = 0; xids > told && index < (long)sizeof handles; index++) {
            long xid = registered[index] ? state_of("xid", index, 0) : 0;
            if (xid == 0) continue;
            told = xids;
            memset(event, 0, sizeof *event);
            event->device = &handles[index];
            event->type = 8;
            event->data = (unsigned long long)xid;
            return SUCCESS;
        }
        if (waited_ms >= timeout_ms) return TIMEOUT;
        usleep(5000);
    }
}

const char *nvmlErrorString(int error) {
    switch (error) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case GPU_IS_LOST: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}
