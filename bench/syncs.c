/* LD_PRELOAD: counts fsync and fdatasync of a process in the file that $GATEBOOK_SYNCS names, and
 * makes each $GATEBOOK_SYNC_US microseconds longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t unread, *count = &unread;
static useconds_t longer_us = 0;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("GATEBOOK_SYNCS"), *longer = getenv("GATEBOOK_SYNC_US");
    if (longer) longer_us = (useconds_t)atoi(longer);
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) count = page;
    close(file);
}

static int counted(const char *name, int file) {
    int (*call)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    if (longer_us) usleep(longer_us);
    return call(file);
}

int fsync(int file) { return counted("fsync", file); }
int fdatasync(int file) { return counted("fdatasync", file); }
