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
 * GPU 0 is GPU-fa4e0000-0000-0000-0000-000000000000 at 00000000:01:00.0, GPU 1 ...0001 at 00000000:02:00.0.
 * The instance in place 1 is MIG-fa4e0000-0000-0000-0000-000000000001.
 * Stricter than the real library in one thing: a call outside nvmlInit and nvmlShutdown fails.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
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

static int users = 0;
static char handles[64];
static char instances[7];

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
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
    int error = (int)setting("FAKE_NVML_INIT", SUCCESS);
    if (error == SUCCESS) users++;
    return error;
}

int nvmlShutdown(void) {
    if (users == 0) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    if (users == 0) return UNINITIALIZED;
    *count = (unsigned int)setting("FAKE_NVML_GPUS", 0);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (users == 0) return UNINITIALIZED;
    if (index >= sizeof handles || (long)index >= setting("FAKE_NVML_GPUS", 0)) return INVALID_ARGUMENT;
    if ((long)index == setting("FAKE_NVML_LOST", -1)) return GPU_IS_LOST;
    *handle = &handles[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned int length) {
    char text[64];
    if (users == 0) return UNINITIALIZED;
    if (is_instance(handle))
        snprintf(text, sizeof text, "MIG-fa4e0000-0000-0000-0000-%012ld", (long)((char *)handle - instances));
    else
        snprintf(text, sizeof text, "GPU-fa4e0000-0000-0000-0000-%012ld", index_of(handle));
    return write_text(uuid, length, text);
}

int nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
    const char *text = getenv("FAKE_NVML_NAME");
    char whole[64];
    if (users == 0) return UNINITIALIZED;
    snprintf(whole, sizeof whole, "%s%s", text ? text : "NVIDIA L4", is_instance(handle) ? " MIG 1g.5gb" : "");
    return write_text(name, length, whole);
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    if (users == 0) return UNINITIALIZED;
    long mib = is_instance(handle) ? 4864 : setting("FAKE_NVML_MEMORY_MIB", 24576);
    memory->total = (unsigned long long)mib << 20;
    memory->used = 0;
    memory->free = memory->total;
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *info) {
    if (users == 0) return UNINITIALIZED;
    memset(info, 0, sizeof *info);
    info->bus = (unsigned int)index_of(handle) + 1;
    snprintf(info->busId, sizeof info->busId, "00000000:%02X:00.0", info->bus);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "0000:%02X:00.0", info->bus);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned int *current, unsigned int *pending) {
    if (users == 0) return UNINITIALIZED;
    if (setting("FAKE_NVML_MIG", -1) < 0) return NOT_SUPPORTED;
    *current = *pending = index_of(handle) == setting("FAKE_NVML_MIG", -1);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned int *count) {
    (void)handle;
    if (users == 0) return UNINITIALIZED;
    *count = sizeof instances;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned int index, void **instance) {
    if (users == 0) return UNINITIALIZED;
    if (is_instance(handle) || index >= sizeof instances) return INVALID_ARGUMENT;
    if (index < 1 || (long)index > setting("FAKE_NVML_INSTANCES", 0)) return NOT_FOUND;
    *instance = &instances[index];
    return SUCCESS;
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
